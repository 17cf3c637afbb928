//! The driver keeps its invariants, shown with a machine that does exactly as it is told.
//!
//! One of the tests runs a driver that releases only on new completions, and sees it hang.

use holm_base::{Time, WriteId};
use holm_machine::{Class, Driven, Driver, Effects, Limits, Machine, Offer, Order, Recorder, Turn};

/// Emits the effects that its input lists.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Puppet {
    wake_at: Option<Time>,
    durable: Vec<WriteId>,
    wakes: usize,
    sleeps_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Wake,
    Durable(WriteId),
    Message(Vec<Effect>),
    Request(Vec<Effect>),
    WakeAt(Time),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Effect {
    Persist(u64),
    Send(&'static str, Option<u64>),
}
use Effect::{Persist, Send};

impl Machine for Puppet {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, _: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Wake => {
                self.wakes += 1;
                self.wake_at = self.wake_at.filter(|_| self.sleeps_on);
            }
            Input::Durable(through) => self.durable.push(through),
            Input::Message(list) | Input::Request(list) => {
                for effect in list {
                    effects.push(effect);
                }
            }
            Input::WakeAt(at) => self.wake_at = Some(at),
        }
    }

    fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }
}

impl Driven for Puppet {
    fn order(effect: &Effect) -> Order {
        match effect {
            Persist(write) => Order::Persist {
                write: WriteId::new(*write),
            },
            Send(_, after) => Order::Leave {
                after: after.map(WriteId::new),
            },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Wake | Input::Durable(_) => Class::Own,
            Input::Message(_) | Input::WakeAt(_) => Class::Peer,
            Input::Request(_) => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(through: WriteId) -> Input {
        Input::Durable(through)
    }
}

fn driver(limits: Limits) -> Driver<Puppet> {
    let puppet = Puppet {
        wake_at: None,
        durable: Vec::new(),
        wakes: 0,
        sleeps_on: false,
    };
    Driver::new(puppet, limits)
}

fn small() -> Limits {
    Limits {
        waiting_inputs_max: 4,
        batch_inputs_max: 2,
        writes_in_flight_max: 1,
        held_effects_max: 4,
        step_effects_max: 2,
    }
}

fn at(nanos: u64) -> Time {
    Time::from_nanos(nanos)
}

fn turn(driver: &mut Driver<Puppet>, now: u64) -> Turn<Effect> {
    let mut turn = Turn::new();
    driver.turn(at(now), &mut (), &mut turn);
    turn
}

/// Offers one message and takes the turn it causes.
fn after_message(driver: &mut Driver<Puppet>, effects: &[Effect]) -> Turn<Effect> {
    let offer = driver.offer(Input::Message(effects.to_vec()));
    assert_eq!(offer, Offer::Taken);
    turn(driver, 0)
}

#[test]
#[should_panic(expected = "I1")]
fn time_that_falls_is_refused() {
    let mut driver = driver(Limits::default());
    turn(&mut driver, 5);
    turn(&mut driver, 4);
}

/// What the conformance case needs of any driver.
trait Subject {
    fn message(&mut self, effects: &[Effect]) -> Vec<Effect>;
    fn sync(&mut self) -> Vec<Effect>;
}

struct Real {
    driver: Driver<Puppet>,
    flushes: Vec<WriteId>,
}

impl Subject for Real {
    fn message(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let turn = after_message(&mut self.driver, effects);
        self.flushes.extend(turn.flush);
        turn.leaving
    }

    fn sync(&mut self) -> Vec<Effect> {
        for flush in self.flushes.drain(..) {
            self.driver.completed(flush);
        }
        turn(&mut self.driver, 0).leaving
    }
}

/// The trap: looks at held effects only when something new has completed.
#[derive(Default)]
struct ReleasesOnCompletionOnly {
    asked: u64,
    held: Vec<(u64, Effect)>,
}

impl Subject for ReleasesOnCompletionOnly {
    fn message(&mut self, effects: &[Effect]) -> Vec<Effect> {
        let mut leaving = Vec::new();
        for effect in effects {
            match effect {
                Persist(write) => self.asked = *write,
                Send(_, None) => leaving.push(effect.clone()),
                Send(_, Some(after)) => self.held.push((*after, effect.clone())),
            }
        }
        leaving
    }

    fn sync(&mut self) -> Vec<Effect> {
        let asked = self.asked;
        let (ready, rest) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(after, _)| *after <= asked);
        self.held = rest;
        let ready: Vec<(u64, Effect)> = ready;
        ready.into_iter().map(|(_, effect)| effect).collect()
    }
}

/// I2 as a conformance case; says which clause a driver breaks.
fn conforms(subject: &mut impl Subject) -> Result<(), &'static str> {
    let first = subject.message(&[Persist(1), Send("held", Some(1)), Send("free", None)]);
    if first != [Send("free", None)] {
        return Err("an effect left before its write was durable");
    }
    if subject.sync() != [Send("held", Some(1))] {
        return Err("a completion did not release what waited for it");
    }
    if subject.message(&[Send("again", Some(1))]) != [Send("again", Some(1))] {
        return Err("an effect that waits for a durable write did not leave at once");
    }
    Ok(())
}

