//! What must hold after each step, whatever happened. A failure here is a bug of ours.

use holm_base::{NodeId, Op, Term};

use crate::node::Raft;
use crate::progress::Mode;
use crate::state::Role;

/// What a step may only raise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    term: Term,
    vote: Option<NodeId>,
    commit: Op,
    applied: Op,
    leads: Option<Op>,
}

impl Raft {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            term: self.term(),
            vote: self.vote(),
            commit: self.volatile.commit,
            applied: self.volatile.applied,
            leads: self.leader().map(|_| self.durable.log.last()),
        }
    }

    /// Checks all that can be checked here.
    pub(crate) fn check_invariants(&self, before: Mark) {
        let log = &self.durable.log;
        let volatile = &self.volatile;
        assert!(self.term() >= before.term, "I1: the term never falls");
        if self.term() == before.term && before.vote.is_some() {
            assert!(self.vote() == before.vote, "I1: one vote a term");
        }
        assert!(volatile.commit >= before.commit, "I3: commits are stable");
        assert!(
            volatile.applied >= before.applied,
            "I10: nothing is unapplied"
        );
        assert!(volatile.applied <= volatile.commit, "I10: committed first");
        assert!(volatile.commit <= log.last(), "I3: committed means logged");
        assert!(
            volatile.applied <= log.durable().max(log.base().op),
            "I10: durable here first"
        );
        assert!(
            log.base().op <= volatile.applied,
            "the log is cut below what is applied"
        );
        assert!(
            log.last_position().term <= self.term(),
            "I2: no entry of a later term"
        );
        assert!(
            log.configuration_count() > 0,
            "I9: a configuration is in force"
        );
        if let (Some(last), Some(_)) = (before.leads, self.leader()) {
            assert!(log.last() >= last, "I2: a leader only appends");
        }
        self.check_role();
        self.check_limits();
    }

    fn check_role(&self) {
        let own = self.config.node;
        let last = self.durable.log.last();
        match &self.volatile.role {
            Role::Leader(leading) => {
                assert!(
                    self.volatile.leader == Some(own),
                    "I1: a leader knows itself"
                );
                assert!(self.vote() == Some(own), "I1: a leader voted for itself");
                assert!(
                    !self.durable.hard.is_recovering,
                    "I14: damaged nodes do not lead"
                );
                let placed = self.durable.log.configured();
                // A group's first leader begins its log with the configuration that it has.
                assert!(
                    placed.at.op <= leading.blank || self.volatile.commit >= leading.blank,
                    "I9: members change once an entry of this term is committed"
                );
                for peer in &leading.peers {
                    assert!(peer.node != own, "a leader is no peer of itself");
                    assert!(peer.matched <= last, "I2: nobody has more than the leader");
                    assert!(
                        peer.counted <= peer.matched,
                        "I14: no more counts than is there"
                    );
                    assert!(
                        peer.next > peer.matched,
                        "I2: what is there is not sent again"
                    );
                    if let Mode::Replicate { in_flight, .. } = &peer.mode {
                        assert!(in_flight.len() <= 64, "Appends under way are bounded");
                    }
                }
            }
            Role::Follower(follower) => {
                assert!(follower.verified <= last, "I2: only what is there matches");
                assert!(
                    self.volatile.leader != Some(own),
                    "I1: who follows does not lead"
                );
                assert!(
                    !self.durable.hard.is_recovering,
                    "I14: damage shows in the role"
                );
            }
            Role::Recovering(recovering) => {
                assert!(
                    recovering.follower.verified <= last,
                    "I2: only what is there matches"
                );
                assert!(
                    self.durable.hard.is_recovering,
                    "I14: the role shows damage"
                );
            }
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => {
                assert!(
                    self.volatile.leader.is_none(),
                    "I1: a candidate has no leader"
                );
                let voters = self.configuration().members().len() + self.config.voters_max * 2;
                assert!(campaign.votes.len() <= voters, "only members vote");
            }
        }
    }

    fn check_limits(&self) {
        let (config, volatile) = (&self.config, &self.volatile);
        assert!(
            volatile.reads.count() <= config.reads_max,
            "reads are bounded"
        );
        assert!(
            volatile.reads.round_count() <= config.read_rounds_max + 1,
            "rounds of probes are bounded"
        );
        assert!(
            volatile.outbox.count() <= config.origin_count_max,
            "commands that wait at their origin are bounded"
        );
    }
}
