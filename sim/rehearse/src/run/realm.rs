//! The world as one keyspace sees it: its nodes count from 1, wherever they stand among all.
//!
//! What would surprise: several realms share one world by handing it to each other, so that all
//! code of a run may go on as if there were no other keyspace. Who has not got it holds an empty
//! one.

use std::ops::{Deref, DerefMut};

use holm_base::{NodeId, RequestId, Time};
use holm_virtual::{Noted, Quantiles, Reply, Usage, WallTime, World};

use crate::site::{Answer, Event, Request, Shelf, Site};

/// Where an alarm's token says whose it is.
const SIDE_SHIFT: u32 = 60;

/// A world, and which of its nodes are meant.
pub(crate) struct Realm {
    world: World<Site>,
    /// How many nodes of other keyspaces stand before the first.
    before: u64,
    /// Which keyspace it is.
    side: u64,
}

impl Realm {
    pub(crate) const fn new(world: World<Site>, (side, before): (u64, u64)) -> Self {
        Self {
            world,
            before,
            side,
        }
    }

    /// Whose an alarm is, and what its owner packed into it.
    pub(crate) const fn of_token(token: u64) -> (u64, u64) {
        (token >> SIDE_SHIFT, token & ((1 << SIDE_SHIFT) - 1))
    }

    /// Whether it is the first of several keyspaces, or the only one.
    pub(crate) const fn is_first(&self) -> bool {
        self.side == 0
    }

    /// Hands the world over.
    pub(crate) const fn hand_to(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.world, &mut other.world);
    }

    const fn all(&self, node: NodeId) -> NodeId {
        NodeId::new(node.value() + self.before)
    }

    /// What a node of the world is called here.
    pub(crate) const fn own(&self, node: NodeId) -> NodeId {
        NodeId::new(node.value() - self.before)
    }

    pub(crate) fn alarm(&mut self, at: Time, token: u64) {
        self.world.alarm(at, token | self.side << SIDE_SHIFT);
    }

    pub(crate) fn node(&self, node: NodeId) -> Option<&Site> {
        self.world.node(self.all(node))
    }

    pub(crate) fn wall(&self, node: NodeId) -> WallTime {
        self.world.wall(self.all(node))
    }

    pub(crate) fn shelf(&mut self, node: NodeId) -> &mut Shelf {
        let node = self.all(node);
        self.world.shelf(node)
    }

    pub(crate) fn usage(&self, node: NodeId) -> Usage {
        self.world.usage(self.all(node))
    }

    pub(crate) fn ends(&self, node: NodeId) -> u64 {
        self.world.ends(self.all(node))
    }

    pub(crate) fn is_well(&self, node: NodeId) -> bool {
        self.world.is_well(self.all(node))
    }

    pub(crate) fn request(&mut self, node: NodeId, body: Request) -> Option<RequestId> {
        let node = self.all(node);
        self.world.request(node, body)
    }

    pub(crate) fn request_inbox(&mut self, node: NodeId, body: Request) -> Option<RequestId> {
        let node = self.all(node);
        self.world.request_inbox(node, body)
    }

    pub(crate) fn crash(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.crash(node);
    }

    pub(crate) fn restart(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.restart(node);
    }

    pub(crate) fn pause(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.pause(node);
    }

    pub(crate) fn resume(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.resume(node);
    }

    pub(crate) fn cut(&mut self, source: NodeId, target: NodeId) {
        let (source, target) = (self.all(source), self.all(target));
        self.world.cut(source, target);
    }

    pub(crate) fn mend(&mut self, source: NodeId, target: NodeId) {
        let (source, target) = (self.all(source), self.all(target));
        self.world.mend(source, target);
    }

    pub(crate) fn slow(&mut self, source: NodeId, target: NodeId, nanos: u64) {
        let (source, target) = (self.all(source), self.all(target));
        self.world.slow(source, target, nanos);
    }

    pub(crate) fn set_sync(&mut self, node: NodeId, sync: Quantiles) {
        let node = self.all(node);
        self.world.set_sync(node, sync);
    }

    pub(crate) fn fail_next_sync(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.fail_next_sync(node);
    }

    pub(crate) fn fill_disk(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.fill_disk(node);
    }

    pub(crate) fn empty_disk(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.empty_disk(node);
    }

    pub(crate) fn step_clock(&mut self, node: NodeId, by_nanos: i64) {
        let node = self.all(node);
        self.world.step_clock(node, by_nanos);
    }

    pub(crate) fn freeze_clock(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.freeze_clock(node);
    }

    pub(crate) fn thaw_clock(&mut self, node: NodeId) {
        let node = self.all(node);
        self.world.thaw_clock(node);
    }

    /// What nodes told and answered since the last call, of all keyspaces.
    pub(crate) fn hear(&mut self, notes: &mut Vec<Noted<Event>>, replies: &mut Vec<Reply<Answer>>) {
        self.world.move_notes(notes);
        self.world.move_replies(replies);
    }
}

impl Deref for Realm {
    type Target = World<Site>;

    fn deref(&self) -> &World<Site> {
        &self.world
    }
}

impl DerefMut for Realm {
    fn deref_mut(&mut self) -> &mut World<Site> {
        &mut self.world
    }
}
