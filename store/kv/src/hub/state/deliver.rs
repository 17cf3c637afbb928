//! Taking answers: what waits, then events, then progress.
//!
//! What would surprise: a poll that leaves something to do wakes its own stream, so that a long
//! way through history is walked in short steps.

use bytes::Bytes;
use holm_base::{Revision, Time};

use super::State;
use crate::hub::answer::{WatchAnswer, framed};
use crate::hub::catch_up::{LAGS_MAX, Lag, Slice};
use crate::hub::groups::index;
use crate::hub::watcher::Watcher;
use crate::hub::{StreamId, Wake};
use crate::layout::count;
use crate::refusal::Refusal;
use crate::view::View;

/// How many ring entries are looked through under one lock.
const SCAN_MAX: u64 = 4_096;

/// What was taken from the ring for one watcher.
#[derive(Debug, Default)]
struct Taken {
    events: Vec<Bytes>,
    bytes: usize,
    /// The revision of the last event.
    last: Revision,
    /// How many events are of earlier revisions than the last.
    before_last: usize,
    /// The revision at which a version before must be looked up.
    unread: Option<Revision>,
}

impl Taken {
    /// Takes an event, unless it begins a revision that does not fit any more.
    fn take(&mut self, main: Revision, form: Option<&Bytes>, budget: usize) -> bool {
        if main != self.last {
            if self.bytes >= budget {
                return false;
            }
            self.before_last = self.events.len();
        }
        let Some(event) = form else {
            // A revision stays whole: what was taken of it is read again.
            if main == self.last {
                self.events.truncate(self.before_last);
            }
            self.unread = Some(main);
            return false;
        };
        self.last = main;
        self.bytes += framed(event);
        self.events.push(event.clone());
        true
    }
}

impl State {
    /// See [`crate::Hub::poll`]. Gives the history to read, if some is needed.
    pub(in crate::hub) fn poll(
        &mut self,
        id: StreamId,
        (now, view): (Time, &View),
        bytes_max: usize,
        out: &mut Vec<WatchAnswer>,
    ) -> Option<Slice> {
        let stream = self.stream_mut(id)?;
        stream.is_woken = false;
        out.extend(stream.outbox.drain(..));
        let mut left = stream.ready.len();
        let (mut spent, mut lagging) = (0, Vec::new());
        while left > 0 && spent < bytes_max {
            left -= 1;
            let Some((slot, serial)) = self.next_ready(id) else {
                break;
            };
            if !self.is_there(slot, serial) {
                continue;
            }
            match self.deliver(slot, now, bytes_max - spent, out) {
                Some(bytes) => {
                    spent += bytes;
                    self.keep_ready(id, slot, serial);
                }
                None => lagging.push((slot, serial)),
            }
        }
        let slice = self.start_catch_up(id, &lagging, view, out);
        if slice.is_none() {
            self.tell_progress(id, (now, view), out);
        }
        slice
    }

    fn next_ready(&mut self, id: StreamId) -> Option<(u32, u64)> {
        self.stream_mut(id)?.ready.pop_front()
    }

    fn is_there(&self, slot: u32, serial: u64) -> bool {
        let watcher = self.watchers[index(slot)].as_ref();
        watcher.is_some_and(|it| it.serial == serial)
    }

    /// Puts a watcher back in its stream's queue if something is left to deliver.
    fn keep_ready(&mut self, id: StreamId, slot: u32, serial: u64) {
        let Some(watcher) = self.watchers[index(slot)].as_mut() else {
            return;
        };
        watcher.is_ready = watcher.is_pending();
        if watcher.is_ready
            && let Some(stream) = self.stream_mut(id)
        {
            stream.ready.push_back((slot, serial));
        }
    }

