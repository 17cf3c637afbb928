//! The bytes of version 1, as they stand in the stream that the sectors carry.
//!
//! ```text
//! segment file   <first LSN, 16 hex>.seg, its length a multiple of 4096
//!   block 0      segment header, stamped as plain sectors
//!   then         flushes, each beginning on a block and padded to the next
//!   then         blank to the end
//!
//! segment header (72)          flush header (64)            record (40 + body, padded to 8)
//!  0 8  "HOLMLOG1"              0 4  "FLSH"                  0 4  body length
//!  8 2  version = 1             4 4  payload bytes           4 4  crc32c of 8..end, padding too
//! 10 2  log2 block = 12         8 8  flush number, dense     8 2  kind
//! 12 4  flags = 0              16 8  LSN of this flush      10 2  version = 1
//! 16 8  cluster id             24 4  record count           12 4  group
//! 24 8  node id                28 4  flags                  16 8  term
//! 32 8  segment number         32 16 chain before           24 8  op
//! 40 8  first LSN              48 8  opens of this log      32 8  group chain before, low half
//! 48 8  opens of this log      56 4  0                      40 .. body
//! 56 16 chain before           60 4  crc32c of 0..60
//!
//! flags of a flush: 1 clean close; 2 nothing but entries, said only of groups that know of
//! other nodes
//!
//! kind          version  body
//!  1 Entry      1        the engine's bytes
//!               2        a payload of Raft
//!  2 Hard       1        0 8 vote (0: none); the term is the record's
//!               2        0 8 vote; 8 4 flags: 1 recovering; 12 4 0
//!  3 CutTo      1        0 16 group chain after the record's op; entries above it are void
//!  4 Installed  1        0 4 flags: 1 suffix kept; 4 4 0; 8 .. manifest; term and op are the
//!                        snapshot's
//!  5 State      1        0 8 vote; 8 8 base op; 16 16 group chain after the record's op
//!               2        the same; 32 8 term of the base op; 44 4 0
//!                        40 4 flags: 1 recovering, 2 a snapshot waits for a cut to its op
//!  6 Cut        1        nothing; entries up to the record's op are not needed any more
//!               2        0 8 term of the record's op
//!
//! flush chain = xxh3-128(chain before ++ payload)
//! group chain = xxh3-128(chain before ++ term ++ op ++ body), moved by Entry; an Installed
//!               that keeps no suffix begins it anew, with 0 before
//! ```
//!
//! All numbers are little-endian. A record has the lowest version that can say what it says, and
//! State and Cut have version 2 once the group knows of other nodes: what a node alone writes
//! has not changed since the first release. Kinds 7, 8 and 9 are taken by later releases; this
//! one refuses to open a log that holds them.

use xxhash_rust::xxh3::xxh3_128;

/// The version of segments, and of records unless they have to say more.
pub(crate) const VERSION: u16 = 1;
/// The version of records that know of other nodes.
pub(crate) const VERSION_2: u16 = 2;
pub(crate) const LOG2_BLOCK: u16 = 12;
pub(crate) const SEGMENT_HEADER: usize = 72;
pub(crate) const FLUSH_HEADER: usize = 64;
pub(crate) const RECORD_HEADER: usize = 40;
/// The flag of the flush that a clean close writes.
pub(crate) const CLEAN_CLOSE: u32 = 1;
/// The flag of a flush of entries alone: losing it loses no hard state.
pub(crate) const ENTRIES_ALONE: u32 = 2;

const SEGMENT_MAGIC: &[u8; 8] = b"HOLMLOG1";
const FLUSH_MAGIC: &[u8; 4] = b"FLSH";

/// What stands in block 0 of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) cluster: u64,
    pub(crate) node: u64,
    pub(crate) number: u64,
    pub(crate) first: u64,
    pub(crate) opens: u64,
    pub(crate) chain: u128,
}

