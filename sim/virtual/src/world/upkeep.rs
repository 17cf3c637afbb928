//! Faults by hand, faults by plan, and the end of all faults.

use std::time::Duration;

use holm_base::{NodeId, Time};

use crate::faults::{FAULT, FaultKind, FaultPlan, LASTS, TARGET};
use crate::link::Link;
use crate::node::Node;
use crate::order::Order;
use crate::quantiles::Quantiles;
use crate::shelf::Shelf;
use crate::world::{Item, World};

impl<N: Node> World<N> {
    /// Ends a node. What it held is lost; of what was not synced, the tape decides.
    pub fn crash(&mut self, node: NodeId) {
        let node = self.index(node);
        self.end(node);
    }

    /// Starts a node that is down, from what its disk holds.
    pub fn restart(&mut self, node: NodeId) {
        let node = self.index(node);
        self.start(node);
    }

    /// Ends all nodes of a site at once.
    pub fn power_cut(&mut self, site: usize) {
        for node in self.of_site(site) {
            self.end(node);
        }
    }

    fn of_site(&self, site: usize) -> Vec<usize> {
        let nodes = 0..self.processes.len();
        nodes
            .filter(|&node| self.processes[node].spec.site == site)
            .collect()
    }

    /// A node does nothing until it is resumed; what arrives waits, up to the driver's limit.
    pub fn pause(&mut self, node: NodeId) {
        let node = self.index(node);
        self.processes[node].pauses += 1;
        self.refresh_timer(node);
    }

    /// Ends one pause of a node.
    pub fn resume(&mut self, node: NodeId) {
        let node = self.index(node);
        self.resumed(node);
    }

    /// Cuts the link from one node to another; the way back stays. Messages under way arrive.
    pub fn cut(&mut self, source: NodeId, target: NodeId) {
        let (source, target) = (self.index(source), self.index(target));
        self.link(source, target).cut();
    }

    /// Undoes one [`World::cut`].
    pub fn mend(&mut self, source: NodeId, target: NodeId) {
        let (source, target) = (self.index(source), self.index(target));
        self.link(source, target).mend();
    }

    /// Delays everything from one node to another by so much more from now on; 0 ends that.
    pub fn slow(&mut self, source: NodeId, target: NodeId, nanos: u64) {
        let (source, target) = (self.index(source), self.index(target));
        self.link(source, target).slow(nanos);
    }

    /// How long a node's flushes take from now on.
    pub fn set_sync(&mut self, node: NodeId, sync: Quantiles) {
        let node = self.index(node);
        self.processes[node].spec.sync = sync;
    }

    /// Whether nothing gets from one node to the other.
    pub fn is_cut(&self, source: NodeId, target: NodeId) -> bool {
        let (source, target) = (self.index(source), self.index(target));
        self.links[source * self.processes.len() + target].is_cut()
    }

    /// Lets a node's next sync fail, and what it was to save be lost.
    pub fn fail_next_sync(&mut self, node: NodeId) {
        self.shelf(node).fail_next_sync();
    }

    /// A node's disk has no room for more than it holds; what is to be saved waits.
    pub fn fill_disk(&mut self, node: NodeId) {
        self.shelf(node).set_full(true);
    }

    /// A node's disk has room again.
    pub fn empty_disk(&mut self, node: NodeId) {
        self.shelf(node).set_full(false);
    }

    /// A node's wall clock jumps; its monotone one does not.
    pub fn step_clock(&mut self, node: NodeId, by_nanos: i64) {
        let node = self.index(node);
        self.processes[node].clock.step(by_nanos);
    }

    /// A node's clocks stand still, and none of its timers fires.
    pub fn freeze_clock(&mut self, node: NodeId) {
        let node = self.index(node);
        let now = self.now;
        self.processes[node].clock.freeze(now);
        self.refresh_timer(node);
    }

    /// A node's clocks go on where they stood.
    pub fn thaw_clock(&mut self, node: NodeId) {
        let node = self.index(node);
        self.thawed(node);
    }

    pub(crate) fn thawed(&mut self, node: usize) {
        let now = self.now;
        self.processes[node].clock.thaw(now);
        self.stir(node);
        self.refresh_timer(node);
    }

