//! One run of streams: a world, those who send rows, what goes wrong, and what was seen of it.
//!
//! As with keyspaces there are faults and load first; then all faults end, what was sent is answered, the sources end,
//! and everything must get to the sinks. Then it is judged.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_check::Violation;
use holm_check::streams::Counts;
use holm_virtual::{
    ClockSpec, FaultPlan, Halted, HostSpec, LinkSpec, Moment, NodeSpec, Order, Place, Quantiles,
    Report, Tape, Work, World, WorldSpec,
};

use super::afar::Fate;
use super::judge::{complete, judge};
use super::sender::SLOT;
use super::side::Side;
use super::{Answer, Ask, Event, Mill, Setup, StreamFigures};
use crate::outages::Outages;
use crate::run::{Ending, Figures, Reached};
use crate::scenario::{Action, Length, Outlet, Purpose, Scenario, Stream, Target, Way};
use crate::stage;

const PIECE: Place = Place::new("client.piece");
const AGAIN: Place = Place::new("client.again");
const REACH: Place = Place::new("sink.delay");
const FATE: Place = Place::new("sink.fate");
const FLIP: Place = Place::new("fault.flip");
/// What a weight of 1 is, of a million ends of a stream.
const FLIP_SCALE: u32 = 50_000;

/// The most rows of a request in a hunt.
const HUNT_ROWS: u32 = 24;
/// How often everybody looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const RESTART: Duration = Duration::from_secs(1);
/// How long everything may take to get to the sinks behind a timed run.
const REST: Duration = Duration::from_secs(60);
const HUNT_MAX: Duration = Duration::from_secs(600);
/// The event time of the first row, in microseconds.
const START: i64 = 1_767_607_200_000_000;

/// What an alarm is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Send(u64),
    Look,
    Begin(u64),
    End(u64),
    Over,
    /// A stream that ended by itself is started: of which node, and which of its ends it was.
    Restart(u64, u64),
    /// A put gets to the sink: of which stream and sink, and of which of its starts.
    Put(u64, u64, u64),
}

impl Token {
    const fn pack(self) -> u64 {
        let (tag, value) = match self {
            Self::Send(stream) => (1, stream),
            Self::Look => (2, 0),
            Self::Begin(fault) => (3, fault),
            Self::End(fault) => (4, fault),
            Self::Over => (5, 0),
            Self::Restart(node, end) => (6, node | end << 16),
            Self::Put(stream, sink, start) => (7, stream | sink << 8 | start << 16),
        };
        tag << 56 | value
    }

    const fn unpack(token: u64) -> Self {
        let value = token & ((1 << 56) - 1);
        match token >> 56 {
            1 => Self::Send(value),
            2 => Self::Look,
            3 => Self::Begin(value),
            4 => Self::End(value),
            5 => Self::Over,
            6 => Self::Restart(value & 0xffff, value >> 16),
            _ => Self::Put(value & 0xff, value >> 8 & 0xff, value >> 16),
        }
    }
}

struct StreamRun<'a> {
    scenario: &'a Scenario,
    world: World<Mill>,
    sides: Vec<Side>,
    figures: Figures,
    faults: FaultPlan,
    outages: Outages,
    /// How many snapshots were damaged.
    flips: u32,
    found: Vec<Violation>,
    reached: Reached,
    healed: Option<Time>,
}

/// Makes a run.
pub(crate) fn play(
    scenario: &Scenario,
    (order, report): (Order, Report),
    tape: Tape,
    is_observed: bool,
) -> Ending {
    let mut run = StreamRun::new(scenario, (order, report), tape);
    if is_observed {
        run.world.watch_orders();
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| run.proceed()));
    let mut halted = None;
    match outcome {
        Ok(Ok(())) => run.judge(),
        Ok(Err(why)) => halted = Some(why),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            run.found.push(Violation {
                judge: "invariants",
                rule: crate::run::NO_NODE_FAILS,
                place: text.unwrap_or("an assertion failed").to_owned(),
            });
        }
    }
    run.ending(halted)
}

