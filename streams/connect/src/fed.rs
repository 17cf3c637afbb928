//! A source that others feed: what comes by HTTP, by MQTT or through a pipe waits here, bounded,
//! until the runner of the query takes it, and hears when it is durable.
//!
//! ```text
//!   Feed::offer(rows, told) ─► waits, within its limit ─► take ─► given ─ acknowledge ─► told()
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::file_source::LINE_MAX;
use crate::keys::{Key, KeyRing};
use crate::source::{Piece, Position, Repeats, Source, SourceError, Taken};

/// Offers that may be on their way, waiting or given and not yet durable.
const OFFERS_MAX: usize = 1 << 16;
/// A pipe is read in pieces of about so many bytes.
const PIECE: usize = 256 << 10;

/// Hears that rows are durable. Dropped unheard if they never are.
pub type Told = Box<dyn FnOnce() + Send>;

/// Why rows were not taken in.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unfed {
    /// No room: come again when some was taken.
    #[error("out of credit")]
    Full,
    /// They would never fit.
    #[error("{bytes} bytes at once; the limit is {limit}")]
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The source takes nothing any more.
    #[error("the source has stopped")]
    Stopped,
    /// Rows with a key, and what was sent before a restart is not known yet.
    #[error("the stream comes back; keys are not known yet")]
    Recovering,
    /// Other rows were sent under this key.
    #[error("other rows were sent under this key before")]
    Other,
}

/// What becomes of rows that were taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// They count.
    New,
    /// They came before, under the same key, and count once.
    Again,
}

/// Those who wait for the same rows.
const REPEATS_MAX: usize = 64;

/// A key that was sent.
struct Sent {
    digest: u64,
    /// Who waits until its rows are durable; `None` when they are.
    waiting: Option<Vec<Told>>,
}

/// Keys that were sent, by the log and since.
#[derive(Default)]
struct SentKeys {
    ring: KeyRing,
    places: BTreeMap<Arc<str>, Sent>,
    /// Whether the log has said what it knows.
    is_complete: bool,
}

impl SentKeys {
    fn add(&mut self, key: Key, waiting: Option<Vec<Told>>) {
        let (name, digest) = (Arc::clone(&key.name), key.digest);
        self.places.insert(name, Sent { digest, waiting });
        if let Some(gone) = self.ring.add(key) {
            self.places.remove(&gone.name);
        }
    }
}

struct Offer {
    rows: Vec<u8>,
    key: Option<Key>,
    told: Told,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Offer>,
    bytes: usize,
    /// Offers that were given, by their number, until they are durable.
    given: VecDeque<(u64, Told, Option<Arc<str>>)>,
    sent: SentKeys,
    offers: u64,
    rows: u64,
    is_ended: bool,
    is_stopped: bool,
    failed: Option<String>,
}

struct Shared {
    state: Mutex<State>,
    limit: usize,
    /// Something changed: room, rows, the end.
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        let mut shown = formatter.debug_struct("Fed");
        shown.field("bytes", &state.bytes);
        shown.field("given", &state.given.len());
        shown.finish_non_exhaustive()
    }
}

/// A way in.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

/// The source behind it.
#[derive(Debug)]
pub struct FedSource {
    name: String,
    header: Option<String>,
    shared: Arc<Shared>,
    repeats: Repeats,
}

impl FedSource {
    /// The same, fed by those who may give what they send a name, under which it counts once.
    #[must_use]
    pub fn keyed(mut self) -> Self {
        self.repeats = Repeats::CountAgainWithoutKey;
        self
    }
}

/// A source that is fed, and the way in. At most so many bytes wait.
#[must_use]
pub fn fed(name: &str, header: Option<String>, limit: usize) -> (Feed, FedSource) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        limit,
        changed: Condvar::new(),
    });
    let source = FedSource {
        name: name.to_owned(),
        header,
        shared: Arc::clone(&shared),
        repeats: Repeats::CountAgain,
    };
    (Feed(shared), source)
}

impl Feed {
    /// Takes whole rows in, if there is room. `told` hears when they are durable; if that never
    /// happens it is dropped. Rows under a key that was sent before are not taken again, and
    /// `told` hears of the first ones.
    ///
    /// # Errors
    ///
    /// As [`Unfed`] says.
    pub fn offer(&self, rows: Vec<u8>, key: Option<Key>, told: Told) -> Result<Offered, Unfed> {
        let mut state = self.0.state();
        if let Some(key) = &key {
            if !state.sent.is_complete {
                let is_over = state.is_stopped || state.failed.is_some();
                return Err(if is_over {
                    Unfed::Stopped
                } else {
                    Unfed::Recovering
                });
            }
            if let Some(sent) = state.sent.places.get_mut(&key.name) {
                if sent.digest != key.digest {
                    return Err(Unfed::Other);
                }
                match &mut sent.waiting {
                    Some(waiting) if waiting.len() >= REPEATS_MAX => return Err(Unfed::Full),
                    Some(waiting) => waiting.push(told),
                    None => {
                        drop(state);
                        told();
                    }
                }
                return Ok(Offered::Again);
            }
        }
        self.admit(&state, rows.len())?;
        if let Some(key) = &key {
            state.sent.add(key.clone(), Some(Vec::new()));
        }
        self.add(&mut state, Offer { rows, key, told });
        Ok(Offered::New)
    }

