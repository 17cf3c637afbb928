//! What the engines hand to the log's thread: a lane for each keyspace, emptied together.
//!
//! What would surprise: lanes have no order among each other. What waits in all of them goes out
//! in one flush, so that many keyspaces cost one sync.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holm_base::{GroupId, NodeId, Op, WriteId};
use holm_sequencer::Record;

use crate::inbox::Inbox;

/// How long to sleep at most when there is nothing to do.
const IDLE: Duration = Duration::from_secs(1);

/// After how much writing a cut is not put off any longer: under load that never pauses the log
/// would grow for as long as that lasts.
pub(crate) const CUT_BYTES: u64 = 16 << 20;

/// Entries that a peer lacks and that are in memory no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) first: Op,
    pub(crate) last: Op,
    pub(crate) bytes_max: u64,
    pub(crate) peer: NodeId,
}

/// What one keyspace waits for.
#[derive(Debug)]
struct Lane {
    /// Where its reports go.
    inbox: Arc<Inbox>,
    records: Vec<Record>,
    through: WriteId,
    /// Entries up to here are not needed any more.
    cut: Op,
    /// The cut that was last handed to the log.
    was_cut: Op,
    /// What peers lack, oldest first; at most one for each.
    fetches: VecDeque<Fetch>,
}

#[derive(Debug, Default)]
struct Waiting {
    lanes: BTreeMap<GroupId, Lane>,
    /// The keyspace that was last read for: the next one comes first.
    fetched: Option<GroupId>,
    /// Whether something else wrote the log, so that preparing is to be looked at.
    is_used: bool,
    is_stopping: bool,
    is_given_up: bool,
}

/// The records of one keyspace that are to be durable.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) group: GroupId,
    pub(crate) records: Vec<Record>,
    /// The last of them.
    pub(crate) through: WriteId,
    /// Whom to tell.
    pub(crate) inbox: Arc<Inbox>,
}

/// How far what can be put off has come.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Bytes written since the log was last cut.
    pub(crate) written: u64,
    pub(crate) is_prepared: bool,
    /// Whether the last task was to read.
    pub(crate) has_fetched: bool,
}

/// What the log's thread finds to do.
#[derive(Debug)]
pub(crate) enum Task {
    Flush(Vec<Batch>),
    Cut(Vec<(GroupId, Op)>),
    Fetch(GroupId, Fetch, Arc<Inbox>),
    Prepare,
    Stop,
}