    /// Gives a watcher what the ring has for it, and how many bytes that were. `None` if it
    /// must read history.
    fn deliver(
        &mut self,
        slot: u32,
        now: Time,
        budget: usize,
        out: &mut Vec<WatchAnswer>,
    ) -> Option<usize> {
        let watcher = self.watchers[index(slot)].as_mut()?;
        if watcher.from.is_none()
            && watcher
                .hits
                .first()
                .is_some_and(|it| *it < self.ring.first())
        {
            watcher.fall_back(watcher.since);
        }
        let taken = match watcher.from {
            Some(from) if watcher.must_read || from < self.ring.oldest() => return None,
            Some(from) => {
                let range = &self.groups.group(watcher.group).range;
                scan(&self.ring, watcher, range, (from, budget))
            }
            None => take_hits(&self.ring, watcher, budget),
        };
        let bytes = taken.bytes;
        self.sent += count(taken.events.len());
        let (pieces, published) = (self.config.fragment_bytes, self.revision);
        push(
            watcher,
            (taken.events, taken.last),
            (now, published, pieces),
            out,
        );
        if watcher.must_read { None } else { Some(bytes) }
    }

    /// Takes watchers that the ring has left behind, as many as fit a slice, if it is this
    /// stream's turn.
    fn start_catch_up(
        &mut self,
        id: StreamId,
        lagging: &[(u32, u64)],
        view: &View,
        out: &mut Vec<WatchAnswer>,
    ) -> Option<Slice> {
        if lagging.is_empty() {
            return None;
        }
        let has_turn = self.catching < self.config.catch_ups_max;
        let mut lags = Vec::new();
        for &(slot, serial) in lagging {
            if self.end_compacted(slot, view, out) {
                continue;
            }
            if !has_turn || lags.len() >= LAGS_MAX {
                self.keep_ready(id, slot, serial);
                continue;
            }
            lags.extend(self.lag(slot));
        }
        if !has_turn {
            self.wait_for_turn(id);
            return None;
        }
        if lags.is_empty() {
            return None;
        }
        self.catching += 1;
        Some(Slice::new(lags))
    }

    fn lag(&self, slot: u32) -> Option<Lag> {
        let watcher = self.watchers[index(slot)].as_ref()?;
        Some(Lag {
            slot,
            serial: watcher.serial,
            from: watcher.behind_from(),
            range: self.groups.group(watcher.group).range.clone(),
            wants: watcher.wants,
            events: Vec::new(),
            last: Revision::ZERO,
        })
    }

    fn wait_for_turn(&mut self, id: StreamId) {
        if let Some(stream) = self.stream_mut(id)
            && !std::mem::replace(&mut stream.is_waiting, true)
        {
            self.waiting.push_back(id);
        }
    }

    /// Ends a watcher whose cursor compaction has passed.
    fn end_compacted(&mut self, slot: u32, view: &View, out: &mut Vec<WatchAnswer>) -> bool {
        let compacted = view.root.compacted();
        let Some(watcher) = self.watchers[index(slot)].as_ref() else {
            return true;
        };
        if watcher.behind_from() >= compacted {
            return false;
        }
        let (id, stream) = (watcher.id, watcher.stream);
        out.push(WatchAnswer::compacted(id, compacted));
        self.remove(slot);
        let max = self.config.stream_watchers_max;
        if let Some(stream) = &mut self.streams[index(stream)] {
            stream.end(id, max);
        }
        true
    }

    /// Hands out what was read from history. Gives who is to be woken.
    pub(in crate::hub) fn caught_up(
        &mut self,
        id: StreamId,
        slice: Slice,
        (now, view): (Time, &View),
        out: &mut Vec<WatchAnswer>,
    ) -> Vec<Wake> {
        self.catching -= 1;
        for lag in slice.lags {
            if !self.is_there(lag.slot, lag.serial) {
                continue;
            }
            match &slice.failure {
                Some(failure) => self.end_failed(lag.slot, failure, out),
                None => self.finish_lag(lag, slice.reached, now, out),
            }
        }
        self.tell_progress(id, (now, view), out);
        let mut wakes = self.wake_next_waiting();
        wakes.extend(self.wake_if_more(id));
        wakes
    }

