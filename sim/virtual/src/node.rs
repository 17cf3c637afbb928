//! What a machine must say of itself to live in a [`World`](crate::World).
//!
//! The machine keeps its own inputs and effects, and the hash of a run is over those. A node is
//! whatever runs as one process: a bare protocol, or a sequencer together with the engine that
//! it feeds, in which case applying, reading and fetching happen inside and never leave.

use std::fmt::Debug;
use std::hash::Hash;

use holm_base::{NodeId, RequestId, Time, WriteId};
use holm_machine::{Driven, Machine, Observe, Turn};

use crate::clock::WallTime;
use crate::shelf::Shelf;

/// A machine that a world can start, feed and crash.
pub trait Node:
    Driven + Observe + Machine<Input: Clone + Hash + Debug, Effect: Clone + Hash + Debug> + Sized
{
    /// What all its starts have in common.
    type Setup: Clone + Debug;
    /// What nodes say to each other.
    type Message: Clone;
    /// What clients ask.
    type Request;
    /// What clients hear.
    type Answer: Clone + Debug;
    /// What it tells observers.
    type Event: Clone + Debug;
    /// What it needs to find again after a crash.
    type Record: Clone + Debug;
    /// Where those records are kept.
    type Shelf: Shelf<Self::Record> + Default;

    /// A disk of such a node before its first start.
    fn shelf(_setup: &Self::Setup) -> Self::Shelf {
        Self::Shelf::default()
    }

    /// A start or restart, from what is durable. `seed` differs between nodes and starts.
    fn boot(setup: &Self::Setup, id: NodeId, seed: u64, shelf: &Self::Shelf) -> Self;

    /// What its wall clock says, at a moment of its monotone one: told before each batch.
    fn tell_wall(&mut self, _now: Time, _wall: WallTime) {}

    /// The input that brings a peer's message.
    fn message(from: NodeId, message: Self::Message) -> Self::Input;

    /// The input that brings a client's request.
    fn request(request: RequestId, body: Self::Request) -> Self::Input;

    /// What an effect wants of the world.
    fn want(effect: Self::Effect) -> Want<Self>;

    /// What a client hears when the driver has no room.
    fn unavailable() -> Self::Answer;

    /// How many bytes a message takes on the wire.
    fn size(_message: &Self::Message) -> u64 {
        64
    }

    /// The message with one bit inverted; `None` if the frame's checksum catches that, and the
    /// message is thereby lost.
    fn flipped(_message: &Self::Message, _bit: u32) -> Option<Self::Message> {
        None
    }

    /// Whether something went wrong that only ending the process can answer. Asked after each
    /// batch; whoever runs the world starts the node again.
    fn has_failed(&self) -> bool {
        false
    }

    /// What the batch that it has just stepped costs on a core by its own account, beside what
    /// [`Work`](crate::Work) says of any batch. Asked once after each batch, and only where work
    /// is not free.
    fn work_nanos(&self, _turn: &Turn<Self::Effect>) -> u64 {
        0
    }

    /// What a flush of a batch's records costs on a core by its own account, beside what [`Work`](crate::Work) says of
    /// any flush.
    fn log_nanos(&self, _turn: &Turn<Self::Effect>) -> u64 {
        0
    }

    /// How many bytes a flush of a batch's records writes. Asked only where work is not free.
    fn log_bytes(&self, _turn: &Turn<Self::Effect>) -> u64 {
        0
    }

    /// Whether the engine's thread writes a batch's records itself, and waits for the disk, instead of leaving them to
    /// the log's thread. Asked only where work is not free.
    fn flushes_itself(&self, _turn: &Turn<Self::Effect>) -> bool {
        false
    }

    /// Whether a worker that has read so many bytes of messages works them off itself while the
    /// engine's thread sleeps, instead of waking that. Asked only where work is not free.
    fn attends(&self, _bytes: u64) -> bool {
        false
    }

    /// How many bytes an input took on the wire that brings a peer's message; asked only where messages cost something.
    fn input_size(_input: &Self::Input) -> u64 {
        64
    }

    /// Asserts its invariants. Called after each step.
    fn check(&self) {}
}

/// What an effect wants of the world.
#[derive(Debug)]
pub enum Want<N: Node> {
    /// Make this record durable.
    Persist {
        /// Its number.
        write: WriteId,
        /// The record.
        record: N::Record,
    },
    /// Carry this message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: N::Message,
    },
    /// Tell the client.
    Answer {
        /// Whose request it was.
        request: RequestId,
        /// What it hears.
        answer: N::Answer,
    },
    /// Tell observers.
    Note(N::Event),
}
