//! Where the work of the front and of a load generator is paid for: connections that wait for a thread, and the one
//! thread of the generator.
//!
//! What would surprise: the front is not simulated, only its time is. What a connection has when a thread turns to it
//! costs one poll; what comes meanwhile waits for the next. All that came is read first; then each request is taken
//! apart and handed over, one after the other, so that an engine that wakes for the first begins with the few that are
//! there; then what was answered is written. Latencies are stamped in the middle of the generator's turn: it reads the
//! answers first and stamps the next requests behind them.

use std::collections::VecDeque;
use std::sync::Arc;

use holm_base::{NodeId, RequestId, Time};
use holm_virtual::{Caller, World};

use super::clients::{OP_PUT, Pending};
use super::{Run, Token};
use crate::costs::{Costs, Work};
use crate::site::{Answer, Request, Site};

/// A request's way to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The worker that has it does the engine's work, if that sleeps.
    Here,
    /// The engine's thread is woken for it.
    Inbox,
}

/// A request on its way to a node.
#[derive(Debug)]
pub(super) struct Ask {
    node: NodeId,
    body: Request,
    pending: Pending,
}

/// Whether a worker of the site turns to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    No,
    Asked,
    Now,
}

/// What the generator's thread does not do, is about to, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Idle,
    /// It is called; what it will spend on that.
    Waking(u64),
    /// It waits for a core; what it spends on waking, in nanoseconds.
    Ready(u64),
    Working,
}

/// An answer on its way through a front.
#[derive(Debug)]
struct Heard {
    request: RequestId,
    /// The operation's number.
    op: usize,
    answer: Answer,
    /// Who gave it.
    node: NodeId,
}

/// One connection.
#[derive(Debug)]
struct Line {
    site: usize,
    served: Served,
    /// Requests that have no answer yet.
    pending: usize,
    asks: Vec<Ask>,
    answers: Vec<Heard>,
    /// What the thread that turned to it has taken.
    taken: (VecDeque<Ask>, Vec<Heard>),
    /// How the requests that it has taken get to the engine.
    way: Way,
    /// What the generator has not read.
    unread: Vec<Heard>,
    /// What it is reading.
    reading: Vec<Heard>,
    /// Clients that want to ask.
    wants: Vec<usize>,
}

/// The generator's thread, on the machine of the sites.
#[derive(Debug)]
struct Generator {
    host: usize,
    standing: Standing,
    ready: VecDeque<usize>,
    working: Option<(usize, u64)>,
}

/// What the front of a site used, or the generator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontUse {
    /// CPU.
    pub(crate) nanos: u64,
    /// Times that a thread read from a connection or wrote to one.
    pub(crate) halves: u64,
    /// Times that it woke for one.
    pub(crate) wakes: u64,
    /// What it spent on that and on waking others, in nanoseconds.
    pub(crate) wake_nanos: u64,
}

impl FrontUse {
    /// What was used since an earlier look.
    pub(crate) const fn since(self, earlier: Self) -> Self {
        Self {
            nanos: self.nanos - earlier.nanos,
            halves: self.halves - earlier.halves,
            wakes: self.wakes - earlier.wakes,
            wake_nanos: self.wake_nanos - earlier.wake_nanos,
        }
    }
}

/// All connections of a run whose work costs something.
#[derive(Debug)]
pub(crate) struct Fronts {
    costs: Arc<Costs>,
    lines: Vec<Line>,
    /// The connections of each group: the first, and how many.
    of_group: Vec<(usize, usize)>,
    next: Vec<usize>,
    /// Whose workers serve each site's connections.
    nodes: Vec<NodeId>,
    /// At each site, what its front used so far; behind them, the generator.
    pub(super) used: Vec<FrontUse>,
    generator: Option<Generator>,
}

/// How many connections so many clients share, as the generator has it.
pub(crate) fn connections(clients: u32) -> usize {
    usize::try_from((clients / 10).clamp(1, 100)).expect("it is at most 100")
}

