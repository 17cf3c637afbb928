//! Reading entries back: each piece of a group, in order, from the flush where it begins.

use bytes::Bytes;
use holm_base::{Op, Term};
use holm_machine::Folder;
use holm_sequencer::Record;

use crate::error::LogError;
use crate::group::{Group, Piece};
use crate::layout::{self, FLUSH_HEADER, Kind, RecordView};
use crate::scan::{damaged, decode};
use crate::segment::{Read, SegmentReader};

/// The entries that a group still needs, taken out of old segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// The op before the first of them.
    pub(crate) after: u64,
    /// The group's chain behind that op.
    pub(crate) chain: u128,
    /// The entries.
    pub(crate) records: Vec<Record>,
}

/// Hands `each` the entries of `group` above `after`.
pub(crate) fn replay(
    folder: &dyn Folder,
    number: u32,
    group: &Group,
    after: u64,
    each: &mut dyn FnMut(&RecordView<'_>),
) -> Result<(), LogError> {
    let after = after.max(group.cut);
    for piece in group.pieces_after(after) {
        let mut pick = |record: &RecordView<'_>| {
            if record.op > after {
                each(record);
            }
        };
        read_piece(folder, number, piece, &mut pick)?;
    }
    Ok(())
}

/// Reads all entries above the group's cut into memory, and the chain before them.
pub(crate) fn read_needed(
    folder: &dyn Folder,
    number: u32,
    group: &Group,
) -> Result<Carried, LogError> {
    let mut carried = Carried {
        after: group.cut,
        chain: group.chain,
        records: Vec::new(),
    };
    let mut chain = None;
    let mut scratch = Vec::new();
    for piece in group.pieces_after(group.cut) {
        let mut before = *chain.get_or_insert(piece.chain);
        let mut keep = |record: &RecordView<'_>| {
            if record.op == carried.after + 1 {
                carried.chain = before;
            }
            before = layout::group_chain(before, record.term, record.op, record.body, &mut scratch);
            if record.op > carried.after {
                carried.records.push(entry(record));
            }
        };
        read_piece(folder, number, piece, &mut keep)?;
    }
    Ok(carried)
}

fn entry(record: &RecordView<'_>) -> Record {
    Record::Entry {
        term: Term::new(record.term),
        op: Op::new(record.op),
        body: Bytes::copy_from_slice(record.body),
    }
}

fn read_piece(
    folder: &dyn Folder,
    number: u32,
    piece: &Piece,
    each: &mut dyn FnMut(&RecordView<'_>),
) -> Result<(), LogError> {
    let mut reader = SegmentReader::open(folder, piece.place.segment)?;
    let mut at = piece.place.flush - piece.place.segment;
    let mut skip = piece.place.record;
    let mut next = piece.first;
    let mut stream = Vec::new();
    while next <= piece.last {
        if at >= reader.len {
            let expected = format!("op {next} of group {number}");
            return Err(damaged(&reader.name, at, &expected, "the end".to_owned()));
        }
        let (records, disk) = match reader.flush(at, &mut stream)? {
            Read::Whole { header, disk } => (header.records, disk),
            Read::Broken(broken) => {
                return Err(damaged(
                    &reader.name,
                    broken.at,
                    "a whole flush",
                    broken.found,
                ));
            }
        };
        let mut rest = &stream[FLUSH_HEADER..];
        for index in 0..records {
            let (record, size) = decode(rest, &reader.name, at)?;
            rest = &rest[size..];
            let is_next = record.kind == Kind::Entry
                && record.group == number
                && record.op == next
                && index >= skip
                && next <= piece.last;
            if is_next {
                each(&record);
                next += 1;
            }
        }
        skip = 0;
        at += disk;
    }
    Ok(())
}