    fn finish_lag(&mut self, lag: Lag, reached: Revision, now: Time, out: &mut Vec<WatchAnswer>) {
        let (pieces, published) = (self.config.fragment_bytes, self.revision);
        let Some(watcher) = self.watchers[index(lag.slot)].as_mut() else {
            return;
        };
        let stream = StreamId {
            slot: watcher.stream,
            serial: self.streams[index(watcher.stream)]
                .as_ref()
                .map_or(0, |it| it.serial),
        };
        self.sent += count(lag.events.len());
        if reached > lag.from {
            watcher.advance(reached, published);
        }
        push(
            watcher,
            (lag.events, lag.last),
            (now, published, pieces),
            out,
        );
        self.keep_ready(stream, lag.slot, lag.serial);
    }

    fn end_failed(&mut self, slot: u32, failure: &Refusal, out: &mut Vec<WatchAnswer>) {
        let revision = self.revision;
        if let Some(watcher) = self.watchers[index(slot)].as_ref() {
            let reason = format!("etcdserver: corrupt cluster ({failure})");
            out.push(WatchAnswer::canceled(watcher.id, revision, reason));
            self.remove(slot);
        }
    }

    /// Who may take the turn that has become free. A stream that is woken need not come, for its
    /// client may take nothing; so once nobody reads history, all that wait are woken.
    fn wake_next_waiting(&mut self) -> Vec<Wake> {
        let mut wakes = Vec::new();
        while (wakes.is_empty() || self.catching == 0)
            && let Some(id) = self.waiting.pop_front()
        {
            if let Some(stream) = self.stream_mut(id) {
                stream.is_waiting = false;
                wakes.push(Wake::clone(&stream.wake));
            }
        }
        wakes
    }

    /// Who is to be woken because a poll left something to do.
    pub(in crate::hub) fn wake_if_more(&self, id: StreamId) -> Vec<Wake> {
        let stream = self.stream(id);
        let has_more = stream.filter(|it| !it.ready.is_empty() && !it.is_waiting);
        has_more
            .map(|it| Wake::clone(&it.wake))
            .into_iter()
            .collect()
    }

    /// Tells the revision, if it was asked for or is due, and all before it was delivered.
    fn tell_progress(
        &mut self,
        id: StreamId,
        (now, view): (Time, &View),
        out: &mut Vec<WatchAnswer>,
    ) {
        let published = self.revision;
        let Some(stream) = self.stream(id) else {
            return;
        };
        if stream.wants_progress && stream.ready.is_empty() {
            // A reader may have seen a view that is newer than what the hub was shown.
            let is_current = view.revision() <= published;
            if is_current && self.all_caught_up(id) {
                out.push(WatchAnswer::progress(-1, published));
                if let Some(stream) = self.stream_mut(id) {
                    stream.wants_progress = false;
                }
            } else {
                self.awaiting.insert(id);
            }
        }
        self.notify_idle(id, now, out);
    }

    fn all_caught_up(&self, id: StreamId) -> bool {
        let Some(stream) = self.stream(id) else {
            return false;
        };
        let mut watchers = stream.watchers.values();
        watchers.all(|slot| self.is_caught_up(*slot))
    }

    /// Whether everything published was delivered, and the watch has begun.
    fn is_caught_up(&self, slot: u32) -> bool {
        let watcher = self.watchers[index(slot)].as_ref();
        watcher.is_some_and(|it| !it.is_pending() && it.start <= self.revision.next())
    }

    fn notify_idle(&mut self, id: StreamId, now: Time, out: &mut Vec<WatchAnswer>) {
        while let Some((at, watch_id)) = self.next_notification(id, now) {
            let Some(slot) = self
                .stream_mut(id)
                .and_then(|stream| stream.watchers.get(&watch_id).copied())
            else {
                continue;
            };
            let (published, is_caught_up) = (self.revision, self.is_caught_up(slot));
            let Some(watcher) = self.watchers[index(slot)].as_mut() else {
                continue;
            };
            let interval = self.config.progress_interval;
            let is_idle = watcher.told + interval <= now;
            if is_idle && is_caught_up {
                watcher.told = now;
                out.push(WatchAnswer::progress(watch_id, published));
            }
            let (told, serial) = (watcher.told.max(at), watcher.serial);
            let next = if is_idle { now } else { told } + self.notify_after(serial);
            self.refile(id, slot, next);
        }
    }

