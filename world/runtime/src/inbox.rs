//! The engine's queue: many senders, one reader, bounded for requests.
//!
//! What would surprise: the bell is rung only when the engine sleeps, for a needless futex
//! call costs more than the push itself.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holm_base::{NodeId, Op, Revision, Term, WriteId};
use holm_kv::JobDone;
use holm_raft::Operation;
use holm_replica::{Answer, Message};
use holm_sequencer::Form;
use tokio::sync::oneshot;

/// How many requests may wait.
pub(crate) const REQUESTS_MAX: usize = 65_536;
/// How many bytes of requests may wait.
pub(crate) const BYTES_MAX: usize = 64 << 20;

/// How many messages of other nodes may wait.
pub(crate) const MESSAGES_MAX: usize = 65_536;
/// How many bytes of them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How long the reader sleeps on at once while another thread does its work.
/// As long as what waits for company may.
const HELD: Duration = Duration::from_millis(5);
/// How much later than it wanted the reader may look at the time.
const SLACK: Duration = Duration::from_millis(1);

/// An entry as the log gives it back.
pub(crate) type LogEntry = (Term, Op, Form, Bytes);

/// Something for the engine.
#[derive(Debug)]
pub(crate) enum Letter {
    /// A request and who waits for its answer.
    Ask(Ask, oneshot::Sender<Answer>),
    /// The log writer's report, and how long the sync took.
    Durable(WriteId, Duration),
    /// Another node's process has perhaps ended.
    Suspect(NodeId),
    /// Another node spoke.
    Message(NodeId, Message),
    /// The log writer's answer: entries for a peer.
    Fetched(NodeId, Vec<LogEntry>),
    /// The background worker's report.
    WorkDone(JobDone),
    /// Finish what was taken and end.
    Stop,
}

/// What a front task can ask of the engine.
#[derive(Debug)]
pub(crate) enum Ask {
    Propose { body: Bytes, takes_space: bool },
    LeaseRenew { lease: i64 },
    LeaseTimeToLive { lease: i64, with_keys: bool },
    Leases,
    Swept { revision: Revision },
    Read,
    Operate { operation: Operation },
    Stand,
}

impl Ask {
    const fn bytes(&self) -> usize {
        match self {
            Self::Propose { body, .. } => body.len(),
            Self::LeaseRenew { .. }
            | Self::LeaseTimeToLive { .. }
            | Self::Leases
            | Self::Swept { .. }
            | Self::Read
            | Self::Operate { .. }
            | Self::Stand => 0,
        }
    }
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The log would not take it.
    TooLarge,
    Full,
    Stopped,
}

#[derive(Debug, Default)]
struct State {
    letters: Vec<Letter>,
    requests: usize,
    bytes: usize,
    messages: usize,
    message_bytes: usize,
    is_asleep: bool,
    /// Until when the reader sleeps at most.
    sleeps_until: Option<Instant>,
    /// Whether the reader is to look at the time though nothing waits.
    must_look: bool,
    /// Whether another thread does the sleeping reader's work and will ring in its place.
    is_held: bool,
    door: Door,
}

impl State {
    /// Whether the reader has nothing to do.
    const fn sleeps_on(&self) -> bool {
        self.letters.is_empty() && !self.must_look
    }

    /// Whether what waits are messages, and they are short.
    fn has_few_messages(&self, bytes_max: usize) -> bool {
        let are_messages = self.letters.len() == self.messages;
        self.door == Door::Open && are_messages && self.message_bytes <= bytes_max
    }

    /// Takes all that waits and leaves an empty list.
    const fn take_letters(&mut self, empty: Vec<Letter>) -> Vec<Letter> {
        self.requests = 0;
        self.bytes = 0;
        self.messages = 0;
        self.message_bytes = 0;
        core::mem::replace(&mut self.letters, empty)
    }
}

/// What is still taken in, ordered by how little that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    /// Everything.
    #[default]
    Open,
    /// No requests.
    Closed,
    /// Nothing: nobody reads any more.
    Over,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
    /// The longest request that can be logged.
    request_bytes_max: usize,
}

