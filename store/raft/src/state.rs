//! What a replica remembers: what must survive a crash, what need not, and its role.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use holm_base::{NodeId, Op, Prng, RequestId, Time, WriteId};

use crate::effect::Hard;
use crate::leader::Leader;
use crate::log::Log;
use crate::origin::{Outbox, Windows};
use crate::reads::Reads;
use crate::snapshot::{Manifest, Receiving};
use crate::timers::Timers;

/// What must survive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    pub(crate) hard: Hard,
    pub(crate) log: Log,
}

/// What need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volatile {
    pub(crate) role: Role,
    /// The leader of this term, if known; this node itself while it leads.
    pub(crate) leader: Option<NodeId>,
    /// Until then votes are refused: a leader was heard, or this run has just begun.
    pub(crate) loyal_until: Time,
    /// Until then, or a word of the leader, or another term, elections are begun in small steps.
    pub(crate) suspicious_until: Option<Time>,
    pub(crate) commit: Op,
    pub(crate) applied: Op,
    pub(crate) windows: Windows,
    pub(crate) outbox: Outbox,
    pub(crate) reads: Reads,
    pub(crate) receiving: Option<Receiving>,
    /// The newest snapshot that is kept outside.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// Who waits for leadership to arrive at a node that took it over.
    pub(crate) moving: Option<RequestId>,
    /// The log was found damaged, and no record says so yet.
    pub(crate) is_damage_unsaved: bool,
    pub(crate) next_write: WriteId,
    pub(crate) timers: Timers,
    pub(crate) prng: Prng,
}

/// What a replica is at the moment. Each variant owns what only it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
    /// A follower that may have lost what it acknowledged (I14).
    Recovering(Recovering),
}

/// What a follower knows of its leader's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    /// Entries through here are the leader's.
    pub(crate) verified: Op,
    /// An acknowledgement is to be sent with the next flush.
    pub(crate) is_ack_due: bool,
    /// Others that count the entries received since the last acknowledgement.
    pub(crate) ack_to: Vec<NodeId>,
    /// What voters acknowledged in this term, for entries that came in here.
    pub(crate) tally: BTreeMap<NodeId, Op>,
}

impl Follower {
    pub(crate) const fn new(commit: Op) -> Self {
        Self {
            verified: commit,
            is_ack_due: false,
            ack_to: Vec::new(),
            tally: BTreeMap::new(),
        }
    }
}

/// A damaged replica on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovering {
    pub(crate) follower: Follower,
    /// Once the log reaches this, nothing acknowledged is missing.
    pub(crate) target: Option<Op>,
}

/// Votes on their way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Campaign {
    pub(crate) votes: BTreeMap<NodeId, bool>,
    /// The own vote counts once this is durable.
    pub(crate) hard: Option<WriteId>,
}

impl Volatile {
    pub(crate) fn new(role: Role, applied: Op, outbox: Outbox, seed: u64) -> Self {
        Self {
            role,
            leader: None,
            loyal_until: Time::ZERO,
            suspicious_until: None,
            commit: applied,
            applied,
            windows: Windows::new(),
            outbox,
            reads: Reads::default(),
            receiving: None,
            manifest: None,
            moving: None,
            is_damage_unsaved: false,
            next_write: WriteId::new(1),
            timers: Timers::default(),
            prng: Prng::new(seed),
        }
    }
}