    fn next_notification(&mut self, id: StreamId, now: Time) -> Option<(Time, i64)> {
        let stream = self.stream_mut(id)?;
        let first = *stream.notify.first()?;
        if first.0 > now {
            return None;
        }
        stream.notify.pop_first()
    }

    fn refile(&mut self, id: StreamId, slot: u32, at: Time) {
        if let Some(watcher) = self.watchers[index(slot)].as_mut() {
            watcher.notify_at = Some(at);
            let watch_id = watcher.id;
            if let Some(stream) = self.stream_mut(id) {
                stream.notify.insert((at, watch_id));
            }
        }
    }
}

/// Takes the noted entries, as many whole revisions as fit.
fn take_hits(ring: &crate::hub::ring::Ring, watcher: &mut Watcher, budget: usize) -> Taken {
    let mut taken = Taken::default();
    let mut count = 0;
    for number in &watcher.hits {
        let entry = ring.entry(*number);
        if !taken.take(entry.main, entry.form(watcher.wants.previous), budget) {
            break;
        }
        count += 1;
    }
    if let Some(main) = taken.unread {
        watcher.fall_back(main);
        watcher.must_read = true;
    } else {
        watcher.hits.drain(..count);
        if let Some(number) = watcher.hits.first() {
            watcher.since = ring.entry(*number).main;
        }
    }
    taken
}

/// Looks through the ring from a revision on, as many whole revisions as fit.
fn scan(
    ring: &crate::hub::ring::Ring,
    watcher: &mut Watcher,
    range: &crate::range::KeyRange,
    (from, budget): (Revision, usize),
) -> Taken {
    let mut taken = Taken::default();
    let (first, end) = (ring.find(from.max(watcher.start)), ring.end());
    let mut main = Revision::ZERO;
    for number in first..end {
        let entry = ring.entry(number);
        if entry.main != main && number - first >= SCAN_MAX {
            watcher.from = Some(entry.main);
            return taken;
        }
        main = entry.main;
        let is_wanted = watcher.wants.includes(entry.kind) && range.contains(&entry.key);
        if is_wanted && !taken.take(main, entry.form(watcher.wants.previous), budget) {
            watcher.from = Some(main);
            watcher.must_read = taken.unread.is_some();
            return taken;
        }
    }
    watcher.from = None;
    taken
}

