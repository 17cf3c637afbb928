//! Numbers in stored bytes: fixed ones little-endian, packed ones base-128.

use bytes::BytesMut;

use crate::record::put_varint;

/// Bytes that are not what was written there, and in what way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(pub(crate) &'static str);

/// The four bytes at `at`. The caller has checked that they are there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// The eight bytes at `at`. The caller has checked that they are there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    u64_at(bytes, at).cast_signed()
}

pub(crate) fn set_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn set_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// A length in memory as the 32 bits it has on disk.
pub(crate) fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("requests and frames are far below 4 GiB")
}

/// A stored 32-bit length as an index.
pub(crate) fn wide(len: u32) -> usize {
    usize::try_from(len).expect("an address has at least 32 bits")
}

/// A length in memory as a byte count.
pub(crate) fn count(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits in 64 bits")
}

/// Reads packed numbers and bytes in sequence; anything that does not fit is [`Bad`].
#[derive(Debug)]
pub(crate) struct Unpacker<'a> {
    bytes: &'a [u8],
}

impl<'a> Unpacker<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Bad> {
        let mut value = 0;
        for (at, byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            let shift = 7 * narrow(at);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if *byte < 0x80 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(Bad("a number does not end"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Bad> {
        match u32::try_from(self.u64()?) {
            Ok(value) => Ok(value),
            Err(_too_large) => Err(Bad("a number is too large")),
        }
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Bad> {
        Ok(self.u64()?.cast_signed())
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let len = wide(self.u32()?);
        let (part, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(Bad("bytes are cut off"))?;
        self.bytes = rest;
        Ok(part)
    }
}

/// Appends bytes behind their packed length.
pub(crate) fn pack_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, count(bytes.len()));
    out.extend_from_slice(bytes);
}
