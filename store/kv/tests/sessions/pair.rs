//! Two islands with nearly the same keys, and a session between them as sites hold it, message by
//! message; what it took.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{Op, Term, Time};
use holm_kv::command::{Command, Proposal, Put};
use holm_kv::{Config, Indexed, IslandConfig, Keyspace};
use holm_local_first::{
    Message, Named, Proposal as Entry, Rules, Seek, Session, Slot, Tree, Vector,
};
use holm_virtual::Storage;

const UNIX_MS: u64 = 1_800_000_000_000;
/// As many bytes as may be told at once, as sites have it.
const BYTES_MAX: usize = 1 << 20;

/// What tells the time; a test has nothing that does.
pub(crate) type Clock<'a> = &'a dyn Fn() -> Duration;

/// Does something, and adds how long it took.
pub(crate) fn timed<T>(clock: Clock<'_>, sum: &mut Duration, act: impl FnOnce() -> T) -> T {
    let begun = clock();
    let done = act();
    *sum += clock().saturating_sub(begun);
    done
}

/// An island with its engine.
pub(crate) struct Site {
    pub(crate) keyspace: Keyspace,
    op: u64,
    now: Time,
}

/// What a session took.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    pub(crate) rounds: u32,
    pub(crate) asked_bytes: usize,
    pub(crate) told_bytes: usize,
    pub(crate) differing: u64,
    /// Asking, and reading what is told, with the bytes of both.
    pub(crate) asker: Duration,
    /// Answering, likewise.
    pub(crate) teller: Duration,
    /// What the asker's log carries out at the end.
    pub(crate) install: Duration,
}

impl Site {
    pub(crate) fn new(number: u8) -> Self {
        let island = IslandConfig {
            slot: Slot::new(number).expect("slots begin at 1"),
            epoch: 1,
            since_unix_ms: UNIX_MS,
            rules: Rules::default(),
            updates_bytes_max: 1 << 30,
        };
        let config = Config {
            island: Some(island),
            ..Config::default()
        };
        let mut keyspace = Keyspace::open(Storage::new().root(), config).expect("it is new");
        keyspace.set_sequencer(Bytes::new());
        let (op, now) = (0, Time::ZERO);
        Self { keyspace, op, now }
    }

    fn apply(&mut self, command: Command) {
        let body = Proposal {
            caller: None,
            command,
        };
        let body = body.encode_at(UNIX_MS + self.op / 1_000);
        self.op += 1;
        let (op, term) = (Op::new(self.op), Term::new(1));
        let applied = self.keyspace.apply(self.now, op, term, &body);
        assert!(applied.result.is_ok(), "{applied:?}");
    }

    /// What waits goes to the disk.
    fn work(&mut self) {
        self.now = self.now + Duration::from_secs(2);
        drop(self.keyspace.take_applied());
        if self.keyspace.is_sequencer_due(self.now) {
            self.keyspace.set_sequencer(Bytes::from_static(b"here"));
        }
        while let Some(job) = self.keyspace.next_job(self.now) {
            self.keyspace.finish(job.run()).expect("the disk is whole");
        }
    }

    /// Writes keys; how long one took.
    pub(crate) fn put(&mut self, clock: Clock<'_>, numbers: impl Iterator<Item = u64>) -> Duration {
        let (mut took, mut count) = (Duration::ZERO, 0);
        for number in numbers {
            let put = Put {
                key: Bytes::from(format!("/registry/things/{number:09}")),
                value: Bytes::from(format!("{:032}", self.op)),
                ..Put::default()
            };
            timed(clock, &mut took, || self.apply(Command::Put(put)));
            count += 1;
            if count % 4_096 == 0 {
                self.work();
            }
        }
        self.work();
        took / count.max(1)
    }

    pub(crate) fn vector(&self) -> Vector {
        let island = self.keyspace.island();
        island.expect("it is one").vector().clone()
    }

    /// Takes in what it lacks of another; how long an update took.
    pub(crate) fn follow(&mut self, clock: Clock<'_>, other: &Self) -> Duration {
        let (mut took, mut count) = (Duration::ZERO, 0);
        for (slot, last) in other.vector().iter() {
            while self.vector().seq(slot) < last {
                let after = self.vector().seq(slot);
                let found = other.keyspace.updates(slot, after, 1 << 18);
                let found = found.expect("all of them are kept");
                count += u32::try_from(found.len()).expect("a few");
                let entry = Command::Island(Entry::Updates(found));
                timed(clock, &mut took, || self.apply(entry));
                self.work();
            }
        }
        took / count.max(1)
    }

    /// Makes the index; how long it took, and its longest slice.
    pub(crate) fn index(&mut self, clock: Clock<'_>) -> (Tree, Duration, Duration) {
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        loop {
            match self.keyspace.index().expect("it is an island") {
                Indexed::Whole(tree) => return (tree, all, longest),
                Indexed::NotYet => {
                    let mut slice = Duration::ZERO;
                    timed(clock, &mut slice, || self.keyspace.sweep());
                    longest = longest.max(slice);
                    all += slice;
                }
                Indexed::Damaged => panic!("nothing was damaged"),
            }
        }
    }
}

