//! One connection: accepting calls, driving their bytes, running the short ones in place.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::Request;
use http::header::CONTENT_TYPE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Server;
use super::call::{Call, LongCall, Peer, Sorted};
use super::cork::Cork;
use super::keepalive::{Strikes, Vigil, too_many_pings};
use super::method::Method;
use super::outbound::refuse;
use crate::seat::Bells;
use crate::status::{Code, Status};

/// What a client may send on one call before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
/// What a client may send on one connection before it is read.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What small frames that nobody has read yet may cost on one connection, as h2 counts: 1 KiB
/// for each. Every call allowed may have one, for most clients' requests are small.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Names and values of a request's head, together.
const HEAD_BYTES_MAX: u32 = 64 << 10;
/// What one call may have in the connection's buffer before it waits.
const SEND_BYTES_MAX: usize = 256 << 10;
/// How long a connection that has ended may take to send its last bytes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Short calls that are answered before the connection's bytes are written.
const ANSWERS_AT_ONCE: usize = 256;

impl Server {
    /// Serves a connection until the client leaves, or until `stop` turns true and the calls
    /// in hand are answered. Never fails: a client's mistakes are answered or end it.
    #[expect(
        clippy::too_many_lines,
        reason = "one choice over all that can happen to a connection"
    )]
    pub async fn serve<S>(
        self: &Arc<Self>,
        stream: S,
        common_name: Option<Arc<str>>,
        mut stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let cork = Cork::new(stream, self.network.clone());
        let Some(mut connection) = self.greet(&cork).await else {
            return;
        };
        let peer = Peer {
            common_name,
            stop: stop.clone(),
            bells: Arc::new(Bells::new()),
            newest: Arc::default(),
            is_alone: Arc::new(AtomicBool::new(false)),
        };
        let mut short = FuturesUnordered::new();
        let mut long = FuturesUnordered::<LongCall>::new();
        let mut is_stopping = false;
        let mut strikes = Strikes::new(self.limits.ping_interval_min);
        let mut vigil = Vigil::new(
            self.limits.keepalive_interval,
            self.limits.keepalive_timeout,
            connection.ping_pong(),
        );
        let mut look = std::pin::pin!(tokio::time::sleep_until(vigil.first()));
        loop {
            // All that came has been accepted when a call is run.
            let calls = short.len() + long.len();
            let is_alone = short.len() == 1 && long.is_empty();
            let mut is_pestering = || {
                let (pings, has_answered) = cork.take_pings();
                let now = Instant::now();
                (0..pings).any(|at| strikes.ping(now, calls, has_answered && at == 0))
            };
            peer.is_alone.store(is_alone, Ordering::Relaxed);
            tokio::select! {
                biased;
                // With nothing more to accept, what was answered leaves.
                accepted = poll_fn(|cx| match connection.poll_accept(cx) {
                    Poll::Pending if is_pestering() => {
                        cork.append(&too_many_pings());
                        Poll::Ready(None)
                    }
                    Poll::Pending if broke(cork.poll_drain(cx)) => Poll::Ready(None),
                    polled => polled,
                }) => match accepted {
                    Some(Ok((request, respond))) => {
                        if let Some(call) = self.begin(request, respond, &peer) {
                            match call.sort() {
                                Sorted::Short(call) => short.push(call.run_short()),
                                Sorted::Long(call) => long.push(call),
                            }
                        }
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, "connection ended early");
                        break;
                    }
                    None => break,
                },
                Some(()) = short.next(), if !short.is_empty() => {
                    for _ in 1..ANSWERS_AT_ONCE {
                        if !matches!(short.next().now_or_never(), Some(Some(()))) {
                            break;
                        }
                    }
                }
                Some(()) = long.next(), if !long.is_empty() => {}
                () = look.as_mut() => match vigil.look(cork.heard()) {
                    Some(next) => look.as_mut().reset(next),
                    None => {
                        tracing::debug!("a silent client did not answer and is given up");
                        break;
                    }
                },
                _ = stop.changed(), if !is_stopping => {
                    is_stopping = true;
                    peer.bells.stop();
                    connection.graceful_shutdown();
                }
            }
        }
        say_last(&cork).await;
    }

    /// Agrees with a client on how to speak; `None` if it does not in time.
    async fn greet<S>(&self, cork: &Cork<S>) -> Option<Connection<Cork<S>, Bytes>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = h2::server::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.limits.calls_max)
            .data_frame_budget(FRAME_BYTES_MAX)
            .max_header_list_size(HEAD_BYTES_MAX)
            .max_send_buffer_size(SEND_BYTES_MAX)
            .handshake::<Cork<S>, Bytes>(cork.clone());
        let arrival = self.limits.arrival_timeout;
        tokio::time::timeout(arrival, handshake).await.ok()?.ok()
    }

    /// Makes a call of a request; what is none is answered at once.
    fn begin(
        self: &Arc<Self>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        peer: &Peer,
    ) -> Option<Call> {
        let (head, body) = request.into_parts();
        let is_grpc = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"));
        let method = Method::at(head.uri.path());
        if let (true, Some(method)) = (is_grpc, method) {
            let parts = (head.headers, body, respond);
            return Some(Call::new(self, method, parts, peer));
        }
        if !is_grpc {
            return Some(Call::web(self, Request::from_parts(head, body), respond));
        }
        let path = head.uri.path();
        let status = Status::new(Code::Unimplemented, format!("unknown method {path}"));
        // A client that has left need not be told.
        refuse(&mut respond, &status, None).ok();
        None
    }
}

/// Sends what was said last, as far as the client still takes it.
async fn say_last<S: AsyncWrite + Unpin>(cork: &Cork<S>) {
    let last = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| cork.poll_drain(cx))).await;
    if !matches!(last, Ok(Ok(()))) {
        tracing::debug!("the client left before the last of its answers");
    }
}

/// Whether a drain found that nobody takes anything any more.
fn broke(drained: Poll<io::Result<()>>) -> bool {
    matches!(drained, Poll::Ready(Err(_)))
}
