//! One watcher and one stream, as the hub remembers them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holm_base::{Revision, Time};

use super::answer::WatchAnswer;
use super::{Wake, WatchRequest};
use crate::root::ChangeKind;

/// How many ring entries a watcher notes before it looks through the ring instead.
const HITS_MAX: usize = 16;

/// What else a watcher wants, and whom it is.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: u32,
    pub(super) id: i64,
    /// Tells this watcher from a later one in the same slot.
    pub(super) serial: u64,
    pub(super) group: u32,
    pub(super) place: u32,
    /// Nothing below is of interest, or it was delivered.
    pub(super) start: Revision,
    /// Ring entries to deliver, in order; the revision of the first is `since`.
    pub(super) hits: Vec<u64>,
    pub(super) since: Revision,
    /// Everything from here on is undelivered and not noted.
    pub(super) from: Option<Revision>,
    /// Whether the ring is not enough: a version before must be looked up.
    pub(super) must_read: bool,
    /// Whether the stream's queue, or a slice of history, holds it.
    pub(super) is_ready: bool,
    pub(super) wants: Wants,
    /// When it was last sent anything.
    pub(super) told: Time,
    /// Where the stream's progress notifications hold it.
    pub(super) notify_at: Option<Time>,
}

/// What a watcher wants of events.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the protocol has independent switches"
)]
pub(super) struct Wants {
    pub(super) previous: bool,
    pub(super) pieces: bool,
    puts: bool,
    deletes: bool,
}

impl Wants {
    pub(super) const fn new(request: &WatchRequest) -> Self {
        Self {
            previous: request.prev_kv,
            pieces: request.fragment,
            puts: !request.no_put,
            deletes: !request.no_delete,
        }
    }

    pub(super) const fn includes(self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Put => self.puts,
            ChangeKind::Delete => self.deletes,
        }
    }
}

impl Watcher {
    /// Whether something may be undelivered.
    pub(super) const fn is_pending(&self) -> bool {
        self.from.is_some() || !self.hits.is_empty()
    }

    /// The first revision that may be undelivered.
    pub(super) fn behind_from(&self) -> Revision {
        self.from.unwrap_or(self.since)
    }

    /// Notes a ring entry of a revision that it wants.
    pub(super) fn note(&mut self, number: u64, main: Revision) {
        if self.from.is_some() {
            return;
        }
        if self.hits.is_empty() {
            self.since = main;
        }
        if self.hits.len() < HITS_MAX {
            self.hits.push(number);
        } else {
            self.fall_back(self.since);
        }
    }

    /// Forgets what was noted: everything from a revision on is to be looked up.
    pub(super) fn fall_back(&mut self, from: Revision) {
        self.hits.clear();
        self.from = Some(from);
    }

    /// Everything below `reached` is delivered.
    pub(super) fn advance(&mut self, reached: Revision, published: Revision) {
        self.start = self.start.max(reached);
        self.must_read = false;
        self.from = (reached <= published).then_some(reached);
    }
}

/// One client's stream.
pub(super) struct Stream {
    pub(super) serial: u64,
    pub(super) wake: Wake,
    /// Answers that are no events, in order.
    pub(super) outbox: VecDeque<WatchAnswer>,
    /// Watchers with something to deliver: slot and serial.
    pub(super) ready: VecDeque<(u32, u64)>,
    /// Slots by watch id.
    pub(super) watchers: BTreeMap<i64, u32>,
    /// Watches that compaction ended and the client has not cancelled since: their ids are
    /// taken, and cancelling them is answered.
    pub(super) ended: BTreeSet<i64>,
    pub(super) next_id: i64,
    pub(super) is_woken: bool,
    /// Whether it waits for its turn to read history.
    pub(super) is_waiting: bool,
    pub(super) wants_progress: bool,
    /// When which watcher is to be told the revision.
    pub(super) notify: BTreeSet<(Time, i64)>,
}

impl Stream {
    pub(super) fn new(serial: u64, wake: Wake) -> Self {
        Self {
            serial,
            wake,
            outbox: VecDeque::new(),
            ready: VecDeque::new(),
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            next_id: 0,
            is_woken: false,
            is_waiting: false,
            wants_progress: false,
            notify: BTreeSet::new(),
        }
    }

    /// Whether a watch has the id, or had it and was not cancelled by the client.
    pub(super) fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.ended.contains(&id)
    }

    /// Remembers a watch that compaction has ended; beyond `max` the lowest id is forgotten.
    pub(super) fn end(&mut self, id: i64, max: usize) {
        self.ended.insert(id);
        if self.ended.len() > max {
            self.ended.pop_first();
        }
    }

    /// The lowest id that was not given out and is free.
    pub(super) fn pick_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Stream")
            .field("watchers", &self.watchers.len())
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}
