//! What the machine knows of its log: the newest entries, the terms of all, what is durable.
//!
//! Entries older than the cache are on disk only; their terms are kept as runs, so that any
//! `previous` can be checked without reading.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{NodeId, Op, Time, WriteId};

use crate::membership::Configuration;
use crate::message::{Entry, Payload, Position};
use crate::snapshot::Checkpoint;

/// A configuration and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) at: Position,
    pub(crate) configuration: Arc<Configuration>,
}

/// A write that is not durable yet, and the end of the log with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Writing {
    write: WriteId,
    op: Op,
    at: Time,
}

/// The log as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The entry below the first that is kept.
    base: Position,
    /// Where each term begins among the kept entries.
    runs: VecDeque<Position>,
    /// The newest entries, dense, ending at `last`.
    cached: VecDeque<Entry>,
    cached_bytes: u64,
    last: Op,
    /// The configuration in force at the applied op, and all behind it.
    configurations: VecDeque<Placed>,
    /// Ops beyond the commit point that their origin may count (I7).
    flagged: VecDeque<(Op, NodeId)>,
    /// Weight of entries beyond the commit point.
    uncommitted_bytes: u64,
    /// Entries through here survive a crash.
    durable: Op,
    writing: VecDeque<Writing>,
    /// The newest write that was asked for.
    written: WriteId,
    through: WriteId,
    /// A moving average of how long a write takes.
    sync: Duration,
}

impl Log {
    /// A log as it was found: everything in it is durable.
    pub(crate) fn restore(base: Position, checkpoint: &Checkpoint, entries: Vec<Entry>) -> Self {
        let mut log = Self {
            base,
            runs: VecDeque::new(),
            cached: VecDeque::new(),
            cached_bytes: 0,
            last: base.op,
            configurations: VecDeque::from([Placed {
                at: checkpoint.configured,
                configuration: Arc::clone(&checkpoint.configuration),
            }]),
            flagged: VecDeque::new(),
            uncommitted_bytes: 0,
            durable: base.op,
            writing: VecDeque::new(),
            written: WriteId::ZERO,
            through: WriteId::ZERO,
            sync: Duration::ZERO,
        };
        for entry in entries {
            log.push(entry, checkpoint.at.op);
        }
        log.durable = log.last;
        log
    }

    pub(crate) const fn base(&self) -> Position {
        self.base
    }

    pub(crate) const fn last(&self) -> Op {
        self.last
    }

    pub(crate) const fn durable(&self) -> Op {
        self.durable
    }

