//! Commit points that wait for entries to travel with.
//!
//! What would surprise: this is not a rule of the protocol but a slow network, and the driver's
//! to have: the engine's thread has it, and so has a rehearsal whose work costs something. A
//! follower that hears of a commit a millisecond later is as right as before, and whoever writes
//! one thing after another has the next entries tell it: a message, a wake-up and a step of the
//! engine less at each follower.

use std::time::Duration;

use holm_base::{NodeId, Op, Term, Time};
use holm_raft::Body;

use crate::message::Message;

/// How long a commit point waits.
const PATIENCE: Duration = Duration::from_millis(1);

/// What waits: one message for each node at most.
#[derive(Debug, Default)]
pub struct Words {
    waiting: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    to: NodeId,
    due: Time,
    message: Message,
}

impl Words {
    /// What is to be sent to a node now, in this order, when there is `message` for it: nothing
    /// if that only tells a commit point, and what waited before it unless it tells as much.
    pub fn pass(&mut self, now: Time, to: NodeId, message: Message) -> [Option<Message>; 2] {
        let place = self.waiting.iter().position(|word| word.to == to);
        if is_word(&message) {
            match place {
                Some(place) => self.waiting[place].message = message,
                None => self.waiting.push(Word {
                    to,
                    due: now + PATIENCE,
                    message,
                }),
            }
            return [None, None];
        }
        let word = place.map(|place| self.waiting.swap_remove(place).message);
        let untold = word.filter(|word| told_by(&message) < told_by(word));
        [untold, Some(message)]
    }

    /// When the first has waited for long enough.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.waiting.iter().map(|word| word.due).min()
    }

    /// Takes one that has waited for long enough.
    pub fn ripe(&mut self, now: Time) -> Option<(NodeId, Message)> {
        let place = self.waiting.iter().position(|word| word.due <= now)?;
        let Word { to, message, .. } = self.waiting.swap_remove(place);
        Some((to, message))
    }
}

/// Whether a message only tells a commit point.
const fn is_word(message: &Message) -> bool {
    match message {
        Message::Raft(raft) => matches!(raft.body, Body::Commit { .. }),
        Message::Ask(_) | Message::Told(_) | Message::Island(_) => false,
    }
}

/// The commit point that a message tells, with its term: later ones tell more.
fn told_by(message: &Message) -> Option<(Term, Op)> {
    let Message::Raft(raft) = message else {
        return None;
    };
    if let Body::Append { commit, .. } | Body::Commit { commit } | Body::Heartbeat { commit, .. } =
        raft.body
    {
        Some((raft.term, commit))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use holm_raft::Position;

    use super::*;

    const TO: NodeId = NodeId::new(2);

    fn message(body: Body) -> Message {
        let term = Term::new(1);
        Message::Raft(holm_raft::Message { term, body })
    }

    fn commit(op: u64) -> Message {
        let commit = Op::new(op);
        message(Body::Commit { commit })
    }

    fn append(op: u64) -> Message {
        message(Body::Append {
            previous: Position::ZERO,
            commit: Op::new(op),
            entries: Vec::new(),
        })
    }

    #[test]
    fn entries_that_tell_as_much_take_its_place() {
        let mut words = Words::default();
        for op in [4, 5] {
            assert_eq!(words.pass(Time::ZERO, TO, commit(op)), [None, None]);
        }
        let sent = words.pass(Time::ZERO, TO, append(5));
        assert_eq!(sent, [None, Some(append(5))]);
        assert_eq!(words.due(), None, "nothing waits any more");
    }

    #[test]
    fn what_tells_less_comes_behind_it() {
        let mut words = Words::default();
        for later in [append(6), message(Body::TimeoutNow)] {
            assert_eq!(words.pass(Time::ZERO, TO, commit(7)), [None, None]);
            let sent = words.pass(Time::ZERO, TO, later.clone());
            assert_eq!(sent, [Some(commit(7)), Some(later)]);
        }
    }

    #[test]
    fn one_that_finds_no_company_leaves_when_its_time_has_come() {
        let mut words = Words::default();
        let later = Time::ZERO + PATIENCE;
        assert_eq!(words.pass(Time::ZERO, TO, commit(7)), [None, None]);
        assert_eq!(words.pass(later, TO, commit(8)), [None, None]);
        let other = NodeId::new(3);
        assert_eq!(words.pass(later, other, append(8)), [None, Some(append(8))]);
        assert_eq!(words.due(), Some(later), "since the first came");
        assert_eq!(words.ripe(Time::ZERO), None);
        assert_eq!(words.ripe(later), Some((TO, commit(8))));
        assert_eq!(words.ripe(later), None);
    }
}
