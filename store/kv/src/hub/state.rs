//! What the hub's lock guards: streams, watchers, the ring, and who gets what.

mod deliver;

use std::collections::{BTreeSet, VecDeque};

use holm_base::{Revision, Time};

use super::answer::WatchAnswer;
use super::groups::{Groups, index};
use super::ring::{Entry, Ring};
use super::watcher::{Stream, Wants, Watcher};
use super::{HubConfig, StreamId, Wake, WatchRequest};
use crate::range::KeyRange;
use crate::view::View;

/// The text for a start that cannot be: clients look for it.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const TOO_MANY: &str = "etcdserver: too many requests";

/// Everything the hub knows.
#[derive(Debug)]
pub(super) struct State {
    /// Everything up to here is published.
    revision: Revision,
    ring: Ring,
    groups: Groups,
    watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    wanting_previous: usize,
    streams: Vec<Option<Stream>>,
    free_streams: Vec<u32>,
    /// Rises with each stream and watcher.
    serial: u64,
    /// Streams whose request for progress waits for a publication.
    awaiting: BTreeSet<StreamId>,
    /// Streams that read history now, and those that wait for their turn.
    catching: usize,
    waiting: VecDeque<StreamId>,
    found: Vec<u32>,
    /// Events given to streams.
    sent: u64,
    config: HubConfig,
}

impl State {
    pub(super) fn new(config: &HubConfig, revision: Revision) -> Self {
        Self {
            revision,
            ring: Ring::new(config.ring_bytes, config.ring_revisions, revision.next()),
            groups: Groups::default(),
            watchers: Vec::new(),
            free: Vec::new(),
            wanting_previous: 0,
            streams: Vec::new(),
            free_streams: Vec::new(),
            serial: 0,
            awaiting: BTreeSet::new(),
            catching: 0,
            waiting: VecDeque::new(),
            found: Vec::new(),
            sent: 0,
            config: config.clone(),
        }
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.len() - self.free.len()
    }

    pub(super) fn slow_watchers(&self) -> usize {
        let watchers = self.watchers.iter().flatten();
        watchers.filter(|watcher| watcher.from.is_some()).count()
    }

    pub(super) const fn events_sent(&self) -> u64 {
        self.sent
    }

    pub(super) const fn wanting_previous(&self) -> usize {
        self.wanting_previous
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.len() - self.free_streams.len()
    }

    pub(super) fn wants_previous(&self, key: &[u8]) -> bool {
        self.groups.wants_previous(key)
    }

    pub(super) fn open_stream(&mut self, wake: Wake) -> StreamId {
        let serial = self.next_serial();
        let stream = Some(Stream::new(serial, wake));
        let slot = if let Some(slot) = self.free_streams.pop() {
            self.streams[index(slot)] = stream;
            slot
        } else {
            self.streams.push(stream);
            u32::try_from(self.streams.len() - 1).expect("streams are fewer than connections")
        };
        StreamId { slot, serial }
    }

    pub(super) fn close_stream(&mut self, id: StreamId) {
        let Some(stream) = self.stream_mut(id) else {
            return;
        };
        let slots: Vec<u32> = stream.watchers.values().copied().collect();
        for slot in slots {
            self.remove(slot);
        }
        self.streams[index(id.slot)] = None;
        self.free_streams.push(id.slot);
        self.awaiting.remove(&id);
        self.waiting.retain(|it| *it != id);
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(index(id.slot))?.as_mut();
        stream.filter(|it| it.serial == id.serial)
    }

    fn stream(&self, id: StreamId) -> Option<&Stream> {
        let stream = self.streams.get(index(id.slot))?.as_ref();
        stream.filter(|it| it.serial == id.serial)
    }

    pub(super) fn wake_of(&self, id: StreamId) -> Option<Wake> {
        self.stream(id).map(|it| Wake::clone(&it.wake))
    }

