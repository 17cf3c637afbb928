//! Elections: asking whether one could win, asking for votes, and giving them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{NodeId, Term, Time};
use holm_quorum::Verdict;

use crate::event::Event;
use crate::message::{Body, Message, Position};
use crate::node::{Cx, Raft};
use crate::state::{Campaign, Role};
use crate::timers::Timer;

impl Raft {
    /// Nobody led for long enough.
    pub(crate) fn election_due(&mut self, cx: &mut Cx<'_>) {
        self.await_leader(cx.now);
        // Not only in the newest: until that is committed, a vote of this node, and what only it
        // has in its log, may be needed to commit it (thesis §4.2.2).
        let is_voter = self.durable.log.may_decide(self.config.node);
        match self.volatile.role {
            Role::Leader(_) => self.volatile.timers.clear(Timer::Election),
            // Who may have forgotten entries must not lead without them (I14).
            Role::Recovering(_) => self.volatile.leader = None,
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) if !is_voter => {
                self.volatile.leader = None;
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                if self.is_alone() {
                    self.become_candidate(cx, false);
                } else {
                    self.become_pre_candidate(cx);
                }
            }
        }
    }

    /// The links to `peer` were hung up on. If it leads, its followers do not draw lots for who
    /// asks first, they take turns, from the moment on at which voters may listen.
    ///
    /// Nothing else changes: a voter is loyal for a whole election timeout after it last heard
    /// the leader, whatever anybody suspects, for leases count on it. So a wrong hint costs a
    /// few questions, and no leader that a quorum hears.
    pub(crate) fn suspect(&mut self, cx: &mut Cx<'_>, peer: NodeId) {
        let own = self.config.node;
        let is_follower = matches!(self.volatile.role, Role::Follower(_));
        let may_campaign = is_follower && self.durable.log.may_decide(own);
        if !may_campaign || self.volatile.leader != Some(peer) || self.is_suspicious(cx.now) {
            return;
        }
        let voters = self.configuration().voters();
        let others = voters.iter().filter(|node| *node != peer);
        let before = others.take_while(|node| *node < own).count();
        let before = u32::try_from(before).expect("voters are few");
        // Voters did not all hear the leader at one moment; who asks too soon asks twice.
        let first = self.volatile.loyal_until.max(cx.now) + self.turn() / 8;
        self.volatile.suspicious_until = Some(first + self.config.election_timeout);
        let due = first + self.turn() * before;
        self.volatile.timers.set_sooner(Timer::Election, due);
        let (term, leader) = (self.term(), peer);
        cx.note(Event::LeaderSuspected { term, leader });
    }

    pub(crate) fn is_suspicious(&self, now: Time) -> bool {
        self.volatile
            .suspicious_until
            .is_some_and(|until| now < until)
    }

    /// How long one of those who suspect their leader leaves the election to another.
    pub(crate) const fn turn(&self) -> Duration {
        self.config.heartbeat_interval
    }

    /// Asks before it disturbs anybody (thesis §9.6).
    fn become_pre_candidate(&mut self, cx: &mut Cx<'_>) {
        assert!(
            matches!(
                self.volatile.role,
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_)
            ),
            "a leader does not campaign"
        );
        let own = self.config.node;
        self.volatile.leader = None;
        self.volatile.receiving = None;
        self.volatile.timers.clear(Timer::Chunk);
        self.volatile.role = Role::PreCandidate(Campaign {
            votes: BTreeMap::from([(own, true)]),
            hard: None,
        });
        let term = self.term().next();
        let last = self.durable.log.last_position();
        cx.note(Event::PreCampaigned { term });
        for to in self.other_voters() {
            let body = Body::PreVote { last };
            self.send_in(cx, to, Message { term, body }, None);
        }
    }

    /// Asks for votes, in a new term. Its own counts once it is durable.
    fn become_candidate(&mut self, cx: &mut Cx<'_>, is_transfer: bool) {
        assert!(
            matches!(
                self.volatile.role,
                Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_)
            ),
            "a leader does not campaign"
        );
        let own = self.config.node;
        let term = self.term().next();
        let hard = self.set_hard(cx, term, Some(own));
        self.volatile.leader = None;
        self.volatile.receiving = None;
        self.volatile.timers.clear(Timer::Chunk);
        self.volatile.role = Role::Candidate(Campaign {
            votes: BTreeMap::new(),
            hard: Some(hard),
        });
        self.requeue_reads();
        self.await_leader(cx.now);
        cx.note(Event::Campaigned { term, is_transfer });
        let last = self.durable.log.last_position();
        for to in self.other_voters() {
            let body = Body::Vote { last, is_transfer };
            self.send(cx, to, body, Some(hard));
        }
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let own = self.config.node;
        let voters = self.configuration().voters();
        voters.iter().filter(|node| *node != own).collect()
    }

    /// Would this node vote for `from` in `term`?
    pub(crate) fn pre_vote(&mut self, cx: &mut Cx<'_>, from: NodeId, term: Term, last: Position) {
        if self.is_recovering() {
            return;
        }
        let own = self.durable.log.last_position();
        let is_free = term > self.term() && !self.is_loyal(cx);
        let is_granted = is_free && last >= own;
        if is_free && self.is_suspicious(cx.now) {
            // The better log goes first, and the other lets it have its turn.
            let pause = if is_granted {
                self.turn()
            } else {
                Duration::ZERO
            };
            self.volatile.timers.set(Timer::Election, cx.now + pause);
        }
        let term = if is_granted { term } else { self.term() };
        let body = Body::PreVoteReply { is_granted };
        self.send_in(cx, from, Message { term, body }, None);
    }

    /// A voter said whether it would.
    pub(crate) fn pre_vote_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        term: Term,
        is_granted: bool,
    ) {
        let wanted = if is_granted {
            self.term().next()
        } else {
            self.term()
        };
        let Role::PreCandidate(campaign) = &mut self.volatile.role else {
            return;
        };
        if term != wanted {
            return;
        }
        campaign.votes.insert(from, is_granted);
        match self.verdict() {
            Verdict::Won => self.become_candidate(cx, false),
            Verdict::Lost => self.become_follower(cx, None),
            Verdict::Open => {}
        }
        if !is_granted && self.is_suspicious(cx.now) {
            // Most likely that voter heard the leader a moment later than this one.
            self.volatile
                .timers
                .set(Timer::Election, cx.now + self.turn() / 4);
        }
    }

    /// A candidate asks for this node's vote.
    pub(crate) fn vote_for(&mut self, cx: &mut Cx<'_>, from: NodeId, term: Term, last: Position) {
        if self.is_recovering() {
            return;
        }
        let hard = self.durable.hard;
        let is_free =
            hard.vote == Some(from) || (hard.vote.is_none() && self.volatile.leader.is_none());
        let is_granted = term == hard.term && is_free && last >= self.durable.log.last_position();
        let mut after = None;
        if is_granted {
            if hard.vote.is_none() {
                self.set_hard(cx, term, Some(from));
            }
            if matches!(self.volatile.role, Role::PreCandidate(_)) {
                self.become_follower(cx, None);
            }
            self.await_leader(cx.now);
            after = self.durable.log.pending_write();
        }
        self.send(cx, from, Body::VoteReply { is_granted }, after);
    }

    /// A voter answered.
    pub(crate) fn vote_reply(&mut self, cx: &mut Cx<'_>, from: NodeId, is_granted: bool) {
        let Role::Candidate(campaign) = &mut self.volatile.role else {
            return;
        };
        campaign.votes.insert(from, is_granted);
        self.judge(cx);
    }

    /// The candidate's own vote counts once it is durable (I1).
    pub(crate) fn count_own_vote(&mut self, cx: &mut Cx<'_>) {
        let own = self.config.node;
        let Role::Candidate(campaign) = &mut self.volatile.role else {
            return;
        };
        let Some(hard) = campaign.hard else { return };
        if self.durable.log.is_durable(hard) {
            campaign.hard = None;
            campaign.votes.insert(own, true);
            self.judge(cx);
        }
    }

    fn judge(&mut self, cx: &mut Cx<'_>) {
        match self.verdict() {
            Verdict::Won => self.become_leader(cx),
            Verdict::Lost => self.become_follower(cx, None),
            Verdict::Open => {}
        }
    }

    /// How the vote stands, under the newest configuration, in both its halves (I9).
    fn verdict(&self) -> Verdict {
        let (Role::PreCandidate(campaign) | Role::Candidate(campaign)) = &self.volatile.role else {
            return Verdict::Open;
        };
        let voters = self.configuration().voters();
        voters.verdict(|node| campaign.votes.get(&node).copied())
    }

    /// The leader wants this node to take over, now.
    pub(crate) fn timeout_now(&mut self, cx: &mut Cx<'_>) {
        let is_voter = self.configuration().voters().contains(self.config.node);
        if matches!(self.volatile.role, Role::Follower(_)) && is_voter {
            self.become_candidate(cx, true);
        }
    }
}