impl Fronts {
    /// `nodes` serve the sites; `groups` are the site and the number of clients of each.
    pub(crate) fn new(
        costs: Arc<Costs>,
        nodes: Vec<NodeId>,
        groups: &[(usize, u32)],
        generator: Option<usize>,
    ) -> Self {
        let (mut lines, mut of_group) = (Vec::new(), Vec::new());
        for &(site, clients) in groups {
            let count = connections(clients);
            of_group.push((lines.len(), count));
            lines.extend((0..count).map(|_| Line {
                site,
                served: Served::No,
                pending: 0,
                asks: Vec::new(),
                answers: Vec::new(),
                taken: (VecDeque::new(), Vec::new()),
                way: Way::Inbox,
                unread: Vec::new(),
                reading: Vec::new(),
                wants: Vec::new(),
            }));
        }
        Self {
            costs,
            lines,
            next: vec![0; of_group.len()],
            of_group,
            used: vec![FrontUse::default(); nodes.len() + 1],
            nodes,
            generator: generator.map(|host| Generator {
                host,
                standing: Standing::Idle,
                ready: VecDeque::new(),
                working: None,
            }),
        }
    }

    const fn has_generator(&self) -> bool {
        self.generator.is_some()
    }

    /// The connection of a client, or the next of a group's.
    pub(super) fn line(&mut self, group: usize, client: Option<usize>) -> usize {
        let (first, count) = self.of_group[group];
        let at = client.unwrap_or_else(|| {
            self.next[group] += 1;
            self.next[group]
        });
        first + at % count
    }

    fn price(&self, put: Work, range: Work, op: usize) -> u64 {
        self.costs.of(if op == OP_PUT { put } else { range })
    }

    /// A connection has something: a worker turns to it, if none is there.
    fn stir(&mut self, at: usize, caller: Caller, world: &mut World<Site>) {
        let line = &mut self.lines[at];
        if line.served == Served::No {
            line.served = Served::Asked;
            let (site, token) = (line.site, Token::LineBegins(number(at)).pack());
            let nanos = world.ask_worker(self.nodes[site], token, caller);
            // Where clients are elsewhere, what they send wakes a worker at the site's expense.
            let last = self.used.len() - 1;
            let payer = if self.generator.is_some() { last } else { site };
            let used = &mut self.used[payer];
            used.nanos += nanos;
            used.wake_nanos += nanos;
        }
    }

    /// A worker has turned to a connection, and takes all that it has.
    fn begin(&mut self, at: usize, world: &mut World<Site>) {
        let line = &mut self.lines[at];
        line.served = Served::Now;
        line.taken = (
            std::mem::take(&mut line.asks).into(),
            std::mem::take(&mut line.answers),
        );
        // What is answered now is not pending when requests are looked at.
        line.way = if line.pending.saturating_sub(line.taken.1.len()) == 1 {
            Way::Here
        } else {
            Way::Inbox
        };
        let line = &self.lines[at];
        let (asks, answers) = (line.taken.0.len(), line.taken.1.len());
        // To read is half of a poll, and to write the other. So are a request and its answer of
        // an operation.
        let halves = u64::from(asks > 0) + u64::from(answers > 0);
        let read = self.costs.of(Work::FrontPoll) * u64::from(asks > 0) / 2;
        let read = read + self.costs.of(Work::FrontEcho) * number(asks) / 2;
        let site = line.site;
        let nanos = read + self.stage(at);
        let asked = Token::LineBegins(number(at)).pack();
        let done = Token::Line(number(at)).pack();
        world.use_worker(self.nodes[site], asked, (nanos, done));
        let used = &mut self.used[site];
        used.nanos += nanos;
        used.halves += halves;
    }

    /// What the next thing costs that a worker does for a connection that was read: it takes a request apart, or
    /// writes all answers.
    fn stage(&self, at: usize) -> u64 {
        let line = &self.lines[at];
        let echo = self.costs.of(Work::FrontEcho);
        let more = |op| {
            self.price(Work::FrontPut, Work::FrontRange, op)
                .saturating_sub(echo)
                / 2
        };
        if let Some(ask) = line.taken.0.front() {
            return more(ask.pending.op);
        }
        let answers = &line.taken.1;
        let poll = self.costs.of(Work::FrontPoll) * u64::from(!answers.is_empty()) / 2;
        poll + answers
            .iter()
            .map(|one| echo / 2 + more(one.op))
            .sum::<u64>()
    }

