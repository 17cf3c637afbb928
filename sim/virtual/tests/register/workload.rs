//! Clients of the register, faults, healing, and the judging of the whole run.
//!
//! A run is a value: it can be cloned at any moment, and both go on alike.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_base::{NodeId, RequestId, Time};
use holm_check::{
    Acknowledged, Healing, History, Model, Numbered, Published, Violation, durable, heals, witness,
};
use holm_virtual::{
    Counts, Distribution, FaultKind, FaultPlan, FaultRate, Halted, LinkSpec, Moment, Order, Place,
    Quantiles, Tape, World, WorldSpec,
};

use crate::machine::{Answer, Bug, CELLS, Cell, Event, Register, Request, Setup};

const OP: Place = Place::new("client.op");
const CELL: Place = Place::new("client.cell");
const NODE: Place = Place::new("client.node");
const THINK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_millis(400);
const WITHIN: Duration = Duration::from_secs(5);

/// The four cells, as a client sees them.
pub(crate) struct Cells;

impl Model for Cells {
    type Call = Request;
    type Reply = Answer;
    type State = (u64, [u64; CELLS]);

    fn start(&self) -> Self::State {
        (1, [0; CELLS])
    }

    fn apply(&self, (revision, cells): &mut Self::State, call: &Request) -> Answer {
        match call {
            Request::Put { cell, value } => {
                *revision += 1;
                cells[*cell] = *value;
                Answer::Put {
                    revision: *revision,
                }
            }
            Request::Get { cell } => Answer::Get {
                revision: *revision,
                value: cells[*cell],
            },
        }
    }
}

impl Numbered for Cells {
    const FIRST: u64 = 1;

    fn mark(&self, call: &Request) -> Option<u64> {
        match call {
            Request::Put { value, .. } => Some(*value),
            Request::Get { .. } => None,
        }
    }

    fn revision(&self, reply: &Answer) -> Option<u64> {
        match reply {
            Answer::Put { revision } | Answer::Get { revision, .. } => Some(*revision),
            Answer::NotLeader { .. } | Answer::Busy => None,
        }
    }

    fn wrote(&self, _: &Request, reply: &Answer) -> bool {
        matches!(reply, Answer::Put { .. })
    }
}

/// What a run is made of, beside its world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    /// How many requests each client makes before the faults end.
    pub(crate) requests: u32,
    /// When they end at the latest.
    pub(crate) length: Duration,
    pub(crate) faults: FaultPlan,
}

#[derive(Clone, Debug)]
struct Client {
    left: u32,
    /// Counts what it set alarms for, so that an old alarm says nothing.
    attempt: u64,
    target: NodeId,
    waits: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    operation: usize,
    request: Option<RequestId>,
    call: Request,
}

/// A run under way.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) world: World<Register>,
    plan: Plan,
    clients: Vec<Client>,
    pub(crate) history: History<Request, Answer>,
    published: Published,
    leaders: BTreeMap<u64, NodeId>,
    next_value: u64,
    healed: Option<Time>,
    progressed: Option<Time>,
    converged: Option<Time>,
    violations: Vec<Violation>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) hash: [u8; 32],
    pub(crate) tape: Tape,
    pub(crate) counts: Counts,
    pub(crate) answered: usize,
    pub(crate) elections: usize,
    pub(crate) halted: Option<Halted>,
    pub(crate) violations: Vec<Violation>,
}

impl Ending {
    /// Who found something, and which rule: what makes two failures the same.
    pub(crate) fn failure(&self) -> Option<(&'static str, &'static str)> {
        let first = self.violations.first();
        first.map(|violation| (violation.judge, violation.rule))
    }
}

/// No fault at all.
pub(crate) fn calm() -> FaultPlan {
    FaultPlan::new(Vec::new(), 0, Quantiles::fixed(0))
}

/// Crashes, pauses, cuts and bad disks, at most one node down at a time.
pub(crate) fn rough() -> FaultPlan {
    let rate = |kind, per_million, at_most| FaultRate {
        kind,
        per_million,
        at_most,
    };
    let rates = vec![
        rate(FaultKind::Crash, 4_000, 12),
        rate(FaultKind::Power, 1_000, 4),
        rate(FaultKind::Pause, 2_000, 6),
        rate(FaultKind::Cut, 3_000, 8),
        rate(FaultKind::CutOneWay, 2_000, 6),
        rate(FaultKind::Slow, 1_000, 4),
        rate(FaultKind::SyncFailure, 1_000, 4),
        rate(FaultKind::ClockStep, 1_000, 4),
        rate(FaultKind::ClockFreeze, 1_000, 4),
    ];
    let lasts = Distribution::Exponential(300_000_000);
    FaultPlan::new(rates, 1, Quantiles::of(&lasts))
}

