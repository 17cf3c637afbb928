//! What waits for company on its way to another node.
//!
//! Commit points do, and so do entries for a follower without which a majority has them soon
//! enough: they leave together after a millisecond, or with whatever else goes to that node. So
//! a follower that no client waits for wakes, writes and syncs once for several puts.
//!
//! What would surprise: this is not a rule of the protocol but a slow network, and the driver's
//! to have: the engine's thread has it, and so has a rehearsal whose work costs something. An
//! entry counts when a majority has it, whoever that is, and a follower that hears of it a
//! millisecond later is as right as before. Who is waited for follows from what happened: those
//! whose acknowledgements come first, and those that ask for something.

use std::cmp::Reverse;
use std::time::Duration;

use holm_base::{NodeId, Op, Term, Time};
use holm_quorum::{Voters, majority};
use holm_raft::{Body, Entry};

use crate::message::Message;

/// How long something waits.
const PATIENCE: Duration = Duration::from_millis(1);
/// Entries of more bytes than this for one node do not wait.
const BYTES_MAX: u64 = 256 << 10;
/// A node that asked for something so lately has clients that wait for entries.
const ASKED_FOR: Duration = Duration::from_millis(50);

/// What waits, by node. Order of sending is kept for each node. What waits is bounded by a millisecond, 256 KiB of
/// entries a node, and what Raft lets be under way.
#[derive(Debug, Default)]
pub struct Company {
    waiting: Vec<Waiting>,
    peers: Vec<Peer>,
}

#[derive(Debug)]
struct Waiting {
    to: NodeId,
    due: Time,
    entries: Vec<Message>,
    bytes: u64,
    /// A commit point; it goes last.
    word: Option<Message>,
}

/// What another node was heard to say.
#[derive(Debug)]
struct Peer {
    node: NodeId,
    /// When it last asked for something.
    asked: Option<Time>,
    /// What it acknowledged, in which term.
    matched: (Term, Op),
    /// Whether commits wait for it.
    is_quick: bool,
}

impl Company {
    /// Another node says something.
    pub fn hear(&mut self, now: Time, from: NodeId, message: &Message) {
        match message {
            Message::Ask(_) => self.peer(from).asked = Some(now),
            Message::Raft(raft) => {
                if let Body::Ack { matched, .. } = raft.body {
                    self.acknowledged(from, (raft.term, matched));
                } else if matches!(raft.body, Body::Forward { .. }) {
                    self.peer(from).asked = Some(now);
                }
            }
            Message::Told(_) | Message::Island(_) => {}
        }
    }

    fn peer(&mut self, node: NodeId) -> &mut Peer {
        let place = self.peers.iter().position(|peer| peer.node == node);
        let place = place.unwrap_or_else(|| {
            self.peers.push(Peer {
                node,
                asked: None,
                matched: (Term::ZERO, Op::ZERO),
                is_quick: false,
            });
            self.peers.len() - 1
        });
        &mut self.peers[place]
    }

    /// Who acknowledges an entry before one that is waited for takes its place.
    fn acknowledged(&mut self, from: NodeId, matched: (Term, Op)) {
        let peer = self.peer(from);
        peer.matched = peer.matched.max(matched);
        if peer.is_quick {
            return;
        }
        let last = self.peers.iter_mut().filter(|peer| peer.is_quick);
        if let Some(last) = last.min_by_key(|peer| peer.matched)
            && last.matched < matched
        {
            last.is_quick = false;
            self.peer(from).is_quick = true;
        }
    }

    /// Whether a majority of those that this node leads has entries soon without `to`.
    fn is_spare(&mut self, now: Time, to: NodeId, (own, led): (NodeId, &Voters)) -> bool {
        if led.is_joint() {
            return false;
        }
        let is_recent = |peer: &Peer| peer.asked.is_some_and(|at| now.since(at) < ASKED_FOR);
        self.peers.retain_mut(|peer| {
            let is_voter = peer.node != own && led.contains(peer.node);
            peer.is_quick &= is_voter;
            is_voter || is_recent(peer)
        });
        for node in led.iter().filter(|node| *node != own) {
            self.peer(node);
        }
        let needed = majority(led.iter().count()) - usize::from(led.contains(own));
        let mut voters: Vec<&mut Peer> = self
            .peers
            .iter_mut()
            .filter(|peer| led.contains(peer.node))
            .collect();
        if voters.iter().filter(|peer| peer.is_quick).count() != needed {
            // The first in the order of what they have, those that were waited for before others.
            voters.sort_by_key(|peer| Reverse((peer.matched, peer.is_quick)));
            for (place, peer) in voters.iter_mut().enumerate() {
                peer.is_quick = place < needed;
            }
        }
        let peer = self.peer(to);
        !peer.is_quick && !is_recent(peer)
    }

