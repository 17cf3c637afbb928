//! Watches: who gets which event, and how slow ones cost nothing.
//!
//! What would surprise: nothing is queued for a watcher. Events stand once in a ring that all
//! share; a watcher is a cursor and a few numbers of ring entries. One that has fallen behind
//! the ring reads history from the store, outside the lock, when its client takes answers.
//!
//! ```text
//! publish ──► ring ──► groups find the watchers ──► each notes the entry, its stream is woken
//! poll    ──► outbox (created, canceled) ──► ready watchers: ring, or history ──► progress
//! ```
//!
//! - I11 A watcher receives exactly the retained events in its range and filter from its start,
//!   each once, in order, a revision whole; else a cancel that says why.
//! - I12 A cursor never moves past an undelivered matching event; a progress revision is given
//!   only behind all events up to it of that stream.
//! - I13 Memory is bounded by the ring, the watchers and the streams' outboxes. A poll that reads
//!   history takes no more than it was asked for and the revision that reaches that: a stream
//!   that waits for its client holds this and nothing else.

mod answer;
mod catch_up;
pub(crate) mod event;
mod groups;
mod ranges;
mod ring;
mod state;
mod watcher;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holm_base::{Revision, Time};

use crate::range::KeyRange;
use crate::view::View;

pub use answer::WatchAnswer;
pub(crate) use event::{Event, Previous};
use ring::Entry;
use state::State;

/// How watches are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// How many bytes of events stay in memory for all watchers together.
    pub ring_bytes: usize,
    /// How many revisions stay in memory.
    pub ring_revisions: usize,
    /// How many watchers there may be; one more is told that there are too many requests.
    pub watchers_max: usize,
    /// How many watchers one stream may have.
    pub stream_watchers_max: usize,
    /// How many answers may wait in a stream before it should take no further requests.
    pub outbox_max: usize,
    /// An answer above so many bytes is cut in pieces, for watchers that allow it.
    pub fragment_bytes: usize,
    /// How often an idle watcher that asked for it is told the revision.
    pub progress_interval: Duration,
    /// How many bytes of history are read at a time.
    pub catch_up_bytes: usize,
    /// How many streams may read history at the same time.
    pub catch_ups_max: usize,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 32 << 20,
            ring_revisions: 65_536,
            watchers_max: 100_000,
            stream_watchers_max: 10_000,
            outbox_max: 4_096,
            fragment_bytes: (1 << 20) + (512 << 10) + (512 << 10),
            progress_interval: Duration::from_secs(600),
            catch_up_bytes: 1 << 20,
            catch_ups_max: 4,
        }
    }
}

/// A stream of watch answers to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    slot: u32,
    serial: u64,
}

/// What is called when a stream has something to send.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a client wants to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the protocol has five independent switches"
)]
pub struct WatchRequest {
    /// The keys.
    pub range: KeyRange,
    /// The first revision of interest; 0 for what comes.
    pub start: i64,
    /// The id that the client wants; 0 for any.
    pub watch_id: i64,
    /// Events carry the version before.
    pub prev_kv: bool,
    /// Now and then tell an idle watcher the revision.
    pub progress_notify: bool,
    /// Answers may come in pieces.
    pub fragment: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletes out.
    pub no_delete: bool,
}

impl WatchRequest {
    /// A plain one: every event of these keys from a revision on, as it comes.
    #[must_use]
    pub const fn new(range: KeyRange, start: i64) -> Self {
        Self {
            range,
            start,
            watch_id: 0,
            prev_kv: false,
            progress_notify: false,
            fragment: false,
            no_put: false,
            no_delete: false,
        }
    }
}

/// All watches of a keyspace. Shared by the engine, which publishes, and the streams' tasks.
pub struct Hub {
    state: Mutex<State>,
    /// Watchers, and those that want the version before: read without the lock.
    watchers: AtomicUsize,
    wanting_previous: AtomicUsize,
    config: HubConfig,
}

impl fmt::Debug for Hub {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Hub")
            .field("watchers", &self.watchers())
            .finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(config: HubConfig, revision: Revision) -> Self {
        Self {
            state: Mutex::new(State::new(&config, revision)),
            watchers: AtomicUsize::new(0),
            wanting_previous: AtomicUsize::new(0),
            config,
        }
    }

