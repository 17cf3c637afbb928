//! What a step costs: three replicas in one thread, with a network and disks that cost nothing.
//!
//! `cargo run --release -p holm-raft --example steps`
#![expect(
    clippy::print_stdout,
    clippy::disallowed_types,
    reason = "it measures the machine it runs on, and says so"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holm_base::{NodeId, RequestId, Time, WriteId};
use holm_machine::Effects;
use holm_raft::{Config, Configuration, Effect, Input, Message, Raft, Restored, RoleName};

struct Node {
    raft: Raft,
    inputs: VecDeque<Input>,
    durable: WriteId,
    held: Vec<(WriteId, NodeId, Message)>,
}

struct Group {
    nodes: Vec<Node>,
    now: Time,
    steps: u64,
    applied: u64,
    effects: Effects<Effect>,
}

fn index(node: NodeId) -> usize {
    usize::try_from(node.value() - 1).expect("three nodes")
}

impl Group {
    fn new() -> Self {
        let node = |node| {
            let fresh = Restored::fresh(Configuration::new((1..=3).map(NodeId::new)));
            let config = Config::new(NodeId::new(node), 1);
            Node {
                raft: Raft::restore(config, fresh, Time::ZERO),
                inputs: VecDeque::new(),
                durable: WriteId::ZERO,
                held: Vec::new(),
            }
        };
        let mut group = Self {
            nodes: (1..=3).map(node).collect(),
            now: Time::ZERO + Duration::from_secs(2),
            steps: 0,
            applied: 0,
            effects: Effects::new(),
        };
        group.nodes[0].inputs.push_back(Input::Wake);
        group.settle(1);
        assert!(
            group.nodes[0].raft.role() == RoleName::Leader,
            "node 1 leads"
        );
        group
    }

    /// Steps all inputs, `batch` at a time, until none is left.
    fn settle(&mut self, batch: usize) {
        while self.nodes.iter().any(|node| !node.inputs.is_empty()) {
            for at in 0..self.nodes.len() {
                self.turn(at, batch);
            }
        }
    }

    fn turn(&mut self, at: usize, batch: usize) {
        let node = &mut self.nodes[at];
        let count = node.inputs.len().min(batch);
        if count == 0 {
            return;
        }
        self.steps += count as u64;
        let inputs = node.inputs.drain(..count);
        node.raft.step_batch(self.now, inputs, &mut self.effects);
        let own = node.raft.node();
        let mut through = None;
        let mut mail = Vec::new();
        for effect in self.effects.drain() {
            match effect {
                Effect::Persist { write, .. } => through = Some(write),
                Effect::Send { to, message, after } => match after {
                    Some(after) if after > node.durable => node.held.push((after, to, message)),
                    Some(_) | None => mail.push((to, message)),
                },
                Effect::Apply { .. } => self.applied += 1,
                _ => {}
            }
        }
        if let Some(through) = through {
            node.durable = through;
            node.inputs.push_back(Input::Durable { through });
            mail.extend(node.held.drain(..).map(|(_, to, message)| (to, message)));
        }
        for (to, message) in mail {
            let from = own;
            let input = Input::Message { from, message };
            self.nodes[index(to)].inputs.push_back(input);
        }
    }
}

fn measure(what: &str, per_round: u64, batch: usize, is_spread: bool) {
    let mut group = Group::new();
    let body = Bytes::from(vec![7_u8; 256]);
    let (steps, applied) = (group.steps, group.applied);
    let begin = Instant::now();
    let mut request = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        for _ in 0..per_round {
            request += 1;
            let at = if is_spread {
                index(NodeId::new(request % 3 + 1))
            } else {
                0
            };
            group.nodes[at].inputs.push_back(Input::Request {
                request: RequestId::new(request),
                body: body.clone(),
            });
        }
        group.settle(batch);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (steps, applied) = (group.steps - steps, (group.applied - applied) / 3);
    assert!(
        applied >= request - per_round,
        "all were applied everywhere"
    );
    println!(
        "{what}: {:.2} M inputs/s, {:.2} M commands/s, {:.2} us a command on all three",
        f64::from(u32::try_from(steps).expect("two seconds")) / seconds / 1e6,
        f64::from(u32::try_from(applied).expect("two seconds")) / seconds / 1e6,
        seconds * 1e6 / f64::from(u32::try_from(applied).expect("two seconds")),
    );
}

fn main() {
    measure("at the leader, one by one     ", 1, 1, false);
    measure("at the leader, 100 at a time  ", 100, 256, false);
    measure("at all three, one by one      ", 3, 1, true);
    measure("at all three, 300 at a time   ", 300, 256, true);
}
