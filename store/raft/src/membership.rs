//! Who belongs to the group, and how that changes: by joint consensus, one change at a time.
//!
//! A configuration is in force from its append on, committed or not. So a candidate always
//! campaigns under every configuration that it holds, which is what etcd #7280 asks for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use holm_base::{NodeId, Op, RequestId};
use holm_quorum::Voters;

use crate::effect::{Effect, Outcome, Refused};
use crate::event::{Event, SteppedDown};
use crate::message::{Body, Payload};
use crate::node::{Cx, Raft};

/// Who belongs to the group, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Configuration {
    voters: Voters,
    /// Sorted. They get everything and decide nothing.
    learners: Vec<NodeId>,
    /// Learners that become voters by themselves once they have caught up.
    joining: Vec<Joining>,
}

/// A learner that is to become a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Joining {
    /// The learner.
    pub node: NodeId,
    /// The voter that leaves in the same step, if one does.
    pub replaces: Option<NodeId>,
}

/// What may be asked of a group's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A node that gets everything and decides nothing.
    AddLearner(NodeId),
    /// A node that becomes a voter by itself once it has caught up.
    AddVoter(NodeId),
    /// A learner becomes a voter now; refused unless it has caught up.
    Promote(NodeId),
    /// A voter becomes a learner.
    Demote(NodeId),
    /// A voter or learner leaves.
    Remove(NodeId),
    /// `incoming` joins and takes the vote of `outgoing` once it has caught up.
    Replace {
        /// Who leaves.
        outgoing: NodeId,
        /// Who comes.
        incoming: NodeId,
    },
}

impl Configuration {
    /// A group of these voters.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self {
            voters: Voters::new(voters),
            learners: Vec::new(),
            joining: Vec::new(),
        }
    }

    /// All of it, as the wire and the disk carry it.
    #[must_use]
    pub fn from_parts(voters: Voters, learners: Vec<NodeId>, joining: Vec<Joining>) -> Self {
        let mut learners = learners;
        learners.sort_unstable();
        learners.dedup();
        Self {
            voters,
            learners,
            joining,
        }
    }

    /// Who decides.
    #[must_use]
    pub const fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Who listens, sorted. While a change is under way this may name voters that are leaving
    /// their vote.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Learners on their way to a vote.
    #[must_use]
    pub fn joining(&self) -> &[Joining] {
        &self.joining
    }

    /// Whether a node belongs to the group at all.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(node) || self.learners.binary_search(&node).is_ok()
    }

    /// All members, each once.
    #[must_use]
    pub fn members(&self) -> Vec<NodeId> {
        let mut all: Vec<NodeId> = self.voters.iter().collect();
        all.extend(self.learners.iter().copied());
        all.sort_unstable();
        all.dedup();
        all
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let nodes = self.voters.incoming().len() + self.voters.outgoing().len();
        8 * (nodes + self.learners.len() + 2 * self.joining.len())
    }

    /// What a change makes of it: the next configuration, joint if voters change.
    pub(crate) fn changed(&self, change: Change) -> Result<Self, Refused> {
        let voter = |node: NodeId| self.voters.contains(node);
        let learner = |node: NodeId| self.learners.binary_search(&node).is_ok();
        let mut next = self.clone();
        match change {
            Change::AddLearner(node) | Change::AddVoter(node) if voter(node) || learner(node) => {
                return Err(Refused::NoSuchChange);
            }
            Change::AddLearner(node) => next.learn(node),
            Change::AddVoter(node) => next.join(node, None),
            Change::Promote(node) if learner(node) => next.promote(node, None),
            Change::Demote(node) if voter(node) => {
                next.enter(self.voters.iter().filter(|voter| *voter != node));
                next.learn(node);
            }
            Change::Remove(node) if voter(node) => {
                next.enter(self.voters.iter().filter(|voter| *voter != node));
            }
            Change::Remove(node) if learner(node) => next.forget(node),
            Change::Replace { outgoing, incoming } if voter(outgoing) && !voter(incoming) => {
                next.join(incoming, Some(outgoing));
            }
            Change::Promote(_) | Change::Demote(_) | Change::Remove(_) | Change::Replace { .. } => {
                return Err(Refused::NoSuchChange);
            }
        }
        if next.voters.incoming().is_empty() {
            return Err(Refused::NoLiveQuorum);
        }
        Ok(next)
    }

    fn learn(&mut self, node: NodeId) {
        self.learners.push(node);
        self.learners.sort_unstable();
        self.learners.dedup();
    }

    fn join(&mut self, node: NodeId, replaces: Option<NodeId>) {
        self.learn(node);
        self.joining.retain(|joining| joining.node != node);
        self.joining.push(Joining { node, replaces });
    }

    fn forget(&mut self, node: NodeId) {
        self.learners.retain(|learner| *learner != node);
        self.joining.retain(|joining| joining.node != node);
    }

    /// A learner becomes a voter, and perhaps a voter leaves for it.
    fn promote(&mut self, node: NodeId, replaces: Option<NodeId>) {
        self.forget(node);
        let staying = self.voters.iter().filter(|voter| Some(*voter) != replaces);
        let next: Vec<NodeId> = staying.chain([node]).collect();
        self.enter(next.into_iter());
    }

    fn enter(&mut self, next: impl Iterator<Item = NodeId>) {
        let next: Vec<NodeId> = next.collect();
        let now = self.voters.incoming().to_vec();
        self.voters = Voters::joint(next, now);
    }

    /// The configuration without its old half.
    pub(crate) fn left(&self) -> Self {
        let mut next = self.clone();
        next.voters = Voters::new(self.voters.incoming().iter().copied());
        // Who replaced nobody in the end must not hold on to a voter that is gone.
        for joining in &mut next.joining {
            let voters = &next.voters;
            joining.replaces = joining.replaces.filter(|node| voters.contains(*node));
        }
        next
    }
}