    /// A worker is done with one thing of a connection, and turns to the next.
    fn go_on(&mut self, at: usize, world: &mut World<Site>) {
        let (site, nanos) = (self.lines[at].site, self.stage(at));
        self.used[site].nanos += nanos;
        let done = Token::Line(number(at)).pack();
        world.keep_worker(self.nodes[site], done, (nanos, done));
    }

    /// The generator has something to do for a connection.
    fn call_generator(&mut self, at: usize, world: &mut World<Site>) {
        let Some(generator) = &mut self.generator else {
            return;
        };
        if !generator.ready.contains(&at) {
            generator.ready.push_back(at);
        }
        if generator.standing == Standing::Idle {
            let by = self.nodes[self.lines[at].site];
            let nanos = world.wake_own(by, Token::GeneratorAwake.pack());
            generator.standing = Standing::Waking(nanos);
        }
    }

    /// The generator waits for a core, if there is something for it.
    fn next_turn(&mut self, world: &mut World<Site>) {
        let Some(generator) = &mut self.generator else {
            return;
        };
        let woken = match generator.standing {
            Standing::Waking(nanos) => nanos,
            Standing::Idle | Standing::Ready(_) | Standing::Working => 0,
        };
        if generator.ready.is_empty() {
            generator.standing = Standing::Idle;
        } else {
            generator.standing = Standing::Ready(woken);
            world.ask_core(generator.host, Token::GeneratorBegins.pack());
        }
    }

    /// It has a core, and takes all that the next connection has.
    fn generate(&mut self, world: &mut World<Site>) {
        let Some(generator) = &mut self.generator else {
            return;
        };
        let Some(at) = generator.ready.pop_front() else {
            return;
        };
        let woken = match generator.standing {
            Standing::Ready(nanos) => nanos,
            Standing::Idle | Standing::Waking(_) | Standing::Working => 0,
        };
        generator.standing = Standing::Working;
        let host = generator.host;
        let line = &mut self.lines[at];
        line.reading = std::mem::take(&mut line.unread);
        let line = &self.lines[at];
        let answered = line.reading.iter().map(|one| one.op);
        let more = line.wants.len().saturating_sub(line.reading.len());
        let ops = answered.chain(std::iter::repeat_n(OP_PUT, more));
        let prices = (Work::GeneratorPut, Work::GeneratorRange);
        let work = ops
            .map(|op| self.price(prices.0, prices.1, op))
            .sum::<u64>();
        let nanos = woken + self.costs.of(Work::GeneratorPoll) + work;
        if let (Some(generator), Some(used)) = (&mut self.generator, self.used.last_mut()) {
            generator.working = Some((at, nanos));
            used.nanos += nanos;
            used.halves += 2;
            used.wakes += u64::from(woken > 0);
            used.wake_nanos += woken;
        }
        world.use_core(host, nanos, Token::Generator.pack());
    }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).expect("connections are few")
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("connections are few")
}

