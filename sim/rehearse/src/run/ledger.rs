//! What was seen of the nodes: what they applied, who led, and which rules that breaks.

use std::collections::{BTreeMap, BTreeSet};

use holm_base::{NodeId, Term};
use holm_check::{
    Acknowledged, Healing, Published, Seen, Stream, Violation, durable, heals, watch, witness,
};
use holm_raft::{self as raft, Rejected};

use super::Run;
use crate::scenario::Check;
use crate::stage::Stage;
use crate::table::{Call, Change, Reply, TableModel};

/// What was seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// What each revision changed, from 2 on, as the first to apply it said.
    changes: Vec<Change>,
    /// The revision of each node.
    reached: Vec<u64>,
    leaders: BTreeMap<Term, NodeId>,
    damaged: BTreeSet<NodeId>,
    pub(crate) violations: Vec<Violation>,
}

/// The first revision that a write can have.
const FIRST: u64 = 2;

impl Ledger {
    pub(crate) fn new(stage: &Stage) -> Self {
        Self {
            changes: Vec::new(),
            reached: vec![FIRST - 1; stage.site_of.len()],
            leaders: BTreeMap::new(),
            damaged: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn violate(&mut self, judge: &'static str, rule: &'static str, place: String) {
        self.violations.push(Violation { judge, rule, place });
    }

    pub(crate) fn elections(&self) -> u64 {
        u64::try_from(self.leaders.len()).expect("terms are few")
    }

    /// The newest revision that anybody applied.
    pub(crate) fn newest(&self) -> u64 {
        self.reached.iter().max().copied().unwrap_or(0)
    }

    pub(crate) fn damaged(&mut self, node: NodeId) {
        self.damaged.insert(node);
    }

    /// A node applied these: what others applied before must be the same.
    pub(crate) fn applied(&mut self, node: NodeId, changes: &[Change]) {
        for change in changes {
            let at = index(change.revision - FIRST);
            match self.changes.get(at) {
                Some(known) if known == change => {}
                Some(known) => {
                    let place = format!("{node} has {change:?}, another had {known:?}");
                    self.violate("invariants", "a revision is one write", place);
                }
                None if at == self.changes.len() => self.changes.push(*change),
                None => {
                    let place = format!("{node} applied {}", change.revision);
                    self.violate("invariants", "revisions leave no gap", place);
                }
            }
            self.reached[index(node.value() - 1)] = change.revision;
        }
    }

    pub(crate) fn replaced(&mut self, node: NodeId, revision: u64) {
        self.reached[index(node.value() - 1)] = revision;
    }

    pub(crate) fn noted(&mut self, node: NodeId, event: &raft::Event) {
        if let raft::Event::LeaderElected { term } = event {
            let first = *self.leaders.entry(*term).or_insert(node);
            if first != node {
                let place = format!("{first} and {node} lead in term {term}");
                self.violate("invariants", "a term has one leader", place);
            }
        }
        if let raft::Event::Rejected { from, why } = event
            && !matches!(why, Rejected::Stranger | Rejected::NotLeader)
        {
            let place = format!("{node} rejected {from}: {why:?}");
            self.violate("invariants", "peers say nothing impossible", place);
        }
        if let raft::Event::PeerForgot { peer, .. } = event
            && !self.damaged.contains(peer)
        {
            let place = format!("{node} says that {peer} forgot");
            self.violate("invariants", "only damage makes a node forget", place);
        }
    }

    fn published(&self) -> Published {
        let marks = self.changes.iter().map(|one| (one.revision, one.mark));
        marks.collect()
    }

    /// Judges what one watcher received.
    pub(crate) fn judge_stream(&mut self, stream: &Stream<Change>, first_kept: u64) {
        let newest = stream.seen.iter().filter_map(|seen| match seen {
            Seen::Events { revision, .. } => Some(*revision),
            Seen::Progress { .. } | Seen::Compacted { .. } => None,
        });
        let newest = newest.max().unwrap_or(0).max(stream.through);
        let begin = index(stream.start.max(FIRST) - FIRST).min(self.changes.len());
        let end = index((newest + 1).max(FIRST) - FIRST).min(self.changes.len());
        let happened = self.changes[begin..end.max(begin)].iter();
        let happened: BTreeMap<u64, Vec<Change>> =
            happened.map(|one| (one.revision, vec![*one])).collect();
        self.violations
            .extend(watch(&happened, first_kept, stream).err());
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("runs are short")
}

impl Run<'_> {
    /// Judges the whole run. What a scenario does not promise is not judged, but for what no
    /// run may ever do.
    pub(super) fn judge(&mut self) {
        if !self.ledger.violations.is_empty() {
            return;
        }
        let judges = |check| self.scenario.judges(check);
        let (is_linearizable, is_durable) = (judges(Check::Linearizable), judges(Check::Durable));
        if judges(Check::Heals) && self.scenario.chances.is_recoverable {
            let found = self.judge_heals();
            self.ledger.violations.extend(found);
        }
        // Before all is at rest, whoever leads may not have applied everything.
        if is_durable && self.converged.is_some() {
            let found = self.judge_durable();
            self.ledger.violations.extend(found);
        }
        if is_linearizable {
            // Whatever was answered was applied somewhere, and is on this list.
            let published = self.ledger.published();
            let history = &self.askers.history;
            let witnessed = witness(&TableModel, history, &published);
            self.ledger.violations.extend(witnessed.err());
        }
        self.judge_watches();
    }

    fn judge_heals(&self) -> Option<Violation> {
        let members = self.leader().and_then(|leader| self.world.node(leader));
        let members = members.map(|site| site.raft().configuration().members());
        let members = members.unwrap_or_default().into_iter();
        let states = members.map(|node| {
            let site = self.world.node(node);
            (node, site.map(|site| site.table.state.clone()))
        });
        let healing = Healing {
            stopped: self.healed.unwrap_or_else(|| self.world.now()),
            within: self.rest(),
            progressed: self.progressed,
            converged: self.converged,
            states: states.collect(),
        };
        heals(&healing).err()
    }

    fn judge_durable(&self) -> Option<Violation> {
        let leader = self.leader().and_then(|leader| self.world.node(leader))?;
        // The last write of each key, deletions included, as the order says; and what is there.
        let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let revision = leader.table.state.revision;
        for change in self
            .ledger
            .changes
            .iter()
            .filter(|one| one.revision <= revision)
        {
            for key in std::iter::once(change.key).chain(change.other) {
                last.insert(key, (change.revision, change.mark));
            }
        }
        for (&key, &(made, mark)) in &last {
            let cell = leader.table.state.cell(key);
            let is_delete = cell.mark == 0;
            if !is_delete && (cell.made, cell.mark) != (made, mark) {
                let place = format!("key {key} holds {cell:?}, its last write was {mark}");
                return Some(Violation {
                    judge: "durable",
                    rule: "an acknowledged write is there or overwritten",
                    place,
                });
            }
        }
        let mut acknowledged = Vec::new();
        for operation in self.askers.history.operations() {
            let Some(Reply::Wrote { revision }) = operation.reply() else {
                continue;
            };
            if let Call::Put { key, mark }
            | Call::Delete { key, mark }
            | Call::Txn { key, mark, .. } = operation.call
            {
                acknowledged.push(Acknowledged {
                    key,
                    revision: *revision,
                    value: mark,
                });
            }
        }
        durable(&acknowledged, &last).err()
    }
}
