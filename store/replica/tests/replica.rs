//! A replica over a virtual disk, driven by hand: order of answers, restarts, crashes.

use std::time::Duration;

use bytes::Bytes;
use holm_base::{ClusterId, GroupId, NodeId, RequestId, Revision, Time, WriteId};
use holm_kv::command::{Command, Proposal, Put};
use holm_kv::outcome::Outcome;
use holm_kv::{Config, Refusal};
use holm_log::{Log, LogConfig, Urgency};
use holm_machine::Effects;
use holm_replica::{Answer, Effect, Input, Opened, Replica, SWEEP_WAITS_MAX, open};
use holm_sequencer::Record;
use holm_virtual::{Storage, Survival};

const GROUP: GroupId = GroupId::new(1);

/// A node: its replica, its log, and what it has answered.
struct Site {
    replica: Replica,
    log: Log,
    now: Time,
    effects: Effects<Effect>,
    records: Vec<Record>,
    through: WriteId,
    answers: Vec<(RequestId, Answer)>,
}

impl Site {
    fn open(storage: &Storage) -> Self {
        let mut log_config = LogConfig::new(ClusterId::new(1), NodeId::new(2));
        log_config.segment_bytes = holm_base::ByteCount::new(256 << 10);
        let opened = open(&*storage.root(), GROUP, log_config, Config::default());
        let Opened { replica, log, .. } = opened.expect("the directory opens");
        let mut site = Self {
            replica,
            log,
            now: Time::ZERO,
            effects: Effects::new(),
            records: Vec::new(),
            through: WriteId::ZERO,
            answers: Vec::new(),
        };
        site.step(Input::Start);
        site.settle();
        site.flush();
        site
    }

    fn step(&mut self, input: Input) {
        let stepped = self.replica.step(self.now, input, &mut self.effects);
        stepped.expect("no job has failed");
    }

    /// Settles and sorts what is wanted; jobs run on the spot.
    fn settle(&mut self) {
        self.replica.settle(self.now, &mut self.effects);
        let wanted: Vec<Effect> = self.effects.drain().collect();
        for effect in wanted {
            match effect {
                Effect::Persist { write, record } => {
                    self.records.push(record);
                    self.through = write;
                }
                Effect::Answer { request, answer } => self.answers.push((request, answer)),
                Effect::Work(job) => {
                    let done = job.run();
                    self.step(Input::WorkDone(done));
                }
                Effect::CutLog { through } => {
                    self.log.cut(GROUP, through).expect("the log is cut");
                }
                Effect::WakeStreams(_) | Effect::Note(_) => {}
                Effect::Send { .. } | Effect::Fetch { .. } => panic!("a node alone: {effect:?}"),
            }
        }
    }

    /// Makes what waits durable and applies it.
    fn flush(&mut self) {
        let records = core::mem::take(&mut self.records);
        let flushed = self.log.flush(GROUP, &records, Urgency::Ordinary);
        flushed.expect("the virtual disk holds it");
        let through = self.through;
        self.step(Input::Durable { through });
        self.settle();
    }

    fn propose(&mut self, request: u64, command: Command) {
        let proposal = Proposal {
            caller: None,
            command,
        };
        self.step(Input::Propose {
            request: RequestId::new(request),
            body: proposal.encode(),
            takes_space: true,
        });
    }

    fn value(&self, key: &str) -> Option<Bytes> {
        let view = self.replica.keyspace().reader().view();
        let meta = view.root.get(key.as_bytes())?;
        let record = view.root.read(&meta).expect("the record is sound");
        Some(record.decode().expect("a record").value)
    }
}

fn put(key: &str, value: &str) -> Command {
    Command::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Put::default()
    })
}

#[test]
fn an_answer_waits_for_the_log_and_then_for_the_view() {
    let mut site = Site::open(&Storage::new());
    site.propose(1, put("a", "1"));
    site.settle();
    assert!(site.answers.is_empty(), "the entry is not durable");
    assert_eq!(site.value("a"), None);
    site.flush();
    let Some((request, Answer::Applied(Ok(applied)))) = site.answers.pop() else {
        panic!("the put is answered: {:?}", site.answers);
    };
    assert_eq!(request, RequestId::new(1));
    assert_eq!(applied.revision.value(), 2);
    assert_eq!(applied.result, Ok(Outcome::Put { prev: None }));
    assert_eq!(site.value("a"), Some(Bytes::from_static(b"1")));
}

