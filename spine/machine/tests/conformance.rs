//! The contract of drivers sees what it is there for: a sound loop keeps it, and each rule is
//! broken by a loop with a fault of its own.

use std::time::Duration;

use holm_base::{Time, WriteId};
use holm_machine::conformance::{Rig, Rule, hold};
use holm_machine::{Class, Driven, Driver, Effects, Limits, Machine, Order, Turn};

const PAUSE: Duration = Duration::from_secs(100);

/// What is wrong with a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Statements leave at once.
    Leaks,
    /// Statements leave only with the report after theirs.
    Lingers,
    /// Everything waits while a flush is under way.
    Hoards,
    /// The end of one flush counts as that of all.
    Confuses,
    /// Each input is a flush.
    Scatters,
    /// Timers fire two seconds too early.
    Hurries,
    /// Timers fire two seconds too late.
    Oversleeps,
    /// What the network refused is kept and sent later.
    Insists,
    /// Held effects outlive the process.
    Haunts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Write(usize),
    Echo,
    Arm,
    Durable,
    Wake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Persist(WriteId),
    State(WriteId),
    Echo,
    Woken,
}

#[derive(Clone, Debug, Default)]
struct Puppet {
    written: WriteId,
    wake_at: Option<Time>,
}

impl Machine for Puppet {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Write(records) => {
                for _ in 0..records {
                    self.written = self.written.next();
                    effects.push(Effect::Persist(self.written));
                }
                effects.push(Effect::State(self.written));
            }
            Input::Echo => effects.push(Effect::Echo),
            Input::Arm => self.wake_at = Some(now + PAUSE),
            Input::Durable => {}
            Input::Wake => {
                self.wake_at = Some(now + PAUSE);
                effects.push(Effect::Woken);
            }
        }
    }

    fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }
}

