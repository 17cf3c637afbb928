//! A message may come twice: a session that is opened again is not pinned again.

use std::time::Duration;

use holm_base::Time;
use holm_local_first::{
    Applied, Chain, Config, Effect, Exchange, Input, Island, Message, Slot, Vector,
};
use holm_machine::{Effects, Machine};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn step(exchange: &mut Exchange, input: Input) -> Vec<Effect> {
    let mut effects = Effects::new();
    exchange.step(Time::ZERO, input, &mut effects);
    effects.drain().collect()
}

fn hear(exchange: &mut Exchange, message: Message) -> Vec<Effect> {
    let from = slot(2);
    let unix_ms = 1_000;
    step(
        exchange,
        Input::Message {
            from,
            message,
            unix_ms,
        },
    )
}

fn pins(exchange: &mut Exchange, session: u64) -> bool {
    let to = slot(2);
    let effects = hear(exchange, Message::Open { session });
    effects.contains(&Effect::Pin { to, session })
}

/// States that were pinned anew would hold more than the tips that the session goes by.
#[test]
fn a_session_that_is_opened_twice_is_pinned_once() {
    let config = Config {
        peers: vec![slot(2)],
        push_every: Duration::ZERO,
        beat_every: Duration::from_secs(1),
        silence: Duration::from_secs(5),
        patience: Duration::from_secs(5),
        updates_max: 100,
        bytes_max: 1 << 20,
        boot: 1,
    };
    let mut exchange = Exchange::new(config, Island::new(slot(1), 1));
    step(&mut exchange, Input::Start);
    let word = Message::Beat {
        vector: Vector::new(),
        epoch: 1,
        head: Chain::default(),
        chains: Vec::new(),
        asks: false,
        keeps_back: false,
    };
    hear(&mut exchange, word);
    let (first, second, of_next_run) = ((1 << 32) | 1, (1 << 32) | 2, (2 << 32) | 1);
    assert!(!pins(&mut exchange, first), "it has not spoken yet");
    step(&mut exchange, Input::Applied(Applied::Spoke));
    let mut pins = |session| pins(&mut exchange, session);
    assert!(pins(first) && !pins(first));
    assert!(pins(second) && !pins(second) && !pins(first));
    assert!(pins(of_next_run) && !pins(of_next_run));
}