/// Why bytes are no segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// They are something else.
    Magic,
    /// A newer release wrote them.
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10..12].copy_from_slice(&LOG2_BLOCK.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.cluster.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.node.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.opens.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.chain.to_le_bytes());
        bytes
    }

    /// Reads at least [`SEGMENT_HEADER`] bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NoHeader> {
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(NoHeader::Magic);
        }
        let is_known = u16_at(bytes, 8) == VERSION
            && u16_at(bytes, 10) == LOG2_BLOCK
            && u32_at(bytes, 12) == 0;
        if !is_known {
            return Err(NoHeader::Version(u16_at(bytes, 8)));
        }
        Ok(Self {
            cluster: u64_at(bytes, 16),
            node: u64_at(bytes, 24),
            number: u64_at(bytes, 32),
            first: u64_at(bytes, 40),
            opens: u64_at(bytes, 48),
            chain: u128_at(bytes, 56),
        })
    }
}

/// What a flush begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlushHeader {
    pub(crate) payload: u32,
    pub(crate) number: u64,
    pub(crate) lsn: u64,
    pub(crate) records: u32,
    pub(crate) flags: u32,
    pub(crate) chain: u128,
    pub(crate) opens: u64,
}

impl FlushHeader {
    pub(crate) fn encode(&self, bytes: &mut [u8; FLUSH_HEADER]) {
        bytes[..4].copy_from_slice(FLUSH_MAGIC);
        bytes[4..8].copy_from_slice(&self.payload.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.records.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.flags.to_le_bytes());
        bytes[32..48].copy_from_slice(&self.chain.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.opens.to_le_bytes());
        bytes[56..60].fill(0);
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads at least [`FLUSH_HEADER`] bytes; `None` if they are no flush header.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let is_whole =
            &bytes[..4] == FLUSH_MAGIC && u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60]);
        is_whole.then(|| Self {
            payload: u32_at(bytes, 4),
            number: u64_at(bytes, 8),
            lsn: u64_at(bytes, 16),
            records: u32_at(bytes, 24),
            flags: u32_at(bytes, 28),
            chain: u128_at(bytes, 32),
            opens: u64_at(bytes, 48),
        })
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Entry,
    Hard,
    CutTo,
    Installed,
    State,
    Cut,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Self::Entry => 1,
            Self::Hard => 2,
            Self::CutTo => 3,
            Self::Installed => 4,
            Self::State => 5,
            Self::Cut => 6,
        }
    }

    const fn of(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Entry),
            2 => Some(Self::Hard),
            3 => Some(Self::CutTo),
            4 => Some(Self::Installed),
            5 => Some(Self::State),
            6 => Some(Self::Cut),
            _ => None,
        }
    }

    /// The least body that this kind has in a version; `None` for a later release's version.
    const fn body_least(self, version: u16) -> Option<usize> {
        match (self, version) {
            (Self::Entry, VERSION | VERSION_2) | (Self::Cut, VERSION) => Some(0),
            (Self::Hard, VERSION) => Some(HARD_BODY),
            (Self::Hard, VERSION_2) => Some(HARD_BODY_2),
            (Self::CutTo, VERSION) => Some(CUT_TO_BODY),
            (Self::Installed, VERSION) => Some(INSTALLED_BODY),
            (Self::State, VERSION) => Some(STATE_BODY),
            (Self::State, VERSION_2) => Some(STATE_BODY_2),
            (Self::Cut, VERSION_2) => Some(CUT_BODY_2),
            (
                Self::Entry | Self::Hard | Self::CutTo | Self::Installed | Self::State | Self::Cut,
                _,
            ) => None,
        }
    }
}

/// The body of a Hard record.
pub(crate) const HARD_BODY: usize = 8;
/// The body of a Hard record of version 2.
pub(crate) const HARD_BODY_2: usize = 16;
/// The body of a CutTo record.
pub(crate) const CUT_TO_BODY: usize = 16;
/// The body of an Installed record before the manifest.
pub(crate) const INSTALLED_BODY: usize = 8;
/// The body of a State record.
pub(crate) const STATE_BODY: usize = 32;
/// The body of a State record of version 2, the longest.
pub(crate) const STATE_BODY_2: usize = 48;
/// The body of a Cut record of version 2.
pub(crate) const CUT_BODY_2: usize = 8;

/// The flag of a node that may have lost what it acknowledged.
const RECOVERING: u32 = 1;
/// The flag of a group whose engine may not hold its snapshot yet.
const SNAPSHOT_WAITS: u32 = 2;
/// The flag of a snapshot behind which the entries stay.
const SUFFIX_KEPT: u32 = 1;

