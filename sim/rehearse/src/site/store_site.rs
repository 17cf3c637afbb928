//! The real thing at work: a replica over the real log and engine, driven as the engine's
//! thread drives it, in virtual time.
//!
//! What would surprise: an assertion that fails in here fails the run, and so does a folder that
//! does not open: both are what a rehearsal is for.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{ByteCount, ClusterId, NodeId, Prng, RequestId, Time, WriteId};
use holm_kv::command::{Command, Proposal, Range};
use holm_kv::{Config, HubConfig, StoreConfig};
use holm_local_first::{Island, Note, Slot};
use holm_log::LogConfig;
use holm_machine::{Effects, Turn};
use holm_raft::Configuration;
use holm_replica::{
    self as replica, Company, GroupConfig, HERE_BYTES_MAX, HERE_RECORDS_MAX, Message, Opened,
    Replica, Standing, open_in_group,
};
use holm_virtual::WallTime;

use super::deck::{Deck, GROUP};
use super::label::Sketch;
use super::labour::{self, Labour};
use super::readers::Readers;
use super::seat::Seat;
use super::wire::Form;
use super::{
    Answer, Berth, Effect, Event, Frame, Holding, Input, LeaseCall, LeaseReply, Request, Scene,
    Setup, Shore, Stand, Stored, Words, wire,
};
use crate::calls::{Call, Key, Reply, State};
use crate::run::facts::Bound;

/// The longest sleep, so that clocks of work that nobody announces are looked at.
const IDLE: Duration = Duration::from_millis(100);
/// How soon a node comes back to what it could not finish.
const SOON: Duration = Duration::from_micros(100);
/// How long a background job takes, if it does not take very long.
const JOB_NANOS: (u64, u64) = (1_000_000, 10_000_000);
/// One job in so many of a hunt takes up to an election.
const LONG_JOB: u64 = 8;

/// When worlds begin, for those whose clocks are right: a day in 2027.
pub(super) const BEGIN_UNIX_MS: u64 = 1_800_000_000_000;

/// What a wall clock says, in milliseconds of Unix time, so long after the beginning.
pub(crate) const fn unix_ms(since_ms: i64) -> u64 {
    BEGIN_UNIX_MS.saturating_add_signed(since_ms)
}

/// The room that most messages need.
const FRAME_ROOM: usize = 192;

/// What a client waits for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Write(Call),
    Read(Call),
    Lease(LeaseCall),
    Operation,
}

/// A replica and what drives it.
#[derive(Debug)]
pub(crate) struct StoreSite {
    replica: Replica,
    deck: Deck,
    election_timeout: Duration,
    is_tight: bool,
    prng: Prng,
    now: Time,
    /// Why it cannot go on.
    failed: Option<String>,
    wanted: Effects<replica::Effect>,
    asked: BTreeMap<RequestId, Asked>,
    readers: Readers,
    /// Writes under way: which, and since when.
    writes: Vec<(WriteId, Time)>,
    /// Durable, and not yet told to the replica, whose engine's files are behind.
    durable: Option<WriteId>,
    is_sweeping: bool,
    /// How it stands, once somebody has asked since the last step.
    standing: OnceCell<Standing>,
    labour: Labour,
    /// What waits for company, as the engine's thread has it; only where work costs
    /// something, for elsewhere the world holds back what it likes.
    company: Company,
    /// Empty: the memory for what leaves for a node at once.
    leaving: Vec<Message>,
    /// What came in waits for the end of the batch to be decided on.
    is_undecided: bool,
    /// When it wants to be woken. Asked several times a batch, and only a step changes it.
    due: Option<Time>,
    /// How what is written looks.
    form: Form,
    /// What the wall clock says, in milliseconds of Unix time; of account to islands alone.
    unix_ms: u64,
    /// Empty: the memory for what a step wants.
    own: Effects<Effect>,
    obeyed: Effects<replica::Effect>,
}

