//! The API's calls as functions: a message in, a message or a status out.
//!
//! gRPC and the JSON gateway call the same functions, so that they cannot differ. The calls
//! that must be cheap have a second, raw way in `grpc/hot`; the checks are the same ones.
//!
//! ```text
//! gRPC shell ──┐                     ┌─► View: reads, users, alarms (no engine)
//!              ├─► Services ─► caller ┼─► Handle::propose: everything that changes
//! gateway ─────┘   validate, convert └─► Hub: watches, and waiting for locks
//! ```

mod auth;
mod authority;
mod cache;
mod causal;
mod cluster;
mod conflicts;
mod election;
mod foretold;
mod health;
mod island;
mod island_sites;
mod keyspace_views;
mod keyspaces;
mod kv;
mod lease;
mod local_first;
mod lock;
mod maintenance;
mod membership;
mod node_status;
mod sites;
mod turn;
pub mod watching;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holm_kv::command::{Caller, Command, Proposal};
use holm_kv::outcome::Outcome;
use holm_kv::{Refusal, View};
use holm_runtime::Handle;
use holm_telemetry::Metrics;
use prost::Message;

use crate::context::Context;
use crate::door::Door;
use crate::holm::NodeLink;
use crate::password::{self, Passwords};
use crate::proto::etcdserverpb as pb;
use crate::pulse::Pulse;
use crate::status::Status;
use crate::token::{TokenConfig, TokenError, Tokens};
use crate::validate;

/// The version that clients detect features by. Three numbers, for some of them convert each.
pub const VERSION: &str = "3.6.12";
/// The version of the cluster and of the storage, as etcd of that version has them.
pub const CLUSTER_VERSION: &str = "3.6.0";

/// The limits of what a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request that goes into the log, in bytes.
    pub request_bytes_max: usize,
    /// The most operations of a transaction.
    pub operations_max: usize,
    /// The strength of password hashes, 4 to 31.
    pub password_cost: u32,
    /// The shortest time to live of a lease, in seconds.
    pub lease_seconds_min: i64,
}

impl Default for Limits {
    /// etcd's defaults.
    fn default() -> Self {
        Self {
            request_bytes_max: (1 << 20) + (1 << 19),
            operations_max: 128,
            password_cost: password::COST,
            lease_seconds_min: 2,
        }
    }
}

pub use sites::{Admitted, Applicant, NotAdmitted};

/// Who knows how the links to the other nodes are.
pub trait Links: Send + Sync + std::fmt::Debug {
    /// How each is now.
    fn links(&self) -> Vec<NodeLink>;

    /// The certificate for links; `None` before there is one.
    fn certificate(&self) -> Option<LinkCertificate>;

    /// Seconds since 1970 by this machine's clock: what tokens end by, for people read them. A
    /// clock that is wrong refuses a token or keeps it longer, and changes nothing else.
    fn wall_seconds(&self) -> u64;

    /// The authorities that the node trusts, the oldest first.
    fn trusted(&self) -> Vec<TrustedAuthority>;

    /// An authority that is to replace the others: a new one, whose key lies at this node from now
    /// on, or the one that was made before and that nobody knows yet. None of `known`.
    ///
    /// # Errors
    ///
    /// Why there is none, for people.
    fn next_authority(&self, known: &[[u8; 32]]) -> Result<MadeAuthority, String>;
}

/// An authority that a node trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedAuthority {
    /// SHA-256 of its certificate.
    pub fingerprint: [u8; 32],
    /// Until when it is good, in seconds since 1970.
    pub until: u64,
}

/// An authority that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeAuthority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// SHA-256 of it.
    pub fingerprint: [u8; 32],
}

/// Who knows the other keyspaces of this node.
pub trait Neighbours: Send + Sync + std::fmt::Debug {
    /// Those that are open here beside `default`, by name.
    fn keyspaces(&self) -> Vec<Services>;

    /// How many messages of other nodes were for keyspaces that are not here.
    fn strays(&self) -> u64;

    /// Keyspace `default`.
    fn home(&self) -> Option<Services>;
}

/// What is to be known of a node's certificate for links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCertificate {
    /// Until when it is good, in seconds since 1970.
    pub until: u64,
    /// SHA-256 of the certificate of the authority that signed it, where members sign each other's; `None` where
    /// certificates come from elsewhere.
    pub fingerprint: Option<[u8; 32]>,
    /// Whether this node can sign.
    pub is_authority: bool,
}