/// A record in a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordView<'a> {
    pub(crate) kind: Kind,
    pub(crate) version: u16,
    pub(crate) group: u32,
    pub(crate) term: u64,
    pub(crate) op: u64,
    /// The low half of the group's chain before this record.
    pub(crate) chain: u64,
    pub(crate) body: &'a [u8],
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRecord {
    /// They end too early, or their checksum is wrong.
    Broken,
    /// A newer release wrote this kind.
    Kind(u16),
    /// A newer release wrote this version of a known kind.
    Version(u16),
}

impl<'a> RecordView<'a> {
    /// How many bytes a record with such a body takes.
    pub(crate) const fn encoded_bytes(body: usize) -> usize {
        RECORD_HEADER + body.next_multiple_of(8)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let length = u32::try_from(self.body.len()).expect("the flush limit keeps bodies small");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.kind.code().to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.op.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(self.body);
        out.resize(start + Self::encoded_bytes(self.body.len()), 0);
        let crc = crc32c::crc32c(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the record at the beginning of `bytes`, and how many bytes it takes.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(Self, usize), NoRecord> {
        if bytes.len() < RECORD_HEADER {
            return Err(NoRecord::Broken);
        }
        let body = usize::try_from(u32_at(bytes, 0)).map_err(|_too_wide| NoRecord::Broken)?;
        let size = Self::encoded_bytes(body);
        if bytes.len() < size || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..size]) {
            return Err(NoRecord::Broken);
        }
        let Some(kind) = Kind::of(u16_at(bytes, 8)) else {
            return Err(NoRecord::Kind(u16_at(bytes, 8)));
        };
        let version = u16_at(bytes, 10);
        let Some(least) = kind.body_least(version) else {
            return Err(NoRecord::Version(version));
        };
        if body < least {
            return Err(NoRecord::Broken);
        }
        let record = Self {
            kind,
            version,
            group: u32_at(bytes, 12),
            term: u64_at(bytes, 16),
            op: u64_at(bytes, 24),
            chain: u64_at(bytes, 32),
            body: &bytes[RECORD_HEADER..RECORD_HEADER + body],
        };
        Ok((record, size))
    }
}

/// The body of a Hard record: of version 1 where that can say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HardBody {
    pub(crate) vote: u64,
    pub(crate) is_recovering: bool,
}

impl HardBody {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        out.clear();
        out.extend_from_slice(&self.vote.to_le_bytes());
        if !self.is_recovering {
            return VERSION;
        }
        out.extend_from_slice(&RECOVERING.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        VERSION_2
    }

    pub(crate) fn decode(record: &RecordView<'_>) -> Self {
        Self {
            vote: u64_at(record.body, 0),
            is_recovering: record.version >= VERSION_2 && u32_at(record.body, 8) & RECOVERING != 0,
        }
    }
}

/// The body of an Installed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstalledBody<'a> {
    pub(crate) is_suffix_kept: bool,
    pub(crate) manifest: &'a [u8],
}

impl<'a> InstalledBody<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let flags = if self.is_suffix_kept { SUFFIX_KEPT } else { 0 };
        out.clear();
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.manifest);
    }

    pub(crate) fn decode(record: &RecordView<'a>) -> Self {
        Self {
            is_suffix_kept: u32_at(record.body, 0) & SUFFIX_KEPT != 0,
            manifest: &record.body[INSTALLED_BODY..],
        }
    }
}

/// What a State record says beyond its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateBody {
    pub(crate) vote: u64,
    /// The op below the oldest entry that counts.
    pub(crate) base: u64,
    pub(crate) chain: u128,
    /// What only version 2 says.
    pub(crate) more: Option<StateMore>,
}

/// What a State record says of a group that knows of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateMore {
    /// The term of the entry at the base op.
    pub(crate) base_term: u64,
    pub(crate) is_recovering: bool,
    /// The owner has not cut to the newest snapshot's op.
    pub(crate) has_snapshot: bool,
}

