//! Clients: groups that ask at a rate, and single ones that wait for each answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holm_base::{NodeId, RequestId, Time};
use holm_check::History;
use holm_virtual::Place;

use super::facts::{self, Fact};
use super::front::Way;
use super::leases::LEASED_KEYS;
use super::realm::Realm;
use super::{Run, Token};
use crate::calls::{Call, Change, Key, Reply};
use crate::scenario::{Clients, Keys, Purpose, Scenario};
use crate::site::{Answer, LeaseCall, LeaseReply, Request};
use crate::stage::Stage;

const OP: Place = Place::new("client.op");
const KEY: Place = Place::new("client.key");
const GAP: Place = Place::new("client.gap");
const LEASE: Place = Place::new("client.lease");
const COMPACT: Place = Place::new("client.compact");
const AMOUNT: Place = Place::new("client.amount");

/// When a client gives an operation up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client of a hunt rests.
const THINK: Duration = Duration::from_millis(5);
/// The first of a mix: [`crate::scenario::OP_NAMES`] has its name.
pub(super) const OP_PUT: usize = 0;
/// An addition adds less, and takes away no more.
const ADD_MAX: i32 = 10;
/// Of so few keys a range reads all.
const WHOLE_MAX: u32 = 16;

/// Clients of one kind at one site.
#[derive(Clone, Debug)]
struct Group {
    kind: usize,
    site: usize,
    nodes: Vec<NodeId>,
    next: usize,
    /// Asks at a rate, whether answered or not.
    is_open: bool,
}

/// A client that waits for each answer.
#[derive(Clone, Debug)]
struct Client {
    group: usize,
    left: u64,
    attempt: u64,
    target: usize,
    waits: bool,
    /// Its island takes no clients, so it asks for nothing until that does again.
    sleeps: bool,
}

/// What is asked: for the history, or about a lease.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Call(Call),
    Lease(LeaseCall),
}

/// What is under way: its place in the history, or what is asked about a lease.
#[derive(Clone, Copy, Debug)]
enum Open {
    Operation(usize),
    Lease(LeaseCall),
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    open: Open,
    pub(super) client: Option<usize>,
    pub(super) group: usize,
    pub(super) op: usize,
    asked: Time,
    /// In which phase; none if it is not measured.
    phase: Option<usize>,
}

/// All clients of a run.
#[derive(Clone, Debug)]
pub(crate) struct Askers {
    groups: Vec<Group>,
    clients: Vec<Client>,
    pub(crate) history: History<Call, Reply>,
    pending: BTreeMap<RequestId, Pending>,
    /// When each is given up, oldest first.
    patience: VecDeque<(Time, RequestId)>,
    is_patience_set: bool,
    next_mark: u64,
    /// At which revision each key was last seen to be made: at each site where revisions are
    /// the site's, else in the first place.
    made: Vec<Vec<u64>>,
    /// Whether each site has revisions of its own.
    are_apart: bool,
    /// The newest revision that anybody was told.
    newest: u64,
    acknowledged: u64,
    is_last: bool,
    /// What a generator's clock says, while it works.
    pub(super) stamp: Option<Time>,
}

impl Askers {
    pub(crate) fn new(scenario: &Scenario, stage: &Stage, world: &mut Realm) -> Self {
        let mut groups = Vec::new();
        let mut clients = Vec::new();
        for (kind, wanted) in scenario.clients.iter().enumerate() {
            for &site in &wanted.at {
                let group = groups.len();
                let is_open = wanted.rate_milli.is_some();
                groups.push(Group {
                    kind,
                    site,
                    nodes: stage.of_site(site).collect(),
                    next: 0,
                    is_open,
                });
                if is_open {
                    let token = Token::Arrive(number(group)).pack();
                    world.alarm(Time::from_nanos(1), token);
                    continue;
                }
                for target in 0..wanted.count {
                    let client = number(clients.len());
                    clients.push(Client {
                        group,
                        left: wanted.ops.unwrap_or(u64::MAX),
                        attempt: 0,
                        target: usize::try_from(target).expect("clients are few"),
                        waits: false,
                        sleeps: false,
                    });
                    // A generator begins when there is somebody to ask.
                    let begins = if scenario.has_generator {
                        Time::from_nanos(scenario.warmup - scenario.warmup / 10)
                    } else {
                        Time::ZERO + THINK
                    };
                    world.alarm(begins, Token::Rest(client, 0).pack());
                }
            }
        }
        Self {
            groups,
            clients,
            history: History::new(),
            pending: BTreeMap::new(),
            patience: VecDeque::new(),
            is_patience_set: false,
            next_mark: 1,
            made: Vec::new(),
            are_apart: scenario.islands().is_some(),
            newest: 1,
            acknowledged: 0,
            is_last: false,
            stamp: None,
        }
    }