    pub(super) fn outbox_len(&self, id: StreamId) -> usize {
        self.stream(id).map_or(0, |it| it.outbox.len())
    }

    pub(super) fn create(
        &mut self,
        id: StreamId,
        request: WatchRequest,
        (now, view): (Time, &View),
        config: &HubConfig,
    ) {
        let (revision, is_full) = (view.revision(), self.watchers() >= config.watchers_max);
        let Some(stream) = self.stream_mut(id) else {
            return;
        };
        let is_full = is_full || stream.watchers.len() >= config.stream_watchers_max;
        if let Some(reason) = refusal(stream, &request, is_full) {
            let answer = WatchAnswer::refused(revision, reason.to_owned());
            stream.outbox.push_back(answer);
            return;
        }
        let watch_id = match request.watch_id {
            0 => stream.pick_id(),
            wanted => wanted,
        };
        let created = WatchAnswer::created(watch_id, revision);
        stream.outbox.push_back(created);
        let compacted = view.root.compacted();
        let is_gone = request.start < compacted.value() || view.root.is_foreign(request.start);
        if request.start > 0 && is_gone {
            let answer = WatchAnswer::compacted(watch_id, view.root.oldest());
            stream.outbox.push_back(answer);
            stream.end(watch_id, config.stream_watchers_max);
            return;
        }
        let start = if request.start > 0 {
            Revision::new(request.start)
        } else {
            revision.next()
        };
        self.insert(id, (watch_id, start), &request, now);
    }

