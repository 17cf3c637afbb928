//! Islands under rehearsal: what each showed, and what the judges make of it.
//!
//! Each island has its own revisions, so each has a list of what it showed. A node that starts
//! again is told of everything once more, and must say the same.

use std::collections::{BTreeMap, BTreeSet};

use holm_base::{NodeId, Time};
use holm_check::islands::{Shown, Unanswered, View, convergence, oracle};
use holm_check::{Seen, Stream, Violation, watch};
use holm_local_first::AHEAD_MAX;

use super::Run;
use super::register::Register;
use crate::calls::{Change, Key, Reply};
use crate::scenario::Check;
use crate::site::{Event, Isles, LAST_KEY, Scene, Shore, unix_ms};

/// So many revisions of an island are read in the end, to be held against its events.
const VIEWS_MAX: usize = 2_000;

/// How an island's time is beside that of most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    Right,
    Ahead,
    Behind,
}

/// All islands of a run.
#[derive(Clone, Debug)]
pub(crate) struct Archipelago {
    pub(super) isles: Isles,
    /// What each revision changed, island by island.
    shown: Vec<BTreeMap<u64, Change>>,
    /// The same of those whose data were set back, as it was then.
    former: BTreeMap<usize, BTreeMap<u64, Change>>,
    /// Which concurrent writes such an island had told of by then, and at which of its revisions.
    pub(super) formerly_met: BTreeMap<(usize, Key, u64), u64>,
    /// And the keys of which it had told that a write was left out.
    pub(super) formerly_left_out: BTreeSet<Key>,
    pub(super) elections: u64,
    /// Whose updates some island has said that it holds back.
    pub(super) held: BTreeSet<u8>,
    /// When each was last not well, or began.
    unwell: Vec<Time>,
    /// How often each has ended.
    ends: Vec<u64>,
    /// What was asked and not answered.
    pub(super) unanswered: Vec<Unanswered>,
    pub(super) register: Register,
}

pub(super) fn index(node: NodeId) -> usize {
    usize::try_from(node.value() - 1).expect("nodes are few")
}

impl Archipelago {
    pub(crate) fn new(nodes: usize, isles: Isles, register: Register) -> Self {
        Self {
            isles,
            shown: vec![BTreeMap::new(); isles.among(nodes)],
            former: BTreeMap::new(),
            formerly_met: BTreeMap::new(),
            formerly_left_out: BTreeSet::new(),
            elections: 0,
            held: BTreeSet::new(),
            unwell: vec![Time::ZERO; nodes],
            ends: vec![0; nodes],
            unanswered: Vec::new(),
            register,
        }
    }

    /// A node tells what it applied: for the first time, or once more, after another of its island
    /// or after it ended.
    fn applied(&mut self, node: NodeId, changes: Vec<Change>) -> Result<(), Violation> {
        let shown = &mut self.shown[self.isles.place(node)];
        if let Some(through) = self.register.told_through(node) {
            return retell(node, shown, (through, changes));
        }
        for change in changes {
            let newest = shown.last_key_value().map_or(0, |(revision, _)| *revision);
            let known = shown.get(&change.revision);
            let is_new = known.is_none() && change.revision > newest;
            if !is_new && known != Some(&change) {
                let place = format!("{node} has {change:?}, and its island had {known:?} before");
                return broken("watch", "who tells again tells the same", place);
            }
            shown.insert(change.revision, change);
        }
        Ok(())
    }

    /// The newest revision that a node has told of.
    pub(super) fn newest_shown(&self, node: NodeId) -> u64 {
        let newest = self.shown[self.isles.place(node)].last_key_value();
        newest.map_or(0, |(revision, _)| *revision)
    }

    /// A request was not answered.
    pub(super) fn unanswered(&mut self, node: NodeId, (asked, ended): (Time, Time)) {
        if !self.register.must_answer(node) {
            return;
        }
        self.unanswered.push(Unanswered {
            site: self.isles.place(node),
            asked,
            ended,
            unwell: self.unwell[index(node)],
        });
    }

