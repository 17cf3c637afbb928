//! A replicated register of four cells: the smallest protocol that has terms, votes, durability
//! and a commit point, and can therefore be wrong in all the interesting ways.
//!
//! Nodes copy whole states, not logs: a state names its term, its revision and its last write,
//! and holds everything before. A leader proposes revision `r + 1` only once `r` is committed,
//! so whoever commits a revision knows the one write that made it.

use std::collections::VecDeque;
use std::time::Duration;

use holm_base::{NodeId, Prng, RequestId, Time, WriteId};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order};
use holm_virtual::{Node, Records, Want};

pub(crate) const CELLS: usize = 4;
const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION_MIN: Duration = Duration::from_millis(150);
const ELECTION_SPREAD_NANOS: u64 = 150_000_000;
const QUEUE_MAX: usize = 16;

/// What is wrong with this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A follower acknowledges what is not durable yet.
    AckBeforeDurable,
    /// A vote leaves before it is durable.
    VoteBeforeDurable,
    /// A leader commits what only it has.
    CommitsAlone,
    /// A leader reads without asking whether it still leads.
    ReadsAlone,
    /// A follower answers only to what is new, so a lost answer is lost for good.
    AnswersOnlyNews,
    /// A notice that a term is over reads like a vote in the new one.
    NoticeCountsAsVote,
    /// Who is written to first depends on a seed of the process.
    HashOrder,
    /// Timeouts depend on where memory lies.
    Address,
    /// Timeouts depend on how many machines this process has made.
    Static,
    /// Timeouts depend on the date.
    WallClock,
}

/// What makes a run depend on more than its tape.
pub(crate) const IMPURE: [Bug; 4] = [Bug::HashOrder, Bug::Static, Bug::WallClock, Bug::Address];

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: u64,
    pub(crate) bug: Bug,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) value: u64,
    pub(crate) revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// In which term it was proposed, or proposed again.
    pub(crate) term: u64,
    pub(crate) revision: u64,
    /// The cell that the last write changed.
    pub(crate) last: usize,
    pub(crate) cells: [Cell; CELLS],
}

impl State {
    const fn fresh() -> Self {
        Self {
            term: 0,
            revision: 1,
            last: 0,
            cells: [Cell {
                value: 0,
                revision: 0,
            }; CELLS],
        }
    }

