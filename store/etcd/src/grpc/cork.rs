//! A cork between HTTP/2 and the socket: frames gather, and leave in one write. What comes in
//! passes [`Sieve`].
//!
//! What would surprise: flushing does nothing. HTTP/2 flushes after nearly every frame with a
//! body of some size, which would cost a system call an answer. The connection's task drains
//! the cork itself, once it has nothing else to do.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use holm_telemetry::NetworkMetrics;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::sieve::{Sieve, answers};

/// What may gather before it is written whether or not there is more.
const WAITING_MAX: usize = 64 << 10;
/// What an idle connection keeps of its buffer.
const KEPT_MAX: usize = 16 << 10;

#[derive(Debug)]
struct Corked<S> {
    stream: S,
    counters: NetworkMetrics,
    waiting: BytesMut,
    sieve: Sieve,
    /// When the client was heard last.
    heard: Instant,
    /// Whether a call was answered since this was last asked.
    has_answered: bool,
}

/// A stream whose writes wait for [`Cork::poll_drain`]. Its clones are the same stream; one
/// task uses them all.
#[derive(Debug)]
pub(crate) struct Cork<S> {
    shared: Arc<Mutex<Corked<S>>>,
}

impl<S> Clone for Cork<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: AsyncWrite + Unpin> Cork<S> {
    pub(crate) fn new(stream: S, counters: NetworkMetrics) -> Self {
        let corked = Corked {
            stream,
            counters,
            waiting: BytesMut::new(),
            sieve: Sieve::new(),
            heard: Instant::now(),
            has_answered: false,
        };
        Self {
            shared: Arc::new(Mutex::new(corked)),
        }
    }

    /// When the client was heard last.
    pub(crate) fn heard(&self) -> Instant {
        self.lock().heard
    }

    /// How many pings have come since this was last asked, and whether a call was answered
    /// since a ping was last told of.
    pub(crate) fn take_pings(&self) -> (u32, bool) {
        let mut corked = self.lock();
        let pings = corked.sieve.take_pings();
        (pings, pings > 0 && std::mem::take(&mut corked.has_answered))
    }

    /// Adds bytes of our own behind all that HTTP/2 has written.
    pub(crate) fn append(&self, bytes: &[u8]) {
        self.lock().waiting.extend_from_slice(bytes);
    }

    /// Writes what has gathered.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_drain(cx)
    }
}

impl<S> Cork<S> {
    fn lock(&self) -> MutexGuard<'_, Corked<S>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
            self.counters.sent_bytes.inc_by(length(written));
        }
        if self.waiting.capacity() > KEPT_MAX {
            self.waiting = BytesMut::new();
        } else {
            self.waiting.clear();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Makes room for `bytes` more, writing what has gathered if it must.
    fn poll_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() || self.waiting.len() + bytes <= WAITING_MAX {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a length fits 64 bits")
}

impl<S: AsyncRead + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let corked = &mut *self.lock();
        loop {
            if corked.sieve.give(into) {
                return Poll::Ready(Ok(()));
            }
            let before = into.filled().len();
            ready!(Pin::new(&mut corked.stream).poll_read(cx, into))?;
            let read = into.filled().len() - before;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            corked.counters.received_bytes.inc_by(length(read));
            corked.heard = Instant::now();
            if corked.sieve.look(into, before) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut corked = self.lock();
        ready!(corked.poll_room(cx, bytes.len()))?;
        corked.has_answered = corked.has_answered || answers(bytes);
        corked.waiting.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = pieces.iter().map(|it| it.len()).sum();
        let mut corked = self.lock();
        ready!(corked.poll_room(cx, bytes))?;
        let begins = pieces.first().is_some_and(|it| answers(it));
        corked.has_answered = corked.has_answered || begins;
        for piece in pieces {
            corked.waiting.extend_from_slice(piece);
        }
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut corked = self.lock();
        ready!(corked.poll_drain(cx))?;
        Pin::new(&mut corked.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_written_waits_for_the_drain() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let counters = NetworkMetrics::default();
        let cork = Cork::new(near, counters.clone());
        let mut writer = cork.clone();
        writer.write_all(b"one").await.unwrap();
        writer.flush().await.unwrap();
        let mut into = [0; 8];
        let early = tokio::time::timeout(std::time::Duration::ZERO, far.read(&mut into)).await;
        assert!(early.is_err(), "nothing has left yet");
        writer.write_all(b"two").await.unwrap();
        poll_fn(|cx| cork.poll_drain(cx)).await.unwrap();
        let read = far.read(&mut into).await.unwrap();
        assert_eq!(&into[..read], b"onetwo");
        far.write_all(b"back").await.unwrap();
        writer.read_exact(&mut into[..4]).await.unwrap();
        let counted = (counters.sent_bytes.get(), counters.received_bytes.get());
        assert_eq!(counted, (6, 4));
    }

    #[tokio::test]
    async fn no_more_gathers_than_the_limit() {
        let (near, _far) = tokio::io::duplex(1);
        let cork = Cork::new(near, NetworkMetrics::default());
        let mut writer = cork.clone();
        writer.write_all(&[0; WAITING_MAX]).await.unwrap();
        let more = writer.write_all(b"xx");
        let more = tokio::time::timeout(std::time::Duration::ZERO, more).await;
        assert!(more.is_err(), "the peer reads nothing, so this waits");
        assert!(cork.lock().waiting.len() <= WAITING_MAX);
    }
}