/// A change that the leader is making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Changing {
    /// Who waits for it; nobody, if the leader promotes by itself.
    pub(crate) request: Option<RequestId>,
    /// The op whose commit is the next step.
    pub(crate) at: Op,
}

impl Raft {
    /// An operator wants another membership.
    pub(crate) fn change(&mut self, cx: &mut Cx<'_>, request: RequestId, change: Change) {
        match self.checked(cx, change) {
            Ok(next) => self.configure(cx, next, Some(request)),
            Err(reason) => cx.push(Effect::Refuse { request, reason }),
        }
    }

    fn checked(&self, cx: &Cx<'_>, change: Change) -> Result<Configuration, Refused> {
        let leader = self.volatile.leader;
        let Some(leading) = self.leader() else {
            return Err(Refused::NotLeader { leader });
        };
        if !self.may_change() {
            return Err(Refused::NotReady);
        }
        if let Change::Promote(node) = change
            && leading.peer(node).is_some_and(|peer| !peer.is_in_sync)
        {
            return Err(Refused::NotInSync);
        }
        let next = self
            .durable
            .log
            .configured()
            .configuration
            .changed(change)?;
        if next.voters.incoming().len() > self.config.voters_max
            || next.learners.len() > self.config.learners_max
        {
            return Err(Refused::TooManyMembers);
        }
        if !self.has_live_quorum(cx, next.voters()) {
            return Err(Refused::NoLiveQuorum);
        }
        Ok(next)
    }

    /// One change at a time, and none before an own-term commit.
    fn may_change(&self) -> bool {
        let placed = self.durable.log.configured();
        let is_settled = placed.at.op <= self.volatile.commit;
        let is_joint = placed.configuration.voters.is_joint();
        self.leader().is_some_and(|leading| {
            leading.transfer.is_none() && self.volatile.commit >= leading.blank
        }) && is_settled
            && !is_joint
    }