impl Inbox {
    pub(crate) fn new(request_bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            bell: Condvar::new(),
            request_bytes_max,
        }
    }

    /// Puts a request in, unless the limits say no.
    pub(crate) fn ask(&self, ask: Ask, answer: oneshot::Sender<Answer>) -> Result<(), NotTaken> {
        if ask.bytes() > self.request_bytes_max {
            return Err(NotTaken::TooLarge);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.door != Door::Open {
            return Err(NotTaken::Stopped);
        }
        let bytes = state.bytes + ask.bytes();
        if state.requests >= REQUESTS_MAX || bytes > BYTES_MAX {
            return Err(NotTaken::Full);
        }
        state.requests += 1;
        state.bytes = bytes;
        self.put(state, Letter::Ask(ask, answer));
        Ok(())
    }

    /// Puts a message of another node in, which was `bytes` long; false if there is no room for
    /// it, or nobody to read it. Wakes nobody: see [`Inbox::hold_waiting`] and
    /// [`Inbox::rouse`].
    pub(crate) fn hear(&self, from: NodeId, message: Message, bytes: usize) -> bool {
        self.put_bounded(Letter::Message(from, message), bytes)
            .is_some()
    }

    /// Puts in that a node's process has perhaps ended; false as for a message, of which it takes
    /// the room.
    pub(crate) fn suspect(&self, peer: NodeId) -> bool {
        let state = self.put_bounded(Letter::Suspect(peer), 0);
        state.map(|state| self.ring(state)).is_some()
    }

    fn put_bounded(&self, letter: Letter, bytes: usize) -> Option<MutexGuard<'_, State>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = state.message_bytes + bytes;
        if state.door == Door::Over || state.messages >= MESSAGES_MAX || sum > MESSAGE_BYTES_MAX {
            return None;
        }
        state.messages += 1;
        state.message_bytes = sum;
        state.letters.push(letter);
        Some(state)
    }

    /// Wakes the reader if something waits for it.
    pub(crate) fn rouse(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.letters.is_empty() {
            self.ring(state);
        }
    }

    /// Takes what waits for the sleeping reader and keeps it asleep while the caller does its
    /// work, as [`Inbox::hold`] does, if that is at most `bytes_max`. `None` if there is nothing
    /// to do for the caller: the reader is awake, or was woken just now.
    pub(crate) fn hold_waiting(&self, bytes_max: usize) -> Option<(Hold<'_>, Vec<Letter>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_asleep || state.is_held || state.letters.is_empty() {
            return None;
        }
        if !state.has_few_messages(bytes_max) {
            self.ring(state);
            return None;
        }
        state.is_held = true;
        let letters = state.take_letters(Vec::new());
        Some((Hold(self), letters))
    }

    /// The reader's work was done in its place, and it has something to do once `patience` is
    /// over: wakes it if it would sleep for much longer.
    pub(crate) fn remind(&self, patience: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let due = Instant::now() + patience + SLACK;
        let oversleeps = state.sleeps_until.is_some_and(|until| until > due);
        if state.is_asleep && oversleeps {
            state.must_look = true;
            state.is_asleep = false;
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Puts a report in; those are always taken, and bounded by what was asked for.
    pub(crate) fn tell(&self, letter: Letter) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(state, letter);
    }

    /// Keeps the sleeping reader asleep while the caller does its work: nothing waits, and what
    /// comes meanwhile rings once the hold is dropped. `None` if the reader is awake, if
    /// something waits, or if this request would be refused.
    pub(crate) fn hold(&self, ask: &Ask) -> Option<Hold<'_>> {
        if ask.bytes() > self.request_bytes_max {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = state.is_asleep && !state.is_held && state.letters.is_empty();
        if state.door != Door::Open || !is_idle {
            return None;
        }
        state.is_held = true;
        Some(Hold(self))
    }

    /// Refuses all further requests.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.door = state.door.max(Door::Closed);
    }

    /// Nobody reads from now on: what waits is dropped, and so is what other nodes say. Until
    /// then they are heard though requests are refused, for what was taken needs them.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.door = Door::Over;
        state.letters = Vec::new();
    }

    /// Whether requests are refused for good.
    pub(crate) fn is_closed(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.door != Door::Open
    }

    /// Swaps all that waits into `into` (which must be empty); waits up to `patience` for it.
    pub(crate) fn take(&self, into: &mut Vec<Letter>, patience: Duration) {
        assert!(
            into.is_empty(),
            "a batch is worked off before the next is taken"
        );
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.letters.is_empty() && !patience.is_zero() {
            state.is_asleep = true;
            state = self.sleep(state, patience);
            // Whoever does its work looks at the time itself, and wakes it if that is needed: it
            // would only wait for the engine, perhaps for as long as a disk takes.
            while state.is_held && state.sleeps_on() {
                state = self.sleep(state, HELD);
            }
            state.is_asleep = false;
            state.must_look = false;
            state.sleeps_until = None;
        }
        *into = state.take_letters(core::mem::take(into));
    }

    /// Sleeps until something is there to do, but not for longer than `patience`.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        state.sleeps_until = Some(Instant::now() + patience);
        let woken = self
            .bell
            .wait_timeout_while(state, patience, |it| it.sleeps_on());
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    fn put(&self, mut state: MutexGuard<'_, State>, letter: Letter) {
        state.letters.push(letter);
        self.ring(state);
    }

    /// Wakes the reader if it sleeps and nobody does its work.
    fn ring(&self, mut state: MutexGuard<'_, State>) {
        let must_ring = !state.is_held && core::mem::take(&mut state.is_asleep);
        drop(state);
        if must_ring {
            self.bell.notify_one();
        }
    }
}

