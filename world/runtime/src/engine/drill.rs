//! The engine's thread held to the contract of all drivers (`holm_machine::conformance`).
//!
//! The engine, its inbox's letters, the log and the files are the real ones. The test is what
//! stands around them: the log's thread, the network, the clock, and a leader that says what
//! makes a follower write, state and echo.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use bytes::Bytes;
use holm_base::{ClusterId, Op, Term};
use holm_kv::Config;
use holm_log::LogConfig;
use holm_machine::conformance::{self, Rig};
use holm_raft::{Body, Command, Entry, Flags, Origin, Payload, Position};
use holm_replica::GroupConfig;
use tempfile::TempDir;

use super::tests::{Files, assemble};
use super::*;

/// A question to the leader is asked again after half of this, and no election comes before.
const TIMEOUT: Duration = Duration::from_secs(20);

const LEADER: NodeId = NodeId::new(1);
const OWN: NodeId = NodeId::new(2);

/// Counts what a follower says, or takes nothing.
#[derive(Debug, Default)]
struct Post {
    refuses: AtomicBool,
    acks: AtomicUsize,
    pulses: AtomicUsize,
    questions: AtomicUsize,
}

impl Network for Post {
    fn send(&self, to: NodeId, parcel: Parcel) {
        if self.refuses.load(Ordering::Relaxed) {
            return;
        }
        assert_eq!(to, LEADER, "a follower talks to its leader");
        let count = match Message::decode(parcel.kind, &parcel.body).expect("it was encoded") {
            Message::Raft(message) => match message.body {
                Body::Ack { .. } => &self.acks,
                Body::HeartbeatReply { .. } => &self.pulses,
                other => panic!("a follower said {other:?}"),
            },
            Message::Ask(_) => &self.questions,
            Message::Told(told) => panic!("a follower answered {told:?}"),
            Message::Island(_, word) => panic!("a follower said {word:?}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

struct Drill {
    folder: TempDir,
    engine: Option<Engine>,
    _jobs: Option<Receiver<Job>>,
    post: Arc<Post>,
    /// The end of the leader's log.
    last: Position,
    round: u64,
    /// What the log's thread would be flushing.
    flushing: Option<(Vec<Record>, WriteId)>,
    found: usize,
    /// How much further than the real one this run's clock is.
    ahead: Duration,
    /// When the question is asked again.
    due: Time,
    questions: usize,
    waiter: Option<oneshot::Receiver<Answer>>,
}

impl Drill {
    fn new() -> Self {
        let mut drill = Self {
            folder: tempfile::tempdir().expect("a place for files"),
            engine: None,
            _jobs: None,
            post: Arc::new(Post::default()),
            last: Position::ZERO,
            round: 0,
            flushing: None,
            found: 0,
            ahead: Duration::ZERO,
            due: Time::ZERO,
            questions: 0,
            waiter: None,
        };
        drill.start();
        drill
    }

    fn start(&mut self) {
        let log_config = LogConfig {
            segment_bytes: holm_base::ByteCount::new(256 << 10),
            has_peers: true,
            ..LogConfig::new(ClusterId::new(1), OWN)
        };
        let group = GroupConfig {
            election_timeout: TIMEOUT,
            ..GroupConfig::new(OWN, vec![LEADER, OWN, NodeId::new(3)])
        };
        let config = Config {
            election_timeout: TIMEOUT,
            ..Config::default()
        };
        let files = Files::Group(self.folder.path(), log_config, config, &group);
        let network: Arc<dyn Network> = Arc::<Post>::clone(&self.post);
        let (engine, jobs, replayed) = assemble(files, Some(network));
        self.engine = Some(engine);
        self._jobs = Some(jobs);
        self.found = usize::try_from(replayed).expect("a few");
        self.last.op = Op::new(replayed);
        self.ahead = Duration::ZERO;
        let started = with_engine(self.engine.as_mut(), |it| {
            it.work_off(core::iter::empty(), true)
        });
        assert_eq!(started, Ok(()));
        // The leader is known from here on, and the term is on disk: that write is alone.
        let pulses = self.post.pulses.load(Ordering::Relaxed);
        let body = self.heartbeat();
        self.hear(vec![body]);
        self.post.pulses.store(pulses, Ordering::Relaxed);
        let (waiter, told) = oneshot::channel();
        self.waiter = Some(told);
        self.take(vec![Letter::Ask(Ask::LeaseRenew { lease: 7 }, waiter)]);
        self.due = self.now() + TIMEOUT / 2;
        self.questions = self.post.questions.load(Ordering::Relaxed);
        while self.flush_on() {}
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it runs")
    }

    fn now(&self) -> Time {
        self.engine().shared.clock.now()
    }

    fn heartbeat(&mut self) -> Body {
        self.round += 1;
        Body::Heartbeat {
            round: self.round,
            commit: Op::ZERO,
            stamp: Time::ZERO,
        }
    }

    /// Entries with bodies of so many bytes.
    fn entries(&mut self, count: usize, bytes: usize) -> Body {
        let previous = self.last;
        let mut entries = Vec::new();
        for _ in 0..count {
            self.last = Position {
                term: Term::new(1),
                op: self.last.op.next(),
            };
            let command = Command {
                origin: Origin::default(),
                sequence: self.last.op.value(),
                flags: Flags::default(),
                body: Bytes::from(vec![0; bytes]),
            };
            entries.push(Entry {
                op: self.last.op,
                term: self.last.term,
                payload: Payload::Command(command),
            });
        }
        Body::Append {
            previous,
            commit: Op::ZERO,
            entries,
        }
    }

    fn hear(&mut self, bodies: Vec<Body>) {
        let letter = |body| {
            let term = Term::new(1);
            Letter::Message(LEADER, Message::Raft(holm_raft::Message { term, body }))
        };
        self.take(bodies.into_iter().map(letter).collect());
    }

    fn take(&mut self, letters: Vec<Letter>) {
        let engine = self.engine.as_mut();
        let worked = with_engine(engine, |it| it.work_off(letters.into_iter(), false));
        assert_eq!(worked, Ok(()));
        self.begin_flush();
    }

    /// What the log's thread does when it has nothing to do: takes all that waits.
    fn begin_flush(&mut self) {
        if self.flushing.is_none() {
            let engine = self.engine();
            self.flushing = engine.outbox.take_waiting(engine.group);
        }
    }

    fn flush_on(&mut self) -> bool {
        let Some((records, through)) = self.flushing.take() else {
            return false;
        };
        let engine = self.engine();
        let flushed = engine
            .shelf
            .flush_here(engine.group, &records, &engine.outbox);
        assert!(matches!(flushed, Ok(true)), "{flushed:?}");
        self.take(vec![Letter::Durable(through, Duration::ZERO)]);
        true
    }
}

fn with_engine<T>(engine: Option<&mut Engine>, act: impl FnOnce(&mut Engine) -> T) -> T {
    act(engine.expect("it runs"))
}

impl Rig for Drill {
    fn write(&mut self, records: usize) {
        let body = self.entries(records, HERE_BYTES_MAX);
        self.hear(vec![body]);
    }

    fn burst(&mut self, count: usize) {
        let bodies = (0..count)
            .map(|_| self.entries(2, HERE_BYTES_MAX))
            .collect();
        self.hear(bodies);
    }

    fn echo(&mut self) {
        let body = self.heartbeat();
        self.hear(vec![body]);
    }

    fn sync(&mut self) -> bool {
        self.flush_on()
    }

    fn statements(&mut self) -> usize {
        self.post.acks.load(Ordering::Relaxed)
    }

    fn echoes(&mut self) -> usize {
        self.post.pulses.load(Ordering::Relaxed)
    }

    fn wake_at(&mut self) -> Time {
        self.due
    }

    fn pass_until(&mut self, at: Time) {
        // As often as the thread would wake by itself, and no more often.
        while self.now() < at {
            let pause = with_engine(self.engine.as_mut(), Engine::patience);
            self.ahead += pause.min(at.since(self.now()));
            let ahead = self.ahead;
            let engine = self.engine.as_mut().expect("it runs");
            let shared = Arc::get_mut(&mut engine.shared).expect("nobody else has it");
            shared.clock.set_ahead(ahead);
            self.take(Vec::new());
        }
        let questions = self.post.questions.load(Ordering::Relaxed);
        if questions > self.questions {
            self.questions = questions;
            self.due = self.now() + TIMEOUT / 2;
        }
    }

    fn wakes(&mut self) -> usize {
        self.post.questions.load(Ordering::Relaxed)
    }

    fn refuse(&mut self, refuses: bool) {
        self.post.refuses.store(refuses, Ordering::Relaxed);
    }

    fn crash(&mut self) {
        // What the log's thread was at is lost with it.
        (self.engine, self._jobs, self.flushing) = (None, None, None);
        let term = Term::new(1);
        self.last = Position { term, op: Op::ZERO };
        self.start();
    }

    fn found(&self) -> usize {
        self.found
    }
}

#[test]
fn the_real_driver_keeps_the_contract() {
    let begun = Instant::now();
    let held = conformance::hold(&mut Drill::new());
    assert!(held.is_ok(), "{}", held.unwrap_err());
    assert!(
        begun.elapsed() < TIMEOUT / 4,
        "too slow a machine to tell the clock that is set from the real one"
    );
}

#[test]
fn a_few_entries_that_come_together_are_flushed_where_they_are() {
    let mut drill = Drill::new();
    let few = drill.entries(HERE_RECORDS_MAX, 9);
    drill.hear(vec![few]);
    assert!(
        drill.flushing.is_none(),
        "nothing is left to the log's thread"
    );
    assert_eq!(drill.statements(), 1);
    let more = drill.entries(HERE_RECORDS_MAX + 1, 9);
    drill.hear(vec![more]);
    let long = drill.entries(2, HERE_BYTES_MAX / 2);
    drill.hear(vec![long]);
    assert_eq!(drill.statements(), 1, "they wait for the log's thread");
    while drill.flush_on() {}
    assert!(drill.statements() > 1);
}
