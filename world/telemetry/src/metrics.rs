//! The table of metrics: etcd's names where dashboards rely on them, then ours.
//!
//! Each field is registered once, in [`Metrics::new`]. To add one, add a field, its line in the
//! constructor of its group, and its name to `tests/names.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use crate::grpc::{GrpcFamilies, GrpcKind, GrpcMethod, HandlingTimes};
use crate::readings::{Counted, Readings};
use crate::{exposition, process};

/// A gauge of a number that is never negative.
type Level = Gauge<u64, AtomicU64>;

/// Labels that are known when the process starts.
type Labels = Vec<(&'static str, String)>;

/// All of a process's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Elections and proposals.
    pub server: ServerMetrics,
    /// The log's and the keyspace's files.
    pub disk: DiskMetrics,
    /// What clients did to the keyspace.
    pub store: StoreMetrics,
    /// Leases.
    pub lease: LeaseMetrics,
    /// Bytes to and from clients.
    pub network: NetworkMetrics,
    grpc: GrpcFamilies,
    checks: Checks,
    gauges: Gauges,
    /// How far the counters have followed.
    followed: Mutex<Counted>,
    registry: Registry,
}

/// Results of health checks.
#[derive(Debug)]
struct Checks {
    latest: Family<Labels, Level>,
    count: Family<Labels, Counter>,
}

/// Elections and proposals.
#[derive(Debug, Default)]
pub struct ServerMetrics {
    /// How often another leader was seen.
    pub leader_changes_seen: Counter,
    /// Proposals that failed.
    pub proposals_failed: Counter,
    /// Proposals whose apply took longer than 100 ms.
    pub slow_apply: Counter,
    /// Reads that waited too long to know that they are current.
    pub slow_read_indexes: Counter,
    /// Reads that never knew.
    pub read_indexes_failed: Counter,
    /// Heartbeats that could not be sent.
    pub heartbeat_send_failures: Counter,
    /// Good answers of `/health`.
    pub health_success: Counter,
    /// Bad answers of `/health`.
    pub health_failures: Counter,
    /// Seconds from a proposal to its answer.
    pub commit_duration: HistogramOfSeconds,
}

/// The log's and the keyspace's files.
#[derive(Debug, Default)]
pub struct DiskMetrics {
    /// Seconds that a sync of the log took.
    pub wal_fsync_duration: HistogramOfSeconds,
    /// Bytes written to the log.
    pub wal_write_bytes: Counter,
    /// Seconds that a flush of the keyspace's files took.
    pub backend_commit_duration: HistogramOfSeconds,
    /// Seconds that a snapshot stream took.
    pub backend_snapshot_duration: HistogramOfSeconds,
    /// Entries that one sync of the log covered.
    pub entries_per_sync: HistogramOfCounts,
}

/// What clients did to the keyspace.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Puts, those within transactions too.
    pub put: Counter,
    /// Deletes, those within transactions too.
    pub delete: Counter,
    /// Reads, those within transactions too.
    pub range: Counter,
    /// Transactions.
    pub txn: Counter,
    /// Watch events sent.
    pub events: Counter,
}

/// Leases.
#[derive(Debug, Default)]
pub struct LeaseMetrics {
    /// Leases granted.
    pub granted: Counter,
    /// Leases revoked.
    pub revoked: Counter,
    /// Leases renewed.
    pub renewed: Counter,
    /// Leases whose time was up.
    pub expired: Counter,
}

/// Bytes to and from clients. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct NetworkMetrics {
    /// Bytes received on clients' HTTP/2 connections, below TLS.
    pub received_bytes: Counter,
    /// Bytes sent on them.
    pub sent_bytes: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Requests of the JSON gateway.
    pub gateway_requests: Counter,
}

/// A histogram of durations: 14 buckets from 1 ms, doubling, as etcd's disk histograms.
#[derive(Clone, Debug)]
pub struct HistogramOfSeconds(Histogram);

impl Default for HistogramOfSeconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.001, 2.0, 14)))
    }
}

impl HistogramOfSeconds {
    /// Notes one duration. Takes a short lock.
    pub fn observe(&self, duration: std::time::Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// A histogram of counts: 16 buckets from 1, doubling.
#[derive(Clone, Debug)]
pub struct HistogramOfCounts(Histogram);

impl Default for HistogramOfCounts {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1.0, 2.0, 16)))
    }
}