/// The right to do the sleeping reader's work; see [`Inbox::hold`].
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Inbox);

impl Hold<'_> {
    /// Takes messages that came meanwhile, if nothing else did and they are at most `bytes_max`
    /// long. What is left wakes the reader when the hold ends.
    pub(crate) fn more(&self, bytes_max: usize) -> Option<Vec<Letter>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let has_few = !state.letters.is_empty() && state.has_few_messages(bytes_max);
        has_few.then(|| state.take_letters(Vec::new()))
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_held = false;
        if !state.letters.is_empty() {
            self.0.ring(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renew(inbox: &Inbox) -> Result<(), NotTaken> {
        inbox.ask(Ask::LeaseRenew { lease: 1 }, oneshot::channel().0)
    }

    #[test]
    fn a_full_inbox_refuses_requests_and_takes_reports() {
        let inbox = Inbox::new(BYTES_MAX);
        for _ in 0..REQUESTS_MAX {
            renew(&inbox).expect("there is room");
        }
        assert_eq!(renew(&inbox), Err(NotTaken::Full));
        inbox.tell(Letter::Durable(WriteId::new(1), Duration::ZERO));
        let mut batch = Vec::new();
        inbox.take(&mut batch, Duration::ZERO);
        assert_eq!(batch.len(), REQUESTS_MAX + 1);
        assert_eq!(renew(&inbox), Ok(()));
    }

    #[test]
    fn messages_of_others_are_bounded_by_themselves() {
        let inbox = Inbox::new(BYTES_MAX);
        let hear = |bytes| {
            let (id, op, word) = (1, Op::ZERO, holm_replica::Word::Busy);
            let told = holm_replica::Told { id, op, word };
            inbox.hear(NodeId::new(2), Message::Told(told), bytes)
        };
        assert!(hear(MESSAGE_BYTES_MAX), "it just fits");
        assert!(!hear(1), "no room");
        assert_eq!(renew(&inbox), Ok(()), "requests have room of their own");
        let mut batch = Vec::new();
        inbox.take(&mut batch, Duration::ZERO);
        assert!((0..MESSAGES_MAX).all(|_| hear(0)));
        assert!(!hear(0), "too many");
        inbox.take(&mut { Vec::new() }, Duration::ZERO);
        inbox.close();
        assert!(hear(0), "what was taken needs the others");
        inbox.end();
        assert!(!hear(0), "nobody reads");
    }

    fn propose(inbox: &Inbox, bytes: usize) -> Result<(), NotTaken> {
        let body = Bytes::from(vec![0; bytes]);
        let ask = Ask::Propose {
            body,
            takes_space: true,
        };
        inbox.ask(ask, oneshot::channel().0)
    }

    #[test]
    fn bytes_are_bounded_too() {
        let inbox = Inbox::new(BYTES_MAX);
        assert_eq!(propose(&inbox, BYTES_MAX), Ok(()));
        assert_eq!(propose(&inbox, 1), Err(NotTaken::Full));
    }

    #[test]
    fn what_the_log_would_not_take_is_refused_at_the_door() {
        let inbox = Inbox::new(100);
        assert_eq!(propose(&inbox, 101), Err(NotTaken::TooLarge));
        assert_eq!(propose(&inbox, 100), Ok(()));
    }

    #[test]
    fn an_inbox_is_held_only_while_its_reader_sleeps_over_nothing() {
        let inbox = Inbox::new(BYTES_MAX);
        assert!(inbox.hold(&Ask::Leases).is_none(), "nobody sleeps");
        inbox.state.lock().unwrap().is_asleep = true;
        let hold = inbox.hold(&Ask::Leases).expect("the reader sleeps");
        assert!(inbox.hold(&Ask::Leases).is_none(), "one at a time");
        renew(&inbox).expect("there is room");
        assert!(inbox.state.lock().unwrap().is_asleep, "nobody rang yet");
        drop(hold);
        assert!(!inbox.state.lock().unwrap().is_asleep, "the hold rang");
        assert!(inbox.hold(&Ask::Leases).is_none(), "a letter waits");
    }

    fn mutter(inbox: &Inbox, bytes: usize) -> bool {
        let (id, op, word) = (1, Op::ZERO, holm_replica::Word::Busy);
        let told = holm_replica::Told { id, op, word };
        inbox.hear(NodeId::new(2), Message::Told(told), bytes)
    }

    #[test]
    fn messages_wake_nobody_until_somebody_sees_to_them() {
        let inbox = Inbox::new(BYTES_MAX);
        let is_asleep = |inbox: &Inbox| inbox.state.lock().unwrap().is_asleep;
        assert!(mutter(&inbox, 10));
        assert!(inbox.hold_waiting(10).is_none(), "nobody sleeps");
        inbox.state.lock().unwrap().is_asleep = true;
        assert!(mutter(&inbox, 10));
        assert!(is_asleep(&inbox));
        let (hold, letters) = inbox.hold_waiting(20).expect("the reader sleeps");
        assert_eq!(letters.len(), 2);
        assert_eq!(hold.more(20).map(|it| it.len()), None, "nothing came");
        assert!(mutter(&inbox, 1));
        assert!(inbox.hold_waiting(20).is_none(), "one at a time");
        assert_eq!(hold.more(20).map(|it| it.len()), Some(1));
        assert!(mutter(&inbox, 1));
        renew(&inbox).expect("there is room");
        assert!(hold.more(20).is_none(), "not only messages");
        drop(hold);
        assert!(!is_asleep(&inbox), "what came meanwhile rang");
        inbox.take(&mut { Vec::new() }, Duration::ZERO);
        inbox.state.lock().unwrap().is_asleep = true;
        assert!(mutter(&inbox, 21));
        assert!(inbox.hold_waiting(20).is_none(), "too much");
        assert!(!is_asleep(&inbox), "so the reader does it");
    }

    #[test]
    fn a_reader_that_would_oversleep_is_reminded() {
        let inbox = std::sync::Arc::new(Inbox::new(BYTES_MAX));
        let reader = std::sync::Arc::clone(&inbox);
        let reading = std::thread::spawn(move || {
            let mut batch = Vec::new();
            reader.take(&mut batch, Duration::from_secs(600));
            batch.len()
        });
        while !inbox.state.lock().unwrap().is_asleep {
            std::thread::yield_now();
        }
        inbox.remind(Duration::from_secs(700));
        assert!(inbox.state.lock().unwrap().is_asleep, "it wakes in time");
        inbox.remind(Duration::from_secs(1));
        assert_eq!(reading.join().expect("it ends"), 0);
    }

    #[test]
    fn a_reader_sleeps_on_while_another_does_its_work() {
        let inbox = std::sync::Arc::new(Inbox::new(BYTES_MAX));
        inbox.state.lock().unwrap().is_held = true;
        let hold = Hold(&inbox);
        let reader = std::sync::Arc::clone(&inbox);
        let begun = Instant::now();
        let reading = std::thread::spawn(move || {
            let mut batch = Vec::new();
            reader.take(&mut batch, Duration::from_micros(1));
            batch.len()
        });
        // It has woken in time, and sleeps again.
        while inbox.state.lock().unwrap().sleeps_until < Some(begun + HELD) {
            std::thread::yield_now();
        }
        inbox.tell(Letter::Stop);
        drop(hold);
        assert_eq!(reading.join().expect("it ends"), 1);
    }

    #[test]
    fn a_closed_inbox_says_so() {
        let inbox = Inbox::new(BYTES_MAX);
        inbox.close();
        assert_eq!(renew(&inbox), Err(NotTaken::Stopped));
    }
}
