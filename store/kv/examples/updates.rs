//! What a put costs an island, and what another's update does, part by part.
//!
//! `cargo run --release -p holm-kv --example updates -- 10000`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures the machine it runs on, and says so"
)]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use holm_base::{Op, Prng, Term, Time};
use holm_kv::command::{Command, Proposal, Put};
use holm_kv::{Config, IslandConfig, Keyspace};
use holm_local_first::{
    Config as Peers, Effect, Exchange, Input, Message, Proposal as Entry, Rules, Slot,
};
use holm_machine::{Effects, Machine};
use holm_virtual::Storage;

const UNIX_MS: u64 = 1_800_000_000_000;
/// Updates that travel together.
const TOGETHER: u64 = 180;
/// Puts that are published together.
const PUBLISHED: u64 = 32;
const ROUNDS: u64 = 1_500;

struct Site {
    keyspace: Keyspace,
    exchange: Exchange,
    op: u64,
    now: Time,
    parts: Vec<(&'static str, Duration)>,
}

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

impl Site {
    fn new(number: u8, other: u8) -> Self {
        let island = IslandConfig {
            slot: slot(number),
            epoch: 1,
            since_unix_ms: UNIX_MS,
            rules: Rules::default(),
            updates_bytes_max: 64 << 20,
        };
        let config = Config {
            island: Some(island),
            ..Config::default()
        };
        let mut keyspace = Keyspace::open(Storage::new().root(), config).expect("it is new");
        keyspace.set_sequencer(Bytes::new());
        let peers = Peers {
            peers: vec![slot(other)],
            beat_every: Duration::from_secs(1),
            push_every: Duration::from_millis(5),
            silence: Duration::from_secs(1 << 20),
            patience: Duration::from_secs(5),
            updates_max: 8_192,
            bytes_max: 1 << 20,
            boot: 1,
        };
        let exchange = Exchange::new(peers, keyspace.island().expect("it is one").clone());
        Self {
            keyspace,
            exchange,
            op: 0,
            now: Time::ZERO,
            parts: Vec::new(),
        }
    }

    fn timed<T>(&mut self, name: &'static str, act: impl FnOnce(&mut Self) -> T) -> T {
        let begun = Instant::now();
        let done = act(self);
        let took = begun.elapsed();
        match self.parts.iter_mut().find(|it| it.0 == name) {
            Some(part) => part.1 += took,
            None => self.parts.push((name, took)),
        }
        done
    }

    fn unix_ms(&self) -> u64 {
        let elapsed = self.now.since(Time::ZERO).as_millis();
        UNIX_MS + u64::try_from(elapsed).expect("it is short")
    }

    fn body(&self, command: Command) -> Bytes {
        let caller = None;
        Proposal { caller, command }.encode_at(self.unix_ms())
    }

    fn apply(&mut self, body: &Bytes) {
        self.op += 1;
        let (op, term) = (Op::new(self.op), Term::new(1));
        let applied = self.keyspace.apply(self.now, op, term, body);
        assert!(applied.result.is_ok(), "{applied:?}");
    }

    fn tell(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.exchange.step(self.now, input, &mut effects);
        effects.drain().collect()
    }

    fn tell_applied(&mut self) -> Vec<Effect> {
        let mut wanted = Vec::new();
        for applied in self.keyspace.take_applied() {
            wanted.extend(self.tell(Input::Applied(applied)));
        }
        wanted
    }

    fn publish(&mut self) {
        self.keyspace.publish(&mut Vec::new());
    }

    fn work(&mut self) {
        self.now = self.now + Duration::from_millis(5);
        if self.keyspace.is_sequencer_due(self.now) {
            self.keyspace.set_sequencer(Bytes::from_static(b"here"));
        }
        while let Some(job) = self.keyspace.next_job(self.now) {
            self.keyspace.finish(job.run()).expect("the disk is whole");
        }
    }

    fn say(&self, name: &str, count: u32) {
        println!("{name}:");
        let mut sum = Duration::ZERO;
        for (part, took) in &self.parts {
            sum += *took;
            println!("  {part:8} {:7.1?}", *took / count);
        }
        println!("  {:8} {:7.1?}", "all", sum / count);
    }
}

fn put(site: &mut Site, key: u64) {
    let put = Put {
        key: Bytes::from(format!("/registry/things/{key:09}")),
        value: Bytes::from(vec![b'v'; 256]),
        ..Put::default()
    };
    let body = site.timed("encode", |it| it.body(Command::Put(put)));
    site.timed("apply", |it| it.apply(&body));
}

fn take(site: &mut Site, bytes: Bytes) {
    let message = site.timed("read", |_| Message::decode(&bytes).expect("it was written"));
    let input = Input::Message {
        from: slot(1),
        message,
        unix_ms: UNIX_MS + 1_000_000,
    };
    let wanted = site.timed("judge", |it| it.tell(input));
    for effect in wanted {
        match effect {
            Effect::Expect(updates) => {
                site.timed("expect", |it| it.keyspace.expect(updates));
            }
            Effect::Propose(entry @ Entry::Updates(_)) => {
                let body = site.timed("encode", |it| it.body(Command::Island(entry)));
                site.timed("apply", |it| it.apply(&body));
                site.timed("drop", |_| drop(body));
            }
            _other => {}
        }
    }
    drop(site.timed("tell", Site::tell_applied));
    site.timed("publish", Site::publish);
}

fn main() {
    let keys = std::env::args().nth(1).and_then(|it| it.parse().ok());
    let keys: u64 = keys.unwrap_or(10_000);
    let (mut one, mut two) = (Site::new(1, 2), Site::new(2, 1));
    drop(one.tell(Input::Start));
    drop(two.tell(Input::Start));
    let mut prng = Prng::new(1);
    let warm = 3 * keys.div_ceil(TOGETHER);
    let mut sent = 0;
    for round in 0..warm + ROUNDS {
        if round == warm {
            one.parts.clear();
            two.parts.clear();
        }
        for at in 0..TOGETHER {
            let key = prng.below(keys);
            put(&mut one, key);
            if at % PUBLISHED == PUBLISHED - 1 {
                drop(one.timed("tell", Site::tell_applied));
                one.timed("publish", Site::publish);
            }
        }
        drop(one.timed("tell", Site::tell_applied));
        let updates = one.keyspace.updates(slot(1), sent, 1 << 20);
        let updates = updates.expect("they are kept");
        sent += u64::try_from(updates.len()).expect("a few");
        let mut out = BytesMut::new();
        let message = Message::Updates {
            slot: slot(1),
            updates,
        };
        one.timed("write", |_| message.encode(&mut out));
        drop(message);
        take(&mut two, out.freeze());
        one.work();
        two.work();
    }
    let taken = two
        .keyspace
        .island()
        .expect("it is one")
        .vector()
        .seq(slot(1));
    assert_eq!(taken, sent, "all was taken in");
    let count = u32::try_from(ROUNDS * TOGETHER).expect("it is small");
    one.say("a put at its island", count);
    two.say("an update at another", count);
}
