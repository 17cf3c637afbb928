//! What a connection's calls share with its task: HTTP/2, and an intake for each stream.
//!
//! A call that streams holds a [`Cord`] and says and hears everything by it. Its intake keeps what
//! came for it and whom to wake.
//!
//! What would surprise: all of it lies behind one lock, which nobody waits for. A connection's
//! calls run in the connection's task, one at a time.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use holm_http2::{Config, Connection, Favourites, Key, Reason};

use super::Limits;
use super::frame::{Inbound, Ledger};
use crate::status::{Code, Status};

/// What a client may send on one call before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// What a client may send on one connection before it is read.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Names and values of a request's head, together.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// What may gather before it is written whether or not there is more.
const OUT_BYTES_MAX: usize = 64 << 10;
/// Frames in a row that bring nothing forward.
const IDLE_FRAMES_MAX: u32 = 10_000;
/// By how many the calls that a client takes back may outnumber those that it waits for.
const RESETS_MAX: u32 = 1_000;
/// Frames that one request's head may come in.
const PIECES_MAX: u32 = 32;

/// What a connection's calls share with its task.
#[derive(Debug)]
pub(crate) struct Wire {
    state: Mutex<State>,
}

/// What lies behind the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) http: Connection,
    intakes: Vec<Intake>,
}

/// What came on a stream, and whom to wake.
#[derive(Debug)]
pub(crate) struct Intake {
    key: Key,
    pub(crate) inbound: Inbound,
    /// Bytes that came and for which the client has no room yet.
    unreleased: usize,
    waker: Option<Waker>,
}

impl Wire {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let field = |name: &'static str, value: &'static str| {
            let bytes = |it: &'static str| Bytes::from_static(it.as_bytes());
            (bytes(name), bytes(value))
        };
        let config = Config {
            streams_max: limits.calls_max,
            stream_window: STREAM_WINDOW,
            connection_window: CONNECTION_WINDOW,
            head_bytes_max: HEAD_BYTES_MAX,
            out_bytes_max: OUT_BYTES_MAX,
            idle_frames_max: IDLE_FRAMES_MAX,
            resets_max: RESETS_MAX,
            pieces_max: PIECES_MAX,
            favourites: Favourites {
                head: field("content-type", "application/grpc"),
                tail: field("grpc-status", "0"),
            },
        };
        Arc::new(Self {
            state: Mutex::new(State {
                http: Connection::new(config),
                intakes: Vec::new(),
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes an intake for a stream that began.
    pub(crate) fn open(&mut self, key: Key, message_bytes_max: usize, ledger: &Arc<Ledger>) {
        let intake = Intake {
            key,
            inbound: Inbound::new(message_bytes_max, Arc::clone(ledger)),
            unreleased: 0,
            waker: None,
        };
        if let Some(place) = self.intakes.get_mut(key.slot) {
            *place = intake;
        } else {
            assert_eq!(self.intakes.len(), key.slot, "streams are dense");
            self.intakes.push(intake);
        }
    }

    /// A stream's intake, if the stream is not over.
    pub(crate) fn intake(&mut self, key: Key) -> Option<&mut Intake> {
        let intake = self.intakes.get_mut(key.slot).filter(|it| it.key == key)?;
        self.http.is_alive(key).then_some(intake)
    }

    /// A piece came on a stream.
    pub(crate) fn add(&mut self, key: Key, piece: &[u8], is_last: bool) {
        let Some(intake) = self.intake(key) else {
            return;
        };
        intake.inbound.add(piece);
        intake.unreleased += piece.len();
        if is_last {
            intake.inbound.end();
        }
        intake.wake();
        self.release(key);
    }

    /// Gives the client room on a stream as long as what has come is no whole message: what is
    /// whole waits until it is taken.
    fn release(&mut self, key: Key) {
        let Some(intake) = self.intake(key).filter(|it| !it.inbound.is_ready()) else {
            return;
        };
        let bytes = std::mem::take(&mut intake.unreleased);
        if bytes > 0 {
            self.http.release(key, bytes);
        }
    }

    /// A stream's next message, if it has come.
    pub(crate) fn next_message(&mut self, key: Key) -> Result<Option<Option<Bytes>>, Status> {
        let intake = self.intake(key).ok_or_else(broken)?;
        let next = intake.inbound.next();
        self.release(key);
        next
    }

    /// Wakes the owner of a stream that is over; nothing of it is kept.
    pub(crate) fn close(&mut self, key: Key, ledger: &Arc<Ledger>) {
        let intake = self.intakes.get_mut(key.slot).filter(|it| it.key == key);
        if let Some(intake) = intake {
            intake.wake();
            intake.inbound = Inbound::new(0, Arc::clone(ledger));
        }
    }

    /// Wakes a stream's owner.
    pub(crate) fn wake(&mut self, key: Key) {
        if let Some(intake) = self.intakes.get_mut(key.slot).filter(|it| it.key == key) {
            intake.wake();
        }
    }

    /// Sends a refusal alone: one frame.
    pub(crate) fn refuse(&mut self, key: Key, status: &Status, island: Option<&str>) {
        super::outbound::refuse(&mut self.http, key, status, island);
    }
}

impl Intake {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }
}

fn broken() -> Status {
    Status::new(Code::Canceled, "the request broke off")
}

/// A call's end of its stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cord {
    pub(crate) wire: Arc<Wire>,
    pub(crate) key: Key,
}

impl Cord {
    /// The next message; `None` once the client has said everything.
    ///
    /// Cancelling it loses nothing.
    pub(crate) async fn message(&self) -> Result<Option<Bytes>, Status> {
        poll_fn(|cx| {
            let mut state = self.wire.lock();
            match state.next_message(self.key) {
                Ok(Some(message)) => Poll::Ready(Ok(message)),
                Ok(None) => state.wait(self.key, cx),
                Err(status) => Poll::Ready(Err(status)),
            }
        })
        .await
    }

    /// What has come, whatever it is; `None` once the client has said everything.
    pub(crate) fn poll_raw(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut state = self.wire.lock();
        let Some(intake) = state.intake(self.key) else {
            return Poll::Ready(Some(Err(broken())));
        };
        match intake.inbound.next_raw() {
            Some(bytes) if bytes.is_empty() => Poll::Ready(None),
            Some(bytes) => {
                let come = std::mem::take(&mut intake.unreleased);
                state.http.release(self.key, come);
                Poll::Ready(Some(Ok(bytes)))
            }
            None => state.wait(self.key, cx),
        }
    }

    /// Resolves once the stream is over: the client has taken the call back, or has heard all.
    pub(crate) async fn gone(&self) {
        poll_fn(|cx| {
            let mut state = self.wire.lock();
            match state.intake(self.key) {
                Some(intake) => {
                    intake.wait(cx);
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
        .await;
    }

    /// Breaks the call off.
    pub(crate) fn reset(&self, reason: Reason) {
        self.wire.lock().http.reset(self.key, reason);
    }
}

impl State {
    /// Waits for whatever happens next on a stream.
    pub(crate) fn wait<T>(&mut self, key: Key, cx: &Context<'_>) -> Poll<T> {
        if let Some(intake) = self.intakes.get_mut(key.slot).filter(|it| it.key == key) {
            intake.wait(cx);
        }
        Poll::Pending
    }
}
