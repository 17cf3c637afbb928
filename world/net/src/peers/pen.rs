//! The writing end of a connection.
//!
//! What would surprise: it is not only the connection's task that writes. Whoever has a few frames
//! to send may write them at once, on its own thread, where the system takes them at once
//! ([`crate::peers::connection::Connection::write_here`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// A buffer that grew beyond this for one long frame is given back.
const BUFFER_MAX: usize = 1 << 20;

/// A stream, and what is on its way into it.
pub(crate) struct Pen {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    out: BytesMut,
    must_flush: bool,
}

impl Pen {
    pub(crate) fn new(stream: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            out: BytesMut::new(),
            must_flush: false,
        }
    }

    /// Writes what `collect` finds, and again, until it finds nothing. Ready when all has left;
    /// gives what `collect` said last. After an error the stream is of no use.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        mut collect: impl FnMut(&mut BytesMut) -> bool,
    ) -> Poll<io::Result<bool>> {
        loop {
            while !self.out.is_empty() {
                let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.out))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.out.advance(written);
                self.must_flush = true;
            }
            if self.must_flush {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.must_flush = false;
            }
            if self.out.capacity() > BUFFER_MAX {
                self.out = BytesMut::new();
            }
            let answer = collect(&mut self.out);
            if self.out.is_empty() {
                return Poll::Ready(Ok(answer));
            }
        }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty() && !self.must_flush
    }

    /// Says that nothing follows. Ready when that has left.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
