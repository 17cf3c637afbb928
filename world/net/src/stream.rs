//! One type for every kind of connection, with the sniffed bytes put back in front.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A connection's bytes: TCP, TLS over TCP, or memory for tests.
#[derive(Debug)]
pub struct Stream {
    kind: Kind,
    /// Bytes that were read to learn the protocol and that come first; empty once replayed.
    front: Vec<u8>,
    /// How many of `front` were replayed.
    replayed: usize,
}

/// How the bytes are written.
#[derive(Debug)]
enum Kind {
    Plain(Carrier),
    Tls(Box<TlsStream<Carrier>>),
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Carrier {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

impl Stream {
    /// A stream within the process, for tests and for clients that live in it.
    #[must_use]
    pub const fn memory(stream: DuplexStream) -> Self {
        Self::plain(Carrier::Memory(stream))
    }

    pub(crate) const fn plain(carrier: Carrier) -> Self {
        Self {
            kind: Kind::Plain(carrier),
            front: Vec::new(),
            replayed: 0,
        }
    }

    pub(crate) fn tls(stream: TlsStream<Carrier>) -> Self {
        Self {
            kind: Kind::Tls(Box::new(stream)),
            front: Vec::new(),
            replayed: 0,
        }
    }

    /// Puts bytes back: the next reads give them first.
    pub fn put_back(&mut self, bytes: Vec<u8>) {
        debug_assert!(self.front.is_empty(), "bytes are put back once");
        self.front = bytes;
        self.replayed = 0;
    }

    /// Copies what was put back into `target`, and forgets it once all of it was copied.
    fn replay(&mut self, target: &mut ReadBuf<'_>) {
        let rest = &self.front[self.replayed..];
        let count = rest.len().min(target.remaining());
        target.put_slice(&rest[..count]);
        self.replayed += count;
        if self.replayed == self.front.len() {
            self.front = Vec::new();
            self.replayed = 0;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.front.is_empty() {
            self.replay(target);
            return Poll::Ready(Ok(()));
        }
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_read(cx, target),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, target),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write(cx, source),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, source),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sources: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, sources),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, sources),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, target),
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, target),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, source),
            Self::Memory(stream) => Pin::new(stream).poll_write(cx, source),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sources: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, sources),
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, sources),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_put_back_come_first_even_into_a_small_buffer() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut stream = Stream::memory(far);
        stream.put_back(b"abc".to_vec());
        near.write_all(b"def").await.unwrap();
        let mut two = [0; 2];
        stream.read_exact(&mut two).await.unwrap();
        let mut four = [0; 4];
        stream.read_exact(&mut four).await.unwrap();
        assert_eq!((&two, &four), (b"ab", b"cdef"));
    }
}
