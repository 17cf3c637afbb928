//! A real node in a directory of its own, and its services: no port, no other process.

use std::sync::Arc;

use bytes::Bytes;
use holm_base::ByteCount;
use holm_etcd::context::Context;
use holm_etcd::proto::etcdserverpb as pb;
use holm_etcd::services::{Limits, Services};
use holm_etcd::status::Status;
use holm_etcd::token::TokenConfig;
use holm_kv::{Config, StoreConfig};
use holm_runtime::{Node, NodeConfig};
use holm_telemetry::Metrics;
use tempfile::TempDir;

/// Files small enough that a test starts at once.
const SEGMENT: ByteCount = ByteCount::new(4 << 20);

pub(crate) struct Bench {
    pub(crate) services: Services,
    node: Node,
    _folder: TempDir,
}

/// Runs a test's work against a fresh node, and stops the node.
pub(crate) fn with_node<W: Future<Output = ()>>(work: impl FnOnce(Services) -> W) {
    let bench = Bench::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime starts");
    runtime.block_on(work(bench.services.clone()));
    bench.stop();
}

impl Bench {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().expect("a temporary directory");
        let metrics = Arc::new(Metrics::new("0", "3.6.12"));
        let config = NodeConfig {
            cluster: None,
            data_dir: folder.path().to_owned(),
            name: "default".to_owned(),
            site: "default".to_owned(),
            peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
            client_urls: vec!["http://127.0.0.1:2379".to_owned()],
            log_segment_bytes: SEGMENT,
            kv: Config {
                free_bytes_min: 0,
                store: StoreConfig {
                    segment_bytes: SEGMENT,
                    ..StoreConfig::default()
                },
                ..Config::default()
            },
        };
        let on_failure = Arc::new(|why: &str| panic!("the node failed: {why}"));
        let node =
            holm_runtime::start(config, Arc::clone(&metrics), on_failure).expect("the node starts");
        let limits = Limits {
            password_cost: 4,
            ..Limits::default()
        };
        let handle = node.handle().clone();
        let services = Services::new(handle, limits, &TokenConfig::default(), metrics)
            .expect("simple tokens need no keys");
        Self {
            services,
            node,
            _folder: folder,
        }
    }

    pub(crate) fn stop(self) {
        self.node.stop();
    }
}

/// Runs a call beside the test.
pub(crate) fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(work)
}

/// A call that says nothing about who makes it.
pub(crate) fn nobody() -> Context {
    Context::default()
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..pb::PutRequest::default()
    }
}

pub(crate) fn get(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..pb::RangeRequest::default()
    }
}

/// A refusal as clients see it: its code's number and its text.
pub(crate) fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (u16, String) {
    let status = result.expect_err("it is refused");
    (status.code().number(), status.message().to_owned())
}

pub(crate) fn refusal(code: u16, text: &str) -> (u16, String) {
    (code, format!("etcdserver: {text}"))
}