impl StoreSite {
    pub(super) fn start(setup: &Setup, node: NodeId, seed: u64, deck: &Deck) -> Self {
        let seat = Seat::of(setup, node, deck.seat());
        let group = group_config(setup, node, seat.as_ref());
        let open = || {
            let configs = (log_config(setup, node), config(setup, node, seat.as_ref()));
            open_in_group(&*deck.storage().root(), GROUP, configs, &group)
        };
        let mut opened = open();
        if opened.is_err() && (deck.storage().failed_syncs() > 0 || deck.is_full()) {
            // The disk failed while the node opened it, or had no room; somebody makes room, and
            // it starts once more.
            deck.turn_off();
            deck.set_full(false);
            opened = open();
        }
        let Opened { replica, log, .. } = match opened {
            Ok(opened) => opened,
            Err(error) => panic!("{node} does not open: {}", chain(&error)),
        };
        deck.hold(log);
        let readers = Readers::new(&replica, setup.is_tight);
        let mut site = Self {
            replica,
            deck: deck.clone(),
            election_timeout: setup.election_timeout,
            is_tight: setup.is_tight,
            prng: Prng::new(seed),
            now: Time::ZERO,
            failed: None,
            wanted: Effects::new(),
            asked: BTreeMap::new(),
            readers,
            writes: Vec::new(),
            durable: None,
            is_sweeping: false,
            standing: OnceCell::new(),
            labour: Labour::new(setup.costs.clone()),
            company: Company::default(),
            leaving: Vec::new(),
            is_undecided: false,
            due: None,
            form: Form::new(setup, node),
            unix_ms: BEGIN_UNIX_MS,
            own: Effects::new(),
            obeyed: Effects::new(),
        };
        site.due = site.next_wake();
        site
    }

    pub(super) fn stand(&self) -> Stand {
        let it = self.standing();
        Stand {
            role: it.role,
            term: it.term,
            leader: it.leader,
            commit: it.commit,
            applied: it.applied,
            last: it.last,
            durable: it.durable,
        }
    }

    pub(super) fn configuration(&self) -> &Configuration {
        &self.standing().configuration
    }

    fn standing(&self) -> &Standing {
        self.standing.get_or_init(|| self.replica.standing())
    }

    pub(super) fn revision(&self) -> u64 {
        let view = self.replica.keyspace().reader().view();
        wire::unsigned(view.root.revision().value())
    }

    pub(super) fn holding(&self) -> Holding {
        let view = self.replica.keyspace().reader().view();
        let all = view.read(&wire::range(0, wire::LAST_KEY));
        let found = wire::found(self.revision(), &all.expect("what is there can be read"));
        let mut state = State::new();
        state.revision = found.revision();
        if let Reply::Found { cells, .. } = found {
            for (key, cell) in cells {
                state.set(key, cell);
            }
        }
        let mut leases = Vec::new();
        view.each_lease(&mut |id, ttl, _left| leases.push((id, ttl)));
        Holding { state, leases }
    }

    /// A proposal as it is put into the log: an island's has its time.
    fn stamped(&self, proposal: &Proposal) -> Bytes {
        if self.form.is_island() {
            proposal.encode_at(self.unix_ms)
        } else {
            proposal.encode()
        }
    }

    pub(super) fn tell_wall(&mut self, now: Time, wall: WallTime) {
        if self.form.is_island() {
            let ms = unix_ms(wall.nanos / 1_000_000);
            self.unix_ms = ms;
            self.replica.set_wall(now, ms);
        }
    }

    pub(super) fn shore(&self) -> Option<Shore> {
        let island = self.replica.keyspace().island()?;
        let vector = island.vector().iter();
        Some(Shore {
            vector: vector.map(|(slot, seq)| (slot.value(), seq)).collect(),
            unix_ms: island.hlc().unix_ms(),
        })
    }

    pub(super) fn slot(&self) -> Option<Slot> {
        self.replica.keyspace().island().map(Island::slot)
    }

    pub(super) fn ended(&self) -> Option<Slot> {
        let island = self.replica.keyspace().island();
        island.filter(|it| it.is_ended()).map(Island::slot)
    }

    pub(super) fn berth(&self) -> Option<Berth> {
        let island = self.replica.keyspace().reader().view().island.clone()?;
        Some(Berth {
            slot: island.slot,
            epoch: island.epoch,
            vector: island.vector,
            stops: island.stops,
            set_back: island.set_back,
            is_set_back: self.replica.is_set_back(),
            neighbours: self.replica.neighbours(self.now),
        })
    }

    pub(super) fn scene(&self) -> Scene {
        let view = self.replica.keyspace().reader().view();
        let all = view.read(&wire::range(0, wire::LAST_KEY));
        let all = all.expect("what is there can be read");
        let (lines, _) = view.conflicts(None, usize::MAX);
        wire::scene(&all, lines.into_iter().map(|(_, line)| line))
    }

