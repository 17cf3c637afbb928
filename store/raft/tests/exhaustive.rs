//! Every small world: three nodes, two commands, and every order of deliveries, syncs, one loss
//! and one crash, down to a depth; agreement is checked in each.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use holm_base::{NodeId, Op, RequestId, Time};
use holm_raft::{Config, Configuration, Input, Message, Restored, RoleName};
use support::stage::Stage;
use support::{Host, Out, id};

#[derive(Clone)]
struct Small {
    hosts: BTreeMap<NodeId, Host>,
    mail: Vec<(NodeId, NodeId, Message)>,
    losses: u32,
    crashes: u32,
    wakes: u32,
    now: Time,
    order: BTreeMap<Op, Bytes>,
    answered: BTreeSet<Bytes>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Deliver(usize),
    Lose(usize),
    Sync(NodeId),
    Crash(NodeId),
    Restart(NodeId),
    Wake(NodeId),
}

impl Small {
    fn take(&mut self, node: NodeId, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Sent(to, message) => self.mail.push((node, to, message)),
                Out::Applied { op, body, request } => {
                    let held = self.order.entry(op).or_insert_with(|| body.clone());
                    assert_eq!(*held, body, "I3: two replicas differ at op {op}");
                    let times = self.order.values().filter(|held| **held == body).count();
                    assert_eq!(times, 1, "I18: {body:?} was applied twice");
                    if request.is_some() {
                        self.answered.insert(body);
                    }
                }
                Out::Advanced { .. }
                | Out::Read { .. }
                | Out::Refused(..)
                | Out::Done(..)
                | Out::Noted(_)
                | Out::Writing => {}
            }
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut ways = BTreeSet::new();
        for (at, (from, to, message)) in self.mail.iter().enumerate() {
            // Any message may be the next of its way: equal ones once.
            let text = format!("{from}{to}{message:?}");
            if self.hosts[to].raft.is_some() && ways.insert(text) {
                steps.push(Step::Deliver(at));
                if self.losses > 0 {
                    steps.push(Step::Lose(at));
                }
            }
        }
        for (&node, host) in &self.hosts {
            match &host.raft {
                None => steps.push(Step::Restart(node)),
                Some(raft) => {
                    if !host.writing.is_empty() {
                        steps.push(Step::Sync(node));
                    }
                    if self.crashes > 0 && node != id(3) {
                        steps.push(Step::Crash(node));
                    }
                    if self.wakes > 0 && node == id(3) && raft.role() != RoleName::Leader {
                        steps.push(Step::Wake(node));
                    }
                }
            }
        }
        steps
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Deliver(at) => {
                let (from, to, message) = self.mail.remove(at);
                let host = self.hosts.get_mut(&to).expect("it exists");
                let out = host.step(self.now, Input::Message { from, message });
                self.take(to, out);
            }
            Step::Lose(at) => {
                self.losses -= 1;
                self.mail.remove(at);
            }
            Step::Sync(node) => {
                let host = self.hosts.get_mut(&node).expect("it exists");
                let out = host.sync(self.now, usize::MAX);
                self.take(node, out);
            }
            Step::Crash(node) => {
                self.crashes -= 1;
                self.hosts.get_mut(&node).expect("it exists").crash();
            }
            Step::Restart(node) => {
                self.hosts
                    .get_mut(&node)
                    .expect("it exists")
                    .restart(self.now);
            }
            Step::Wake(node) => {
                self.wakes -= 1;
                // Long enough that nobody is loyal to a leader any more.
                self.now = self.now + std::time::Duration::from_secs(3);
                let host = self.hosts.get_mut(&node).expect("it exists");
                let out = host.step(self.now, Input::Wake);
                self.take(node, out);
            }
        }
    }

    fn key(&self) -> u64 {
        let mut mail: Vec<String> = self.mail.iter().map(|mail| format!("{mail:?}")).collect();
        mail.sort();
        let mut hasher = DefaultHasher::new();
        mail.hash(&mut hasher);
        let rest = (self.losses, self.crashes, self.wakes, self.now);
        format!("{:?} {rest:?}", self.hosts).hash(&mut hasher);
        hasher.finish()
    }
}

fn begin() -> Small {
    let mut stage = Stage::new();
    for node in 1..=3 {
        let mut config = Config::new(id(node), 1);
        config.origin_window = 64;
        let restored = Restored::fresh(Configuration::new((1..=3).map(id)));
        stage
            .hosts
            .insert(id(node), Host::new(config, restored, Time::ZERO));
    }
    stage.elect(1);
    let mut small = Small {
        hosts: stage.hosts,
        mail: Vec::new(),
        losses: 1,
        crashes: 1,
        wakes: 1,
        now: stage.now,
        order: BTreeMap::new(),
        answered: BTreeSet::new(),
    };
    for (node, text) in [(1, "one"), (2, "two")] {
        let request = RequestId::new(node);
        let body = Bytes::from(text);
        let host = small.hosts.get_mut(&id(node)).expect("it exists");
        let out = host.step(small.now, Input::Request { request, body });
        small.take(id(node), out);
    }
    small
}

/// Explores breadth first, so that the depth reached holds for all orders.
fn explore(budget: usize) -> (usize, usize, usize) {
    let mut seen = BTreeSet::new();
    let mut layer = vec![begin()];
    let (mut depth, mut answered) = (0, 0);
    while !layer.is_empty() {
        let mut next = Vec::new();
        for small in &layer {
            for step in small.steps() {
                let mut world = small.clone();
                world.perform(step);
                if seen.insert(world.key()) {
                    answered += world.answered.len();
                    next.push(world);
                }
            }
            if seen.len() > budget {
                return (depth, seen.len(), answered);
            }
        }
        depth += 1;
        layer = next;
    }
    (depth, seen.len(), answered)
}

#[test]
fn every_small_world_agrees() {
    let (depth, worlds, answered) = explore(6_000);
    assert!(
        depth >= 5 && worlds > 3_000,
        "{depth} deep, {worlds} worlds"
    );
    assert!(answered > 0, "some world answered a command");
}
