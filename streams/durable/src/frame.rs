//! The frame around a record, and the search for frames in bytes that may be torn.

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 32;
const ALIGN: usize = 8;

/// A record as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub sequence: u64,
    /// The epoch in which it was written.
    pub epoch: u64,
    /// What it is.
    pub kind: u8,
    /// The layout of its body.
    pub version: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Where a whole frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    /// Where its flush began.
    pub(crate) flush: usize,
    /// Where the next frame begins.
    pub(crate) end: usize,
}

/// Bytes that a record takes.
pub(crate) const fn framed(body: usize) -> usize {
    HEADER + body.next_multiple_of(ALIGN)
}

/// Writes a frame behind others of its flush.
pub(crate) fn write(entry: &Entry, flush: &mut Vec<u8>) {
    let start = flush.len();
    let small = |value: usize| u32::try_from(value).expect("a flush is bounded far below 4 GiB");
    flush.extend_from_slice(&[0; 4]);
    flush.extend_from_slice(&small(entry.body.len()).to_le_bytes());
    flush.extend_from_slice(&entry.sequence.to_le_bytes());
    flush.extend_from_slice(&entry.epoch.to_le_bytes());
    flush.extend_from_slice(&[entry.kind, entry.version, 0, 0]);
    flush.extend_from_slice(&small(start).to_le_bytes());
    flush.extend_from_slice(&entry.body);
    flush.resize(start + framed(entry.body.len()), 0);
    let crc = crc32c::crc32c(&flush[start + 4..]);
    flush[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

pub(crate) fn small_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

pub(crate) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}

/// The frame at a place, if there is a whole one.
pub(crate) fn at(bytes: &[u8], at: usize) -> Option<Seen> {
    let body = usize::try_from(small_at(bytes, at + 4)?).ok()?;
    let end = at.checked_add(framed(body))?;
    let covered = bytes.get(at + 4..end)?;
    let sequence = word_at(bytes, at + 8)?;
    let back = usize::try_from(small_at(bytes, at + 28)?).ok()?;
    // Cheap to see, and true of zeros: a number of a record is never zero.
    if sequence == 0 || crc32c::crc32c(covered) != small_at(bytes, at)? {
        return None;
    }
    Some(Seen {
        sequence,
        epoch: word_at(bytes, at + 16)?,
        flush: at.checked_sub(back)?,
        end,
    })
}

/// The record of the frame at a place.
pub(crate) fn read(bytes: &[u8], place: usize) -> Option<(Entry, usize)> {
    let seen = at(bytes, place)?;
    let body = usize::try_from(small_at(bytes, place + 4)?).ok()?;
    let entry = Entry {
        sequence: seen.sequence,
        epoch: seen.epoch,
        kind: bytes[place + 24],
        version: bytes[place + 25],
        body: bytes[place + HEADER..place + HEADER + body].to_vec(),
    };
    Some((entry, seen.end))
}

/// The first whole frame behind a place that belongs to a flush other than those that began at
/// `flushes`: what lies between was whole once, and is damaged.
pub(crate) fn stranger(bytes: &[u8], behind: usize, flushes: &[usize]) -> Option<usize> {
    let mut place = behind.next_multiple_of(ALIGN);
    // Behind what was written there are zeros, and most of a segment may be that.
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let end = (bytes.len() - zeros).next_multiple_of(ALIGN);
    while place < end && place + HEADER <= bytes.len() {
        match at(bytes, place) {
            Some(seen) if !flushes.contains(&seen.flush) => return Some(place),
            Some(seen) => place = seen.end,
            None => place += ALIGN,
        }
    }
    None
}