impl Run<'_> {
    /// A request goes to the front, or at once to its node where work is free.
    pub(super) fn submit(&mut self, node: NodeId, body: Request, pending: Pending) {
        let Some(fronts) = &mut self.fronts else {
            self.hand(node, (body, Way::Here), pending);
            return;
        };
        let at = fronts.line(pending.group, pending.client);
        fronts.lines[at].pending += 1;
        fronts.lines[at].asks.push(Ask {
            node,
            body,
            pending,
        });
        fronts.stir(at, Caller::Socket, &mut self.world);
    }

    /// An answer of a node's; whether it goes through the front.
    pub(super) fn passes_front(
        &mut self,
        node: NodeId,
        request: RequestId,
        answer: &Answer,
    ) -> bool {
        let known = self.askers.of_request(request);
        let (Some(fronts), Some((group, client, op))) = (&mut self.fronts, known) else {
            return false;
        };
        let at = fronts.line(group, client);
        fronts.lines[at].answers.push(Heard {
            request,
            op,
            answer: answer.clone(),
            node,
        });
        fronts.stir(at, Caller::Thread, &mut self.world);
        true
    }

    pub(super) fn line_begins(&mut self, at: u64) {
        if let Some(fronts) = &mut self.fronts {
            fronts.begin(index(at), &mut self.world);
        }
    }

    /// A thread is done with something of a connection: it hands a request over, and goes on; or it has written what
    /// was answered.
    pub(super) fn line_done(&mut self, at: u64) {
        let at = index(at);
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        let line = &mut fronts.lines[at];
        let Some(ask) = line.taken.0.pop_front() else {
            return self.line_written(at);
        };
        let (way, is_last) = (line.way, line.taken.0.is_empty() && line.taken.1.is_empty());
        if !is_last {
            // A worker that is kept stands in for nobody.
            fronts.go_on(at, &mut self.world);
        }
        // The question of a read goes to the inbox, whoever asks it.
        let stays = is_last && ask.pending.op == OP_PUT;
        let way = if stays { way } else { Way::Inbox };
        self.hand(ask.node, (ask.body, way), ask.pending);
        if is_last {
            self.line_written(at);
        }
    }

    /// A thread is done with all that it took of a connection.
    fn line_written(&mut self, at: usize) {
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        let line = &mut fronts.lines[at];
        let mut answers = std::mem::take(&mut line.taken.1);
        line.pending = line.pending.saturating_sub(answers.len());
        let has_generator = fronts.has_generator();
        if has_generator && !answers.is_empty() {
            fronts.lines[at].unread.append(&mut answers);
            fronts.call_generator(at, &mut self.world);
        }
        for heard in answers {
            self.answered(heard.node, heard.request, heard.answer);
        }
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        let line = &mut fronts.lines[at];
        line.served = Served::No;
        if !line.asks.is_empty() {
            fronts.stir(at, Caller::Socket, &mut self.world);
        } else if !line.answers.is_empty() {
            fronts.stir(at, Caller::Thread, &mut self.world);
        }
    }

    /// A client wants to ask: through the generator, if there is one.
    pub(super) fn wants(&mut self, group: usize, client: usize) -> bool {
        let Some(fronts) = &mut self.fronts else {
            return false;
        };
        if !fronts.has_generator() {
            return false;
        }
        let at = fronts.line(group, Some(client));
        fronts.lines[at].wants.push(client);
        fronts.call_generator(at, &mut self.world);
        true
    }

    pub(super) fn generator_awake(&mut self) {
        if let Some(fronts) = &mut self.fronts {
            fronts.next_turn(&mut self.world);
        }
    }

    pub(super) fn generator_begins(&mut self) {
        if let Some(fronts) = &mut self.fronts {
            fronts.generate(&mut self.world);
        }
    }

    /// The generator has read the answers of a connection; its clients ask again.
    pub(super) fn generated(&mut self) {
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        let working = fronts.generator.as_mut().and_then(|it| it.working.take());
        let Some((at, nanos)) = working else { return };
        let middle = self.world.now().nanos() - nanos / 2;
        self.askers.stamp = Some(Time::from_nanos(middle));
        for heard in std::mem::take(&mut fronts.lines[at].reading) {
            self.answered(heard.node, heard.request, heard.answer);
        }
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        for client in std::mem::take(&mut fronts.lines[at].wants) {
            self.ask_of(client);
        }
        self.askers.stamp = None;
        let Some(fronts) = &mut self.fronts else {
            return;
        };
        if let Some(generator) = &mut fronts.generator
            && fronts.lines[at].unread.is_empty()
        {
            // What was wanted meanwhile has been asked.
            generator.ready.retain(|&other| other != at);
        }
        fronts.next_turn(&mut self.world);
    }
}
