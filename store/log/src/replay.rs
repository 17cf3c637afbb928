//! Reading entries back: each piece of a group, in order, from the flush where it begins.

use bytes::Bytes;
use holm_base::{Op, Term};
use holm_machine::Folder;
use holm_sequencer::{Form, Record};

use crate::error::LogError;
use crate::group::{Group, Piece};
use crate::layout::{self, FLUSH_HEADER, Kind, RecordView, VERSION};
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

/// What a look at one entry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Show me the next.
    Next,
    /// That was all I wanted.
    Stop,
}

/// Hands `each` the entries of `group` above `after`, until it has enough.
pub(crate) fn replay(
    folder: &dyn Folder,
    number: u32,
    group: &Group,
    after: u64,
    each: &mut dyn FnMut(&RecordView<'_>) -> Then,
) -> Result<(), LogError> {
    let after = after.max(group.base().op);
    for piece in group.pieces_after(after) {
        let mut pick = |record: &RecordView<'_>| {
            if record.op > after {
                each(record)
            } else {
                Then::Next
            }
        };
        if read_piece(folder, number, piece, &mut pick)? == Then::Stop {
            break;
        }
    }
    Ok(())
}

/// The group's chain behind an op, which is not below the group's base.
pub(crate) fn chain_at(
    folder: &dyn Folder,
    number: u32,
    group: &Group,
    op: u64,
) -> Result<u128, LogError> {
    let Some(piece) = group.pieces_after(op).next() else {
        return Ok(group.chain);
    };
    let mut chain = piece.chain;
    if piece.first > op {
        return Ok(chain);
    }
    let mut scratch = Vec::new();
    let mut fold = |record: &RecordView<'_>| {
        chain = layout::group_chain(chain, record.term, record.op, record.body, &mut scratch);
        if record.op < op {
            Then::Next
        } else {
            Then::Stop
        }
    };
    read_piece(folder, number, piece, &mut fold)?;
    Ok(chain)
}

/// Reads all entries that the group still needs into memory, and the chain before them.
pub(crate) fn read_needed(
    folder: &dyn Folder,
    number: u32,
    group: &Group,
) -> Result<Carried, LogError> {
    let after = group.base().op;
    let mut carried = Carried {
        after,
        chain: chain_at(folder, number, group, after)?,
        records: Vec::new(),
    };
    replay(folder, number, group, after, &mut |record| {
        carried.records.push(entry(record));
        Then::Next
    })?;
    Ok(carried)
}

fn entry(record: &RecordView<'_>) -> Record {
    Record::Entry {
        term: Term::new(record.term),
        op: Op::new(record.op),
        form: form_of(record),
        body: Bytes::copy_from_slice(record.body),
    }
}

/// What the body of an entry's record is.
pub(crate) const fn form_of(record: &RecordView<'_>) -> Form {
    if record.version > VERSION {
        Form::Raft
    } else {
        Form::Plain
    }
}

fn read_piece(
    folder: &dyn Folder,
    number: u32,
    piece: &Piece,
    each: &mut dyn FnMut(&RecordView<'_>) -> Then,
) -> Result<Then, LogError> {
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
                if each(&record) == Then::Stop {
                    return Ok(Then::Stop);
                }
                next += 1;
            }
        }
        skip = 0;
        at += disk;
    }
    Ok(Then::Next)
}
