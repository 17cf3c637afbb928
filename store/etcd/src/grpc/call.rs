//! One call: what its head says, its message, its time, and the answer to it.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use holm_http2::{Head, Key};
use holm_kv::View;
use holm_kv::command::Range;
use tokio::sync::watch;

use super::Server;
use super::frame::whole;
use super::method::Method;
use super::outbound::{Gone, Island, answer, refuse};
use super::watch::Newest;
use super::wire::{Cord, Wire};
use super::{hot, list};
use crate::causal;
use crate::context::Context;
use crate::status::{Code, Status};

/// What a node of a cluster has beyond a request's time to say why it was not served.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What all calls of a connection share.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) server: Arc<Server>,
    pub(crate) wire: Arc<Wire>,
    pub(crate) common_name: Option<Arc<str>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// What its watch streams said last.
    pub(crate) newest: Newest,
    /// Whether a call is the only one of its connection.
    pub(crate) is_alone: AtomicBool,
}

/// What a request's head says, read once for all requests that say it.
#[derive(Debug)]
pub(crate) struct CallHead {
    pub(crate) head: Arc<Head>,
    pub(crate) kind: Kind,
    /// How long the client is ready to wait, if it says so.
    pub(crate) timeout: Option<Duration>,
    pub(crate) demands_leader: bool,
    /// Whether what the site has is to be told with the answer.
    pub(crate) wants_causal: bool,
    /// What the client has seen.
    pub(crate) causal: Option<Bytes>,
    context: OnceLock<Option<String>>,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// gRPC.
    Grpc(Method),
    /// gRPC of which we have nothing.
    Unknown,
    /// Anything else that came over HTTP/2.
    Web,
}

impl CallHead {
    pub(crate) fn read(head: &Arc<Head>) -> Arc<Self> {
        let text = |name| {
            let value = head.get(name)?;
            std::str::from_utf8(value).ok()
        };
        let path = std::str::from_utf8(&head.path).unwrap_or_default();
        let is_grpc = text("content-type").is_some_and(|it| it.starts_with("application/grpc"));
        let kind = match Method::at(path) {
            _ if !is_grpc => Kind::Web,
            Some(method) => Kind::Grpc(method),
            None => Kind::Unknown,
        };
        Arc::new(Self {
            head: Arc::clone(head),
            kind,
            timeout: text("grpc-timeout").and_then(timeout),
            demands_leader: text("hasleader") == Some("true"),
            wants_causal: text(causal::WANT) == Some(causal::CONTEXT),
            causal: head.get(causal::TOKEN).cloned(),
            context: OnceLock::new(),
        })
    }

    fn token(&self) -> Option<String> {
        let text = |name| {
            let value = self.head.get(name)?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        let token = || text("token").or_else(|| text("authorization"));
        self.context.get_or_init(token).clone()
    }
}

/// A gRPC call in hand.
#[derive(Debug)]
pub(crate) struct GrpcCall {
    pub(crate) peer: Arc<Peer>,
    pub(crate) method: Method,
    pub(crate) head: Arc<CallHead>,
    pub(crate) key: Key,
    /// The message of a call that has one, once it has come.
    pub(crate) come: Option<Result<Bytes, Status>>,
    /// The length of the newest message.
    pub(crate) message_bytes: usize,
}

/// What a call gave.
#[derive(Debug)]
pub(crate) enum Given {
    /// One message, in its frame.
    Message(Bytes),
    /// A list too long for one piece, which goes out as fast as the client takes it.
    List(Arc<View>, Box<Range>),
    /// It has answered for itself, or nobody listens any more.
    Sent,
}

impl From<Gone> for Given {
    fn from(_: Gone) -> Self {
        Self::Sent
    }
}

/// What a call that ran beside others came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This is to be sent, and counted.
    Given(Result<Given, Status>),
    /// What the client has seen is here, or will not be in time.
    Covered(Result<(), Status>),
    /// All is done.
    Done,
}

/// A call that runs beside others.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Something to wait for.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Method {
    /// Whether it streams, or waits for others.
    pub(crate) const fn is_long(self) -> bool {
        matches!(
            self,
            Self::RangeStream
                | Self::LeaseKeepAlive
                | Self::CacheFollow
                | Self::Snapshot
                | Self::Observe
                | Self::HealthWatch
                | Self::Lock
                | Self::Campaign
                | Self::Compact
        )
    }
}

