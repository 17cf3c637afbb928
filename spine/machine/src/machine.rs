//! The one door of a protocol.

use alloc::vec::Vec;

use holm_base::Time;

/// A protocol: told what happened, says what it wants, and does nothing itself.
pub trait Machine {
    /// Everything that can happen to it.
    type Input;
    /// Everything it can ask for.
    type Effect;

    /// Takes one input at `now` and pushes what it wants onto `effects`.
    ///
    /// Never blocks, fails or logs. Bad input from a peer becomes an event; a broken
    /// invariant is a panic.
    fn step(&mut self, now: Time, input: Self::Input, effects: &mut Effects<Self::Effect>);

    /// When it wants a wake input, if nothing else happens before.
    fn wake_at(&self) -> Option<Time>;
}

/// The buffer that a machine's effects go to, in the order in which it asked.
///
/// The caller owns it and drains it after each step or batch of steps, so that stepping
/// allocates nothing once the buffer has grown to its working size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<E> {
    wanted: Vec<E>,
}

impl<E> Effects<E> {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { wanted: Vec::new() }
    }

    /// Adds an effect behind all earlier ones.
    #[inline]
    pub fn push(&mut self, effect: E) {
        self.wanted.push(effect);
    }

    /// How many effects wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The effects that wait, oldest first.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        &self.wanted
    }

    /// Takes all effects, oldest first, and keeps the buffer's memory.
    #[inline]
    pub fn drain(&mut self) -> impl Iterator<Item = E> + '_ {
        self.wanted.drain(..)
    }
}

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self::new()
    }
}
