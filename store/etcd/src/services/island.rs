//! A node among others: what it waits for, what it tells when it is cut off, and what it does
//! by itself.
//!
//! What would surprise: nothing here costs a node alone more than a branch. It has all that was
//! acknowledged, it leads, and it waits for nobody.

use std::time::Duration;

use holm_base::{NodeId, Op, Term, Time};
use holm_kv::command::{Command, Proposal};
use holm_kv::outcome::Applied;
use holm_kv::{Refusal, View};
use holm_raft::Configuration;
use holm_runtime::Bootstrap;

use super::Services;
use crate::errors;
use crate::members::{self, Member};
use crate::status::{Code, Status};

/// How often a node looks whether it has a leader.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// At every how many looks it asks whether it has a vote.
const LOOKS_A_QUESTION: u32 = 5;
/// How long after a failure a node tries again to tell who it is.
const PUBLISH_AGAIN: Duration = Duration::from_secs(1);

impl Services {
    /// Looks after a node of a cluster for as long as it is polled: tells the others its name
    /// and where clients reach it, and notices when the leader is lost. Ends at once at a node
    /// alone, and when the node stops. Without it a node of a cluster has no name for the others.
    pub async fn tend(&self) {
        if let Some(bootstrap) = self.handle().bootstrap() {
            tokio::join!(self.look_on(bootstrap), self.publish());
        }
    }