    pub(super) fn read_at(&self, (first, last): (Key, Key), revision: u64) -> Option<Reply> {
        let view = self.replica.keyspace().reader().view();
        let range = Range {
            revision: revision.cast_signed(),
            ..wire::range(first, last)
        };
        let found = view.read(&range).ok()?;
        Some(wire::found(revision, &found))
    }

    pub(super) fn watched_through(&self, request: RequestId) -> Option<u64> {
        self.readers.through(request)
    }

    pub(super) fn work_nanos(&self, turn: &Turn<Effect>) -> u64 {
        self.labour.of_batch(turn)
    }

    pub(super) fn log_nanos(&self, turn: &Turn<Effect>) -> u64 {
        self.labour.of_log(turn)
    }

    pub(super) fn log_bytes(&self, turn: &Turn<Effect>) -> u64 {
        labour::log_bytes(turn)
    }

    /// As the engine's thread decides it: one record, or a few that fill one block, and nobody
    /// else waits.
    pub(super) fn flushes_itself(&self, turn: &Turn<Effect>) -> bool {
        let is_small = match turn.records.len() {
            0 => false,
            1 => true,
            count => count <= HERE_RECORDS_MAX && labour::log_bytes(turn) <= HERE_BYTES_MAX as u64,
        };
        is_small && self.asked.len() <= 1
    }

    /// As a worker decides it that has read messages.
    pub(super) fn attends(&self, bytes: u64) -> bool {
        bytes <= HERE_BYTES_MAX as u64 && self.asked.len() <= 1
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        if self.failed.is_some() {
            return;
        }
        self.now = now;
        self.labour.count(&input);
        // Where work costs something, a batch is decided on as a whole: the driver's wake, which
        // is due at once, is its last input.
        self.is_undecided = self.labour.is_paid() && !matches!(input, Input::Wake);
        let mut own = std::mem::take(&mut self.own);
        let mut result = self.take(now, input, &mut own);
        if !self.is_undecided {
            result = result.and_then(|()| self.settle(now, &mut own));
        }
        match result {
            Ok(()) => {
                for effect in own.drain() {
                    effects.push(effect);
                }
            }
            Err(why) => {
                drop(own.drain());
                effects.push(Effect::Note(Event::Failed(why.clone())));
                self.failed = Some(why);
            }
        }
        self.own = own;
        self.due = self.next_wake();
    }

    pub(super) const fn wake_at(&self) -> Option<Time> {
        self.due
    }

    fn next_wake(&self) -> Option<Time> {
        if self.failed.is_some() {
            return None;
        }
        if self.is_undecided {
            return Some(self.now);
        }
        let soon = self.now + SOON;
        let mut due = self.now + IDLE;
        if let Some(at) = self.replica.wake_at() {
            due = due.min(at.max(soon));
        }
        if self.is_sweeping || self.readers.has_more() {
            due = due.min(soon);
        }
        if let Some(at) = self.deck.job_ends() {
            due = due.min(at.max(soon));
        }
        if let Some(at) = self.readers.resumes_at() {
            due = due.min(at.max(soon));
        }
        if let Some(at) = self.company.due() {
            due = due.min(at.max(soon));
        }
        Some(due)
    }

    fn take(
        &mut self,
        now: Time,
        input: Input,
        effects: &mut Effects<Effect>,
    ) -> Result<(), String> {
        match input {
            Input::Start => self.tell(now, replica::Input::Start),
            Input::Wake => Ok(()),
            Input::Durable { through } => {
                let begun = self.writes.iter().find(|(write, _)| *write <= through);
                let took = begun.map_or(Duration::ZERO, |(_, since)| now.since(*since));
                self.writes.retain(|(write, _)| *write > through);
                self.replica.log_synced(now, took);
                self.durable = Some(through);
                Ok(())
            }
            Input::Message {
                from,
                message: Words::Frame(frame),
            } => match Message::decode(frame.kind, &frame.body) {
                Ok(message) => {
                    self.company.hear(now, from, &message);
                    self.tell(now, replica::Input::Message { from, message })
                }
                Err(error) => {
                    let text = format!("a message of {from} cannot be read: {}", chain(&error));
                    effects.push(Effect::Note(Event::Broken(text)));
                    Ok(())
                }
            },
            Input::Message {
                message: Words::Raft(_),
                ..
            } => unreachable!("all nodes of a run are of one kind"),
            Input::Request { request, body } => self.request(now, request, body),
        }
    }