fn world(
    scenario: &Scenario,
    (order, report): (Order, Report),
    mut tape: Tape,
) -> (World<Mill>, Vec<Setup>) {
    let mut setups = Vec::new();
    let mut nodes = Vec::new();
    for stream in &scenario.streams {
        let site = &scenario.sites[stream.site];
        let setup = Setup {
            stream: Arc::clone(stream),
            is_tight: scenario.purpose == Purpose::Hunt,
        };
        setups.push(setup.clone());
        nodes.push(NodeSpec {
            setup,
            host: nodes.len(),
            site: stream.site,
            clock: ClockSpec {
                offset: site.clock.offset.draw(stage::OFFSET, &mut tape),
                drift_ppb: site.clock.drift_ppb.draw(stage::DRIFT, &mut tape),
                error: Duration::from_nanos(site.clock.error),
            },
            sync: site.disk.sync.clone(),
            sync_timed: Vec::new(),
            work: Work::default(),
            wake: Quantiles::fixed(0),
            wake_idle: Vec::new(),
        });
    }
    let spec = WorldSpec {
        hosts: vec![HostSpec::of(1); nodes.len()],
        nodes,
        link: LinkSpec::plain(1_000_000),
        links: Vec::new(),
        order,
        limits: stage::limits(false),
        report,
    };
    (World::new(spec, tape), setups)
}

impl<'a> StreamRun<'a> {
    fn new(scenario: &'a Scenario, how: (Order, Report), tape: Tape) -> Self {
        let seed = tape.seed();
        let (mut world, setups) = world(scenario, how, tape);
        let sides: Vec<Side> = (0..)
            .zip(setups)
            .map(|(at, setup)| Side::new(setup, at, seed))
            .collect();
        for (at, side) in (0..).zip(&sides) {
            let sync = &scenario.sites[side.site()].disk.sync;
            world.shelf(side.node).set_sync(median(sync));
            world.alarm(Time::ZERO, Token::Send(at).pack());
        }
        for (fault, number) in scenario.faults.iter().zip(0..) {
            world.alarm(Time::from_nanos(fault.at), Token::Begin(number).pack());
        }
        if let Length::Time(nanos) = scenario.length {
            world.alarm(Time::from_nanos(nanos), Token::Over.pack());
        }
        world.alarm(Time::ZERO + LOOK_EVERY, Token::Look.pack());
        let mut figures = Figures::new(scenario, 0);
        let size = (figures.phases.len(), scenario.sites.len());
        figures.streams = StreamFigures::new(size, scenario.streams.len());
        Self {
            faults: stage::faults(scenario, sides.len()),
            outages: Outages::default(),
            scenario,
            world,
            sides,
            figures,
            flips: 0,
            found: Vec::new(),
            reached: Reached::default(),
            healed: None,
        }
    }