fn written(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

fn read(bytes: &Bytes) -> Message {
    Message::decode(bytes).expect("what was written can be read")
}

/// A site gets what differs from another.
pub(crate) fn session(clock: Clock<'_>, asker: &mut Site, teller: &Site, id: u64) -> Cost {
    let mut cost = Cost::default();
    let states = teller.keyspace.states().expect("it is an island");
    let tips = states.tips().clone();
    let total = states.tree().expect("it has an index").total().short();
    let opened = Message::Opened {
        session: id,
        tips: tips.clone(),
        total,
    };
    cost.asked_bytes += written(&Message::Open { session: id }).len();
    cost.told_bytes += written(&opened).len();
    cost.rounds += 1;
    asker.apply(Command::Island(Entry::Begin(Session { id, tips })));
    let tree = asker.index(clock).0;
    let mut seek = timed(clock, &mut cost.asker, || Seek::new(id, tree, &total));
    loop {
        let ask = timed(clock, &mut cost.asker, || {
            seek.ask().map(|ask| written(&Message::Ask(ask)))
        });
        let Some(ask) = ask else {
            break;
        };
        cost.rounds += 1;
        cost.asked_bytes += ask.len();
        let told = timed(clock, &mut cost.teller, || {
            let Message::Ask(ask) = read(&ask) else {
                unreachable!("a question was written");
            };
            let told = states.tell(&ask, BYTES_MAX).expect("nothing is damaged");
            written(&Message::Tell(told.expect("there is an index")))
        });
        cost.told_bytes += told.len();
        let named = timed(clock, &mut cost.asker, || {
            let Message::Tell(told) = read(&told) else {
                unreachable!("an answer was written");
            };
            seek.told(told)
        });
        let states: Vec<(Bytes, Bytes)> = named.into_iter().map(Named::staged).collect();
        cost.differing += u64::try_from(states.len()).expect("a few");
        let stage = Command::Island(Entry::Stage {
            session: id,
            states,
        });
        timed(clock, &mut cost.install, || asker.apply(stage));
    }
    let keys = cost.differing;
    let join = Command::Island(Entry::Join { session: id, keys });
    timed(clock, &mut cost.install, || asker.apply(join));
    cost.asked_bytes += written(&Message::Done { session: id }).len();
    asker.work();
    cost
}

/// What was found of so many keys.
#[derive(Debug)]
pub(crate) struct Found {
    /// A put without and with an index, and an update of the other taken in.
    pub(crate) each: [Duration; 3],
    /// Making the index, and its longest slice.
    pub(crate) index: (Duration, Duration),
    /// Sessions, by what differed.
    pub(crate) sessions: Vec<(&'static str, Cost)>,
}

/// Holds sessions of all kinds over so many keys.
///
/// Each is held so many times, and of each side the quickest counts: others may use the machine.
///
/// # Panics
///
/// If one costs more bytes or round trips than was promised, or does not find what differs.
pub(crate) fn measure(clock: Clock<'_>, keys: u64, times: u64) -> Found {
    let (mut a, mut b) = (Site::new(1), Site::new(2));
    a.put(clock, 0..keys);
    let followed = b.follow(clock, &a);
    let stride = (keys / 1_000).max(1);
    let touched = 20_000.min(keys);
    let scattered = |count: u64| (0..count).map(move |it| it * 7_919 % keys);
    let without = a.put(clock, scattered(touched));
    let (tree, took, longest) = a.index(clock);
    assert_eq!(tree.total().count, keys);
    drop(tree);
    let with = a.put(clock, scattered(touched));
    b.index(clock);
    b.follow(clock, &a);
    let cases: [(&str, u64, u64); 4] = [
        ("none", 0, 1),
        ("10 scattered", 10, keys / 10),
        ("1000 scattered", 1_000.min(keys / 2), stride),
        ("1000 side by side", 1_000.min(keys / 2), 1),
    ];
    let mut sessions = Vec::new();
    let all = cases.into_iter();
    let all = all.flat_map(|case| (0..times).map(move |time| (time, case)));
    for (id, (time, (name, count, step))) in (1..).zip(all) {
        a.put(clock, (0..count).map(|it| it * step));
        let cost = session(clock, &mut b, &a, id);
        assert_eq!(a.vector(), b.vector(), "{name}");
        let (tree, ..) = a.index(clock);
        assert_eq!(tree.total(), b.index(clock).0.total(), "{name}");
        assert_eq!(cost.differing, count, "{name}: {cost:?}");
        let bytes = cost.asked_bytes + cost.told_bytes;
        match count {
            0 => assert!(bytes <= 400 && cost.rounds == 1, "{cost:?}"),
            10 => assert!(bytes <= 20 << 10 && cost.rounds <= 4, "{cost:?}"),
            _ => assert!(bytes < 3_000 << 10, "{cost:?}"),
        }
        if time == 0 {
            sessions.push((name, cost));
        } else if let Some((_, least)) = sessions.last_mut() {
            least.asker = least.asker.min(cost.asker);
            least.teller = least.teller.min(cost.teller);
            least.install = least.install.min(cost.install);
        }
    }
    Found {
        each: [without, with, followed],
        index: (took, longest),
        sessions,
    }
}