impl HistogramOfCounts {
    /// Notes one count. Takes a short lock.
    pub fn observe(&self, count: u32) {
        self.0.observe(f64::from(count));
    }
}

/// What [`Readings`] fills at each scrape.
#[derive(Debug, Default)]
struct Gauges {
    id: Family<Labels, Level>,
    has_leader: Level,
    is_leader: Level,
    is_learner: Level,
    committed: Level,
    applied: Level,
    pending: Level,
    revision: Gauge,
    compacted: Gauge,
    keys: Level,
    file_bytes: Level,
    retained_bytes: Level,
    quota_bytes: Level,
    watchers: Level,
    slow_watchers: Level,
    watch_streams: Level,
    leases: Level,
    auth_revision: Level,
    certificate_until: Level,
    connections: Level,
    connections_max: Level,
}

impl Metrics {
    /// All metrics at zero, for a holm of this version that shows clients that etcd version.
    #[must_use]
    pub fn new(holm_version: &str, etcd_version: &str) -> Self {
        let mut table = Table(Registry::default());
        let metrics = Self {
            server: ServerMetrics::register(&mut table),
            disk: DiskMetrics::register(&mut table),
            store: StoreMetrics::register(&mut table),
            lease: LeaseMetrics::register(&mut table),
            network: NetworkMetrics::register(&mut table),
            grpc: register_grpc(&mut table),
            checks: Checks {
                latest: table.add("etcd_server_healthcheck", "1 if the check succeeded last"),
                count: table.add("etcd_server_healthchecks", "Checks, by result"),
            },
            gauges: Gauges::register(&mut table),
            followed: Mutex::default(),
            registry: Registry::default(),
        };
        register_versions(&mut table, holm_version, etcd_version);
        Self {
            registry: table.0,
            ..metrics
        }
    }

    /// The counters of one gRPC method; they appear at zero from now on. Takes locks: call it
    /// once for each method, when the front starts.
    #[must_use]
    pub fn grpc_method(
        &self,
        service: &'static str,
        method: &'static str,
        kind: GrpcKind,
    ) -> GrpcMethod {
        self.grpc.method(service, method, kind)
    }

    /// Counts the result of a health check.
    pub fn count_check(&self, kind: &'static str, name: &'static str, is_good: bool) {
        let labels: Labels = vec![("type", kind.to_owned()), ("name", name.to_owned())];
        self.checks
            .latest
            .get_or_create(&labels)
            .set(u64::from(is_good));
        let status = if is_good { "success" } else { "error" };
        let labels = labels
            .into_iter()
            .chain([("status", status.to_owned())])
            .collect();
        self.checks.count.get_or_create(&labels).inc();
    }

    /// Shows this state from now on.
    pub fn read(&self, readings: &Readings) {
        self.gauges.set(readings);
        self.follow(readings.counted);
    }

    /// Lets counters grow by what was counted since they were last read.
    fn follow(&self, now: Counted) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let seen: &mut Counted = &mut followed;
        let (store, lease) = (&self.store, &self.lease);
        for (counter, now, seen) in [
            (&store.put, now.puts, &mut seen.puts),
            (&store.delete, now.deletes, &mut seen.deletes),
            (&store.range, now.ranges, &mut seen.ranges),
            (&store.txn, now.txns, &mut seen.txns),
            (&store.events, now.events, &mut seen.events),
            (&lease.granted, now.granted, &mut seen.granted),
            (&lease.revoked, now.revoked, &mut seen.revoked),
            (&lease.renewed, now.renewed, &mut seen.renewed),
            (&lease.expired, now.expired, &mut seen.expired),
        ] {
            // Two scrapes at once may come in the wrong order.
            counter.inc_by(now.saturating_sub(*seen));
            *seen = now.max(*seen);
        }
    }

    /// The text of a scrape, in the format [`crate::CONTENT_TYPE`]. Costs about a millisecond.
    #[must_use]
    pub fn exposition(&self) -> String {
        let mut text = exposition::classic(&self.registry);
        self.append_health(&mut text);
        process::append(&mut text);
        text
    }

    /// etcd counts these two without `_total`, which the library insists on.
    fn append_health(&self, text: &mut String) {
        for (name, counter) in [
            ("etcd_server_health_success", &self.server.health_success),
            ("etcd_server_health_failures", &self.server.health_failures),
        ] {
            let value = counter.inner().load(Ordering::Relaxed);
            text.push_str(&format!(
                "# HELP {name} Answers of /health.\n# TYPE {name} counter\n{name} {value}\n"
            ));
        }
    }
}