/// Turns events into answers. Once nothing is left, the header tells the newest revision.
fn push(
    watcher: &mut Watcher,
    (events, last): (Vec<Bytes>, Revision),
    (now, published, pieces): (Time, Revision, usize),
    out: &mut Vec<WatchAnswer>,
) {
    if events.is_empty() {
        return;
    }
    watcher.told = now;
    let revision = if watcher.is_pending() {
        last
    } else {
        last.max(published)
    };
    let limit = watcher.wants.pieces.then_some(pieces);
    WatchAnswer::push_events(out, (watcher.id, revision), events, limit);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use holm_base::{ByteCount, Op, Term};
    use holm_machine::{Disk, DiskError, Folder};

    use super::*;
    use crate::command::{Command, Proposal, Put};
    use crate::hub::{HubConfig, WatchRequest};
    use crate::range::KeyRange;
    use crate::{Config, Keyspace};

    type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

    fn lock(files: &Files) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(at: ByteCount) -> usize {
        usize::try_from(at.value()).expect("it is in memory")
    }

    /// Files in memory, which never fail: the virtual disk is for tests outside of this crate.
    #[derive(Clone, Debug, Default)]
    struct Memory(Files);

    #[derive(Debug)]
    struct File(Files, String);

    impl File {
        fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> Result<T, DiskError> {
            let mut files = lock(&self.0);
            let missing = || DiskError::NotFound {
                name: self.1.clone(),
            };
            files.get_mut(&self.1).map(act).ok_or_else(missing)
        }
    }

    impl Disk for File {
        fn read(&self, at: ByteCount, into: &mut [u8]) -> Result<(), DiskError> {
            self.with(|bytes| into.copy_from_slice(&bytes[place(at)..place(at) + into.len()]))
        }

        fn write(&mut self, at: ByteCount, from: &[u8]) -> Result<(), DiskError> {
            self.with(|bytes| {
                let end = place(at) + from.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[place(at)..end].copy_from_slice(from);
            })
        }

        fn sync(&mut self) -> Result<(), DiskError> {
            Ok(())
        }

        fn len(&self) -> Result<ByteCount, DiskError> {
            self.with(|bytes| ByteCount::new(u64::try_from(bytes.len()).expect("it is short")))
        }

        fn set_len(&mut self, len: ByteCount) -> Result<(), DiskError> {
            self.with(|bytes| bytes.resize(place(len), 0))
        }
    }

    impl Folder for Memory {
        fn create(&self, name: &str, len: ByteCount) -> Result<Box<dyn Disk>, DiskError> {
            lock(&self.0).insert(name.to_owned(), vec![0; place(len)]);
            self.open(name)
        }

        fn open(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
            let file = File(Arc::clone(&self.0), name.to_owned());
            file.len()?;
            Ok(Box::new(file))
        }

        fn open_read_only(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
            self.open(name)
        }

        fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
            let mut files = lock(&self.0);
            let bytes = files.remove(from).unwrap_or_default();
            files.insert(to.to_owned(), bytes);
            Ok(())
        }

        fn remove(&self, name: &str) -> Result<(), DiskError> {
            lock(&self.0).remove(name);
            Ok(())
        }

        fn list(&self) -> Result<Vec<String>, DiskError> {
            Ok(lock(&self.0).keys().cloned().collect())
        }

        fn sync(&self) -> Result<(), DiskError> {
            Ok(())
        }

        fn free(&self) -> Result<ByteCount, DiskError> {
            Ok(ByteCount::new(1 << 40))
        }

        fn folder(&self, _: &str) -> Result<Arc<dyn Folder>, DiskError> {
            Ok(Arc::new(Self::default()))
        }
    }

    /// A keyspace with one key, which was written before anybody watched.
    fn view() -> Arc<View> {
        let folder = Arc::new(Memory::default());
        let mut keyspace = Keyspace::open(folder, Config::default()).expect("an empty disk");
        let key = Bytes::from_static(b"k");
        let put = Put {
            key,
            ..Put::default()
        };
        let proposal = Proposal {
            caller: None,
            command: Command::Put(put),
        };
        let applied = keyspace.apply(Time::ZERO, Op::new(1), Term::new(1), &proposal.encode());
        applied.result.expect("nothing forbids it");
        keyspace.publish(&mut Vec::new());
        keyspace.reader().view()
    }

    /// Opens a stream that is behind; gives how often it was woken, too.
    fn behind(state: &mut State, view: &View) -> (StreamId, Arc<AtomicU64>) {
        let woken = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&woken);
        let stream = state.open_stream(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let request = WatchRequest::new(KeyRange::One(Bytes::from_static(b"k")), 2);
        let config = state.config.clone();
        state.create(stream, request, (Time::ZERO, view), &config);
        (stream, woken)
    }

    #[test]
    fn a_turn_that_its_stream_does_not_take_holds_up_nobody() {
        let view = view();
        let config = HubConfig {
            catch_ups_max: 1,
            ..HubConfig::default()
        };
        let mut state = State::new(&config, view.revision());
        let (reads, _) = behind(&mut state, &view);
        let (stalls, _) = behind(&mut state, &view);
        let (waits, woken) = behind(&mut state, &view);
        let at = (Time::ZERO, &*view);
        let poll = |state: &mut State, stream| state.poll(stream, at, 1 << 20, &mut Vec::new());
        let mut slice = poll(&mut state, reads).expect("it is its turn");
        assert!(poll(&mut state, stalls).is_none() && poll(&mut state, waits).is_none());
        slice.read(&view.root, 1 << 20, 1 << 20);
        let mut out = Vec::new();
        for wake in state.caught_up(reads, slice, at, &mut out) {
            wake();
        }
        assert_eq!(out.len(), 1);
        // The client of `stalls` takes nothing, so that stream is not polled again.
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        assert!(poll(&mut state, waits).is_some());
    }
}
