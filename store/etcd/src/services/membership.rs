//! Changing who belongs to a cluster, and who leads it.
//!
//! A newcomer's address is remembered before it belongs, so that the leader can reach it at
//! once; a leaver is marked as removed before it leaves, so that it can never come back. What is
//! refused for certain is taken back. What is not known to have failed is left: a remembered
//! address of nobody hurts nobody.

use std::time::Duration;

use holm_base::{NodeId, Time};
use holm_kv::Refusal;
use holm_raft::{Change, Operation, Refused};
use holm_runtime::{Bootstrap, member_id};

use super::Services;
use crate::errors;
use crate::members::{self, Member};
use crate::proto::etcdserverpb as pb;
use crate::status::{Code, Status};

/// How soon a change that another one kept waiting is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// A change that was not made, or not as far as is known.
#[derive(Clone, Debug)]
struct NotChanged {
    status: Status,
    /// Whether it was certainly not made.
    is_certain: bool,
}

impl Services {
    /// Takes a member in.
    ///
    /// # Errors
    ///
    /// If its address is another's, it was removed once, there are too many already, or no
    /// quorum of those there would be is in reach.
    pub(super) async fn take_in(
        &self,
        bootstrap: &Bootstrap,
        request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Status> {
        let urls = request.peer_ur_ls;
        let node = member_id(&bootstrap.token, &urls);
        self.take_in_as(bootstrap, node, &urls, request.is_learner)
            .await?;
        let members = self.members().await?;
        Ok(pb::MemberAddResponse {
            header: Some(self.member_header()),
            member: members.iter().find(|it| it.node == node).map(shown),
            members: members.iter().map(shown).collect(),
        })
    }

    /// As [`Services::take_in`], under an id that was agreed on.
    pub(super) async fn take_in_as(
        &self,
        bootstrap: &Bootstrap,
        node: NodeId,
        urls: &[String],
        is_learner: bool,
    ) -> Result<(), Status> {
        let there = self.members().await?;
        check_free(&there, None, urls)?;
        let was_removed = members::was_removed(&self.handle().view(), node);
        if was_removed || there.iter().any(|it| it.node == node) {
            return Err(errors::member_id_exists());
        }
        self.remember_now([members::remember_peers(node, urls)])
            .await?;
        let change = if is_learner {
            Change::AddLearner(node)
        } else {
            Change::AddVoter(node)
        };
        if let Err(not_changed) = self.change_members(bootstrap, change, &there).await {
            if not_changed.is_certain {
                self.take_back(members::forget(node)).await;
            }
            return Err(not_changed.status);
        }
        Ok(())
    }

    /// Lets a member go, for ever.
    ///
    /// # Errors
    ///
    /// If there is no such member, or no quorum of those who stay is in reach.
    pub(super) async fn let_go(
        &self,
        bootstrap: &Bootstrap,
        node: NodeId,
    ) -> Result<Vec<Member>, Status> {
        let there = self.members().await?;
        find(&there, node)?;
        self.remember_now([members::remember_removed(node)]).await?;
        let change = Change::Remove(node);
        if let Err(not_changed) = self.change_members(bootstrap, change, &there).await {
            if not_changed.is_certain {
                self.take_back([members::forget_removed(node)]).await;
            }
            return Err(not_changed.status);
        }
        if node != self.handle().identity().node {
            self.take_back(members::forget(node)).await;
        }
        let mut left = self.members().await?;
        left.retain(|it| it.node != node);
        Ok(left)
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    ///
    /// If there is no such member, it votes already, or it lacks too much.
    pub(super) async fn give_vote(
        &self,
        bootstrap: &Bootstrap,
        node: NodeId,
    ) -> Result<Vec<Member>, Status> {
        self.check_leader(bootstrap).await?;
        let there = self.members().await?;
        if !find(&there, node)?.is_learner {
            return Err(errors::member_not_learner());
        }
        let changed = self.change_members(bootstrap, Change::Promote(node), &there);
        changed.await.map_err(|it| it.status)?;
        self.members().await
    }

    /// Remembers another address of a member.
    ///
    /// # Errors
    ///
    /// If there is no such member, or the address is another's.
    pub(super) async fn move_member(
        &self,
        node: NodeId,
        urls: &[String],
    ) -> Result<Vec<Member>, Status> {
        let there = self.members().await?;
        find(&there, node)?;
        check_free(&there, Some(node), urls)?;
        self.remember_now([members::remember_peers(node, urls)])
            .await?;
        self.members().await
    }

    /// Hands leadership on to another voter.
    ///
    /// # Errors
    ///
    /// If this node does not lead, the other has no vote, or does not take over in time.
    pub(super) async fn hand_lead_on(&self, to: NodeId) -> Result<(), Status> {
        let Some(bootstrap) = self.handle().bootstrap() else {
            return Err(errors::bad_leader_transferee());
        };
        let end = self.handle().now() + bootstrap.request_timeout;
        let refused = match self.operate(Operation::MoveLeader { to }, end).await? {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        Err(match refused {
            Refused::NotLeader { .. } => errors::not_leader(),
            Refused::NoSuchChange => errors::bad_leader_transferee(),
            Refused::TransferTimedOut => errors::transfer_timed_out(),
            other => why(&other),
        })
    }

    /// Waits for a leader as long as a change would.
    async fn check_leader(&self, bootstrap: &Bootstrap) -> Result<(), Status> {
        let end = self.handle().now() + bootstrap.request_timeout;
        while self.handle().leader().is_none() {
            if self.handle().now() >= end {
                return Err(errors::no_leader());
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    async fn change_members(
        &self,
        bootstrap: &Bootstrap,
        change: Change,
        there: &[Member],
    ) -> Result<(), NotChanged> {
        let end = self.handle().now() + bootstrap.request_timeout;
        let refused = match self.operate(Operation::Change(change), end).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused,
            Err(status) => {
                return Err(NotChanged {
                    status,
                    is_certain: false,
                });
            }
        };
        let is_certain = !matches!(refused, Refused::LeaderChanged | Refused::NotMember);
        let status = match (&refused, change) {
            (Refused::NoSuchChange, Change::AddLearner(_) | Change::AddVoter(_)) => {
                errors::member_id_exists()
            }
            (Refused::NoSuchChange, _) => errors::member_not_found(),
            (Refused::TooManyMembers, Change::AddLearner(_) | Change::AddVoter(_)) => {
                errors::too_many_learners()
            }
            (Refused::TooManyMembers, _) => errors::too_many_voters(),
            (Refused::NoLiveQuorum, Change::Remove(node)) if !has_started_quorum(there, node) => {
                errors::not_enough_started_members()
            }
            (Refused::NoLiveQuorum, _) => errors::unhealthy(),
            (Refused::NotInSync, _) => errors::learner_not_ready(),
            (other, _) => why(other),
        };
        Err(NotChanged { status, is_certain })
    }

    /// Has the leader do something, after whatever it is at, until `end`.
    async fn operate(
        &self,
        operation: Operation,
        end: Time,
    ) -> Result<Result<(), Refused>, Status> {
        let begun = self.handle().now();
        loop {
            let answer = self.handle().operate(operation.clone()).await;
            let refused = match answer {
                Ok(Ok(_done)) => return Ok(Ok(())),
                Ok(Err(refused)) => refused,
                Err(Refusal::TimedOut | Refusal::NoLeader) => return Err(self.timed_out(begun)),
                Err(refusal) => return Err(refusal.into()),
            };
            if refused != Refused::NotReady {
                return Ok(Err(refused));
            }
            if self.handle().now() >= end {
                return Err(self.timed_out(begun));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Remembers, and tells whoever waits for it why it is late.
    pub(super) async fn remember_now(
        &self,
        commands: impl IntoIterator<Item = holm_kv::command::Command>,
    ) -> Result<(), Status> {
        let begun = self.begin();
        let remembered = self.remember(commands).await;
        remembered.map_err(|refusal| self.late_change(refusal, begun))
    }

    /// Takes facts back that mean nothing any more. Should it fail, they go on to mean nothing.
    async fn take_back(&self, commands: impl IntoIterator<Item = holm_kv::command::Command>) {
        if let Err(refusal) = self.remember(commands).await {
            tracing::info!(%refusal, "what was remembered of a member is still remembered");
        }
    }
}

/// A refusal that needs no more to be known.
fn why(refused: &Refused) -> Status {
    match refused {
        Refused::Busy => errors::too_many_requests(),
        Refused::TooLarge => errors::request_too_large(),
        Refused::NotLeader { .. } => errors::no_leader(),
        Refused::NotMember => errors::stopped(),
        Refused::LeaderChanged => errors::leader_changed(),
        Refused::NotReady | Refused::TimedOut => errors::timed_out(),
        Refused::NoSuchChange => errors::member_not_found(),
        Refused::NotInSync => errors::learner_not_ready(),
        Refused::NoLiveQuorum => errors::unhealthy(),
        Refused::TooManyMembers => errors::too_many_voters(),
        Refused::TransferTimedOut => errors::transfer_timed_out(),
        Refused::Unsupported => Status::new(
            Code::Unimplemented,
            "etcdserver: this release cannot do that",
        ),
    }
}

fn find(members: &[Member], node: NodeId) -> Result<&Member, Status> {
    let found = members.iter().find(|it| it.node == node);
    found.ok_or_else(errors::member_not_found)
}

/// Whether no other member is reached at any of these.
fn check_free(members: &[Member], own: Option<NodeId>, urls: &[String]) -> Result<(), Status> {
    let mut others = members.iter().filter(|it| Some(it.node) != own);
    if others.any(|it| it.peer_urls.iter().any(|url| urls.contains(url))) {
        return Err(errors::peer_url_exists());
    }
    Ok(())
}

/// Whether those of the voters who have started once could decide without one of them.
fn has_started_quorum(members: &[Member], without: NodeId) -> bool {
    let staying = members
        .iter()
        .filter(|it| !it.is_learner && it.node != without);
    let (mut all, mut started) = (0, 0);
    for member in staying {
        all += 1;
        started += usize::from(!member.name.is_empty());
    }
    started > all / 2
}

/// A member as etcd's messages have it.
pub(super) fn shown(member: &Member) -> pb::Member {
    pb::Member {
        id: member.node.value(),
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