impl Driven for Puppet {
    fn order(effect: &Effect) -> Order {
        match effect {
            Effect::Persist(write) => Order::Persist { write: *write },
            Effect::State(after) => Order::Leave {
                after: Some(*after),
            },
            Effect::Echo | Effect::Woken => Order::Leave { after: None },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Write(_) | Input::Echo | Input::Arm => Class::Request,
            Input::Durable | Input::Wake => Class::Own,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(_through: WriteId) -> Input {
        Input::Durable
    }
}

/// The bare loop and a world of counters, with a fault.
struct Toy {
    fault: Fault,
    driver: Driver<Puppet>,
    now: Time,
    /// Flushes under way: their last write and how many records they have.
    flushing: Vec<(WriteId, usize)>,
    durable: usize,
    found: usize,
    refuses: bool,
    refused: Vec<Effect>,
    hoarded: Vec<Effect>,
    statements: usize,
    echoes: usize,
    wakes: usize,
}

impl Toy {
    fn new(fault: Fault) -> Self {
        let mut toy = Self {
            fault,
            driver: Driver::new(Puppet::default(), Limits::default()),
            now: Time::ZERO,
            flushing: Vec::new(),
            durable: 0,
            found: 0,
            refuses: false,
            refused: Vec::new(),
            hoarded: Vec::new(),
            statements: 0,
            echoes: 0,
            wakes: 0,
        };
        toy.give(&[Input::Arm]);
        toy
    }

    fn give(&mut self, inputs: &[Input]) {
        for input in inputs {
            self.driver.offer(*input);
            if self.fault == Fault::Scatters {
                self.run();
            }
        }
        self.run();
    }

    fn run(&mut self) {
        let mut turn = Turn::new();
        while self.driver.is_ready(self.now) {
            self.driver.turn(self.now, &mut (), &mut turn);
            let is_leaky = self.fault == Fault::Leaks && turn.flush.is_some();
            if let Some(flush) = turn.flush.take() {
                self.flushing.push((flush, turn.records.len()));
            }
            for effect in turn.leaving.drain(..) {
                self.leave(effect);
            }
            if is_leaky {
                self.statements += 1;
            }
            turn.clear();
        }
    }

    fn leave(&mut self, effect: Effect) {
        let is_busy = !self.flushing.is_empty();
        if self.refuses {
            self.refused.push(effect);
        } else if self.fault == Fault::Hoards && is_busy && effect == Effect::Echo {
            self.hoarded.push(effect);
        } else if self.fault == Fault::Lingers && matches!(effect, Effect::State(_)) {
            self.hoarded.push(effect);
        } else {
            self.count(effect);
        }
    }

    fn count(&mut self, effect: Effect) {
        match effect {
            Effect::State(_) => self.statements += 1,
            Effect::Echo => self.echoes += 1,
            Effect::Woken => self.wakes += 1,
            Effect::Persist(_) => panic!("a record does not leave"),
        }
    }
}

impl Rig for Toy {
    fn write(&mut self, records: usize) {
        self.give(&[Input::Write(records)]);
    }

    fn burst(&mut self, count: usize) {
        self.give(&vec![Input::Write(2); count]);
    }

    fn echo(&mut self) {
        self.give(&[Input::Echo]);
    }

    fn sync(&mut self) -> bool {
        if self.flushing.is_empty() {
            return false;
        }
        let count = if self.fault == Fault::Confuses {
            self.flushing.len()
        } else {
            1
        };
        for (flush, records) in self.flushing.drain(..count).collect::<Vec<_>>() {
            self.durable += records;
            self.driver.completed(flush);
            self.run();
        }
        true
    }

    fn statements(&mut self) -> usize {
        self.statements
    }

    fn echoes(&mut self) -> usize {
        self.echoes
    }

    fn wake_at(&mut self) -> Time {
        self.driver.wake_at().expect("the timer is set")
    }

    fn pass_until(&mut self, at: Time) {
        let two = Duration::from_secs(2);
        match self.fault {
            Fault::Hurries => self.now = at + two,
            Fault::Oversleeps if at.nanos() > 2_000_000_000 => {
                self.now = self.now.max(Time::from_nanos(at.nanos() - 2_000_000_000));
            }
            _ => self.now = at,
        }
        self.run();
    }

    fn wakes(&mut self) -> usize {
        self.wakes
    }

    fn refuse(&mut self, refuses: bool) {
        self.refuses = refuses;
        if !refuses && self.fault == Fault::Insists {
            for effect in std::mem::take(&mut self.refused) {
                self.count(effect);
            }
        }
        self.refused.clear();
    }

    fn crash(&mut self) {
        if self.fault == Fault::Haunts {
            self.statements += self.flushing.len();
        }
        self.flushing.clear();
        self.found = self.durable;
        self.driver = Driver::new(Puppet::default(), Limits::default());
        self.give(&[Input::Arm]);
    }

    fn found(&self) -> usize {
        self.found
    }
}

#[test]
fn a_sound_loop_keeps_the_contract() {
    assert_eq!(hold(&mut Toy::new(Fault::Nothing)), Ok(()));
}

#[test]
fn each_rule_is_broken_by_the_fault_it_is_about() {
    let planted = [
        (Fault::Leaks, Rule::Held),
        (Fault::Lingers, Rule::Released),
        (Fault::Hoards, Rule::Free),
        (Fault::Confuses, Rule::Ordered),
        (Fault::Scatters, Rule::Batched),
        (Fault::Hurries, Rule::NotEarly),
        (Fault::Oversleeps, Rule::Honoured),
        (Fault::Insists, Rule::Dropped),
        (Fault::Haunts, Rule::Crashed),
    ];
    for (fault, rule) in planted {
        let breach = hold(&mut Toy::new(fault)).expect_err("it has a fault");
        assert_eq!(breach.rule, rule, "{fault:?}: {breach}");
    }
    let mut found: Vec<Rule> = planted.into_iter().map(|(_, rule)| rule).collect();
    found.sort();
    assert_eq!(found, Rule::ALL, "no rule goes without a fault");
}