/// The calls of the API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    handle: Handle,
    limits: Limits,
    tokens: Tokens,
    passwords: Passwords,
    metrics: Arc<Metrics>,
    links: OnceLock<Arc<dyn Links>>,
    neighbours: OnceLock<Arc<dyn Neighbours>>,
    /// Of a node of a cluster, and only there looked at.
    pulse: Pulse,
    /// Whether clients are served.
    door: Door,
}

impl Services {
    /// Services of one keyspace.
    ///
    /// # Errors
    ///
    /// If the keys that tokens are to be signed with cannot be used.
    pub fn new(
        handle: Handle,
        limits: Limits,
        tokens: &TokenConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TokenError> {
        Ok(Self {
            shared: Arc::new(Shared {
                handle,
                limits,
                tokens: Tokens::new(tokens)?,
                passwords: Passwords::new(limits.password_cost),
                metrics,
                links: OnceLock::new(),
                neighbours: OnceLock::new(),
                pulse: Pulse::new(),
                door: Door::default(),
            }),
        })
    }

    /// Names who knows the links, at a node of a cluster. The first that is named stays.
    pub fn with_links(&self, links: Arc<dyn Links>) {
        self.shared.links.get_or_init(|| links);
    }

    /// Names who knows the other keyspaces of this node. The first that is named stays.
    pub fn with_neighbours(&self, neighbours: Arc<dyn Neighbours>) {
        self.shared.neighbours.get_or_init(|| neighbours);
    }

    /// The door to the keyspace.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.shared.handle
    }

    /// The limits of what a request may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Counts a read.
    pub(crate) fn count_range(&self) {
        self.shared.metrics.store.range.inc();
    }

    /// Notes how long a snapshot took.
    fn note_snapshot(&self, took: Duration) {
        let disk = &self.shared.metrics.disk;
        disk.backend_snapshot_duration.observe(took);
    }

    /// Who calls: the user that the token names or else the certificate. `None` while users
    /// are not enforced, and for a call that names nobody; what such a call may do is decided
    /// where permissions are checked.
    ///
    /// # Errors
    ///
    /// `invalid auth token` for a token that is unknown, expired or forged.
    pub fn caller(&self, cx: &Context) -> Result<Option<Caller>, Status> {
        let view = self.handle().view();
        let auth = &view.auth;
        if !auth.enabled() {
            return Ok(None);
        }
        let auth_revision = auth.revision();
        if let Some(token) = &cx.token {
            let now = self.handle().now();
            let tokens = &self.shared.tokens;
            let caller = tokens.caller(token, now, auth_revision, |user, password| {
                auth.user(user)
                    .is_some_and(|it| it.password_hash == password)
            })?;
            return Ok(Some(caller));
        }
        let named = cx.common_name.as_ref().filter(|_| !cx.is_gateway);
        Ok(named.map(|user| Caller {
            user: user.clone(),
            auth_revision,
        }))
    }

    /// Refuses callers that are no administrators, if users are enforced.
    fn check_admin(&self, cx: &Context) -> Result<(), Status> {
        let caller = self.caller(cx)?;
        let view = self.handle().view();
        Ok(view.auth.check_admin(caller.as_ref())?)
    }

    /// Refuses who has not logged in, where that is needed; says who asks.
    fn check_login(&self, cx: &Context) -> Result<Option<Caller>, Status> {
        let caller = self.caller(cx)?;
        if caller.is_none() && self.handle().view().auth.enabled() {
            return Err(Refusal::UserEmpty.into());
        }
        Ok(caller)
    }

    /// Has a change ordered and applied.
    async fn propose(
        &self,
        cx: &Context,
        command: Command,
    ) -> Result<(pb::ResponseHeader, Outcome), Status> {
        let caller = self.caller(cx)?;
        let applied = self.order(Proposal { caller, command }).await?;
        let header = self.header(applied.revision.value(), self.term(applied.term));
        Ok((header, applied.result?))
    }

    /// Refuses a request that is larger than one may be.
    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        validate::size(request.encoded_len(), self.limits().request_bytes_max)
    }

    /// The header of an answer given from this state.
    fn header_of(&self, view: &View) -> pb::ResponseHeader {
        self.header(view.revision().value(), self.term_of(view))
    }

    fn header(&self, revision: i64, raft_term: u64) -> pb::ResponseHeader {
        let identity = self.handle().identity();
        pb::ResponseHeader {
            cluster_id: identity.cluster.value(),
            member_id: identity.node.value(),
            revision,
            raft_term,
        }
    }
}