#[test]
fn a_restart_finds_everything_and_a_higher_term() {
    let storage = Storage::new();
    let mut site = Site::open(&storage);
    site.propose(1, put("a", "1"));
    site.settle();
    site.flush();
    let term = site.replica.term();
    drop(site);
    let site = Site::open(&storage);
    assert!(site.replica.term() > term);
    assert_eq!(site.value("a"), Some(Bytes::from_static(b"1")));
}

#[test]
fn a_crash_at_every_step_loses_nothing_that_was_answered() {
    let steps = {
        let storage = Storage::new();
        write_until_crash(&storage);
        storage.steps()
    };
    for step in 1..=steps {
        for survival in [
            Survival::Keep,
            Survival::Drop,
            Survival::Torn { seed: step },
        ] {
            let storage = Storage::new();
            storage.crash_at(step);
            let answered = write_until_crash(&storage);
            let storage = storage.reopen(survival);
            let site = Site::open(&storage);
            for number in 0..answered {
                let key = format!("key{number}");
                assert!(
                    site.value(&key).is_some(),
                    "step {step} {survival:?}: {key} was answered"
                );
            }
            let kept = site
                .replica
                .keyspace()
                .reader()
                .view()
                .root
                .revision()
                .value()
                - 1;
            assert!(
                kept >= i64::from(answered) && kept <= 20,
                "step {step} {survival:?}: {kept} kept of {answered} answered"
            );
        }
    }
}

/// Puts twenty keys, two at a time; how many were answered before the disk crashed.
fn write_until_crash(storage: &Storage) -> u32 {
    let config = LogConfig::new(ClusterId::new(1), NodeId::new(2));
    let config = LogConfig {
        segment_bytes: holm_base::ByteCount::new(256 << 10),
        ..config
    };
    let Ok(opened) = open(&*storage.root(), GROUP, config, Config::default()) else {
        return 0;
    };
    let mut site = Site {
        replica: opened.replica,
        log: opened.log,
        now: Time::ZERO,
        effects: Effects::new(),
        records: Vec::new(),
        through: WriteId::ZERO,
        answers: Vec::new(),
    };
    site.step(Input::Start);
    let mut answered = 0;
    for pair in 0..=10_u32 {
        if pair > 0 {
            let first = (pair - 1) * 2;
            for number in first..first + 2 {
                site.propose(u64::from(number) + 1, put(&format!("key{number}"), "v"));
            }
        }
        site.settle();
        let records = core::mem::take(&mut site.records);
        if site.log.flush(GROUP, &records, Urgency::Ordinary).is_err() {
            return answered;
        }
        let through = site.through;
        site.step(Input::Durable { through });
        site.settle();
        answered = u32::try_from(site.answers.len()).expect("at most twenty");
    }
    answered
}

#[test]
fn a_space_alarm_refuses_what_takes_space_before_it_is_ordered() {
    let mut site = Site::open(&Storage::new());
    site.propose(
        1,
        Command::Alarm {
            raise: true,
            member: 2,
            kind: holm_kv::command::AlarmKind::NoSpace,
            by_node: false,
        },
    );
    site.settle();
    site.flush();
    site.answers.clear();
    let last = site.replica.last();
    site.propose(2, put("a", "1"));
    site.settle();
    let answer = site.answers.pop();
    assert!(
        matches!(answer, Some((_, Answer::Applied(Err(Refusal::NoSpace))))),
        "{answer:?}"
    );
    assert_eq!(site.replica.last(), last, "nothing was ordered");
}

fn grant(id: i64, ttl: i64) -> Command {
    Command::LeaseGrant {
        id,
        ttl,
        ttl_min: 2,
    }
}

