//! Watch streams: many watches on one call, and many calls on one connection.
//!
//! Answers are made only while the client's window is open: the hub holds a cursor for each
//! watch, and a stream holds one batch of at most 256 KiB, or a single revision that is larger.
//! A client that stops reading costs that and nothing more.
//!
//! What would surprise: a watch stream has no future of its own. The hub rings for a group of a
//! connection's streams, and the connection's task writes what each has to say. Streams of one
//! connection mostly say the same, byte by byte, for clients number their watches alike. So the
//! connection keeps the newest answer in its frame.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use holm_base::Time;
use holm_http2::Key;
use holm_kv::{View, WatchAnswer};
use tokio::time::Instant;

use super::call::{CallHead, Peer, context, decode};
use super::frame;
use super::method::Method;
use super::outbound;
use super::reply::{self, Header};
use super::ring::{Note, Pen, Ring};
use super::wire::State;
use crate::context::Context;
use crate::proto::etcdserverpb::WatchRequest;
use crate::seat::{Seat, Wake};
use crate::services::watching;
use crate::status::{Code, Status};

/// What is asked of the hub at once.
const BATCH_BYTES: usize = 256 << 10;
/// Streams that the hub rings for together: more save rings when all have something, fewer save
/// looks when one has.
const GROUP_MAX: usize = 64;

/// The longest answer that a connection keeps.
const NEWEST_BYTES_MAX: usize = 64 << 10;
/// What an answer's head takes at most, but for a reason.
const HEAD_BYTES: usize = 96;

/// The newest answer of one event that a stream of a connection was given, and its frame.
#[derive(Debug, Default)]
pub(crate) struct Newest(Mutex<Option<(Header, WatchAnswer, Bytes)>>);

impl Newest {
    /// The frame of an answer, shared with the stream that had the same before.
    fn frame(&self, header: Header, answer: &WatchAnswer) -> Bytes {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, said, framed)) = &*newest
            && *of == header
            && said == answer
        {
            return framed.clone();
        }
        let mut out = BytesMut::new();
        write(&mut out, header, answer);
        let framed = out.freeze();
        if framed.len() <= NEWEST_BYTES_MAX {
            *newest = Some((header, answer.clone(), framed.clone()));
        }
        framed
    }
}

/// A connection's watch streams, in groups that the hub rings for.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Vec<Group>,
}

struct Group {
    pen: Arc<Pen>,
    ring: Wake,
    members: Vec<Key>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group")
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Groups {
    /// Finds a group for one more stream; which it is, and what the hub is to call.
    fn join(&mut self, key: Key, ring: &Arc<Ring>) -> (usize, Wake) {
        let place = self
            .groups
            .iter()
            .position(|it| it.members.len() < GROUP_MAX);
        let place = place.unwrap_or_else(|| {
            let pen = Pen::new(ring, Note::Bell(self.groups.len()));
            let rung = Arc::clone(&pen);
            self.groups.push(Group {
                pen,
                ring: Arc::new(move || rung.write()),
                members: Vec::new(),
            });
            self.groups.len() - 1
        });
        let group = &mut self.groups[place];
        group.members.push(key);
        (place, Arc::clone(&group.ring))
    }

    /// The members of a group that was rung for, from now on to be rung for again.
    pub(crate) fn rung(&self, group: usize, into: &mut Vec<Key>) {
        let group = &self.groups[group];
        group.pen.lift();
        into.clear();
        into.extend_from_slice(&group.members);
    }

    pub(crate) fn leave(&mut self, group: usize, key: Key) {
        self.groups[group].members.retain(|it| *it != key);
    }
}

/// What streams are told at one moment, looked up once for all of them.
#[derive(Debug)]
pub(crate) struct Moment {
    view: Arc<View>,
    now: Time,
    term: u64,
}

impl Moment {
    pub(crate) fn of(peer: &Peer) -> Self {
        let services = &peer.server.services;
        let view = services.handle().view();
        let term = services.term_of(&view);
        let now = services.handle().now();
        Self { view, now, term }
    }
}

/// A watch stream.
#[derive(Debug)]
pub(crate) struct WatchCall {
    pub(crate) key: Key,
    pub(crate) group: usize,
    pub(crate) begun: Instant,
    pub(crate) demands_leader: bool,
    /// When there will be something to say of progress.
    pub(crate) due: Option<Instant>,
    seat: Seat,
    cx: Context,
    /// Whether the client may say more.
    is_listening: bool,
}

/// Whether a watch stream goes on.
pub(crate) type GoesOn = Result<(), Status>;

impl WatchCall {
    /// Begins to answer.
    pub(crate) fn begin(
        (peer, state): (&Peer, &mut State),
        key: Key,
        head: &CallHead,
        begun: Instant,
        (groups, ring): (&mut Groups, &Arc<Ring>),
    ) -> Self {
        let services = &peer.server.services;
        outbound::begin(&mut state.http, key, services.island().as_deref());
        let (group, wake) = groups.join(key, ring);
        Self {
            key,
            group,
            begun,
            demands_leader: head.demands_leader,
            due: None,
            seat: Seat::open(services.handle().hub(), wake),
            cx: context(peer, head),
            is_listening: true,
        }
    }

    /// Acts on what the client has said, as far as the hub takes it.
    pub(crate) fn listen(&mut self, peer: &Peer, state: &mut State) -> GoesOn {
        let services = &peer.server.services;
        let (hub, stream) = (&self.seat.hub, self.seat.stream);
        while self.is_listening && hub.takes_requests(stream) {
            match state.next_message(self.key)? {
                Some(Some(message)) => {
                    let request: WatchRequest = decode(message)?;
                    peer.server.counters(Method::Watch).receive();
                    watching::take(services, &self.cx, hub, stream, request)?;
                    self.due = hub.next_progress(stream).map(|due| {
                        let patience = due.since(services.handle().now());
                        Instant::now() + patience
                    });
                }
                // A client that has said everything may go on listening.
                Some(None) => self.is_listening = false,
                None => break,
            }
        }
        Ok(())
    }