    /// What is to be sent to a node now, in this order, when there is `message` for it. `led` is
    /// this node with the voters that it leads, itself perhaps among them.
    pub fn pass(
        &mut self,
        now: Time,
        led: Option<(NodeId, &Voters)>,
        to: NodeId,
        message: Message,
    ) -> Vec<Message> {
        if is_word(&message) {
            self.wait(now, to).word = Some(message);
            return Vec::new();
        }
        let bytes = weight(&message);
        let is_spare = bytes.is_some() && led.is_some_and(|led| self.is_spare(now, to, led));
        if let (true, Some(bytes)) = (is_spare, bytes) {
            let waiting = self.wait(now, to);
            waiting.bytes += bytes;
            waiting.entries.push(message);
            if waiting.bytes > BYTES_MAX {
                return self.release(to);
            }
            return Vec::new();
        }
        let place = self.waiting.iter().position(|it| it.to == to);
        let Some(place) = place else {
            return vec![message];
        };
        let Waiting {
            mut entries, word, ..
        } = self.waiting.swap_remove(place);
        entries.extend(word.filter(|word| told_by(&message) < told_by(word)));
        entries.push(message);
        entries
    }

    fn wait(&mut self, now: Time, to: NodeId) -> &mut Waiting {
        let place = self.waiting.iter().position(|it| it.to == to);
        let place = place.unwrap_or_else(|| {
            self.waiting.push(Waiting {
                to,
                due: now + PATIENCE,
                entries: Vec::new(),
                bytes: 0,
                word: None,
            });
            self.waiting.len() - 1
        });
        &mut self.waiting[place]
    }

    fn release(&mut self, to: NodeId) -> Vec<Message> {
        let place = self.waiting.iter().position(|it| it.to == to);
        place.map_or_else(Vec::new, |place| self.waiting.swap_remove(place).all())
    }

    /// When the first has waited for long enough.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        self.waiting.iter().map(|it| it.due).min()
    }

    /// Takes what has waited for long enough for one node.
    pub fn ripe(&mut self, now: Time) -> Option<(NodeId, Vec<Message>)> {
        let place = self.waiting.iter().position(|it| it.due <= now)?;
        let waiting = self.waiting.swap_remove(place);
        Some((waiting.to, waiting.all()))
    }
}

impl Waiting {
    fn all(self) -> Vec<Message> {
        let mut all = self.entries;
        all.extend(self.word);
        all
    }
}

/// Whether a message only tells a commit point.
const fn is_word(message: &Message) -> bool {
    match message {
        Message::Raft(raft) => matches!(raft.body, Body::Commit { .. }),
        Message::Ask(_) | Message::Told(_) | Message::Island(_) => false,
    }
}