    /// How many watchers there are.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.load(Ordering::Relaxed)
    }

    /// How many watchers are behind: what they have not been sent is not noted any more, and
    /// must be looked up in the ring or read from history. O(watchers).
    #[must_use]
    pub fn slow_watchers(&self) -> usize {
        self.lock().slow_watchers()
    }

    /// How many events were given to streams.
    #[must_use]
    pub fn events_sent(&self) -> u64 {
        self.lock().events_sent()
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.lock().streams()
    }

    /// Opens a stream. `wake` is called whenever it may have something to send, from any
    /// thread, never under a lock; it should only note that and return.
    pub fn open_stream(&self, wake: Wake) -> StreamId {
        self.lock().open_stream(wake)
    }

    /// Closes a stream and drops its watchers.
    pub fn close_stream(&self, stream: StreamId) {
        let mut state = self.lock();
        state.close_stream(stream);
        self.count(&state);
    }

    /// Whether the stream may take further requests. While this is false, poll first: requests
    /// beyond twice the limit are dropped.
    #[must_use]
    pub fn takes_requests(&self, stream: StreamId) -> bool {
        self.lock().outbox_len(stream) < self.config.outbox_max
    }

    /// Starts a watch as of `view`, or says on the stream why not. Its events come after its
    /// answer, and both after all earlier answers.
    pub fn create(&self, stream: StreamId, request: WatchRequest, now: Time, view: &View) {
        self.tell(stream, |state, config| {
            state.create(stream, request, (now, view), config);
        });
    }

    /// Says on the stream that a watch was not started, and why.
    pub fn refuse(&self, stream: StreamId, reason: String) {
        self.tell(stream, |state, _| state.refuse(stream, reason));
    }

    /// Ends a watch; the stream says so, also of one that compaction had ended. An unknown one
    /// is passed over in silence.
    pub fn cancel(&self, stream: StreamId, watch_id: i64) {
        self.tell(stream, |state, _| state.cancel(stream, watch_id));
    }

    /// Asks for one answer that tells the revision, behind everything up to it: it comes once
    /// all watchers of the stream have caught up. Asking again before that changes nothing. A
    /// stream without watchers stays silent.
    pub fn request_progress(&self, stream: StreamId) {
        self.tell(stream, |state, _| state.request_progress(stream));
    }

    /// Does something that may give the stream something to send, then wakes it.
    fn tell(&self, stream: StreamId, act: impl FnOnce(&mut State, &HubConfig)) {
        let wake = {
            let mut state = self.lock();
            if state.outbox_len(stream) < self.config.outbox_max.saturating_mul(2) {
                act(&mut state, &self.config);
            }
            self.count(&state);
            state.wake_of(stream)
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Takes what the stream may send now, in order, about `bytes_max` bytes: more only by one
    /// revision of one watcher. What is left, or comes later, wakes the stream. `view` should
    /// be the newest; history is read from it, at most a slice for each call.
    pub fn poll(
        &self,
        stream: StreamId,
        now: Time,
        view: &View,
        bytes_max: usize,
    ) -> Vec<WatchAnswer> {
        let mut out = Vec::new();
        let (slice, mut wakes) = {
            let mut state = self.lock();
            let slice = state.poll(stream, (now, view), bytes_max, &mut out);
            self.count(&state);
            let wakes = if slice.is_none() {
                state.wake_if_more(stream)
            } else {
                Vec::new()
            };
            (slice, wakes)
        };
        if let Some(mut slice) = slice {
            // The lock is free while history is read.
            slice.read(&view.root, self.config.catch_up_bytes, bytes_max);
            let mut state = self.lock();
            wakes = state.caught_up(stream, slice, (now, view), &mut out);
            self.count(&state);
        }
        for wake in wakes {
            wake();
        }
        out
    }

    /// When [`Hub::poll`] will have a notification of progress, if nothing happens before.
    #[must_use]
    pub fn next_progress(&self, stream: StreamId) -> Option<Time> {
        self.lock().next_progress(stream)
    }

    /// Wakes streams; those that were opened with the same function, with one call of it.
    pub fn wake(&self, streams: &[StreamId]) {
        let mut wakes: Vec<Wake> = {
            let state = self.lock();
            let wakes = streams.iter().filter_map(|it| state.wake_of(*it));
            wakes.collect()
        };
        let place = |wake: &Wake| Arc::as_ptr(wake).cast::<()>().addr();
        wakes.sort_unstable_by_key(place);
        wakes.dedup_by_key(|wake| place(wake));
        for wake in wakes {
            wake();
        }
    }

    /// Shows a batch of events, and that everything up to `revision` is published. Costs a
    /// lock if nobody watches.
    pub(crate) fn publish(
        &self,
        events: &mut Vec<Event>,
        revision: Revision,
        wake: &mut Vec<StreamId>,
    ) {
        // Who is the first to watch reads from the store what was not built here.
        let is_watched = self.watchers() > 0;
        let entries: Vec<Entry> = if is_watched {
            events.iter().map(Entry::new).collect()
        } else {
            Vec::new()
        };
        let is_complete = is_watched || events.is_empty();
        events.clear();
        self.lock().publish(entries, is_complete, revision, wake);
    }

    /// Shows that everything up to `revision` is published, of which nothing was told since the
    /// last publication: watchers read what they lack from the store.
    pub(crate) fn publish_jump(&self, revision: Revision, wake: &mut Vec<StreamId>) {
        self.lock().publish(Vec::new(), false, revision, wake);
    }

    /// Whether a watcher of `key` wants the version before. Without any such watcher, no lock.
    pub(crate) fn wants_previous(&self, key: &[u8]) -> bool {
        self.wanting_previous.load(Ordering::Relaxed) > 0 && self.lock().wants_previous(key)
    }

    fn count(&self, state: &State) {
        self.watchers.store(state.watchers(), Ordering::Relaxed);
        let wanting = state.wanting_previous();
        self.wanting_previous.store(wanting, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