impl Site {
    fn done(&mut self, command: Command) {
        self.propose(1, command);
        self.settle();
        self.flush();
        self.answers.clear();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.settle();
    }

    fn renew(&mut self, lease: i64) {
        let request = RequestId::new(9);
        self.step(Input::LeaseRenew { request, lease });
        self.settle();
    }

    fn left(&self, lease: i64) -> i64 {
        let view = self.replica.keyspace().time_to_live(self.now, lease, false);
        view.ttl
    }
}

/// A node with a lease of which, at some moment, little was left; and that is on record.
fn with_a_checkpoint(storage: &Storage) -> Site {
    let mut site = Site::open(storage);
    site.done(grant(5, 1_000));
    for _ in 0..9 {
        site.pass(Duration::from_secs(100));
        site.flush();
    }
    assert!(site.left(5) <= 100 && site.replica.keyspace().is_shortened(5));
    site
}

#[test]
fn a_renewal_is_answered_once_a_restart_cannot_take_it_back() {
    let storage = Storage::new();
    let mut site = with_a_checkpoint(&storage);
    site.renew(5);
    assert!(site.answers.is_empty(), "what is on record is not cleared");
    // Killed here, the lease would have ended early: nobody was told otherwise.
    let early = Site::open(&storage.reopen(Survival::Keep));
    assert!(early.left(5) < 500, "{}", early.left(5));
    site.flush();
    let answer = site.answers.pop();
    assert!(
        matches!(answer, Some((_, Answer::Renewed(Ok(1_000))))),
        "{answer:?}"
    );
    let after = Site::open(&storage.reopen(Survival::Drop));
    assert!(after.left(5) >= 1_000, "{}", after.left(5));
    site.renew(5);
    assert_eq!(
        site.answers.len(),
        1,
        "the next one has nothing to wait for"
    );
}

#[test]
fn a_renewal_is_not_undone_by_a_checkpoint_that_was_on_its_way() {
    let storage = Storage::new();
    let mut site = Site::open(&storage);
    site.done(grant(5, 1_000));
    site.pass(Duration::from_secs(400));
    assert!(!site.records.is_empty(), "a checkpoint was proposed");
    site.renew(5);
    while site.answers.is_empty() {
        site.flush();
    }
    let after = Site::open(&storage.reopen(Survival::Drop));
    assert!(after.left(5) >= 1_000, "{}", after.left(5));
}

/// A lease of ten seconds, and a write that the log does not answer.
fn with_a_stuck_log(now_later: Duration) -> Site {
    let mut site = Site::open(&Storage::new());
    site.done(grant(5, 10));
    site.propose(1, put("a", "1"));
    site.settle();
    site.pass(now_later);
    site
}

#[test]
fn a_renewal_is_refused_while_the_log_is_stuck() {
    let mut site = with_a_stuck_log(Duration::from_millis(900));
    site.renew(5);
    let answer = site.answers.pop();
    let is_renewed = matches!(answer, Some((_, Answer::Renewed(Ok(10)))));
    assert!(is_renewed, "a slow disk is not a stuck one: {answer:?}");
    site.now = site.now + Duration::from_millis(200);
    site.renew(5);
    let answer = site.answers.pop();
    let is_refused = matches!(answer, Some((_, Answer::Renewed(Err(Refusal::Stalled)))));
    assert!(is_refused, "{answer:?}");
    site.flush();
    site.answers.clear();
    site.renew(5);
    let answer = site.answers.pop();
    let is_renewed = matches!(answer, Some((_, Answer::Renewed(Ok(10)))));
    assert!(is_renewed, "the log has answered: {answer:?}");
}

#[test]
fn no_lease_ends_while_the_log_is_stuck() {
    let mut site = with_a_stuck_log(Duration::from_secs(20));
    let last = site.replica.last();
    site.pass(Duration::from_secs(1));
    assert_eq!(site.replica.last(), last, "nothing is proposed");
    assert_eq!(site.replica.wake_at(), None, "and nobody turns in a circle");
    site.flush();
    assert!(site.replica.last() > last, "the log has answered");
    site.flush();
    assert_eq!(site.left(5), -1);
}