/// What the engines hand to the log writer. Bounded by what the sequencers let wait.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a keyspace its lane; reports go to `inbox`.
    pub(crate) fn enter(&self, group: GroupId, inbox: Arc<Inbox>) {
        let lane = Lane {
            inbox,
            records: Vec::new(),
            through: WriteId::ZERO,
            cut: Op::ZERO,
            was_cut: Op::ZERO,
            fetches: VecDeque::new(),
        };
        let before = self.lock().lanes.insert(group, lane);
        assert!(before.is_none(), "a keyspace is opened once");
    }

    /// Takes a keyspace's lane away. What still waits there is not written: nobody was told that
    /// it is, and nobody waits for it any more.
    pub(crate) fn leave(&self, group: GroupId) {
        drop(self.lock().lanes.remove(&group));
    }

    /// Adds records (draining `records`), of which `through` is the last.
    pub(crate) fn persist(&self, group: GroupId, records: &mut Vec<Record>, through: WriteId) {
        self.with(group, |lane| {
            lane.records.append(records);
            lane.through = through;
        });
    }

    /// Entries up to `through` are not needed any more. Done when there is nothing to write, or
    /// when much was written meanwhile.
    pub(crate) fn cut(&self, group: GroupId, through: Op) {
        self.with(group, |lane| lane.cut = lane.cut.max(through));
    }

    /// Reads entries back, and gives them to the engine.
    pub(crate) fn fetch(&self, group: GroupId, fetch: Fetch) {
        self.with(group, |lane| {
            lane.fetches.retain(|it| it.peer != fetch.peer);
            lane.fetches.push_back(fetch);
        });
    }

    fn with(&self, group: GroupId, act: impl FnOnce(&mut Lane)) {
        let mut waiting = self.lock();
        let lane = waiting.lanes.get_mut(&group);
        act(lane.expect("an engine has its lane until it leaves"));
        drop(waiting);
        self.bell.notify_one();
    }

    /// Up to where entries are not needed any more, where that is further than the log knows.
    pub(crate) fn cuts_wanted(&self) -> Vec<(GroupId, Op)> {
        self.lock().take_cuts()
    }

    /// Waits for something to do. Writing comes first, unless a cut was put off for long.
    pub(crate) fn next(&self, chores: &Chores) -> Task {
        let mut waiting = self.lock();
        loop {
            if let Some(task) = waiting.task(chores) {
                return task;
            }
            let (woken, timeout) = self
                .bell
                .wait_timeout(waiting, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            waiting = woken;
            if timeout.timed_out() {
                return Task::Prepare;
            }
        }
    }

    /// The log was written elsewhere and has fallen behind with preparing.
    pub(crate) fn prepare(&self) {
        self.lock().is_used = true;
        self.bell.notify_one();
    }

    /// Ends the thread once all is written.
    pub(crate) fn stop(&self) {
        self.lock().is_stopping = true;
        self.bell.notify_one();
    }

    /// Ends the thread though not all is written: something has failed, and the process ends. A
    /// write that is under way is finished; one that waits for room is not.
    pub(crate) fn give_up(&self) {
        self.lock().is_given_up = true;
        self.bell.notify_one();
    }

    /// Drops the batches of keyspaces that have left. Only while the log is held: a keyspace is
    /// released from it after it has left, and then its records must not be written.
    pub(crate) fn drop_left(&self, batches: &mut Vec<Batch>) {
        let waiting = self.lock();
        batches.retain(|batch| waiting.lanes.contains_key(&batch.group));
    }

    /// Whether nobody waits any more for what one of these wrote.
    pub(crate) fn is_given_up(&self, batches: &[Batch]) -> bool {
        let waiting = self.lock();
        let has_left = |batch: &Batch| !waiting.lanes.contains_key(&batch.group);
        waiting.is_given_up || batches.iter().all(has_left)
    }

    /// What waits to be flushed, for tests that stand in for the log's thread.
    #[cfg(test)]
    pub(crate) fn take_waiting(&self, group: GroupId) -> Option<(Vec<Record>, WriteId)> {
        let mut waiting = self.lock();
        let lane = waiting.lanes.get_mut(&group)?;
        let records = core::mem::take(&mut lane.records);
        (!records.is_empty()).then_some((records, lane.through))
    }

    #[cfg(test)]
    pub(crate) fn has(&self, group: GroupId) -> bool {
        self.lock().lanes.contains_key(&group)
    }
}

impl Waiting {
    /// What is to be done now.
    fn task(&mut self, chores: &Chores) -> Option<Task> {
        if self.is_given_up {
            return Some(Task::Stop);
        }
        let is_cut_wanted = self.lanes.values().any(|lane| lane.cut > lane.was_cut);
        if is_cut_wanted && chores.written >= CUT_BYTES {
            return Some(Task::Cut(self.take_cuts()));
        }
        let has_records = self.lanes.values().any(|lane| !lane.records.is_empty());
        // They take turns with writing: neither waits for the other to end.
        if (!has_records || !chores.has_fetched)
            && !self.is_stopping
            && let Some(fetch) = self.take_fetch()
        {
            return Some(fetch);
        }
        if has_records {
            return Some(Task::Flush(self.take_records()));
        }
        if self.is_stopping {
            return Some(Task::Stop);
        }
        if is_cut_wanted {
            return Some(Task::Cut(self.take_cuts()));
        }
        let must_prepare = core::mem::take(&mut self.is_used) || !chores.is_prepared;
        must_prepare.then_some(Task::Prepare)
    }

    fn take_records(&mut self) -> Vec<Batch> {
        let full = self.lanes.iter_mut();
        let full = full.filter(|(_group, lane)| !lane.records.is_empty());
        full.map(|(&group, lane)| Batch {
            group,
            records: core::mem::take(&mut lane.records),
            through: lane.through,
            inbox: Arc::clone(&lane.inbox),
        })
        .collect()
    }

    fn take_cuts(&mut self) -> Vec<(GroupId, Op)> {
        let cut = |(&group, lane): (&GroupId, &mut Lane)| {
            let is_wanted = lane.cut > lane.was_cut;
            lane.was_cut = lane.cut;
            is_wanted.then_some((group, lane.cut))
        };
        self.lanes.iter_mut().filter_map(cut).collect()
    }

