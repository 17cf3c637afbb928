//! The calls of a connection: where each stands, when its time is up, and how it ends.
//!
//! ```text
//!  Began ─► Arriving ─► (ready) ─► answered at once ──────────────► Lingering ─► free
//!      │                      └──► Running: a future ── answered ──┘
//!      ├─► Running: streams and waits for others ── Done ──────────┘
//!      ├─► Watch: no future, the hub rings ── ended ───────────────┤
//!      └─► Covering: what its client has seen ──► Watch ───────────┘
//! ```
//!
//! A call lingers if it was answered before its client had said everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use holm_http2::{Event, Head, Key, Reason};
use tokio::time::Instant;

use super::call::{CallHead, Given, GrpcCall, Kind, Outcome, Peer, Work, arrived, not_in_time};
use super::method::Method;
use super::ring::{Note, Pen, Ring};
use super::watch::{Groups, Moment, WatchCall, stopped};
use super::wire::{Cord, State};
use super::{hot, streams};
use crate::status::{Code, Status};

/// The calls of a connection.
pub(crate) struct Calls {
    peer: Arc<Peer>,
    ring: Arc<Ring>,
    places: Vec<Place>,
    /// Short calls whose message has come.
    ready: Vec<GrpcCall>,
    /// Calls that are not over, but for those that linger.
    count: usize,
    groups: Groups,
    /// Watch streams that demand a leader.
    demanding: usize,
    /// The head that came last, and what it says.
    newest: Option<Arc<CallHead>>,
    /// The earliest of all times at which something is to be done for a call.
    due: Option<Instant>,
    rung: Vec<Key>,
    /// What must not be dropped while the wire is locked.
    dropped: Vec<Work>,
}

/// A stream's place among the calls.
struct Place {
    key: Key,
    pen: Arc<Pen>,
    waker: Waker,
    stand: Stand,
    due: Option<Instant>,
}

/// Where a call stands.
enum Stand {
    Free,
    /// Its one message is awaited.
    Arriving(Short),
    /// Its one answer is made.
    Running(Short, Work),
    /// It streams, or waits for others.
    Long(Work),
    /// A watch whose client has seen what may not be here yet.
    Covering(Short, Work),
    Watch(Box<WatchCall>),
    Lingering,
}

/// A call of one request and one answer.
#[derive(Clone, Debug)]
struct Short {
    method: Method,
    head: Arc<CallHead>,
    begun: Instant,
    /// How long it may take in all, if there is a limit.
    limit: Option<Duration>,
    /// Whether its message has come, and it waits to be run.
    has_come: bool,
}

