//! gRPC over HTTP/2, by hand on `spine/http2`.
//!
//! One task owns a connection and runs its calls too: a put or a watch costs no task of its
//! own, and all answers that are ready on a connection leave in one write (a thousand watchers
//! on a hundred connections take a hundred writes an event, not a thousand). What takes long to
//! compute, a read of many keys or a snapshot, is computed on a blocking thread.
//!
//! ```text
//!  connection task: read ─► Connection ─► Calls ─┬─► at once: a get at a node alone
//!     ▲    │                                     ├─► a future: put, txn, keep-alive, lock, ...
//!   Ring   └─► run, then one write               └─► watch: no future, the hub rings
//! ```
//!
//! |limit|answer|
//! |--|--|
//! |65,536 calls at once on a connection|HTTP/2 refuses the stream|
//! |message of 1.5 MiB + 512 KiB|`ResourceExhausted`|
//! |256 MiB of incomplete messages on all connections|`ResourceExhausted`|
//! |30 s for a request's message to arrive|`DeadlineExceeded`|
//! |7 s for an answer|`Unavailable`, `etcdserver: request timed out`|
//! |3 pings that come too soon|GOAWAY `ENHANCE_YOUR_CALM`, `too_many_pings`|
//! |silent for 2 h, then 20 s without an answer to a ping|the connection is closed|

mod call;
mod calls;
mod connection;
pub(crate) mod frame;
mod hot;
mod keepalive;
mod list;
mod method;
pub(crate) mod outbound;
mod pages;
pub(crate) mod reply;
mod ring;
mod streams;
mod watch;
pub(crate) mod wire;

pub(crate) use outbound::ISLAND;

use std::sync::Arc;
use std::time::Duration;

use holm_telemetry::{GrpcMethod, Metrics, NetworkMetrics};
use tokio::sync::Semaphore;

use crate::services::Services;
use crate::web::Web;

use frame::Ledger;
use method::Method;

/// Long lists that are read at once; more wait in order.
const LISTS_MAX: usize = 8;

/// The limits of the gRPC front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message that is taken, in bytes.
    pub message_bytes_max: usize,
    /// How long a request may take to be answered.
    pub request_timeout: Duration,
    /// How long a request's message may take to arrive.
    pub arrival_timeout: Duration,
    /// Calls at once on one connection.
    pub calls_max: u32,
    /// How long a client may be silent before it is asked whether it is there; zero asks never.
    pub keepalive_interval: Duration,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// How often a client with calls in hand may ask the same of us.
    pub ping_interval_min: Duration,
}

impl Default for Limits {
    /// What etcd's defaults come to.
    fn default() -> Self {
        Self {
            message_bytes_max: (1 << 20) + (1 << 19) + (512 << 10),
            request_timeout: Duration::from_secs(7),
            arrival_timeout: Duration::from_secs(30),
            calls_max: 65_536,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            ping_interval_min: Duration::from_secs(5),
        }
    }
}

/// The gRPC front: serves connections.
#[derive(Debug)]
pub struct Server {
    services: Services,
    web: Web,
    limits: Limits,
    counters: Vec<GrpcMethod>,
    network: NetworkMetrics,
    ledger: Arc<Ledger>,
    lists: Arc<Semaphore>,
}

impl Server {
    /// A front for these services; what is no gRPC goes to `web`.
    #[must_use]
    pub fn new(services: Services, web: Web, limits: Limits, metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            services,
            web,
            limits,
            counters: Method::counters(metrics),
            network: metrics.network.clone(),
            ledger: Arc::new(Ledger::default()),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
        })
    }

    fn counters(&self, method: Method) -> &GrpcMethod {
        &self.counters[method.index()]
    }
}