/// A registry under construction.
struct Table(Registry);

impl Table {
    /// Makes a metric and registers it. A counter's name comes without its `_total`.
    fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn seconds(&mut self, name: &str, help: &str) -> HistogramOfSeconds {
        let histogram = HistogramOfSeconds::default();
        self.0.register(name, help, histogram.0.clone());
        histogram
    }

    /// A histogram for each method, in the buckets that gRPC's users have everywhere.
    fn times(&mut self, name: &str, help: &str) -> HandlingTimes {
        let times = HandlingTimes::default();
        self.0.register(name, help, times.0.clone());
        times
    }

    fn counts(&mut self, name: &str, help: &str) -> HistogramOfCounts {
        let histogram = HistogramOfCounts::default();
        self.0.register(name, help, histogram.0.clone());
        histogram
    }
}

impl ServerMetrics {
    fn register(table: &mut Table) -> Self {
        Self {
            leader_changes_seen: table
                .add("etcd_server_leader_changes_seen", "Changes of leader seen"),
            proposals_failed: table.add("etcd_server_proposals_failed", "Proposals that failed"),
            slow_apply: table.add("etcd_server_slow_apply", "Applies slower than 100 ms"),
            slow_read_indexes: table.add(
                "etcd_server_slow_read_indexes",
                "Reads that waited long to be current",
            ),
            read_indexes_failed: table.add(
                "etcd_server_read_indexes_failed",
                "Reads that never were current",
            ),
            heartbeat_send_failures: table.add(
                "etcd_server_heartbeat_send_failures",
                "Heartbeats that were not sent",
            ),
            health_success: Counter::default(),
            health_failures: Counter::default(),
            commit_duration: table.seconds(
                "holm_store_commit_duration_seconds",
                "From a proposal to its answer",
            ),
        }
    }
}

impl DiskMetrics {
    fn register(table: &mut Table) -> Self {
        Self {
            wal_fsync_duration: table
                .seconds("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log"),
            wal_write_bytes: table.add("etcd_disk_wal_write_bytes", "Bytes written to the log"),
            backend_commit_duration: table.seconds(
                "etcd_disk_backend_commit_duration_seconds",
                "Flushes of the keyspace's files",
            ),
            backend_snapshot_duration: table.seconds(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Snapshot streams",
            ),
            entries_per_sync: table.counts(
                "holm_log_entries_per_sync",
                "Entries that one sync of the log covered",
            ),
        }
    }
}

impl StoreMetrics {
    fn register(table: &mut Table) -> Self {
        let metrics = Self {
            put: table.add("etcd_mvcc_put", "Puts"),
            delete: table.add("etcd_mvcc_delete", "Deletes"),
            range: table.add("etcd_mvcc_range", "Reads"),
            txn: table.add("etcd_mvcc_txn", "Transactions"),
            events: table.add("etcd_debugging_mvcc_events", "Watch events sent"),
        };
        // Older dashboards read the same numbers under these names.
        for (name, counter) in [
            ("etcd_debugging_mvcc_put", &metrics.put),
            ("etcd_debugging_mvcc_delete", &metrics.delete),
            ("etcd_debugging_mvcc_range", &metrics.range),
            ("etcd_debugging_mvcc_txn", &metrics.txn),
        ] {
            table
                .0
                .register(name, "As etcd_mvcc, for older dashboards", counter.clone());
        }
        metrics
    }
}

impl LeaseMetrics {
    fn register(table: &mut Table) -> Self {
        Self {
            granted: table.add("etcd_debugging_lease_granted", "Leases granted"),
            revoked: table.add("etcd_debugging_lease_revoked", "Leases revoked"),
            renewed: table.add("etcd_debugging_lease_renewed", "Leases renewed"),
            expired: table.add("etcd_debugging_server_lease_expired", "Leases expired"),
        }
    }
}

impl NetworkMetrics {
    fn register(table: &mut Table) -> Self {
        Self {
            received_bytes: table.add(
                "etcd_network_client_grpc_received_bytes",
                "Bytes received from clients",
            ),
            sent_bytes: table.add(
                "etcd_network_client_grpc_sent_bytes",
                "Bytes sent to clients",
            ),
            connections: table.add("holm_connections_accepted", "Connections accepted"),
            gateway_requests: table.add("holm_gateway_requests", "Requests of the JSON gateway"),
        }
    }
}

