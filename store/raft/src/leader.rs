//! A leader: it orders commands, sends entries, counts who has them, and looks whether it is
//! still heard.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{NodeId, Op, RequestId, Time};

use crate::effect::{Effect, Refused};
use crate::event::{Event, Rejected, SteppedDown};
use crate::membership::{Changing, Configuration};
use crate::message::{Body, Command, Entry, Message, NO_ROUND, Payload, Position};
use crate::node::{Cx, Raft};
use crate::origin::Windows;
use crate::progress::{Mode, Peer, PeerView};
use crate::state::Role;
use crate::timers::Timer;

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Sorted; all members but this node.
    pub(crate) peers: Vec<Peer>,
    /// Its first entry. Before that is committed it answers no read and changes no members.
    pub(crate) blank: Op,
    /// The newest heartbeat round.
    pub(crate) round: u64,
    /// Origins were told that entries through here are durable at this node.
    pub(crate) told_origins: Op,
    /// What stands in the log or was applied, so that retries do not fill the log.
    pub(crate) proposed: Windows,
    pub(crate) changing: Option<Changing>,
    pub(crate) transfer: Option<Transfer>,
    /// A transfer was begun in this term: its order may still arrive, and votes then ignore
    /// this leader. So there is no lease any more.
    pub(crate) is_lease_revoked: bool,
}

/// Leadership on its way to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) request: RequestId,
    pub(crate) to: NodeId,
    pub(crate) until: Time,
    pub(crate) is_sent: bool,
}

impl Leader {
    pub(crate) fn peer(&self, node: NodeId) -> Option<&Peer> {
        let at = self.peers.binary_search_by_key(&node, |peer| peer.node);
        at.ok().map(|at| &self.peers[at])
    }

    pub(crate) fn peer_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        let at = self.peers.binary_search_by_key(&node, |peer| peer.node);
        at.ok().map(|at| &mut self.peers[at])
    }

    /// Talks to exactly the members of a configuration.
    pub(crate) fn keep_peers(
        &mut self,
        configuration: &Configuration,
        own: NodeId,
        last: Op,
        now: Time,
    ) {
        let members = configuration.members();
        self.peers
            .retain(|peer| members.binary_search(&peer.node).is_ok());
        for node in members {
            if node != own && self.peer(node).is_none() {
                self.peers.push(Peer::new(node, last, now));
                self.peers.sort_unstable_by_key(|peer| peer.node);
            }
        }
    }
}

impl Raft {
    pub(crate) const fn leader(&self) -> Option<&Leader> {
        match &self.volatile.role {
            Role::Leader(leading) => Some(leading),
            Role::Follower(_)
            | Role::PreCandidate(_)
            | Role::Candidate(_)
            | Role::Recovering(_) => None,
        }
    }

