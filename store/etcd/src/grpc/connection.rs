//! One connection: what comes is taken, what is ready is run, what was said leaves in one write.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use holm_http2::{Event, Reason};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use super::Server;
use super::call::{Peer, Waiting};
use super::calls::Calls;
use super::keepalive::{Look, Strikes, TOO_MANY_PINGS, Vigil};
use super::ring::{Note, Pen, Ring};
use super::watch::{Newest, stopped};
use super::wire::Wire;
use crate::errors;

/// How long a connection that has ended may take to send its last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What is read at once.
const READ_BYTES: usize = 32 << 10;
/// What an idle connection keeps of its output.
const KEPT_MAX: usize = 16 << 10;
/// How often it is read before what came is run.
const READS_MAX: usize = 4;
/// How often all of it is done before others have their turn.
const ROUNDS_MAX: usize = 32;

impl Server {
    /// Serves a connection until the client leaves, or until `stop` turns true and the calls
    /// in hand are answered. Never fails: a client's mistakes are answered or end it.
    pub async fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        common_name: Option<Arc<str>>,
        stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let peer = Arc::new(Peer {
            server: Arc::clone(self),
            wire: Wire::new(&self.limits),
            common_name,
            stop,
            newest: Newest::default(),
            is_alone: AtomicBool::new(false),
        });
        let mut driver = Driver::new(stream, &peer);
        std::future::poll_fn(|cx| driver.poll(cx)).await;
        let Driver { mut stream, .. } = driver;
        // Sends what was said last, as far as the client still takes it.
        let last = peer.wire.lock().http.out().split();
        let sent = tokio::time::timeout(LAST_WORDS, async {
            stream.write_all(&last).await?;
            stream.flush().await
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            tracing::debug!("the client left before the last of its answers");
        }
    }
}

/// A connection and all that belongs to it.
struct Driver<S> {
    stream: S,
    peer: Arc<Peer>,
    ring: Arc<Ring>,
    notes: Vec<Note>,
    /// What has come and was not taken: less than a frame.
    come: BytesMut,
    calls: Calls,
    clock: Clock,
    stop: Alarm,
    /// Rings when there has been no leader for long, if a watch stream wants to know.
    leaderless: Option<Alarm>,
    strikes: Strikes,
    vigil: Vigil,
    look: Instant,
    /// When the client was heard last, and by when it must have said how it speaks.
    heard: Instant,
    greeting: Option<Instant>,
    must_flush: bool,
    /// Whether the client is given up.
    is_lost: bool,
}

/// Something that happens once, and leaves a note.
struct Alarm {
    waiting: Option<Waiting>,
    pen: Arc<Pen>,
    waker: Waker,
}

impl Alarm {
    fn new(ring: &Arc<Ring>, note: Note, waiting: Waiting) -> Self {
        let pen = Pen::new(ring, note);
        pen.write();
        Self {
            waiting: Some(waiting),
            waker: Waker::from(Arc::clone(&pen)),
            pen,
        }
    }

    /// Whether it has happened now. To be asked when its note was taken.
    fn has_rung(&mut self) -> bool {
        self.pen.lift();
        let mut cx = Context::from_waker(&self.waker);
        let waiting = self.waiting.as_mut();
        let has_rung = waiting.is_some_and(|it| it.as_mut().poll(&mut cx).is_ready());
        if has_rung {
            self.waiting = None;
        }
        has_rung
    }
}

/// A timer that is set to the earliest of all times.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    pen: Arc<Pen>,
    waker: Waker,
    is_set: bool,
}

impl Clock {
    fn new(ring: &Arc<Ring>) -> Self {
        let pen = Pen::new(ring, Note::Time);
        Self {
            sleep: Box::pin(tokio::time::sleep_until(Instant::now())),
            waker: Waker::from(Arc::clone(&pen)),
            pen,
            is_set: false,
        }
    }

    /// Leaves a note at `due`, or before.
    fn set(&mut self, due: Instant) {
        if self.is_set && due >= self.sleep.deadline() {
            return;
        }
        self.is_set = true;
        self.sleep.as_mut().reset(due);
        let mut cx = Context::from_waker(&self.waker);
        if self.sleep.as_mut().poll(&mut cx).is_ready() {
            self.pen.write();
        }
    }

