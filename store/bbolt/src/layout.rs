//! What page headers, elements and metas look like, and nothing about trees.
//!
//! What would surprise: an element's position counts from the element itself, so a page that
//! lies inside a value (a small bucket) reads like any other.

/// The size of the pages that we write.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a page's header.
pub(crate) const PAGE_HEAD: usize = 16;
/// Bytes of a branch's and of a leaf's element.
pub(crate) const ELEMENT: usize = 16;
/// Bytes of a meta behind the page's header.
pub(crate) const META: usize = 64;
/// Bytes of a bucket's value, unless a page follows.
pub(crate) const BUCKET: usize = 16;

pub(crate) const BRANCH: u16 = 1;
pub(crate) const LEAF: u16 = 2;
pub(crate) const META_FLAG: u16 = 4;
/// A leaf element's flag: its value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 1;

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;
/// In the place of the freelist's page: there is none.
pub(crate) const NO_FREELIST: u64 = u64::MAX;

/// A page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHead {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl PageHead {
    pub(crate) fn encode(&self) -> [u8; PAGE_HEAD] {
        let mut bytes = [0; PAGE_HEAD];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }

    /// `None` if there are too few bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16_at(bytes, 8)?,
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// What one of the two metas says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    pub(crate) root: u64,
    /// The first page that was never used.
    pub(crate) pages: u64,
    pub(crate) txid: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> [u8; META] {
        let mut bytes = [0; META];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.to_le_bytes());
        bytes[32..40].copy_from_slice(&NO_FREELIST.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.pages.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.txid.to_le_bytes());
        let sum = fnv(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are no meta of the one version that there is.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..56)?;
        let is_ours = u32_at(bytes, 0)? == MAGIC
            && u32_at(bytes, 4)? == VERSION
            && u64_at(bytes, 56)? == fnv(body);
        let meta = Self {
            page_bytes: u32_at(bytes, 8)?,
            root: u64_at(bytes, 16)?,
            pages: u64_at(bytes, 40)?,
            txid: u64_at(bytes, 48)?,
        };
        is_ours.then_some(meta)
    }
}

/// FNV-1a over 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A length in memory as a count of bytes in the file.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a length fits in 64 bits")
}

/// A length in memory as the 32 bits it has in the file.
pub(crate) fn narrow(len: usize) -> u32 {
    u32::try_from(len).expect("keys, values and pages are far below 4 GiB")
}

/// 32 bits of the file as a length in memory.
pub(crate) fn index(len: u32) -> usize {
    usize::try_from(len).expect("an address has at least 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first meta of a file that etcd 3.4.23 made.
    #[test]
    fn a_genuine_metas_sum_is_right() {
        let meta = Meta {
            page_bytes: 4096,
            root: 2,
            pages: 6,
            txid: 12,
        };
        let bytes = meta.encode();
        assert_eq!(u64_at(&bytes, 56), Some(0x283f_c8be_a5b4_9d4b));
        assert_eq!(Meta::decode(&bytes), Some(meta));
    }

    #[test]
    fn any_flipped_bit_of_a_meta_is_noticed() {
        let good = Meta {
            page_bytes: 4096,
            root: 77,
            pages: 99,
            txid: 5,
        };
        for bit in 0..META * 8 {
            let mut bytes = good.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode(&bytes), None, "bit {bit}");
        }
    }
}
