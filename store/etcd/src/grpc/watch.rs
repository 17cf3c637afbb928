//! The watch stream: many watches on one call.
//!
//! Answers are made only while the client's window is open: the hub holds a cursor for each
//! watch, and this task holds one batch of at most 256 KiB, or a single revision that is larger.
//! A client that stops reading costs that and nothing more.
//!
//! What would surprise: streams of one connection mostly say the same, byte by byte, for clients
//! number their watches alike. So the connection keeps the newest answer in its frame.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use holm_kv::WatchAnswer;
use tokio::time::Instant;

use super::call::{GrpcCall, decode};
use super::frame;
use super::outbound::{Gone, Outbound};
use super::reply::{self, Header};
use crate::errors;
use crate::proto::etcdserverpb::WatchRequest;
use crate::seat::Seat;
use crate::services::watching;
use crate::status::{Code, Status};

/// What is asked of the hub at once.
const BATCH_BYTES: usize = 256 << 10;
/// How often progress is thought of when nobody says when.
const IDLE: Duration = Duration::from_secs(60);

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

/// Runs the call to its end; gives the status it ended with.
pub(crate) async fn run(mut call: GrpcCall) -> Status {
    let island = call.island();
    let Ok(mut out) = Outbound::begin(&mut call.respond, island) else {
        return Status::new(Code::Canceled, "");
    };
    let server = Arc::clone(&call.server);
    let seat = Seat::share(server.services.handle().hub(), &call.bells);
    let mut has_more_requests = true;
    let mut leader_lost = call.leader_lost();
    let mut timer = std::pin::pin!(tokio::time::sleep(IDLE));
    let status = loop {
        let mut rung = std::pin::pin!(seat.bell.rung());
        rung.as_mut().enable();
        if call.bells.is_stopping() {
            break Status::new(Code::Unavailable, "etcdserver: server stopped");
        }
        match send_ready(&call, &seat, &mut out).await {
            Ok(Sent::Full) => continue,
            // Should something be left, the hub has rung by now.
            Ok(Sent::All) => {}
            Err(Gone) => return Status::new(Code::Canceled, ""),
        }
        let takes_requests = has_more_requests && seat.hub.takes_requests(seat.stream);
        if let Some(due) = seat.hub.next_progress(seat.stream) {
            let patience = due.since(server.services.handle().now());
            timer.as_mut().reset(Instant::now() + patience);
        }
        tokio::select! {
            biased;
            // Requests come first: events may never cease.
            message = call.inbound.message(), if takes_requests => match message {
                Ok(Some(message)) => {
                    if let Err(status) = take(&call, &seat, message) {
                        break status;
                    }
                }
                // A client that has said everything may go on listening.
                Ok(None) => has_more_requests = false,
                Err(status) => break status,
            },
            () = rung => {}
            () = leader_lost.as_mut() => break errors::no_leader(),
            // What a client still says tells that it takes the call back, too.
            () = out.is_reset(), if !takes_requests => return Status::new(Code::Canceled, ""),
            () = timer.as_mut() => timer.as_mut().reset(Instant::now() + IDLE),
        }
    };
    // A client that has left need not be told.
    out.end(&status).ok();
    status
}

/// How much was sent.
enum Sent {
    /// As much as is asked for at once: there may be more.
    Full,
    /// What there was.
    All,
}

/// Sends what the hub has.
async fn send_ready(call: &GrpcCall, seat: &Seat, out: &mut Outbound) -> Result<Sent, Gone> {
    // Before anything is taken from the hub, for what is taken must be held.
    out.opened().await?;
    let handle = call.server.services.handle();
    let view = handle.view();
    let now = handle.now();
    let answers = seat.hub.poll(seat.stream, now, &view, BATCH_BYTES);
    if answers.is_empty() {
        return Ok(Sent::All);
    }
    let identity = handle.identity();
    let term = call.server.services.term_of(&view);
    if let [answer] = answers.as_slice()
        && answer.events.len() == 1
    {
        let header = Header::new(identity, answer.revision, term);
        let framed = call.newest.frame(header, answer);
        call.server.counters(call.method).send();
        let is_full = framed.len() >= BATCH_BYTES;
        out.send(framed).await?;
        return Ok(if is_full { Sent::Full } else { Sent::All });
    }
    let (mut batch, mut is_full) = (BytesMut::new(), false);
    for answer in answers {
        let header = Header::new(identity, answer.revision, term);
        write(&mut batch, header, &answer);
        drop(answer);
        call.server.counters(call.method).send();
        // Many watches may share one large event.
        if batch.len() >= BATCH_BYTES {
            out.send(batch.split().freeze()).await?;
            is_full = true;
        }
    }
    out.send(batch.freeze()).await?;
    Ok(if is_full { Sent::Full } else { Sent::All })
}

/// Acts on one message of the client.
fn take(call: &GrpcCall, seat: &Seat, message: Bytes) -> Result<(), Status> {
    let request: WatchRequest = decode(message)?;
    call.server.counters(call.method).receive();
    let services = &call.server.services;
    watching::take(services, &call.context(), &seat.hub, seat.stream, request)
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