    /// The group, client and operation of a request that waits.
    pub(super) fn of_request(&self, request: RequestId) -> Option<(usize, Option<usize>, usize)> {
        let pending = self.pending.get(&request)?;
        Some((pending.group, pending.client, pending.op))
    }

    /// The site of who asked for an operation.
    pub(super) fn site_of(&self, who: u64) -> Option<usize> {
        // A client by its number, a group that asks at a rate by its own, above all those.
        let group = match who >> 32 {
            0 => self.clients.get(index(who))?.group,
            group => index(group - 1),
        };
        Some(self.groups.get(group)?.site)
    }

    /// The site and the number of clients of each group.
    pub(super) fn groups(&self, scenario: &Scenario) -> Vec<(usize, u32)> {
        let groups = self.groups.iter();
        let one = |group: &Group| (group.site, scenario.clients[group.kind].count);
        groups.map(one).collect()
    }

    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether nobody waits, and nobody wants more.
    pub(crate) fn is_idle(&self) -> bool {
        let is_open = self.groups.iter().any(|group| group.is_open);
        let is_done = |one: &Client| (one.left == 0 || one.sleeps) && !one.waits;
        self.pending.is_empty() && (self.is_last || !is_open) && self.clients.iter().all(is_done)
    }

    /// Where a key was last seen to be made, by those who ask at a site.
    fn made(&self, site: usize, key: Key) -> u64 {
        let site = if self.are_apart { site } else { 0 };
        let at = usize::try_from(key).expect("keys are few");
        let made = self.made.get(site).and_then(|made| made.get(at));
        made.copied().unwrap_or(0)
    }

    fn made_mut(&mut self, site: usize, key: Key) -> &mut u64 {
        let site = if self.are_apart { site } else { 0 };
        let at = usize::try_from(key).expect("keys are few");
        if self.made.len() <= site {
            self.made.resize(site + 1, Vec::new());
        }
        let made = &mut self.made[site];
        if made.len() <= at {
            made.resize(at + 1, 0);
        }
        &mut made[at]
    }

    fn saw(&mut self, site: usize, key: Key, revision: u64) {
        let made = self.made_mut(site, key);
        *made = (*made).max(revision);
    }

    /// Something that nobody asked for is about to be seen.
    pub(super) fn unasked(&mut self, call: impl FnOnce(u64) -> Call) -> u64 {
        let mark = self.next_mark;
        self.next_mark += 1;
        self.history.invoke(u64::MAX, call(mark));
        mark
    }

    fn learn(&mut self, site: usize, call: &Call, reply: &Reply) {
        self.newest = self.newest.max(reply.revision());
        match (*call, reply) {
            (Call::Put { key, .. } | Call::Add { key, .. }, Reply::Wrote { revision }) => {
                self.saw(site, key, *revision);
            }
            (Call::Txn { key, other, .. }, Reply::Wrote { revision }) => {
                self.saw(site, key, *revision);
                self.saw(site, other, *revision);
            }
            (Call::Delete { key, .. }, Reply::Wrote { .. }) => *self.made_mut(site, key) = 0,
            (_, Reply::Found { cells, .. }) => {
                for (key, cell) in cells {
                    self.saw(site, *key, cell.made);
                }
            }
            (_, Reply::Wrote { .. } | Reply::Unchanged { .. }) => {}
        }
    }
}

fn number(index: usize) -> u64 {
    u64::try_from(index).expect("clients are few")
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("clients are few")
}

