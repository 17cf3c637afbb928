//! What a batch of a replica costs: counted while it is stepped, summed when it is over.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use holm_kv::command::{Command, Proposal};
use holm_machine::Turn;
use holm_sequencer::Record;

use super::{Effect, Input, Request, Stored};
use crate::costs::{Costs, Work};

/// What a record takes in the log beside its body, about, and what the log writes at once at least.
const FRAME: usize = 48;
const BLOCK: usize = 4 << 10;

/// Counts a replica's work, where work costs something.
#[derive(Debug)]
pub(super) struct Labour {
    costs: Option<Arc<Costs>>,
    /// Since the last batch, in nanoseconds.
    done: Cell<u64>,
}

impl Labour {
    pub(super) const fn new(costs: Option<Arc<Costs>>) -> Self {
        Self {
            costs,
            done: Cell::new(0),
        }
    }

    /// Whether the replica decides once a batch, as behind the engine's thread.
    pub(super) const fn is_paid(&self) -> bool {
        self.costs.is_some()
    }

    /// An input is about to be worked off.
    pub(super) fn count(&self, input: &Input) {
        let Some(costs) = &self.costs else { return };
        let nanos = match input {
            Input::Start | Input::Wake | Input::Durable { .. } | Input::Message { .. } => 0,
            Input::Request { body, .. } => match body {
                Request::Write(..) => costs.of(Work::EnginePut),
                Request::Read(_) => costs.of(Work::EngineRange),
                // Nobody asks for these where work costs something.
                Request::Lease(_)
                | Request::Watch(_)
                | Request::Unwatch(_)
                | Request::Progress(_)
                | Request::Operate(_)
                | Request::Isle(_)
                | Request::Suspect(_) => 0,
            },
        };
        self.done.set(self.done.get() + nanos);
    }

    /// What the batch cost that asked for this.
    pub(super) fn of_batch(&self, turn: &Turn<Effect>) -> u64 {
        let Some(costs) = &self.costs else { return 0 };
        let entries = entries(turn);
        self.done.take() + entries * costs.of_entry(entries)
    }

    /// What its records cost whoever writes the log, beyond what any flush costs.
    pub(super) fn of_log(&self, turn: &Turn<Effect>) -> u64 {
        let costs = self.costs.as_ref();
        costs.map_or(0, |costs| entries(turn) * costs.of(Work::LogEntry))
    }
}

/// How many bytes a flush writes, in whole blocks.
pub(super) fn log_bytes(turn: &Turn<Effect>) -> u64 {
    let bytes = turn.records.iter().map(|effect| {
        if let Effect::Persist {
            record: Stored::Store(Record::Entry { body, .. }),
            ..
        } = effect
        {
            FRAME + body.len()
        } else {
            FRAME
        }
    });
    let bytes = bytes.sum::<usize>().next_multiple_of(BLOCK);
    u64::try_from(bytes).expect("batches are small")
}

/// How many entries go to the log; of an island, an update of another counts as one, for it is
/// applied like one.
fn entries(turn: &Turn<Effect>) -> u64 {
    let count = turn.records.iter().map(|effect| {
        if let Effect::Persist {
            record: Stored::Store(Record::Entry { body, .. }),
            ..
        } = effect
        {
            updates(body).unwrap_or(1)
        } else {
            0
        }
    });
    u64::try_from(count.sum::<usize>()).expect("batches are small")
}

fn updates(body: &Bytes) -> Option<usize> {
    let (proposal, _unix_ms) = Proposal::decode_at(body).ok()?;
    if let Command::Island(holm_local_first::Proposal::Updates(updates)) = proposal.command {
        Some(updates.len())
    } else {
        None
    }
}