    const fn place(&self) -> (u64, u64) {
        (self.term, self.revision)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    Vote {
        term: u64,
        last: (u64, u64),
    },
    Granted {
        term: u64,
    },
    /// Your term is over.
    Stale {
        term: u64,
    },
    Copy {
        term: u64,
        round: u64,
        state: State,
    },
    Copied {
        term: u64,
        round: u64,
        revision: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Put { cell: usize, value: u64 },
    Get { cell: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Put {
        revision: u64,
    },
    Get {
        revision: u64,
        value: u64,
    },
    /// Nothing happened; ask another.
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Nothing happened; ask again.
    Busy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    LeaderElected {
        term: u64,
    },
    Committed {
        revision: u64,
        cell: usize,
        value: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Record {
    Hard { term: u64, vote: Option<NodeId> },
    Accepted { state: State },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Wake,
    Durable { through: WriteId },
    Message { from: NodeId, message: Message },
    Request { request: RequestId, body: Request },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Persist {
        write: WriteId,
        record: Record,
    },
    Send {
        to: NodeId,
        message: Message,
        after: Option<WriteId>,
    },
    Answer {
        request: RequestId,
        answer: Answer,
    },
    Note(Event),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Follower { leader: Option<NodeId> },
    Candidate { granted: Vec<NodeId> },
    Leader(Leader),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Leader {
    /// Of each peer: the revision of this term that it has, and the round it answered.
    peers: Vec<(NodeId, u64, u64)>,
    /// What it has itself on disk.
    own: u64,
    round: u64,
    /// `None` until something of this term is committed.
    committed: Option<State>,
    proposed: Option<RequestId>,
    puts: VecDeque<(RequestId, usize, u64)>,
    reads: VecDeque<(RequestId, usize, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    id: NodeId,
    peers: Vec<NodeId>,
    bug: Bug,
    prng: Prng,
    term: u64,
    vote: Option<NodeId>,
    state: State,
    /// The write that made `state` durable.
    state_write: WriteId,
    next_write: WriteId,
    role: Role,
    deadline: Time,
}

impl Register {
    pub(crate) fn role(&self) -> &'static str {
        match self.role {
            Role::Follower { .. } => "follower",
            Role::Candidate { .. } => "candidate",
            Role::Leader(_) => "leader",
        }
    }

    pub(crate) const fn term(&self) -> u64 {
        self.term
    }

    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// The newest state that this node, as a leader, knows to be committed.
    pub(crate) fn committed(&self) -> Option<&State> {
        match &self.role {
            Role::Leader(leader) => leader.committed.as_ref(),
            Role::Follower { .. } | Role::Candidate { .. } => None,
        }
    }

    fn persist(&mut self, record: Record, effects: &mut Effects<Effect>) -> WriteId {
        let write = self.next_write;
        self.next_write = write.next();
        effects.push(Effect::Persist { write, record });
        write
    }

    fn persist_hard(&mut self, effects: &mut Effects<Effect>) -> WriteId {
        let (term, vote) = (self.term, self.vote);
        self.persist(Record::Hard { term, vote }, effects)
    }

    fn accept(&mut self, state: State, effects: &mut Effects<Effect>) {
        self.state = state;
        self.state_write = self.persist(Record::Accepted { state }, effects);
    }

    fn await_election(&mut self, now: Time) {
        let spread = self.prng.below(ELECTION_SPREAD_NANOS) + self.impurity();
        self.deadline = now + ELECTION_MIN + Duration::from_nanos(spread);
    }

    /// What a pure machine must not have: a planted fault that a gate must catch.
    fn impurity(&self) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};
        static MADE: AtomicU64 = AtomicU64::new(0);
        match self.bug {
            Bug::Address => {
                let place = std::ptr::from_ref(self).addr();
                u64::try_from(place).expect("an address fits") % 1_000_003
            }
            Bug::Static => MADE.fetch_add(1, Ordering::Relaxed),
            Bug::WallClock => {
                let since = std::time::UNIX_EPOCH.elapsed();
                u64::from(since.map_or(0, |since| since.subsec_nanos()))
            }
            _ => 0,
        }
    }

    fn follow(&mut self, now: Time, leader: Option<NodeId>, effects: &mut Effects<Effect>) {
        let before = std::mem::replace(&mut self.role, Role::Follower { leader });
        if let Role::Leader(left) = before {
            // What was proposed may yet be committed; what only waited may not.
            let waiting = left.puts.iter().chain(&left.reads);
            for &(request, ..) in waiting {
                let answer = Answer::NotLeader { leader };
                effects.push(Effect::Answer { request, answer });
            }
        }
        self.await_election(now);
    }

    fn stand(&mut self, now: Time, effects: &mut Effects<Effect>) {
        self.term += 1;
        self.vote = Some(self.id);
        self.role = Role::Candidate {
            granted: Vec::new(),
        };
        let write = self.persist_hard(effects);
        self.await_election(now);
        let (term, last) = (self.term, self.state.place());
        for to in self.peers.clone() {
            let message = Message::Vote { term, last };
            let after = Some(write);
            effects.push(Effect::Send { to, message, after });
        }
        if self.peers.is_empty() {
            self.lead(now, effects);
        }
    }

    fn lead(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let term = self.term;
        self.role = Role::Leader(Leader {
            peers: self.peers.iter().map(|&peer| (peer, 0, 0)).collect(),
            own: 0,
            round: 0,
            committed: None,
            proposed: None,
            puts: VecDeque::new(),
            reads: VecDeque::new(),
        });
        effects.push(Effect::Note(Event::LeaderElected { term }));
        let state = State { term, ..self.state };
        self.accept(state, effects);
        self.broadcast(now, effects);
    }

    fn broadcast(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        leader.round += 1;
        let message = Message::Copy {
            term: self.term,
            round: leader.round,
            state: self.state,
        };
        self.deadline = now + HEARTBEAT;
        let mut peers = self.peers.clone();
        if self.bug == Bug::HashOrder {
            use std::hash::BuildHasher;
            let random = std::hash::RandomState::new();
            peers.sort_by_key(|peer| random.hash_one(peer));
        }
        for to in peers {
            effects.push(Effect::Send {
                to,
                message,
                after: None,
            });
        }
    }

    fn message(
        &mut self,
        now: Time,
        from: NodeId,
        message: Message,
        effects: &mut Effects<Effect>,
    ) {
        let (Message::Vote { term, .. }
        | Message::Granted { term }
        | Message::Stale { term }
        | Message::Copy { term, .. }
        | Message::Copied { term, .. }) = message;
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.persist_hard(effects);
            self.follow(now, None, effects);
        }
        match message {
            Message::Vote { term, last } => self.vote(now, from, term, last, effects),
            Message::Granted { term } => self.granted(now, from, term, effects),
            Message::Copy { term, round, state } => {
                if term == self.term {
                    self.copy(now, from, round, state, effects);
                } else {
                    let term = self.term;
                    // The first build said `Granted` here, and an old leader that stood again
                    // in this very term took it for a vote: the simulator's first catch.
                    let message = match self.bug {
                        Bug::NoticeCountsAsVote => Message::Granted { term },
                        _ => Message::Stale { term },
                    };
                    effects.push(Effect::Send {
                        to: from,
                        message,
                        after: None,
                    });
                }
            }
            Message::Stale { .. } => {}
            Message::Copied {
                term,
                round,
                revision,
            } => {
                if term == self.term {
                    self.copied(from, round, revision);
                    self.settle(now, effects);
                }
            }
        }
    }

    fn vote(
        &mut self,
        now: Time,
        from: NodeId,
        term: u64,
        last: (u64, u64),
        effects: &mut Effects<Effect>,
    ) {
        let is_free = self.vote.is_none_or(|vote| vote == from);
        let follows = matches!(self.role, Role::Follower { .. });
        if term != self.term || !is_free || !follows || last < self.state.place() {
            return;
        }
        self.vote = Some(from);
        let write = self.persist_hard(effects);
        self.await_election(now);
        let after = (self.bug != Bug::VoteBeforeDurable).then_some(write);
        let message = Message::Granted { term };
        effects.push(Effect::Send {
            to: from,
            message,
            after,
        });
    }

    fn granted(&mut self, now: Time, from: NodeId, term: u64, effects: &mut Effects<Effect>) {
        let majority = self.peers.len().div_ceil(2);
        let Role::Candidate { granted } = &mut self.role else {
            return;
        };
        if term != self.term || granted.contains(&from) {
            return;
        }
        granted.push(from);
        // With its own vote these are a majority.
        if granted.len() >= majority {
            self.lead(now, effects);
        }
    }

    fn copy(
        &mut self,
        now: Time,
        from: NodeId,
        round: u64,
        state: State,
        effects: &mut Effects<Effect>,
    ) {
        if matches!(self.role, Role::Leader(_)) {
            // Two leaders of one term: the run's judge has heard both elections.
            return;
        }
        self.follow(now, Some(from), effects);
        let is_news = state.place() > self.state.place();
        if is_news {
            self.accept(state, effects);
        }
        if !is_news && self.bug == Bug::AnswersOnlyNews {
            return;
        }
        let message = Message::Copied {
            term: self.term,
            round,
            revision: self.state.revision,
        };
        let after = (self.bug != Bug::AckBeforeDurable).then_some(self.state_write);
        effects.push(Effect::Send {
            to: from,
            message,
            after,
        });
    }

    fn copied(&mut self, from: NodeId, round: u64, revision: u64) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let peer = leader.peers.iter_mut().find(|(peer, ..)| *peer == from);
        if let Some((_, known, answered)) = peer {
            *known = revision.max(*known);
            *answered = round.max(*answered);
        }
    }

    /// Commits and answers what a majority allows.
    fn settle(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let others = self.peers.len().div_ceil(2);
        let alone = self.bug == Bug::CommitsAlone;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let revision = self.state.revision;
        let have = leader
            .peers
            .iter()
            .filter(|(_, known, _)| *known == revision);
        let is_safe = leader.own == revision && (alone || have.count() >= others);
        let is_new = leader
            .committed
            .is_none_or(|state| state.revision < revision);
        if is_safe && is_new {
            leader.committed = Some(self.state);
            if revision > 1 {
                let (cell, value) = (self.state.last, self.state.cells[self.state.last].value);
                effects.push(Effect::Note(Event::Committed {
                    revision,
                    cell,
                    value,
                }));
            }
            if let Some(request) = leader.proposed.take() {
                let answer = Answer::Put { revision };
                effects.push(Effect::Answer { request, answer });
            }
        }
        self.read(effects);
        self.propose(now, effects);
    }

    fn read(&mut self, effects: &mut Effects<Effect>) {
        let others = self.peers.len().div_ceil(2);
        let alone = self.bug == Bug::ReadsAlone;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let Some(state) = leader.committed else {
            return;
        };
        while let Some(&(request, cell, round)) = leader.reads.front() {
            let heard = leader.peers.iter().filter(|(_, _, at)| *at >= round);
            if !alone && heard.count() < others {
                return;
            }
            leader.reads.pop_front();
            let (revision, value) = (state.revision, state.cells[cell].value);
            let answer = Answer::Get { revision, value };
            effects.push(Effect::Answer { request, answer });
        }
    }

    fn propose(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let at_rest = leader.committed.is_some_and(|state| state == self.state);
        if !at_rest || leader.proposed.is_some() {
            return;
        }
        let Some((request, cell, value)) = leader.puts.pop_front() else {
            return;
        };
        leader.proposed = Some(request);
        let mut state = self.state;
        state.revision += 1;
        state.last = cell;
        state.cells[cell] = Cell {
            value,
            revision: state.revision,
        };
        self.accept(state, effects);
        self.broadcast(now, effects);
    }

    fn request(
        &mut self,
        now: Time,
        request: RequestId,
        body: Request,
        effects: &mut Effects<Effect>,
    ) {
        let leader = match &mut self.role {
            Role::Leader(leader) => leader,
            Role::Follower { leader } => {
                let answer = Answer::NotLeader { leader: *leader };
                effects.push(Effect::Answer { request, answer });
                return;
            }
            Role::Candidate { .. } => {
                let answer = Answer::NotLeader { leader: None };
                effects.push(Effect::Answer { request, answer });
                return;
            }
        };
        if leader.puts.len() + leader.reads.len() >= QUEUE_MAX {
            let answer = Answer::Busy;
            effects.push(Effect::Answer { request, answer });
            return;
        }
        match body {
            Request::Put { cell, value } => {
                leader.puts.push_back((request, cell, value));
                self.propose(now, effects);
            }
            Request::Get { cell } => {
                leader.reads.push_back((request, cell, leader.round + 1));
                self.broadcast(now, effects);
                self.read(effects);
            }
        }
    }

    fn durable(&mut self, now: Time, through: WriteId, effects: &mut Effects<Effect>) {
        let (write, revision) = (self.state_write, self.state.revision);
        if let Role::Leader(leader) = &mut self.role
            && through >= write
        {
            leader.own = revision;
            self.settle(now, effects);
        }
    }
}

impl Machine for Register {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Wake if now < self.deadline => {}
            Input::Wake => match self.role {
                Role::Leader(_) => self.broadcast(now, effects),
                Role::Follower { .. } | Role::Candidate { .. } => self.stand(now, effects),
            },
            Input::Durable { through } => self.durable(now, through, effects),
            Input::Message { from, message } => self.message(now, from, message, effects),
            Input::Request { request, body } => self.request(now, request, body, effects),
        }
    }

