//! Who watches a replica: clients' streams, and the observer that sees everything applied.
//!
//! The observer is a watch like any other, from the first revision that is there when the node
//! starts: what it is told is what the node applied, and a node that starts again must tell the
//! same again. In a hunt clients are slow now and then, and take little at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holm_base::{Prng, RequestId, Time};
use holm_kv::{Hub, StreamId, WatchAnswer, WatchRequest};
use holm_machine::Effects;
use holm_replica::Replica;

use super::{Answer, Effect, Event, wire};
use crate::calls::Change;

/// How much a quick reader takes at once.
const WHOLE: usize = 1 << 20;
/// One time in so many a reader of a hunt does not read for a while.
const SLOW: u64 = 6;
const SLOW_NANOS_MAX: u64 = 400_000_000;

/// One stream with one watch.
#[derive(Debug)]
struct Reader {
    stream: StreamId,
    is_woken: Arc<AtomicBool>,
    /// Before then it does not read.
    resumes: Option<Time>,
    /// Everything through here has been told.
    through: u64,
    /// None once it has ended.
    is_open: bool,
}

/// All streams of a node.
#[derive(Debug)]
pub(super) struct Readers {
    hub: Arc<Hub>,
    observer: Reader,
    clients: BTreeMap<RequestId, Reader>,
    is_tight: bool,
}

impl Reader {
    fn open(hub: &Hub, start: u64, now: Time, replica: &Replica) -> Self {
        let is_woken = Arc::new(AtomicBool::new(true));
        let bell = Arc::clone(&is_woken);
        let stream = hub.open_stream(Arc::new(move || bell.store(true, Ordering::Relaxed)));
        let request = WatchRequest::new(wire::all_keys(), start.cast_signed());
        hub.create(stream, request, now, &replica.keyspace().reader().view());
        Self {
            stream,
            is_woken,
            resumes: None,
            through: start.saturating_sub(1),
            is_open: true,
        }
    }

    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }

    fn poll(&self, hub: &Hub, now: Time, replica: &Replica, bytes_max: usize) -> Vec<WatchAnswer> {
        self.is_woken.store(false, Ordering::Relaxed);
        let view = replica.keyspace().reader().view();
        hub.poll(self.stream, now, &view, bytes_max)
    }
}

impl Readers {
    pub(super) fn new(replica: &Replica, is_tight: bool) -> Self {
        let hub = replica.keyspace().hub();
        let view = replica.keyspace().reader().view();
        // In long runs only what is new; what is old would be read at every start.
        let start = if is_tight {
            view.root.compacted().value().max(1)
        } else {
            view.root.revision().value() + 1
        };
        let observer = Reader::open(&hub, wire::unsigned(start), Time::ZERO, replica);
        Self {
            hub,
            observer,
            clients: BTreeMap::new(),
            is_tight,
        }
    }

    pub(super) fn open(&mut self, request: RequestId, from: u64, now: Time, replica: &Replica) {
        let reader = Reader::open(&self.hub, from, now, replica);
        self.clients.insert(request, reader);
    }

    pub(super) fn close(&mut self, request: RequestId) {
        if let Some(reader) = self.clients.remove(&request) {
            self.hub.close_stream(reader.stream);
        }
    }

    pub(super) fn ask_progress(&self, request: RequestId) {
        if let Some(reader) = self.clients.get(&request) {
            self.hub.request_progress(reader.stream);
        }
    }

    /// Through which revision a watch was told everything; none if it is not served.
    pub(super) fn through(&self, request: RequestId) -> Option<u64> {
        let reader = self.clients.get(&request)?;
        reader.is_open.then_some(reader.through)
    }

    pub(super) fn resumes_at(&self) -> Option<Time> {
        self.clients.values().filter_map(|one| one.resumes).min()
    }

    /// Whether somebody reads who has something to read.
    pub(super) fn has_more(&self) -> bool {
        let reads = |one: &Reader| one.is_open && one.resumes.is_none() && one.is_woken();
        reads(&self.observer) || self.clients.values().any(reads)
    }

    /// Lets everybody read who has something to read.
    pub(super) fn serve(
        &mut self,
        now: Time,
        replica: &Replica,
        prng: &mut Prng,
        effects: &mut Effects<Effect>,
    ) {
        let mut seen = Vec::new();
        while self.observer.is_woken() {
            let answers = self.observer.poll(&self.hub, now, replica, WHOLE);
            let mut gone = 0;
            for answer in &answers {
                gone = gone.max(wire::unsigned(answer.compact_revision));
                observe(answer, &mut seen, effects);
            }
            // A node that catches up applies writes and their compaction together. Others have
            // told what it was.
            if gone > 0 {
                self.hub.close_stream(self.observer.stream);
                self.observer = Reader::open(&self.hub, gone, now, replica);
            }
        }
        if !seen.is_empty() {
            effects.push(Effect::Note(Event::Applied(seen)));
        }
        if self.clients.is_empty() {
            return;
        }
        let revision = wire::unsigned(replica.keyspace().reader().view().root.revision().value());
        for (&request, reader) in &mut self.clients {
            if reader.resumes.is_some_and(|at| at > now) || !reader.is_open || !reader.is_woken() {
                continue;
            }
            reader.resumes = None;
            if self.is_tight && prng.below(SLOW) == 0 {
                reader.resumes = Some(now + Duration::from_nanos(1 + prng.below(SLOW_NANOS_MAX)));
                continue;
            }
            let bytes_max = if self.is_tight && prng.below(2) == 0 {
                1
            } else {
                WHOLE
            };
            for answer in reader.poll(&self.hub, now, replica, bytes_max) {
                pass(request, reader, &answer, effects);
            }
            if reader.is_open && !reader.is_woken() {
                // Nothing is left for it, so it has all that there is.
                reader.through = reader.through.max(revision);
            }
        }
    }
}

/// What the observer is told was applied here.
fn observe(answer: &WatchAnswer, seen: &mut Vec<Change>, effects: &mut Effects<Effect>) {
    if answer.canceled && answer.compact_revision == 0 {
        let text = format!("the observer's watch ended: {answer:?}");
        effects.push(Effect::Note(Event::Broken(text)));
    }
    match wire::changes(answer) {
        Some(changes) => seen.extend(changes),
        None => {
            let text = format!("an event cannot be read: {answer:?}");
            effects.push(Effect::Note(Event::Broken(text)));
        }
    }
}

/// Passes an answer on to a client.
fn pass(
    request: RequestId,
    reader: &mut Reader,
    answer: &WatchAnswer,
    effects: &mut Effects<Effect>,
) {
    let mut tell = |answer| effects.push(Effect::Answer { request, answer });
    if answer.created {
        let revision = wire::unsigned(answer.revision);
        let next = revision + 1;
        let begins = if reader.through == 0 {
            next
        } else {
            reader.through + 1
        };
        reader.through = begins - 1;
        tell(Answer::Watching(begins));
    }
    if answer.canceled {
        reader.is_open = false;
        if answer.compact_revision > 0 {
            tell(Answer::Compacted(wire::unsigned(answer.compact_revision)));
        }
        return;
    }
    if !answer.events.is_empty() {
        if let Some(changes) = wire::changes(answer) {
            let last = changes.last().map_or(0, |change| change.revision);
            reader.through = reader.through.max(last);
            tell(Answer::Changes(changes));
        }
    } else if !answer.created {
        let revision = wire::unsigned(answer.revision);
        reader.through = reader.through.max(revision);
        tell(Answer::Progress(revision));
    }
}