    fn tell(&mut self, now: Time, input: replica::Input) -> Result<(), String> {
        let stepped = self.replica.step(now, input, &mut self.wanted);
        stepped.map_err(|error| chain(&error))
    }

    fn request(&mut self, now: Time, request: RequestId, body: Request) -> Result<(), String> {
        let (asked, input) = match body {
            Request::Write(call, len) => {
                let (body, takes_space) = wire::proposal(&call, len, self.form);
                let body = self.stamped(&body);
                let input = replica::Input::Propose {
                    request,
                    body,
                    takes_space,
                };
                (Asked::Write(call), input)
            }
            Request::Read(call) => (Asked::Read(call), replica::Input::Read { request }),
            Request::Lease(call) => {
                let input = match (wire::lease_proposal(call), call) {
                    (Some(body), _) => replica::Input::Propose {
                        request,
                        body,
                        takes_space: matches!(call, LeaseCall::Grant { .. }),
                    },
                    (None, LeaseCall::TimeToLive { id: lease }) => {
                        replica::Input::LeaseTimeToLive {
                            request,
                            lease,
                            with_keys: false,
                        }
                    }
                    (
                        None,
                        LeaseCall::Renew { id: lease }
                        | LeaseCall::Grant { id: lease, .. }
                        | LeaseCall::Revoke { id: lease },
                    ) => replica::Input::LeaseRenew { request, lease },
                };
                (Asked::Lease(call), input)
            }
            Request::Operate(operation) => {
                let input = replica::Input::Operate { request, operation };
                (Asked::Operation, input)
            }
            Request::Watch(from) => {
                self.readers.open(request, from, now, &self.replica);
                return Ok(());
            }
            Request::Unwatch(watch) => {
                self.readers.close(watch);
                return Ok(());
            }
            Request::Progress(watch) => {
                self.readers.ask_progress(watch);
                return Ok(());
            }
            Request::Isle(call) => {
                let Some(entry) = wire::isle(call) else {
                    return Ok(());
                };
                let command = Command::Island(entry);
                let caller = None;
                let body = self.stamped(&Proposal { caller, command });
                let takes_space = false;
                // Nobody waits for it: what is not taken is asked for again.
                let input = replica::Input::Propose {
                    request,
                    body,
                    takes_space,
                };
                return self.tell(now, input);
            }
            Request::Suspect(peer) => return self.tell(now, replica::Input::Suspect { peer }),
        };
        self.asked.insert(request, asked);
        self.tell(now, input)
    }

    /// Lets the replica decide, and does what it wants, until it wants nothing more.
    fn settle(&mut self, now: Time, effects: &mut Effects<Effect>) -> Result<(), String> {
        loop {
            if !self.replica.must_wait()
                && let Some(through) = self.durable.take()
            {
                self.tell(now, replica::Input::Durable { through })?;
            }
            while let Some(done) = self.deck.run(now) {
                self.tell(now, replica::Input::WorkDone(done))?;
            }
            self.replica.settle(now, &mut self.wanted);
            // What obeying tells the replica may want more: that comes in the next round.
            let next = std::mem::take(&mut self.obeyed);
            let mut wanted = std::mem::replace(&mut self.wanted, next);
            let mut is_quiet = true;
            for effect in wanted.drain() {
                is_quiet &= self.obey(now, effect, effects)?;
            }
            self.obeyed = wanted;
            if is_quiet {
                break;
            }
        }
        while let Some(to) = self.company.ripe(now, &mut self.leaving) {
            for message in self.leaving.drain(..) {
                send(to, &message, None, effects);
            }
        }
        self.is_sweeping = self.replica.sweep();
        self.standing.take();
        self.readers
            .serve(now, &self.replica, &mut self.prng, effects);
        Ok(())
    }

