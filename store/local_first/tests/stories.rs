//! Two stories of one site: its data was set back to an older copy, and it wrote on.

use std::time::Duration;

use bytes::Bytes;
use holm_base::Time;
use holm_local_first::{
    Applied, Change, Config, Dot, Effect, Exchange, Input, Island, Message, Note, Proposal, Slot,
};
use holm_machine::{Effects, Machine};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn dot(number: u8, seq: u64) -> Dot {
    let slot = slot(number);
    Dot { slot, seq }
}

/// A site that writes by itself what it is told to.
struct Site {
    island: Island,
    exchange: Exchange,
    now: Time,
}

impl Site {
    fn of(number: u8, other: u8, island: Island) -> Self {
        let config = Config {
            peers: vec![slot(other)],
            push_every: Duration::ZERO,
            beat_every: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            patience: Duration::from_secs(5),
            updates_max: 100,
            bytes_max: 1 << 20,
            boot: u64::from(number),
        };
        let exchange = Exchange::new(config, island.clone());
        let now = Time::ZERO;
        let mut site = Self {
            island,
            exchange,
            now,
        };
        site.step(Input::Start);
        site
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        self.exchange.step(self.now, input, &mut effects);
        effects.drain().collect()
    }

    fn write(&mut self) {
        let key = Bytes::from("k");
        let sealed = self.island.originate(vec![Change::Delete { key }], 1_000);
        self.step(Input::Applied(Applied::Update(sealed)));
    }

    fn told(&mut self, from: u8, message: Message) -> Vec<Effect> {
        self.step(Input::Message {
            from: slot(from),
            message,
            unix_ms: 1_000,
        })
    }

    /// What it says of itself.
    fn word(&mut self) -> Message {
        let vector = self.island.vector().clone();
        let head = self.island.tips().get(&self.island.slot());
        Message::Beat {
            vector,
            epoch: 1,
            head: head.map(|tip| tip.chain).unwrap_or_default(),
            asks: false,
        }
    }
}

/// Site 1 that has two updates of itself, and site 2 that has taken them in.
fn pair() -> (Site, Site) {
    let (mut a, mut b) = (Island::new(slot(1), 1), Island::new(slot(2), 1));
    for _ in 0..2 {
        let key = Bytes::from("k");
        let sealed = a.originate(vec![Change::Delete { key }], 500);
        b.take(&sealed);
    }
    (Site::of(1, 2, a), Site::of(2, 1, b))
}

fn stops(effects: &[Effect]) -> bool {
    effects.contains(&Effect::Propose(Proposal::SetBack { run: 1 }))
}

#[test]
fn who_has_less_of_itself_than_another_takes_no_more_writes() {
    let (mut a, mut b) = pair();
    let word = b.word();
    assert!(!stops(&a.told(2, word.clone())), "nothing is wrong");
    let mut set_back = Site::of(1, 2, Island::new(slot(1), 1));
    set_back.write();
    let effects = set_back.told(2, word.clone());
    assert!(stops(&effects));
    assert!(effects.contains(&Effect::Note(Note::SetBack(dot(1, 2)))));
    assert!(!stops(&set_back.told(2, word)), "it was asked for");
}

#[test]
fn who_tells_another_story_is_told_so_until_it_heard_and_takes_no_more_writes() {
    for written in [2, 3] {
        let (_, mut b) = pair();
        let mut other = Site::of(1, 2, Island::new(slot(1), 1));
        (0..written).for_each(|_| other.write());
        let mut says = |b: &mut Site| {
            let effects = b.told(1, other.word());
            if written == 2 {
                return effects;
            }
            // It pulls what it seems to lack, and that does not follow on what it has.
            let updates = vec![other.third()];
            let slot = slot(1);
            b.told(1, Message::Updates { slot, updates })
        };
        let effects = says(&mut b);
        let dot = dot(1, u64::from(u8::try_from(written).expect("a few")));
        let note = Effect::Note(Note::Forked(dot));
        assert!(effects.contains(&note), "{effects:?}");
        let to = slot(1);
        let message = Message::Forked { dot };
        let told = Effect::Send { to, message };
        assert!(effects.contains(&told));
        assert!(!says(&mut b).contains(&told), "it may have heard");
        // That was lost.
        b.now = b.now + Duration::from_secs(5);
        let effects = says(&mut b);
        assert!(effects.contains(&told), "{effects:?}");
        assert!(!effects.contains(&note), "it is noted once");
        assert!(stops(&other.told(2, Message::Forked { dot })));
    }
}

impl Site {
    /// The third update that it made.
    fn third(&self) -> Bytes {
        let mut again = Island::new(slot(1), 1);
        let key = || Bytes::from("k");
        let all = (0..3).map(|_| again.originate(vec![Change::Delete { key: key() }], 1_000));
        all.last().expect("three").bytes
    }
}