impl GrpcCall {
    pub(crate) fn new(peer: &Arc<Peer>, method: Method, head: &Arc<CallHead>, key: Key) -> Self {
        Self {
            peer: Arc::clone(peer),
            method,
            head: Arc::clone(head),
            key,
            come: None,
            message_bytes: 0,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.peer.server
    }

    /// The call's end of its stream.
    pub(crate) fn cord(&self) -> Cord {
        Cord {
            wire: Arc::clone(&self.peer.wire),
            key: self.key,
        }
    }

    /// Runs a call of one request and one answer.
    pub(crate) async fn run_short(mut self) -> Outcome {
        Outcome::Given(self.unary().await)
    }

    /// Waits for what the client has seen, before its stream begins.
    pub(crate) async fn run_cover(self) -> Outcome {
        Outcome::Covered(self.cover().await)
    }

    /// Runs what turned out to be a list.
    pub(crate) async fn run_list(mut self, view: Arc<View>, range: Box<Range>) -> Outcome {
        Outcome::Given(self.list(view, *range).await)
    }

    /// Sends a list. Only the client's own time limit counts: how long it takes is up to it.
    async fn list(&mut self, view: Arc<View>, range: Range) -> Result<Given, Status> {
        match self.client_timeout() {
            Some(limit) => tokio::time::timeout(limit, list::send(self, view, range))
                .await
                .unwrap_or_else(|_elapsed| Err(self.late(limit))),
            None => list::send(self, view, range).await,
        }
    }

    /// Sends what was given; the number of the status that the call ended with.
    pub(crate) fn finish(&self, given: Result<Given, Status>) -> usize {
        let island = self.island();
        let causal = self.causal();
        let mut state = self.peer.wire.lock();
        let is_heard = state.http.is_alive(self.key);
        let code = match given {
            Ok(Given::Message(framed)) => {
                let said = (island.as_deref(), causal.as_deref());
                answer(&mut state.http, self.key, &framed, said);
                Code::Ok
            }
            Ok(Given::Sent | Given::List(..)) => return usize::from(Code::Ok.number()),
            Err(status) => {
                refuse(&mut state.http, self.key, &status, island.as_deref());
                status.code()
            }
        };
        drop(state);
        let code = if is_heard { code } else { Code::Canceled };
        usize::from(code.number())
    }

    /// How long the call may take: what the client allows, and no more than the server does.
    pub(crate) fn time_left(&self) -> Duration {
        let ours = self.patience();
        self.client_timeout().map_or(ours, |it| it.min(ours))
    }

    /// How long the server waits. In a cluster the node itself gives up at that time and knows
    /// why; it is given a moment to say so.
    pub(crate) fn patience(&self) -> Duration {
        let patience = self.server().limits.request_timeout;
        if self.server().services.handle().is_of_cluster() {
            patience + LAST_WORD
        } else {
            patience
        }
    }

    /// What is said in the head of an answer by a node that is cut off.
    pub(crate) fn island(&self) -> Island {
        self.server().services.island()
    }

    /// What this site has, where the client asks for it.
    pub(crate) fn causal(&self) -> Option<String> {
        let is_wanted = self.head.wants_causal;
        is_wanted
            .then(|| self.server().services.causal_token())
            .flatten()
    }

    /// Waits until this site has what the client has seen, if it says so.
    pub(crate) async fn cover(&self) -> Result<(), Status> {
        match &self.head.causal {
            None => Ok(()),
            Some(token) => self.server().services.cover(token).await,
        }
    }

    /// Refuses what a node of a cluster does not take without a leader or a vote.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let services = &self.server().services;
        if !services.handle().is_of_cluster() {
            return Ok(());
        }
        // Whether a read is one for learners is seen once it was read.
        let is_for_learners = matches!(
            self.method,
            Method::Range
                | Method::RangeStream
                | Method::Status
                | Method::Snapshot
                | Method::NodeStatus
                | Method::SiteAuthority
                | Method::HealthCheck
                | Method::HealthWatch
        );
        if !is_for_learners {
            services.check_vote()?;
        }
        if self.head.demands_leader {
            services.check_led()?;
        }
        Ok(())
    }

    /// Resolves once a stream that demands a leader must end for want of one. Costs nothing
    /// where none is demanded.
    pub(crate) fn leader_lost(&self) -> Waiting {
        let services = &self.server().services;
        if services.handle().is_of_cluster() && self.head.demands_leader {
            Box::pin(services.clone().leader_lost())
        } else {
            Box::pin(std::future::pending())
        }
    }

    /// How long the client is ready to wait, if it says so.
    pub(crate) fn client_timeout(&self) -> Option<Duration> {
        self.head.timeout
    }

    /// What a call is told that took as long as `limit`.
    pub(crate) fn late(&self, limit: Duration) -> Status {
        if limit < self.patience() {
            Status::new(Code::DeadlineExceeded, "context deadline exceeded")
        } else {
            Status::new(Code::Unavailable, "etcdserver: request timed out")
        }
    }

    /// The call's one message.
    pub(crate) async fn message<M: prost::Message + Default>(&mut self) -> Result<M, Status> {
        if self.come.is_none() {
            let limit = self.server().limits.arrival_timeout;
            let come = tokio::time::timeout(limit, self.cord().message()).await;
            self.come = Some(arrived(come.map_err(|_elapsed| not_in_time())?));
        }
        self.decode_message()
    }

    /// The call's one message, which has come.
    pub(crate) fn decode_message<M: prost::Message + Default>(&mut self) -> Result<M, Status> {
        let message = self.come.take().unwrap_or_else(|| arrived(Ok(None)))?;
        self.message_bytes = message.len();
        decode(message)
    }

    /// Who calls, and what the call's head says.
    pub(crate) fn context(&self) -> Context {
        context(&self.peer, &self.head)
    }