    /// Does what the replica wants; whether that leaves it nothing new to decide.
    fn obey(
        &mut self,
        now: Time,
        effect: replica::Effect,
        effects: &mut Effects<Effect>,
    ) -> Result<bool, String> {
        match effect {
            replica::Effect::Persist { write, record } => {
                self.writes.push((write, now));
                let record = Stored::Store(record);
                effects.push(Effect::Persist { write, record });
            }
            replica::Effect::Answer { request, answer } => {
                if let Some(answer) = self.answer(request, answer) {
                    effects.push(Effect::Answer { request, answer });
                }
            }
            replica::Effect::Send { to, message, after } => {
                if self.labour.is_paid() {
                    let led = self.replica.led();
                    let leaving = &mut self.leaving;
                    self.company.pass(now, led, (to, message), leaving);
                    let last = leaving.len().saturating_sub(1);
                    for (place, message) in leaving.drain(..).enumerate() {
                        // What waited states nothing that is not durable.
                        let after = after.filter(|_| place == last);
                        send(to, &message, after, effects);
                    }
                } else {
                    send(to, &message, after, effects);
                }
            }
            replica::Effect::Fetch {
                first,
                last,
                bytes_max,
                peer,
            } => {
                let entries = self.deck.entries((first, last), bytes_max);
                let entries = entries.map_err(|error| chain(&error))?;
                self.tell(now, replica::Input::Fetched { peer, entries })?;
                return Ok(false);
            }
            replica::Effect::WakeStreams(streams) => self.replica.keyspace().hub().wake(&streams),
            replica::Effect::Work(job) => {
                let ends = now + self.job_takes();
                self.deck.begin(ends, job);
            }
            replica::Effect::CutLog { through } => self.deck.cut(through),
            replica::Effect::Note(event) => note(event, effects),
        }
        Ok(true)
    }

    fn job_takes(&mut self) -> Duration {
        let (least, most) = JOB_NANOS;
        let mut nanos = least + self.prng.below(most - least);
        if self.is_tight && self.prng.below(LONG_JOB) == 0 {
            let long = u64::try_from(self.election_timeout.as_nanos()).unwrap_or(u64::MAX);
            nanos += self.prng.below(long.max(1));
        }
        Duration::from_nanos(nanos)
    }

    fn answer(&mut self, request: RequestId, answer: replica::Answer) -> Option<Answer> {
        // Nobody waits for what the replica asked of itself.
        let asked = self.asked.remove(&request)?;
        Some(match (answer, asked) {
            (replica::Answer::Applied(Ok(applied)), Asked::Write(call)) => {
                wire::reply(&call, applied)
            }
            (replica::Answer::Applied(Ok(applied)), Asked::Lease(call)) => {
                wire::lease_reply(call, &applied)
            }
            (replica::Answer::Read, Asked::Read(call)) => self.read(&call),
            (replica::Answer::Renewed(Ok(ttl)), Asked::Lease(_)) => {
                Answer::Lease(LeaseReply::Renewed { ttl })
            }
            (replica::Answer::Renewed(Err(holm_kv::Refusal::LeaseNotFound)), Asked::Lease(_)) => {
                Answer::Lease(LeaseReply::Missing)
            }
            (replica::Answer::Lease(Ok(view)), Asked::Lease(_)) if view.ttl < 0 => {
                Answer::Lease(LeaseReply::Missing)
            }
            (replica::Answer::Lease(Ok(view)), Asked::Lease(_)) => {
                Answer::Lease(LeaseReply::Left {
                    ttl: view.ttl,
                    granted: view.granted_ttl,
                })
            }
            (replica::Answer::Operated(result), Asked::Operation) => Answer::Operated(result),
            (
                replica::Answer::Refused(refusal)
                | replica::Answer::Applied(Err(refusal))
                | replica::Answer::Renewed(Err(refusal))
                | replica::Answer::Lease(Err(refusal)),
                _,
            ) => refused(&refusal),
            (other, asked) => unreachable!("{asked:?} is not answered with {other:?}"),
        })
    }

    fn read(&self, call: &Call) -> Answer {
        let Call::Range { first, last } = *call else {
            unreachable!("only ranges are read, not {call:?}");
        };
        let view = self.replica.keyspace().reader().view();
        let revision = wire::unsigned(view.root.revision().value());
        match view.read(&wire::range(first, last)) {
            Ok(outcome) => Answer::Done(wire::found(revision, &outcome)),
            Err(_) => Answer::Refused,
        }
    }
}

