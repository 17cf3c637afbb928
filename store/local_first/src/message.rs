//! What sites say to each other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::island::Tip;
use crate::vector::{Slot, Vector};

/// One thing that a site tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Each second, and as a greeting: how far this site is.
    Beat {
        /// Up to where it has taken in everything.
        vector: Vector,
        /// Whether the other is to answer with one of its own.
        asks: bool,
    },
    /// Updates of one slot, in order.
    Updates {
        /// Whose.
        slot: Slot,
        /// Each as its site wrote it.
        updates: Vec<Bytes>,
    },
    /// Asks for the updates of a slot behind a number.
    Pull {
        /// Whose.
        slot: Slot,
        /// The last one that the asker has.
        after: u64,
    },
    /// What was asked for is not kept any more: only a session can help.
    Truncated {
        /// Whose.
        slot: Slot,
    },
    /// Asks for everything there is.
    Open {
        /// The session's number.
        session: u64,
    },
    /// The states are pinned.
    Opened {
        /// The session's number.
        session: u64,
        /// How far the site was when it pinned them.
        tips: BTreeMap<Slot, Tip>,
    },
    /// Asks for the next states, behind a key; none for the first.
    More {
        /// The session's number.
        session: u64,
        /// The last key that the asker has.
        after: Option<Bytes>,
    },
    /// States in order of their keys.
    States {
        /// The session's number.
        session: u64,
        /// Behind which key they begin.
        after: Option<Bytes>,
        /// Keys with their states, as they are written.
        states: Vec<(Bytes, Bytes)>,
        /// Whether these are the last.
        is_last: bool,
    },
}
