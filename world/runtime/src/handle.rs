//! The front's door to one keyspace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use holm_base::{ClusterId, GroupId, NodeId, Op, Revision, Term, Time};
use holm_kv::command::{Command, Proposal, Txn, TxnOp};
use holm_kv::outcome::{Applied, LeaseView};
use holm_kv::{Hub, Reader, Refusal, View};
use holm_raft::{Operation, Outcome, Refused};
use holm_replica::{Answer, Message, MessageError, Standing};
use holm_telemetry::Metrics;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::engine::{self, Seat};
use crate::inbox::{Ask, Inbox, NotTaken};
use crate::network::Bootstrap;

/// Who the node is, as its clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The node's name, as the operator gave it.
    pub name: String,
    /// The site that it is of; its own name where a site is one node.
    pub site: String,
    /// Where other sites reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// How long a command of a local-first keyspace may be. The update that it becomes is about as
/// long; parts of documents have their paths with them.
const ISLAND_BODY_MAX: usize = holm_local_first::UPDATE_MAX / 2;

/// What the engine and the front share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The keyspace's group and name.
    pub(crate) keyspace: (GroupId, String),
    /// Its number in the log and among the nodes of this site.
    pub(crate) place: GroupId,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) reader: Reader,
    pub(crate) hub: Arc<Hub>,
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) quota_bytes: u64,
    pub(crate) metrics: Arc<Metrics>,
    /// The newest op that was given out.
    pub(crate) last: AtomicU64,
    /// Requests that have come in and are not answered.
    pub(crate) pending: AtomicU64,
    /// Who leads, at a node of a cluster; 0 if it knows of nobody.
    pub(crate) leader: AtomicU64,
    /// The term of a node of a cluster.
    pub(crate) term: AtomicU64,
    /// Messages of other nodes that were not taken.
    pub(crate) dropped: AtomicU64,
    /// How long a request waits at a node of a cluster. A node alone depends on nobody, and
    /// answers when its disk does.
    pub(crate) patience: Option<Duration>,
    /// What a node of a cluster was told when it started.
    pub(crate) bootstrap: Option<Bootstrap>,
    /// Whether the keyspace is local-first.
    pub(crate) is_island: bool,
}

impl Shared {
    /// A proposal as the log takes it.
    fn body(&self, proposal: &Proposal) -> Result<Bytes, Refusal> {
        if !self.is_island {
            return Ok(proposal.encode());
        }
        let body = proposal.encode_at(unix_ms());
        // What one island takes all others must be able to take.
        if body.len() > ISLAND_BODY_MAX {
            return Err(Refusal::TooLarge);
        }
        Ok(body)
    }
}

/// Milliseconds of Unix time, by the wall clock.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_or(0, |it| it.as_millis());
    u64::try_from(since).unwrap_or(u64::MAX)
}

/// The front's door to one keyspace. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) engine: Arc<Seat>,
    /// Whether a thread may be kept while others serve: with one core it is needed.
    pub(crate) may_stay: bool,
}

