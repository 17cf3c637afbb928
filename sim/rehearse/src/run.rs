//! One run: a world, its clients, what goes wrong, and what was seen of it.
//!
//! A run has three parts: faults and load; then all faults end and everybody asks once more;
//! then everything must come to rest in one state. It is over when it has, or when the time for
//! that is over, and is judged by what was seen.

mod clients;
mod counted;
pub(crate) mod facts;
mod figures;
mod fleet;
mod front;
mod goals;
mod incidents;
mod intents;
mod islands;
mod leases;
mod ledger;
mod meter;
mod realm;
mod register;
mod shapes;
mod transactions;
mod watchers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_check::Violation;
use holm_raft::RoleName;
use holm_virtual::{Counts, FaultPlan, Halted, Moment, Noted, Order, Reply, Report, Tape};

pub(crate) use figures::{Figures, Second};
pub(crate) use front::{FrontUse, Fronts};
pub(crate) use meter::{SiteUse, Used};

use crate::scenario::{Length, Purpose, Scenario};
use crate::site::{Answer, Event, Site};
use crate::stage::Stage;
use clients::Askers;
use facts::Bound;
use goals::Goals;
pub(crate) use goals::Reached;
use incidents::Incidents;
use islands::Archipelago;
use leases::Leases;
use ledger::Ledger;
use meter::Meter;
use realm::Realm;
use register::Register;
use shapes::Shapes;
use watchers::Watchers;

/// What an alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// The next operation of a group that does not wait for answers.
    Arrive(u64),
    /// A client has rested. The number counts what it set alarms for.
    Rest(u64, u64),
    /// The oldest operation under way is given up.
    Patience,
    Begin(u64),
    End(u64),
    Look,
    Over,
    /// A node that ended by itself is started: which, and which of its ends it was.
    Restart(u64, u64),
    /// An island looks which sites its keyspace has.
    Attend,
    /// A thread is done with a connection of the front.
    Line(u64),
    /// The generator is done with a connection.
    Generator,
    /// It wakes.
    GeneratorAwake,
    /// A thread has a core for a connection of the front.
    LineBegins(u64),
    /// The generator has one.
    GeneratorBegins,
}

impl Token {
    const fn pack(self) -> u64 {
        let (tag, value) = match self {
            Self::Arrive(group) => (1, group),
            Self::Rest(client, attempt) => (2, client | attempt << 24),
            Self::Patience => (3, 0),
            Self::Begin(fault) => (4, fault),
            Self::End(fault) => (5, fault),
            Self::Look => (6, 0),
            Self::Over => (7, 0),
            Self::Restart(node, end) => (8, node | end << 16),
            Self::Line(line) => (9, line),
            Self::Generator => (11, 0),
            Self::GeneratorAwake => (12, 0),
            Self::LineBegins(line) => (13, line),
            Self::GeneratorBegins => (14, 0),
            // Below 16: above that stands whose alarm it is.
            Self::Attend => (15, 0),
        };
        tag << 56 | value
    }

    const fn unpack(token: u64) -> Self {
        let value = token & ((1 << 56) - 1);
        match token >> 56 {
            1 => Self::Arrive(value),
            2 => Self::Rest(value & ((1 << 24) - 1), value >> 24),
            3 => Self::Patience,
            4 => Self::Begin(value),
            5 => Self::End(value),
            6 => Self::Look,
            7 => Self::Over,
            9 => Self::Line(value),
            11 => Self::Generator,
            12 => Self::GeneratorAwake,
            13 => Self::LineBegins(value),
            14 => Self::GeneratorBegins,
            15 => Self::Attend,
            _ => Self::Restart(value & 0xffff, value >> 16),
        }
    }
}