    /// Judges what one watcher received.
    pub(super) fn judge_stream(&self, node: NodeId, stream: &Stream<Change>) -> Option<Violation> {
        let newest = stream.seen.iter().filter_map(|seen| match seen {
            Seen::Events { revision, .. } => Some(*revision),
            Seen::Progress { .. } | Seen::Compacted { .. } => None,
        });
        let end = newest.max().unwrap_or(0).max(stream.through) + 1;
        let shown = self.shown[self.isles.place(node)].range(stream.start.min(end)..end);
        let happened = shown.map(|(revision, change)| (*revision, vec![change.clone()]));
        watch(&happened.collect(), 0, stream).err()
    }

    /// The data of a node are set back: what it showed, and told of, is kept for the judges.
    pub(super) fn forgets(&mut self, node: NodeId, scene: Scene) {
        let place = self.isles.place(node);
        let named = scene.named.into_iter();
        let named = named.map(|((key, mark), at)| ((place, key, mark), at));
        self.formerly_met.extend(named);
        self.formerly_left_out.extend(scene.left_out);
        self.former.insert(place, self.shown[place].clone());
    }

    /// What each island showed, as judges see it.
    pub(super) fn all_shown(&self) -> Vec<Vec<Shown>> {
        self.shown.iter().map(as_shown).collect()
    }

    /// What islands had shown before their data were set back.
    pub(super) fn former_shown(&self) -> BTreeMap<usize, Vec<Shown>> {
        let all = self.former.iter();
        all.map(|(site, it)| (*site, as_shown(it))).collect()
    }
}

fn as_shown(shown: &BTreeMap<u64, Change>) -> Vec<Shown> {
    let one = |change: &Change| Shown {
        revision: change.revision,
        touches: change
            .touches
            .iter()
            .map(|touch| {
                let mark = (!touch.is_delete).then_some(touch.mark);
                (u64::from(touch.key), mark)
            })
            .collect(),
    };
    shown.values().map(one).collect()
}

/// A node whose data were set back tells what it has, which is less than it had, and then other
/// things in the place of the rest.
fn retell(
    node: NodeId,
    shown: &mut BTreeMap<u64, Change>,
    (through, changes): (&mut u64, Vec<Change>),
) -> Result<(), Violation> {
    for change in changes {
        let revision = change.revision;
        let is_known = shown.get(&revision) == Some(&change);
        if revision <= *through {
            if !is_known {
                let place = format!("{node} has {change:?} in the copy, and told otherwise before");
                return broken("watch", "a start tells the same again", place);
            }
            continue;
        }
        shown.retain(|known, _| *known <= *through || (is_known && *known >= revision));
        shown.insert(revision, change);
        *through = revision;
    }
    Ok(())
}

fn broken<T>(judge: &'static str, rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation { judge, rule, place })
}

