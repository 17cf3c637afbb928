//! A small deterministic network of hosts: delays, losses, duplicates, cuts and crashes, all
//! drawn from one seed, and checks of what no fault may break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{NodeId, Op, Prng, RequestId, Term, Time};
use holm_machine::Machine;
use holm_raft::{
    Change, Config, Configuration, Event, Input, Message, Operation, ReadMode, Rejected, Restored,
    RoleName,
};

use super::{Host, Out, id};

/// What a run is like.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each fault is on or off")]
pub struct Plan {
    pub voters: u64,
    pub spares: u64,
    pub seconds: u64,
    pub loss: u64,
    pub has_crashes: bool,
    pub has_cuts: bool,
    pub has_changes: bool,
    pub has_snapshots: bool,
    pub has_transfers: bool,
    pub has_damage: bool,
    /// Whether nodes are told, at random, that others have perhaps ended; it is rarely true.
    pub has_hints: bool,
    pub mode: ReadMode,
    /// Between sites, in milliseconds.
    pub delay: u64,
}

impl Plan {
    pub const CALM: Self = Self {
        voters: 3,
        spares: 0,
        seconds: 10,
        loss: 0,
        has_crashes: false,
        has_cuts: false,
        has_changes: false,
        has_snapshots: false,
        has_transfers: false,
        has_damage: false,
        has_hints: false,
        mode: ReadMode::Quorum,
        delay: 3,
    };

    pub const HOSTILE: Self = Self {
        seconds: 30,
        loss: 5,
        has_crashes: true,
        has_cuts: true,
        has_snapshots: true,
        has_transfers: true,
        ..Self::CALM
    };
}

#[derive(Clone, Debug)]
enum Happening {
    Arrives(NodeId, NodeId, Message),
    Syncs(NodeId, u64),
    Fires(NodeId),
    Client,
    Fault,
    Hint,
}

/// What a run saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub acknowledged: usize,
    pub reads: usize,
    pub elections: usize,
    pub origin_counted: usize,
    pub snapshots: usize,
    pub changes: usize,
    pub recovered: usize,
    pub repeated: usize,
    pub truncated: usize,
    pub suspected: usize,
    pub steps: usize,
}

pub struct World {
    plan: Plan,
    prng: Prng,
    pub now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    pub hosts: BTreeMap<NodeId, Host>,
    /// Raised at each crash, so that what was under way there is void.
    lives: BTreeMap<NodeId, u64>,
    syncing: BTreeSet<NodeId>,
    cut: BTreeSet<(NodeId, NodeId)>,
    is_calm: bool,
    is_quiet: bool,
    /// What stands at each op, once anybody applied it.
    order: BTreeMap<Op, Option<Bytes>>,
    bodies: BTreeMap<Bytes, Op>,
    leaders: BTreeMap<Term, NodeId>,
    /// The newest op that anybody was told of.
    told: Op,
    writes: BTreeMap<(NodeId, RequestId), Bytes>,
    reads: BTreeMap<(NodeId, RequestId), Op>,
    acknowledged: BTreeSet<Bytes>,
    next: u64,
    pub seen: Seen,
    damaged: BTreeSet<NodeId>,
}