    /// Takes whole rows in, and waits for room.
    ///
    /// # Errors
    ///
    /// If there will never be any.
    pub fn send(&self, rows: Vec<u8>) -> Result<(), Unfed> {
        let mut state = self.0.state();
        loop {
            match self.admit(&state, rows.len()) {
                Ok(()) => break,
                Err(Unfed::Full) => {
                    let woken = self.0.changed.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
                Err(unfed) => return Err(unfed),
            }
        }
        let told = Box::new(|| ());
        let key = None;
        self.add(&mut state, Offer { rows, key, told });
        Ok(())
    }

    /// No more will come.
    pub fn end(&self) {
        self.0.state().is_ended = true;
        self.0.changed.notify_all();
    }

    /// What feeds it has failed, after all that was offered.
    pub fn fail(&self, reason: impl fmt::Display) {
        self.0.state().failed = Some(reason.to_string());
        self.0.changed.notify_all();
    }

    /// How many bytes may wait, and may come at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Whether rows would be refused for want of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let state = self.0.state();
        state.bytes >= self.0.limit || state.waiting.len() + state.given.len() >= OFFERS_MAX
    }

    /// Reads a pipe to its end, whole lines at a time, waiting for room. It blocks: give it a
    /// thread of its own.
    pub fn pipe(&self, mut from: impl Read) {
        let mut held = Vec::new();
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => held.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return self.fail(error),
            }
            if let Some(end) = held.iter().rposition(|byte| *byte == b'\n') {
                let rest = held.split_off(end + 1);
                let rows = std::mem::replace(&mut held, rest);
                if self.send(rows).is_err() {
                    return;
                }
            } else if held.len() > LINE_MAX {
                return self.fail(format!("a line of more than {} MiB", LINE_MAX >> 20));
            }
        }
        if held.is_empty() || self.send(held).is_ok() {
            self.end();
        }
    }

    fn admit(&self, state: &State, bytes: usize) -> Result<(), Unfed> {
        let limit = self.0.limit;
        if state.is_stopped || state.is_ended || state.failed.is_some() {
            Err(Unfed::Stopped)
        } else if bytes > limit {
            Err(Unfed::TooLong { bytes, limit })
        } else if state.bytes + bytes > limit
            || state.waiting.len() + state.given.len() >= OFFERS_MAX
        {
            Err(Unfed::Full)
        } else {
            Ok(())
        }
    }

    fn add(&self, state: &mut State, mut offer: Offer) {
        if offer.rows.last().is_some_and(|byte| *byte != b'\n') {
            offer.rows.push(b'\n');
        }
        state.bytes += offer.rows.len();
        state.waiting.push_back(offer);
        self.0.changed.notify_all();
    }
}

