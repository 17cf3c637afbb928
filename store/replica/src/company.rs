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

/// Messages of at most so many bytes are worked off by whoever brings them while the engine's thread sleeps, and leave on
/// the thread that says them: about one small entry. More gathers company on its way.
pub const HERE_BYTES_MAX: usize = 4 << 10;
/// So many records of no more bytes are flushed by whoever runs the engine, if they are alone.
pub const HERE_RECORDS_MAX: usize = 16;
/// How long something waits.
const PATIENCE: Duration = Duration::from_millis(1);
/// Entries of more bytes than this for one node do not wait.
const BYTES_MAX: u64 = 256 << 10;
/// A node that asked for something so lately has clients that wait for entries.
const ASKED_FOR: Duration = Duration::from_millis(50);

/// So many other nodes are known at once, and those that are waited for or ask for something: a group has at most
/// fifteen members.
const PEERS_MAX: usize = 32;
/// Something that waits so soon after another has company on its way: whoever works next sends it.
const CLOSE: Duration = Duration::from_millis(4);
/// How much longer it may wait until somebody has to be woken for it.
const GRACE: Duration = Duration::from_millis(4);

/// What waits, by node. Order of sending is kept for each node. What waits is bounded by a millisecond, 256 KiB of
/// entries a node, and what Raft lets be under way.
#[derive(Debug, Default)]
pub struct Company {
    waiting: Vec<Waiting>,
    peers: Vec<Peer>,
    /// The voters for whom it is known which peers are quick.
    led: Option<Voters>,
    /// When something last began to wait.
    began: Option<Time>,
    /// Whether that was soon after something else did.
    is_busy: bool,
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
    /// Whether it counts towards the majorities that this node needs.
    is_voter: bool,
    /// Whether commits wait for it.
    is_quick: bool,
}

impl Peer {
    fn is_recent(&self, now: Time) -> bool {
        self.asked.is_some_and(|at| now.since(at) < ASKED_FOR)
    }
}

impl Company {
    /// Another node says something.
    pub fn hear(&mut self, now: Time, from: NodeId, message: &Message) {
        match message {
            Message::Ask(_) => self.peer(now, from).asked = Some(now),
            Message::Raft(raft) => {
                if let Body::Ack { matched, .. } = raft.body {
                    self.acknowledged(now, from, (raft.term, matched));
                } else if matches!(raft.body, Body::Forward { .. }) {
                    self.peer(now, from).asked = Some(now);
                }
            }
            Message::Told(_) | Message::Island(..) => {}
        }
    }

    fn peer(&mut self, now: Time, node: NodeId) -> &mut Peer {
        let place = self.peers.iter().position(|peer| peer.node == node);
        let place = place.unwrap_or_else(|| {
            if self.peers.len() >= PEERS_MAX {
                self.forget(now);
            }
            self.peers.push(Peer {
                node,
                asked: None,
                matched: (Term::ZERO, Op::ZERO),
                is_voter: false,
                is_quick: false,
            });
            self.peers.len() - 1
        });
        &mut self.peers[place]
    }

    /// Forgets whoever is no voter and has not asked for anything lately.
    fn forget(&mut self, now: Time) {
        self.peers
            .retain(|peer| peer.is_voter || peer.is_recent(now));
    }

    /// Who acknowledges an entry before one that is waited for takes its place.
    fn acknowledged(&mut self, now: Time, from: NodeId, matched: (Term, Op)) {
        let peer = self.peer(now, from);
        peer.matched = peer.matched.max(matched);
        if peer.is_quick || !peer.is_voter {
            return;
        }
        let last = self.peers.iter_mut().filter(|peer| peer.is_quick);
        if let Some(last) = last.min_by_key(|peer| peer.matched)
            && last.matched < matched
        {
            last.is_quick = false;
            self.peer(now, from).is_quick = true;
        }
    }

    /// Finds who is waited for among the voters that this node leads from now on.
    fn elect(&mut self, now: Time, (own, led): (NodeId, &Voters)) {
        for node in led.iter().filter(|node| *node != own) {
            self.peer(now, node).is_voter = true;
        }
        for peer in &mut self.peers {
            peer.is_voter = peer.node != own && led.contains(peer.node);
            peer.is_quick &= peer.is_voter;
        }
        self.forget(now);
        let needed = majority(led.iter().count()) - usize::from(led.contains(own));
        // The first in the order of what they have, those that were waited for before others.
        let mut voters: Vec<&mut Peer> =
            self.peers.iter_mut().filter(|peer| peer.is_voter).collect();
        voters.sort_by_key(|peer| Reverse((peer.matched, peer.is_quick)));
        for (place, peer) in voters.iter_mut().enumerate() {
            peer.is_quick = place < needed;
        }
        self.led = Some(led.clone());
    }

    /// Whether a majority of those that this node leads has entries soon without `to`.
    fn is_spare(&mut self, now: Time, to: NodeId, (own, led): (NodeId, &Voters)) -> bool {
        if led.is_joint() {
            return false;
        }
        if self.led.as_ref() != Some(led) {
            self.elect(now, (own, led));
        }
        let peer = self.peer(now, to);
        !peer.is_quick && !peer.is_recent(now)
    }

