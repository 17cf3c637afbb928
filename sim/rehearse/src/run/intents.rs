//! Hands the judges of islands what clients asked for and heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_base::NodeId;
use holm_check::islands::{
    Answered, Count, Ended, Intent, Islands, Key, Mark, Returns, Shown, atomic, available,
    causality, intentions, sessions, steady, sums,
};
use holm_check::{Operation, Outcome, Violation};
use holm_local_first::Type;

use super::Run;
use super::islands::{Archipelago, Clock};
use crate::calls::{Call, Reply};
use crate::scenario::{Action, Check};

/// An island may take so many election timeouts to answer again after it was not well.
const RECOVERY: u32 = 4;

/// Every key of a counter, with what was asked of it.
type Counts = BTreeMap<Key, Vec<(Mark, Count)>>;

impl Run<'_> {
    /// Holds how long puts took while links were cut against before.
    pub(super) fn judge_steady(&self) -> Option<Violation> {
        let cuts = self.scenario.faults.iter();
        let cuts = cuts.filter(|it| matches!(it.action, Action::Cut | Action::CutFrom));
        for fault in cuts {
            for (at, site) in self.scenario.sites.iter().enumerate() {
                let before = self.figures.took_of_puts(at, "before");
                let cut = self.figures.took_of_puts(at, &fault.name);
                if let Err(found) = steady(&site.name, before, cut) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Judges what became of each write, and what clients saw of them.
    pub(super) fn judge_intents(&self, islands: &Archipelago) -> Option<Violation> {
        let judges = |check| self.scenario.judges(check);
        if judges(Check::Available) {
            let timeout = Duration::from_nanos(self.scenario.keyspace.election_timeout);
            if let Err(found) = available(&islands.unanswered, timeout * RECOVERY) {
                return Some(found);
            }
        }
        if judges(Check::Sessions) {
            let is_whole = |node: &NodeId| !islands.register.is_a_copy(*node);
            for node in self.stage.ids().filter(is_whole) {
                if let Err(mut found) = sessions(self.all_answered(node)) {
                    found.place = format!("{node}: {}", found.place);
                    return Some(found);
                }
            }
        }
        let evidence = self.evidence(islands);
        // Where two sites took in another update each under one name, what was written after
        // either is taken for having seen both: that is told, and the sites agree in the end.
        if islands.register.has_two_stories(&evidence) {
            return None;
        }
        if judges(Check::Atomic)
            && let Err(found) = atomic(&evidence)
        {
            return Some(found);
        }
        if judges(Check::Causality)
            && let Err(found) = causality(&evidence)
        {
            return Some(found);
        }
        // Before all is at rest, nothing has to be everywhere.
        if judges(Check::Intentions) && self.converged.is_some() {
            return self.judge_intentions(islands, &evidence);
        }
        None
    }

    fn judge_intentions(&self, islands: &Archipelago, evidence: &Islands) -> Option<Violation> {
        let scenes = self.scenes();
        let (_, _, first) = scenes.first()?;
        // Whoever left in order has told its clients what met there while it served.
        let left = islands.register.left_in_order();
        let left = left.filter_map(|node| Some(self.world.node(node)?.scene().named));
        let stays = scenes.iter().map(|(_, _, scene)| scene.named.clone());
        let named = stays.chain(left).flatten();
        let named = named.map(|((key, mark), _)| (u64::from(key), mark));
        let mut shown = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for (&key, &mark) in &first.marks {
            if self.has_marks(islands, key) {
                shown.insert(u64::from(key), mark);
            } else {
                numbers.insert(u64::from(key), mark.cast_signed());
            }
        }
        let ended = Ended {
            shown,
            named: named.collect(),
            is_set: islands.isles.kind == Type::Set,
            held: self.held(islands),
            lost: islands.register.lost(),
            gone: islands.register.gone(),
            met: self.met_elsewhere(islands),
        };
        if let Err(found) = intentions(evidence, &ended) {
            return Some(found);
        }
        // Who is held back has additions that nobody else has.
        if ended.held.is_empty() {
            return sums(evidence, &self.counts(islands), &numbers, &ended).err();
        }
        None
    }

    /// Which writes met at islands that do not stay, or did before their data were set back, and
    /// at which of their revisions.
    fn met_elsewhere(&self, islands: &Archipelago) -> BTreeMap<(usize, Key, Mark), u64> {
        let stays = self.member_islands();
        let gone = self.stage.ids().filter(|node| !stays.contains(node));
        let named = gone.filter_map(|node| {
            let named = self.world.node(node)?.scene().named.into_iter();
            let site = islands.isles.place(node);
            Some(named.map(move |((key, mark), at)| ((site, u64::from(key), mark), at)))
        });
        let before = islands.formerly_met.iter();
        let before = before.map(|((site, key, mark), at)| ((*site, u64::from(*key), *mark), *at));
        // What was told of first counts.
        named.flatten().chain(before).collect()
    }

    /// Islands whose clock is so far ahead that others hold their writes back, and said so.
    fn held(&self, islands: &Archipelago) -> BTreeSet<usize> {
        let shores = self.shores().unwrap_or_default().into_iter();
        let held = shores.filter(|(node, _, clock)| {
            let slot = islands.register.slot(*node).value();
            *clock == Clock::Ahead && islands.held.contains(&slot)
        });
        held.map(|(node, _, _)| islands.isles.place(node)).collect()
    }

    /// Whether the values of a key are marks, and not what was counted.
    fn has_marks(&self, islands: &Archipelago, key: crate::calls::Key) -> bool {
        islands.isles.kind != Type::Counter || key >= self.scenario.keys()
    }

    /// What islands showed and what was written to them.
    fn evidence(&self, islands: &Archipelago) -> Islands {
        let first = u64::from(self.scenario.keys());
        let (mut shown, mut former) = (islands.all_shown(), islands.former_shown());
        if islands.isles.kind == Type::Counter {
            // What a counter shows is no mark.
            for all in shown.iter_mut().chain(former.values_mut()) {
                for one in all.iter_mut() {
                    one.touches.retain(|(key, _)| *key >= first);
                }
                all.retain(|one: &Shown| !one.touches.is_empty());
            }
        }
        let operations = self.askers.history.operations().iter();
        let intents = operations.filter_map(|one| self.intent(islands, one));
        let told = self.stage.ids().filter_map(|node| self.world.node(node));
        let told = told.flat_map(|site| site.scene().left_out);
        let told = told.chain(islands.formerly_left_out.iter().copied());
        let returns = Returns {
            absent: islands.register.absent(),
            told: told.map(u64::from).collect(),
        };
        let evidence = Islands::new(shown, intents.collect());
        let evidence = evidence.with_former(&former);
        evidence.with_returns(returns)
    }

    /// The node that a client asks.
    fn node_of(&self, client: u64) -> Option<NodeId> {
        let site = self.askers.site_of(client)?;
        self.stage.of_site(site).next()
    }

    /// An operation as a write, unless it surely wrote nothing.
    fn intent(&self, islands: &Archipelago, operation: &Operation<Call, Reply>) -> Option<Intent> {
        let acknowledged = match &operation.outcome {
            Outcome::Returned {
                reply: Reply::Wrote { revision },
                ..
            } => Some(*revision),
            Outcome::Unknown => None,
            Outcome::Returned { .. } | Outcome::Refused => return None,
        };
        let node = self.node_of(operation.client)?;
        let call = &operation.call;
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        match *call {
            Call::Put { key, .. } | Call::Add { key, .. } => puts.push(key),
            Call::Txn { key, other, .. } => puts.extend([key, other]),
            Call::Delete { key, .. } => deletes.push(key),
            Call::Range { .. } | Call::Compact { .. } | Call::Attach { .. } | Call::Gone { .. } => {
                return None;
            }
        }
        puts.retain(|key| self.has_marks(islands, *key));
        deletes.retain(|key| self.has_marks(islands, *key));
        puts.extend(islands.isles.trace(node, call));
        puts.dedup();
        Some(Intent {
            mark: call.mark()?,
            site: islands.isles.place(node),
            puts: puts.into_iter().map(u64::from).collect(),
            deletes: deletes.into_iter().map(u64::from).collect(),
            acknowledged,
        })
    }

    /// What was asked of counters.
    fn counts(&self, islands: &Archipelago) -> Counts {
        let mut counts = Counts::new();
        if islands.isles.kind != Type::Counter {
            return counts;
        }
        let mut add = |key: crate::calls::Key, mark, count| {
            counts
                .entry(u64::from(key))
                .or_default()
                .push((mark, count));
        };
        let base = |mark: Mark| Count::Base(mark.cast_signed());
        for operation in self.askers.history.operations() {
            match operation.call {
                Call::Put { key, mark } => add(key, mark, base(mark)),
                Call::Txn {
                    key, other, mark, ..
                } => {
                    add(key, mark, base(mark));
                    if other != key {
                        add(other, mark, base(mark));
                    }
                }
                Call::Add { key, amount, mark } => add(key, mark, Count::Add(i64::from(amount))),
                Call::Delete { key, mark } => add(key, mark, Count::Delete),
                Call::Range { .. }
                | Call::Compact { .. }
                | Call::Attach { .. }
                | Call::Gone { .. } => {}
            }
        }
        counts
    }

    /// What was answered at a node, in the order in which it was asked.
    fn all_answered(&self, node: NodeId) -> Vec<Answered> {
        let operations = self.askers.history.operations().iter();
        let answered = operations.filter_map(|one| {
            let reply = one.reply()?;
            let is_here = self.node_of(one.client) == Some(node);
            is_here.then(|| {
                Some(Answered {
                    client: one.client,
                    invoked: one.invoked,
                    returned: one.returned_at()?,
                    revision: reply.revision(),
                    wrote: matches!(reply, Reply::Wrote { .. }),
                })
            })?
        });
        answered.collect()
    }
}
