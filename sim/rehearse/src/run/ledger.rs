//! What was seen of the nodes: what they applied, who led, and which rules that breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holm_base::{NodeId, Term};
use holm_check::{
    Acknowledged, Healing, History, Outcome, Published, Seen, Stream, Violation, durable, heals,
    watch, witness,
};
use holm_raft::{self as raft, Rejected};

use super::Run;
use crate::calls::{Call, Change, FIRST, Keyspace, Reply, State};
use crate::scenario::Check;
use crate::stage::Stage;

/// What was seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    /// What each revision changed, from 2 on, as the first to apply it said.
    changes: Vec<Change>,
    /// Which write made a revision that does not say so itself.
    made_by: BTreeMap<u64, u64>,
    /// The revision of each node.
    reached: Vec<u64>,
    leaders: BTreeMap<Term, NodeId>,
    damaged: BTreeSet<NodeId>,
    pub(crate) violations: Vec<Violation>,
}

/// The first revision that a write can have.
const BEGIN: u64 = FIRST + 1;

impl Ledger {
    pub(crate) fn new(stage: &Stage) -> Self {
        Self {
            changes: Vec::new(),
            made_by: BTreeMap::new(),
            reached: vec![FIRST; stage.site_of.len()],
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

    pub(crate) fn is_damaged(&self, node: NodeId) -> bool {
        self.damaged.contains(&node)
    }

    /// A revision that does not say so was made by this write.
    pub(crate) fn made_by(&mut self, revision: u64, mark: u64) {
        self.made_by.insert(revision, mark);
    }

    /// What a revision changed, if anybody applied it.
    pub(super) fn change(&self, revision: u64) -> Option<&Change> {
        let at = revision.checked_sub(BEGIN)?;
        self.changes.get(index(at))
    }

    /// A node applied these: what others applied before must be the same. Gives what nobody
    /// had applied before.
    pub(crate) fn applied(&mut self, node: NodeId, changes: &[Change]) -> Vec<Change> {
        let mut fresh = Vec::new();
        for change in changes {
            let at = index(change.revision.saturating_sub(BEGIN));
            match self.changes.get(at) {
                Some(known) if known == change => {}
                Some(known) => {
                    let place = format!("{node} has {change:?}, another had {known:?}");
                    self.violate("invariants", "a revision is one write", place);
                }
                None if at == self.changes.len() => {
                    self.changes.push(change.clone());
                    fresh.push(change.clone());
                }
                None => {
                    let place = format!("{node} applied {}", change.revision);
                    self.violate("invariants", "revisions leave no gap", place);
                }
            }
            self.reached[index(node.value() - 1)] = change.revision;
        }
        fresh
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

    /// Which write made each revision. A deletion does not say whose it was: it is of the
    /// write that was told its revision, else of the oldest one of that key that nobody knows
    /// the outcome of.
    fn published(&self, history: &History<Call, Reply>) -> Published {
        let mut told = BTreeMap::new();
        let mut unknown: BTreeMap<u32, VecDeque<u64>> = BTreeMap::new();
        for operation in history.operations() {
            if let Call::Delete { key, mark } = operation.call {
                match &operation.outcome {
                    Outcome::Returned {
                        reply: Reply::Wrote { revision },
                        ..
                    } => {
                        told.insert(*revision, mark);
                    }
                    Outcome::Unknown => unknown.entry(key).or_default().push_back(mark),
                    Outcome::Returned { .. } | Outcome::Refused => {}
                }
            }
        }
        let mut published = Published::new();
        for change in &self.changes {
            let revision = change.revision;
            let own = Some(change.mark()).filter(|&mark| mark != 0);
            let known = own.or_else(|| self.made_by.get(&revision).copied());
            let known = known.or_else(|| told.get(&revision).copied());
            let mut guess = || {
                let key = change.touches.first().map(|touch| touch.key)?;
                unknown.get_mut(&key)?.pop_front()
            };
            // A mark that nobody has ever made says that nobody asked for this.
            let mark = known.or_else(&mut guess).unwrap_or(u64::MAX - revision);
            published.insert(revision, mark);
        }
        published
    }

    /// Judges what one watcher received.
    pub(crate) fn judge_stream(&mut self, stream: &Stream<Change>, first_kept: u64) {
        let newest = stream.seen.iter().filter_map(|seen| match seen {
            Seen::Events { revision, .. } => Some(*revision),
            Seen::Progress { .. } | Seen::Compacted { .. } => None,
        });
        let newest = newest.max().unwrap_or(0).max(stream.through);
        let begin = index(stream.start.max(BEGIN) - BEGIN).min(self.changes.len());
        let end = index((newest + 1).max(BEGIN) - BEGIN).min(self.changes.len());
        let happened = self.changes[begin..end.max(begin)].iter();
        let happened: BTreeMap<u64, Vec<Change>> = happened
            .map(|one| (one.revision, vec![one.clone()]))
            .collect();
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
            let published = self.ledger.published(&self.askers.history);
            let history = &self.askers.history;
            let witnessed = witness(&Keyspace, history, &published);
            self.ledger.violations.extend(witnessed.err());
            if self.ledger.violations.is_empty() {
                let found = self.judge_events(&published);
                self.ledger.violations.extend(found);
            }
        }
        if judges(Check::Transactions) && self.ledger.violations.is_empty() {
            let published = self.ledger.published(&self.askers.history);
            let found = self.judge_transactions(&published);
            self.ledger.violations.extend(found);
        }
        let found = self.judge_leases();
        self.ledger.violations.extend(found);
        self.judge_watches();
    }

    fn judge_heals(&self) -> Option<Violation> {
        let members = self.leader().and_then(|leader| self.world.node(leader));
        let members = members.map(|site| site.configuration().members());
        let members = members.unwrap_or_default().into_iter();
        let states = members.map(|node| {
            let site = self.world.node(node);
            (node, site.map(crate::site::Site::holding))
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

    /// What watchers are told of a revision is what its write does, on the state that all
    /// earlier events make.
    fn judge_events(&self, published: &Published) -> Option<Violation> {
        let operations = self.askers.history.operations();
        let calls = operations.iter().filter_map(|operation| {
            let mark = operation.call.mark()?;
            Some((mark, operation.call))
        });
        let calls: BTreeMap<u64, Call> = calls.collect();
        let mut state = State::new();
        for change in &self.ledger.changes {
            let mark = published.get(&change.revision)?;
            let expected = calls.get(mark).and_then(|call| state.carry(call));
            if expected.as_ref().map(Change::keys) != Some(change.keys()) {
                let place = format!("{change:?}, and {expected:?} was to be told");
                return Some(Violation {
                    judge: "watch",
                    rule: "events are what the write does",
                    place,
                });
            }
        }
        None
    }

    fn judge_durable(&self) -> Option<Violation> {
        let leader = self.leader().and_then(|leader| self.world.node(leader))?;
        let state = leader.holding().state;
        let published = self.ledger.published(&self.askers.history);
        // The last write of each key, deletions included, as the order says; and what is there.
        let mut last: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut there: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let changes = self.ledger.changes.iter();
        for change in changes.filter(|one| one.revision <= state.revision) {
            let mark = published.get(&change.revision).copied().unwrap_or(0);
            for touch in &change.touches {
                last.insert(touch.key, (change.revision, mark));
                let made = (change.revision, mark);
                there.insert(touch.key, if touch.is_delete { (0, 0) } else { made });
            }
        }
        for (&key, &(made, mark)) in &there {
            let cell = state.cell(key);
            if (cell.made, cell.mark) != (made, mark) {
                let place = format!("key {key} holds {cell:?}, not what {mark} made at {made}");
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
            let (keys, value) = match operation.call {
                Call::Put { key, mark }
                | Call::Delete { key, mark }
                | Call::Add { key, mark, .. }
                | Call::Attach { key, mark, .. } => ([Some(key), None], mark),
                Call::Txn {
                    key, other, mark, ..
                } => ([Some(key), Some(other)], mark),
                Call::Range { .. } | Call::Compact { .. } | Call::Gone { .. } => continue,
            };
            acknowledged.extend(keys.into_iter().flatten().map(|key| Acknowledged {
                key,
                revision: *revision,
                value,
            }));
        }
        durable(&acknowledged, &last).err()
    }
}