/// Three nodes, links that lose and repeat, disks of all speeds. Building the tables takes
/// longer than a run, so build it once.
pub(crate) fn shaky() -> WorldSpec<Register> {
    let bug = Bug::None;
    let mut spec = WorldSpec::plain(&Setup { nodes: 3, bug }, 3);
    spec.link = LinkSpec {
        delay: Quantiles::of(&Distribution::LogNormal(1_000_000, 1.0)),
        loss_per_million: 20_000,
        duplicate_per_million: 10_000,
        flip_per_million: 1_000,
        ..LinkSpec::plain(0)
    };
    let sync = Quantiles::of(&Distribution::LogNormal(2_000_000, 1.0));
    for node in &mut spec.nodes {
        node.sync = sync.clone();
    }
    spec
}

/// The same world with something wrong in its nodes, in another order.
pub(crate) fn with(spec: &WorldSpec<Register>, bug: Bug, order: &Order) -> WorldSpec<Register> {
    let mut spec = spec.clone();
    spec.order = order.clone();
    for node in &mut spec.nodes {
        node.setup.bug = bug;
    }
    spec
}

/// The plan that goes with [`shaky`].
pub(crate) fn plan() -> Plan {
    Plan {
        clients: 3,
        requests: 40,
        length: Duration::from_secs(20),
        faults: rough(),
    }
}

impl Run {
    pub(crate) fn new(spec: WorldSpec<Register>, plan: Plan, tape: Tape) -> Self {
        let mut world = World::new(spec, tape);
        let clients = (0..plan.clients).map(|_| Client {
            left: plan.requests,
            attempt: 0,
            target: NodeId::new(1),
            waits: None,
        });
        let clients: Vec<Client> = clients.collect();
        for client in 0..clients.len() {
            world.alarm(Time::ZERO + THINK, token(client, 0));
        }
        Self {
            world,
            plan,
            clients,
            history: History::new(),
            published: Published::new(),
            leaders: BTreeMap::new(),
            next_value: 1,
            healed: None,
            progressed: None,
            converged: None,
            violations: Vec::new(),
        }
    }