    fn insert(
        &mut self,
        stream: StreamId,
        (id, start): (i64, Revision),
        request: &WatchRequest,
        now: Time,
    ) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.watchers.push(None);
            u32::try_from(self.watchers.len() - 1).expect("watchers are limited")
        });
        let (group, place) = self.groups.add(&request.range, slot, request.prev_kv);
        self.wanting_previous += usize::from(request.prev_kv);
        let serial = self.next_serial();
        let is_ready = start <= self.revision;
        let notify_at = request
            .progress_notify
            .then(|| now + self.notify_after(serial));
        self.watchers[index(slot)] = Some(Watcher {
            stream: stream.slot,
            id,
            serial,
            group,
            place,
            start,
            hits: Vec::new(),
            since: start,
            from: is_ready.then_some(start),
            must_read: false,
            is_ready,
            wants: Wants::new(request),
            told: now,
            notify_at,
        });
        let Some(stream) = self.stream_mut(stream) else {
            return;
        };
        stream.watchers.insert(id, slot);
        stream.notify.extend(notify_at.map(|at| (at, id)));
        if is_ready {
            stream.ready.push_back((slot, serial));
        }
    }

    /// The interval and up to a tenth more, so that notifications spread.
    fn notify_after(&self, serial: u64) -> std::time::Duration {
        let interval = self.config.progress_interval;
        let part = u32::try_from(serial % 64).expect("below 64");
        interval + interval * part / 640
    }

    pub(super) fn refuse(&mut self, id: StreamId, reason: String) {
        let revision = self.revision;
        if let Some(stream) = self.stream_mut(id) {
            let answer = WatchAnswer::refused(revision, reason);
            stream.outbox.push_back(answer);
        }
    }

    pub(super) fn cancel(&mut self, id: StreamId, watch_id: i64) {
        let revision = self.revision;
        let Some(stream) = self.stream_mut(id) else {
            return;
        };
        let slot = stream.watchers.get(&watch_id).copied();
        if slot.is_none() && !stream.ended.remove(&watch_id) {
            return;
        }
        let answer = WatchAnswer::canceled(watch_id, revision, String::new());
        stream.outbox.push_back(answer);
        if let Some(slot) = slot {
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(watcher) = self.watchers[index(slot)].take() else {
            return;
        };
        self.free.push(slot);
        let previous = watcher.wants.previous;
        self.wanting_previous -= usize::from(previous);
        let moved = self.groups.remove(watcher.group, watcher.place, previous);
        if let Some(moved) = moved.and_then(|it| self.watchers[index(it)].as_mut()) {
            moved.place = watcher.place;
        }
        if let Some(stream) = &mut self.streams[index(watcher.stream)] {
            stream.watchers.remove(&watcher.id);
            if let Some(at) = watcher.notify_at {
                stream.notify.remove(&(at, watcher.id));
            }
        }
    }

    pub(super) fn request_progress(&mut self, id: StreamId) {
        if let Some(stream) = self.stream_mut(id) {
            stream.wants_progress = !stream.watchers.is_empty();
        }
    }

    pub(super) fn next_progress(&self, id: StreamId) -> Option<Time> {
        self.stream(id)?.notify.first().map(|(at, _)| *at)
    }

    /// Shows a batch. If it is not complete, the store has what is missing.
    pub(super) fn publish(
        &mut self,
        entries: Vec<Entry>,
        is_complete: bool,
        revision: Revision,
        wake: &mut Vec<StreamId>,
    ) {
        if self.watchers() == 0 {
            self.revision = revision;
            self.ring.clear(revision.next());
            return;
        }
        if is_complete {
            for entry in entries {
                self.offer(&entry, wake);
                self.ring.push(entry);
            }
            self.ring.trim();
        } else {
            self.ring.clear(revision.next());
            self.fall_back_all(revision, wake);
        }
        self.revision = revision;
        let awaiting = std::mem::take(&mut self.awaiting);
        for id in awaiting {
            if let Some(stream) = self.stream_mut(id)
                && !std::mem::replace(&mut stream.is_woken, true)
            {
                wake.push(id);
            }
        }
    }

    /// Notes an entry with each watcher that wants it.
    fn offer(&mut self, entry: &Entry, wake: &mut Vec<StreamId>) {
        let number = self.ring.end();
        self.found.clear();
        self.groups.matching(&entry.key, &mut self.found);
        for group in &self.found {
            for slot in &self.groups.group(*group).watchers {
                let Some(watcher) = self.watchers[index(*slot)].as_mut() else {
                    continue;
                };
                if entry.main >= watcher.start && watcher.wants.includes(entry.kind) {
                    watcher.note(number, entry.main);
                    make_ready(&mut self.streams, watcher, *slot, wake);
                }
            }
        }
    }

    fn fall_back_all(&mut self, revision: Revision, wake: &mut Vec<StreamId>) {
        for slot in 0..self.watchers.len() {
            let Some(watcher) = self.watchers[slot].as_mut() else {
                continue;
            };
            let from = if watcher.is_pending() {
                watcher.behind_from()
            } else {
                watcher.start.max(self.revision.next())
            };
            if from <= revision {
                watcher.fall_back(from);
                let slot = u32::try_from(slot).expect("watchers are limited");
                make_ready(&mut self.streams, watcher, slot, wake);
            }
        }
    }
}

fn make_ready(
    streams: &mut [Option<Stream>],
    watcher: &mut Watcher,
    slot: u32,
    wake: &mut Vec<StreamId>,
) {
    if std::mem::replace(&mut watcher.is_ready, true) {
        return;
    }
    let Some(stream) = &mut streams[index(watcher.stream)] else {
        return;
    };
    stream.ready.push_back((slot, watcher.serial));
    if !std::mem::replace(&mut stream.is_woken, true) {
        wake.push(StreamId {
            slot: watcher.stream,
            serial: stream.serial,
        });
    }
}

/// Why a watch cannot be started.
fn refusal(stream: &Stream, request: &WatchRequest, is_full: bool) -> Option<&'static str> {
    if request.start < 0 {
        return Some(COMPACTED);
    }
    if let KeyRange::Between(first, end) = &request.range
        && first >= end
    {
        return Some(EMPTY_RANGE);
    }
    if request.watch_id != 0 && stream.is_taken(request.watch_id) {
        return Some(DUPLICATE_ID);
    }
    is_full.then_some(TOO_MANY)
}
