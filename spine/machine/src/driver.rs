//! The loop around a machine, without its world: batches, flushes and held effects.
//!
//! It does no input or output. Whoever runs it offers inputs, takes [`Turn`]s, carries out what
//! they hold, and reports completed flushes. A crash is dropping it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use holm_base::{Time, WriteId};

use crate::driven::{Class, Driven, Order, Recorder};
use crate::machine::Effects;

/// The limits of a [`Driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many offered inputs may wait for their turn.
    pub waiting_inputs_max: usize,
    /// How many inputs one turn steps.
    pub batch_inputs_max: usize,
    /// How many flushes may be under way.
    pub writes_in_flight_max: usize,
    /// How many effects may wait, as records for a flush or as sends for durability.
    pub held_effects_max: usize,
    /// How many effects one step may emit.
    pub step_effects_max: usize,
}

impl Default for Limits {
    /// 4,096 waiting inputs, 256 a batch, 4 writes in flight, 4,096 held effects, 512 a step.
    fn default() -> Self {
        Self {
            waiting_inputs_max: 4_096,
            batch_inputs_max: 256,
            writes_in_flight_max: 4,
            held_effects_max: 4_096,
            step_effects_max: 512,
        }
    }
}

/// What became of an offered input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer<I> {
    /// It waits for its turn.
    Taken,
    /// There is no room: tell the client that this node is unavailable for the moment.
    Unavailable(I),
    /// There is no room: a peer's message is gone. Note it.
    Dropped(I),
}

/// What a turn asks of the world. The caller owns it and empties it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn<E> {
    /// Effects that leave now, in order.
    pub leaving: Vec<E>,
    /// Records to append, in order; empty if there is nothing to flush.
    pub records: Vec<E>,
    /// The last write of `records`: report it with [`Driver::completed`] once it is synced.
    pub flush: Option<WriteId>,
    /// How many steps were made.
    pub steps: usize,
}

impl<E> Turn<E> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            leaving: Vec::new(),
            records: Vec::new(),
            flush: None,
            steps: 0,
        }
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.leaving.clear();
        self.records.clear();
        self.flush = None;
        self.steps = 0;
    }
}

impl<E> Default for Turn<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// A machine, and everything of its loop that is not input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver<M: Driven> {
    machine: M,
    limits: Limits,
    now: Time,
    /// The driver's own inputs; bounded by the writes in flight and the start.
    urgent: VecDeque<M::Input>,
    waiting: VecDeque<M::Input>,
    /// The newest write that the machine has asked for.
    asked: WriteId,
    /// Everything through this write is durable.
    durable: WriteId,
    /// The last write of each flush under way, oldest first.
    in_flight: VecDeque<WriteId>,
    /// Records that no flush has taken yet.
    staged: Vec<M::Effect>,
    /// Effects that wait, sorted by what they wait for; among equals, oldest first.
    held: VecDeque<(WriteId, M::Effect)>,
    effects: Effects<M::Effect>,
}

impl<M: Driven> Driver<M> {
    /// A driver for one run of a machine. Writes count from 1 in each run.
    ///
    /// # Panics
    ///
    /// If a limit is zero, or one step may emit more than may be held.
    #[must_use]
    pub fn new(machine: M, limits: Limits) -> Self {
        assert!(limits.waiting_inputs_max > 0, "an input must find room");
        assert!(limits.batch_inputs_max > 0, "a turn must step something");
        assert!(limits.writes_in_flight_max > 0, "a record must be flushed");
        assert!(
            limits.step_effects_max <= limits.held_effects_max,
            "what one step emits must find room"
        );
        Self {
            machine,
            limits,
            now: Time::ZERO,
            urgent: M::start().into_iter().collect(),
            waiting: VecDeque::new(),
            asked: WriteId::ZERO,
            durable: WriteId::ZERO,
            in_flight: VecDeque::new(),
            staged: Vec::new(),
            held: VecDeque::new(),
            effects: Effects::new(),
        }
    }

    /// The machine, to look at.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, to be told what is no input: what a wall clock says, by which nothing is
    /// decided that an entry does not say again.
    pub const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The newest write that is known to be durable.
    pub const fn durable(&self) -> WriteId {
        self.durable
    }

