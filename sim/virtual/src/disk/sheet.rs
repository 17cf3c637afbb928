//! The bytes of a file, in pages that copies share.
//!
//! Logs fill their files beforehand; a file of a mebibyte that is to be written costs nothing
//! until it is. What is synced is what is read, so both have the same pages until one is written
//! again.

use std::sync::Arc;

/// How long a page is.
const PAGE: usize = 4_096;

/// Pages, and zeros behind them up to a length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sheet {
    /// As many as `len` needs, or fewer; `None` is all zeros, and so is what lies beyond `len`.
    pages: Vec<Option<Arc<[u8]>>>,
    len: usize,
}

/// The pages that a range touches: which, and from where to where in it.
fn pieces(at: usize, len: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = at + len;
    let mut from = at;
    std::iter::from_fn(move || {
        (from < end).then(|| {
            let (page, within) = (from / PAGE, from % PAGE);
            let until = (within + end - from).min(PAGE);
            from += until - within;
            (page, within, until)
        })
    })
}

impl Sheet {
    /// So many zeros.
    pub(crate) const fn zeros(len: usize) -> Self {
        let pages = Vec::new();
        Self { pages, len }
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut sheet = Self::default();
        sheet.put(0, bytes);
        sheet
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = vec![0; self.len];
        self.read(0, &mut all);
        all
    }

    /// Copies what begins at `at`, all of which must be there.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) {
        let mut done = 0;
        for (page, from, until) in pieces(at, into.len()) {
            let place = &mut into[done..done + until - from];
            match self.pages.get(page) {
                Some(Some(page)) => place.copy_from_slice(&page[from..until]),
                Some(None) | None => place.fill(0),
            }
            done += until - from;
        }
    }

    /// A page that is to be written.
    fn page(&mut self, page: usize) -> &mut Option<Arc<[u8]>> {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        &mut self.pages[page]
    }

    /// Puts `bytes` at `at`, with zeros before them if it ends before.
    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        let mut left = bytes;
        for (page, from, until) in pieces(at, bytes.len()) {
            let (now, later) = left.split_at(until - from);
            left = later;
            let page = self.page(page);
            let own = page.as_mut().and_then(Arc::get_mut);
            match own {
                Some(own) => own[from..until].copy_from_slice(now),
                None if until - from == PAGE => *page = Some(now.into()),
                None => {
                    let mut copy = [0; PAGE];
                    if let Some(shared) = page {
                        copy.copy_from_slice(shared);
                    }
                    copy[from..until].copy_from_slice(now);
                    *page = Some(copy.as_slice().into());
                }
            }
        }
        self.len = self.len.max(at + bytes.len());
    }

    /// Puts zeros there, in the same way.
    pub(crate) fn blank(&mut self, at: usize, len: usize) {
        for (page, from, until) in pieces(at, len) {
            let Some(page) = self.pages.get_mut(page) else {
                break;
            };
            if until - from == PAGE {
                *page = None;
            } else if let Some(page) = page {
                Arc::make_mut(page)[from..until].fill(0);
            }
        }
        self.len = self.len.max(at + len);
    }

    /// Cuts it, or lets zeros follow.
    pub(crate) fn resize(&mut self, len: usize) {
        self.pages.truncate(len.div_ceil(PAGE));
        if len < self.len
            && let Some(Some(last)) = self.pages.get_mut(len / PAGE)
        {
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    /// Changes some of its bytes; whether they are there.
    pub(crate) fn revise(&mut self, at: usize, len: usize, act: impl Fn(&mut [u8])) -> bool {
        let is_there = at + len <= self.len;
        if is_there {
            let mut part = vec![0; len];
            self.read(at, &mut part);
            act(&mut part);
            self.put(at, &part);
        }
        is_there
    }

    /// Becomes as long as another, and in a range of bytes what that is.
    pub(crate) fn follow(&mut self, other: &Self, at: usize, len: usize) {
        for (page, ..) in pieces(at, len) {
            match other.pages.get(page) {
                Some(it) => self.page(page).clone_from(it),
                None if page < self.pages.len() => self.pages[page] = None,
                None => {}
            }
        }
        self.resize(other.len);
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
            let (mut copy, mut copied) = (sheet.clone(), plain.clone());
            for step in 1..=40_u8 {
                let pages = PAGE as u64;
                let (at, len) = (below(&mut luck, 3 * pages), below(&mut luck, 2 * pages));
                // Some begin and end where pages do.
                let mut round = |n: usize| {
                    if luck.below(3) == 0 {
                        n / PAGE * PAGE
                    } else {
                        n
                    }
                };
                let at = round(at);
                let len = round(len);
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
                        let is_there = sheet.revise(at, len, |part| part.fill(step));
                        assert_eq!(is_there, end <= plain.len());
                        if let Some(part) = plain.get_mut(at..end) {
                            part.fill(step);
                        }
                    }
                }
                assert_eq!((sheet.len(), sheet.to_vec()), (plain.len(), plain.clone()));
                if luck.below(4) == 0 {
                    copy.follow(&sheet, 0, sheet.len());
                    copied.clone_from(&plain);
                }
                assert_eq!(
                    copy.to_vec(),
                    copied,
                    "it shares pages, and not their changes"
                );
                let mut read = vec![9; plain.len() / 2];
                sheet.read(plain.len() / 2, &mut read);
                assert_eq!(read, plain[plain.len() / 2..plain.len() / 2 * 2]);
            }
        }
    }
}