    /// Whether a node is up.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.processes[self.index(node)].driver.is_some()
    }

    /// How often a node has ended.
    pub fn ends(&self, node: NodeId) -> u64 {
        self.processes[self.index(node)].run
    }

    /// Whether a node is up, not paused, and its clocks run.
    pub fn is_well(&self, node: NodeId) -> bool {
        let process = &self.processes[self.index(node)];
        process.is_well() && !process.clock.is_frozen()
    }

    /// All faults end: links carry everything, clocks run, pauses are over, nodes are up, and
    /// things happen in timed order, for an odd order is an odd delay.
    ///
    /// What was lost stays lost; whether the nodes recover is what the caller wants to see.
    pub fn heal(&mut self) {
        self.order = Order::Timed;
        self.links.iter_mut().for_each(Link::heal);
        for node in 0..self.processes.len() {
            self.processes[node].shelf.heal();
            self.thawed(node);
            self.processes[node].pauses = self.processes[node].pauses.min(1);
            self.resumed(node);
            self.start(node);
        }
    }

    /// Asks the tape for a fault, and lets it happen with an end to come.
    ///
    /// Called once for each moment of a run. A node that its disk ended is started again after
    /// a while, whether the plan has more faults or not.
    pub fn inject(&mut self, plan: &mut FaultPlan) -> Option<FaultKind> {
        self.restart_ended(plan);
        let (nodes, well) = (self.processes.len(), self.well());
        let weights = plan.weights(nodes - well < plan.down_max);
        let drawn = self.tape.weighted(FAULT, &weights);
        let kind = FaultKind::of_choice(drawn)?;
        let count = u32::try_from(nodes).expect("nodes are few");
        let target = usize::try_from(self.tape.choose(TARGET, count)).expect("nodes are few");
        let until = self.until(plan);
        self.strike(kind, target, until, plan.slow_nanos);
        plan.count(kind);
        Some(kind)
    }

    fn well(&self) -> usize {
        self.processes.iter().filter(|one| one.is_well()).count()
    }

    fn until(&mut self, plan: &FaultPlan) -> Time {
        let lasts = plan.lasts.delay(LASTS, &mut self.tape);
        self.now + Duration::from_nanos(lasts)
    }

    fn restart_ended(&mut self, plan: &FaultPlan) {
        for node in 0..self.processes.len() {
            let process = &self.processes[node];
            if process.driver.is_none() && process.restarts == 0 {
                let at = self.until(plan);
                self.restart_at(node, at);
            }
        }
    }

    fn restart_at(&mut self, node: usize, at: Time) {
        self.processes[node].restarts += 1;
        self.agenda.add(at, Item::Restart(node));
    }

    fn strike(&mut self, kind: FaultKind, node: usize, until: Time, slow_nanos: u64) {
        let id = self.processes[node].id;
        match kind {
            FaultKind::Crash => {
                self.end(node);
                self.restart_at(node, until);
            }
            FaultKind::Power => {
                let site = self.processes[node].spec.site;
                self.power_cut(site);
                for other in self.of_site(site) {
                    self.restart_at(other, until);
                }
            }
            FaultKind::Pause => {
                self.pause(id);
                self.agenda.add(until, Item::Resume(node));
            }
            FaultKind::Cut => {
                for other in self.others(node) {
                    self.cut_until(node, other, until);
                    self.cut_until(other, node, until);
                }
            }
            FaultKind::CutOneWay => {
                for other in self.others(node) {
                    self.cut_until(node, other, until);
                }
            }
            FaultKind::Slow => {
                for target in self.others(node) {
                    self.link(node, target).slow(slow_nanos);
                    let source = node;
                    self.agenda.add(until, Item::Hasten { source, target });
                }
            }
            FaultKind::SyncFailure => self.processes[node].shelf.fail_next_sync(),
            FaultKind::ClockStep => {
                let by = i64::try_from(slow_nanos).unwrap_or(i64::MAX);
                self.processes[node].clock.step(-by);
            }
            FaultKind::Full => {
                self.fill_disk(id);
                self.agenda.add(until, Item::Empty(node));
            }
            FaultKind::ClockFreeze => {
                self.freeze_clock(id);
                self.agenda.add(until, Item::Thaw(node));
            }
        }
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<N> {
        (0..self.processes.len()).filter(move |&other| other != node)
    }

    fn cut_until(&mut self, source: usize, target: usize, until: Time) {
        self.link(source, target).cut();
        self.agenda.add(until, Item::Mend { source, target });
    }
}