    /// Its note was taken.
    fn has_struck(&mut self) {
        self.pen.lift();
        self.is_set = false;
    }
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Nothing,
    Something,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn new(stream: S, peer: &Arc<Peer>) -> Self {
        let limits = &peer.server.limits;
        let ring = Arc::new(Ring::default());
        let vigil = Vigil::new(limits.keepalive_interval, limits.keepalive_timeout);
        let (now, look) = (Instant::now(), vigil.first());
        let mut stop = peer.stop.clone();
        let stopped: Waiting = Box::pin(async move {
            // An error means that the node is gone, which is a stop too.
            stop.wait_for(|it| *it).await.ok();
        });
        let greeting = now + limits.arrival_timeout;
        Self {
            stream,
            calls: Calls::new(peer, &ring),
            clock: Clock::new(&ring),
            stop: Alarm::new(&ring, Note::Stop, stopped),
            peer: Arc::clone(peer),
            ring,
            notes: Vec::new(),
            come: BytesMut::new(),
            leaderless: None,
            strikes: Strikes::new(limits.ping_interval_min),
            vigil,
            look,
            heard: now,
            greeting: Some(greeting),
            must_flush: false,
            is_lost: false,
        }
    }

    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ring.register(cx.waker());
        for _ in 0..ROUNDS_MAX {
            let read = self.read(cx);
            if read == Read::End {
                return Poll::Ready(());
            }
            // All that came has been accepted when a call is run.
            let has_run = self.calls.run_ready();
            let has_heeded = self.heed();
            if self.is_lost {
                return Poll::Ready(());
            }
            let is_idle = read == Read::Nothing && !has_run && !has_heeded;
            let is_full = self.peer.wire.lock().http.is_full();
            if !is_idle && !is_full {
                continue;
            }
            let has_written = match self.write(cx) {
                Poll::Ready(Ok(has_written)) => has_written,
                Poll::Ready(Err(_gone)) => return Poll::Ready(()),
                Poll::Pending => false,
            };
            if self.peer.wire.lock().http.is_over() {
                return Poll::Ready(());
            }
            let has_opened = self.calls.opened();
            if is_idle && !has_written && !has_opened {
                self.rest();
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing is left to do before something happens.
    fn rest(&mut self) {
        if self.come.is_empty() {
            self.come = BytesMut::new();
        }
        let due = self.calls.due().unwrap_or(self.look).min(self.look);
        self.clock.set(self.greeting.unwrap_or(due).min(due));
        let wants_leader = self.leaderless.is_none() && self.calls.demand_leader();
        if wants_leader && self.peer.server.services.handle().is_of_cluster() {
            let services = self.peer.server.services.clone();
            let lost = Box::pin(services.leader_lost());
            self.leaderless = Some(Alarm::new(&self.ring, Note::Leaderless, lost));
        }
    }

    /// Reads what has come and takes it.
    fn read(&mut self, cx: &mut Context<'_>) -> Read {
        let mut read = Read::Nothing;
        for _ in 0..READS_MAX {
            if self.peer.wire.lock().http.is_clogged() {
                return read;
            }
            self.come.reserve(READ_BYTES);
            let mut come = std::mem::take(&mut self.come);
            let polled = pin!(self.stream.read_buf(&mut come)).poll(cx);
            self.come = come;
            match polled {
                Poll::Pending => return read,
                Poll::Ready(Ok(0) | Err(_)) => return Read::End,
                Poll::Ready(Ok(bytes)) => {
                    read = Read::Something;
                    self.peer
                        .server
                        .network
                        .received_bytes
                        .inc_by(length(bytes));
                    self.take();
                }
            }
        }
        read
    }

    /// Takes what has come apart.
    fn take(&mut self) {
        self.heard = Instant::now();
        let peer = Arc::clone(&self.peer);
        let mut state = peer.wire.lock();
        let mut taken = 0;
        loop {
            let (read, event) = state.http.receive(&self.come[taken..]);
            taken += read;
            match event {
                None => break,
                Some(Event::Pinged) => {
                    let has_answered = state.http.take_answered();
                    let calls = self.calls.len();
                    if self.strikes.ping(self.heard, calls, has_answered) {
                        state.http.fail(Reason::ENHANCE_YOUR_CALM, TOO_MANY_PINGS);
                    }
                }
                Some(Event::Failed { reason }) => {
                    tracing::debug!(?reason, "connection ended early");
                }
                Some(event) => self.calls.take(&mut state, event),
            }
        }
        if state.http.is_greeted() {
            self.greeting = None;
        }
        drop(state);
        self.come.advance(taken);
        self.calls.drop_dropped();
    }

    /// Acts on the notes that were left; whether there were any.
    fn heed(&mut self) -> bool {
        let mut notes = std::mem::take(&mut self.notes);
        self.ring.take(&mut notes);
        let has_notes = !notes.is_empty();
        for note in notes.drain(..) {
            match note {
                Note::Call(_) | Note::Bell(_) => self.calls.heed(note),
                Note::Time => self.strike(),
                Note::Stop => {
                    if self.stop.has_rung() {
                        self.calls.end_watches(&stopped(), true);
                        self.peer.wire.lock().http.leave();
                    }
                }
                Note::Leaderless => {
                    let has_rung = self.leaderless.as_mut().is_some_and(Alarm::has_rung);
                    if has_rung {
                        self.leaderless = None;
                        self.calls.end_watches(&errors::no_leader(), false);
                    }
                }
            }
        }
        self.notes = notes;
        has_notes
    }

    /// A time has come.
    fn strike(&mut self) {
        self.clock.has_struck();
        let now = Instant::now();
        self.calls.strike(now);
        if self.greeting.is_some_and(|it| it <= now) {
            self.is_lost = true;
        }
        if now < self.look {
            return;
        }
        match self.vigil.look(self.heard) {
            Look::Again(next) => self.look = next,
            Look::Ask(next) => {
                self.peer.wire.lock().http.ask();
                self.look = next;
            }
            Look::Gone => {
                tracing::debug!("a silent client did not answer and is given up");
                self.is_lost = true;
            }
        }
    }

    /// Writes what was said; whether that was anything.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let peer = Arc::clone(&self.peer);
        let mut state = peer.wire.lock();
        let (mut has_written, mut longest) = (false, 0);
        while !state.http.out().is_empty() {
            longest = longest.max(state.http.out().len());
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, state.http.out())
            else {
                break;
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.http.out().advance(written);
            peer.server.network.sent_bytes.inc_by(length(written));
            (has_written, self.must_flush) = (true, true);
            if state.http.out().is_empty() {
                state.http.pump();
            }
        }
        if longest > KEPT_MAX && state.http.out().is_empty() {
            *state.http.out() = BytesMut::new();
        }
        drop(state);
        if self.must_flush {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => {
                    flushed?;
                    self.must_flush = false;
                }
                Poll::Pending => {}
            }
        }
        Poll::Ready(Ok(has_written))
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits 64 bits")
}
