//! Reading and writing bytes: varints, lengths, and what to say when they are wrong.
//!
//! Decoding believes nothing: each length is held against what is there before anything is
//! allocated. Bodies are slices of the input: nothing is copied, and they keep it in memory.

use bytes::{BufMut, Bytes};

use crate::vector::Slot;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early, or a length in them says more than there is.
    #[error("{what} is cut short")]
    Short {
        /// What was being read.
        what: &'static str,
    },
    /// Something stands behind what was read.
    #[error("{extra} bytes behind {what}")]
    Long {
        /// What was read.
        what: &'static str,
        /// How much stands behind it.
        extra: usize,
    },
    /// Another release wrote them.
    #[error("{what} has version {version}, this release reads version 1")]
    Version {
        /// What has it.
        what: &'static str,
        /// The version found.
        version: u8,
    },
    /// The checksum is another.
    #[error("{what} is damaged: its checksum is another")]
    Checksum {
        /// What was read.
        what: &'static str,
    },
    /// They say what cannot be.
    #[error("{what} says what cannot be")]
    Wrong {
        /// What was read.
        what: &'static str,
    },
}

/// Reads from the front. What surprises: only bodies are shared with the input, for each sharing
/// counts a reference; everything of a known length is copied out.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    pub(crate) const fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn skip(&mut self, length: usize, what: &'static str) -> Result<&[u8], DecodeError> {
        let end = self.at.checked_add(length);
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or(DecodeError::Short { what })?;
        self.at += length;
        Ok(found)
    }

    /// So many bytes, sharing the input.
    pub(crate) fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        let from = self.at;
        self.skip(length, what)?;
        Ok(self.bytes.slice(from..self.at))
    }

    /// So many bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.skip(N, what)?);
        Ok(array)
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.skip(1, what)?[0])
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn slot(&mut self) -> Result<Slot, DecodeError> {
        Slot::new(self.byte("a slot")?).ok_or(DecodeError::Wrong { what: "a slot" })
    }

    /// Seven bits a byte, the lowest first; only the shortest way to write a number is right.
    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            let is_last = byte & 0x80 == 0;
            if (shift == 63 && bits > 1) || (is_last && byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if is_last {
                return Ok(value);
            }
        }
        Err(DecodeError::Wrong { what })
    }

    /// A varint of the length, and so many bytes.
    pub(crate) fn body(&mut self, what: &'static str) -> Result<Bytes, DecodeError> {
        let length = self.varint(what)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.take(length, what)
    }

    /// What is left.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    /// Nothing may be left.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn end(self, what: &'static str) -> Result<(), DecodeError> {
        let extra = self.bytes.len() - self.at;
        if extra > 0 {
            return Err(DecodeError::Long { what, extra });
        }
        Ok(())
    }
}

pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        out.put_u8(low | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("seven bits"));
}

pub(crate) fn put_body(out: &mut impl BufMut, body: &[u8]) {
    put_varint(
        out,
        u64::try_from(body.len()).expect("a length fits 64 bits"),
    );
    out.put_slice(body);
}
