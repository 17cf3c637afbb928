//! What a session between two islands costs that have nearly the same keys: bytes, round trips, time, and what its
//! index costs each put. `HOLM_SESSION_KEYS=1000000 ... --release -- --nocapture` prints the figures of a million keys.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
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

fn keys() -> Result<u64> {
    let said = std::env::var("HOLM_SESSION_KEYS").unwrap_or_else(|_unset| "20000".to_owned());
    said.parse().context("HOLM_SESSION_KEYS")
}

struct Site {
    keyspace: Keyspace,
    op: u64,
    now: Time,
}

/// What a session took.
#[derive(Debug, Default)]
struct Cost {
    rounds: u32,
    asked_bytes: usize,
    told_bytes: usize,
    asker: Duration,
    teller: Duration,
    install: Duration,
    differing: u64,
}

impl Site {
    fn new(number: u8) -> Result<Self> {
        let island = IslandConfig {
            slot: Slot::new(number).context("a slot")?,
            epoch: 1,
            since_unix_ms: UNIX_MS,
            rules: Rules::default(),
            updates_bytes_max: 1 << 30,
        };
        let config = Config {
            island: Some(island),
            ..Config::default()
        };
        let mut keyspace = Keyspace::open(Storage::new().root(), config)?;
        keyspace.set_sequencer(Bytes::new());
        let (op, now) = (0, Time::ZERO);
        Ok(Self { keyspace, op, now })
    }

    fn apply(&mut self, command: Command) -> Result<()> {
        let body = Proposal {
            caller: None,
            command,
        };
        let body = body.encode_at(UNIX_MS + self.op / 1_000);
        self.op += 1;
        let (op, term) = (Op::new(self.op), Term::new(1));
        let applied = self.keyspace.apply(self.now, op, term, &body);
        ensure!(applied.result.is_ok(), "{applied:?}");
        Ok(())
    }

    /// What waits goes to the disk.
    fn work(&mut self) -> Result<()> {
        self.now = self.now + Duration::from_secs(2);
        drop(self.keyspace.take_applied());
        if self.keyspace.is_sequencer_due(self.now) {
            self.keyspace.set_sequencer(Bytes::from_static(b"here"));
        }
        while let Some(job) = self.keyspace.next_job(self.now) {
            self.keyspace.finish(job.run())?;
        }
        Ok(())
    }

    /// Writes keys; how long one took.
    fn put(&mut self, numbers: impl Iterator<Item = u64>) -> Result<Duration> {
        let (mut took, mut count) = (Duration::ZERO, 0);
        for number in numbers {
            let put = Put {
                key: Bytes::from(format!("/registry/things/{number:09}")),
                value: Bytes::from(format!("{:032}", self.op)),
                ..Put::default()
            };
            let begun = Instant::now();
            self.apply(Command::Put(put))?;
            took += begun.elapsed();
            count += 1;
            if count % 4_096 == 0 {
                self.work()?;
            }
        }
        self.work()?;
        Ok(took / count.max(1))
    }

    fn vector(&self) -> Vector {
        let island = self.keyspace.island();
        island.map(|it| it.vector().clone()).unwrap_or_default()
    }

    /// Takes in, one by one, what it lacks of another.
    fn follow(&mut self, other: &Self) -> Result<()> {
        for (slot, last) in other.vector().iter() {
            while self.vector().seq(slot) < last {
                let after = self.vector().seq(slot);
                let found = other.keyspace.updates(slot, after, 1 << 18);
                let found = found.context("it is kept")?;
                self.apply(Command::Island(Entry::Updates(found)))?;
                self.work()?;
            }
        }
        Ok(())
    }

    /// Makes the index; how long it took, and its longest slice.
    fn index(&mut self) -> Result<(Tree, Duration, Duration)> {
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        loop {
            match self.keyspace.index().context("it is an island")? {
                Indexed::Whole(tree) => return Ok((tree, all, longest)),
                Indexed::NotYet => {
                    let begun = Instant::now();
                    self.keyspace.sweep();
                    longest = longest.max(begun.elapsed());
                    all += begun.elapsed();
                }
                Indexed::Damaged => anyhow::bail!("damaged"),
            }
        }
    }
}

fn length(message: &Message) -> usize {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.len()
}