    fn wake_at(&self) -> Option<Time> {
        Some(self.deadline)
    }
}

impl Driven for Register {
    fn order(effect: &Effect) -> Order {
        match effect {
            Effect::Persist { write, .. } => Order::Persist { write: *write },
            Effect::Send { after, .. } => Order::Leave { after: *after },
            Effect::Answer { .. } | Effect::Note(_) => Order::Leave { after: None },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Wake | Input::Durable { .. } => Class::Own,
            Input::Message { .. } => Class::Peer,
            Input::Request { .. } => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(through: WriteId) -> Input {
        Input::Durable { through }
    }
}

impl Observe for Register {
    fn label(&self, input: &Input) -> Label {
        let role = self.role();
        match input {
            Input::Wake => Label::plain("wake", role),
            Input::Durable { .. } => Label::plain("durable", role),
            Input::Request { .. } => Label::plain("request", role),
            Input::Message { message, .. } => {
                let (kind, term, op) = match message {
                    Message::Vote { term, last } => ("vote", term, Some(last.1)),
                    Message::Granted { term } => ("granted", term, None),
                    Message::Stale { term } => ("stale", term, None),
                    Message::Copy { term, state, .. } => ("copy", term, Some(state.revision)),
                    Message::Copied { term, revision, .. } => ("copied", term, Some(*revision)),
                };
                Label {
                    kind,
                    role,
                    term: Some(term.cmp(&self.term)),
                    op: op.map(|op| op.cmp(&self.state.revision)),
                }
            }
        }
    }
}

impl Node for Register {
    type Setup = Setup;
    type Message = Message;
    type Request = Request;
    type Answer = Answer;
    type Event = Event;
    type Record = Record;
    type Shelf = Records<Record>;

    fn boot(setup: &Setup, id: NodeId, seed: u64, shelf: &Self::Shelf) -> Self {
        use holm_virtual::Shelf;
        let all = (1..=setup.nodes).map(NodeId::new);
        let mut register = Self {
            id,
            peers: all.filter(|&other| other != id).collect(),
            bug: setup.bug,
            prng: Prng::new(seed),
            term: 0,
            vote: None,
            state: State::fresh(),
            state_write: WriteId::ZERO,
            next_write: WriteId::new(1),
            role: Role::Follower { leader: None },
            deadline: Time::ZERO,
        };
        for record in shelf.records() {
            match record {
                Record::Hard { term, vote } => (register.term, register.vote) = (term, vote),
                Record::Accepted { state } => register.state = state,
            }
        }
        register.await_election(Time::ZERO);
        register
    }

    fn message(from: NodeId, message: Message) -> Input {
        Input::Message { from, message }
    }

    fn request(request: RequestId, body: Request) -> Input {
        Input::Request { request, body }
    }

    fn want(effect: Effect) -> Want<Self> {
        match effect {
            Effect::Persist { write, record } => Want::Persist { write, record },
            Effect::Send { to, message, .. } => Want::Send { to, message },
            Effect::Answer { request, answer } => Want::Answer { request, answer },
            Effect::Note(event) => Want::Note(event),
        }
    }

    fn unavailable() -> Answer {
        Answer::Busy
    }

    fn check(&self) {
        assert!(self.state.term <= self.term, "a state is of no later term");
        if let Role::Leader(leader) = &self.role {
            let committed = leader.committed.map_or(0, |state| state.revision);
            assert!(
                committed <= self.state.revision,
                "a leader has what it committed"
            );
            assert_eq!(
                self.state.term, self.term,
                "a leader's state is of its term"
            );
        }
    }
}