fn register_grpc(table: &mut Table) -> GrpcFamilies {
    GrpcFamilies {
        started: table.add("grpc_server_started", "Calls begun"),
        handled: table.add("grpc_server_handled", "Calls ended, by status code"),
        received: table.add("grpc_server_msg_received", "Messages of streams received"),
        sent: table.add("grpc_server_msg_sent", "Messages of streams sent"),
        handling: table.times(
            "grpc_server_handling_seconds",
            "From a call's beginning to its end",
        ),
    }
}

impl Gauges {
    fn register(table: &mut Table) -> Self {
        let file_bytes: Level = table.add("etcd_mvcc_db_total_size_in_bytes", "Bytes of files");
        table.0.register(
            "etcd_debugging_mvcc_db_total_size_in_bytes",
            "As etcd_mvcc, for older dashboards",
            file_bytes.clone(),
        );
        Self {
            id: table.add("etcd_server_id", "This node's id, as a label"),
            has_leader: table.add("etcd_server_has_leader", "1 if some node leads"),
            is_leader: table.add("etcd_server_is_leader", "1 if this node leads"),
            is_learner: table.add("etcd_server_is_learner", "1 if this node learns"),
            committed: table.add("etcd_server_proposals_committed_total", "The newest op"),
            applied: table.add(
                "etcd_server_proposals_applied_total",
                "The newest op applied",
            ),
            pending: table.add("etcd_server_proposals_pending", "Proposals that wait"),
            revision: table.add("etcd_debugging_mvcc_current_revision", "The revision"),
            compacted: table.add(
                "etcd_debugging_mvcc_compact_revision",
                "Compacted up to here",
            ),
            keys: table.add("etcd_debugging_mvcc_keys_total", "Live keys"),
            file_bytes,
            retained_bytes: table.add(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of files that are needed",
            ),
            quota_bytes: table.add("etcd_server_quota_backend_bytes", "The quota"),
            watchers: table.add("etcd_debugging_mvcc_watcher_total", "Watchers"),
            slow_watchers: table.add(
                "etcd_debugging_mvcc_slow_watcher_total",
                "Watchers that read history",
            ),
            watch_streams: table.add("etcd_debugging_mvcc_watch_stream_total", "Watch streams"),
            leases: table.add("holm_leases", "Leases"),
            auth_revision: table.add("etcd_debugging_auth_revision", "The user table's revision"),
            connections: table.add("holm_connections", "Open connections"),
            connections_max: table.add("holm_connections_max", "Room for connections"),
            certificate_until: table.add(
                "holm_link_certificate_end_timestamp_seconds",
                "When the certificate for links ends; 0 at a node alone",
            ),
        }
    }

    fn set(&self, readings: &Readings) {
        let id: Labels = vec![("server_id", format!("{:x}", readings.node))];
        self.id.get_or_create(&id).set(1);
        self.revision.set(readings.revision);
        self.compacted.set(readings.compacted);
        for (gauge, value) in [
            (&self.has_leader, u64::from(readings.has_leader)),
            (&self.is_leader, u64::from(readings.is_leader)),
            (&self.is_learner, 0),
            (&self.committed, readings.committed),
            (&self.applied, readings.applied),
            (&self.pending, readings.pending),
            (&self.keys, readings.keys),
            (&self.file_bytes, readings.file_bytes),
            (&self.retained_bytes, readings.retained_bytes),
            (&self.quota_bytes, readings.quota_bytes),
            (&self.watchers, readings.watchers),
            (&self.slow_watchers, readings.slow_watchers),
            (&self.watch_streams, readings.watch_streams),
            (&self.leases, readings.leases),
            (&self.auth_revision, readings.auth_revision),
            (&self.connections, readings.connections),
            (&self.connections_max, readings.connections_max),
            (&self.certificate_until, readings.certificate_until),
        ] {
            gauge.set(value);
        }
    }
}

/// Constant metrics whose labels say who this is.
fn register_versions(table: &mut Table, holm_version: &str, etcd_version: &str) {
    let cluster = etcd_version
        .rsplit_once('.')
        .map_or(etcd_version, |(most, _)| most);
    for (name, label, version) in [
        ("etcd_server_version", "server_version", etcd_version),
        ("etcd_cluster_version", "cluster_version", cluster),
        ("holm_build_info", "version", holm_version),
    ] {
        let family: Family<Labels, Level> = table.add(name, "1; the version is its label");
        family
            .get_or_create(&vec![(label, version.to_owned())])
            .set(1);
    }
}