    pub(crate) const fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.volatile.role {
            Role::Leader(leading) => Some(leading),
            Role::Follower(_)
            | Role::PreCandidate(_)
            | Role::Candidate(_)
            | Role::Recovering(_) => None,
        }
    }

    /// The votes are in.
    pub(crate) fn become_leader(&mut self, cx: &mut Cx<'_>) {
        assert!(
            matches!(self.volatile.role, Role::Candidate(_)),
            "I1: only a candidate is elected"
        );
        let term = self.term();
        let last = self.durable.log.last();
        let mut leading = Leader {
            peers: Vec::new(),
            blank: last.next(),
            round: 0,
            told_origins: last,
            proposed: self.proposed(),
            changing: None,
            transfer: None,
            is_lease_revoked: false,
        };
        leading.keep_peers(self.configuration(), self.config.node, last, cx.now);
        self.volatile.role = Role::Leader(leading);
        self.volatile.leader = Some(self.config.node);
        self.volatile.timers.clear(Timer::Election);
        let beat = cx.now + self.config.heartbeat_interval;
        self.volatile.timers.set(Timer::Heartbeat, beat);
        cx.note(Event::LeaderElected { term });
        // Who joins later replays from op 1, and must know who belonged to the group there.
        let first = if last == Op::ZERO {
            let placed = self.durable.log.configured();
            Payload::Configuration(Arc::clone(&placed.configuration))
        } else {
            Payload::Blank
        };
        self.append_own(cx, first);
        self.volatile.outbox.resend(None);
        if let Some(request) = self.volatile.moving.take() {
            let reason = Refused::LeaderChanged;
            cx.push(Effect::Refuse { request, reason });
        }
    }

    /// Which commands stand in the log or were applied.
    fn proposed(&self) -> Windows {
        let mut proposed = self.volatile.windows.clone();
        let mut op = self.volatile.applied;
        while op < self.durable.log.last() {
            op = op.next();
            let entry = self.durable.log.entry(op);
            let entry = entry.expect("what was not applied is in memory");
            if let Payload::Command(command) = &entry.payload {
                proposed.admit(command.origin, command.sequence, self.config.origin_window);
            }
        }
        proposed
    }

    /// Puts an entry of this term behind all others.
    pub(crate) fn append_own(&mut self, cx: &mut Cx<'_>, payload: Payload) -> Op {
        let term = self.term();
        assert!(
            self.leader().is_some() && self.durable.log.last_position().term <= term,
            "I1: only the leader of a term appends in it"
        );
        let op = self.durable.log.last().next();
        self.persist_entry(cx, Entry { op, term, payload });
        op
    }

    /// Whether new commands are taken.
    pub(crate) fn takes_commands(&self) -> bool {
        let is_free = self.durable.log.uncommitted_bytes() < self.config.uncommitted_bytes_max;
        self.leader()
            .is_some_and(|leading| leading.transfer.is_none())
            && is_free
    }

    /// Commands from another node.
    pub(crate) fn forwarded(&mut self, cx: &mut Cx<'_>, from: NodeId, commands: Vec<Command>) {
        if self.leader().is_none() {
            let why = Rejected::NotLeader;
            cx.note(Event::Rejected { from, why });
            return;
        }
        let is_strange = !self.configuration().contains(from)
            || commands.iter().any(|command| command.origin.node != from);
        let is_malformed = commands.len() > self.config.append_count_max
            || commands
                .iter()
                .any(|command| command.body.len() as u64 > self.config.request_bytes_max);
        if is_strange || is_malformed {
            let why = if is_strange {
                Rejected::Stranger
            } else {
                Rejected::Malformed
            };
            cx.note(Event::Rejected { from, why });
        } else if self.takes_commands() {
            self.propose(cx, commands);
        } else {
            // The origin keeps them and tries again; its own limit bounds them.
            cx.note(Event::ForwardShed { origin: from });
        }
    }

    /// Moves the commit point to what a quorum has, in this term (I3, I5).
    pub(crate) fn count_commit(&mut self, cx: &mut Cx<'_>) {
        let own = self.config.node;
        let Some(leading) = self.leader() else {
            return;
        };
        let durable = self.durable.log.durable();
        let reached = self.durable.log.agreed(|node| {
            if node == own {
                durable
            } else {
                leading.peer(node).map_or(Op::ZERO, |peer| peer.counted)
            }
        });
        let is_of_term = self.durable.log.term_of(reached) == Some(self.term());
        if is_of_term && reached > self.volatile.commit {
            self.advance_commit(cx, reached);
            self.continue_change(cx);
        }
    }

    /// A peer has made entries durable.
    pub(crate) fn acknowledged(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        matched: Op,
        is_recovering: bool,
    ) {
        let last = self.durable.log.last();
        let lag_max = self.config.promotion_lag_max;
        let now = cx.now;
        let Some(leading) = self.leader_mut() else {
            if !is_recovering {
                self.tallied(cx, from, matched);
            }
            return;
        };
        let Some(peer) = leading.peer_mut(from) else {
            return;
        };
        if matched > last {
            let why = Rejected::Impossible;
            cx.note(Event::Rejected { from, why });
            return;
        }
        peer.heard = now;
        peer.acknowledge(matched, is_recovering);
        peer.catch_up(last, lag_max);
        let is_in_sync = peer.is_in_sync;
        self.count_commit(cx);
        if is_in_sync && !self.configuration().joining().is_empty() {
            self.continue_change(cx);
        }
    }

    /// A peer's log does not match: go back a whole term.
    pub(crate) fn conflict(&mut self, cx: &mut Cx<'_>, from: NodeId, at: Op, own: Position) {
        let now = cx.now;
        let same_term = self.durable.log.last_of_term(own.term);
        let Some(peer) = self.leader_mut().and_then(|leading| leading.peer_mut(from)) else {
            return;
        };
        peer.heard = now;
        let is_expected = match &peer.mode {
            Mode::Probe { .. } => at.next() == peer.next,
            Mode::Replicate { .. } => at < peer.next,
            Mode::Snapshot { .. } => false,
        };
        if at <= peer.matched || !is_expected {
            return;
        }
        let next = same_term.filter(|last| *last < at).map_or(own.op, Op::next);
        peer.probe(next.min(at));
    }

    /// A heartbeat was answered.
    pub(crate) fn heartbeat_reply(&mut self, cx: &mut Cx<'_>, from: NodeId, body: Body) {
        let Body::HeartbeatReply {
            round,
            stamp,
            seen,
            matched,
            last,
            is_recovering,
        } = body
        else {
            return;
        };
        let own_last = self.durable.log.last();
        let timeout = self.config.election_timeout;
        let now = cx.now;
        let Some(leading) = self.leader_mut() else {
            return;
        };
        if round == NO_ROUND || round > leading.round {
            return;
        }
        let Some(peer) = leading.peer_mut(from) else {
            return;
        };
        peer.heard = now;
        peer.stamp = peer.stamp.max(Some(stamp));
        let took = now.since(stamp);
        peer.rtt = if peer.rtt.is_zero() {
            took
        } else {
            (peer.rtt * 7 + took) / 8
        };
        if round == peer.beat.0 && last < peer.beat.1 {
            let acknowledged = peer.matched;
            peer.forget(own_last, last);
            cx.note(Event::PeerForgot {
                peer: from,
                acknowledged,
                last,
            });
            return;
        }
        peer.review(round, seen);
        let is_offer_late = matches!(peer.mode, Mode::Snapshot { offered, .. }
            if now.since(offered) >= timeout);
        if matched > peer.matched && matched <= own_last {
            self.acknowledged(cx, from, matched, is_recovering);
        }
        if is_offer_late {
            self.offer(cx, from);
        }
    }

    /// Time to speak, and to look who was heard.
    pub(crate) fn heartbeat_due(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let timeout = self.config.election_timeout;
        let own = self.config.node;
        let voters = self.configuration().voters().clone();
        let (term, commit) = (self.term(), self.volatile.commit);
        let Some(leading) = self.leader_mut() else {
            return;
        };
        let heard = voters.agreed(|node| {
            if node == own {
                now
            } else {
                leading.peer(node).map_or(Time::ZERO, |peer| peer.heard)
            }
        });
        if heard.is_none_or(|heard| now.since(heard) > timeout) {
            self.step_down(cx, SteppedDown::QuorumSilent);
            return;
        }
        leading.round += 1;
        let round = leading.round;
        for peer in &mut leading.peers {
            peer.beat = (round, peer.matched);
            let commit = commit.min(peer.counted);
            let body = Body::Heartbeat {
                round,
                commit,
                stamp: now,
            };
            cx.push(Effect::Send {
                to: peer.node,
                message: Message { term, body },
                after: None,
            });
        }
        self.watch_transfer(cx);
        let beat = now + self.config.heartbeat_interval;
        self.volatile.timers.set(Timer::Heartbeat, beat);
    }

    /// Repeats the order to take over, or gives up.
    fn watch_transfer(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let Some(leading) = self.leader_mut() else {
            return;
        };
        let Some(transfer) = &mut leading.transfer else {
            return;
        };
        transfer.is_sent = false;
        let Transfer {
            request, to, until, ..
        } = *transfer;
        if now >= until {
            leading.transfer = None;
            cx.note(Event::TransferAbandoned { to });
            let reason = Refused::TransferTimedOut;
            cx.push(Effect::Refuse { request, reason });
        }
    }

    /// An operator wants another leader (thesis §3.10).
    pub(crate) fn move_leader(&mut self, cx: &mut Cx<'_>, request: RequestId, to: NodeId) {
        let leader = self.volatile.leader;
        let until = cx.now + self.config.election_timeout;
        let is_voter = self.configuration().voters().contains(to);
        let own = self.config.node;
        let is_changing = self.durable.log.configured().at.op > self.volatile.commit;
        let reason = match self.leader_mut() {
            None => Refused::NotLeader { leader },
            Some(_) if !is_voter => Refused::NoSuchChange,
            Some(leading) if is_changing || leading.transfer.is_some() => Refused::NotReady,
            Some(_) if to == own => {
                let outcome = crate::effect::Outcome::Moved { leader: own };
                cx.push(Effect::Reply { request, outcome });
                return;
            }
            Some(leading) => {
                leading.is_lease_revoked = true;
                leading.transfer = Some(Transfer {
                    request,
                    to,
                    until,
                    is_sent: false,
                });
                cx.note(Event::TransferStarted { to });
                return;
            }
        };
        cx.push(Effect::Refuse { request, reason });
    }

    /// Sends each peer what it may have now, and origins what this node made durable.
    pub(crate) fn flush_leader(&mut self, cx: &mut Cx<'_>) {
        let term = self.term();
        let Role::Leader(leading) = &mut self.volatile.role else {
            return;
        };
        let mut lagging = Vec::new();
        let sending = Sending {
            config: &self.config,
            log: &self.durable.log,
            term,
            commit: self.volatile.commit,
            round: leading.round,
        };
        for peer in &mut leading.peers {
            if sending.replicate(cx, peer) {
                lagging.push(peer.node);
            }
            sending.tell_commit(cx, peer);
        }
        let durable = self.durable.log.durable();
        if durable > leading.told_origins {
            let mut origins: Vec<NodeId> = self
                .durable
                .log
                .origins(leading.told_origins, durable)
                .collect();
            origins.sort_unstable();
            origins.dedup();
            leading.told_origins = durable;
            for to in origins {
                let body = Body::Ack {
                    matched: durable,
                    is_recovering: false,
                };
                cx.push(Effect::Send {
                    to,
                    message: Message { term, body },
                    after: None,
                });
            }
        }
        let last = self.durable.log.last();
        if let Some(transfer) = &mut leading.transfer
            && !transfer.is_sent
        {
            let to = transfer.to;
            transfer.is_sent = true;
            if leading.peer(to).is_some_and(|peer| peer.matched == last) {
                self.send(cx, to, Body::TimeoutNow, None);
            } else if let Some(leading) = self.leader_mut()
                && let Some(transfer) = &mut leading.transfer
            {
                transfer.is_sent = false;
            }
        }
        for node in lagging {
            self.offer(cx, node);
        }
    }

    /// Offers the snapshot that is kept here.
    pub(crate) fn offer(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let now = cx.now;
        // One that ends below what the log keeps leads nowhere.
        let base = self.durable.log.base().op;
        let held = self.volatile.manifest.clone();
        let Some(manifest) = held.filter(|held| held.checkpoint.at.op >= base) else {
            self.miss_snapshot(cx, node);
            return;
        };
        let op = manifest.checkpoint.at.op;
        let Some(peer) = self.leader_mut().and_then(|leading| leading.peer_mut(node)) else {
            return;
        };
        if peer.matched >= op {
            return;
        }
        peer.mode = Mode::Snapshot { op, offered: now };
        cx.note(Event::SnapshotOffered { peer: node, op });
        let manifest = Arc::clone(&manifest);
        self.send(cx, node, Body::Offer { manifest }, None);
    }

    /// Says, now and then, that a peer cannot be helped.
    fn miss_snapshot(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let first = self.durable.log.base().op.next();
        let pause = self.config.chunk_timeout;
        if let Some(peer) = self.leader_mut().and_then(|leading| leading.peer_mut(node))
            && peer.missed_at.is_none_or(|at| at + pause <= cx.now)
        {
            peer.missed_at = Some(cx.now);
            cx.note(Event::SnapshotMissing { peer: node, first });
        }
    }

    /// Entries that the engine's own files hold too may be dropped, within reason.
    pub(crate) fn release(&mut self, cx: &mut Cx<'_>, through: Op, limit: Op) {
        let reach = through.min(self.volatile.applied);
        let last = self.durable.log.last().value();
        let kept = Op::new(last.saturating_sub(self.config.kept_ops));
        let needed = self
            .leader()
            .and_then(|leading| leading.peers.iter().map(Peer::needs_behind).min());
        let wanted = needed.map_or(kept, |needed| kept.min(needed));
        let through = wanted.max(limit).min(reach);
        if through > self.durable.log.base().op {
            self.durable.log.cut(through);
            cx.push(Effect::Cut { through });
        }
    }

    /// What this node knows of those it leads; nothing while it leads nobody.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        let peers = self.leader().map(|leading| leading.peers.iter());
        peers.into_iter().flatten().map(|peer| PeerView {
            node: peer.node,
            matched: peer.matched,
            heard: peer.heard,
            rtt: peer.rtt,
            is_in_sync: peer.is_in_sync,
        })
    }

    /// Entries were read back from disk for a peer.
    pub(crate) fn fetched(&mut self, cx: &mut Cx<'_>, node: NodeId, entries: Vec<Entry>) {
        let term = self.term();
        let Role::Leader(leading) = &mut self.volatile.role else {
            return;
        };
        let sending = Sending {
            config: &self.config,
            log: &self.durable.log,
            term,
            commit: self.volatile.commit,
            round: leading.round,
        };
        let Some(peer) = leading.peer_mut(node) else {
            return;
        };
        let begins = entries.first().map(|entry| entry.op);
        if peer.fetching.take() == begins && begins == Some(peer.next) {
            sending.append(cx, peer, entries);
        }
    }

    /// Until when reads may be answered without asking, if they may.
    pub(crate) fn lease(&self, now: Time) -> Option<Time> {
        let leading = self.leader()?;
        if leading.is_lease_revoked || self.volatile.commit < leading.blank {
            return None;
        }
        let own = self.config.node;
        let stamp = self.configuration().voters().agreed(|node| {
            if node == own {
                Some(now)
            } else {
                leading.peer(node).and_then(|peer| peer.stamp)
            }
        });
        let until = stamp?? + self.config.election_timeout * 99 / 100;
        (now < until).then_some(until)
    }

    /// Whether a read that was executed under a lease may be answered now.
    #[must_use]
    pub fn has_lease(&self, now: Time) -> bool {
        self.lease(now).is_some()
    }
}

