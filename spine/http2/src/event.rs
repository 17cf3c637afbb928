//! What a client's bytes come to.

use alloc::sync::Arc;

use crate::head::Head;
use crate::reason::Reason;

/// A stream's name: its place in a table that is as long as streams are at once, and its
/// number, which no other stream of the connection ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The place: dense, and used again.
    pub slot: usize,
    /// The number.
    pub id: u32,
}

/// What a client's bytes come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A request has begun. Heads that came in the same bytes are the same.
    Began {
        /// The stream.
        key: Key,
        /// Its head.
        head: Arc<Head>,
        /// Whether it has no body.
        is_whole: bool,
    },
    /// A piece of a request's body. It counts against the windows until it is released.
    Data {
        /// The stream.
        key: Key,
        /// The piece.
        bytes: &'a [u8],
        /// Whether it is the last.
        is_last: bool,
    },
    /// A request's body has ended behind its last piece.
    Ended {
        /// The stream.
        key: Key,
    },
    /// The stream was broken off, by the client or for what the client did on it. It is gone.
    Reset {
        /// The stream.
        key: Key,
        /// Why.
        reason: Reason,
    },
    /// The client has ended a request that was answered before that. The stream is gone.
    Over {
        /// The stream.
        key: Key,
    },
    /// The client asked whether we are here, and was told.
    Pinged,
    /// The connection has failed: what was said last is in the output, and nothing more is read.
    Failed {
        /// Why.
        reason: Reason,
    },
}