    fn proceed(&mut self) -> Result<(), Halted> {
        while !self.is_over() && self.found.is_empty() {
            if self.healed.is_none() && self.scenario.purpose == Purpose::Hunt {
                self.hunt();
            }
            match self.world.advance()? {
                Moment::Happened | Moment::Idle => {}
                Moment::Alarm(token) => self.alarm(Token::unpack(token)),
                Moment::Ended(node) => {
                    if self.scenario.purpose == Purpose::Timed || self.healed.is_some() {
                        let at = self.world.now() + RESTART;
                        let end = self.world.ends(node);
                        self.world
                            .alarm(at, Token::Restart(node.value(), end).pack());
                    }
                }
            }
            self.hear();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Some(healed) = self.healed else {
            return false;
        };
        self.is_settled() || self.world.now().since(healed) > self.rest()
    }

    fn rest(&self) -> Duration {
        if self.scenario.heal == 0 {
            REST
        } else {
            Duration::from_nanos(self.scenario.heal)
        }
    }

    fn is_settled(&self) -> bool {
        let is_done = |side: &Side| self.world.node(side.node).is_some_and(Mill::is_complete);
        self.sides.iter().all(is_done)
    }

    fn hunt(&mut self) {
        self.world.inject(&mut self.faults);
        let is_long = match self.scenario.length {
            Length::Choices(most) => self.world.tape().choices() >= most,
            Length::Time(_) => false,
        };
        let is_late = is_long || self.world.now().since(Time::ZERO) > HUNT_MAX;
        let is_done = |side: &Side| side.sender.is_done() && side.sender.is_answered();
        if is_late || self.sides.iter().all(is_done) {
            self.heal();
        }
    }

    /// All faults end, and no more rows are made.
    fn heal(&mut self) {
        self.healed = Some(self.world.now());
        self.figures.stop();
        self.world.heal();
        let now = self.world.now();
        for at in 0..self.sides.len() {
            let sender = &mut self.sides[at].sender;
            if self.scenario.purpose == Purpose::Timed {
                sender.make_due(now);
                self.figures.streams.behind[at] += sender.behind(now);
            }
            self.sides[at].sender.stop();
            self.knock(at);
        }
    }

    fn alarm(&mut self, token: Token) {
        let index = |number: u64| usize::try_from(number).expect("streams and faults are few");
        match token {
            Token::Send(stream) => self.send(index(stream)),
            Token::Look => self.look(),
            Token::Begin(fault) => self.begin_fault(fault),
            Token::End(fault) => self.end_fault(fault),
            Token::Over => {
                if self.healed.is_none() {
                    self.heal();
                }
            }
            Token::Restart(node, end) => self.restart(NodeId::new(node), end),
            Token::Put(stream, sink, start) => self.put(index(stream), (index(sink), start)),
        }
    }

    /// A sender makes a request.
    fn send(&mut self, at: usize) {
        let now = self.world.now();
        let sender = &mut self.sides[at].sender;
        if sender.is_done() {
            return;
        }
        let next = if self.scenario.purpose == Purpose::Hunt {
            let rows = u64::from(self.world.tape_mut().choose(PIECE, HUNT_ROWS)) + 1;
            sender.make(rows);
            sender.next_at()
        } else {
            sender.make_due(now);
            sender.next_at().max(now + SLOT)
        };
        let number = u64::try_from(at).expect("streams are few");
        self.world.alarm(
            next.max(now + Duration::from_nanos(1)),
            Token::Send(number).pack(),
        );
        self.knock(at);
    }

    /// Sends what is not under way, in order.
    fn knock(&mut self, at: usize) {
        let side = &mut self.sides[at];
        if side.setup.stream.source.way == Way::File {
            self.write(at);
        }
        let side = &mut self.sides[at];
        let is_keyed = side.setup.stream.source.is_keyed;
        while let Some(piece) = side.sender.next() {
            let key = is_keyed.then_some(piece.number);
            let (number, bytes, sent) = (piece.number, piece.rows.len(), piece.at);
            let ask = Ask::Rows(Arc::clone(&piece.rows), key);
            let Some(request) = self.world.request(side.node, ask) else {
                return;
            };
            side.sender.sent(number, request);
            side.taken.push_back((bytes, sent));
        }
        let is_over = side.sender.is_done() && side.sender.is_answered();
        if self.healed.is_some() && is_over && !side.has_ended {
            side.has_ended = self.world.request(side.node, Ask::End).is_some();
        }
    }

    /// Adds rows to the file that a stream follows, while its site is up and has room.
    fn write(&mut self, at: usize) {
        let side = &mut self.sides[at];
        let is_up = self.world.is_up(side.node);
        let shelf = self.world.shelf(side.node);
        while is_up
            && let Some(piece) = side.sender.next()
            && shelf.write(&piece.rows)
        {
            side.written.add(piece.rows.len(), piece.at);
            side.sender.written();
            side.acknowledged += 1;
        }
    }

    fn look(&mut self) {
        let now = self.world.now();
        let phase = self.figures.phase(now);
        for at in 0..self.sides.len() {
            self.knock(at);
            let side = &mut self.sides[at];
            let mark = self.world.node(side.node).and_then(Mill::mark);
            side.mark = mark.or(side.mark);
            let micros = i64::try_from(now.nanos() / 1_000).unwrap_or(i64::MAX);
            let lag = side
                .mark
                .map(|mark| START.saturating_add(micros).saturating_sub(mark));
            let lag = lag.and_then(|lag| u64::try_from(lag.saturating_mul(1_000)).ok());
            if let (Some(phase), Some(lag)) = (phase, lag.filter(|_| self.sides[at].mark > Some(0)))
            {
                let site = self.sides[at].site();
                self.figures.streams.lags((phase, site), lag);
            }
        }
        self.world.alarm(now + LOOK_EVERY, Token::Look.pack());
    }

    fn hear(&mut self) {
        for noted in self.world.take_notes() {
            let at = index_of(noted.node);
            self.note(at, noted.event);
        }
        for reply in self.world.take_replies() {
            let side = &mut self.sides[index_of(reply.node)];
            match reply.answer {
                Answer::Later => side.sender.turned_away(reply.request),
                Answer::Durable => {
                    side.acknowledged += 1;
                    let duplicates = side.setup.stream.source.duplicates;
                    let is_lost = duplicates > 0 && self.world.tape_mut().chance(AGAIN, duplicates);
                    side.sender.answered(reply.request, !is_lost);
                }
            }
        }
        for at in 0..self.sides.len() {
            let side = &mut self.sides[at];
            let (ends, now) = (self.world.ends(side.node), self.world.now());
            if ends > side.ends {
                side.ends = ends;
                side.down = side.down.or(Some(now));
                side.sender.broken();
                side.taken.clear();
                side.has_ended = false;
                self.flip(at);
            }
        }
    }

    /// A stream has ended; perhaps its newest snapshot turns out damaged.
    fn flip(&mut self, at: usize) {
        let (weight, most) = self.scenario.chances.of("flip");
        let chance = (weight * FLIP_SCALE).min(999_999);
        let is_hunt = self.scenario.purpose == Purpose::Hunt && self.healed.is_none();
        let node = self.sides[at].node;
        if !is_hunt || self.flips >= most || self.world.node(node).is_some() {
            return;
        }
        if self.world.tape_mut().chance(FLIP, chance) && self.world.shelf(node).damage() {
            self.flips += 1;
        }
    }

    fn note(&mut self, at: usize, event: Event) {
        let now = self.world.now();
        *self.reached.events.entry(name_of(&event)).or_default() += 1;
        match event {
            Event::Started(started) => {
                self.sides[at].started(&started);
                self.knock(at);
            }
            Event::Ran(ran) => self.sides[at].ran(ran, now),
            Event::Put(sink, output) => self.has(at, (sink, output)),
            Event::Sent(sink, rest) => self.carry(at, sink, rest),
            Event::Refused(why) => {
                let name = &self.sides[at].setup.stream.name;
                self.found.push(Violation {
                    judge: "once",
                    rule: "a stream comes back whatever ended it",
                    place: format!("{name}: {why}"),
                });
            }
            Event::Saved | Event::Failed(_) | Event::Complete => {}
        }
    }

    /// A sink has so many rows.
    fn has(&mut self, at: usize, (sink, output): (usize, u64)) {
        let now = self.world.now();
        let phase = self.figures.phase(now);
        let side = &mut self.sides[at];
        if let Some(down) = side.down.take()
            && phase.is_some()
        {
            self.figures
                .streams
                .recovered(now.since(down).as_nanos().try_into().unwrap_or(u64::MAX));
        }
        let mut first = side.has[sink];
        side.has[sink] = side.has[sink].max(output);
        while let Some((until, sent)) = side.births[sink].pop_front_if(|birth| birth.0 <= output) {
            let took = now.since(sent).as_nanos().try_into().unwrap_or(u64::MAX);
            if let Some(phase) = phase {
                for _ in first..until {
                    self.figures
                        .streams
                        .took((phase, side.setup.stream.site), took);
                }
            }
            first = first.max(until);
        }
    }

    /// Rows are on their way to a keyspace.
    fn carry(&mut self, at: usize, sink: usize, rest: Duration) {
        let stream: &Stream = &self.sides[at].setup.stream;
        let Outlet::Keyspace { delay, .. } = &stream.sink else {
            return;
        };
        let takes = delay.delay(REACH, self.world.tape_mut());
        let node = self.sides[at].node;
        let start = self.world.ends(node);
        let arrives = self.world.now() + rest + Duration::from_nanos(takes);
        let wide = |number: usize| u64::try_from(number).expect("streams and sinks are few");
        self.world
            .alarm(arrives, Token::Put(wide(at), wide(sink), start).pack());
    }

    fn put(&mut self, at: usize, (sink, start): (usize, u64)) {
        let side = &self.sides[at];
        let Outlet::Keyspace { fails, loses, .. } = side.setup.stream.sink else {
            return;
        };
        if self.world.ends(side.node) != start {
            return;
        }
        let is_healed = self.healed.is_some();
        let tape = self.world.tape_mut();
        let weights = [
            1_000_000 - fails - loses,
            fails,
            loses - loses / 4,
            loses / 4,
        ];
        let fate = if is_healed {
            0
        } else {
            tape.weighted(FATE, &weights)
        };
        let fates = [Fate::Works, Fate::Fails, Fate::Loses, Fate::Lags];
        self.world.request(side.node, Ask::Put(sink, fates[fate]));
    }

    /// Starts a stream that ended by itself, unless it has come back since, or an outage holds it.
    fn restart(&mut self, node: NodeId, end: u64) {
        let is_held = self.healed.is_none() && self.outages.holds(node);
        if !is_held && self.world.ends(node) == end {
            self.world.restart(node);
        }
    }

    fn nodes(&self, target: &Target) -> Vec<NodeId> {
        let (Target::Site(wanted) | Target::Node(wanted, _)) = *target else {
            return Vec::new();
        };
        let sides = self.sides.iter().filter(|side| side.site() == wanted);
        sides.map(|side| side.node).collect()
    }

    fn begin_fault(&mut self, number: u64) {
        let scenario = self.scenario;
        let at = usize::try_from(number).expect("faults are few");
        let (fault, now) = (&scenario.faults[at], self.world.now());
        if self.healed.is_some() {
            return;
        }
        self.figures.begin(now, at);
        for node in fault
            .targets
            .iter()
            .flat_map(|target| self.nodes(target))
            .collect::<Vec<_>>()
        {
            match &fault.action {
                Action::Crash | Action::Power => {
                    self.outages.begin(node);
                    self.world.crash(node);
                }
                Action::Pause => self.world.pause(node),
                Action::SlowDisk(disk) => {
                    self.world.set_sync(node, disk.sync.clone());
                    self.world.shelf(node).set_sync(median(&disk.sync));
                }
                Action::SyncFail => self.world.fail_next_sync(node),
                Action::Full => self.world.fill_disk(node),
                Action::Freeze => self.world.freeze_clock(node),
                Action::Cut
                | Action::CutFrom
                | Action::SlowLink(_)
                | Action::Step(_)
                | Action::Add(_)
                | Action::Remove(_)
                | Action::Replace(..)
                | Action::Lead(_) => {}
            }
        }
        self.world.alarm(
            now + Duration::from_nanos(fault.lasts),
            Token::End(number).pack(),
        );
        if let Some(every) = fault.every {
            let next = now + Duration::from_nanos(every);
            self.world.alarm(next, Token::Begin(number).pack());
        }
    }

    fn end_fault(&mut self, number: u64) {
        let scenario = self.scenario;
        let at = usize::try_from(number).expect("faults are few");
        let fault = &scenario.faults[at];
        if self.healed.is_some() {
            return;
        }
        for node in fault
            .targets
            .iter()
            .flat_map(|target| self.nodes(target))
            .collect::<Vec<_>>()
        {
            match &fault.action {
                Action::Crash | Action::Power => {
                    if self.outages.end(node) {
                        self.world.restart(node);
                    }
                }
                Action::Pause => self.world.resume(node),
                Action::SlowDisk(_) => {
                    let sync = scenario.sites[self.sides[index_of(node)].site()]
                        .disk
                        .sync
                        .clone();
                    self.world.shelf(node).set_sync(median(&sync));
                    self.world.set_sync(node, sync);
                }
                Action::Full => self.world.empty_disk(node),
                Action::Freeze => self.world.thaw_clock(node),
                Action::SyncFail
                | Action::Cut
                | Action::CutFrom
                | Action::SlowLink(_)
                | Action::Step(_)
                | Action::Add(_)
                | Action::Remove(_)
                | Action::Replace(..)
                | Action::Lead(_) => {}
            }
        }
        self.figures.end(self.world.now(), at, 0);
    }

    fn judge(&mut self) {
        if !self.found.is_empty() {
            return;
        }
        if !self.is_settled() {
            self.found.push(Violation {
                judge: "heals",
                rule: "without faults all rows are answered, and all results get to the sinks",
                place: self.nodes_in_words().join("; "),
            });
            return;
        }
        for side in &self.sides {
            let deck = self.world.shelf(side.node).clone();
            let node = self.world.node(side.node);
            let counts = node.map_or_else(Counts::default, Mill::counts);
            let seen = (&side.seen, counts);
            self.found
                .extend(judge(&side.setup, seen, &side.sender, &deck));
            let figures = &mut self.figures.streams;
            figures.rows = (figures.rows.0 + counts.rows, figures.rows.1 + counts.late);
            if self.scenario.purpose == Purpose::Timed {
                let (all, there) = complete(&side.setup.stream, (&side.seen, &side.sender), &deck);
                figures.results = (figures.results.0 + all, figures.results.1 + there);
            }
        }
        self.found
            .retain(|one| one.judge == "heals" || self.scenario.judges_named(one.judge));
    }

    fn nodes_in_words(&self) -> Vec<String> {
        let line = |side: &Side| {
            let stream = &side.setup.stream;
            let (name, site) = (&stream.name, &self.scenario.sites[stream.site].name);
            let words = self
                .world
                .node(side.node)
                .map_or_else(|| "down".to_owned(), Mill::words);
            format!("{name} at {site}: {words}")
        };
        self.sides.iter().map(line).collect()
    }

    fn ending(mut self, halted: Option<Halted>) -> Ending {
        self.figures.close(self.world.now());
        let nodes = catch_unwind(AssertUnwindSafe(|| self.nodes_in_words())).unwrap_or_default();
        let acknowledged = self.sides.iter().map(|side| side.acknowledged).min();
        Ending {
            hash: self.world.hash(),
            tape: self.world.tape().clone(),
            counts: self.world.counts(),
            virtual_nanos: self.world.now().nanos(),
            acknowledged: acknowledged.unwrap_or(0),
            elections: 0,
            halted,
            violations: self.found,
            report: self.world.report().to_vec(),
            nodes,
            races: self.world.races().cloned(),
            struck: self.world.counts().crashed,
            steps: self.world.steps(),
            reached: self.reached,
            orders: self.world.orders(),
            shapes: Vec::new(),
            used: None,
            figures: self.figures,
            beside: Vec::new(),
        }
    }
}

/// What a stream tells of, by name.
const fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "Started",
        Event::Ran(_) => "Ran",
        Event::Sent(..) => "Sent",
        Event::Put(..) => "Put",
        Event::Saved => "Saved",
        Event::Refused(_) => "Refused",
        Event::Failed(_) => "Failed",
        Event::Complete => "Complete",
    }
}

fn index_of(node: NodeId) -> usize {
    usize::try_from(node.value() - 1).expect("streams are few")
}

fn median(sync: &Quantiles) -> Duration {
    Duration::from_nanos(u64::try_from(sync.quantile(500)).unwrap_or(0))
}