    pub(crate) const fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted_bytes
    }

    pub(crate) const fn sync(&self) -> Duration {
        self.sync
    }

    pub(crate) fn last_position(&self) -> Position {
        let term = self.runs.back().map_or(self.base.term, |run| run.term);
        Position {
            term,
            op: self.last,
        }
    }

    /// The newest configuration, in force from its append on.
    pub(crate) fn configured(&self) -> &Placed {
        let last = self.configurations.back();
        last.expect("a log always has the configuration in force at its applied op")
    }

    /// The configuration in force at the applied op.
    pub(crate) fn configured_at_applied(&self) -> &Placed {
        let first = self.configurations.front();
        first.expect("a log always has the configuration in force at its applied op")
    }

    /// The configuration in force at an op, if it is not history yet, and all behind it.
    pub(crate) fn configurations_from(&self, op: Op) -> Option<Vec<&Configuration>> {
        let behind = self.configurations.iter().rposition(|it| it.at.op <= op)?;
        let placed = self.configurations.iter().skip(behind);
        Some(placed.map(|it| &*it.configuration).collect())
    }

    /// The largest op that a quorum of the configuration in force at it has reached (I3).
    pub(crate) fn agreed(&self, value: impl Fn(NodeId) -> Op) -> Op {
        let mut end = self.last;
        let mut best = Op::ZERO;
        for placed in self.configurations.iter().rev() {
            if let Some(op) = placed.configuration.voters().agreed(&value) {
                best = best.max(op.min(end));
            }
            end = Op::new(placed.at.op.value().saturating_sub(1));
        }
        best
    }

    /// Whether a node is a voter of any configuration that may not be history yet.
    pub(crate) fn may_decide(&self, node: NodeId) -> bool {
        let mut placed = self.configurations.iter();
        placed.any(|one| one.configuration.voters().contains(node))
    }

    pub(crate) fn configuration_count(&self) -> usize {
        self.configurations.len()
    }

    /// The term at an op, if the log still knows it.
    pub(crate) fn term_of(&self, op: Op) -> Option<holm_base::Term> {
        if op == self.base.op {
            return Some(self.base.term);
        }
        if op < self.base.op || op > self.last {
            return None;
        }
        let newest = self.runs.back().filter(|run| run.op <= op);
        let run = newest.or_else(|| {
            let behind = self.runs.partition_point(|run| run.op <= op);
            self.runs.get(behind.checked_sub(1)?)
        });
        run.map(|run| run.term)
    }

    /// The first op of the term that stands at `op`, as far as the log goes back.
    pub(crate) fn first_of_term_at(&self, op: Op) -> Op {
        let behind = self.runs.partition_point(|run| run.op <= op);
        let run = behind.checked_sub(1).and_then(|at| self.runs.get(at));
        run.map_or(self.base.op, |run| run.op)
    }

    /// The last op of a term, if the log has any of it.
    pub(crate) fn last_of_term(&self, term: holm_base::Term) -> Option<Op> {
        let behind = self.runs.partition_point(|run| run.term <= term);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        if run.term != term {
            return None;
        }
        let next = self.runs.get(behind).map(|next| next.op.value() - 1);
        Some(next.map_or(self.last, Op::new))
    }

    /// Adds an entry that is being written by `write`.
    pub(crate) fn append(&mut self, entry: Entry, write: WriteId, now: Time) {
        self.push(entry, Op::ZERO);
        self.asked(write, now);
    }

    /// Notes a write, of whatever record.
    pub(crate) fn asked(&mut self, write: WriteId, now: Time) {
        self.written = write;
        self.writing.push_back(Writing {
            write,
            op: self.last,
            at: now,
        });
    }

    fn push(&mut self, entry: Entry, committed: Op) {
        assert!(
            entry.op == self.last.next(),
            "I2: entry {} follows {}",
            entry.op,
            self.last
        );
        let newest = self.last_position().term;
        assert!(entry.term >= newest, "I2: terms never fall along a log");
        if self.runs.back().is_none_or(|run| run.term != entry.term) {
            self.runs.push_back(entry.position());
        }
        self.last = entry.op;
        if entry.op > committed {
            self.uncommitted_bytes += entry.weight();
            if let Some(origin) = entry.counting_origin() {
                self.flagged.push_back((entry.op, origin));
            }
            if let Payload::Configuration(configuration) = &entry.payload {
                self.configurations.push_back(Placed {
                    at: entry.position(),
                    configuration: Arc::clone(configuration),
                });
            }
        }
        self.cached_bytes += entry.weight();
        self.cached.push_back(entry);
    }

    /// Writes through this one are durable.
    pub(crate) fn durable_through(&mut self, through: WriteId, now: Time) {
        assert!(
            through <= self.written,
            "I4: only what was asked for becomes durable"
        );
        self.through = self.through.max(through);
        while let Some(first) = self.writing.front().copied() {
            if first.write > through {
                break;
            }
            self.writing.pop_front();
            self.durable = self.durable.max(first.op);
            let took = now.since(first.at);
            self.sync = (self.sync * 7 + took) / 8;
        }
    }

    /// What a message that states something durable must wait for.
    pub(crate) fn pending_write(&self) -> Option<WriteId> {
        (self.written > self.through).then_some(self.written)
    }

    pub(crate) const fn is_durable(&self, write: WriteId) -> bool {
        write.value() <= self.through.value()
    }

    /// Drops all entries behind `last`.
    pub(crate) fn truncate(&mut self, last: Op) {
        while self.cached.back().is_some_and(|entry| entry.op > last) {
            let entry = self.cached.pop_back().expect("it was looked at");
            self.cached_bytes -= entry.weight();
            self.uncommitted_bytes -= entry.weight();
        }
        self.last = last;
        self.durable = self.durable.min(last);
        for writing in &mut self.writing {
            writing.op = writing.op.min(last);
        }
        while self.runs.back().is_some_and(|run| run.op > last) {
            self.runs.pop_back();
        }
        while self.flagged.back().is_some_and(|(op, _)| *op > last) {
            self.flagged.pop_back();
        }
        while self
            .configurations
            .back()
            .is_some_and(|placed| placed.at.op > last)
        {
            self.configurations.pop_back();
        }
        assert!(
            !self.configurations.is_empty(),
            "I3: a committed configuration is never dropped"
        );
    }

    /// The commit point moved from `before` to `commit`.
    pub(crate) fn committed(&mut self, before: Op, commit: Op) {
        let mut op = before;
        while op < commit {
            op = op.next();
            let entry = self.entry(op).expect("uncommitted entries are in memory");
            self.uncommitted_bytes -= entry.weight();
        }
        while self.flagged.front().is_some_and(|(op, _)| *op <= commit) {
            self.flagged.pop_front();
        }
    }

    /// The applied op moved: older configurations are history, older entries may leave memory.
    pub(crate) fn applied(&mut self, applied: Op, bytes_max: u64) {
        while self
            .configurations
            .get(1)
            .is_some_and(|next| next.at.op <= applied)
        {
            self.configurations.pop_front();
        }
        while self.cached_bytes > bytes_max
            && self.cached.front().is_some_and(|entry| entry.op <= applied)
        {
            let entry = self.cached.pop_front().expect("it was looked at");
            self.cached_bytes -= entry.weight();
        }
    }

    /// The last op that its origin may count, beyond the commit point.
    pub(crate) fn last_flagged(&self) -> Option<Op> {
        self.flagged.back().map(|(op, _)| *op)
    }

    /// The last flagged op at or below `limit`.
    pub(crate) fn flagged_through(&self, limit: Op) -> Option<Op> {
        let behind = self.flagged.partition_point(|(op, _)| *op <= limit);
        Some(self.flagged.get(behind.checked_sub(1)?)?.0)
    }

    /// The origins of flagged ops beyond `after`, through `through`.
    pub(crate) fn origins(&self, after: Op, through: Op) -> impl Iterator<Item = NodeId> + '_ {
        let begin = self.flagged.partition_point(|(op, _)| *op <= after);
        self.flagged
            .range(begin..)
            .take_while(move |(op, _)| *op <= through)
            .map(|(_, origin)| *origin)
    }

    /// An entry, if it is in memory.
    pub(crate) fn entry(&self, op: Op) -> Option<&Entry> {
        let first = self.cached.front()?.op;
        let at = op.value().checked_sub(first.value())?;
        self.cached.get(usize::try_from(at).ok()?)
    }

    /// Entries from `first` on until a limit is reached; `None` if they are not in memory.
    pub(crate) fn slice(&self, first: Op, bytes_max: u64, count_max: usize) -> Option<Vec<Entry>> {
        let begin = self.cached.front()?.op;
        let at = first.value().checked_sub(begin.value())?;
        let at = usize::try_from(at).ok()?;
        if at >= self.cached.len() {
            return None;
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in self.cached.range(at..).take(count_max) {
            bytes += entry.weight();
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        Some(taken)
    }

    /// Forgets entries through `through`.
    pub(crate) fn cut(&mut self, through: Op) {
        let term = self.term_of(through);
        let term = term.expect("the log is cut where it reaches");
        while self.cached.front().is_some_and(|entry| entry.op <= through) {
            let entry = self.cached.pop_front().expect("it was looked at");
            self.cached_bytes -= entry.weight();
        }
        self.rebase(Position { term, op: through });
    }

    fn rebase(&mut self, base: Position) {
        self.base = base;
        while self
            .runs
            .get(1)
            .is_some_and(|next| next.op <= base.op.next())
        {
            self.runs.pop_front();
        }
        if self.last == base.op {
            self.runs.clear();
        }
        if let Some(first) = self.runs.front_mut()
            && first.op <= base.op
        {
            first.op = base.op.next();
        }
    }

    /// Takes a snapshot's place as the base; keeps what is behind it only if told (I11).
    pub(crate) fn install(
        &mut self,
        checkpoint: &Checkpoint,
        is_suffix_kept: bool,
        write: WriteId,
        now: Time,
    ) {
        let at = checkpoint.at;
        if is_suffix_kept {
            self.cut(at.op);
            self.configurations.retain(|placed| placed.at.op > at.op);
            self.flagged.retain(|(op, _)| *op > at.op);
            self.uncommitted_bytes = self.cached.iter().map(Entry::weight).sum();
        } else {
            self.cached.clear();
            self.cached_bytes = 0;
            self.runs.clear();
            self.configurations.clear();
            self.flagged.clear();
            self.uncommitted_bytes = 0;
            self.base = at;
            self.last = at.op;
            self.durable = Op::ZERO;
            for writing in &mut self.writing {
                writing.op = Op::ZERO;
            }
        }
        self.configurations.push_front(Placed {
            at: checkpoint.configured,
            configuration: Arc::clone(&checkpoint.configuration),
        });
        if let Some(newest) = self.writing.back_mut()
            && newest.write == write
        {
            newest.op = self.last;
            newest.at = now;
        }
    }
}