impl World {
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut world = Self {
            plan,
            prng: Prng::new(seed),
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            hosts: BTreeMap::new(),
            lives: BTreeMap::new(),
            syncing: BTreeSet::new(),
            cut: BTreeSet::new(),
            is_calm: false,
            is_quiet: false,
            order: BTreeMap::new(),
            bodies: BTreeMap::new(),
            leaders: BTreeMap::new(),
            told: Op::ZERO,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            next: 0,
            seen: Seen::default(),
            damaged: BTreeSet::new(),
        };
        for node in 1..=plan.voters + plan.spares {
            let voters = if node <= plan.voters { plan.voters } else { 0 };
            let configuration = Configuration::new((1..=voters).map(id));
            let mut config = Config::new(id(node), 1);
            config.seed = seed ^ node;
            config.read_mode = plan.mode;
            config.kept_ops = 4;
            config.cache_bytes_max = 2_000;
            config.append_bytes_max = 400;
            config.promotion_lag_max = 20;
            config.origin_window = 256;
            let host = Host::new(config, Restored::fresh(configuration), Time::ZERO);
            world.hosts.insert(id(node), host);
            world.lives.insert(id(node), 0);
            world.settle_timer(id(node));
        }
        world.schedule(1, Happening::Client);
        world.schedule(50, Happening::Fault);
        if plan.has_hints {
            world.schedule(70, Happening::Hint);
        }
        world
    }

    fn schedule(&mut self, millis: u64, what: Happening) {
        let micros = self.prng.below(1000);
        let at = self.now + Duration::from_millis(millis) + Duration::from_micros(micros);
        self.schedule_at(at, what);
    }

    fn schedule_at(&mut self, at: Time, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), what);
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.prng.below(100) < percent
    }

    fn pick(&mut self, nodes: &[NodeId]) -> NodeId {
        let at = self.prng.below(nodes.len() as u64);
        nodes[usize::try_from(at).expect("small")]
    }

    fn up(&self) -> Vec<NodeId> {
        let is_up = |(node, host): (&NodeId, &Host)| host.raft.is_some().then_some(*node);
        self.hosts.iter().filter_map(is_up).collect()
    }

    /// Runs with faults, then without, and demands that all heals.
    pub fn run(mut self) -> Seen {
        let until = self.now + Duration::from_secs(self.plan.seconds);
        self.run_until(until);
        self.is_calm = true;
        self.cut.clear();
        let all: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in all {
            if self.hosts[&node].raft.is_none() {
                self.restart(node);
            }
        }
        self.run_until(until + Duration::from_secs(12));
        self.is_quiet = true;
        self.run_until(until + Duration::from_secs(14));
        self.check_healed();
        self.seen
    }

    pub fn run_until(&mut self, until: Time) {
        while let Some((&(at, sequence), _)) = self.queue.first_key_value() {
            if at > until {
                break;
            }
            let what = self.queue.remove(&(at, sequence)).expect("it was first");
            self.now = self.now.max(at);
            self.happen(what);
        }
        self.now = until;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrives(from, to, message) => {
                let is_cut = self.cut.contains(&(from, to)) || self.hosts[&to].raft.is_none();
                if !is_cut {
                    self.step(to, Input::Message { from, message });
                }
            }
            Happening::Syncs(node, life) => {
                if self.lives[&node] == life {
                    self.syncing.remove(&node);
                    let waiting = self.hosts[&node].writing.len() as u64;
                    let count = 1 + self.prng.below(waiting.max(1) * 2);
                    let now = self.now;
                    let host = self.hosts.get_mut(&node).expect("it exists");
                    let out = host.sync(now, usize::try_from(count).expect("small"));
                    self.observe(node, out);
                }
            }
            Happening::Fires(node) => {
                let is_due = |host: &Host| {
                    let raft = host.raft.as_ref();
                    raft.and_then(Machine::wake_at)
                        .is_some_and(|at| at <= self.now)
                };
                if is_due(&self.hosts[&node]) {
                    self.step(node, Input::Wake);
                }
            }
            Happening::Client if self.is_quiet => {}
            Happening::Client => {
                self.client();
                let pause = 1 + self.prng.below(20);
                self.schedule(pause, Happening::Client);
            }
            Happening::Hint => {
                if !self.is_calm {
                    self.hint();
                    let pause = 1 + self.prng.below(60);
                    self.schedule(pause, Happening::Hint);
                }
            }
            Happening::Fault => {
                if !self.is_calm {
                    self.fault();
                    let pause = 50 + self.prng.below(600);
                    self.schedule(pause, Happening::Fault);
                }
            }
        }
    }

    /// Somebody is told that another has perhaps ended.
    fn hint(&mut self) {
        let (up, all) = (self.up(), self.hosts.keys().copied().collect::<Vec<_>>());
        if !up.is_empty() {
            let (node, peer) = (self.pick(&up), self.pick(&all));
            self.step(node, Input::Suspect { peer });
        }
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let now = self.now;
        self.seen.steps += 1;
        let host = self.hosts.get_mut(&node).expect("it exists");
        let out = host.step(now, input);
        self.observe(node, out);
    }

    fn settle_timer(&mut self, node: NodeId) {
        let raft = self.hosts[&node].raft.as_ref();
        if let Some(at) = raft.and_then(Machine::wake_at) {
            self.schedule_at(at.max(self.now), Happening::Fires(node));
        }
    }

    fn observe(&mut self, node: NodeId, out: Vec<Out>) {
        let wake = self.hosts[&node].raft.as_ref().and_then(Machine::wake_at);
        for out in out {
            match out {
                Out::Sent(to, message) => self.post(node, to, message),
                Out::Writing => {}
                Out::Applied { op, body, request } => self.applied(node, op, body, request),
                Out::Advanced { op, .. } => self.stands(node, op, None),
                Out::Read {
                    request,
                    applied,
                    until,
                } => {
                    assert!(
                        until.is_none_or(|until| self.now < until),
                        "the lease holds"
                    );
                    let floor = self.reads.remove(&(node, request));
                    let floor = floor.expect("a read is answered once");
                    assert!(
                        applied >= floor,
                        "I7: a read at {node} saw {applied}, {floor} was told before it was asked"
                    );
                    self.told = self.told.max(applied);
                    self.seen.reads += 1;
                }
                Out::Refused(request, _) => {
                    self.writes.remove(&(node, request));
                    self.reads.remove(&(node, request));
                }
                Out::Done(..) => {}
                Out::Noted(event) => self.noted(node, event),
            }
        }
        if !self.hosts[&node].writing.is_empty() && self.syncing.insert(node) {
            let took = if self.chance(3) {
                self.prng.below(200)
            } else {
                self.prng.below(4)
            };
            let life = self.lives[&node];
            self.schedule(took, Happening::Syncs(node, life));
        }
        if let Some(at) = wake {
            let at = at.max(self.now);
            let is_near = self
                .queue
                .range((at, 0)..=(at, u64::MAX))
                .any(|(_, what)| matches!(what, Happening::Fires(other) if *other == node));
            if !is_near {
                self.schedule_at(at, Happening::Fires(node));
            }
        }
    }

    fn post(&mut self, from: NodeId, to: NodeId, message: Message) {
        if !self.hosts.contains_key(&to) {
            return;
        }
        let copies = if self.is_calm {
            1
        } else if self.chance(self.plan.loss) {
            0
        } else if self.chance(self.plan.loss) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let slow = !self.is_calm && self.plan.loss > 0 && self.chance(2);
            let extra = if slow {
                self.prng.below(1500)
            } else {
                self.prng.below(2)
            };
            let delay = self.plan.delay + extra;
            self.schedule(delay, Happening::Arrives(from, to, message.clone()));
        }
    }

    fn stands(&mut self, node: NodeId, op: Op, body: Option<Bytes>) {
        let held = self.order.entry(op).or_insert_with(|| body.clone());
        assert_eq!(*held, body, "I3: {node} differs from others at op {op}");
    }

    fn applied(&mut self, node: NodeId, op: Op, body: Bytes, request: Option<RequestId>) {
        self.stands(node, op, Some(body.clone()));
        let first = *self.bodies.entry(body.clone()).or_insert(op);
        assert_eq!(first, op, "I18: {body:?} was applied twice");
        if let Some(request) = request {
            let asked = self.writes.remove(&(node, request));
            assert_eq!(asked.as_ref(), Some(&body), "an answer goes to who asked");
            self.acknowledged.insert(body);
            self.told = self.told.max(op);
            self.seen.acknowledged += 1;
        }
    }

    fn noted(&mut self, node: NodeId, event: Event) {
        match event {
            Event::LeaderElected { term } => {
                let first = *self.leaders.entry(term).or_insert(node);
                assert_eq!(first, node, "I1: two leaders in term {term}");
                self.seen.elections += 1;
            }
            Event::Rejected { from, why } => assert!(
                matches!(why, Rejected::Stranger | Rejected::NotLeader),
                "{node} rejected {from}: {why:?}"
            ),
            Event::PeerForgot { peer, .. } => {
                assert!(self.damaged.contains(&peer), "I14: {peer} forgot nothing");
            }
            Event::OriginCounted { .. } => self.seen.origin_counted += 1,
            Event::SnapshotInstalled { .. } => self.seen.snapshots += 1,
            Event::ConfigurationChanged { .. } => self.seen.changes += 1,
            Event::Recovered { .. } => {
                self.damaged.remove(&node);
                self.seen.recovered += 1;
            }
            Event::CommandRepeated { .. } => self.seen.repeated += 1,
            Event::LogTruncated { .. } => self.seen.truncated += 1,
            Event::LeaderSuspected { .. } => self.seen.suspected += 1,
            _ => {}
        }
    }

    fn client(&mut self) {
        let up = self.up();
        if up.is_empty() {
            return;
        }
        let node = self.pick(&up);
        self.next += 1;
        let request = RequestId::new(self.next);
        if self.chance(60) {
            let body = Bytes::from(format!("{node}:{}", self.next));
            self.writes.insert((node, request), body.clone());
            self.step(node, Input::Request { request, body });
        } else {
            self.reads.insert((node, request), self.told);
            self.step(node, Input::Read { request });
        }
    }

    fn fault(&mut self) {
        let up = self.up();
        let all: Vec<NodeId> = self.hosts.keys().copied().collect();
        let node = self.pick(&all);
        match self.prng.below(10) {
            0 | 1 if self.plan.has_crashes && up.contains(&node) => self.crash(node),
            2 | 3 if !up.contains(&node) => self.restart(node),
            4 if self.plan.has_cuts => {
                for other in all {
                    if other != node {
                        let is_one_way = self.chance(30);
                        self.cut.insert((node, other));
                        if !is_one_way {
                            self.cut.insert((other, node));
                        }
                    }
                }
            }
            5 | 6 => self.cut.clear(),
            7 if self.plan.has_snapshots && up.contains(&node) => {
                let now = self.now;
                let is_snapshot = self.chance(70);
                let host = self.hosts.get_mut(&node).expect("it exists");
                let out = host.save(now, is_snapshot);
                self.observe(node, out);
            }
            8 if self.plan.has_changes => self.operate(true),
            9 if self.plan.has_transfers => self.operate(false),
            _ => {}
        }
    }

    fn crash(&mut self, node: NodeId) {
        *self.lives.get_mut(&node).expect("it exists") += 1;
        self.syncing.remove(&node);
        let host = self.hosts.get_mut(&node).expect("it exists");
        host.crash();
        // At most one of three may have lost what it acknowledged, or data is gone for good.
        if self.plan.has_damage && self.damaged.is_empty() {
            let host = self.hosts.get_mut(&node).expect("it exists");
            let saved = host.disk.saved.0.at.op.value();
            let spare = (host.disk.base.op.value() + host.disk.entries.len() as u64)
                .saturating_sub(saved.max(host.disk.base.op.value()));
            if spare > 0 && !host.disk.hard.is_recovering {
                let lost = usize::try_from(1 + self.prng.below(spare)).expect("small");
                let host = self.hosts.get_mut(&node).expect("it exists");
                let kept = host.disk.entries.len() - lost;
                host.disk.entries.truncate(kept);
                host.disk.is_damaged = true;
                self.damaged.insert(node);
            }
        }
        self.writes.retain(|(at, _), _| *at != node);
        self.reads.retain(|(at, _), _| *at != node);
    }

    fn restart(&mut self, node: NodeId) {
        let now = self.now;
        let host = self.hosts.get_mut(&node).expect("it exists");
        host.restart(now);
        self.observe(node, Vec::new());
    }

    fn operate(&mut self, is_change: bool) {
        let leads = |host: &Host| {
            let raft = host.raft.as_ref();
            raft.is_some_and(|raft| raft.role() == RoleName::Leader)
        };
        let leaders: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|(_, host)| leads(host))
            .map(|(node, _)| *node)
            .collect();
        if leaders.is_empty() {
            return;
        }
        let leader = self.pick(&leaders);
        let all: Vec<NodeId> = self.hosts.keys().copied().collect();
        let (node, other) = (self.pick(&all), self.pick(&all));
        let voters = self.hosts[&leader]
            .raft()
            .configuration()
            .voters()
            .iter()
            .count();
        let operation = if is_change {
            Operation::Change(match self.prng.below(7) {
                0 | 1 => Change::AddVoter(node),
                2 => Change::AddLearner(node),
                3 => Change::Promote(node),
                4 if voters > 2 => Change::Demote(node),
                5 if voters > 2 => Change::Remove(node),
                _ => Change::Replace {
                    outgoing: node,
                    incoming: other,
                },
            })
        } else {
            Operation::MoveLeader { to: node }
        };
        self.next += 1;
        let request = RequestId::new(self.next);
        self.step(leader, Input::Operate { request, operation });
    }

    /// One line a node, for failures.
    pub fn summary(&self) -> String {
        let line = |(node, host): (&NodeId, &Host)| {
            let Some(raft) = &host.raft else {
                return format!("{node} is down\n");
            };
            format!(
                "{node} {:?} term {} of {:?}, commit {} applied {} durable {} last {:?} base {:?} {:?}\n",
                raft.role(),
                raft.term(),
                raft.leader_known(),
                raft.commit(),
                raft.applied(),
                raft.durable_op(),
                raft.last(),
                raft.base(),
                raft.configuration(),
            )
        };
        self.hosts.iter().map(line).collect()
    }

    fn check_healed(&mut self) {
        let leaders: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.raft().role() == RoleName::Leader)
            .map(|(node, _)| *node)
            .collect();
        let newest = leaders
            .iter()
            .max_by_key(|node| self.hosts[node].raft().term());
        let leader = *newest.expect("heals: there is a leader");
        let raft = self.hosts[&leader].raft();
        let applied = raft.applied();
        let members = raft.configuration().members();
        for node in &members {
            let host = &self.hosts[node];
            assert!(
                host.applied == applied,
                "heals: {node} applied {} of {applied}:\n{}",
                host.applied,
                self.summary()
            );
        }
        let lost: Vec<&Bytes> = self
            .acknowledged
            .iter()
            .filter(|body| {
                !self.hosts[&leader]
                    .data
                    .iter()
                    .any(|(_, held)| held == *body)
            })
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let late = |(node, request): &&(NodeId, RequestId)| {
            members.contains(node) && request.value() <= self.next
        };
        let waiting: Vec<_> = self.writes.keys().filter(late).collect();
        assert!(waiting.is_empty(), "heals: writes still wait: {waiting:?}");
        let waiting: Vec<_> = self.reads.keys().filter(late).collect();
        assert!(waiting.is_empty(), "heals: reads still wait: {waiting:?}");
    }
}