    async fn unary(&mut self) -> Result<Given, Status> {
        if self.head.causal.is_some() {
            Box::pin(self.cover()).await?;
        }
        match self.method {
            Method::Range => hot::range(self).await,
            Method::Put => hot::put(self).await,
            Method::Txn => hot::txn(self).await,
            Method::DeleteRange => hot::delete_range(self).await,
            _ => Box::pin(self.cold()).await,
        }
    }

    /// All calls whose cost nobody counts in microseconds.
    #[expect(
        clippy::too_many_lines,
        reason = "a dispatch over all calls, a line for each"
    )]
    async fn cold(&mut self) -> Result<Given, Status> {
        macro_rules! typed {
            ($function:ident) => {{
                let request = self.message().await?;
                let cx = self.context();
                whole(&self.server().services.$function(&cx, request).await?)
            }};
        }
        let framed = match self.method {
            Method::LeaseGrant => typed!(lease_grant),
            Method::LeaseRevoke => typed!(lease_revoke),
            Method::LeaseTimeToLive => typed!(lease_time_to_live),
            Method::LeaseLeases => typed!(lease_leases),
            Method::MemberAdd => typed!(member_add),
            Method::MemberRemove => typed!(member_remove),
            Method::MemberUpdate => typed!(member_update),
            Method::MemberList => typed!(member_list),
            Method::MemberPromote => typed!(member_promote),
            Method::Alarm => typed!(alarm),
            Method::Status => typed!(status),
            Method::Defragment => typed!(defragment),
            Method::Hash => typed!(hash),
            Method::HashKv => typed!(hash_kv),
            Method::MoveLeader => typed!(move_leader),
            Method::Downgrade => typed!(downgrade),
            Method::AuthEnable => typed!(auth_enable),
            Method::AuthDisable => typed!(auth_disable),
            Method::AuthStatus => typed!(auth_status),
            Method::Authenticate => typed!(authenticate),
            Method::UserAdd => typed!(user_add),
            Method::UserGet => typed!(user_get),
            Method::UserList => typed!(user_list),
            Method::UserDelete => typed!(user_delete),
            Method::UserChangePassword => typed!(user_change_password),
            Method::UserGrantRole => typed!(user_grant_role),
            Method::UserRevokeRole => typed!(user_revoke_role),
            Method::RoleAdd => typed!(role_add),
            Method::RoleGet => typed!(role_get),
            Method::RoleList => typed!(role_list),
            Method::RoleDelete => typed!(role_delete),
            Method::RoleGrantPermission => typed!(role_grant_permission),
            Method::RoleRevokePermission => typed!(role_revoke_permission),
            Method::Unlock => typed!(unlock),
            Method::Proclaim => typed!(proclaim),
            Method::Leader => typed!(leader),
            Method::Resign => typed!(resign),
            Method::HealthCheck => typed!(health_check),
            Method::NodeStatus => typed!(node_status),
            Method::SiteAdd => typed!(site_add),
            Method::SiteAuthority => typed!(site_authority),
            Method::SiteAuthorityReplace => typed!(site_authority_replace),
            Method::KeyspaceCreate => typed!(keyspace_create),
            Method::KeyspaceList => typed!(keyspace_list),
            Method::KeyspaceRemove => typed!(keyspace_remove),
            Method::KeyspaceMember => typed!(keyspace_member),
            Method::Conflicts => typed!(conflicts),
            Method::ReturnForetold => typed!(return_foretold),
            Method::Range
            | Method::Put
            | Method::Txn
            | Method::DeleteRange
            | Method::Watch
            | Method::RangeStream
            | Method::LeaseKeepAlive
            | Method::CacheFollow
            | Method::Snapshot
            | Method::Observe
            | Method::Lock
            | Method::Campaign
            | Method::Compact
            | Method::HealthWatch => unreachable!("these have paths of their own"),
        };
        Ok(Given::Message(framed))
    }
}

/// Who calls, and what the call's head says.
pub(crate) fn context(peer: &Peer, head: &CallHead) -> Context {
    Context {
        token: head.token(),
        common_name: peer.common_name.as_deref().map(str::to_owned),
        is_leader_required: head.demands_leader,
        is_gateway: false,
    }
}

/// What has come as a call's one message.
pub(crate) fn arrived(message: Result<Option<Bytes>, Status>) -> Result<Bytes, Status> {
    message?.ok_or_else(|| Status::new(Code::Internal, "the request has no message"))
}

/// What a client is told whose message did not come.
pub(crate) fn not_in_time() -> Status {
    Status::new(Code::DeadlineExceeded, "the request did not arrive in time")
}

/// Reads a message; its byte fields share the frame's memory.
pub(crate) fn decode<M: prost::Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| {
        let text = error.to_string();
        // Transactions are all that can nest; 50 levels are read.
        if text.ends_with("recursion limit reached") {
            return crate::errors::too_many_operations();
        }
        Status::new(
            Code::Internal,
            format!("grpc: failed to unmarshal the received message: {text}"),
        )
    })
}

/// Reads gRPC's time limits: at most eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units_and_nothing_else_is() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(
            timeout("99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
        for bad in ["", "S", "5", "5x", "123456789S", "-1S", "\u{e9}"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
