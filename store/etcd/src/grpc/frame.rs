//! gRPC's own framing inside HTTP/2: a flag, a length, a message.
//!
//! ```text
//! 0 u8 compressed (0 or 1); 1 u32 length, big-endian; 5 message
//! ```
//!
//! What would surprise: a message is copied out of what was read, once, so that what was read
//! can be read over. A call that keeps a small message keeps nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::status::{Code, Status};

/// What precedes each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// Bytes of incomplete messages that all connections together may hold.
const PARTIAL_BYTES_MAX: usize = 256 << 20;

/// The messages of one call, as they come.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// What has come and was not taken.
    come: BytesMut,
    /// Whether the client has said everything.
    has_ended: bool,
    /// What is wrong with it, for ever.
    broken: Option<Status>,
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
    pub(crate) fn new(message_bytes_max: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            come: BytesMut::new(),
            has_ended: false,
            broken: None,
            message_bytes_max,
            ledger,
        }
    }

    /// The message that these bytes are, if nothing came before and they are just that.
    pub(crate) fn whole(&self, piece: &[u8]) -> Option<Bytes> {
        if !self.come.is_empty() {
            return None;
        }
        let bytes = self.length(piece).ok()??;
        let body = &piece[PREFIX_BYTES..];
        (body.len() == bytes).then(|| Bytes::copy_from_slice(body))
    }

    /// Takes a piece of what the client says.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        if self.broken.is_some() {
            return;
        }
        match self.ledger.take(piece.len()) {
            Ok(()) => self.come.extend_from_slice(piece),
            Err(status) => self.broken = Some(status),
        }
    }

    /// The client has said everything.
    pub(crate) const fn end(&mut self) {
        self.has_ended = true;
    }

    /// Whether the next message has come whole, or never will.
    pub(crate) fn is_ready(&self) -> bool {
        self.has_ended
            || self.broken.is_some()
            || match self.length(&self.come) {
                Ok(Some(bytes)) => self.come.len() >= PREFIX_BYTES + bytes,
                Ok(None) => false,
                Err(_) => true,
            }
    }

    /// The next message, if it has come: `Some(None)` once the client has said everything.
    pub(crate) fn next(&mut self) -> Result<Option<Option<Bytes>>, Status> {
        if let Some(status) = &self.broken {
            return Err(status.clone());
        }
        if let Some(bytes) = self.length(&self.come)?
            && self.come.len() >= PREFIX_BYTES + bytes
        {
            self.ledger.give_back(PREFIX_BYTES + bytes);
            self.come.advance(PREFIX_BYTES);
            let message = Bytes::copy_from_slice(&self.come[..bytes]);
            self.come.advance(bytes);
            self.tidy();
            return Ok(Some(Some(message)));
        }
        match (self.has_ended, self.come.is_empty()) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(None)),
            (true, false) => Err(Status::new(
                Code::Internal,
                "the request ended in the middle of a message",
            )),
        }
    }

    /// All that has come, whatever it is; `Some` and nothing once the client has said everything.
    pub(crate) fn next_raw(&mut self) -> Option<Bytes> {
        if self.come.is_empty() && !self.has_ended {
            return None;
        }
        self.ledger.give_back(self.come.len());
        Some(core::mem::take(&mut self.come).freeze())
    }

    /// Lets memory go that nothing lies in.
    fn tidy(&mut self) {
        if self.come.is_empty() {
            self.come = BytesMut::new();
        }
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
        self.ledger.give_back(self.come.len());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound() -> Inbound {
        Inbound::new(100, Arc::default())
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let said = [
            &[0, 0, 0, 0, 3][..],
            b"one",
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1],
            b"2",
        ];
        let said = said.concat();
        for step in 1..=said.len() {
            let (mut inbound, mut found) = (inbound(), Vec::new());
            for piece in said.chunks(step) {
                inbound.add(piece);
                while let Some(Some(message)) = inbound.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", b"2"]);
            assert!(!inbound.is_ready() && inbound.ledger.held.load(Ordering::Relaxed) == 0);
            inbound.end();
            assert!(inbound.is_ready());
            assert_eq!(inbound.next().unwrap(), Some(None));
        }
    }

    #[test]
    fn one_message_in_one_piece_is_taken_at_once() {
        let mut inbound = inbound();
        let piece = [0, 0, 0, 0, 2, b'o', b'k'];
        assert_eq!(inbound.whole(&piece).as_deref(), Some(&b"ok"[..]));
        assert_eq!(inbound.whole(&piece[..6]), None);
        assert_eq!(inbound.whole(&[&piece[..], &[0]].concat()), None);
        assert_eq!(inbound.whole(&[1, 0, 0, 0, 0]), None);
        inbound.add(&piece[..1]);
        assert_eq!(inbound.whole(&piece), None);
    }

    #[test]
    fn incomplete_messages_are_bounded_for_all_together() {
        let mut inbound = inbound();
        inbound.ledger.take(PARTIAL_BYTES_MAX).unwrap();
        inbound.add(b"\0");
        assert!(inbound.is_ready());
        assert_eq!(inbound.next().unwrap_err().code(), Code::ResourceExhausted);
        let held = &inbound.ledger.held;
        assert_eq!(held.load(Ordering::Relaxed), PARTIAL_BYTES_MAX);
    }
}
