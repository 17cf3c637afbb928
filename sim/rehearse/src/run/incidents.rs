//! Faults that a scenario names, and those that only a hunt's chance brings.

use std::collections::BTreeSet;
use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_raft::{Change, Operation};
use holm_virtual::Place;

use super::realm::Realm;
use super::{Run, Token};
use crate::outages::Outages;
use crate::scenario::{Action, Scenario, Target};
use crate::site::Request;
use crate::stage::moments_scale;

const MEMBERS: Place = Place::new("fault.members");
const SUSPECT: Place = Place::new("fault.suspect");
const FLIP: Place = Place::new("fault.flip");

/// How long a node that ended by itself is down in a timed run.
const RESTART: Duration = Duration::from_secs(1);
/// Operations of which a hunt draws one.
const OPERATIONS: u32 = 7;

/// What a hunt has done beside the world's own faults.
#[derive(Clone, Debug)]
pub(crate) struct Incidents {
    /// Who has ever belonged to the group: nobody comes back under the same id (raft I14, raft I18).
    members: BTreeSet<NodeId>,
    outages: Outages,
    changes: u32,
    flips: u32,
    suspicions: u32,
}

impl Incidents {
    pub(crate) fn new(scenario: &Scenario, world: &mut Realm) -> Self {
        // Of several keyspaces the first hears of a fault, and lets the others know.
        let heard = if world.is_first() {
            &scenario.faults[..]
        } else {
            &[]
        };
        for (fault, number) in heard.iter().zip(0..) {
            world.alarm(Time::from_nanos(fault.at), Token::Begin(number).pack());
        }
        Self {
            members: BTreeSet::new(),
            outages: Outages::default(),
            changes: 0,
            flips: 0,
            suspicions: 0,
        }
    }
}