impl Run<'_> {
    /// The next operation of a group that asks at a rate.
    pub(super) fn arrive(&mut self, group: u64) {
        if self.healed.is_some() {
            return;
        }
        let at = index(group);
        let kind = self.askers.groups[at].kind;
        if !self.is_shut(at) {
            self.ask(at, None);
        }
        let gap = self.stage.gaps[kind].as_ref();
        let gap = gap.map_or(1, |gap| gap.delay(GAP, self.world.tape_mut()).max(1));
        let next = self.world.now() + Duration::from_nanos(gap);
        self.world.alarm(next, Token::Arrive(group).pack());
    }

    /// A client has rested, and asks if it wants more.
    pub(super) fn rested(&mut self, client: u64, attempt: u64) {
        let at = index(client);
        let one = &mut self.askers.clients[at];
        if one.attempt != attempt || one.waits || one.left == 0 {
            return;
        }
        let group = one.group;
        if !self.wants(group, at) {
            self.ask_of(at);
        }
    }

    /// A client asks for one more.
    pub(super) fn ask_of(&mut self, client: usize) {
        let one = &mut self.askers.clients[client];
        if one.waits || one.left == 0 {
            return;
        }
        let group = one.group;
        if self.is_shut(group) {
            self.askers.clients[client].sleeps = true;
            return;
        }
        self.askers.clients[client].left -= 1;
        self.ask(group, Some(client));
    }

    /// Whether the island that a group asks takes no clients.
    fn is_shut(&self, group: usize) -> bool {
        let node = self.askers.groups[group].nodes[0];
        let islands = self.islands.as_ref();
        islands.is_some_and(|it| it.register.is_shut(node))
    }

    /// An island takes clients again.
    pub(super) fn wake_clients(&mut self, node: NodeId) {
        for client in 0..self.askers.clients.len() {
            let one = &self.askers.clients[client];
            let is_here = self.askers.groups[one.group].nodes.contains(&node);
            if one.sleeps && is_here {
                self.askers.clients[client].sleeps = false;
                self.set_rest(client);
            }
        }
    }

    /// Everybody asks once more, after the faults have ended.
    pub(super) fn ask_on(&mut self) {
        self.askers.is_last = true;
        for group in 0..self.askers.groups.len() {
            if self.askers.groups[group].is_open {
                self.ask(group, None);
            }
        }
        for client in 0..self.askers.clients.len() {
            self.askers.clients[client].left = 2;
            if !self.askers.clients[client].waits {
                self.set_rest(client);
            }
        }
    }

    fn set_rest(&mut self, client: usize) {
        let group = self.askers.clients[client].group;
        if self.wants(group, client) {
            return;
        }
        let one = &mut self.askers.clients[client];
        one.attempt += 1;
        let token = Token::Rest(number(client), one.attempt).pack();
        let pause = match self.scenario.purpose {
            Purpose::Hunt => THINK,
            Purpose::Timed => Duration::from_nanos(1),
        };
        self.world.alarm(self.world.now() + pause, token);
    }

    fn ask(&mut self, group: usize, client: Option<usize>) {
        let (kind, site) = (
            self.askers.groups[group].kind,
            self.askers.groups[group].site,
        );
        let wanted = &self.scenario.clients[kind];
        let (op, wish) = self.draw(site, wanted);
        let node = self.target(group, client);
        let now = self.askers.stamp.unwrap_or_else(|| self.world.now());
        let phase = self.figures.asked(now, site, op);
        let who = client.map_or_else(|| number(group + 1) << 32, number);
        let (open, body) = match wish {
            Wish::Call(call) => {
                let open = Open::Operation(self.askers.history.invoke(who, call));
                let is_read = matches!(call, Call::Range { .. });
                let body = if is_read {
                    Request::Read(call)
                } else {
                    Request::Write(call, wanted.value)
                };
                (open, body)
            }
            Wish::Lease(call) => {
                self.leases.asked(now, call);
                (Open::Lease(call), Request::Lease(call))
            }
        };
        let pending = Pending {
            open,
            client,
            group,
            op,
            asked: now,
            phase,
        };
        if let Some(client) = client {
            self.askers.clients[client].waits = true;
        }
        self.submit(node, body, pending);
    }

    /// A request comes to its node.
    pub(super) fn hand(&mut self, node: NodeId, (body, way): (Request, Way), pending: Pending) {
        let now = self.world.now();
        let handed = match way {
            Way::Here => self.world.request(node, body),
            Way::Inbox => self.world.request_inbox(node, body),
        };
        match handed {
            None => self.failed(pending, true),
            Some(request) => {
                self.askers.pending.insert(request, pending);
                self.askers.patience.push_back((now + PATIENCE, request));
                self.set_patience();
            }
        }
    }

    /// Which node is asked: the site's in turn, or where a client has come to.
    fn target(&mut self, group: usize, client: Option<usize>) -> NodeId {
        let group = &mut self.askers.groups[group];
        match client {
            None => {
                group.next = (group.next + 1) % group.nodes.len();
                group.nodes[group.next]
            }
            Some(client) => {
                let target = self.askers.clients[client].target;
                if self.scenario.purpose == Purpose::Timed || self.askers.are_apart {
                    return group.nodes[target % group.nodes.len()];
                }
                let own = group.nodes[0].value() - 1 + number(target);
                let count = number(self.stage.site_of.len());
                NodeId::new(own % count + 1)
            }
        }
    }

    fn set_patience(&mut self) {
        if let Some(&(at, _)) = self.askers.patience.front()
            && !self.askers.is_patience_set
        {
            self.askers.is_patience_set = true;
            self.world.alarm(at, Token::Patience.pack());
        }
    }

    fn draw(&mut self, site: usize, wanted: &Clients) -> (usize, Wish) {
        let tape = self.world.tape_mut();
        let op = tape.weighted(OP, &wanted.mix.0);
        // The first of a mix may have no weight; then another is the normal one.
        let op = if wanted.mix.0[op] == 0 {
            let first = wanted.mix.0.iter().position(|&weight| weight > 0);
            first.expect("a mix asks for something")
        } else {
            op
        };
        if op == 5 {
            return (op, self.draw_lease());
        }
        let key = draw_key(&wanted.keys, tape);
        let nodes = self.stage.site_of.len();
        let islands = self.stage.isles.map_or(0, |isles| isles.among(nodes));
        let islands = u32::try_from(islands).expect("islands are few");
        let back = if op == 4 { tape.choose(COMPACT, 24) } else { 0 };
        let amount = if op == 6 { tape.choose(AMOUNT, 20) } else { 0 };
        let mark = self.askers.next_mark;
        self.askers.next_mark += 1;
        let call = match op {
            0 => Call::Put { key, mark },
            1 => Call::Delete { key, mark },
            2 => Call::Txn {
                key,
                other: (key + 1) % wanted.keys.count,
                expected: self.askers.made(site, key),
                mark,
            },
            6 => Call::Add {
                key,
                amount: i32::try_from(amount).expect("it is small") - ADD_MAX,
                mark,
            },
            4 => Call::Compact {
                revision: self.askers.newest.saturating_sub(u64::from(back)).max(1),
            },
            _ if wanted.keys.count <= WHOLE_MAX => Call::Range {
                first: 0,
                last: if self.askers.are_apart {
                    // What each island left its marks at, too.
                    self.scenario.keys() + islands - 1
                } else if self.leases.is_used {
                    self.leases.first_key + LEASED_KEYS - 1
                } else {
                    wanted.keys.count - 1
                },
            },
            _ => Call::Range {
                first: key,
                last: key,
            },
        };
        (op, Wish::Call(call))
    }

    /// Something about a lease: a new one, a key on one, a renewal, a question, an end.
    fn draw_lease(&mut self) -> Wish {
        let now = self.world.now();
        let alive = self.leases.alive();
        let tape = self.world.tape_mut();
        let what = tape.choose(LEASE, 10);
        let count = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        if count == 0 || what == 9 {
            let ttl = i64::from(tape.choose(LEASE, 3)) + 2;
            let id = self.leases.grant(now, ttl);
            return Wish::Lease(LeaseCall::Grant { id, ttl });
        }
        let at = usize::try_from(tape.choose(LEASE, count)).expect("leases are few");
        let (id, key) = (alive[at], tape.choose(LEASE, LEASED_KEYS));
        match what {
            0..=3 => {
                let mark = self.askers.next_mark;
                self.askers.next_mark += 1;
                self.leases.attach(mark, id);
                Wish::Call(Call::Attach {
                    key: self.leases.first_key + key,
                    lease: id,
                    mark,
                })
            }
            4..=6 => Wish::Lease(LeaseCall::Renew { id }),
            7 => Wish::Lease(LeaseCall::TimeToLive { id }),
            _ => Wish::Lease(LeaseCall::Revoke { id }),
        }
    }

    /// A revision was applied for the first time anywhere.
    pub(super) fn learn(&mut self, change: &Change) {
        let now = self.world.now();
        let Some(gone) = self.leases.learn(now, change) else {
            return;
        };
        let first = self.leases.first_key;
        let keys = gone.iter().fold(0, |keys, key| keys | 1 << (key - first));
        let mark = self.askers.unasked(|mark| Call::Gone { first, keys, mark });
        self.ledger.made_by(change.revision, mark);
    }

    pub(super) fn answered(&mut self, node: NodeId, request: RequestId, answer: Answer) {
        let Some(pending) = self.askers.pending.remove(&request) else {
            return;
        };
        if let Answer::Done(_) | Answer::Lease(_) = answer {
            let fact = self.fact(node, &pending, &answer);
            self.goals.happened(&fact);
        }
        match answer {
            Answer::Done(reply) => self.done(&pending, reply),
            Answer::Lease(reply) => self.heard(&pending, reply),
            Answer::Refused => self.failed(pending, true),
            Answer::Unknown
            | Answer::Operated(_)
            | Answer::Watching(_)
            | Answer::Changes(_)
            | Answer::Progress(_)
            | Answer::Compacted(_) => self.failed(pending, false),
        }
    }

    /// An answer as goals see it.
    fn fact(&self, node: NodeId, pending: &Pending, answer: &Answer) -> Fact {
        let key = match pending.open {
            Open::Operation(at) => match self.askers.history.operations()[at].call {
                Call::Put { key, .. }
                | Call::Delete { key, .. }
                | Call::Attach { key, .. }
                | Call::Add { key, .. }
                | Call::Txn { key, .. } => u64::from(key),
                Call::Range { first, .. } => u64::from(first),
                Call::Compact { revision } => revision,
                Call::Gone { .. } => 0,
            },
            Open::Lease(_) => 0,
        };
        let revision = match answer {
            Answer::Done(reply) => reply.revision(),
            Answer::Lease(_)
            | Answer::Refused
            | Answer::Unknown
            | Answer::Operated(_)
            | Answer::Watching(_)
            | Answer::Changes(_)
            | Answer::Progress(_)
            | Answer::Compacted(_) => 0,
        };
        let client = pending.client.unwrap_or(pending.group);
        facts::ack(node, pending.op, key, number(client), revision)
    }

    fn done(&mut self, pending: &Pending, reply: Reply) {
        let revision = reply.revision();
        if let Open::Operation(at) = pending.open {
            let call = self.askers.history.operations()[at].call;
            let site = self.askers.groups[pending.group].site;
            self.askers.learn(site, &call, &reply);
            self.askers.history.returned(at, reply);
        }
        self.succeeded(pending, revision);
    }

    /// A question about a lease was answered.
    fn heard(&mut self, pending: &Pending, reply: LeaseReply) {
        let now = self.world.now();
        if let Open::Lease(call) = pending.open {
            self.leases.heard((pending.asked, now), call, Some(reply));
        }
        self.succeeded(pending, 0);
    }

    fn succeeded(&mut self, pending: &Pending, revision: u64) {
        self.askers.acknowledged += 1;
        let now = self.askers.stamp.unwrap_or_else(|| self.world.now());
        let site = self.askers.groups[pending.group].site;
        let took = now.nanos() - pending.asked.nanos();
        self.figures
            .acknowledged(now, (site, pending.op), pending.phase, took, revision);
        if self.healed.is_some_and(|healed| pending.asked >= healed) {
            self.progressed.get_or_insert(now);
        }
        if let Some(client) = pending.client {
            self.askers.clients[client].waits = false;
            self.set_rest(client);
        }
    }

    /// It was not answered. If it surely did not happen, the history says so.
    fn failed(&mut self, pending: Pending, is_refused: bool) {
        match pending.open {
            Open::Operation(at) if is_refused => self.askers.history.refused(at),
            Open::Operation(_) => {}
            Open::Lease(call) => {
                let now = self.world.now();
                self.leases.heard((pending.asked, now), call, None);
            }
        }
        let site = self.askers.groups[pending.group].site;
        self.figures.failed(pending.asked, site);
        self.look_after_islands();
        if let Some(islands) = &mut self.islands {
            let now = self.world.now();
            islands.unanswered(
                self.askers.groups[pending.group].nodes[0],
                (pending.asked, now),
            );
        }
        let Some(client) = pending.client else {
            return;
        };
        let one = &mut self.askers.clients[client];
        one.waits = false;
        if is_refused || self.healed.is_some() {
            one.left = one.left.saturating_add(1).min(u64::MAX - 1);
        }
        if self.scenario.purpose == Purpose::Hunt {
            one.target += 1;
        }
        self.set_rest(client);
    }

    /// What has waited too long is given up; its outcome is unknown.
    pub(super) fn give_up(&mut self) {
        self.askers.is_patience_set = false;
        let now = self.world.now();
        while let Some(&(at, request)) = self.askers.patience.front()
            && (at <= now || !self.askers.pending.contains_key(&request))
        {
            self.askers.patience.pop_front();
            if let Some(pending) = self.askers.pending.remove(&request) {
                self.failed(pending, false);
            }
        }
        self.set_patience();
    }
}

fn draw_key(keys: &Keys, tape: &mut holm_virtual::Tape) -> Key {
    if keys.until.is_empty() {
        return tape.choose(KEY, keys.count);
    }
    let drawn = tape.choose(KEY, 1 << 24);
    let at = keys.until.partition_point(|&until| until <= drawn);
    u32::try_from(at).expect("keys are few").min(keys.count - 1)
}
