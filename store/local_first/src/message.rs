//! What sites say to each other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::island::Tip;
use crate::ranges::Short;
use crate::seek::{Ask, Tell};
use crate::update::Chain;
use crate::vector::{Dot, Slot, Vector};

/// One thing that a site tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Each second, and as a greeting: how far this site is.
    Beat {
        /// Up to where it has taken in everything.
        vector: Vector,
        /// By which table of members it goes.
        epoch: u32,
        /// The hash of its newest own update; of nothing before the first.
        head: Chain,
        /// The beginning of the hash of each slot's newest update, in the order of the vector;
        /// empty where that is not said.
        chains: Vec<u64>,
        /// Whether the other is to answer with one of its own.
        asks: bool,
        /// Whether it has more than it says: it has begun, and has not heard all others yet.
        keeps_back: bool,
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
    /// An update of the asked site does not follow on what is here of it: it has told two stories.
    Forked {
        /// The update.
        dot: Dot,
    },
    /// What was asked for is not kept any more: only a session can help.
    Truncated {
        /// Whose.
        slot: Slot,
    },
    /// Asks for what differs, whatever it is.
    Open {
        /// The session's number.
        session: u64,
    },
    /// The states are pinned, with an index of them.
    Opened {
        /// The session's number.
        session: u64,
        /// How far the site was when it pinned them.
        tips: BTreeMap<Slot, Tip>,
        /// What all of its keys amount to.
        total: Short,
    },
    /// What the asker of a session has of some ranges, and whose states it wants.
    Ask(Ask),
    /// What the other side has of them, and states.
    Tell(Tell),
    /// The session is over: nothing need be pinned for it any more.
    Done {
        /// The session's number.
        session: u64,
    },
}