impl StateBody {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        out.clear();
        out.extend_from_slice(&self.vote.to_le_bytes());
        out.extend_from_slice(&self.base.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        let Some(more) = self.more else {
            return VERSION;
        };
        let recovering = if more.is_recovering { RECOVERING } else { 0 };
        let waits = if more.has_snapshot { SNAPSHOT_WAITS } else { 0 };
        out.extend_from_slice(&more.base_term.to_le_bytes());
        out.extend_from_slice(&(recovering | waits).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        VERSION_2
    }

    pub(crate) fn decode(record: &RecordView<'_>) -> Self {
        let bytes = record.body;
        Self {
            vote: u64_at(bytes, 0),
            base: u64_at(bytes, 8),
            chain: u128_at(bytes, 16),
            more: (record.version >= VERSION_2).then(|| StateMore {
                base_term: u64_at(bytes, 32),
                is_recovering: u32_at(bytes, 40) & RECOVERING != 0,
                has_snapshot: u32_at(bytes, 40) & SNAPSHOT_WAITS != 0,
            }),
        }
    }
}

/// The chain of a group after an entry. `scratch` only saves an allocation.
pub(crate) fn group_chain(
    before: u128,
    term: u64,
    op: u64,
    body: &[u8],
    scratch: &mut Vec<u8>,
) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&before.to_le_bytes());
    scratch.extend_from_slice(&term.to_le_bytes());
    scratch.extend_from_slice(&op.to_le_bytes());
    scratch.extend_from_slice(body);
    xxh3_128(scratch)
}

/// The chain of the log after a flush whose stream (header and payload) is `stream`.
///
/// The 16 bytes before the payload are overwritten with the chain and put back, so that the
/// payload need not be copied to stand behind it.
pub(crate) fn flush_chain(before: u128, stream: &mut [u8]) -> u128 {
    let start = FLUSH_HEADER - 16;
    let mut kept = [0; 16];
    kept.copy_from_slice(&stream[start..FLUSH_HEADER]);
    stream[start..FLUSH_HEADER].copy_from_slice(&before.to_le_bytes());
    let chain = xxh3_128(&stream[start..]);
    stream[start..FLUSH_HEADER].copy_from_slice(&kept);
    chain
}

/// The low half of a chain, as records carry it.
pub(crate) fn low_half(chain: u128) -> u64 {
    u64_at(&chain.to_le_bytes(), 0)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("a slice of N bytes is an array of N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &[u8]) -> RecordView<'_> {
        RecordView {
            kind: Kind::Entry,
            version: VERSION,
            group: 7,
            term: 3,
            op: 9,
            chain: 11,
            body,
        }
    }

    #[test]
    fn records_come_back_and_end_on_eight_bytes() {
        for len in [0, 1, 7, 8, 9, 300] {
            let body = vec![b'x'; len];
            let mut bytes = Vec::new();
            record(&body).encode(&mut bytes);
            assert_eq!(bytes.len() % 8, 0);
            let size = bytes.len();
            bytes.extend_from_slice(b"what follows");
            assert_eq!(RecordView::decode(&bytes), Ok((record(&body), size)));
        }
    }

    #[test]
    fn a_cut_short_or_changed_record_is_none() {
        let mut bytes = Vec::new();
        record(b"some body").encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(RecordView::decode(&bytes[..len]), Err(NoRecord::Broken));
        }
        for at in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[at] ^= 0x10;
            assert_eq!(RecordView::decode(&harmed), Err(NoRecord::Broken), "{at}");
        }
    }

    #[test]
    fn kinds_of_later_releases_are_named() {
        let mut bytes = Vec::new();
        record(b"").encode(&mut bytes);
        bytes[8] = 7;
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(RecordView::decode(&bytes), Err(NoRecord::Kind(7)));
    }

    #[test]
    fn the_flush_chain_is_that_of_previous_and_payload() {
        let mut stream = vec![1; FLUSH_HEADER];
        stream.extend_from_slice(b"payload");
        let mut plain = 5_u128.to_le_bytes().to_vec();
        plain.extend_from_slice(b"payload");
        let before = stream.clone();
        assert_eq!(flush_chain(5, &mut stream), xxh3_128(&plain));
        assert_eq!(stream, before);
    }
}