/// What the entries of a message weigh; `None` if it has none.
fn weight(message: &Message) -> Option<u64> {
    let Message::Raft(raft) = message else {
        return None;
    };
    let Body::Append { entries, .. } = &raft.body else {
        return None;
    };
    (!entries.is_empty()).then(|| entries.iter().map(Entry::weight).sum())
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
    use bytes::Bytes;
    use holm_raft::{Command, Flags, Origin, Payload, Position};

    use super::*;

    const OWN: NodeId = NodeId::new(1);
    const NEAR: NodeId = NodeId::new(2);
    const FAR: NodeId = NodeId::new(3);

    fn message(body: Body) -> Message {
        let term = Term::new(1);
        Message::Raft(holm_raft::Message { term, body })
    }

    fn commit(op: u64) -> Message {
        let commit = Op::new(op);
        message(Body::Commit { commit })
    }

    /// An Append of one entry, of some bytes.
    fn append(op: u64, bytes: usize) -> Message {
        let command = Command {
            origin: Origin::default(),
            sequence: op,
            flags: Flags::default(),
            body: Bytes::from(vec![0; bytes]),
        };
        message(Body::Append {
            previous: Position::ZERO,
            commit: Op::new(op - 1),
            entries: vec![Entry {
                op: Op::new(op),
                term: Term::new(1),
                payload: Payload::Command(command),
            }],
        })
    }

    fn acknowledge(company: &mut Company, from: NodeId, op: u64) {
        let ack = message(Body::Ack {
            matched: Op::new(op),
            is_recovering: false,
        });
        company.hear(Time::ZERO, from, &ack);
    }

    fn voters() -> Voters {
        Voters::new([OWN, NEAR, FAR])
    }

    /// What leaves for a node at once.
    fn pass(company: &mut Company, now: Time, to: NodeId, message: Message) -> Vec<Message> {
        company.pass(now, Some((OWN, &voters())), to, message)
    }

    #[test]
    fn entries_wait_for_company_where_a_majority_has_them_without() {
        let mut company = Company::default();
        let later = Time::ZERO + PATIENCE;
        acknowledge(&mut company, NEAR, 3);
        for op in [4, 5] {
            let sent = pass(&mut company, Time::ZERO, NEAR, append(op, 9));
            assert_eq!(sent, [append(op, 9)], "it is waited for");
            let sent = pass(&mut company, Time::ZERO, FAR, append(op, 9));
            assert_eq!(sent, [], "it is not");
            acknowledge(&mut company, NEAR, op);
        }
        assert_eq!(pass(&mut company, later, FAR, commit(5)), []);
        assert_eq!(company.due(), Some(later));
        let all = vec![append(4, 9), append(5, 9), commit(5)];
        assert_eq!(company.ripe(later), Some((FAR, all)));
        assert_eq!(company.ripe(later), None);
    }

    #[test]
    fn who_acknowledges_first_is_waited_for() {
        let mut company = Company::default();
        acknowledge(&mut company, NEAR, 3);
        assert_eq!(pass(&mut company, Time::ZERO, FAR, append(4, 9)), []);
        // The one that is waited for hangs; the other has what it was told late.
        acknowledge(&mut company, FAR, 4);
        let sent = pass(&mut company, Time::ZERO, FAR, append(5, 9));
        assert_eq!(sent, [append(4, 9), append(5, 9)]);
        assert_eq!(pass(&mut company, Time::ZERO, NEAR, append(5, 9)), []);
    }

    #[test]
    fn who_asks_for_something_waits_for_nothing() {
        let mut company = Company::default();
        acknowledge(&mut company, NEAR, 3);
        let forward = message(Body::Forward {
            commands: Vec::new(),
        });
        company.hear(Time::ZERO, FAR, &forward);
        let sent = pass(&mut company, Time::ZERO, FAR, append(4, 9));
        assert_eq!(sent, [append(4, 9)]);
        let sent = pass(&mut company, Time::ZERO + ASKED_FOR, FAR, append(5, 9));
        assert_eq!(sent, [], "that is long ago");
    }

    #[test]
    fn nobody_waits_in_a_change_of_members_or_behind_much() {
        let mut company = Company::default();
        acknowledge(&mut company, NEAR, 3);
        let joint = Voters::joint([OWN, NEAR, FAR], [OWN, NEAR]);
        let sent = company.pass(Time::ZERO, Some((OWN, &joint)), FAR, append(4, 9));
        assert_eq!(sent, [append(4, 9)]);
        let sent = company.pass(Time::ZERO, None, FAR, append(4, 9));
        assert_eq!(sent, [append(4, 9)], "it leads nobody");
        assert_eq!(pass(&mut company, Time::ZERO, FAR, append(5, 9)), []);
        let much = append(6, usize::try_from(BYTES_MAX).unwrap());
        let sent = pass(&mut company, Time::ZERO, FAR, much.clone());
        assert_eq!(sent, [append(5, 9), much]);
        assert_eq!(company.due(), None);
    }

    #[test]
    fn of_five_two_are_waited_for() {
        let mut company = Company::default();
        let nodes: Vec<NodeId> = (1..=5).map(NodeId::new).collect();
        let led = Voters::new(nodes.iter().copied());
        for (node, op) in [(4, 9), (5, 8), (2, 7)] {
            acknowledge(&mut company, NodeId::new(node), op);
        }
        let waits = |company: &mut Company, node: NodeId| {
            let sent = company.pass(Time::ZERO, Some((OWN, &led)), node, append(10, 9));
            sent.is_empty()
        };
        let waiting: Vec<u64> = nodes[1..]
            .iter()
            .filter(|node| waits(&mut company, **node))
            .map(|node| node.value())
            .collect();
        assert_eq!(waiting, [2, 3]);
    }

    #[test]
    fn a_commit_point_that_entries_tell_leaves_with_them() {
        let mut company = Company::default();
        for op in [4, 5] {
            assert_eq!(pass(&mut company, Time::ZERO, NEAR, commit(op)), []);
        }
        acknowledge(&mut company, NEAR, 5);
        let sent = pass(&mut company, Time::ZERO, NEAR, append(6, 9));
        assert_eq!(sent, [append(6, 9)]);
        assert_eq!(company.due(), None, "nothing waits any more");
    }

    #[test]
    fn what_tells_less_comes_behind_it() {
        let mut company = Company::default();
        acknowledge(&mut company, NEAR, 5);
        for later in [append(7, 9), message(Body::TimeoutNow)] {
            assert_eq!(pass(&mut company, Time::ZERO, NEAR, commit(7)), []);
            let sent = pass(&mut company, Time::ZERO, NEAR, later.clone());
            assert_eq!(sent, [commit(7), later]);
        }
    }

    #[test]
    fn a_commit_point_that_finds_no_company_leaves_when_its_time_has_come() {
        let mut company = Company::default();
        let later = Time::ZERO + PATIENCE;
        assert_eq!(pass(&mut company, Time::ZERO, NEAR, commit(7)), []);
        assert_eq!(pass(&mut company, later, NEAR, commit(8)), []);
        assert_eq!(company.due(), Some(later), "since the first came");
        assert_eq!(company.ripe(Time::ZERO), None);
        assert_eq!(company.ripe(later), Some((NEAR, vec![commit(8)])));
        assert_eq!(company.ripe(later), None);
    }
}