    /// How many effects wait for durability or for a flush.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() + self.staged.len()
    }

    /// How many inputs wait for a turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// When the machine wants to be woken.
    #[must_use]
    pub fn wake_at(&self) -> Option<Time> {
        self.machine.wake_at()
    }

    /// Whether a turn at `now` would do anything.
    #[must_use]
    pub fn is_ready(&self, now: Time) -> bool {
        let releases = self.held.front();
        !self.urgent.is_empty()
            || (!self.waiting.is_empty() && self.has_room())
            || (!self.staged.is_empty() && self.can_flush())
            || releases.is_some_and(|(after, _)| *after <= self.durable)
            || self.wake_at().is_some_and(|at| at <= now)
    }

    /// Puts an input behind those that wait, if there is room.
    ///
    /// The driver's own inputs have no business here: it makes them itself.
    ///
    /// # Panics
    ///
    /// If the input is of [`Class::Own`].
    #[inline(always)]
    pub fn offer(&mut self, input: M::Input) -> Offer<M::Input> {
        let has_room = self.waiting.len() < self.limits.waiting_inputs_max && self.has_room();
        match (M::class(&input), has_room) {
            (Class::Own, _) => panic!("wakes and completions are the driver's to make"),
            (Class::Request | Class::Peer, true) => {
                self.waiting.push_back(input);
                Offer::Taken
            }
            (Class::Request, false) => Offer::Unavailable(input),
            (Class::Peer, false) => Offer::Dropped(input),
        }
    }

    /// Takes the news that the oldest flush under way is on disk.
    ///
    /// # Panics
    ///
    /// I3: if another flush than the oldest is reported.
    pub fn completed(&mut self, through: WriteId) {
        let oldest = self.in_flight.pop_front();
        assert_eq!(oldest, Some(through), "I3: durability comes in order");
        self.durable = through;
        self.urgent.push_back(M::durable(through));
    }

    /// Steps one batch at `now` and says what the world has to do.
    ///
    /// What the newest completion released comes first, then what the steps let go.
    ///
    /// # Panics
    ///
    /// I1: if `now` falls. I3, I4, I6: if the machine breaks its side of the contract.
    #[inline]
    pub fn turn(&mut self, now: Time, recorder: &mut impl Recorder<M>, turn: &mut Turn<M::Effect>) {
        assert!(now >= self.now, "I1: time never falls");
        self.now = now;
        self.release(turn);
        while let Some(input) = self.urgent.pop_front() {
            self.step(input, recorder, turn);
        }
        let batch = self.waiting.len().min(self.limits.batch_inputs_max);
        for _ in 0..batch {
            if !self.has_room() {
                break;
            }
            if let Some(input) = self.waiting.pop_front() {
                self.step(input, recorder, turn);
            }
        }
        if self.wake_at().is_some_and(|at| at <= now) {
            self.step(M::wake(), recorder, turn);
            let next = self.wake_at();
            assert!(next.is_none_or(|at| at > now), "I4: a due timer fires once");
        }
        self.flush(turn);
    }

    /// Whether one more step of a stranger's input keeps within the limit of held effects.
    #[inline]
    fn has_room(&self) -> bool {
        self.held() + self.limits.step_effects_max <= self.limits.held_effects_max
    }

    #[inline]
    fn can_flush(&self) -> bool {
        self.in_flight.len() < self.limits.writes_in_flight_max
    }

    #[inline]
    fn step(
        &mut self,
        input: M::Input,
        recorder: &mut impl Recorder<M>,
        turn: &mut Turn<M::Effect>,
    ) {
        recorder.before(&self.machine, self.now, &input);
        self.machine.step(self.now, input, &mut self.effects);
        assert!(
            self.effects.len() <= self.limits.step_effects_max,
            "I6: a step emits what its configuration allows"
        );
        recorder.after(&self.machine, self.now, self.effects.as_slice());
        let mut books = Books {
            asked: &mut self.asked,
            durable: self.durable,
            staged: &mut self.staged,
            held: &mut self.held,
        };
        for effect in self.effects.drain() {
            books.sort::<M>(effect, turn);
        }
        turn.steps += 1;
    }

    #[inline]
    fn release(&mut self, turn: &mut Turn<M::Effect>) {
        while let Some((after, effect)) = self.held.pop_front() {
            if after > self.durable {
                self.held.push_front((after, effect));
                return;
            }
            turn.leaving.push(effect);
        }
    }

    #[inline]
    fn flush(&mut self, turn: &mut Turn<M::Effect>) {
        if self.staged.is_empty() || !self.can_flush() {
            return;
        }
        turn.records.append(&mut self.staged);
        turn.flush = Some(self.asked);
        self.in_flight.push_back(self.asked);
    }
}

/// What a driver keeps of effects that do not leave at once.
struct Books<'a, E> {
    asked: &'a mut WriteId,
    durable: WriteId,
    staged: &'a mut Vec<E>,
    held: &'a mut VecDeque<(WriteId, E)>,
}

impl<E> Books<'_, E> {
    #[inline]
    fn sort<M: Driven<Effect = E>>(&mut self, effect: E, turn: &mut Turn<E>) {
        match M::order(&effect) {
            Order::Persist { write } => {
                assert_eq!(write, self.asked.next(), "I3: writes rise by one");
                *self.asked = write;
                self.staged.push(effect);
            }
            Order::Leave { after: None } => turn.leaving.push(effect),
            Order::Leave { after: Some(after) } => {
                assert!(after <= *self.asked, "I2: it waits for a write that exists");
                if after <= self.durable {
                    turn.leaving.push(effect);
                } else {
                    self.hold(after, effect);
                }
            }
        }
    }

    fn hold(&mut self, after: WriteId, effect: E) {
        // Almost always the last place, since newer effects wait for newer writes.
        let later = self.held.iter().rev();
        let place = self.held.len() - later.take_while(|(other, _)| *other > after).count();
        self.held.insert(place, (after, effect));
    }
}
