//! Updates that come before what they need: all sites see each other's, so if those of one are
//! late, those of all others are early.

use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_local_first::{
    Applied, Chain, Change, Config, Dot, Effect, Exchange, Input, Intake, Island, Message,
    Proposal, Sealed, Slot, Vector, dot_of,
};
use holm_machine::{Effects, Machine};

const UPDATES_MAX: usize = 3;
const UNIX_MS: u64 = 1_000;

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn write(island: &mut Island) -> Sealed {
    let key = Bytes::from("k");
    island.originate(vec![Change::Delete { key }], UNIX_MS)
}

/// Six updates of site 1, which had seen the one of site 2 when it made them.
fn early() -> (Sealed, Vec<Sealed>) {
    let (mut one, mut two) = (Island::new(slot(1), 1), Island::new(slot(2), 1));
    let needed = write(&mut two);
    one.take(&needed);
    (needed, (0..6).map(|_| write(&mut one)).collect())
}

/// Site 3, which takes in what it proposed when it is told to.
struct Site {
    island: Island,
    exchange: Exchange,
    now: Time,
    log: Vec<Bytes>,
    pulled: Vec<(Slot, u64)>,
}

impl Site {
    fn new() -> Self {
        let config = Config {
            peers: vec![slot(1), slot(2)],
            push_every: Duration::ZERO,
            beat_every: Duration::from_secs(1),
            silence: Duration::from_secs(60),
            patience: Duration::from_secs(5),
            updates_max: UPDATES_MAX,
            bytes_max: 1 << 20,
            boot: 1,
        };
        let island = Island::new(slot(3), 1);
        let mut site = Self {
            exchange: Exchange::new(config, island.clone()),
            island,
            now: Time::ZERO,
            log: Vec::new(),
            pulled: Vec::new(),
        };
        site.step(Input::Start);
        // It is heard, so nobody else is asked for what it writes.
        site.hear_beat(2, &[]);
        site
    }

    fn step(&mut self, input: Input) {
        let mut effects = Effects::new();
        self.exchange.step(self.now, input, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Propose(Proposal::Updates(updates)) => self.log.extend(updates),
                Effect::Send {
                    message: Message::Pull { slot, after },
                    ..
                } => self.pulled.push((slot, after)),
                _other => {}
            }
        }
    }

    fn hear(&mut self, from: u8, message: Message) {
        self.step(Input::Message {
            from: slot(from),
            message,
            unix_ms: UNIX_MS,
        });
    }

    fn hear_updates(&mut self, from: u8, updates: &[Sealed]) {
        let message = Message::Updates {
            slot: slot(from),
            updates: updates.iter().map(|it| it.bytes.clone()).collect(),
        };
        self.hear(from, message);
    }

    /// Another site says how far it is.
    fn hear_beat(&mut self, from: u8, seqs: &[(u8, u64)]) {
        let mut vector = Vector::new();
        seqs.iter()
            .for_each(|(number, seq)| vector.raise(slot(*number), *seq));
        let message = Message::Beat {
            vector,
            epoch: 1,
            head: Chain::default(),
            chains: Vec::new(),
            asks: false,
            keeps_back: false,
        };
        self.hear(from, message);
    }

    /// What it proposed; and its log commits that.
    fn commit(&mut self) -> Vec<Dot> {
        let log = std::mem::take(&mut self.log);
        for bytes in &log {
            let Intake::Next(sealed) = self.island.judge(bytes, UNIX_MS) else {
                panic!("what is proposed can be taken in");
            };
            self.island.take(&sealed);
            self.step(Input::Applied(Applied::Update(sealed)));
        }
        log.iter().filter_map(dot_of).collect()
    }
}

fn dots(all: &[(u8, u64)]) -> Vec<Dot> {
    let dot = |(number, seq): &(u8, u64)| Dot {
        slot: slot(*number),
        seq: *seq,
    };
    all.iter().map(dot).collect()
}

#[test]
fn what_came_before_what_it_needs_is_taken_in_behind_it_and_not_asked_for_again() {
    let (needed, early) = early();
    let mut site = Site::new();
    site.hear_updates(1, &early[..2]);
    site.hear_beat(1, &[(1, 2), (2, 1)]);
    assert_eq!(site.commit(), [], "it waits");
    assert_eq!(site.pulled, [], "it is here");
    site.hear_updates(2, &[needed]);
    assert_eq!(site.commit(), dots(&[(2, 1), (1, 1), (1, 2)]));
    assert_eq!(site.pulled, []);
}

#[test]
fn no_more_waits_than_may_and_the_rest_is_asked_for_once_there_is_room() {
    let (needed, early) = early();
    let mut site = Site::new();
    site.hear_updates(1, &early);
    site.hear_beat(1, &[(1, 6), (2, 1)]);
    assert_eq!(site.pulled, [], "more would not be kept");
    site.hear_updates(2, &[needed]);
    assert_eq!(
        site.commit(),
        dots(&[(2, 1), (1, 1), (1, 2)]),
        "as many as the log takes"
    );
    assert_eq!(site.commit(), dots(&[(1, 3)]), "the last that was kept");
    assert_eq!(site.pulled, [(slot(1), 3)]);
    site.hear_updates(1, &early[3..]);
    assert_eq!(site.commit(), dots(&[(1, 4), (1, 5), (1, 6)]));
}

#[test]
fn what_waits_for_too_long_is_let_go_and_asked_for_again() {
    let (_needed, early) = early();
    let mut site = Site::new();
    site.hear_updates(1, &early[..1]);
    site.hear_beat(1, &[(1, 1), (2, 1)]);
    assert_eq!(site.pulled, []);
    site.now = site.now + Duration::from_secs(6);
    site.step(Input::Wake);
    site.hear_beat(1, &[(1, 1), (2, 1)]);
    assert_eq!(site.pulled, [(slot(1), 0)]);
}