#[test]
fn effects_leave_when_their_write_is_durable_and_at_once_if_it_is() {
    let mut real = Real {
        driver: driver(Limits::default()),
        flushes: Vec::new(),
    };
    assert_eq!(conforms(&mut real), Ok(()));
}

#[test]
fn a_driver_that_releases_only_on_new_completions_is_seen_to_hang() {
    assert_eq!(
        conforms(&mut ReleasesOnCompletionOnly::default()),
        Err("an effect that waits for a durable write did not leave at once")
    );
}

#[test]
fn held_effects_leave_in_the_order_of_their_writes() {
    let mut driver = driver(Limits::default());
    let first = after_message(
        &mut driver,
        &[
            Persist(1),
            Persist(2),
            Send("b", Some(2)),
            Send("a", Some(1)),
            Send("c", Some(2)),
        ],
    );
    assert_eq!(first.flush, Some(WriteId::new(2)));
    driver.completed(WriteId::new(2));
    let names: Vec<_> = turn(&mut driver, 0).leaving;
    let wanted = [Send("a", Some(1)), Send("b", Some(2)), Send("c", Some(2))];
    assert_eq!(
        names, wanted,
        "I2: lower writes first, then the order of asking"
    );
}

#[test]
#[should_panic(expected = "I2")]
fn an_effect_that_waits_for_a_write_nobody_asked_for_is_refused() {
    after_message(&mut driver(Limits::default()), &[Send("never", Some(1))]);
}

#[test]
#[should_panic(expected = "I3: writes rise by one")]
fn a_machine_that_skips_a_write_is_refused() {
    after_message(&mut driver(Limits::default()), &[Persist(2)]);
}

#[test]
fn durability_is_told_in_the_order_of_writes() {
    let mut driver = driver(Limits::default());
    after_message(&mut driver, &[Persist(1)]);
    after_message(&mut driver, &[Persist(2)]);
    driver.completed(WriteId::new(1));
    driver.completed(WriteId::new(2));
    turn(&mut driver, 0);
    let told = [WriteId::new(1), WriteId::new(2)];
    assert_eq!(driver.machine().durable, told);
}

#[test]
#[should_panic(expected = "I3: durability comes in order")]
fn a_completion_out_of_order_is_refused() {
    let mut driver = driver(Limits::default());
    after_message(&mut driver, &[Persist(1)]);
    after_message(&mut driver, &[Persist(2)]);
    driver.completed(WriteId::new(2));
}

#[test]
fn a_wake_comes_at_its_deadline_and_not_before() {
    let mut driver = driver(Limits::default());
    assert_eq!(driver.offer(Input::WakeAt(at(10))), Offer::Taken);
    turn(&mut driver, 0);
    assert!(!driver.is_ready(at(9)));
    turn(&mut driver, 9);
    assert_eq!(driver.machine().wakes, 0, "I4: not before the deadline");
    assert!(driver.is_ready(at(10)));
    turn(&mut driver, 12);
    assert_eq!((driver.machine().wakes, driver.wake_at()), (1, None));
}

#[test]
#[should_panic(expected = "I4")]
fn a_machine_that_stays_due_is_refused() {
    let mut driver = Driver::new(
        Puppet {
            wake_at: Some(at(1)),
            durable: Vec::new(),
            wakes: 0,
            sleeps_on: true,
        },
        Limits::default(),
    );
    turn(&mut driver, 1);
}

/// Keeps what it saw.
#[derive(Default)]
struct Seen(Vec<(Time, Input)>, Vec<Effect>);

impl Recorder<Puppet> for Seen {
    fn before(&mut self, _: &Puppet, now: Time, input: &Input) {
        self.0.push((now, input.clone()));
    }

