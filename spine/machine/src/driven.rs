//! What a driver must know of a machine's inputs and effects, and nothing more.

use holm_base::{Time, WriteId};

use crate::machine::Machine;

/// A machine that a [`Driver`](crate::Driver) can run.
///
/// The driver never looks into an effect beyond its [`Order`]: what a message or a record is,
/// the world around it decides.
pub trait Driven: Machine {
    /// When this effect may leave.
    fn order(effect: &Self::Effect) -> Order;

    /// Who is answered, and how, when there is no room for this input.
    fn class(input: &Self::Input) -> Class;

    /// The input that says: your deadline has come.
    fn wake() -> Self::Input;

    /// The input that says: all writes through this one survive a crash.
    fn durable(through: WriteId) -> Self::Input;

    /// The input that comes first, for machines that want one.
    fn start() -> Option<Self::Input> {
        None
    }
}

/// When an effect may leave, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It is a record to make durable, in the order of these numbers.
    Persist {
        /// Its number: one more than the one before.
        write: WriteId,
    },
    /// It leaves once `after` is durable; `None`, or a write that already is, means at once.
    Leave {
        /// The write to wait for.
        after: Option<WriteId>,
    },
}

/// Where an input comes from, and so what happens to it when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The driver's own: a start, a wake, a completed write. Always taken.
    Own,
    /// A client's. Without room the client is told that this node is unavailable.
    Request,
    /// A peer's. Without room it is dropped, and an event says so; protocols bear loss.
    Peer,
}

/// Sees every step that a driver makes: a recording, a hash, a check of invariants.
pub trait Recorder<M: Machine> {
    /// Called before the step.
    fn before(&mut self, machine: &M, now: Time, input: &M::Input);

    /// Called after it, with what the machine asked for in this step.
    fn after(&mut self, machine: &M, now: Time, effects: &[M::Effect]);
}

/// Sees nothing.
impl<M: Machine> Recorder<M> for () {
    fn before(&mut self, _: &M, _: Time, _: &M::Input) {}
    fn after(&mut self, _: &M, _: Time, _: &[M::Effect]) {}
}
