//! The bytes of a file, of which the last are often zeros that nobody keeps.
//!
//! Logs fill their files beforehand; a file of a mebibyte that is to be written costs nothing
//! until it is.

/// Bytes, and zeros behind them up to a length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    /// No longer than `len`.
    bytes: Vec<u8>,
    len: usize,
}

impl Sheet {
    /// So many zeros.
    pub(crate) const fn zeros(len: usize) -> Self {
        let bytes = Vec::new();
        Self { bytes, len }
    }

    pub(crate) const fn of(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self { bytes, len }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = self.bytes.clone();
        all.resize(self.len, 0);
        all
    }

    /// Copies what begins at `at`, all of which must be there.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) {
        let kept = self.bytes.get(at..).unwrap_or_default();
        let there = kept.len().min(into.len());
        into[..there].copy_from_slice(&kept[..there]);
        into[there..].fill(0);
    }

    /// Puts `bytes` at `at`, with zeros before them if it ends before.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if at == self.bytes.len() {
            self.bytes.extend_from_slice(bytes);
        } else {
            if self.bytes.len() < end {
                self.bytes.resize(end, 0);
            }
            self.bytes[at..end].copy_from_slice(bytes);
        }
        self.len = self.len.max(end);
    }

    /// Puts zeros there, in the same way.
    pub(crate) fn blank(&mut self, at: usize, len: usize) {
        let end = at + len;
        if end >= self.bytes.len() {
            self.bytes.truncate(at);
        } else {
            self.bytes[at..end].fill(0);
        }
        self.len = self.len.max(end);
    }

    /// Cuts it, or lets zeros follow.
    pub(crate) fn resize(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.len = len;
    }

    /// Some of its bytes, to be changed; `None` if it ends before.
    pub(crate) fn part(&mut self, at: usize, len: usize) -> Option<&mut [u8]> {
        let end = at + len;
        if self.len < end {
            return None;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(at..end)
    }
}

#[cfg(test)]
mod tests {
    use holm_base::Prng;

    use super::*;

    #[test]
    fn a_sheet_says_what_a_plain_list_of_bytes_says() {
        let mut luck = Prng::new(3);
        let below = |luck: &mut Prng, n: u64| usize::try_from(luck.below(n)).expect("it is small");
        for _ in 0..200 {
            let (mut sheet, mut plain) = (Sheet::zeros(16), vec![0_u8; 16]);
            for step in 1..=40_u8 {
                let (at, len) = (below(&mut luck, 60), below(&mut luck, 20));
                let end = at + len;
                match luck.below(4) {
                    0 => {
                        sheet.put(at, &vec![step; len]);
                        plain.resize(plain.len().max(end), 0);
                        plain[at..end].fill(step);
                    }
                    1 => {
                        sheet.blank(at, len);
                        plain.resize(plain.len().max(end), 0);
                        plain[at..end].fill(0);
                    }
                    2 => {
                        sheet.resize(end);
                        plain.resize(end, 0);
                    }
                    _ => {
                        let part = sheet.part(at, len).map(|part| part.to_vec());
                        assert_eq!(part.as_deref(), plain.get(at..end));
                    }
                }
                assert_eq!((sheet.len(), sheet.to_vec()), (plain.len(), plain.clone()));
                let mut read = vec![9; plain.len() / 2];
                sheet.read(plain.len() / 2, &mut read);
                assert_eq!(read, plain[plain.len() / 2..plain.len() / 2 * 2]);
            }
        }
    }
}