    fn after(&mut self, _: &Puppet, _: Time, effects: &[Effect]) {
        self.1.extend_from_slice(effects);
    }
}

#[test]
fn a_recording_of_now_and_input_replays_to_equal_effects_and_state() {
    let mut driver = driver(Limits::default());
    let mut seen = Seen::default();
    for step in 1..=20 {
        driver.offer(Input::Message(vec![Persist(step), Send("x", Some(step))]));
        let mut turn = Turn::new();
        driver.turn(at(step), &mut seen, &mut turn);
        if let Some(flush) = turn.flush {
            driver.completed(flush);
        }
    }
    let mut replayed = Puppet {
        wake_at: None,
        durable: Vec::new(),
        wakes: 0,
        sleeps_on: false,
    };
    let mut effects = Effects::new();
    for (now, input) in seen.0 {
        replayed.step(now, input, &mut effects);
    }
    assert_eq!(
        effects.as_slice(),
        seen.1,
        "I5: equal inputs, equal effects"
    );
    assert_eq!(&replayed, driver.machine());
}

#[test]
#[should_panic(expected = "I6")]
fn a_step_that_emits_too_much_is_refused() {
    let three = [Send("a", None), Send("b", None), Send("c", None)];
    after_message(&mut driver(small()), &three);
}

#[test]
fn a_crash_loses_what_was_held() {
    let mut driver = driver(Limits::default());
    after_message(&mut driver, &[Persist(1), Send("held", Some(1))]);
    assert_eq!(driver.held(), 1, "I7: held until it is durable");
    drop(driver);
    let mut restarted = self::driver(Limits::default());
    assert!(turn(&mut restarted, 0).leaving.is_empty());
    let next = after_message(&mut restarted, &[Persist(1)]);
    assert_eq!(
        next.flush,
        Some(WriteId::new(1)),
        "writes count from 1 again"
    );
}

#[test]
fn a_free_send_overtakes_a_held_one() {
    let mut driver = driver(Limits::default());
    after_message(&mut driver, &[Persist(1), Send("held", Some(1))]);
    let leaving = after_message(&mut driver, &[Send("free", None)]).leaving;
    assert_eq!(
        leaving,
        [Send("free", None)],
        "I8: only `after` orders sends"
    );
}

#[test]
fn a_batch_steps_so_many_inputs_and_flushes_once() {
    let mut driver = driver(small());
    for write in 1..=3 {
        driver.offer(Input::Message(vec![Persist(write)]));
    }
    let first = turn(&mut driver, 0);
    assert_eq!(
        (first.steps, first.records.len()),
        (2, 2),
        "I9: two inputs a batch"
    );
    let second = turn(&mut driver, 0);
    assert_eq!(
        (second.steps, second.flush),
        (1, None),
        "I9: one flush under way"
    );
    driver.completed(WriteId::new(2));
    assert_eq!(turn(&mut driver, 0).flush, Some(WriteId::new(3)));
}

#[test]
fn without_room_requests_are_refused_peers_dropped_and_own_inputs_taken() {
    let mut driver = driver(small());
    after_message(&mut driver, &[Persist(1), Send("a", Some(1))]);
    after_message(&mut driver, &[Send("b", Some(1)), Send("c", Some(1))]);
    let request = Input::Request(Vec::new());
    assert_eq!(driver.offer(request.clone()), Offer::Unavailable(request));
    let message = Input::Message(Vec::new());
    assert_eq!(driver.offer(message.clone()), Offer::Dropped(message));
    driver.completed(WriteId::new(1));
    assert_eq!(
        turn(&mut driver, 0).leaving.len(),
        3,
        "I9: a completion is taken"
    );
    assert_eq!(driver.offer(Input::Request(Vec::new())), Offer::Taken);
}

#[test]
fn waiting_inputs_have_a_limit_and_lose_nothing_that_was_taken() {
    let mut driver = driver(small());
    let input = || Input::Message(vec![Send("x", None)]);
    for _ in 0..4 {
        assert_eq!(driver.offer(input()), Offer::Taken);
    }
    assert_eq!(
        driver.offer(input()),
        Offer::Dropped(input()),
        "I9: four may wait"
    );
    let left = turn(&mut driver, 0).leaving.len() + turn(&mut driver, 0).leaving.len();
    assert_eq!((left, driver.waiting()), (4, 0));
}

#[test]
#[should_panic(expected = "the driver's to make")]
fn a_wake_from_outside_is_refused() {
    driver(small()).offer(Input::Wake);
}