impl Run<'_> {
    /// Something was told by an island; whether that is all there is to it.
    pub(super) fn note_island(&mut self, node: NodeId, event: &Event) -> bool {
        let Some(islands) = &mut self.islands else {
            return false;
        };
        match event {
            Event::Applied(changes) => {
                let found = islands.applied(node, changes.clone());
                self.ledger.violations.extend(found.err());
                true
            }
            Event::Held(slot) => {
                islands.held.insert(*slot);
                true
            }
            Event::Forked(slot) | Event::Astray(slot) if islands.register.was_set_back(*slot) => {
                true
            }
            Event::Astray(_) if islands.register.says_less_than_it_has(node) => true,
            Event::Astray(slot) => {
                let place = format!("{node} says that what it has of island {slot} does not count");
                let rule = "an island has of others what counts";
                self.ledger.violate("invariants", rule, place);
                true
            }
            Event::Forked(slot) => {
                let place = format!("{node} says that island {slot} told two stories");
                self.ledger
                    .violate("invariants", "no island tells two stories", place);
                true
            }
            Event::Raft(event) => {
                if matches!(event, holm_raft::Event::LeaderElected { .. }) {
                    islands.elections += 1;
                }
                self.goals.happened(&super::facts::raft(node, event));
                true
            }
            Event::Replaced(_) | Event::Bound(_) | Event::Broken(_) | Event::Failed(_) => false,
        }
    }

    /// Notes which islands are not well.
    pub(super) fn look_after_islands(&mut self) {
        let Some(islands) = &mut self.islands else {
            return;
        };
        let now = self.world.now();
        let mut moved = Vec::new();
        for node in self.stage.ids() {
            let ends = self.world.ends(node);
            let has_ended = std::mem::replace(&mut islands.ends[index(node)], ends) != ends;
            if has_ended || !self.world.is_well(node) {
                islands.unwell[index(node)] = now;
            }
            if let Some(site) = self.world.node(node) {
                islands.register.is_up(node, site);
                moved.extend(islands.register.has_moved(node, site).then_some(node));
            }
        }
        // Clients find another cluster there, and list anew.
        moved.into_iter().for_each(|node| self.forget_streams(node));
    }

    /// How each island stands; none while one is down.
    ///
    /// Whose time is too far ahead of most clocks is held back by others, and whose clock is too
    /// far behind holds others back: of these two nothing is demanded but that the others agree.
    pub(super) fn shores(&self) -> Option<Vec<(NodeId, Shore, Clock)>> {
        let nodes = self.member_islands();
        let shores = nodes.iter().map(|node| self.world.node(*node)?.shore());
        let shores: Vec<Shore> = shores.collect::<Option<_>>()?;
        let walls = nodes.iter().map(|node| self.world.wall(*node).nanos);
        let walls: Vec<u64> = walls.map(|nanos| unix_ms(nanos / 1_000_000)).collect();
        let mut sorted = walls.clone();
        sorted.sort_unstable();
        let most = sorted[(sorted.len() - 1) / 2];
        let bound = u64::try_from(AHEAD_MAX.as_millis()).expect("a few seconds");
        let clock = |shore: &Shore, wall: u64| {
            if shore.unix_ms > most.saturating_add(bound) {
                Clock::Ahead
            } else if wall.saturating_add(bound) < most {
                Clock::Behind
            } else {
                Clock::Right
            }
        };
        let all = nodes.into_iter().zip(shores).zip(walls);
        let all = all.map(|((node, shore), wall)| {
            let clock = clock(&shore, wall);
            (node, shore, clock)
        });
        Some(all.collect())
    }

    /// Whether all islands have taken in all that there is, but for what they hold back.
    pub(super) fn are_one(&self) -> bool {
        if !self.are_sites_settled() {
            return false;
        }
        let Some(shores) = self.shores() else {
            return false;
        };
        let Some(islands) = &self.islands else {
            return false;
        };
        let ahead: Vec<u8> = shores
            .iter()
            .filter(|(_, _, clock)| *clock == Clock::Ahead)
            .map(|(node, _, _)| islands.register.slot(*node).value())
            .collect();
        let right = shores.iter().filter(|(_, _, clock)| *clock == Clock::Right);
        let mut vectors = right.map(|(_, shore, _)| {
            let all = shore.vector.iter();
            all.filter(|(slot, _)| !ahead.contains(slot))
                .collect::<Vec<_>>()
        });
        let first = vectors.next();
        vectors.all(|vector| first.as_ref() == Some(&vector))
    }

    /// Judges a run of islands.
    pub(super) fn judge_islands(&mut self) {
        if !self.ledger.violations.is_empty() {
            return;
        }
        self.judged = self.member_islands();
        let sites = self.sites_in_words();
        let Some(islands) = self.islands.take() else {
            return;
        };
        let judges = |check| self.scenario.judges(check);
        let mut found = None;
        if judges(Check::Heals) {
            found = found.or_else(|| self.judge_rest(&sites));
        }
        if judges(Check::Steady) {
            found = found.or_else(|| self.judge_steady());
        }
        if judges(Check::Watch) {
            found = found.or_else(|| self.judge_views(&islands));
        }
        if judges(Check::Convergence) && self.converged.is_some() {
            let states = self.scenes().into_iter();
            let states = states.map(|(_, name, scene)| (name, scene.bytes));
            let states: Vec<_> = states.collect();
            found = found.or_else(|| convergence(&states).err());
        }
        found = found.or_else(|| self.judge_intents(&islands));
        self.ledger.violations.extend(found);
        self.islands = Some(islands);
        if judges(Check::Watch) {
            self.judge_watches();
        }
    }

    /// Requests are answered again, and all islands have everything, in time.
    fn judge_rest(&self, sites: &str) -> Option<Violation> {
        let stopped = self.healed.unwrap_or_else(|| self.world.now());
        let in_time = |at: Option<Time>| at.is_some_and(|at| at.since(stopped) <= self.rest());
        let rule = if !in_time(self.progressed) {
            "requests are answered again"
        } else if !in_time(self.converged) {
            "all islands come to have everything"
        } else {
            return None;
        };
        let place = format!(
            "faults ended {stopped:?}; answered {:?}, all had everything {:?}; {:?}; {sites}",
            self.progressed,
            self.converged,
            self.shores()
        );
        broken::<()>("heals", rule, place).err()
    }

    /// What each island shows whose clock was right enough, with its name.
    pub(super) fn scenes(&self) -> Vec<(NodeId, String, Scene)> {
        let Some(shores) = self.shores() else {
            return Vec::new();
        };
        let is_right = |(_, _, clock): &(NodeId, Shore, Clock)| *clock == Clock::Right;
        let right = shores.into_iter().filter(is_right);
        let scenes = right.filter_map(|(node, _, _)| {
            let name = self.scenario.sites[self.stage.site(node)].name.clone();
            Some((node, name, self.world.node(node)?.scene()))
        });
        scenes.collect()
    }

    /// Every read, and the view at many revisions, is what the events before it make.
    fn judge_views(&self, islands: &Archipelago) -> Option<Violation> {
        let all = islands.all_shown();
        for node in self.stage.ids() {
            if islands.register.is_a_copy(node) {
                // What it showed before is in no copy.
                continue;
            }
            let shown = &all[islands.isles.place(node)];
            let mut views = self.views_read(node);
            let step = shown.len().div_ceil(VIEWS_MAX).max(1);
            for one in shown.iter().rev().step_by(step) {
                let site = self.world.node(node)?;
                // What is compacted is not there to be read; and who lags has not come to the last.
                if let Some(reply) = site.read_at((0, LAST_KEY), one.revision) {
                    views.extend(view((0, LAST_KEY), &reply));
                }
            }
            if let Err(mut violation) = oracle(shown, views) {
                violation.place = format!("{node}: {}", violation.place);
                return Some(violation);
            }
        }
        None
    }

    /// What clients read at a node.
    fn views_read(&self, node: NodeId) -> Vec<View> {
        let site = self.stage.site(node);
        let operations = self.askers.history.operations().iter();
        let views = operations.filter_map(|operation| {
            let keys = operation.call.reads()?;
            let is_here = self.askers.site_of(operation.client) == Some(site);
            is_here.then(|| view(keys, operation.reply()?)).flatten()
        });
        views.collect()
    }
}

fn view((first, last): (u32, u32), reply: &Reply) -> Option<View> {
    let Reply::Found { revision, cells } = reply else {
        return None;
    };
    let cells = cells.iter();
    Some(View {
        revision: *revision,
        keys: (u64::from(first), u64::from(last)),
        cells: cells
            .map(|(key, cell)| (u64::from(*key), (cell.mark, cell.made)))
            .collect(),
    })
}
