//! What an operator sees: log lines and metrics.
//!
//! Layers below speak in typed events and know nothing of this crate. Above them, code logs
//! through `tracing` and counts through [`Metrics`], a table of named fields that are updated
//! with one atomic addition each.
//!
//! ```text
//!   tracing::info! ─► log (text for people, JSON lines like etcd's for collectors) ─► stderr
//!   metrics.store.put.inc() ─┐
//!   metrics.read(&Readings) ─┴─► exposition: /metrics, Prometheus text format 0.0.4
//! ```
//!
//! # Invariants
//!
//! - I1 Labels are bounded: their values come from tables in the code, never from a client.
//! - I2 A metric under one of etcd's names means what etcd's means, in the same unit.
//! - I3 Updating a counter takes no lock. A histogram takes a short one of its own, so only
//!   what happens at most once per flush is observed.
//!
//! # Differences from etcd
//!
//! Go's own metrics (`go_*`) are absent. What does not exist here (gRPC proxy, v2 store, bbolt's
//! spill and rebalance) has no metric.
//!
//! ```
//! use holm_telemetry::Metrics;
//!
//! let metrics = Metrics::new("0.1.0", "3.6.12");
//! metrics.store.put.inc();
//! assert!(metrics.exposition().contains("\netcd_mvcc_put_total 1\n"));
//! ```

mod exposition;
mod grpc;
mod log;
mod metrics;
mod process;
mod readings;

pub use exposition::CONTENT_TYPE;
pub use grpc::{GRPC_CODES, GrpcKind, GrpcMethod};
pub use log::{LogConfig, LogError, LogFormat, log_to_stderr};
pub use metrics::{
    DiskMetrics, HistogramOfCounts, HistogramOfSeconds, LeaseMetrics, Metrics, NetworkMetrics,
    ServerMetrics, StoreMetrics,
};
pub use prometheus_client::metrics::counter::Counter;
pub use readings::{Counted, Readings};