    /// Sends what the hub has, as far as the client takes it.
    pub(crate) fn speak(&mut self, peer: &Peer, state: &mut State, moment: &Moment) -> GoesOn {
        // Before anything is taken from the hub, for what is taken must be held.
        while state.http.has_room(self.key) {
            let (hub, stream) = (&self.seat.hub, self.seat.stream);
            let answers = hub.poll(stream, moment.now, &moment.view, BATCH_BYTES);
            if answers.is_empty() {
                return Ok(());
            }
            let bytes = self.say(peer, state, &answers, moment);
            // What waits to be taken until the hub has room for its answer.
            self.listen(peer, state)?;
            // Should something be left, the hub has rung by now.
            if bytes < BATCH_BYTES {
                return Ok(());
            }
        }
        state.http.await_room(self.key);
        Ok(())
    }

    /// Sends answers; how many bytes they were.
    fn say(
        &self,
        peer: &Peer,
        state: &mut State,
        answers: &[WatchAnswer],
        moment: &Moment,
    ) -> usize {
        let services = &peer.server.services;
        let (identity, counters) = (
            services.handle().identity(),
            peer.server.counters(Method::Watch),
        );
        let header = |answer: &WatchAnswer| Header::new(identity, answer.revision, moment.term);
        if let [answer] = answers
            && answer.events.len() == 1
        {
            let framed = peer.newest.frame(header(answer), answer);
            counters.send();
            let bytes = framed.len();
            state.http.data(self.key, framed);
            return bytes;
        }
        let mut batch = BytesMut::new();
        for answer in answers {
            write(&mut batch, header(answer), answer);
            counters.send();
        }
        let bytes = batch.len();
        state.http.data(self.key, batch.freeze());
        bytes
    }

    /// A time has come: whether there is something to say of progress.
    pub(crate) fn is_due(&mut self, peer: &Peer, now: Instant) -> bool {
        if self.due.is_none_or(|it| it > now) {
            return false;
        }
        let clock = peer.server.services.handle().now();
        let next = self.seat.hub.next_progress(self.seat.stream);
        self.due = next.map(|it| now + it.since(clock).max(PROGRESS_REST));
        true
    }
}

/// The least time between two looks for progress.
const PROGRESS_REST: Duration = Duration::from_millis(10);

/// What streams are told when this server stops.
pub(crate) fn stopped() -> Status {
    Status::new(Code::Unavailable, "etcdserver: server stopped")
}

/// Appends an answer in its frame: a head of a few bytes, then the shared event bytes.
fn write(out: &mut BytesMut, header: Header, answer: &WatchAnswer) {
    let events = answer.events.iter().map(|it| reply::field_len(it.len()));
    let mut head = BytesMut::with_capacity(HEAD_BYTES + answer.cancel_reason.len());
    header.put(&mut head);
    reply::put_number(&mut head, 2, answer.watch_id.cast_unsigned());
    reply::put_number(&mut head, 3, u64::from(answer.created));
    reply::put_number(&mut head, 4, u64::from(answer.canceled));
    reply::put_number(&mut head, 5, answer.compact_revision.cast_unsigned());
    if !answer.cancel_reason.is_empty() {
        reply::put_head(&mut head, 6, answer.cancel_reason.len());
        head.put_slice(answer.cancel_reason.as_bytes());
    }
    reply::put_number(&mut head, 7, u64::from(answer.fragment));
    let body = head.len() + events.sum::<usize>();
    out.reserve(frame::PREFIX_BYTES + body);
    frame::put_prefix(out, body);
    out.put_slice(&head);
    for event in &answer.events {
        reply::put_head(out, 11, event.len());
        out.put_slice(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(watch_id: i64, event: &'static str) -> WatchAnswer {
        WatchAnswer {
            watch_id,
            revision: 7,
            events: vec![Bytes::from_static(event.as_bytes())],
            ..WatchAnswer::default()
        }
    }

    fn written(header: Header, answer: &WatchAnswer) -> Bytes {
        let mut out = BytesMut::new();
        write(&mut out, header, answer);
        out.freeze()
    }

    #[test]
    fn equal_answers_share_a_frame_and_others_have_their_own() {
        let newest = Newest::default();
        let header = |term| Header {
            cluster: 1,
            node: 2,
            revision: 7,
            term,
        };
        let first = newest.frame(header(3), &answer(0, "a"));
        let again = newest.frame(header(3), &answer(0, "a"));
        assert_eq!(first.as_ptr(), again.as_ptr(), "one encoding");
        let others = [
            (header(3), answer(1, "a")),
            (header(3), answer(0, "b")),
            (header(4), answer(0, "b")),
        ];
        for (header, answer) in others {
            assert_eq!(newest.frame(header, &answer), written(header, &answer));
        }
        assert_eq!(first, written(header(3), &answer(0, "a")));
    }

    #[test]
    fn a_long_answer_is_not_kept() {
        let newest = Newest::default();
        let header = Header {
            cluster: 1,
            node: 2,
            revision: 7,
            term: 3,
        };
        let long = WatchAnswer {
            events: vec![Bytes::from(vec![b'x'; NEWEST_BYTES_MAX])],
            ..WatchAnswer::default()
        };
        assert_eq!(newest.frame(header, &long), written(header, &long));
        assert!(newest.0.lock().unwrap().is_none());
    }
}