    /// Puts what is to be sent to a node now behind `leaving`, in order, when there is `message` for it. `led` is
    /// this node with the voters that it leads, itself perhaps among them.
    pub fn pass(
        &mut self,
        now: Time,
        led: Option<(NodeId, &Voters)>,
        (to, message): (NodeId, Message),
        leaving: &mut Vec<Message>,
    ) {
        if is_word(&message) {
            self.wait(now, to).word = Some(message);
            return;
        }
        let bytes = weight(&message);
        let is_spare = bytes.is_some() && led.is_some_and(|led| self.is_spare(now, to, led));
        if let (true, Some(bytes)) = (is_spare, bytes) {
            let waiting = self.wait(now, to);
            waiting.bytes += bytes;
            waiting.entries.push(message);
            if waiting.bytes > BYTES_MAX {
                self.release(to, leaving);
            }
            return;
        }
        if let Some(place) = self.waiting.iter().position(|it| it.to == to) {
            let Waiting { entries, word, .. } = self.waiting.swap_remove(place);
            leaving.extend(entries);
            leaving.extend(word.filter(|word| told_by(&message) < told_by(word)));
        }
        leaving.push(message);
    }

    fn wait(&mut self, now: Time, to: NodeId) -> &mut Waiting {
        let place = self.waiting.iter().position(|it| it.to == to);
        let place = place.unwrap_or_else(|| {
            self.is_busy = self.began.is_some_and(|began| now.since(began) < CLOSE);
            self.began = Some(now);
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

    fn release(&mut self, to: NodeId, leaving: &mut Vec<Message>) {
        if let Some(place) = self.waiting.iter().position(|it| it.to == to) {
            self.waiting.swap_remove(place).leave(leaving);
        }
    }

    /// When somebody has to be woken to take what is ripe, if nobody has by then: as soon as the
    /// first has waited for long enough; a few milliseconds later where things wait one after the
    /// other, for then whoever brings the next takes it along, and a thread that is woken for the
    /// last of them is woken in vain for most.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        let first = self.waiting.iter().map(|it| it.due).min()?;
        Some(if self.is_busy { first + GRACE } else { first })
    }

    /// Takes what has waited for long enough for one node, puts it into `leaving` and says whose
    /// it is.
    pub fn ripe(&mut self, now: Time, leaving: &mut Vec<Message>) -> Option<NodeId> {
        let place = self.waiting.iter().position(|it| it.due <= now)?;
        let waiting = self.waiting.swap_remove(place);
        let to = waiting.to;
        waiting.leave(leaving);
        Some(to)
    }
}

impl Waiting {
    fn leave(self, leaving: &mut Vec<Message>) {
        leaving.extend(self.entries);
        leaving.extend(self.word);
    }
}

/// Whether a message only tells a commit point.
const fn is_word(message: &Message) -> bool {
    match message {
        Message::Raft(raft) => matches!(raft.body, Body::Commit { .. }),
        Message::Ask(_) | Message::Told(_) | Message::Island(..) => false,
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

    /// What leaves for a node at once, of those that this node leads.
    fn pass_led(
        company: &mut Company,
        now: Time,
        led: Option<&Voters>,
        (to, message): (NodeId, Message),
    ) -> Vec<Message> {
        let mut leaving = Vec::new();
        let led = led.map(|led| (OWN, led));
        company.pass(now, led, (to, message), &mut leaving);
        leaving
    }

    fn pass(company: &mut Company, now: Time, to: NodeId, message: Message) -> Vec<Message> {
        pass_led(company, now, Some(&voters()), (to, message))
    }

    fn ripe(company: &mut Company, now: Time) -> Option<(NodeId, Vec<Message>)> {
        let mut leaving = Vec::new();
        company.ripe(now, &mut leaving).map(|to| (to, leaving))
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
        assert_eq!(ripe(&mut company, later), Some((FAR, all)));
        assert_eq!(ripe(&mut company, later), None);
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
        let sent = pass_led(&mut company, Time::ZERO, Some(&joint), (FAR, append(4, 9)));
        assert_eq!(sent, [append(4, 9)]);
        let sent = pass_led(&mut company, Time::ZERO, None, (FAR, append(4, 9)));
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
            let sent = pass_led(company, Time::ZERO, Some(&led), (node, append(10, 9)));
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
    fn where_things_wait_one_after_the_other_nobody_is_woken_at_once() {
        let mut company = Company::default();
        let at = |micros| Time::ZERO + Duration::from_micros(micros);
        pass(&mut company, at(0), FAR, commit(1));
        assert_eq!(company.due(), Some(at(1_000)), "nothing waited before");
        assert!(ripe(&mut company, at(1_000)).is_some());
        pass(&mut company, at(1_500), FAR, commit(2));
        assert_eq!(company.due(), Some(at(1_500) + PATIENCE + GRACE));
        assert!(
            ripe(&mut company, at(2_500)).is_some(),
            "it is ripe as ever"
        );
        pass(&mut company, at(1_500) + CLOSE, FAR, commit(3));
        assert_eq!(company.due(), Some(at(1_500) + CLOSE + PATIENCE));
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let mut company = Company::default();
        for node in 10..200 {
            acknowledge(&mut company, NodeId::new(node), 1);
        }
        assert!(company.peers.len() <= PEERS_MAX, "they asked for nothing");
        acknowledge(&mut company, NEAR, 3);
        pass(&mut company, Time::ZERO, FAR, append(4, 9));
        assert_eq!(company.peers.len(), 2, "the voters are known");
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
        assert_eq!(ripe(&mut company, Time::ZERO), None);
        assert_eq!(ripe(&mut company, later), Some((NEAR, vec![commit(8)])));
        assert_eq!(ripe(&mut company, later), None);
    }
}
