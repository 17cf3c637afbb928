//! One call: from its head to its status.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::RecvStream;
use h2::server::SendResponse;
use holm_kv::View;
use holm_kv::command::Range;
use http::{HeaderMap, HeaderValue, Request};
use tokio::sync::watch;

use super::Server;
use super::frame::{Inbound, whole};
use super::method::Method;
use super::outbound::{Gone, Island, answer, refuse};
use super::watch::Newest;
use super::{hot, list, streams};
use crate::context::Context;
use crate::seat::Bells;
use crate::status::{Code, Status};

/// What a node of a cluster has beyond a request's time to say why it was not served.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A call in hand.
pub(crate) enum Call {
    /// gRPC.
    Grpc(Box<GrpcCall>),
    /// Anything else that came over HTTP/2.
    Web(LongCall),
}

/// What all calls of a connection share.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) common_name: Option<Arc<str>>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) bells: Arc<Bells>,
    pub(crate) newest: Arc<Newest>,
    pub(crate) is_alone: Arc<AtomicBool>,
}

/// A gRPC call in hand.
#[derive(Debug)]
pub(crate) struct GrpcCall {
    pub(crate) server: Arc<Server>,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) inbound: Inbound,
    /// The length of the newest message.
    pub(crate) message_bytes: usize,
    pub(crate) respond: SendResponse<Bytes>,
    pub(crate) common_name: Option<Arc<str>>,
    pub(crate) stop: watch::Receiver<bool>,
    /// The bells of the connection's watch streams.
    pub(crate) bells: Arc<Bells>,
    /// What these said last.
    pub(crate) newest: Arc<Newest>,
    /// Whether it is the only call of its connection.
    pub(crate) is_alone: Arc<AtomicBool>,
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

impl Call {
    pub(crate) fn new(
        server: &Arc<Server>,
        method: Method,
        (headers, body, respond): (HeaderMap, RecvStream, SendResponse<Bytes>),
        peer: &Peer,
    ) -> Self {
        let max = server.limits.message_bytes_max;
        Self::Grpc(Box::new(GrpcCall {
            server: Arc::clone(server),
            method,
            headers,
            inbound: Inbound::new(body, max, Arc::clone(&server.ledger)),
            message_bytes: 0,
            respond,
            common_name: peer.common_name.clone(),
            stop: peer.stop.clone(),
            bells: Arc::clone(&peer.bells),
            newest: Arc::clone(&peer.newest),
            is_alone: Arc::clone(&peer.is_alone),
        }))
    }

    pub(crate) fn web(
        server: &Arc<Server>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let server = Arc::clone(server);
        Self::Web(Box::pin(async move {
            server.web.answer_h2(request, respond).await;
        }))
    }

    /// Sorts the call: a short one by itself, a long one as the future that runs it.
    pub(crate) fn sort(self) -> Sorted {
        match self {
            Self::Web(work) => Sorted::Long(work),
            Self::Grpc(call) if call.is_long() => Sorted::Long(Box::pin(streams::run(*call))),
            Self::Grpc(call) => Sorted::Short(call),
        }
    }
}

/// A future that runs a long call.
pub(crate) type LongCall = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A call, by how long it may take.
pub(crate) enum Sorted {
    /// One request, one answer, soon.
    Short(Box<GrpcCall>),
    /// It streams, or waits for others.
    Long(LongCall),
}

impl GrpcCall {
    /// Whether it streams, or waits for others.
    const fn is_long(&self) -> bool {
        matches!(
            self.method,
            Method::Watch
                | Method::RangeStream
                | Method::LeaseKeepAlive
                | Method::Snapshot
                | Method::Observe
                | Method::HealthWatch
                | Method::Lock
                | Method::Campaign
                | Method::Compact
        )
    }