    /// Whether the nodes heard within an election timeout are a quorum of these voters.
    fn has_live_quorum(&self, cx: &Cx<'_>, voters: &Voters) -> bool {
        let Some(leading) = self.leader() else {
            return false;
        };
        let lives = |node: NodeId| {
            node == self.config.node
                || leading
                    .peer(node)
                    .is_some_and(|peer| cx.now.since(peer.heard) < self.config.election_timeout)
        };
        voters.agreed(lives) == Some(true)
    }

    /// Appends a configuration, which is in force at once.
    pub(crate) fn configure(
        &mut self,
        cx: &mut Cx<'_>,
        next: Configuration,
        request: Option<RequestId>,
    ) {
        let at = self.append_own(cx, Payload::Configuration(Arc::new(next)));
        self.reconfigured(cx);
        if let Some(leading) = self.leader_mut() {
            leading.changing = Some(Changing { request, at });
        }
        // A quorum may have shrunk to what is durable already.
        self.count_commit(cx);
    }

    /// The newest configuration is another one than before.
    pub(crate) fn reconfigured(&mut self, cx: &mut Cx<'_>) {
        let placed = self.durable.log.configured();
        let (op, configuration) = (placed.at.op, Arc::clone(&placed.configuration));
        cx.note(Event::ConfigurationChanged {
            op,
            is_joint: configuration.voters.is_joint(),
        });
        let own = self.config.node;
        let last = self.durable.log.last();
        let now = cx.now;
        if let Some(leading) = self.leader_mut() {
            leading.keep_peers(&configuration, own, last, now);
        }
    }

    /// A leader's next step in a change, once its last one is committed.
    pub(crate) fn continue_change(&mut self, cx: &mut Cx<'_>) {
        let commit = self.volatile.commit;
        let Some(leading) = self.leader() else {
            return;
        };
        let placed = self.durable.log.configured();
        if commit < leading.blank || placed.at.op > commit {
            return;
        }
        let configuration = Arc::clone(&placed.configuration);
        let at = placed.at.op;
        let request = leading.changing.and_then(|changing| changing.request);
        if configuration.voters.is_joint() {
            self.configure(cx, configuration.left(), request);
            return;
        }
        if let Some(leading) = self.leader_mut()
            && leading.changing.take().is_some()
            && let Some(request) = request
        {
            cx.push(Effect::Reply {
                request,
                outcome: Outcome::Changed { op: at },
            });
        }
        if !configuration.voters.contains(self.config.node) {
            self.leave(cx);
            return;
        }
        self.promote_joining(cx, &configuration);
    }

    /// Promotes the first learner that wants a vote and has caught up.
    fn promote_joining(&mut self, cx: &mut Cx<'_>, configuration: &Configuration) {
        if !self.may_change() {
            return;
        }
        let Some(leading) = self.leader() else {
            return;
        };
        let is_ready = |joining: &&Joining| {
            let peer = leading.peer(joining.node);
            peer.is_some_and(|peer| peer.is_in_sync)
        };
        let Some(joining) = configuration.joining.iter().find(is_ready).copied() else {
            return;
        };
        let mut next = configuration.clone();
        next.promote(joining.node, joining.replaces);
        let fits = next.voters.incoming().len() <= self.config.voters_max;
        if fits && self.has_live_quorum(cx, next.voters()) {
            self.configure(cx, next, None);
        }
    }

    /// A leader that a committed change left out: name a successor and go.
    fn leave(&mut self, cx: &mut Cx<'_>) {
        let Some(leading) = self.leader() else {
            return;
        };
        let voters = self.durable.log.configured().configuration.voters.clone();
        let best = leading
            .peers
            .iter()
            .filter(|peer| voters.contains(peer.node))
            .max_by_key(|peer| peer.matched)
            .map(|peer| peer.node);
        // The peers must hear that the change is committed before the last message to them.
        self.flush_leader(cx);
        if let Some(to) = best {
            self.send(cx, to, Body::TimeoutNow, None);
        }
        self.step_down(cx, SteppedDown::Removed);
    }
}