    /// Runs to the end and judges.
    pub(crate) fn finish(mut self) -> Ending {
        let mut halted = None;
        while !self.is_over() {
            if let Err(why) = self.moment() {
                halted = Some(why);
                break;
            }
        }
        if halted.is_none() {
            self.judge();
        }
        Ending {
            hash: self.world.hash(),
            tape: self.world.tape().clone(),
            counts: self.world.counts(),
            answered: self.history.answered(),
            elections: self.leaders.len(),
            halted,
            violations: self.violations,
        }
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_over(&self) -> bool {
        let Some(healed) = self.healed else {
            return false;
        };
        let is_well = self.progressed.is_some() && self.converged.is_some();
        is_well && self.is_idle() || self.world.now().since(healed) > WITHIN
    }

    fn is_idle(&self) -> bool {
        self.clients
            .iter()
            .all(|one| one.left == 0 && one.waits.is_none())
    }

    /// Lets one thing happen.
    pub(crate) fn moment(&mut self) -> Result<(), Halted> {
        if self.healed.is_none() {
            self.world.inject(&mut self.plan.faults);
            let is_late = self.world.now().since(Time::ZERO) > self.plan.length;
            if is_late || self.is_idle() {
                self.heal();
            }
        }
        if let Moment::Alarm(token) = self.world.advance()? {
            self.alarm(token);
        }
        for noted in self.world.take_notes() {
            self.note(noted.node, noted.event);
        }
        for reply in self.world.take_replies() {
            self.reply(reply.request, reply.answer);
        }
        if self.healed.is_some() && self.is_idle() && self.is_equal() {
            self.converged = Some(self.world.now());
        }
        Ok(())
    }

    fn heal(&mut self) {
        self.world.heal();
        self.healed = Some(self.world.now());
        for client in 0..self.clients.len() {
            self.clients[client].left = 2;
            if self.clients[client].waits.is_none() {
                self.rest(client);
            }
        }
    }

    /// Sets the alarm for a client's next request.
    fn rest(&mut self, client: usize) {
        let one = &mut self.clients[client];
        one.attempt += 1;
        let (at, token) = (self.world.now() + THINK, token(client, one.attempt));
        self.world.alarm(at, token);
    }

    fn alarm(&mut self, token: u64) {
        let client = usize::try_from(token >> 32).expect("clients are few");
        if token & 0xffff_ffff != self.clients[client].attempt {
            return;
        }
        if self.clients[client].waits.take().is_some() {
            // Its end stays unknown; another node may know better.
            let next = self.clients[client].target.value() % 3 + 1;
            self.clients[client].target = NodeId::new(next);
            self.rest(client);
        } else if self.clients[client].left > 0 {
            self.clients[client].left -= 1;
            self.ask(client, None);
        }
    }

    fn ask(&mut self, client: usize, again: Option<Request>) {
        let call = again.unwrap_or_else(|| self.draw());
        let target = self.clients[client].target;
        let number = u64::try_from(client).expect("clients are few");
        let operation = self.history.invoke(number, call);
        let request = self.world.request(target, call);
        let one = &mut self.clients[client];
        one.attempt += 1;
        one.waits = Some(Waiting {
            operation,
            request,
            call,
        });
        let (at, token) = (self.world.now() + PATIENCE, token(client, one.attempt));
        self.world.alarm(at, token);
    }

    fn draw(&mut self) -> Request {
        let tape = self.world.tape_mut();
        let cells = u32::try_from(CELLS).expect("cells are few");
        let cell = usize::try_from(tape.choose(CELL, cells)).expect("cells are few");
        if tape.choose(OP, 2) == 0 {
            let value = self.next_value;
            self.next_value += 1;
            Request::Put { cell, value }
        } else {
            Request::Get { cell }
        }
    }

    fn reply(&mut self, request: RequestId, answer: Answer) {
        let waits = |one: &Client| {
            one.waits
                .is_some_and(|waits| waits.request == Some(request))
        };
        let Some(client) = self.clients.iter().position(waits) else {
            return;
        };
        let Some(waiting) = self.clients[client].waits.take() else {
            return;
        };
        match answer {
            Answer::Put { .. } | Answer::Get { .. } => {
                self.history.returned(waiting.operation, answer);
                if self.healed.is_some() {
                    let now = self.world.now();
                    self.progressed.get_or_insert(now);
                }
            }
            Answer::NotLeader { leader } => {
                self.refused(client, waiting);
                let drawn = u64::from(self.world.tape_mut().choose(NODE, 3)) + 1;
                self.clients[client].target = leader.unwrap_or_else(|| NodeId::new(drawn));
            }
            Answer::Busy => self.refused(client, waiting),
        }
        self.rest(client);
    }

    /// It did not happen: the client will ask something else.
    fn refused(&mut self, client: usize, waiting: Waiting) {
        self.history.refused(waiting.operation);
        self.clients[client].left += 1;
        debug_assert!(self.clients[client].waits.is_none(), "{:?}", waiting.call);
    }

    fn note(&mut self, node: NodeId, event: Event) {
        match event {
            Event::LeaderElected { term } => {
                if let Some(other) = self.leaders.insert(term, node) {
                    let place = format!("{other} and {node} lead in {term}");
                    self.break_rule("a term has one leader", place);
                }
            }
            Event::Committed {
                revision, value, ..
            } => {
                let before = self.published.insert(revision, value);
                if before.is_some_and(|before| before != value) {
                    let place = format!("{revision} is {before:?} and {value}");
                    self.break_rule("a revision is one write", place);
                }
            }
        }
    }

    fn break_rule(&mut self, rule: &'static str, place: String) {
        let judge = "invariants";
        self.violations.push(Violation { judge, rule, place });
    }

    fn states(&self) -> Vec<(NodeId, Option<[Cell; CELLS]>)> {
        let nodes = self.world.nodes();
        let state = |id| self.world.node(id).map(|node| node.state().cells);
        nodes.map(|id| (id, state(id))).collect()
    }

    fn is_equal(&self) -> bool {
        let states = self.states();
        states
            .iter()
            .all(|(_, cells)| cells.is_some() && *cells == states[0].1)
    }

    fn judge(&mut self) {
        let healing = Healing {
            stopped: self.healed.unwrap_or_else(|| self.world.now()),
            within: WITHIN,
            progressed: self.progressed,
            converged: self.converged,
            states: self.states(),
        };
        self.violations.extend(heals(&healing).err());
        self.violations.extend(self.judge_durable().err());
        let witnessed = witness(&Cells, &self.history, &self.published);
        self.violations.extend(witnessed.err());
    }

    fn judge_durable(&self) -> Result<(), Violation> {
        let mut acknowledged = Vec::new();
        for operation in self.history.operations() {
            if let (Request::Put { cell, value }, Some(Answer::Put { revision })) =
                (operation.call, operation.reply().copied())
            {
                acknowledged.push(Acknowledged {
                    key: cell,
                    revision,
                    value,
                });
            }
        }
        let committed = self
            .world
            .nodes()
            .find_map(|id| self.world.node(id)?.committed());
        let cells = committed.map_or_else(|| [Cell::default(); CELLS], |state| state.cells);
        let last = cells.iter().map(|cell| (cell.revision, cell.value));
        durable(&acknowledged, &last.enumerate().collect())
    }
}

fn token(client: usize, attempt: u64) -> u64 {
    u64::try_from(client).expect("clients are few") << 32 | attempt
}
