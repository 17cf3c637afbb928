//! The virtual world held to the contract of all drivers (`holm_machine::conformance`).

use std::time::Duration;

use holm_base::{NodeId, RequestId, Time, WriteId};
use holm_machine::conformance::{self, Rig};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order};
use holm_virtual::{Moment, Node, Records, Shelf, Tape, Want, World, WorldSpec};

const OWN: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);
const PAUSE: Duration = Duration::from_secs(1_000);

/// What a puppet says to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Statement,
    Echo,
    Woken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Write(usize),
    Echo,
    /// Sets the timer.
    Arm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Input {
    Wake,
    Durable,
    Heard(Word),
    Asked(Ask),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Effect {
    Persist(WriteId),
    Say(Word, Option<WriteId>),
    Note(Word),
}

/// Does what it is asked, and says to the other that it did.
#[derive(Debug)]
struct Puppet {
    found: usize,
    written: WriteId,
    wake_at: Option<Time>,
}

impl Machine for Puppet {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Wake => {
                effects.push(Effect::Say(Word::Woken, None));
                self.wake_at = Some(now + PAUSE);
            }
            Input::Durable => {}
            Input::Heard(word) => effects.push(Effect::Note(word)),
            Input::Asked(Ask::Write(records)) => {
                for _ in 0..records {
                    self.written = self.written.next();
                    effects.push(Effect::Persist(self.written));
                }
                effects.push(Effect::Say(Word::Statement, Some(self.written)));
            }
            Input::Asked(Ask::Echo) => effects.push(Effect::Say(Word::Echo, None)),
            Input::Asked(Ask::Arm) => self.wake_at = Some(now + PAUSE),
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
            Effect::Say(_, after) => Order::Leave { after: *after },
            Effect::Note(_) => Order::Leave { after: None },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Wake | Input::Durable => Class::Own,
            Input::Heard(_) => Class::Peer,
            Input::Asked(_) => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(_through: WriteId) -> Input {
        Input::Durable
    }
}

fn label(input: &Input) -> Label {
    match input {
        Input::Wake => Label::plain("wake", "puppet"),
        Input::Durable => Label::plain("durable", "puppet"),
        Input::Heard(_) => Label::plain("heard", "puppet"),
        Input::Asked(_) => Label::plain("asked", "puppet"),
    }
}

impl Observe for Puppet {
    fn label(&self, input: &Input) -> Label {
        label(input)
    }
}

impl Node for Puppet {
    type Setup = ();
    type Message = Word;
    type Request = Ask;
    type Answer = ();
    type Event = Word;
    type Record = WriteId;
    type Shelf = Records<WriteId>;

    fn boot(_setup: &(), _id: NodeId, _seed: u64, shelf: &Records<WriteId>) -> Self {
        Self {
            found: shelf.records().len(),
            written: WriteId::ZERO,
            wake_at: None,
        }
    }

    fn message(_from: NodeId, message: Word) -> Input {
        Input::Heard(message)
    }

    fn request(_request: RequestId, body: Ask) -> Input {
        Input::Asked(body)
    }

    fn want(effect: Effect) -> Want<Self> {
        match effect {
            Effect::Persist(write) => Want::Persist {
                write,
                record: write,
            },
            Effect::Say(message, _) => Want::Send { to: OTHER, message },
            Effect::Note(word) => Want::Note(word),
        }
    }

    fn unavailable() {}
}

/// A world of two puppets, of which one does all the work and the other listens.
struct Drill {
    world: World<Puppet>,
    statements: usize,
    echoes: usize,
    wakes: usize,
}

impl Drill {
    fn new() -> Self {
        let spec = WorldSpec::plain(&(), 2);
        let mut drill = Self {
            world: World::new(spec, Tape::normal()),
            statements: 0,
            echoes: 0,
            wakes: 0,
        };
        drill.ask(Ask::Arm);
        drill
    }

    fn ask(&mut self, ask: Ask) {
        self.world.request(OWN, ask).expect("it is up");
        self.listen();
    }

    /// Lets all messages under way arrive, and nothing else happen.
    fn listen(&mut self) {
        while let Some(one) = self.world.pending().into_iter().find(|one| one.is_message) {
            self.world.force(one.seq).expect("it is pending");
        }
        for noted in self.world.take_notes() {
            let count = match noted.event {
                Word::Statement => &mut self.statements,
                Word::Echo => &mut self.echoes,
                Word::Woken => &mut self.wakes,
            };
            *count += 1;
        }
    }
}

impl Rig for Drill {
    fn write(&mut self, records: usize) {
        self.ask(Ask::Write(records));
    }

    fn burst(&mut self, count: usize) {
        self.world.pause(OWN);
        for _ in 0..count {
            self.ask(Ask::Write(2));
        }
        self.world.resume(OWN);
        self.listen();
    }

    fn echo(&mut self) {
        self.ask(Ask::Echo);
    }

    fn sync(&mut self) -> bool {
        let is_flush = label(&Input::Durable);
        let mut pending = self.world.pending().into_iter();
        let Some(flush) = pending.find(|one| one.label == is_flush) else {
            return false;
        };
        self.world.force(flush.seq).expect("it is pending");
        self.listen();
        true
    }

    fn statements(&mut self) -> usize {
        self.statements
    }

    fn echoes(&mut self) -> usize {
        self.echoes
    }

    fn wake_at(&mut self) -> Time {
        // In true time; the node's own clock may count otherwise.
        let is_wake = label(&Input::Wake);
        let mut pending = self.world.pending().into_iter();
        pending
            .find(|one| one.label == is_wake)
            .expect("the timer is set")
            .at
    }

    fn pass_until(&mut self, at: Time) {
        // What is due at that very moment comes before the alarm.
        self.world.alarm(at + Duration::from_nanos(1), 7);
        while self.world.advance().expect("nothing is wrong") != Moment::Alarm(7) {}
        self.listen();
    }

    fn wakes(&mut self) -> usize {
        self.wakes
    }

    fn refuse(&mut self, refuses: bool) {
        if refuses {
            self.world.cut(OWN, OTHER);
        } else {
            self.world.mend(OWN, OTHER);
        }
    }

    fn crash(&mut self) {
        self.world.crash(OWN);
        self.world.restart(OWN);
        self.ask(Ask::Arm);
    }

    fn found(&self) -> usize {
        self.world.node(OWN).expect("it is up").found
    }
}

#[test]
fn the_virtual_driver_keeps_the_contract() {
    let held = conformance::hold(&mut Drill::new());
    assert!(held.is_ok(), "{}", held.unwrap_err());
}