/// A site gets what differs from another, message by message as the exchange sends them.
fn session(asker: &mut Site, teller: &Site, id: u64) -> Result<Cost> {
    let mut cost = Cost::default();
    let states = teller.keyspace.states().context("an island")?;
    let tips = states.tips().clone();
    let total = states.tree().context("an index")?.total().short();
    cost.asked_bytes += length(&Message::Open { session: id });
    let opened = Message::Opened {
        session: id,
        tips: tips.clone(),
        total,
    };
    cost.told_bytes += length(&opened);
    cost.rounds += 1;
    asker.apply(Command::Island(Entry::Begin(Session { id, tips })))?;
    let begun = Instant::now();
    let mut seek = Seek::new(id, asker.index()?.0, &total);
    cost.asker += begun.elapsed();
    loop {
        let begun = Instant::now();
        let ask = seek.ask();
        cost.asker += begun.elapsed();
        let Some(ask) = ask else {
            break;
        };
        cost.rounds += 1;
        let begun = Instant::now();
        let told = states.tell(&ask, BYTES_MAX)?.context("an index")?;
        cost.teller += begun.elapsed();
        cost.asked_bytes += length(&Message::Ask(ask));
        let told = Message::Tell(told);
        cost.told_bytes += length(&told);
        let Message::Tell(told) = told else {
            unreachable!("it was made above");
        };
        let begun = Instant::now();
        let named = seek.told(told);
        cost.asker += begun.elapsed();
        let states: Vec<(Bytes, Bytes)> = named.into_iter().map(Named::staged).collect();
        cost.differing += u64::try_from(states.len())?;
        let begun = Instant::now();
        asker.apply(Command::Island(Entry::Stage {
            session: id,
            states,
        }))?;
        cost.install += begun.elapsed();
    }
    let keys = cost.differing;
    let begun = Instant::now();
    asker.apply(Command::Island(Entry::Join { session: id, keys }))?;
    cost.install += begun.elapsed();
    cost.asked_bytes += length(&Message::Done { session: id });
    asker.work()?;
    Ok(cost)
}

fn resident_bytes() -> Result<u64> {
    let read = std::fs::read_to_string("/proc/self/statm")?;
    let pages = read.split_whitespace().nth(1).context("statm")?;
    Ok(pages.parse::<u64>()? * 4_096)
}

#[test]
fn a_session_costs_what_differs() -> Result<()> {
    let keys = keys()?;
    let (mut a, mut b) = (Site::new(1)?, Site::new(2)?);
    a.put(0..keys)?;
    b.follow(&a)?;
    let stride = (keys / 1_000).max(1);
    let touched = 20_000.min(keys);
    let scattered = |count: u64| (0..count).map(move |it| it * 7_919 % keys);
    let before = a.put(scattered(touched))?;
    let (resident, begun) = (resident_bytes()?, Instant::now());
    let (tree, took, longest) = a.index()?;
    ensure!(tree.total().count == keys, "{:?}", tree.total());
    let each = resident_bytes()?.saturating_sub(resident) / keys;
    println!(
        "{keys} keys: the index took {took:.2?} ({:.2?} with all), its longest slice {longest:.2?}, and {each} bytes a key",
        begun.elapsed()
    );
    drop(tree);
    let during = a.put(scattered(touched))?;
    println!("a put is applied within {before:.2?} without an index, within {during:.2?} with one");
    b.index()?;
    b.follow(&a)?;
    let cases: [(&str, u64, u64); 4] = [
        ("none", 0, 1),
        ("10 scattered", 10, keys / 10),
        ("1000 scattered", 1_000.min(keys / 2), stride),
        ("1000 side by side", 1_000.min(keys / 2), 1),
    ];
    for (id, (name, count, step)) in (1..).zip(cases) {
        a.put((0..count).map(|it| it * step))?;
        let cost = session(&mut b, &a, id)?;
        println!("{name}: {cost:.2?}");
        ensure!(a.vector() == b.vector(), "{} {}", a.vector(), b.vector());
        let (tree, ..) = a.index()?;
        ensure!(tree.total() == b.index()?.0.total(), "they differ still");
        ensure!(cost.differing == count, "{name}: {cost:?}");
        let bytes = cost.asked_bytes + cost.told_bytes;
        match count {
            0 => ensure!(bytes <= 400 && cost.rounds == 1, "{cost:?}"),
            10 => ensure!(bytes <= 20 << 10 && cost.rounds <= 4, "{cost:?}"),
            _ => ensure!(bytes < 3_000 << 10, "{cost:?}"),
        }
        black_box(tree);
    }
    Ok(())
}