impl Run<'_> {
    pub(super) fn begin_fault(&mut self, number: u64) {
        if self.healed.is_some() {
            return;
        }
        let scenario = self.scenario;
        let at = usize::try_from(number).expect("faults are few");
        let fault = &scenario.faults[at];
        let now = self.world.now();
        self.figures.begin(now, at);
        self.leases.fault(now, true);
        for target in &fault.targets {
            self.strike(&fault.action, target);
        }
        if fault.targets.is_empty() {
            self.operate(&fault.action);
        }
        if !self.world.is_first() {
            return;
        }
        let end = now + Duration::from_nanos(fault.lasts);
        self.world.alarm(end, Token::End(number).pack());
        if let Some(every) = fault.every {
            let next = now + Duration::from_nanos(every);
            self.world.alarm(next, Token::Begin(number).pack());
        }
    }

    fn strike(&mut self, action: &Action, target: &Target) {
        let nodes = self.stage.nodes(target);
        match action {
            Action::Cut | Action::CutFrom => {
                let both = matches!(action, Action::Cut);
                for (source, other) in self.stage.pairs(self.scenario, target, both) {
                    self.world.cut(source, other);
                }
            }
            Action::SlowLink(by) => {
                for (source, other) in self.stage.pairs(self.scenario, target, false) {
                    self.world.slow(source, other, *by);
                }
            }
            Action::SlowDisk(disk) => {
                for node in nodes {
                    self.world.set_sync(node, disk.sync.clone());
                }
            }
            // Nodes of a site that loses power end at one moment, as others do one by one.
            Action::Crash | Action::Power => {
                for node in nodes {
                    self.incidents.outages.begin(node);
                    self.world.crash(node);
                    self.figures.ended(self.world.now(), node);
                }
            }
            Action::Pause => nodes.into_iter().for_each(|node| self.world.pause(node)),
            Action::SyncFail => {
                for node in nodes {
                    self.world.fail_next_sync(node);
                }
            }
            Action::Full => nodes
                .into_iter()
                .for_each(|node| self.world.fill_disk(node)),
            Action::Step(by) => {
                for node in nodes {
                    self.world.step_clock(node, *by);
                }
            }
            Action::Freeze => {
                for node in nodes {
                    self.world.freeze_clock(node);
                }
            }
            Action::Add(_) | Action::Remove(_) | Action::Replace(..) | Action::Lead(_) => {}
        }
    }

    /// A node has ended by itself, and is started again after a second.
    pub(super) fn ended(&mut self, node: NodeId) {
        let now = self.world.now();
        self.leases.disturb(now);
        if self.must_restart() {
            let token = Token::Restart(node.value(), self.world.ends(node));
            self.world.alarm(now + RESTART, token.pack());
        }
    }

    /// Starts it, unless it has come back since, or a named outage holds it.
    pub(super) fn restart(&mut self, node: NodeId, end: u64) {
        let is_held = self.healed.is_none() && self.incidents.outages.holds(node);
        if !is_held && self.world.ends(node) == end {
            self.world.restart(node);
        }
    }

    pub(super) fn end_fault(&mut self, number: u64) {
        if self.healed.is_some() {
            return;
        }
        let scenario = self.scenario;
        let at = usize::try_from(number).expect("faults are few");
        let fault = &scenario.faults[at];
        for target in &fault.targets {
            self.undo(&fault.action, target);
        }
        let now = self.world.now();
        let newest = self.ledger.newest();
        self.figures.end(now, at, newest);
        self.leases.fault(now, false);
    }

    fn undo(&mut self, action: &Action, target: &Target) {
        let nodes = self.stage.nodes(target);
        match action {
            Action::Cut | Action::CutFrom => {
                let both = matches!(action, Action::Cut);
                for (source, other) in self.stage.pairs(self.scenario, target, both) {
                    self.world.mend(source, other);
                }
            }
            Action::SlowLink(_) => {
                for (source, other) in self.stage.pairs(self.scenario, target, false) {
                    self.world.slow(source, other, 0);
                }
            }
            Action::SlowDisk(_) => {
                for node in nodes {
                    let site = self.stage.site(node);
                    let sync = self.scenario.sites[site].disk.sync.clone();
                    self.world.set_sync(node, sync);
                }
            }
            Action::Crash | Action::Power => {
                for node in nodes {
                    if self.incidents.outages.end(node) {
                        self.world.restart(node);
                    }
                }
            }
            Action::Pause => nodes.into_iter().for_each(|node| self.world.resume(node)),
            Action::Full => nodes
                .into_iter()
                .for_each(|node| self.world.empty_disk(node)),
            Action::Freeze => {
                for node in nodes {
                    self.world.thaw_clock(node);
                }
            }
            Action::SyncFail
            | Action::Step(_)
            | Action::Add(_)
            | Action::Remove(_)
            | Action::Replace(..)
            | Action::Lead(_) => {}
        }
    }

    /// Asks the leader for a change of members; without one, nobody hears it.
    fn operate(&mut self, action: &Action) {
        let first = |site: usize| self.stage.of_site(site).next();
        let change = match *action {
            Action::Add(site) => first(site).map(Change::AddVoter),
            Action::Remove(site) => first(site).map(Change::Remove),
            Action::Replace(outgoing, incoming) => first(outgoing)
                .zip(first(incoming))
                .map(|(outgoing, incoming)| Change::Replace { outgoing, incoming }),
            Action::Lead(site) => {
                let to = first(site);
                if let (Some(leader), Some(to)) = (self.leader(), to) {
                    let operation = Operation::MoveLeader { to };
                    self.world.request(leader, Request::Operate(operation));
                }
                None
            }
            Action::Cut
            | Action::CutFrom
            | Action::SlowLink(_)
            | Action::SlowDisk(_)
            | Action::Crash
            | Action::Pause
            | Action::Power
            | Action::SyncFail
            | Action::Full
            | Action::Step(_)
            | Action::Freeze => None,
        };
        if let (Some(leader), Some(change)) = (self.leader(), change) {
            let operation = Operation::Change(change);
            self.world.request(leader, Request::Operate(operation));
        }
    }

    /// A hunt's own faults: members that change, leaders that move, logs that are damaged.
    pub(super) fn meddle(&mut self) {
        if self.islands.is_some() {
            self.change_sites();
            return;
        }
        let chances = &self.scenario.chances;
        let (weight, most) = chances.of("members");
        if self.incidents.changes < most
            && self
                .world
                .tape_mut()
                .chance(MEMBERS, weight * moments_scale())
        {
            self.incidents.changes += 1;
            self.change_members();
        }
        let (weight, most) = chances.of("flip");
        if self.incidents.flips < most
            && self.world.tape_mut().chance(FLIP, weight * moments_scale())
        {
            self.flip();
        }
        let (weight, most) = chances.of("suspect");
        let scaled = weight * moments_scale();
        if self.incidents.suspicions < most && self.world.tape_mut().chance(SUSPECT, scaled) {
            self.incidents.suspicions += 1;
            self.suspect();
        }
    }

    /// A node is told that another has perhaps ended: most often its leader, most often wrongly.
    fn suspect(&mut self) {
        let count = u32::try_from(self.stage.site_of.len()).expect("nodes are few");
        let tape = self.world.tape_mut();
        let node = NodeId::new(u64::from(tape.choose(SUSPECT, count)) + 1);
        let peer = tape.choose(SUSPECT, count + 2);
        let known = self.world.node(node).and_then(|it| it.stand().leader);
        let drawn = (peer < count).then(|| NodeId::new(u64::from(peer) + 1));
        if let Some(peer) = drawn.or(known) {
            self.world.request(node, Request::Suspect(peer));
        }
    }

    fn change_members(&mut self) {
        let count = u32::try_from(self.stage.site_of.len()).expect("nodes are few");
        let tape = self.world.tape_mut();
        let drawn = tape.choose(MEMBERS, OPERATIONS);
        let node = NodeId::new(u64::from(tape.choose(MEMBERS, count)) + 1);
        let other = NodeId::new(u64::from(tape.choose(MEMBERS, count)) + 1);
        let Some(leader) = self.leader() else { return };
        let site = self.world.node(leader);
        if let Some(site) = site {
            let members = site.configuration().members();
            self.incidents.members.extend(members);
        }
        let is_new = |node| !self.incidents.members.contains(&node);
        let voters = site.map_or(0, |site| site.configuration().voters().iter().count());
        let operation = match drawn {
            0 => Operation::MoveLeader { to: node },
            1 if is_new(node) => Operation::Change(Change::AddVoter(node)),
            2 if is_new(node) => Operation::Change(Change::AddLearner(node)),
            3 => Operation::Change(Change::Promote(node)),
            4 if voters > 2 => Operation::Change(Change::Demote(node)),
            5 if voters > 2 => Operation::Change(Change::Remove(node)),
            _ if is_new(other) => Operation::Change(Change::Replace {
                outgoing: node,
                incoming: other,
            }),
            _ => return,
        };
        self.world.request(leader, Request::Operate(operation));
    }

    /// A node ends, and the end of its log turns out damaged. One at a time: where two copies
    /// are gone, no order of three can be kept.
    fn flip(&mut self) {
        let count = u32::try_from(self.stage.site_of.len()).expect("nodes are few");
        let node = NodeId::new(u64::from(self.world.tape_mut().choose(FLIP, count)) + 1);
        let is_possible = self.damaged.is_none() || !self.scenario.chances.is_recoverable;
        let loose = self.world.shelf(node).loose();
        if !is_possible || loose == 0 {
            return;
        }
        self.incidents.flips += 1;
        self.world.crash(node);
        let most = u32::try_from(loose).unwrap_or(u32::MAX);
        let lost = self.world.tape_mut().choose(FLIP, most);
        let lost = usize::try_from(lost).expect("logs are short") + 1;
        if self.world.shelf(node).damage(lost) > 0 {
            self.damaged = Some(node);
            self.ledger.damaged(node);
        }
    }
}