/// A run under way.
pub(crate) struct Run<'a> {
    scenario: &'a Scenario,
    stage: &'a Stage,
    world: Realm,
    askers: Askers,
    /// Where the front's work is paid for; none where work is free.
    fronts: Option<Fronts>,
    meter: Meter,
    incidents: Incidents,
    watchers: Watchers,
    ledger: Ledger,
    /// What was seen of islands; none where there is one order.
    islands: Option<Archipelago>,
    /// Which islands there are while those are judged.
    judged: Vec<NodeId>,
    leases: Leases,
    figures: Figures,
    faults: FaultPlan,
    healed: Option<Time>,
    progressed: Option<Time>,
    converged: Option<Time>,
    /// Whether the log of a node was damaged, and it has not mended it yet.
    damaged: Option<NodeId>,
    goals: Goals<'a>,
    /// The shapes of the group so far, if somebody looks.
    shapes: Option<Shapes>,
    /// Empty: the memory for what nodes told and answered.
    heard: Heard,
}

/// What nodes told and answered at a moment.
type Heard = (Vec<Noted<Event>>, Vec<Reply<Answer>>);

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) hash: [u8; 32],
    pub(crate) tape: Tape,
    pub(crate) counts: Counts,
    pub(crate) virtual_nanos: u64,
    pub(crate) acknowledged: u64,
    pub(crate) elections: u64,
    pub(crate) halted: Option<Halted>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) figures: Figures,
    pub(crate) report: Vec<String>,
    /// A line a node, as it stood at the end.
    pub(crate) nodes: Vec<String>,
    /// What a hunt with POS+ learned.
    pub(crate) races: Option<holm_virtual::Races>,
    /// Faults that struck, by kind.
    pub(crate) struck: u64,
    /// How many steps all nodes have made.
    pub(crate) steps: u64,
    pub(crate) reached: Reached,
    /// Marks of orders and of shapes, if somebody looked.
    pub(crate) orders: Vec<u64>,
    pub(crate) shapes: Vec<u64>,
    /// What nodes and hosts used while it was measured; nothing where work is free.
    pub(crate) used: Option<Used>,
    /// Figures of the other keyspaces, in their order.
    pub(crate) beside: Vec<Figures>,
}

/// Makes a run, of however many keyspaces the scenario has. `is_observed` says whether orders
/// and shapes are noted.
pub(crate) fn play(
    scenario: &Scenario,
    stage: &Stage,
    (order, report): (Order, Report),
    tape: Tape,
    is_observed: bool,
) -> Ending {
    if scenario.has_streams() {
        return crate::stream::play(scenario, (order, report), tape, is_observed);
    }
    if !scenario.beside.is_empty() {
        return fleet::play(scenario, stage, (order, report), tape, is_observed);
    }
    let run = Run::new(scenario, stage, order, report, tape);
    if is_observed {
        run.observed().finish()
    } else {
        run.finish()
    }
}

impl Ending {
    /// The figures of each keyspace.
    pub(crate) fn all_figures(&self) -> impl Iterator<Item = &Figures> {
        std::iter::once(&self.figures).chain(&self.beside)
    }

    /// Who found something, and which rule, and of an assertion what it says but for numbers:
    /// what makes two failures the same.
    pub(crate) fn failure(&self) -> Option<(&'static str, &'static str, String)> {
        let first = self.violations.first()?;
        let is_said = |one: &char| first.rule == NO_NODE_FAILS && !one.is_ascii_digit();
        let said = first.place.chars().filter(is_said);
        Some((first.judge, first.rule, said.collect()))
    }
}

/// The rule of an assertion that failed.
pub(crate) const NO_NODE_FAILS: &str = "no node fails";

/// How long everything may take to come to rest after a timed run.
const REST: Duration = Duration::from_secs(60);

/// A hunt ends its faults then, however few choices it has made.
const HUNT_MAX: Duration = Duration::from_secs(600);

