//! Where a node's records are kept: the log and the newest saved table, folded as they come.
//!
//! A crash keeps what is durable and a beginning of what is not. A list of records would grow
//! for ever; what is kept here is what a start needs.

use std::collections::VecDeque;
use std::sync::Arc;

use holm_base::{Op, WriteId};
use holm_machine::DiskError;
use holm_raft::{self as raft, Checkpoint, Entry, Hard, Position};
use holm_virtual::{Shelf, Tape, Unsynced};

use super::table::Table;

/// A table at one applied op, with what Raft must know there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) table: Table,
}

impl Saved {
    pub(crate) fn op(&self) -> Op {
        self.checkpoint.at.op
    }
}

/// A record of Raft, and the table if it is saved with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) raft: raft::Record,
    /// Saved in one piece with the record, so applied op and data reach the disk together.
    pub(crate) saved: Option<Arc<Saved>>,
    /// The log below this may go once the table is saved.
    pub(crate) cut: Op,
}

/// What a start finds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) hard: Hard,
    /// The entry below the first.
    pub(crate) base: Position,
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) saved: Option<Arc<Saved>>,
    pub(crate) is_damaged: bool,
}

/// A node's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    kept: Kept,
    unsynced: Unsynced<Record>,
    /// How often a run of this node has ended.
    ends: u64,
}

impl Journal {
    pub(crate) const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The number of the run that begins now.
    pub(crate) const fn boot(&self) -> u64 {
        self.ends + 1
    }

    /// Loses up to `count` of the newest entries beyond the saved table, as damage that a start
    /// notices. Says how many.
    pub(crate) fn damage(&mut self, count: usize) -> usize {
        let lost = count.min(self.loose());
        self.kept.entries.truncate(self.kept.entries.len() - lost);
        self.kept.is_damaged |= lost > 0;
        lost
    }

    /// How many entries [`Journal::damage`] could lose.
    pub(crate) fn loose(&self) -> usize {
        let saved = self
            .kept
            .saved
            .as_ref()
            .map_or(Op::ZERO, |saved| saved.op());
        let beyond = |entry: &&Entry| entry.op > saved;
        self.kept.entries.iter().rev().take_while(beyond).count()
    }
}

impl Kept {
    fn keep(&mut self, record: Record) {
        match record.raft {
            raft::Record::Entry(entry) => {
                let last = self.entries.back().map_or(self.base.op, |last| last.op);
                assert_eq!(entry.op, last.next(), "records leave no gap");
                self.entries.push_back(entry);
            }
            raft::Record::Hard(hard) => {
                self.is_damaged = false;
                self.hard = hard;
            }
            raft::Record::CutTo { last } => {
                while self.entries.back().is_some_and(|entry| entry.op > last) {
                    self.entries.pop_back();
                }
            }
            raft::Record::Installed {
                manifest,
                is_suffix_kept,
            } => {
                let at = manifest.checkpoint.at;
                self.entries
                    .retain(|entry| is_suffix_kept && entry.op > at.op);
                self.base = at;
            }
        }
        if let Some(saved) = record.saved {
            let held = self.saved.as_ref().map_or(Op::ZERO, |saved| saved.op());
            if saved.op() > held {
                self.saved = Some(saved);
                self.cut(record.cut);
            }
        }
    }

    fn cut(&mut self, through: Op) {
        while let Some(first) = self.entries.front()
            && first.op <= through
        {
            self.base = first.position();
            self.entries.pop_front();
        }
    }
}

impl Shelf<Record> for Journal {
    fn append(&mut self, records: Vec<(WriteId, Record)>) -> Result<(), DiskError> {
        self.unsynced.append(records);
        Ok(())
    }

    fn sync(&mut self, through: WriteId) -> Result<(), DiskError> {
        self.unsynced
            .sync(through)?
            .for_each(|record| self.kept.keep(record));
        Ok(())
    }

    fn crash(&mut self, tape: &mut Tape) {
        self.unsynced
            .crash(tape)
            .for_each(|record| self.kept.keep(record));
        self.ends += 1;
    }

    fn records(&self) -> Vec<Record> {
        let raft = |raft| Record {
            raft,
            saved: None,
            cut: Op::ZERO,
        };
        let entries = self.kept.entries.iter().cloned();
        let entries = entries.map(raft::Record::Entry);
        let hard = raft::Record::Hard(self.kept.hard);
        std::iter::once(hard).chain(entries).map(raft).collect()
    }

    fn fail_next_sync(&mut self) {
        self.unsynced.set_fails(true);
    }

    fn heal(&mut self) {
        self.unsynced.set_fails(false);
    }
}