fn note(event: replica::Event, effects: &mut Effects<Effect>) {
    let event = match event {
        replica::Event::Raft(event) => Event::Raft(event),
        replica::Event::Broken { what } => Event::Broken(what.to_owned()),
        replica::Event::Island(Note::Held(dot, _)) => Event::Held(dot.slot.value()),
        replica::Event::Island(Note::Forked(dot) | Note::SetBack(dot)) => {
            Event::Forked(dot.slot.value())
        }
        replica::Event::Island(Note::Astray(dot)) => Event::Astray(dot.slot.value()),
        other @ (replica::Event::Solo(_)
        | replica::Event::Island(
            Note::Refused(_) | Note::SessionOpened(_) | Note::SessionDone(_),
        )
        | replica::Event::Leads { .. }
        | replica::Event::Follows
        | replica::Event::Flooded { .. }
        | replica::Event::SnapshotMade { .. }) => match Bound::of(&other) {
            Some(bound) => Event::Bound(bound),
            None => return,
        },
    };
    effects.push(Effect::Note(event));
}

/// Whether what was refused may have happened.
fn refused(refusal: &holm_kv::Refusal) -> Answer {
    use holm_kv::Refusal;
    if matches!(
        refusal,
        Refusal::LeaderChanged | Refusal::TimedOut | Refusal::Stopped
    ) {
        Answer::Unknown
    } else {
        Answer::Refused
    }
}

fn send(to: NodeId, message: &Message, after: Option<WriteId>, effects: &mut Effects<Effect>) {
    let message = Words::Frame(frame(message));
    effects.push(Effect::Send { to, message, after });
}

fn frame(message: &Message) -> Frame {
    let sketch = match message {
        Message::Raft(message) => Sketch::of(message),
        Message::Ask(_) => Sketch::plain("ask"),
        Message::Told(_) => Sketch::plain("told"),
        Message::Island(..) => Sketch::plain("island"),
    };
    let mut body = BytesMut::with_capacity(FRAME_ROOM);
    message.encode(&mut body);
    Frame {
        kind: message.kind(),
        body: body.freeze(),
        sketch,
    }
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn group_config(setup: &Setup, node: NodeId, seat: Option<&Seat>) -> GroupConfig {
    let usual = GroupConfig::new(node, voters(setup, node));
    let usual = GroupConfig {
        election_timeout: setup.election_timeout,
        heartbeat_interval: setup.heartbeat_interval,
        shores: seat.map(Seat::shores),
        ..usual
    };
    match setup.kept {
        None => usual,
        // Nothing is kept beyond it, and a snapshot of a few keys has several chunks.
        Some(kept_ops) => GroupConfig {
            kept_ops,
            laggard_bytes_min: 0,
            chunk_bytes: if setup.is_tight {
                256
            } else {
                usual.chunk_bytes
            },
            ..usual
        },
    }
}

fn voters(setup: &Setup, node: NodeId) -> Vec<NodeId> {
    if let Some(isles) = &setup.islands {
        return isles.mates(node);
    }
    let all = if node.value() <= setup.voters {
        setup.voters
    } else {
        0
    };
    (1..=all).map(NodeId::new).collect()
}

fn log_config(setup: &Setup, node: NodeId) -> LogConfig {
    let room = (u64::from(setup.value_bytes_max) * 8).next_multiple_of(4096);
    let least = if setup.is_tight { 32 << 10 } else { 1 << 20 };
    LogConfig {
        segment_bytes: ByteCount::new(room.max(least)),
        has_peers: true,
        ..LogConfig::new(ClusterId::new(1), node)
    }
}

fn config(setup: &Setup, node: NodeId, seat: Option<&Seat>) -> Config {
    let usual = Config {
        node,
        free_bytes_min: 0,
        election_timeout: setup.election_timeout,
        island: seat
            .zip(setup.islands.as_ref())
            .map(|(it, isles)| it.island(isles)),
        ..Config::default()
    };
    if !setup.is_tight {
        let store = StoreConfig {
            segment_bytes: ByteCount::new(4 << 20),
            checkpoint_bytes_min: ByteCount::new(4 << 20),
            ..StoreConfig::default()
        };
        return Config { store, ..usual };
    }
    Config {
        lease_checkpoint_interval: Duration::from_secs(2),
        hub: HubConfig {
            ring_revisions: 6,
            catch_up_bytes: 300,
            ..HubConfig::default()
        },
        store: StoreConfig {
            segment_bytes: ByteCount::new(16 << 10),
            flush_bytes: ByteCount::new(1 << 10),
            flush_after: Duration::from_millis(100),
            unflushed_bytes_max: ByteCount::new(16 << 10),
            checkpoint_bytes_min: ByteCount::new(4 << 10),
            ..StoreConfig::default()
        },
        ..usual
    }
}