    /// Keyspaces take turns: one whose peers never stop lacking delays no other's for long.
    fn take_fetch(&mut self) -> Option<Task> {
        let lacking = self
            .lanes
            .iter()
            .filter(|(_group, lane)| !lane.fetches.is_empty());
        let group = lacking
            .map(|(&group, _lane)| group)
            .min_by_key(|&it| (Some(it) <= self.fetched, it))?;
        self.fetched = Some(group);
        let lane = self.lanes.get_mut(&group)?;
        let fetch = lane.fetches.pop_front()?;
        Some(Task::Fetch(group, fetch, Arc::clone(&lane.inbox)))
    }
}

#[cfg(test)]
mod tests {
    use holm_base::Term;

    use super::*;

    const ONE: GroupId = GroupId::new(1);
    const TWO: GroupId = GroupId::new(2);

    fn write(outbox: &Outbox, group: GroupId) {
        let records = &mut vec![Record::of_term(Term::new(1))];
        outbox.persist(group, records, WriteId::new(1));
    }

    /// An outbox with something to write and something to cut.
    fn busy() -> Outbox {
        let outbox = Outbox::default();
        outbox.enter(ONE, Arc::new(Inbox::new(1)));
        write(&outbox, ONE);
        outbox.cut(ONE, Op::new(7));
        outbox
    }

    fn is_cut(task: &Task) -> bool {
        matches!(task, Task::Cut(cuts) if *cuts == [(ONE, Op::new(7))])
    }

    #[test]
    fn what_is_given_up_is_not_written_later() {
        let outbox = busy();
        outbox.give_up();
        assert!(matches!(outbox.next(&Chores::default()), Task::Stop));
    }

    #[test]
    fn writing_comes_before_a_cut() {
        let outbox = busy();
        let chores = Chores::default();
        assert!(matches!(outbox.next(&chores), Task::Flush(..)));
        assert!(is_cut(&outbox.next(&chores)));
    }

    #[test]
    fn a_cut_does_not_wait_for_an_idle_moment_for_ever() {
        let outbox = busy();
        let chores = Chores {
            written: CUT_BYTES,
            ..Chores::default()
        };
        assert!(is_cut(&outbox.next(&chores)));
        assert!(matches!(outbox.next(&chores), Task::Flush(..)));
    }

    #[test]
    fn what_waits_in_all_lanes_goes_out_together() {
        let outbox = busy();
        outbox.enter(TWO, Arc::new(Inbox::new(1)));
        write(&outbox, TWO);
        let task = outbox.next(&Chores::default());
        let Task::Flush(batches) = task else {
            panic!("{task:?}");
        };
        let groups: Vec<GroupId> = batches.iter().map(|it| it.group).collect();
        assert_eq!(groups, [ONE, TWO]);
    }

    #[test]
    fn keyspaces_take_turns_in_what_their_peers_lack() {
        let outbox = Outbox::default();
        let lacked = |peer| Fetch {
            first: Op::new(1),
            last: Op::new(2),
            bytes_max: 1,
            peer: NodeId::new(peer),
        };
        for group in [ONE, TWO] {
            outbox.enter(group, Arc::new(Inbox::new(1)));
        }
        outbox.fetch(TWO, lacked(2));
        let mut served = Vec::new();
        for _turn in 0..4 {
            // The first keyspace's peer lacks something again and again.
            outbox.fetch(ONE, lacked(2));
            match outbox.next(&Chores::default()) {
                Task::Fetch(group, ..) => served.push(group),
                task => panic!("{task:?}"),
            }
        }
        assert_eq!(served, [ONE, TWO, ONE, ONE]);
    }

    #[test]
    fn who_has_left_is_not_waited_for() {
        let outbox = busy();
        outbox.enter(TWO, Arc::new(Inbox::new(1)));
        write(&outbox, TWO);
        outbox.leave(ONE);
        let task = outbox.next(&Chores::default());
        let Task::Flush(batches) = task else {
            panic!("{task:?}");
        };
        assert_eq!(batches.len(), 1, "{batches:?}");
        assert!(!outbox.is_given_up(&batches));
        outbox.leave(TWO);
        assert!(outbox.is_given_up(&batches));
        let mut batches = batches;
        outbox.drop_left(&mut batches);
        assert!(batches.is_empty(), "what it took along is not written");
    }
}