impl<'a> Run<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        stage: &'a Stage,
        order: Order,
        report: Report,
        tape: Tape,
    ) -> Self {
        let world = stage.world(scenario, order, report, tape);
        Self::in_realm(scenario, stage, Realm::new(world, (0, 0)))
    }

    /// The run of one keyspace in a world that it may share.
    fn in_realm(scenario: &'a Scenario, stage: &'a Stage, mut world: Realm) -> Self {
        let askers = Askers::new(scenario, stage, &mut world);
        let incidents = Incidents::new(scenario, &mut world);
        if let Length::Time(nanos) = scenario.length {
            world.alarm(Time::from_nanos(nanos), Token::Over.pack());
        }
        let watchers = Watchers::new(scenario, stage, &mut world);
        let register = Register::new(scenario, stage, &mut world);
        Self {
            scenario,
            stage,
            fronts: stage.fronts(scenario, &askers.groups(scenario)),
            meter: Meter::default(),
            askers,
            incidents,
            watchers,
            ledger: Ledger::new(stage),
            islands: stage
                .isles
                .map(|isles| Archipelago::new(stage.site_of.len(), isles, register)),
            judged: Vec::new(),
            leases: Leases::new(scenario),
            figures: Figures::new(scenario, stage.voters),
            faults: stage.faults.clone(),
            world,
            healed: None,
            progressed: None,
            converged: None,
            damaged: None,
            goals: Goals::new(&scenario.goals),
            shapes: None,
            heard: Heard::default(),
        }
    }

    /// The same run, with an onlooker who notes orders and shapes.
    pub(crate) fn observed(mut self) -> Self {
        self.world.watch_orders();
        self.shapes = Some(Shapes::new(self.stage.site_of.len()));
        self
    }

    /// Runs to the end and judges. An assertion that fails in a node is a violation too.
    pub(crate) fn finish(mut self) -> Ending {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.proceed()));
        let mut halted = None;
        match outcome {
            Ok(Ok(())) => self.judge_all(),
            Ok(Err(why)) => halted = Some(why),
            Err(panic) => self.panicked(&*panic),
        }
        self.ending(halted)
    }

    /// Judges what is to be judged in such a keyspace.
    fn judge_all(&mut self) {
        if self.islands.is_some() {
            self.judge_islands();
        } else {
            self.judge();
        }
    }

    fn panicked(&mut self, panic: &(dyn std::any::Any + Send)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("an assertion failed");
        self.ledger
            .violate("invariants", NO_NODE_FAILS, text.to_owned());
    }

    fn ending(mut self, halted: Option<Halted>) -> Ending {
        self.figures.close(self.world.now());
        // A node that failed an assertion may stand anyhow.
        let nodes = catch_unwind(AssertUnwindSafe(|| self.nodes())).unwrap_or_default();
        let used = self.used();
        Ending {
            hash: self.world.hash(),
            tape: self.world.tape().clone(),
            counts: self.world.counts(),
            virtual_nanos: self.world.now().nanos(),
            acknowledged: self.askers.acknowledged(),
            elections: self.elections(),
            halted,
            violations: self.ledger.violations,
            report: self.world.report().to_vec(),
            nodes,
            races: self.world.races().cloned(),
            struck: self.world.counts().crashed,
            steps: self.world.steps(),
            reached: self.goals.reached(),
            orders: self.world.orders(),
            shapes: self.shapes.map_or_else(Vec::new, |shapes| shapes.marks()),
            used,
            figures: self.figures,
            beside: Vec::new(),
        }
    }

    fn elections(&self) -> u64 {
        match &self.islands {
            Some(islands) => islands.elections,
            None => self.ledger.elections(),
        }
    }

    fn proceed(&mut self) -> Result<(), Halted> {
        while !self.is_over() && self.ledger.violations.is_empty() {
            self.moment()?;
        }
        Ok(())
    }

    /// How each node stands, in words.
    fn nodes(&self) -> Vec<String> {
        let line = |node: NodeId| {
            let name = &self.scenario.sites[self.stage.site(node)].name;
            let Some(site) = self.world.node(node) else {
                return format!("{node} at {name} is down");
            };
            let stand = site.stand();
            let known = stand
                .leader
                .map_or_else(|| "nobody".to_owned(), |leader| leader.to_string());
            let voters = site.configuration().voters();
            let (incoming, outgoing) = (voters.incoming(), voters.outgoing());
            format!(
                "{node} at {name}: {:?} in term {} of {known}; committed {}, applied {}, last \
                 {}, durable {}; revision {}; voters {incoming:?} {outgoing:?}",
                stand.role,
                stand.term,
                stand.commit,
                stand.applied,
                stand.last,
                stand.durable,
                site.revision()
            )
        };
        self.stage.ids().map(line).collect()
    }

    fn rest(&self) -> Duration {
        if self.scenario.heal == 0 {
            REST
        } else {
            Duration::from_nanos(self.scenario.heal)
        }
    }

    /// Whether there is nothing more to wait for.
    fn is_over(&self) -> bool {
        let Some(healed) = self.healed else {
            return false;
        };
        let now = self.world.now();
        // A lease that ends takes everybody out of their rest once more.
        let is_well = self.progressed.is_some()
            && self.converged.is_some()
            && !self.leases.are_awaited(now, healed)
            && (!self.leases.is_used || self.is_at_rest());
        is_well || now.since(healed) > self.rest()
    }

    /// Runs until somebody leads, and says which node: for whom the wrong leader is no use.
    pub(crate) fn elect(&mut self) -> Result<Option<NodeId>, Halted> {
        while self.healed.is_none() {
            self.moment()?;
            if let Some(leader) = self.leader() {
                return Ok(Some(leader));
            }
        }
        Ok(None)
    }

    /// Lets one thing happen.
    fn moment(&mut self) -> Result<(), Halted> {
        if self.healed.is_none() && self.scenario.purpose == Purpose::Hunt {
            self.hunt();
        }
        match self.world.advance()? {
            Moment::Happened | Moment::Idle => {}
            Moment::Alarm(token) => self.alarm(Token::unpack(token)),
            Moment::Ended(node) => {
                self.ended(node);
            }
        }
        self.meter_starts();
        self.look_after_islands();
        if self.shapes.is_some() {
            self.see_shape();
        }
        self.hear();
        self.see_rest();
        Ok(())
    }

    /// Whether a node that ended is started again here. In a hunt chance does it while there are faults; of one behind
    /// those, a disk that failed before may still be the reason.
    fn must_restart(&self) -> bool {
        self.scenario.purpose == Purpose::Timed || self.healed.is_some()
    }

    fn see_rest(&mut self) {
        if self.healed.is_some() && self.converged.is_none() && self.is_at_rest() {
            self.converged = Some(self.world.now());
        }
    }

    /// Takes what nodes told and answered.
    fn hear(&mut self) {
        let (mut notes, mut replies) = std::mem::take(&mut self.heard);
        self.world.hear(&mut notes, &mut replies);
        for noted in notes.drain(..) {
            self.note(noted.node, noted.event);
        }
        for reply in replies.drain(..) {
            self.reply(reply.node, reply.request, reply.answer);
        }
        self.heard = (notes, replies);
    }

    /// Chance has its turn, or the faults end.
    fn hunt(&mut self) {
        self.world.inject(&mut self.faults);
        self.meddle();
        if self.is_late() || self.askers.is_idle() {
            self.heal();
        }
    }

    /// Whether a hunt has gone on for long enough.
    fn is_late(&self) -> bool {
        let is_late = match self.scenario.length {
            Length::Choices(most) => self.world.tape().choices() >= most,
            Length::Time(_) => false,
        };
        is_late || self.world.now().since(Time::ZERO) > HUNT_MAX
    }

    fn alarm(&mut self, token: Token) {
        match token {
            Token::Arrive(group) => self.arrive(group),
            Token::Rest(client, attempt) => self.rested(client, attempt),
            Token::Patience => self.give_up(),
            Token::Begin(fault) => self.begin_fault(fault),
            Token::End(fault) => self.end_fault(fault),
            Token::Look => self.look(),
            Token::Over => {
                if self.healed.is_none() {
                    self.heal();
                }
            }
            Token::Restart(node, end) => self.restart(NodeId::new(node), end),
            Token::Line(line) => self.line_done(line),
            Token::Generator => self.generated(),
            Token::GeneratorAwake => self.generator_awake(),
            Token::LineBegins(line) => self.line_begins(line),
            Token::GeneratorBegins => self.generator_begins(),
            Token::Attend => self.attend(),
        }
    }

    /// All faults end, and everybody asks a little more.
    fn heal(&mut self) {
        self.world.heal();
        self.ask_once_more();
    }

    fn ask_once_more(&mut self) {
        self.healed = Some(self.world.now());
        self.meter_stops();
        self.figures.stop();
        self.ask_on();
    }

    fn note(&mut self, node: NodeId, event: Event) {
        if self.islands.is_some() && self.note_island(node, &event) {
            return;
        }
        match event {
            Event::Held(_) | Event::Forked(_) | Event::Astray(_) => {}
            Event::Applied(changes) => {
                let now = self.world.now();
                for fresh in self.ledger.applied(node, &changes) {
                    self.learn(&fresh);
                }
                let revision = changes.last().map_or(0, |change| change.revision);
                self.figures.reached(now, node, revision);
            }
            Event::Replaced(revision) => {
                self.ledger.replaced(node, revision);
                self.figures.reached(self.world.now(), node, revision);
            }
            Event::Broken(what) => {
                let place = format!("{node}: {what}");
                self.ledger
                    .violate("invariants", "nothing is broken", place);
            }
            // Its disk failed, as disks do; the world ends it.
            Event::Failed(_) => {}
            Event::Bound(event) => {
                self.goals.happened(&facts::bound(node, &event));
                // From now on the leases run there, each from its beginning; that may be long
                // after the election.
                if matches!(event, Bound::Leads { .. }) {
                    self.leases.disturb(self.world.now());
                }
            }
            Event::Raft(event) => {
                self.goals.happened(&facts::raft(node, &event));
                if matches!(event, holm_raft::Event::Recovered { .. }) && self.damaged == Some(node)
                {
                    self.damaged = None;
                }
                if matches!(event, holm_raft::Event::LeaderElected { .. }) {
                    self.leases.disturb(self.world.now());
                }
                self.ledger.noted(node, &event);
                if let holm_raft::Event::OriginCounted { commit } = event {
                    self.judge_count(node, commit);
                }
                self.figures.noted(self.world.now(), node, &event);
            }
        }
    }

    fn leader(&self) -> Option<NodeId> {
        let stand = |node: NodeId| self.world.node(node).map(Site::stand);
        let leads = |node: &NodeId| stand(*node).is_some_and(|it| it.role == RoleName::Leader);
        let term = |node: &NodeId| stand(*node).map(|it| it.term);
        self.stage.ids().filter(leads).max_by_key(term)
    }

    /// Whether all members hold the same, and nobody waits.
    fn is_at_rest(&self) -> bool {
        if !self.askers.is_idle() {
            return false;
        }
        if self.islands.is_some() {
            return self.are_one();
        }
        let Some(leader) = self.leader().and_then(|leader| self.world.node(leader)) else {
            return false;
        };
        let stand = leader.stand();
        let is_settled = !leader.configuration().voters().is_joint();
        let is_whole = stand.applied == stand.last;
        let equals = |node: NodeId| {
            let site = self.world.node(node);
            site.is_some_and(|site| {
                site.stand().applied == stand.applied && site.revision() == leader.revision()
            })
        };
        let members = leader.configuration().members();
        is_settled && is_whole && members.into_iter().all(equals)
    }

    fn reply(&mut self, node: NodeId, request: holm_base::RequestId, answer: Answer) {
        match answer {
            Answer::Watching(_)
            | Answer::Changes(_)
            | Answer::Progress(_)
            | Answer::Compacted(_) => self.watched(node, request, answer),
            Answer::Done(_)
            | Answer::Lease(_)
            | Answer::Refused
            | Answer::Unknown
            | Answer::Operated(_) => {
                if !self.passes_front(node, request, &answer) {
                    self.answered(node, request, answer);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    #[test]
    fn a_node_that_ends_once_the_faults_are_over_is_started_again() {
        let text = include_str!("../../../scenarios/hunt-islands.toml");
        let scenario = parse(text, "hunt-islands", &[]).expect("it is shipped");
        let stage = Stage::new(&scenario);
        let order = Order::Hunt {
            scheduler: holm_virtual::Scheduler::Random,
            reach_nanos: 1,
        };
        let mut run = Run::new(&scenario, &stage, order, Report::Off, Tape::fresh(1));
        run.heal();
        let node = NodeId::new(1);
        run.world.fail_next_sync(node);
        while !run.is_over() {
            run.moment().expect("it goes on");
        }
        assert_eq!(run.world.ends(node), 1, "its disk failed");
        assert!(run.converged.is_some(), "and it came back");
    }
}