impl Handle {
    /// The newest published state, which holds every acknowledged write. Cost: some 20 ns.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.shared.reader.view()
    }

    /// The keyspace's name.
    #[must_use]
    pub fn keyspace(&self) -> &str {
        &self.shared.keyspace.1
    }

    /// The keyspace's group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.shared.keyspace.0
    }

    /// Whether a frame of that kind is for it: islands say the keyspace's number, for what they
    /// have at each is their own; nodes of one site say that of the place.
    pub(crate) fn is_spoken_to(&self, group: GroupId, kind: u8) -> bool {
        let shared = &self.shared;
        let is_of_islands = Message::is_of_islands(kind);
        group
            == if is_of_islands {
                shared.keyspace.0
            } else {
                shared.place
            }
    }

    /// The watch hub.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.shared.hub
    }

    /// The node's monotone clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// Who the node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// How many bytes the keyspace may retain.
    #[must_use]
    pub fn quota_bytes(&self) -> u64 {
        self.shared.quota_bytes
    }

    /// The newest op in the log, applied or not.
    #[must_use]
    pub fn last(&self) -> Op {
        Op::new(self.shared.last.load(Ordering::Acquire))
    }

    /// How many requests wait for an answer.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// Has a command ordered, made durable and applied; the answer says what it gave.
    ///
    /// Dropping the future does not take the command back.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`], [`Refusal::Busy`] and [`Refusal::NoSpace`] if it was not ordered;
    /// [`Refusal::Stopped`] if the node stopped first, and then its outcome is unknown.
    pub async fn propose(&self, proposal: Proposal) -> Result<Applied, Refusal> {
        let ask = Ask::Propose {
            takes_space: takes_space(&proposal.command),
            body: self.shared.body(&proposal)?,
        };
        let begun = self.now();
        let answer = self.ask(ask).await?;
        self.applied(begun, answer)
    }

    /// As [`Handle::propose`], for a caller whose thread has nothing else to do: if nobody else
    /// writes, the command is ordered, flushed and applied on the calling thread, which blocks
    /// for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// As [`Handle::propose`].
    pub async fn propose_here(&self, proposal: Proposal) -> Result<Applied, Refusal> {
        let is_short = matches!(
            proposal.command,
            Command::Put(_) | Command::Txn(_) | Command::DeleteRange(_)
        );
        if !is_short || !self.may_stay {
            return self.propose(proposal).await;
        }
        let begun = self.now();
        let ask = Ask::Propose {
            takes_space: takes_space(&proposal.command),
            body: self.shared.body(&proposal)?,
        };
        let (sender, receiver) = oneshot::channel();
        let _counted = Counted::new(&self.shared.pending);
        let inbox = &self.shared.inbox;
        if let Err((ask, sender)) = engine::work_here(&self.engine, inbox, (ask, sender)) {
            inbox.ask(ask, sender).map_err(refusal)?;
        }
        let answer = self.wait(receiver).await?;
        self.applied(begun, answer)
    }

    /// Waits until [`Handle::view`] holds everything that was acknowledged to anyone, anywhere,
    /// before this call. At a node alone it always does.
    ///
    /// Cost at a node of a cluster: a question to a quorum, shared by those who wait.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] if too many wait, [`Refusal::TimedOut`] if no quorum answers in time,
    /// [`Refusal::Stopped`].
    pub async fn read_barrier(&self) -> Result<(), Refusal> {
        if self.shared.patience.is_none() {
            return Ok(());
        }
        match self.ask(Ask::Read).await? {
            Answer::Read => Ok(()),
            other => unreachable!("a read was answered with {other:?}"),
        }
    }

    /// Changes who belongs to the cluster, or who leads it. A change may be asked of any node;
    /// only the leader hands its lead on.
    ///
    /// # Errors
    ///
    /// The outer one if there is no answer: its outcome is then unknown; the inner one if it
    /// was not done.
    pub async fn operate(&self, operation: Operation) -> Result<Result<Outcome, Refused>, Refusal> {
        match self.ask(Ask::Operate { operation }).await? {
            Answer::Operated(outcome) => Ok(outcome),
            other => unreachable!("an operation was answered with {other:?}"),
        }
    }

    /// How this node stands within its cluster: role, term, commit, what it knows of others.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] or [`Refusal::Stopped`].
    pub async fn standing(&self) -> Result<Standing, Refusal> {
        match self.ask(Ask::Stand).await? {
            Answer::Standing(standing) => Ok(*standing),
            other => unreachable!("an observer was answered with {other:?}"),
        }
    }

    /// Whether this node is one of a cluster.
    #[must_use]
    pub fn is_of_cluster(&self) -> bool {
        self.shared.patience.is_some()
    }

    /// What a node of a cluster was told when it started; `None` at a node alone.
    #[must_use]
    pub fn bootstrap(&self) -> Option<&Bootstrap> {
        self.shared.bootstrap.as_ref()
    }

    /// Who leads: this node itself if it is alone, nobody if that is not known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        if !self.is_of_cluster() {
            return Some(self.shared.identity.node);
        }
        let leader = self.shared.leader.load(Ordering::Acquire);
        (leader > 0).then_some(NodeId::new(leader))
    }

    /// The term that this node has heard of; at a node alone, that of what is published.
    #[must_use]
    pub fn term(&self) -> Term {
        if self.is_of_cluster() {
            Term::new(self.shared.term.load(Ordering::Acquire))
        } else {
            self.view().term
        }
    }

    /// How many messages of other nodes were dropped because too many waited.
    #[must_use]
    pub fn messages_dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Another node spoke: `from` is what its connection proved, `kind` and `body` are its
    /// frame's. Never blocks; a message that finds no room is dropped and counted.
    ///
    /// Nobody is woken: once all that came together was heard, [`Handle::attend`] must follow.
    ///
    /// # Errors
    ///
    /// If it is no message.
    pub fn hear(&self, from: NodeId, kind: u8, body: &Bytes) -> Result<(), MessageError> {
        let message = Message::decode(kind, body)?;
        if !self.shared.inbox.hear(from, message, body.len()) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Sees to what was heard: wakes the engine's thread, or, if that sleeps and there is as
    /// little to do as one client makes, works it off on the calling thread, which blocks for as
    /// long as the disk takes. Where there is more, the time until the thread wakes is not lost:
    /// what comes meanwhile is worked off together.
    pub fn attend(&self) {
        let inbox = &self.shared.inbox;
        if self.may_stay && self.pending() <= 1 {
            engine::attend_here(&self.engine, inbox);
        } else {
            inbox.rouse();
        }
    }

    /// Takes the hint that another node's process has perhaps ended, for it hung up on all links.
    /// If it leads, its successor is sought a little sooner; a wrong hint does no harm.
    pub fn suspect(&self, peer: NodeId) {
        if !self.shared.inbox.suspect(peer) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps a lease alive; gives its time to live in seconds.
    ///
    /// # Errors
    ///
    /// [`Refusal::LeaseNotFound`] if there is no such lease, or its end was already proposed.
    pub async fn lease_renew(&self, lease: i64) -> Result<i64, Refusal> {
        match self.ask(Ask::LeaseRenew { lease }).await? {
            Answer::Renewed(answer) => answer,
            other => unreachable!("a renewal was answered with {other:?}"),
        }
    }

    /// How long a lease has to live, and on request which keys hang on it.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] or [`Refusal::Stopped`]; an unknown lease is no error.
    pub async fn lease_time_to_live(
        &self,
        lease: i64,
        with_keys: bool,
    ) -> Result<LeaseView, Refusal> {
        match self.ask(Ask::LeaseTimeToLive { lease, with_keys }).await? {
            Answer::Lease(answer) => answer,
            other => unreachable!("a question about a lease was answered with {other:?}"),
        }
    }

    /// The ids of all leases.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] or [`Refusal::Stopped`].
    pub async fn leases(&self) -> Result<Vec<i64>, Refusal> {
        match self.ask(Ask::Leases).await? {
            Answer::Leases(answer) => answer,
            other => unreachable!("a question about leases was answered with {other:?}"),
        }
    }

    /// Waits until all that a compaction to `revision` passed was dropped from the index.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] if too many wait already, [`Refusal::Stopped`].
    pub async fn swept(&self, revision: Revision) -> Result<(), Refusal> {
        match self.ask(Ask::Swept { revision }).await? {
            Answer::Swept(answer) => answer,
            other => unreachable!("a wait for a sweep was answered with {other:?}"),
        }
    }

    /// What came of a proposal made at `begun`.
    fn applied(&self, begun: Time, answer: Answer) -> Result<Applied, Refusal> {
        match answer {
            Answer::Applied(answer) => {
                if answer.is_ok() {
                    let took = self.now().since(begun);
                    self.shared.metrics.server.commit_duration.observe(took);
                }
                answer
            }
            other => unreachable!("a proposal was answered with {other:?}"),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Refusal> {
        let (sender, receiver) = oneshot::channel();
        self.shared.inbox.ask(ask, sender).map_err(refusal)?;
        let _counted = Counted::new(&self.shared.pending);
        self.wait(receiver).await
    }

    /// Waits for an answer, at a node of a cluster only for so long.
    async fn wait(&self, receiver: oneshot::Receiver<Answer>) -> Result<Answer, Refusal> {
        let answer = match self.shared.patience {
            None => receiver.await,
            Some(patience) => tokio::time::timeout(patience, receiver)
                .await
                .map_err(|_late| Refusal::TimedOut)?,
        };
        match answer.map_err(|_dropped| Refusal::Stopped)? {
            Answer::Refused(refusal) => Err(refusal),
            answer => Ok(answer),
        }
    }
}

const fn refusal(why: NotTaken) -> Refusal {
    match why {
        NotTaken::TooLarge => Refusal::TooLarge,
        NotTaken::Full => Refusal::Busy,
        NotTaken::Stopped => Refusal::Stopped,
    }
}

/// Counts a request as pending for as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a command takes space, and so is refused while space is short: puts, transactions
/// with a put in either branch, and new leases. Everything that frees space goes on.
fn takes_space(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant { .. } => true,
        Command::Txn(txn) => txn_puts(txn),
        Command::DeleteRange(_)
        | Command::Compact { .. }
        | Command::LeaseRevoke { .. }
        | Command::LeaseCheckpoint { .. }
        | Command::LeaseExpire { .. }
        | Command::Alarm { .. }
        | Command::Auth(_)
        | Command::Cluster { .. }
        | Command::ClusterSwap { .. }
        | Command::Island(_) => false,
    }
}

fn txn_puts(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        TxnOp::Put(_) => true,
        TxnOp::Txn(inner) => txn_puts(inner),
        TxnOp::Range(_) | TxnOp::DeleteRange(_) => false,
    })
}
