//! gRPC's own framing inside HTTP/2: a flag, a length, a message.
//!
//! ```text
//! 0 u8 compressed (0 or 1); 1 u32 length, big-endian; 5 message
//! ```
//!
//! What would surprise: a message that came in one piece, as nearly all do, is not copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::RecvStream;

use crate::status::{Code, Status};

/// What precedes each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Bytes of incomplete messages that all connections together may hold.
const PARTIAL_BYTES_MAX: usize = 256 << 20;

/// The messages of one call, as they come.
#[derive(Debug)]
pub(crate) struct Inbound {
    body: RecvStream,
    /// What has come of the next message.
    partial: BytesMut,
    /// What came behind the last message.
    rest: Bytes,
    message_bytes_max: usize,
    ledger: Arc<Ledger>,
}

/// Counts the bytes of incomplete messages.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: AtomicUsize,
}

impl Ledger {
    fn take(&self, bytes: usize) -> Result<(), Status> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > PARTIAL_BYTES_MAX {
            self.give_back(bytes);
            return Err(Status::new(
                Code::ResourceExhausted,
                "etcdserver: too many requests",
            ));
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Inbound {
    pub(crate) fn new(body: RecvStream, message_bytes_max: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            body,
            partial: BytesMut::new(),
            rest: Bytes::new(),
            message_bytes_max,
            ledger,
        }
    }

    /// The next message; `None` once the client has said everything.
    ///
    /// Cancelling it loses nothing.
    pub(crate) async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.complete()? {
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(Ok(piece)) => self.add(piece)?,
                Some(Err(error)) => return Err(broken(&error)),
                None if self.is_between_messages() => return Ok(None),
                None => {
                    return Err(Status::new(
                        Code::Internal,
                        "the request ended in the middle of a message",
                    ));
                }
            }
        }
    }

    /// Waits until the client has said that it has no more to say, which some do in a frame of
    /// its own: a call that is dropped before that is reset, and a client whose calls are reset
    /// too often is taken for an attacker. Returns at once if there is more than that.
    pub(crate) async fn end(&mut self) {
        while self.is_between_messages() && !self.body.is_end_stream() {
            match self.body.data().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(_) | None => return,
            }
        }
    }

    fn is_between_messages(&self) -> bool {
        self.partial.is_empty() && self.rest.is_empty()
    }

    fn add(&mut self, piece: Bytes) -> Result<(), Status> {
        self.body
            .flow_control()
            .release_capacity(piece.len())
            .map_err(|error| broken(&error))?;
        if self.is_between_messages() {
            self.rest = piece;
            return Ok(());
        }
        self.ledger.take(piece.len() + self.rest.len())?;
        self.partial.extend_from_slice(&self.rest);
        self.rest = Bytes::new();
        self.partial.extend_from_slice(&piece);
        Ok(())
    }

    /// Takes a whole message off what has come, if there is one.
    fn complete(&mut self) -> Result<Option<Bytes>, Status> {
        let come: &[u8] = if self.partial.is_empty() {
            &self.rest
        } else {
            &self.partial
        };
        let Some(bytes) = self.length(come)? else {
            return Ok(None);
        };
        let whole = PREFIX_BYTES + bytes;
        if come.len() < whole {
            return Ok(None);
        }
        let mut message = if self.partial.is_empty() {
            self.rest.split_to(whole)
        } else {
            self.ledger.give_back(self.partial.len());
            let mut all = core::mem::take(&mut self.partial).freeze();
            let message = all.split_to(whole);
            self.rest = all;
            message
        };
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }

    /// The length that the prefix names, once it has come; refuses what it must not be.
    fn length(&self, come: &[u8]) -> Result<Option<usize>, Status> {
        let Some((&flag, length)) = come.split_first().filter(|it| it.1.len() >= 4) else {
            return Ok(None);
        };
        if flag != 0 {
            return Err(Status::new(
                Code::Unimplemented,
                "the message is compressed, which this server does not read: send identity",
            ));
        }
        let bytes = usize::try_from((&length[..4]).get_u32()).unwrap_or(usize::MAX);
        if bytes > self.message_bytes_max {
            let max = self.message_bytes_max;
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("grpc: received message larger than max ({bytes} vs. {max})"),
            ));
        }
        Ok(Some(bytes))
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.ledger.give_back(self.partial.len());
    }
}

fn broken(error: &h2::Error) -> Status {
    Status::new(Code::Canceled, format!("the request broke off: {error}"))
}

/// A buffer with room for a message of `bytes` and its prefix already in place.
pub(crate) fn begin(bytes: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    put_prefix(&mut out, bytes);
    out
}

/// Appends the prefix of a message of `bytes`.
pub(crate) fn put_prefix(out: &mut BytesMut, bytes: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(bytes).expect("a message is bounded well below 4 GiB"));
}

/// A message in its frame.
pub(crate) fn whole(message: &impl prost::Message) -> Bytes {
    let mut out = begin(message.encoded_len());
    message
        .encode(&mut out)
        .expect("the buffer grows as it must");
    out.freeze()
}
