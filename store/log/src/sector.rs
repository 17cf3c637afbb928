//! Sectors: 508 bytes of stream and a stamp, the unit that a disk writes whole or not at all.
//!
//! ```text
//!  0 ........................ 508 .... 512
//!  | stream bytes            | stamp     |     stamp = crc32c(position ++ stream bytes)
//! ```
//!
//! The position is the sector's place in the whole log (its LSN), so a sector that was written
//! to the wrong place is bad there. The sector that opens a flush is stamped with position + 1:
//! bytes inside a record can then never pass for the beginning of a flush, whatever a client
//! put into them.
//!
//! A stamp is never zero, so a sector of zeros is *blank*: it was never written.

/// A sector's size on disk.
pub(crate) const SECTOR: usize = 512;
/// How many bytes of stream a sector carries.
pub(crate) const CARRIED: usize = 508;
/// Sectors in a block: what is written is padded to whole blocks.
pub(crate) const BLOCK_SECTORS: usize = 8;
/// A block's size on disk.
pub(crate) const BLOCK: usize = SECTOR * BLOCK_SECTORS;

/// Where a sector stands: inside a flush or a segment header, or opening a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere but at the beginning of a flush.
    Inside,
    /// The first sector of a flush.
    FlushStart,
}

/// What a sector turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector {
    /// Its stamp is right for this position and place.
    Valid,
    /// All zeros: never written.
    Blank,
    /// Neither.
    Bad,
}

/// How many bytes `stream` bytes take on disk, padded to whole blocks.
pub(crate) const fn disk_bytes(stream: u64) -> u64 {
    let sectors = stream.div_ceil(508);
    sectors.div_ceil(8) * 4096
}

/// The largest stream that fits in `disk` bytes (a multiple of the block size).
pub(crate) const fn stream_bytes(disk: u64) -> u64 {
    disk / 512 * 508
}

/// Cuts `stream` into stamped sectors at `position` and appends them to `out`, padded with
/// stamped zeros to whole blocks.
pub(crate) fn scatter(stream: &[u8], position: u64, first: Place, out: &mut Vec<u8>) {
    let start = out.len();
    let sectors = stream
        .len()
        .div_ceil(CARRIED)
        .next_multiple_of(BLOCK_SECTORS);
    out.resize(start + sectors * SECTOR, 0);
    let (mut at, mut place) = (position, first);
    let mut rest = stream;
    for sector in out[start..].chunks_exact_mut(SECTOR) {
        let (piece, later) = rest.split_at(rest.len().min(CARRIED));
        sector[..piece.len()].copy_from_slice(piece);
        let stamp = stamp(&sector[..CARRIED], at, place);
        sector[CARRIED..].copy_from_slice(&stamp.to_le_bytes());
        rest = later;
        at += SECTOR as u64;
        place = Place::Inside;
    }
}

/// What the 512 bytes at `position` are.
pub(crate) fn classify(sector: &[u8], position: u64, place: Place) -> Sector {
    let (stream, found) = sector.split_at(CARRIED);
    let found = u32::from_le_bytes(found.try_into().expect("a sector ends in four bytes"));
    if found == stamp(stream, position, place) {
        Sector::Valid
    } else if found == 0 && is_blank(stream) {
        Sector::Blank
    } else {
        Sector::Bad
    }
}

/// Whether all bytes are zero. Looks at 64 at a time, which the compiler makes wide.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

fn stamp(stream: &[u8], position: u64, place: Place) -> u32 {
    let seed = match place {
        Place::Inside => position,
        Place::FlushStart => position + 1,
    };
    let crc = crc32c::crc32c_append(crc32c::crc32c(&seed.to_le_bytes()), stream);
    if crc == 0 { u32::MAX } else { crc }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scattered(stream: &[u8], position: u64) -> Vec<u8> {
        let mut out = Vec::new();
        scatter(stream, position, Place::FlushStart, &mut out);
        out
    }

    #[test]
    fn a_stream_fills_whole_blocks_and_comes_back() {
        for len in [1, 507, 508, 509, 4064, 4065] {
            let stream: Vec<u8> = (0..=255).cycle().take(len).collect();
            let out = scattered(&stream, 8192);
            assert_eq!(out.len() as u64, disk_bytes(len as u64));
            let carried: Vec<u8> = out
                .chunks(SECTOR)
                .flat_map(|sector| sector[..CARRIED].to_vec())
                .collect();
            assert_eq!(carried[..len], stream);
            assert!(is_blank(&carried[len..]));
        }
    }

    #[test]
    fn a_sector_is_valid_at_its_own_place_only() {
        let out = scattered(b"bytes", 8192);
        let first = &out[..SECTOR];
        assert_eq!(classify(first, 8192, Place::FlushStart), Sector::Valid);
        assert_eq!(classify(first, 8192, Place::Inside), Sector::Bad);
        assert_eq!(classify(first, 12_288, Place::FlushStart), Sector::Bad);
        let second = &out[SECTOR..2 * SECTOR];
        assert_eq!(classify(second, 8704, Place::Inside), Sector::Valid);
        assert_eq!(classify(&[0; SECTOR], 8704, Place::Inside), Sector::Blank);
    }

    #[test]
    fn padding_is_stamped_and_so_not_blank() {
        let out = scattered(b"bytes", 0);
        assert!(out.chunks(SECTOR).all(|sector| !is_blank(sector)));
    }

    #[test]
    fn every_bit_counts() {
        let out = scattered(b"bytes", 4096);
        for at in 0..SECTOR {
            let mut harmed = out[..SECTOR].to_vec();
            harmed[at] ^= 1 << (at % 8);
            let found = classify(&harmed, 4096, Place::FlushStart);
            assert_eq!(found, Sector::Bad, "byte {at}");
        }
    }
}