    /// Runs a call of one request and one answer.
    pub(crate) async fn run_short(mut self: Box<Self>) {
        let server = Arc::clone(&self.server);
        let counters = server.counters(self.method);
        let begun = counters.start();
        let limit = self.time_left();
        let given = match tokio::time::timeout(limit, self.unary()).await {
            Ok(given) => given,
            Err(_elapsed) => Err(self.late(limit)),
        };
        let given = match given {
            Ok(Given::List(view, range)) => self.list(view, *range).await,
            other => other,
        };
        let is_answered = given.is_ok();
        counters.finish(self.finish(given), begun);
        if is_answered {
            let limit = server.limits.arrival_timeout;
            // A client that never ends its call has it reset.
            tokio::time::timeout(limit, self.inbound.end()).await.ok();
        }
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
    pub(crate) fn finish(&mut self, given: Result<Given, Status>) -> usize {
        let (code, sent) = match given {
            Ok(Given::Message(framed)) => {
                let island = self.island();
                (Code::Ok, answer(&mut self.respond, framed, island))
            }
            Ok(Given::Sent | Given::List(..)) => (Code::Ok, Ok(())),
            Err(status) => {
                let island = self.island();
                (status.code(), refuse(&mut self.respond, &status, island))
            }
        };
        let code = if sent.is_err() { Code::Canceled } else { code };
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
        let patience = self.server.limits.request_timeout;
        if self.server.services.handle().is_of_cluster() {
            patience + LAST_WORD
        } else {
            patience
        }
    }

    /// What is said in the head of an answer by a node that is cut off.
    pub(crate) fn island(&self) -> Island {
        let island = self.server.services.island()?;
        HeaderValue::from_str(&island).ok()
    }

    /// Refuses what a node of a cluster does not take without a leader or a vote.
    pub(crate) fn admit(&self) -> Result<(), Status> {
        let services = &self.server.services;
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
                | Method::HealthCheck
                | Method::HealthWatch
        );
        if !is_for_learners {
            services.check_vote()?;
        }
        if self.demands_leader() {
            services.check_led()?;
        }
        Ok(())
    }

    fn demands_leader(&self) -> bool {
        let value = self.headers.get("hasleader");
        value.is_some_and(|it| it.as_bytes() == b"true")
    }

    /// Resolves once a stream that demands a leader must end for want of one. Costs nothing
    /// where none is demanded.
    pub(crate) fn leader_lost(&self) -> LongCall {
        let services = &self.server.services;
        if services.handle().is_of_cluster() && self.demands_leader() {
            Box::pin(services.clone().leader_lost())
        } else {
            Box::pin(std::future::pending())
        }
    }

    /// How long the client is ready to wait, if it says so.
    pub(crate) fn client_timeout(&self) -> Option<Duration> {
        let text = self.headers.get("grpc-timeout")?.to_str().ok()?;
        timeout(text)
    }

    fn late(&self, limit: Duration) -> Status {
        if limit < self.patience() {
            Status::new(Code::DeadlineExceeded, "context deadline exceeded")
        } else {
            Status::new(Code::Unavailable, "etcdserver: request timed out")
        }
    }

    /// The call's one message.
    pub(crate) async fn message<M: prost::Message + Default>(&mut self) -> Result<M, Status> {
        let come = self.inbound.message().now_or_never();
        let message = match come {
            Some(message) => message?,
            None => {
                let limit = self.server.limits.arrival_timeout;
                let message = tokio::time::timeout(limit, self.inbound.message()).await;
                message.map_err(|_elapsed| {
                    Status::new(Code::DeadlineExceeded, "the request did not arrive in time")
                })??
            }
        };
        let message =
            message.ok_or_else(|| Status::new(Code::Internal, "the request has no message"))?;
        self.message_bytes = message.len();
        decode(message)
    }

    /// Who calls, and what the call's head says.
    pub(crate) fn context(&self) -> Context {
        let text = |name: &str| {
            let value = self.headers.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        Context {
            token: text("token").or_else(|| text("authorization")),
            common_name: self.common_name.as_deref().map(str::to_owned),
            is_leader_required: text("hasleader").as_deref() == Some("true"),
            is_gateway: false,
        }
    }

    async fn unary(&mut self) -> Result<Given, Status> {
        self.admit()?;
        match self.method {
            Method::Range => hot::range(self).await,
            Method::Put => hot::put(self).await,
            Method::Txn => hot::txn(self).await,
            Method::DeleteRange => hot::delete_range(self).await,
            _ => Box::pin(self.cold()).await,
        }
    }

    /// All calls whose cost nobody counts in microseconds.
    async fn cold(&mut self) -> Result<Given, Status> {
        macro_rules! typed {
            ($function:ident) => {{
                let request = self.message().await?;
                let cx = self.context();
                whole(&self.server.services.$function(&cx, request).await?)
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
            Method::KeyspaceCreate => typed!(keyspace_create),
            Method::KeyspaceList => typed!(keyspace_list),
            Method::KeyspaceRemove => typed!(keyspace_remove),
            Method::KeyspaceMember => typed!(keyspace_member),
            Method::Conflicts => typed!(conflicts),
            Method::Range
            | Method::Put
            | Method::Txn
            | Method::DeleteRange
            | Method::Watch
            | Method::RangeStream
            | Method::LeaseKeepAlive
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
