//! Questions of this site to the leader; those that wait at the leader are in `room.rs`.
//!
//! What would surprise: a question whose answer was lost is asked again, for renewing a lease
//! twice does no harm. A change of members is asked once.

use std::collections::BTreeMap;
use std::time::Duration;

use holm_base::{NodeId, Op, RequestId, Time};

use crate::message::{Ask, Told, Wish, Word};

/// How many questions of this site may be open. One more is answered `too many requests`.
pub(crate) const ASKS_MAX: usize = 65_536;

/// A question that was asked here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) request: RequestId,
    pub(crate) wish: Wish,
    /// Whether the keys of the lease are wanted too; they are known here.
    pub(crate) with_keys: bool,
    /// When it is given up.
    until: Time,
    /// Whom it went to.
    sent: Option<NodeId>,
    /// An answer that this node must first catch up with.
    told: Option<Told>,
}

impl Open {
    /// Whether a leader may be at it, or may have done it.
    pub(crate) const fn was_sent(&self) -> bool {
        self.sent.is_some()
    }
}

/// What became of a question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// It was answered.
    Told(Word),
    /// It was asked of a leader that leads no longer, and must not be asked again.
    Lost,
    /// Nobody answered in time.
    Late,
}

/// The questions that are open.
#[derive(Debug)]
pub(crate) struct Asks {
    open: BTreeMap<u64, Open>,
    next_id: u64,
    /// Whom the open ones were last put to.
    leader: Option<NodeId>,
    /// When they are looked at next.
    look_at: Time,
    /// How long to wait before asking again.
    pause: Duration,
    /// How long to go on asking.
    patience: Duration,
}

impl Asks {
    pub(crate) fn new(boot: u64, election_timeout: Duration) -> Self {
        Self {
            open: BTreeMap::new(),
            // No answer to an earlier run is taken for one to this.
            next_id: boot.wrapping_shl(32),
            leader: None,
            look_at: Time::ZERO,
            pause: election_timeout / 2,
            patience: Duration::from_secs(5) + election_timeout * 2,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open.len() >= ASKS_MAX
    }

    /// Adds a question; it leaves with the next [`Asks::look`].
    pub(crate) fn add(&mut self, now: Time, request: RequestId, wish: Wish, with_keys: bool) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let open = Open {
            request,
            wish,
            with_keys,
            until: now + self.patience,
            sent: None,
            told: None,
        };
        self.open.insert(id, open);
        self.look_at = now;
    }

    /// When [`Asks::look`] has something to do because time passed.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        (!self.open.is_empty()).then_some(self.look_at)
    }

    /// Sends what is due to the leader, and gives up what has waited for too long.
    pub(crate) fn look(
        &mut self,
        now: Time,
        (leader, applied): (Option<NodeId>, Op),
        send: &mut impl FnMut(NodeId, Ask),
        end: &mut impl FnMut(Open, Ended),
    ) {
        let is_new = leader != self.leader;
        if self.open.is_empty() || (!is_new && now < self.look_at) {
            return;
        }
        self.leader = leader;
        self.look_at = now + self.pause;
        self.open.retain(|&id, open| {
            if now >= open.until {
                end(*open, Ended::Late);
                return false;
            }
            let is_once = matches!(open.wish, Wish::Change(_));
            if is_once && open.sent.is_some_and(|to| Some(to) != leader) {
                end(*open, Ended::Lost);
                return false;
            }
            if let Some(to) = leader
                && open.told.is_none()
                && !(is_once && open.sent.is_some())
            {
                open.sent = Some(to);
                let (op, wish) = (applied, open.wish);
                send(to, Ask { id, op, wish });
            }
            true
        });
    }

    /// All open questions, because this node leads now and answers itself.
    pub(crate) fn take_all(&mut self) -> Vec<Open> {
        core::mem::take(&mut self.open).into_values().collect()
    }

    /// A leader answered.
    pub(crate) fn told(
        &mut self,
        (from, applied): (NodeId, Op),
        told: Told,
        end: &mut impl FnMut(Open, Ended),
    ) {
        let Some(open) = self.open.get_mut(&told.id) else {
            return;
        };
        if open.sent != Some(from) {
            return;
        }
        if told.word == Word::NotLeader {
            // Whoever it is, this node will hear; until then it asks again.
            if matches!(open.wish, Wish::Change(_)) {
                open.sent = None;
            }
            return;
        }
        if matches!(told.word, Word::Left { .. }) && told.op > applied {
            open.told = Some(told);
            return;
        }
        if let Some(open) = self.open.remove(&told.id) {
            end(open, Ended::Told(told.word));
        }
    }

    /// More was applied here: answers that waited for it.
    pub(crate) fn caught_up(&mut self, applied: Op, end: &mut impl FnMut(Open, Ended)) {
        let is_due = |_: &u64, open: &mut Open| open.told.is_some_and(|it| it.op <= applied);
        for (_, open) in self.open.extract_if(.., is_due) {
            if let Some(told) = open.told {
                end(open, Ended::Told(told.word));
            }
        }
    }

    /// Whether no question is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}