#[test]
fn an_expiry_that_was_not_taken_comes_again_soon() {
    let mut site = Site::open(&Storage::new());
    site.done(grant(5, 2));
    site.now = site.now + Duration::from_secs(5);
    for _ in 0..65_536 {
        site.propose(1, Command::Compact { revision: 0 });
    }
    site.settle();
    let waiting = site.replica.last();
    site.flush();
    assert!(site.left(5) >= 0, "the queue was full");
    site.pass(Duration::from_secs(1));
    assert!(site.replica.last() > waiting, "it is proposed anew");
    site.flush();
    assert_eq!(site.left(5), -1);
}

/// A key with so many old versions that one slice of the sweep does not drop them.
fn compacted(site: &mut Site) -> Revision {
    for number in 0..400 {
        site.propose(number + 1, put("a", &number.to_string()));
    }
    site.settle();
    site.flush();
    let revision = Revision::new(400);
    site.propose(401, Command::Compact { revision: 400 });
    site.settle();
    site.flush();
    site.answers.clear();
    revision
}

fn await_sweep(site: &mut Site, request: u64, revision: Revision) {
    let request = RequestId::new(request);
    site.step(Input::Swept { request, revision });
    site.settle();
}

#[test]
fn who_waits_for_a_sweep_is_answered_behind_it_and_holds_up_nobody() {
    let mut site = Site::open(&Storage::new());
    let revision = compacted(&mut site);
    await_sweep(&mut site, 1, revision);
    assert!(site.answers.is_empty(), "nothing is swept yet");
    assert!(site.replica.sweep(), "one slice is not enough");
    site.settle();
    assert!(site.answers.is_empty(), "half of it is swept");
    site.propose(2, put("b", "1"));
    site.settle();
    site.flush();
    assert!(
        matches!(&site.answers[..], [(id, Answer::Applied(Ok(_)))] if id.value() == 2),
        "a put goes by: {:?}",
        site.answers
    );
    site.answers.clear();
    while !site.replica.keyspace().is_swept(revision) {
        assert!(site.replica.sweep(), "the last slice asks to be settled");
    }
    site.settle();
    assert!(
        matches!(&site.answers[..], [(id, Answer::Swept(Ok(())))] if id.value() == 1),
        "{:?}",
        site.answers
    );
    await_sweep(&mut site, 3, revision);
    assert_eq!(site.answers.len(), 2, "what is swept is answered at once");
}

#[test]
fn too_many_who_wait_for_a_sweep_are_told_so() {
    let mut site = Site::open(&Storage::new());
    let revision = compacted(&mut site);
    for request in 0..=SWEEP_WAITS_MAX {
        let request = RequestId::new(u64::try_from(request).expect("a few") + 1);
        site.step(Input::Swept { request, revision });
    }
    site.settle();
    assert!(
        matches!(&site.answers[..], [(id, Answer::Swept(Err(Refusal::Busy)))] if id.value() == 1025),
        "{:?}",
        site.answers
    );
    while site.replica.sweep() {
        site.settle();
    }
    assert_eq!(site.answers.len(), SWEEP_WAITS_MAX + 1);
}

#[test]
fn a_log_that_ends_before_the_engine_is_refused() {
    let storage = Storage::new();
    let mut site = Site::open(&storage);
    site.propose(1, put("a", "1"));
    site.settle();
    site.flush();
    // A clean stop: the engine's files hold everything.
    site.replica.hurry();
    site.settle();
    site.settle();
    assert!(site.replica.keyspace().durable_op().value() > 0);
    drop(site);
    let log = storage.root().folder("log").expect("it is there");
    for name in log.list().expect("it is there") {
        log.remove(&name).expect("it is there");
    }
    let opened = open(
        &*storage.root(),
        GROUP,
        LogConfig::new(ClusterId::new(1), NodeId::new(2)),
        Config::default(),
    );
    let error = opened.expect_err("the end of the log is missing");
    let text = error.to_string();
    assert!(text.contains("folder `log` are missing"), "{text}");
}
