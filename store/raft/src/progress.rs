//! What a leader knows of one peer, and how it keeps entries flowing to it.

use alloc::collections::VecDeque;
use core::time::Duration;

use holm_base::{NodeId, Op, Time};

/// How entries are sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Where its log matches is not known: one Append at a time, sent in this heartbeat round.
    Probe { sent: Option<u64> },
    /// It is known: several at a time.
    Replicate {
        in_flight: VecDeque<InFlight>,
        bytes: u64,
    },
    /// What it lacks is gone: it was offered a snapshot then.
    Snapshot { op: Op, offered: Time },
}

/// An Append that was not acknowledged yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) last: Op,
    pub(crate) bytes: u64,
    /// The newest heartbeat round when it was sent.
    pub(crate) round: u64,
}

/// What a leader knows of a peer, for observers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerView {
    /// The peer.
    pub node: NodeId,
    /// Entries through here are durable there.
    pub matched: Op,
    /// When it last spoke.
    pub heard: Time,
    /// How long a question to it takes; zero until one was answered.
    pub rtt: Duration,
    /// It did not lag too far in its last whole round of catching up.
    pub is_in_sync: bool,
}

/// One peer of a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) mode: Mode,
    /// Entries through here are known to be durable there, in this leader's order.
    pub(crate) matched: Op,
    /// The part of them that counts for commits; zero while it mends its log.
    pub(crate) counted: Op,
    /// The next entry to send.
    pub(crate) next: Op,
    /// The commit point it was told, if nothing was lost.
    pub(crate) told: Op,
    /// When it last spoke.
    pub(crate) heard: Time,
    /// When the newest heartbeat that it answered was sent: the lease counts from there.
    pub(crate) stamp: Option<Time>,
    pub(crate) rtt: Duration,
    /// It counts again once it has matched this (I14).
    pub(crate) recover_until: Option<Op>,
    /// The newest heartbeat to it, and what it had acknowledged when that was sent.
    pub(crate) beat: (u64, Op),
    /// Entries are being read back from disk for it, from this op on.
    pub(crate) fetching: Option<Op>,
    /// When it was last said that nothing can be offered to it.
    pub(crate) missed_at: Option<Time>,
    /// Where the log ended when its present round of catching up began.
    round_end: Op,
    /// It has never lagged too far in this round.
    is_near: bool,
    /// It did not in the last whole round.
    pub(crate) is_in_sync: bool,
}

impl Peer {
    /// It needs the entries behind this one: a snapshot on offer brings those before.
    pub(crate) fn needs_behind(&self) -> Op {
        match self.mode {
            Mode::Snapshot { op, .. } => self.matched.max(op),
            Mode::Probe { .. } | Mode::Replicate { .. } => self.matched,
        }
    }

    pub(crate) const fn new(node: NodeId, last: Op, now: Time) -> Self {
        Self {
            node,
            mode: Mode::Probe { sent: None },
            matched: Op::ZERO,
            counted: Op::ZERO,
            next: last.next(),
            told: Op::ZERO,
            heard: now,
            stamp: None,
            rtt: Duration::ZERO,
            recover_until: None,
            beat: (0, Op::ZERO),
            fetching: None,
            missed_at: None,
            round_end: last,
            is_near: false,
            is_in_sync: false,
        }
    }

    /// It has made entries through `matched` durable.
    pub(crate) fn acknowledge(&mut self, matched: Op, is_recovering: bool) {
        if matched < self.matched {
            return;
        }
        self.matched = matched;
        self.next = self.next.max(matched.next());
        match &mut self.mode {
            Mode::Probe { .. } => self.replicate_from(matched.next()),
            Mode::Replicate { in_flight, bytes } => {
                while let Some(first) = in_flight.front()
                    && first.last <= matched
                {
                    *bytes -= first.bytes;
                    in_flight.pop_front();
                }
            }
            Mode::Snapshot { op, .. } => {
                if matched >= *op {
                    self.replicate_from(matched.next());
                }
            }
        }
        if self.recover_until.is_some_and(|until| matched >= until) {
            self.recover_until = None;
        }
        if is_recovering {
            self.counted = Op::ZERO;
        } else if self.recover_until.is_none() {
            self.counted = self.counted.max(matched);
        }
    }

    fn replicate_from(&mut self, next: Op) {
        self.next = next;
        self.mode = Mode::Replicate {
            in_flight: VecDeque::new(),
            bytes: 0,
        };
    }

    /// Something sent to it was lost, or did not match: look again from `next`.
    pub(crate) fn probe(&mut self, next: Op) {
        self.next = next.max(self.matched.next());
        self.mode = Mode::Probe { sent: None };
        self.told = Op::ZERO;
        self.fetching = None;
    }

    /// Its log ends before what it acknowledged (I14).
    pub(crate) fn forget(&mut self, own_last: Op, its_last: Op) {
        self.matched = Op::ZERO;
        self.counted = Op::ZERO;
        self.recover_until = Some(own_last);
        self.probe(its_last.next());
    }

    /// Measures whether it keeps up, for its promotion.
    pub(crate) fn catch_up(&mut self, last: Op, lag_max: u64) {
        let lag = last.value().saturating_sub(self.matched.value());
        if lag > lag_max {
            self.is_near = false;
            self.is_in_sync = false;
        }
        // A round that is over the moment it begins is the last one worth beginning.
        for _ in 0..2 {
            if self.matched < self.round_end || self.is_in_sync {
                break;
            }
            self.is_in_sync = self.is_near;
            self.is_near = lag <= lag_max;
            self.round_end = last;
        }
    }

    /// How many Appends may be under way: more only where the link is slow beside the disk.
    pub(crate) fn limit(&self, sync: Duration) -> usize {
        if sync.is_zero() || self.rtt <= sync * 4 {
            return 2;
        }
        let many = self.rtt.as_nanos().div_ceil(sync.as_nanos());
        usize::try_from(many).map_or(64, |many| many.clamp(2, 64))
    }

    /// Whether another Append may go.
    pub(crate) fn has_room(&self, sync: Duration, bytes_max: u64) -> bool {
        match &self.mode {
            Mode::Probe { sent } => sent.is_none(),
            Mode::Replicate { in_flight, bytes } => {
                in_flight.len() < self.limit(sync) && *bytes < bytes_max
            }
            Mode::Snapshot { .. } => false,
        }
    }

    /// An Append through `last` is on its way.
    pub(crate) fn sent(&mut self, last: Op, weight: u64, round: u64) {
        match &mut self.mode {
            Mode::Probe { sent } => *sent = Some(round),
            Mode::Replicate { in_flight, bytes } => {
                in_flight.push_back(InFlight {
                    last,
                    bytes: weight,
                    round,
                });
                *bytes += weight;
                self.next = last.next();
            }
            Mode::Snapshot { .. } => {}
        }
    }

    /// What a heartbeat reply says of Appends sent before that heartbeat: they have arrived
    /// through `seen`, or are lost.
    pub(crate) fn review(&mut self, round: u64, seen: Op) {
        match &mut self.mode {
            Mode::Probe { sent } => {
                if sent.is_some_and(|sent| sent < round) {
                    *sent = None;
                }
            }
            Mode::Replicate { in_flight, .. } => {
                let is_lost = in_flight
                    .iter()
                    .any(|flight| flight.round < round && flight.last > seen);
                // A peer that restarted has not checked its log against this leader's yet.
                let is_unsure = in_flight.is_empty() && seen < self.matched;
                if is_lost || is_unsure {
                    self.probe(seen.next());
                }
            }
            Mode::Snapshot { .. } => {}
        }
    }
}