/// Takes what waits and fits: offers one after the other, one with a key alone. The first is taken
/// whatever its length, which the feed bounds: it cannot be cut, and would wait for ever.
fn join(state: &mut State, credit: usize) -> Option<Piece> {
    let mut rows = Vec::new();
    let mut key = None;
    let first_row = state.rows + 1;
    let mut is_alone = false;
    while let Some(offer) = state.waiting.front()
        && !is_alone
        && (rows.is_empty() || rows.len() + offer.rows.len() <= credit)
        && (offer.key.is_none() || rows.is_empty())
    {
        let Some(offer) = state.waiting.pop_front() else {
            break;
        };
        state.bytes -= offer.rows.len();
        state.offers += 1;
        let name = offer.key.as_ref().map(|key| Arc::clone(&key.name));
        let number = state.offers;
        state.given.push_back((number, offer.told, name));
        is_alone = offer.key.is_some();
        key = offer.key;
        if rows.is_empty() {
            rows = offer.rows;
        } else {
            rows.extend_from_slice(&offer.rows);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let lines = rows.iter().filter(|byte| **byte == b'\n').count();
    state.rows += u64::try_from(lines).expect("memory is smaller");
    Some(Piece {
        rows,
        first_row,
        position: Position::of(&[state.offers, state.rows]),
        key,
    })
}

impl Source for FedSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    fn take(&mut self, credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        let is_idle = |state: &mut State| {
            state.waiting.is_empty() && !state.is_ended && state.failed.is_none()
        };
        let state = self.shared.state();
        let woken = self.shared.changed.wait_timeout_while(state, wait, is_idle);
        let (mut state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = join(&mut state, credit) {
            drop(state);
            self.shared.changed.notify_all();
            return Ok(Taken::Rows(piece));
        }
        if !state.waiting.is_empty() {
            return Ok(Taken::Nothing);
        }
        if let Some(reason) = &state.failed {
            return Err(SourceError::failed(&self.name, reason));
        }
        Ok(if state.is_ended || state.is_stopped {
            Taken::End
        } else {
            Taken::Nothing
        })
    }

    fn acknowledge(&mut self, through: &Position) {
        let numbers = through.numbers().unwrap_or_default();
        let through = numbers.first().copied().unwrap_or(0);
        let mut durable = Vec::new();
        let mut state = self.shared.state();
        while state
            .given
            .front()
            .is_some_and(|(number, ..)| *number <= through)
            && let Some((_, told, name)) = state.given.pop_front()
        {
            durable.push(told);
            let sent = name.and_then(|name| state.sent.places.get_mut(&name));
            durable.extend(
                sent.and_then(|sent| sent.waiting.take())
                    .into_iter()
                    .flatten(),
            );
        }
        drop(state);
        self.shared.changed.notify_all();
        durable.into_iter().for_each(|told| told());
    }

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        if *position == Position::START && self.shared.state().offers == 0 {
            return Ok(());
        }
        let reason = "what came is gone; it cannot be read again";
        Err(SourceError::refused(&self.name, reason))
    }

    fn replayable(&self) -> bool {
        false
    }

    fn repeats(&self) -> Repeats {
        self.repeats
    }

    /// Rows are numbered on: which of two came first is asked of their numbers. Older positions
    /// have no number of rows.
    fn go_on(&mut self, position: &Position) -> Result<(), SourceError> {
        let numbers = position.numbers().unwrap_or_default();
        let (offers, rows) = match numbers[..] {
            [offers] => (offers, 0),
            [offers, rows] => (offers, rows),
            _ => {
                let reason = "the position is none of its own";
                return Err(SourceError::refused(&self.name, reason));
            }
        };
        let mut state = self.shared.state();
        (state.offers, state.rows) = (offers, rows);
        Ok(())
    }

    fn remember(&mut self, keys: &KeyRing) {
        let mut state = self.shared.state();
        keys.iter()
            .for_each(|key| state.sent.add(key.clone(), None));
        state.sent.is_complete = true;
    }

    fn stop(&mut self) {
        self.shared.state().is_stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for FedSource {
    fn drop(&mut self) {
        self.stop();
        // Whoever waits to be told hears that it will never be.
        let mut state = self.shared.state();
        let waiting = std::mem::take(&mut state.waiting);
        let given = std::mem::take(&mut state.given);
        let sent = std::mem::take(&mut state.sent);
        drop(state);
        drop((waiting, given, sent));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const WAIT: Duration = Duration::from_millis(1);

    fn rows(taken: Taken) -> Option<(String, Option<Key>, Position)> {
        let Taken::Rows(piece) = taken else {
            return None;
        };
        let text = String::from_utf8(piece.rows).unwrap();
        Some((text, piece.key, piece.position))
    }

    #[test]
    fn offers_are_told_once_they_are_durable() {
        let (feed, mut source) = fed("http", None, 100);
        source.remember(&KeyRing::default());
        let told = Arc::new(AtomicUsize::new(0));
        for text in ["a", "b\n", "c"] {
            let told = Arc::clone(&told);
            let tell = Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            });
            let key = (text == "c").then(|| Key::of("k", b"c"));
            feed.offer(text.into(), key, tell).unwrap();
        }
        let (text, key, first) = rows(source.take(100, WAIT).unwrap()).unwrap();
        assert_eq!((text.as_str(), key), ("a\nb\n", None));
        let (text, key, second) = rows(source.take(100, WAIT).unwrap()).unwrap();
        assert_eq!((text.as_str(), key), ("c\n", Some(Key::of("k", b"c"))));
        assert_eq!(told.load(Ordering::Relaxed), 0);
        source.acknowledge(&first);
        assert_eq!(told.load(Ordering::Relaxed), 2);
        source.acknowledge(&second);
        source.acknowledge(&first);
        assert_eq!(told.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn rows_are_numbered_on_after_a_restart() {
        let take = |source: &mut FedSource| match source.take(100, WAIT).unwrap() {
            Taken::Rows(piece) => (piece.first_row, piece.position),
            other => panic!("rows were offered: {other:?}"),
        };
        let offer = |feed: &Feed| feed.offer(b"a\nb\n".to_vec(), None, Box::new(|| ()));
        let (feed, mut source) = fed("http", None, 100);
        offer(&feed).unwrap();
        let (first, position) = take(&mut source);
        assert_eq!(first, 1);
        let (feed, mut source) = fed("http", None, 100);
        source.go_on(&position).unwrap();
        offer(&feed).unwrap();
        let (first, next) = take(&mut source);
        assert_eq!(first, 3);
        assert!(next > position);
        source.go_on(&Position::of(&[7])).unwrap();
        source.go_on(&Position::of(&[7, 8, 9])).unwrap_err();
    }

    #[test]
    fn what_has_no_room_is_refused_and_has_it_later() {
        let (feed, mut source) = fed("http", None, 4);
        let offer = |text: &str| feed.offer(text.into(), None, Box::new(|| ()));
        assert_eq!(offer("12345"), Err(Unfed::TooLong { bytes: 5, limit: 4 }));
        assert_eq!(offer("123\n"), Ok(Offered::New));
        assert!(feed.is_full());
        assert_eq!(offer("1\n"), Err(Unfed::Full));
        // Longer than what is asked for, and it cannot be cut.
        assert!(rows(source.take(2, WAIT).unwrap()).is_some());
        assert_eq!(offer("1\n"), Ok(Offered::New));
        source.stop();
        assert_eq!(offer("1\n"), Err(Unfed::Stopped));
        assert!(rows(source.take(4, WAIT).unwrap()).is_some());
        assert_eq!(source.take(4, WAIT), Ok(Taken::End));
    }

    #[test]
    fn rows_under_a_key_count_once() {
        let (feed, mut source) = fed("http", None, 100);
        let told = Arc::new(AtomicUsize::new(0));
        let offer = |name: &str, body: &str| {
            let told = Arc::clone(&told);
            let tell = Box::new(move || {
                told.fetch_add(1, Ordering::Relaxed);
            });
            feed.offer(body.into(), Some(Key::of(name, body.as_bytes())), tell)
        };
        assert_eq!(offer("a", "1"), Err(Unfed::Recovering));
        let mut known = KeyRing::default();
        known.add(Key::of("old", b"0"));
        source.remember(&known);
        // What is durable is answered at once, whoever else waits.
        assert_eq!(offer("old", "0"), Ok(Offered::Again));
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!(offer("old", "1"), Err(Unfed::Other));
        assert_eq!(offer("a", "1"), Ok(Offered::New));
        assert_eq!(offer("a", "1"), Ok(Offered::Again));
        assert_eq!(offer("a", "2"), Err(Unfed::Other));
        let (text, _, first) = rows(source.take(100, WAIT).unwrap()).unwrap();
        assert_eq!(text, "1\n");
        assert_eq!(source.take(100, WAIT), Ok(Taken::Nothing));
        assert_eq!(told.load(Ordering::Relaxed), 1);
        source.acknowledge(&first);
        assert_eq!(told.load(Ordering::Relaxed), 3);
        assert_eq!(offer("a", "1"), Ok(Offered::Again));
        assert_eq!(told.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn so_many_wait_for_one_key_and_no_more() {
        let (feed, mut source) = fed("http", None, 100);
        source.remember(&KeyRing::default());
        let offer = || feed.offer(b"1".to_vec(), Some(Key::of("a", b"1")), Box::new(|| ()));
        assert_eq!(offer(), Ok(Offered::New));
        (0..REPEATS_MAX).for_each(|_| assert_eq!(offer(), Ok(Offered::Again)));
        assert_eq!(offer(), Err(Unfed::Full));
    }

    #[test]
    fn a_pipe_gives_whole_lines_and_ends() {
        let (feed, mut source) = fed("stdin", None, 1 << 20);
        feed.pipe(&b"one\ntwo\nthr"[..]);
        let (text, _, position) = rows(source.take(100, WAIT).unwrap()).unwrap();
        assert_eq!(text, "one\ntwo\nthr\n");
        assert_eq!(source.take(100, WAIT), Ok(Taken::End));
        assert!(source.seek(&position).is_err());
    }

    #[test]
    fn who_waits_in_vain_hears_it() {
        struct Gone(Arc<AtomicUsize>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(AtomicUsize::new(0));
        let (feed, source) = fed("http", None, 100);
        let gone = Gone(Arc::clone(&count));
        let tell = Box::new(move || drop(gone));
        feed.offer(b"a".to_vec(), None, tell).unwrap();
        drop(source);
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let refused = feed.offer(b"a".to_vec(), None, Box::new(|| ()));
        assert_eq!(refused, Err(Unfed::Stopped));
    }
}