impl Calls {
    pub(crate) fn new(peer: &Arc<Peer>, ring: &Arc<Ring>) -> Self {
        Self {
            peer: Arc::clone(peer),
            ring: Arc::clone(ring),
            places: Vec::new(),
            ready: Vec::new(),
            count: 0,
            groups: Groups::default(),
            demanding: 0,
            newest: None,
            due: None,
            rung: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// How many are in hand.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// When to look at the clock next.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes what came on a stream.
    pub(crate) fn take(&mut self, state: &mut State, event: Event<'_>) {
        match event {
            Event::Began {
                key,
                head,
                is_whole,
            } => self.begin(state, key, &head, is_whole),
            Event::Data {
                key,
                bytes,
                is_last,
            } => self.hear(state, key, bytes, is_last),
            Event::Ended { key } => self.hear(state, key, &[], true),
            Event::Reset { key, reason: _ } | Event::Over { key } => self.give_up(state, key),
            Event::Pinged | Event::Failed { reason: _ } => {}
        }
    }

    fn begin(&mut self, state: &mut State, key: Key, head: &Arc<Head>, is_whole: bool) {
        let server = &self.peer.server;
        state.open(key, server.limits.message_bytes_max, &server.ledger);
        self.place(key);
        let head = self.read_head(head);
        match head.kind {
            Kind::Grpc(Method::Watch) => self.begin_watch(state, key, &head),
            Kind::Grpc(method) if method.is_long() => {
                let call = GrpcCall::new(&self.peer, method, &head, key);
                self.start(key, Stand::Long(Box::pin(streams::run(call))));
            }
            Kind::Grpc(method) => self.begin_short(state, key, method, head),
            Kind::Web => {
                let (web, cord) = (self.peer.server.web.clone(), self.cord(key));
                let head = Arc::clone(&head.head);
                let work = async move {
                    web.answer_over_http2(cord, &head).await;
                    Outcome::Done
                };
                self.start(key, Stand::Long(Box::pin(work)));
            }
            Kind::Unknown => {
                let path = String::from_utf8_lossy(&head.head.path);
                let status = Status::new(Code::Unimplemented, format!("unknown method {path}"));
                state.refuse(key, &status, None);
                self.linger(state, key);
            }
        }
        if is_whole {
            self.hear(state, key, &[], true);
        }
    }

    fn read_head(&mut self, head: &Arc<Head>) -> Arc<CallHead> {
        if let Some(newest) = &self.newest
            && Arc::ptr_eq(&newest.head, head)
        {
            return Arc::clone(newest);
        }
        let read = CallHead::read(head);
        self.newest = Some(Arc::clone(&read));
        read
    }

    fn begin_short(&mut self, state: &mut State, key: Key, method: Method, head: Arc<CallHead>) {
        let counters = self.peer.server.counters(method);
        let begun = Instant::from_std(counters.start());
        let call = GrpcCall::new(&self.peer, method, &head, key);
        // What is refused here needs no message for it.
        if let Err(status) = call.admit() {
            let island = call.island();
            state.refuse(key, &status, island.as_deref());
            counters.finish(usize::from(status.code().number()), begun.into_std());
            self.linger(state, key);
            return;
        }
        let limit = call.time_left();
        let arrival = self.peer.server.limits.arrival_timeout;
        self.places[key.slot].stand = Stand::Arriving(Short {
            method,
            head,
            begun,
            limit: Some(limit),
            has_come: false,
        });
        self.count += 1;
        self.set_due(key, Some(begun + limit.min(arrival)));
    }

    /// Begins a watch stream, at once or when what its client has seen is here.
    fn begin_watch(&mut self, state: &mut State, key: Key, head: &Arc<CallHead>) {
        let begun = Instant::from_std(self.peer.server.counters(Method::Watch).start());
        let short = Short {
            method: Method::Watch,
            head: Arc::clone(head),
            begun,
            limit: None,
            has_come: false,
        };
        if head.causal.is_none() {
            self.admit_watch(state, key, &short);
            return;
        }
        let call = GrpcCall::new(&self.peer, Method::Watch, head, key);
        self.start(key, Stand::Covering(short, Box::pin(call.run_cover())));
    }

    fn admit_watch(&mut self, state: &mut State, key: Key, short: &Short) {
        let call = GrpcCall::new(&self.peer, Method::Watch, &short.head, key);
        let is_stopping = *self.peer.stop.borrow();
        let admitted = if is_stopping {
            Err(stopped())
        } else {
            call.admit()
        };
        if let Err(status) = admitted {
            self.refuse_watch(state, &call, (&status, short.begun));
            return;
        }
        let groups = (&mut self.groups, &self.ring);
        let watch = WatchCall::begin((&self.peer, state), key, &short.head, short.begun, groups);
        self.demanding += usize::from(watch.demands_leader);
        self.places[key.slot].stand = Stand::Watch(Box::new(watch));
        self.count += 1;
    }

    fn refuse_watch(&mut self, state: &mut State, call: &GrpcCall, why: (&Status, Instant)) {
        let (status, begun) = why;
        state.refuse(call.key, status, call.island().as_deref());
        let counters = self.peer.server.counters(Method::Watch);
        counters.finish(usize::from(status.code().number()), begun.into_std());
        self.linger(state, call.key);
    }

    /// What a watch's client has seen is here, or will not be in time.
    fn covered(&mut self, key: Key, short: &Short, covered: Result<(), Status>) {
        self.count -= 1;
        let wire = Arc::clone(&self.peer.wire);
        let mut state = wire.lock();
        match covered {
            // What it asked for has come meanwhile.
            Ok(()) => {
                self.admit_watch(&mut state, key, short);
                self.listen(&mut state, key);
            }
            Err(status) => {
                let call = GrpcCall::new(&self.peer, Method::Watch, &short.head, key);
                self.refuse_watch(&mut state, &call, (&status, short.begun));
            }
        }
    }

    /// Lets a watch stream act on what its client has said.
    fn listen(&mut self, state: &mut State, key: Key) {
        let Stand::Watch(watch) = &mut self.places[key.slot].stand else {
            return;
        };
        let heard = watch.listen(&self.peer, state);
        let due = watch.due;
        match heard {
            Ok(()) => self.set_due(key, due),
            Err(status) => self.end_watch(state, key, &status),
        }
    }

    /// Begins a call that runs beside others, when it is its turn.
    fn start(&mut self, key: Key, stand: Stand) {
        let place = &mut self.places[key.slot];
        place.stand = stand;
        place.pen.write();
        self.count += 1;
    }

    /// A piece of a request, or its end.
    fn hear(&mut self, state: &mut State, key: Key, bytes: &[u8], is_last: bool) {
        let Some(place) = self.places.get_mut(key.slot).filter(|it| it.key == key) else {
            return;
        };
        match &mut place.stand {
            Stand::Arriving(short) if !short.has_come => {
                let Some(intake) = state.intake(key) else {
                    return;
                };
                let come = match intake.inbound.whole(bytes) {
                    Some(message) => {
                        state.http.release(key, bytes.len());
                        Ok(message)
                    }
                    None => {
                        state.add(key, bytes, is_last);
                        match state.next_message(key) {
                            Ok(Some(message)) => arrived(Ok(message)),
                            Ok(None) => return,
                            Err(status) => Err(status),
                        }
                    }
                };
                let mut call = GrpcCall::new(&self.peer, short.method, &short.head, key);
                call.come = Some(come);
                short.has_come = true;
                self.ready.push(call);
            }
            Stand::Watch(_) => {
                state.add(key, bytes, is_last);
                self.listen(state, key);
            }
            Stand::Long(_) | Stand::Covering(..) => state.add(key, bytes, is_last),
            Stand::Arriving(_) | Stand::Running(..) | Stand::Lingering | Stand::Free => {
                state.http.release(key, bytes.len());
            }
        }
    }

    /// Runs the short calls whose messages have come. All that came has been accepted by then.
    pub(crate) fn run_ready(&mut self) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let is_alone = self.ready.len() == 1 && self.count == 1;
        self.peer.is_alone.store(is_alone, Ordering::Relaxed);
        let mut ready = std::mem::take(&mut self.ready);
        for call in ready.drain(..) {
            self.run(call);
        }
        self.ready = ready;
        true
    }

    fn run(&mut self, mut call: GrpcCall) {
        let key = call.key;
        let Some(place) = self.places.get_mut(key.slot).filter(|it| it.key == key) else {
            return;
        };
        let Stand::Arriving(short) = &place.stand else {
            return;
        };
        let short = short.clone();
        match hot::at_once(&mut call) {
            Some(given) => self.conclude(key, &short, given),
            None => {
                let due = short.limit.map(|limit| short.begun + limit);
                place.stand = Stand::Running(short, Box::pin(call.run_short()));
                self.set_due(key, due);
                self.go_on(key.slot);
            }
        }
    }

    /// Goes on with what a note is for.
    pub(crate) fn heed(&mut self, note: Note) {
        match note {
            Note::Call(slot) => {
                if let Some(place) = self.places.get(slot) {
                    place.pen.lift();
                    self.go_on(slot);
                }
            }
            Note::Bell(group) => {
                let mut rung = std::mem::take(&mut self.rung);
                self.groups.rung(group, &mut rung);
                self.speak(&rung);
                self.rung = rung;
            }
            Note::Stop | Note::Time | Note::Leaderless => {}
        }
    }

    /// Lets watch streams say what they have to say.
    fn speak(&mut self, keys: &[Key]) {
        let peer = Arc::clone(&self.peer);
        let moment = Moment::of(&peer);
        let mut state = peer.wire.lock();
        for key in keys {
            let place = self.places.get_mut(key.slot).filter(|it| it.key == *key);
            if let Some(Place {
                stand: Stand::Watch(watch),
                ..
            }) = place
                && let Err(status) = watch.speak(&peer, &mut state, &moment)
            {
                self.end_watch(&mut state, *key, &status);
            }
        }
    }

    /// Streams whose owner waited for the client to take something; whether there were any.
    pub(crate) fn opened(&mut self) -> bool {
        let mut keys = std::mem::take(&mut self.rung);
        keys.clear();
        let mut has_opened = false;
        {
            let mut state = self.peer.wire.lock();
            while let Some(key) = state.http.next_opened() {
                has_opened = true;
                state.wake(key);
                let place = self.places.get(key.slot).filter(|it| it.key == key);
                if place.is_some_and(|it| matches!(it.stand, Stand::Watch(_))) {
                    keys.push(key);
                }
            }
        }
        if !keys.is_empty() {
            self.speak(&keys);
        }
        self.rung = keys;
        has_opened
    }

    /// Runs a call's future once.
    fn go_on(&mut self, slot: usize) {
        let place = &mut self.places[slot];
        let key = place.key;
        let mut cx = Context::from_waker(&place.waker);
        let polled = match &mut place.stand {
            Stand::Running(_, work) | Stand::Covering(_, work) | Stand::Long(work) => {
                work.as_mut().poll(&mut cx)
            }
            Stand::Free | Stand::Arriving(_) | Stand::Watch(_) | Stand::Lingering => return,
        };
        let Poll::Ready(outcome) = polled else {
            return;
        };
        match (std::mem::replace(&mut place.stand, Stand::Free), outcome) {
            (Stand::Running(short, _), Outcome::Given(given)) => {
                self.conclude(key, &short, given);
            }
            (Stand::Covering(short, _), Outcome::Covered(covered)) => {
                self.covered(key, &short, covered);
            }
            (_, Outcome::Done | Outcome::Given(_) | Outcome::Covered(_)) => {
                let wire = Arc::clone(&self.peer.wire);
                self.linger(&mut wire.lock(), key);
                self.count -= 1;
            }
        }
    }

    /// A short call has come to something.
    fn conclude(&mut self, key: Key, short: &Short, given: Result<Given, Status>) {
        let call = GrpcCall::new(&self.peer, short.method, &short.head, key);
        if let Ok(Given::List(view, range)) = given {
            // Only the client's own time limit counts: how long it takes is up to it.
            let short = Short {
                limit: None,
                ..short.clone()
            };
            let work = Box::pin(call.run_list(view, range));
            let place = &mut self.places[key.slot];
            place.stand = Stand::Running(short, work);
            place.pen.write();
            self.set_due(key, None);
            return;
        }
        let code = call.finish(given);
        let counters = self.peer.server.counters(short.method);
        counters.finish(code, short.begun.into_std());
        self.count -= 1;
        let wire = Arc::clone(&self.peer.wire);
        self.linger(&mut wire.lock(), key);
    }

    /// A call is answered: its stream goes, at once or when the client has said everything.
    fn linger(&mut self, state: &mut State, key: Key) {
        let is_alive = state.http.is_alive(key);
        let place = &mut self.places[key.slot];
        if !is_alive {
            place.stand = Stand::Free;
            place.due = None;
            return;
        }
        place.stand = Stand::Lingering;
        let limit = self.peer.server.limits.arrival_timeout;
        self.set_due(key, Some(Instant::now() + limit));
    }

    fn end_watch(&mut self, state: &mut State, key: Key, status: &Status) {
        super::outbound::end(&mut state.http, key, status);
        self.leave_watch(key, status.code());
        self.linger(state, key);
    }

    fn leave_watch(&mut self, key: Key, code: Code) {
        let place = &mut self.places[key.slot];
        if let Stand::Watch(watch) = std::mem::replace(&mut place.stand, Stand::Free) {
            self.groups.leave(watch.group, key);
            self.demanding -= usize::from(watch.demands_leader);
            let counters = self.peer.server.counters(Method::Watch);
            counters.finish(usize::from(code.number()), watch.begun.into_std());
            self.count -= 1;
        }
    }

    /// A stream is over, whatever its call was at.
    fn give_up(&mut self, state: &mut State, key: Key) {
        state.close(key, &self.peer.server.ledger);
        let Some(place) = self.places.get_mut(key.slot).filter(|it| it.key == key) else {
            return;
        };
        place.due = None;
        let canceled = usize::from(Code::Canceled.number());
        match &place.stand {
            Stand::Watch(_) => {
                self.leave_watch(key, Code::Canceled);
                return;
            }
            Stand::Arriving(short) | Stand::Running(short, _) | Stand::Covering(short, _) => {
                let counters = self.peer.server.counters(short.method);
                counters.finish(canceled, short.begun.into_std());
                self.count -= 1;
            }
            Stand::Long(_) => self.count -= 1,
            Stand::Free | Stand::Lingering => {}
        }
        match std::mem::replace(&mut place.stand, Stand::Free) {
            Stand::Running(_, work) | Stand::Covering(_, work) | Stand::Long(work) => {
                self.dropped.push(work);
            }
            Stand::Free | Stand::Arriving(_) | Stand::Watch(_) | Stand::Lingering => {}
        }
    }

    /// Drops what was given up. Not while the wire is locked.
    pub(crate) fn drop_dropped(&mut self) {
        self.dropped.clear();
    }

    /// Ends all watch streams, or those that demand a leader.
    pub(crate) fn end_watches(&mut self, status: &Status, are_all: bool) {
        let peer = Arc::clone(&self.peer);
        let mut state = peer.wire.lock();
        for slot in 0..self.places.len() {
            if let Stand::Watch(watch) = &self.places[slot].stand
                && (are_all || watch.demands_leader)
            {
                let key = watch.key;
                self.end_watch(&mut state, key, status);
            }
        }
    }

    /// Whether a watch stream demands a leader.
    pub(crate) const fn demand_leader(&self) -> bool {
        self.demanding > 0
    }

    fn place(&mut self, key: Key) {
        if let Some(place) = self.places.get_mut(key.slot) {
            place.key = key;
            place.stand = Stand::Free;
            place.due = None;
            return;
        }
        let pen = Pen::new(&self.ring, Note::Call(key.slot));
        self.places.push(Place {
            key,
            waker: Waker::from(Arc::clone(&pen)),
            pen,
            stand: Stand::Free,
            due: None,
        });
    }

    fn cord(&self, key: Key) -> Cord {
        Cord {
            wire: Arc::clone(&self.peer.wire),
            key,
        }
    }

    fn set_due(&mut self, key: Key, due: Option<Instant>) {
        self.places[key.slot].due = due;
        self.due = match (self.due, due) {
            (Some(all), Some(due)) => Some(all.min(due)),
            (all, due) => all.or(due),
        };
    }

    /// A time has come: does what is due.
    pub(crate) fn strike(&mut self, now: Instant) {
        if self.due.is_none_or(|it| it > now) {
            return;
        }
        let due = |place: &Place| place.due.is_some_and(|it| it <= now);
        let keys: Vec<Key> = self
            .places
            .iter()
            .filter(|it| due(it))
            .map(|it| it.key)
            .collect();
        for key in keys {
            self.strike_one(key, now);
        }
        self.due = self.places.iter().filter_map(|it| it.due).min();
    }

    fn strike_one(&mut self, key: Key, now: Instant) {
        let place = &mut self.places[key.slot];
        place.due = None;
        match &mut place.stand {
            Stand::Free | Stand::Long(_) | Stand::Covering(..) => {}
            Stand::Arriving(short) | Stand::Running(short, _) => {
                let (short, limit) = (short.clone(), short.limit);
                let call = GrpcCall::new(&self.peer, short.method, &short.head, key);
                let status = match limit {
                    Some(limit) if short.begun + limit <= now => call.late(limit),
                    Some(_) | None => not_in_time(),
                };
                // What it was at goes first: it may hold what the answer needs.
                place.stand = Stand::Free;
                self.conclude(key, &short, Err(status));
            }
            Stand::Watch(watch) => {
                let is_due = watch.is_due(&self.peer, now);
                let next = watch.due;
                self.set_due(key, next);
                if is_due {
                    self.speak(&[key]);
                }
            }
            Stand::Lingering => {
                let limit = self.peer.server.limits.arrival_timeout;
                let wire = Arc::clone(&self.peer.wire);
                let mut state = wire.lock();
                if state.http.is_answered(key) {
                    // A client that never ends its call has it reset.
                    state.http.reset(key, Reason::NO_ERROR);
                    place.stand = Stand::Free;
                } else {
                    self.set_due(key, Some(now + limit));
                }
            }
        }
    }
}
