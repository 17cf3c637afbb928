//! What the engine says to other nodes: some waits for what it states to be durable, some for
//! company, and little leaves on the thread that says it.
//!
//! What would surprise: a lone entry has left when the flush of its own begins. Whoever runs the
//! engine would otherwise keep it for as long as its disk takes, for the thread that it is handed
//! to is often the same.

use holm_base::{NodeId, Time};
use holm_replica::{HERE_BYTES_MAX, Message};

use super::Engine;
use crate::network::Parcel;

/// How much is allocated at once for messages.
const ARENA_BYTES: usize = 64 << 10;

impl Engine {
    /// Sends what waited for a write that is durable now.
    pub(super) fn release_held(&mut self) {
        if self.desk.held.is_empty() {
            return;
        }
        let durable = self.desk.durable;
        let mut held = core::mem::take(&mut self.desk.held);
        for (_, to, message) in held.extract_if(.., |(after, ..)| *after <= durable) {
            self.say(to, message);
        }
        self.desk.held = held;
    }

    /// Sends a message, or lets it wait a little for others to the same node.
    pub(super) fn say(&mut self, to: NodeId, message: Message) {
        let now = self.shared.clock.now();
        let led = self.replica.led();
        let mut leaving = core::mem::take(&mut self.desk.leaving);
        let company = &mut self.desk.company;
        company.pass(now, led, (to, message), &mut leaving);
        self.send(to, &mut leaving);
        self.desk.leaving = leaving;
    }

    /// Sends what has waited for long enough.
    pub(super) fn send_late(&mut self, now: Time) {
        let mut leaving = core::mem::take(&mut self.desk.leaving);
        while let Some(to) = self.desk.company.ripe(now, &mut leaving) {
            self.send(to, &mut leaving);
        }
        self.desk.leaving = leaving;
    }

    /// Sends all that leaves for a node: on this thread if it is little and at most one request
    /// waits, for to wake another costs more then.
    fn send(&mut self, to: NodeId, leaving: &mut Vec<Message>) {
        let Some(network) = &self.network else {
            leaving.clear();
            return;
        };
        let desk = &mut self.desk;
        for message in leaving.drain(..) {
            if desk.arena.capacity() < ARENA_BYTES / 2 {
                desk.arena.reserve(ARENA_BYTES);
            }
            message.encode(&mut desk.arena);
            let is_of_islands = Message::is_of_islands(message.kind());
            let group = if is_of_islands {
                self.shared.keyspace.0
            } else {
                self.group
            };
            desk.parcels.push(Parcel {
                kind: message.kind(),
                group,
                is_control: message.is_control(),
                body: desk.arena.split().freeze(),
            });
        }
        let bytes: usize = desk.parcels.iter().map(|it| it.body.len()).sum();
        if desk.seated() <= 1 && bytes <= HERE_BYTES_MAX {
            network.send_here(to, &mut desk.parcels);
        } else {
            for parcel in desk.parcels.drain(..) {
                network.send(to, parcel);
            }
        }
    }
}