    async fn look_on(&self, bootstrap: &Bootstrap) {
        let handle = self.handle();
        let pulse = &self.shared.pulse;
        for look in 0_u32.. {
            let has_leader = handle.leader().is_some();
            pulse.look(handle.now(), has_leader, bootstrap.election_timeout);
            if !handle.view().auth.enabled() {
                // Another site may have ended all logins.
                self.shared.tokens.forget_all();
            }
            if look.is_multiple_of(LOOKS_A_QUESTION) {
                match self.standing().await {
                    Ok(standing) => pulse.set_learner(standing.is_learner),
                    Err(Refusal::Stopped) => return,
                    Err(refusal) => tracing::debug!(%refusal, "the node does not say its role"),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn publish(&self) {
        let handle = self.handle();
        loop {
            let untold = members::unpublished(&handle.view(), handle.identity());
            if untold.is_none() {
                return;
            }
            match self.remember(untold).await {
                Ok(()) => {}
                Err(refusal) => {
                    // A node that has not been let in yet is refused as one that stops is.
                    if matches!(self.standing().await, Err(Refusal::Stopped)) {
                        return;
                    }
                    tracing::info!(%refusal, "the cluster does not know this node's name yet");
                    tokio::time::sleep(PUBLISH_AGAIN).await;
                }
            }
        }
    }

    /// Has the cluster remember some facts.
    pub(super) async fn remember(
        &self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<(), Refusal> {
        for command in commands {
            let caller = None;
            let applied = self.handle().propose(Proposal { caller, command }).await?;
            applied.result?;
        }
        Ok(())
    }

    /// How this node of a cluster stands.
    pub(super) async fn standing(&self) -> Result<Standing, Refusal> {
        let standing = self.handle().standing().await?;
        let own = self.handle().identity().node;
        Ok(Standing {
            commit: standing.commit,
            is_learner: is_learner(&standing.configuration, own),
            configuration: standing.configuration,
        })
    }

    /// Everyone who belongs to the cluster, sorted by id, as this node knows it; at a node alone
    /// that node, and at one that has not been let in yet those that it was told of.
    ///
    /// # Errors
    ///
    /// If too much waits or the node is stopping.
    pub async fn members(&self) -> Result<Vec<Member>, Status> {
        let handle = self.handle();
        let Some(bootstrap) = handle.bootstrap() else {
            return Ok(vec![self.only_member()]);
        };
        let configuration = self.standing().await?.configuration;
        let mut nodes: Vec<(NodeId, bool)> = configuration
            .members()
            .into_iter()
            .map(|node| (node, is_learner(&configuration, node)))
            .collect();
        if nodes.is_empty() {
            nodes.extend(bootstrap.members.iter().map(|it| (it.node, false)));
        }
        Ok(members::table(&handle.view(), bootstrap, nodes))
    }

    /// Waits until the members are others than those that are known, are called otherwise or
    /// reached elsewhere, and gives them. At a node alone that never comes.
    ///
    /// # Errors
    ///
    /// If the node is stopping.
    pub async fn members_after(&self, known: &[Member]) -> Result<Vec<Member>, Status> {
        if !self.handle().is_of_cluster() {
            return std::future::pending().await;
        }
        loop {
            match self.members().await {
                Ok(members) if members != known => return Ok(members),
                Err(status) if status == errors::stopped() => return Err(status),
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_EVERY * LOOKS_A_QUESTION).await,
            }
        }
    }

    fn only_member(&self) -> Member {
        let identity = self.handle().identity();
        Member {
            node: identity.node,
            name: identity.name.clone(),
            site: identity.site.clone(),
            peer_urls: identity.peer_urls.clone(),
            client_urls: identity.client_urls.clone(),
            is_learner: false,
        }
    }

    /// Waits until this node has all that was acknowledged to anyone before: what a
    /// linearizable read needs. A node alone has it.
    pub(crate) async fn catch_up(&self) -> Result<(), Status> {
        let handle = self.handle();
        if !handle.is_of_cluster() {
            return Ok(());
        }
        let begun = handle.now();
        let waited = handle.read_barrier().await;
        waited.map_err(|refusal| self.late_read(refusal, begun))
    }

    /// As [`Services::catch_up`] while somebody leads. Who is cut off has to do with what it knows, and so has who is
    /// just finding that out.
    ///
    /// # Errors
    ///
    /// If there is a leader, and no answer in time.
    pub(super) async fn catch_up_if_led(&self) -> Result<(), Status> {
        let mut caught_up = std::pin::pin!(self.catch_up());
        while self.handle().leader().is_some() {
            if let Ok(done) = tokio::time::timeout(LOOK_EVERY, &mut caught_up).await {
                return done.or_else(|status| match self.handle().leader() {
                    Some(_) => Err(status),
                    None => Ok(()),
                });
            }
        }
        Ok(())
    }

    /// As [`Services::catch_up`], for a question that etcd puts into its log: who asks it is told
    /// the same as who changes something.
    pub(super) async fn catch_up_in_order(&self) -> Result<(), Status> {
        let handle = self.handle();
        if !handle.is_of_cluster() {
            return Ok(());
        }
        let begun = self.begin();
        let waited = handle.read_barrier().await;
        waited.map_err(|refusal| self.late_change(refusal, begun))
    }

    /// What a read is told that was not done.
    fn late_read(&self, refusal: Refusal, begun: Time) -> Status {
        match refusal {
            // Whoever reads waits for a leader as long as for anything else.
            Refusal::TimedOut | Refusal::NoLeader => self.timed_out(begun),
            other => other.into(),
        }
    }

    /// What a change is told that was not done, as far as is known.
    pub(crate) fn late_change(&self, refusal: Refusal, begun: Begun) -> Status {
        let Begun { at, has_leader } = begun;
        match refusal {
            // A change that never found a leader was never proposed: the caller's own time is
            // up, says etcd.
            Refusal::TimedOut if !has_leader && self.handle().leader().is_none() => {
                Status::new(Code::DeadlineExceeded, "context deadline exceeded")
            }
            Refusal::TimedOut => self.timed_out(at),
            other => other.into(),
        }
    }

    /// What the leader's answer to a question about a lease would have been.
    pub(super) fn late_lease(&self, refusal: Refusal) -> Status {
        let is_late = refusal == Refusal::TimedOut;
        if is_late && self.handle().leader().is_none() {
            return errors::no_leader();
        }
        refusal.into()
    }

    /// That the time is up, and why as far as is known.
    pub(crate) fn timed_out(&self, begun: Time) -> Status {
        let bootstrap = self.handle().bootstrap();
        let pulse = &self.shared.pulse;
        if bootstrap.is_some_and(|it| pulse.was_leader_lost(begun, it.election_timeout)) {
            return errors::timed_out_by_leader();
        }
        errors::timed_out()
    }

    /// What is to be known of a change that begins.
    pub(crate) fn begin(&self) -> Begun {
        let handle = self.handle();
        Begun {
            at: handle.now(),
            has_leader: handle.leader().is_some(),
        }
    }

    /// Has a change ordered and applied, for a caller who is known.
    pub(super) async fn order(&self, proposal: Proposal) -> Result<Applied, Status> {
        let begun = self.handle().is_of_cluster().then(|| self.begin());
        let applied = self.handle().propose(proposal).await;
        applied.map_err(|refusal| match begun {
            Some(begun) => self.late_change(refusal, begun),
            None => refusal.into(),
        })
    }

    /// Refuses what a node without a vote does not answer, or one whose keyspace is shut. A
    /// node alone has a vote.
    ///
    /// # Errors
    ///
    /// `rpc not supported for learner`; why it is shut.
    pub(crate) fn check_vote(&self) -> Result<(), Status> {
        self.check_door()?;
        if self.is_learner() {
            return Err(errors::not_for_learners());
        }
        Ok(())
    }

    /// Refuses what its keyspace is shut at, also reads that any node of a cluster answers: a part
    /// of the keys must not pass for all.
    ///
    /// # Errors
    ///
    /// Why it is shut.
    pub(crate) fn check_door(&self) -> Result<(), Status> {
        self.shared.door.why().map_or(Ok(()), Err)
    }

    /// Refuses a call that demands a leader where there is none. A node alone is its own.
    ///
    /// # Errors
    ///
    /// `no leader`.
    pub(crate) fn check_led(&self) -> Result<(), Status> {
        if self.handle().leader().is_none() {
            return Err(errors::no_leader());
        }
        Ok(())
    }

    /// Whether this node has no vote, or none yet.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.shared.pulse.is_learner()
    }

    /// Resolves once the node has had no leader for so long that streams which demand one end.
    pub(crate) async fn leader_lost(self) {
        self.shared.pulse.long_lost().await;
    }

    /// What a node that is cut off says in all its answers, `no-quorum since 12s`; nothing while
    /// there is a leader.
    #[must_use]
    pub fn island(&self) -> Option<String> {
        let handle = self.handle();
        if !handle.is_of_cluster() || handle.leader().is_some() {
            return None;
        }
        let since = self.shared.pulse.lost_for(handle.now());
        Some(format!("no-quorum since {}s", since.as_secs()))
    }

    /// The term that an answer shows: the newest that this node has heard of.
    pub(crate) fn term(&self, of_state: Term) -> u64 {
        let handle = self.handle();
        if handle.is_of_cluster() {
            handle.term().max(of_state).value()
        } else {
            of_state.value()
        }
    }

    /// As [`Services::term`], of this state.
    pub(crate) fn term_of(&self, view: &View) -> u64 {
        self.term(view.term)
    }
}

/// What is to be known of a change when its time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    at: Time,
    has_leader: bool,
}

/// What Raft knows of who belongs to the cluster.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) commit: Op,
    pub(super) configuration: Configuration,
    /// Whether this node has no vote, or none yet.
    pub(super) is_learner: bool,
}

pub(super) fn is_learner(configuration: &Configuration, node: NodeId) -> bool {
    !configuration.voters().contains(node) && configuration.learners().contains(&node)
}