/// What sending to a peer needs to know of the leader.
struct Sending<'a> {
    config: &'a crate::config::Config,
    log: &'a crate::log::Log,
    term: holm_base::Term,
    commit: Op,
    round: u64,
}

impl Sending<'_> {
    /// Sends Appends while there is room; true if the peer needs a snapshot instead.
    fn replicate(&self, cx: &mut Cx<'_>, peer: &mut Peer) -> bool {
        let sync: Duration = self.log.sync();
        while peer.has_room(sync, self.config.in_flight_bytes_max) && peer.fetching.is_none() {
            let is_probe = matches!(peer.mode, Mode::Probe { .. });
            if peer.next > self.log.last() && !is_probe {
                return false;
            }
            if peer.next <= self.log.base().op {
                return true;
            }
            let (bytes_max, count_max) =
                (self.config.append_bytes_max, self.config.append_count_max);
            let entries = if peer.next > self.log.last() {
                Some(Vec::new())
            } else {
                self.log.slice(peer.next, bytes_max, count_max)
            };
            let Some(entries) = entries else {
                peer.fetching = Some(peer.next);
                cx.push(Effect::Fetch {
                    first: peer.next,
                    last: self.log.last(),
                    bytes_max,
                    peer: peer.node,
                });
                return false;
            };
            self.append(cx, peer, entries);
        }
        false
    }

    fn append(&self, cx: &mut Cx<'_>, peer: &mut Peer, entries: Vec<Entry>) {
        let before = Op::new(peer.next.value() - 1);
        let Some(term) = self.log.term_of(before) else {
            return;
        };
        let last = entries.last().map_or(before, |entry| entry.op);
        let weight = entries.iter().map(Entry::weight).sum();
        // The commit point told is never beyond what the receiver will have checked (I6).
        let commit = self.commit.min(last);
        peer.told = peer.told.max(commit);
        peer.sent(last, weight, self.round);
        let body = Body::Append {
            previous: Position { term, op: before },
            commit,
            entries,
        };
        cx.push(Effect::Send {
            to: peer.node,
            message: Message {
                term: self.term,
                body,
            },
            after: None,
        });
    }

    /// Tells a commit point that no Append told.
    fn tell_commit(&self, cx: &mut Cx<'_>, peer: &mut Peer) {
        let commit = self.commit.min(peer.counted);
        if commit > peer.told && matches!(peer.mode, Mode::Replicate { .. }) {
            peer.told = commit;
            let body = Body::Commit { commit };
            cx.push(Effect::Send {
                to: peer.node,
                message: Message {
                    term: self.term,
                    body,
                },
                after: None,
            });
        }
    }
}
