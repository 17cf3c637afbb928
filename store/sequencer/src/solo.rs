//! The sequencer of one node: a quorum of one, and otherwise the whole path.
//!
//! It may order many commands while the log is still writing the first: only applying waits.

use alloc::collections::VecDeque;

use holm_base::{Op, RequestId, Term, Time, WriteId};
use holm_machine::{Effects, Machine};

use crate::boundary::{Command, Effect, Event, Input, Record, Refused};

/// The limits of a [`Solo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many bytes of commands may wait for durability.
    pub uncommitted_bytes_max: u64,
    /// How many commands may wait for durability.
    pub uncommitted_count_max: usize,
}

impl Default for Config {
    /// 64 MiB and 65,536 commands.
    fn default() -> Self {
        Self {
            uncommitted_bytes_max: 64 << 20,
            uncommitted_count_max: 65_536,
        }
    }
}

/// What the log remembers of an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// The newest term.
    pub term: Term,
    /// The newest op.
    pub last: Op,
}

/// What only this run knows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Volatile {
    role: Role,
    next_write: WriteId,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
}

/// Where the sequencer stands between its start and its first durable record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Idle,
    Starting { hard: WriteId },
    Leader,
}

/// A command whose entry is on its way to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    write: WriteId,
    op: Op,
    command: Command,
}

/// The sequencer of a keyspace that lives on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solo {
    config: Config,
    durable: Durable,
    volatile: Volatile,
}

impl Solo {
    /// A sequencer that goes on where the log ends. Step it with [`Input::Start`] first.
    #[must_use]
    pub const fn restore(config: Config, durable: Durable) -> Self {
        Self {
            config,
            durable,
            volatile: Volatile {
                role: Role::Idle,
                next_write: WriteId::new(1),
                waiting: VecDeque::new(),
                waiting_bytes: 0,
            },
        }
    }

    /// The term of this run.
    #[must_use]
    pub const fn term(&self) -> Term {
        self.durable.term
    }

    /// The newest op that was given out, applied or not.
    #[must_use]
    pub const fn last(&self) -> Op {
        self.durable.last
    }

    /// Whether requests are taken.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.volatile.role == Role::Leader
    }

    fn persist(&mut self, record: Record, effects: &mut Effects<Effect>) -> WriteId {
        let write = self.volatile.next_write;
        self.volatile.next_write = write.next();
        effects.push(Effect::Persist { write, record });
        write
    }

    fn start(&mut self, effects: &mut Effects<Effect>) {
        assert!(self.volatile.role == Role::Idle, "I3: a run starts once");
        self.durable.term = self.durable.term.next();
        let term = self.durable.term;
        let hard = self.persist(Record::of_term(term), effects);
        self.volatile.role = Role::Starting { hard };
    }

    fn become_leader(&mut self, effects: &mut Effects<Effect>) {
        assert!(
            matches!(self.volatile.role, Role::Starting { .. }),
            "I3: leading follows a durable term"
        );
        self.volatile.role = Role::Leader;
        let term = self.durable.term;
        effects.push(Effect::Note(Event::LeaderElected { term }));
    }

    fn request(&mut self, command: Command, effects: &mut Effects<Effect>) {
        if self.volatile.role != Role::Leader {
            refuse(command.request, Refused::Starting, effects);
            return;
        }
        let bytes = self.volatile.waiting_bytes + command.body.len() as u64;
        let is_full = bytes > self.config.uncommitted_bytes_max
            || self.volatile.waiting.len() >= self.config.uncommitted_count_max;
        if is_full {
            let waiting = holm_base::ByteCount::new(self.volatile.waiting_bytes);
            effects.push(Effect::Note(Event::RequestShed { waiting }));
            refuse(command.request, Refused::Busy, effects);
            return;
        }
        let op = self.durable.last.next();
        self.durable.last = op;
        let term = self.durable.term;
        let body = command.body.clone();
        let write = self.persist(Record::plain(term, op, body), effects);
        self.volatile.waiting_bytes = bytes;
        self.volatile
            .waiting
            .push_back(Waiting { write, op, command });
    }

    fn durable(&mut self, through: WriteId, effects: &mut Effects<Effect>) {
        assert!(
            through < self.volatile.next_write,
            "I2: only what was asked for becomes durable"
        );
        if let Role::Starting { hard } = self.volatile.role
            && hard <= through
        {
            self.become_leader(effects);
        }
        let term = self.durable.term;
        while let Some(first) = self.volatile.waiting.front() {
            if first.write > through {
                break;
            }
            let first = self.volatile.waiting.pop_front().expect("it was looked at");
            self.volatile.waiting_bytes -= first.command.body.len() as u64;
            effects.push(Effect::Apply {
                op: first.op,
                term,
                command: first.command,
            });
        }
    }
}

impl Machine for Solo {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, _now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Start => self.start(effects),
            Input::Request { command } => self.request(command, effects),
            Input::Durable { through } => self.durable(through, effects),
        }
    }

    /// A node alone has no timers: nobody has to hear from it.
    fn wake_at(&self) -> Option<Time> {
        None
    }
}

fn refuse(request: RequestId, reason: Refused, effects: &mut Effects<Effect>) {
    effects.push(Effect::Refuse { request, reason });
}
