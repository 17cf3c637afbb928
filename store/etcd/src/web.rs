//! Everything that is no gRPC: health, readiness, metrics, version, and the JSON gateway.
//!
//! The same answers are given over HTTP/1 ([`Web::serve`]) and over HTTP/2,
//! for a client that speaks TLS, `curl` say, agrees on HTTP/2 without asking anybody.
//!
//! |path|answers|
//! |--|--|
//! |`/health`|`{"health":"true","reason":""}` or 503|
//! |`/livez`, `/readyz`, and a check's name below either|`ok`, or 503 and what failed|
//! |`/metrics`|Prometheus text|
//! |`/version`|the versions that clients detect features by|
//! |`/v3/...`, `/v3beta/...`|the JSON gateway, where it is served|

mod answer;
mod check;
mod feed;
mod gateway;
mod health;
mod http2;
mod json;
mod node;
mod query;
mod routes;
mod serve;
mod vitals;
mod watch;

use std::sync::Arc;

use holm_telemetry::Metrics;
use http::{Method, Response, StatusCode};

pub use answer::AnswerBody;
pub use gateway::{Credentials, Exchange, Gateway};
pub use node::NodeVitals;
pub use routes::gateway;
pub use vitals::{ReadFailure, Vitals};

use query::Query;

/// The versions that are shown at `/version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// What clients take this node for: three numbers and two dots.
    pub server: String,
    /// What all members can do.
    pub cluster: String,
    /// What the storage can do.
    pub storage: String,
}

/// The answers to requests that are no gRPC. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Web {
    vitals: Arc<dyn Vitals>,
    metrics: Arc<Metrics>,
    versions: Arc<Versions>,
    gateway: Option<Arc<Gateway>>,
}

impl Web {
    /// Answers from this node's vitals and metrics.
    #[must_use]
    pub fn new(vitals: Arc<dyn Vitals>, metrics: Arc<Metrics>, versions: Versions) -> Self {
        Self {
            vitals,
            metrics,
            versions: Arc::new(versions),
            gateway: None,
        }
    }

    /// Serves the JSON gateway too.
    #[must_use]
    pub fn with_gateway(self, gateway: Arc<Gateway>) -> Self {
        Self {
            gateway: Some(gateway),
            ..self
        }
    }

    /// Answers a request that has no body, or none that matters.
    async fn look(&self, method: &Method, path: &str, query: &Query<'_>) -> Response<AnswerBody> {
        match path {
            "/health" => health::answer(self, method, query).await,
            "/metrics" => self.metrics_answer(method),
            "/version" => self.version_answer(method),
            _ => match check::find(path) {
                Some(checks) => check::answer(self, method, &checks, query).await,
                None => answer::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            },
        }
    }

    fn metrics_answer(&self, method: &Method) -> Response<AnswerBody> {
        if method != Method::GET && method != Method::HEAD {
            return answer::method_not_allowed();
        }
        self.metrics.read(&self.vitals.readings());
        let mut text = self.metrics.exposition();
        text.push_str(&self.vitals.keyspace_gauges());
        answer::whole(StatusCode::OK, holm_telemetry::CONTENT_TYPE, text)
    }

    fn version_answer(&self, method: &Method) -> Response<AnswerBody> {
        if method != Method::GET && method != Method::HEAD {
            return answer::method_not_allowed();
        }
        let Versions {
            server,
            cluster,
            storage,
        } = &*self.versions;
        // Version texts are numbers and dots: nothing in them needs escaping.
        let text = format!(
            "{{\"etcdserver\":\"{server}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}"
        );
        answer::whole(StatusCode::OK, answer::JSON, text)
    }
}
