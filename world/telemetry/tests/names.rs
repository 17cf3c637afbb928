//! Every promised name is exposed, in a text that a strict reader accepts.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holm_telemetry::{Counted, GRPC_CODES, GrpcKind, Metrics, Readings};

/// What dashboards and alerts of etcd's users rely on, and what we promise beside it.
const PROMISED: &[(&str, &str)] = &[
    ("etcd_cluster_version", "gauge"),
    ("etcd_debugging_auth_revision", "gauge"),
    ("etcd_debugging_lease_granted_total", "counter"),
    ("etcd_debugging_lease_renewed_total", "counter"),
    ("etcd_debugging_lease_revoked_total", "counter"),
    ("etcd_debugging_mvcc_compact_revision", "gauge"),
    ("etcd_debugging_mvcc_current_revision", "gauge"),
    ("etcd_debugging_mvcc_db_total_size_in_bytes", "gauge"),
    ("etcd_debugging_mvcc_delete_total", "counter"),
    ("etcd_debugging_mvcc_events_total", "counter"),
    ("etcd_debugging_mvcc_keys_total", "gauge"),
    ("etcd_debugging_mvcc_put_total", "counter"),
    ("etcd_debugging_mvcc_range_total", "counter"),
    ("etcd_debugging_mvcc_slow_watcher_total", "gauge"),
    ("etcd_debugging_mvcc_txn_total", "counter"),
    ("etcd_debugging_mvcc_watch_stream_total", "gauge"),
    ("etcd_debugging_mvcc_watcher_total", "gauge"),
    ("etcd_debugging_server_lease_expired_total", "counter"),
    ("etcd_disk_backend_commit_duration_seconds", "histogram"),
    ("etcd_disk_backend_snapshot_duration_seconds", "histogram"),
    ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
    ("etcd_disk_wal_write_bytes_total", "counter"),
    ("etcd_mvcc_db_total_size_in_bytes", "gauge"),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge"),
    ("etcd_mvcc_delete_total", "counter"),
    ("etcd_mvcc_put_total", "counter"),
    ("etcd_mvcc_range_total", "counter"),
    ("etcd_mvcc_txn_total", "counter"),
    ("etcd_network_client_grpc_received_bytes_total", "counter"),
    ("etcd_network_client_grpc_sent_bytes_total", "counter"),
    ("etcd_server_has_leader", "gauge"),
    ("etcd_server_health_failures", "counter"),
    ("etcd_server_health_success", "counter"),
    ("etcd_server_healthcheck", "gauge"),
    ("etcd_server_healthchecks_total", "counter"),
    ("etcd_server_heartbeat_send_failures_total", "counter"),
    ("etcd_server_id", "gauge"),
    ("etcd_server_is_leader", "gauge"),
    ("etcd_server_is_learner", "gauge"),
    ("etcd_server_leader_changes_seen_total", "counter"),
    ("etcd_server_proposals_applied_total", "gauge"),
    ("etcd_server_proposals_committed_total", "gauge"),
    ("etcd_server_proposals_failed_total", "counter"),
    ("etcd_server_proposals_pending", "gauge"),
    ("etcd_server_quota_backend_bytes", "gauge"),
    ("etcd_server_read_indexes_failed_total", "counter"),
    ("etcd_server_slow_apply_total", "counter"),
    ("etcd_server_slow_read_indexes_total", "counter"),
    ("etcd_server_version", "gauge"),
    ("grpc_server_handled_total", "counter"),
    ("grpc_server_handling_seconds", "histogram"),
    ("grpc_server_msg_received_total", "counter"),
    ("grpc_server_msg_sent_total", "counter"),
    ("grpc_server_started_total", "counter"),
    ("holm_build_info", "gauge"),
    ("holm_connections", "gauge"),
    ("holm_connections_accepted_total", "counter"),
    ("holm_connections_max", "gauge"),
    ("holm_gateway_requests_total", "counter"),
    ("holm_leases", "gauge"),
    ("holm_link_certificate_end_timestamp_seconds", "gauge"),
    ("holm_log_entries_per_sync", "histogram"),
    ("holm_store_commit_duration_seconds", "histogram"),
    ("os_fd_limit", "gauge"),
    ("os_fd_used", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
];

/// A strict reading of the text: families by name, and each sample's value.
struct Read {
    families: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

/// Reads an exposition; says what is wrong with the first bad line.
fn read(text: &str) -> Result<Read, String> {
    let mut families = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap();
            helped.insert(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(line)?;
            if !helped.contains(name) {
                return Err(format!("no help: {line}"));
            }
            if families.insert(name.to_owned(), kind.to_owned()).is_some() {
                return Err(format!("described twice: {line}"));
            }
            name.clone_into(&mut current);
        } else {
            let (series, value) = line.rsplit_once(' ').ok_or(line)?;
            let name = series.split('{').next().unwrap();
            let ending = name
                .strip_prefix(&*current)
                .ok_or_else(|| format!("not within: {line}"))?;
            let histogram = families
                .get(&current)
                .is_some_and(|kind| kind == "histogram");
            let endings: &[&str] = if histogram {
                &["_sum", "_count", "_bucket"]
            } else {
                &[""]
            };
            if !endings.contains(&ending) {
                return Err(format!("ending: {line}"));
            }
            let value = value
                .parse()
                .map_err(|error| format!("no number: {line}: {error}"))?;
            if samples.insert(series.to_owned(), value).is_some() {
                return Err(format!("twice: {line}"));
            }
        }
    }
    Ok(Read { families, samples })
}

fn metrics() -> Metrics {
    Metrics::new("0.1.0", "3.6.12")
}

#[test]
fn exposition_holds_exactly_the_promised_names() {
    let metrics = metrics();
    metrics.read(&Readings::default());
    metrics
        .grpc_method("etcdserverpb.KV", "Put", GrpcKind::Unary)
        .start();
    metrics.count_check("readyz", "serializable_read", true);
    let read = read(&metrics.exposition()).unwrap();
    let promised: BTreeMap<String, String> = PROMISED
        .iter()
        .map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned()))
        .collect();
    let mut shown = read.families;
    // Beyond the promise; where there is no /proc it is absent.
    shown.remove("process_threads");
    assert_eq!(shown, promised);
}

#[test]
fn counters_and_histograms_show_what_was_counted() {
    let metrics = metrics();
    metrics.store.put.inc_by(3);
    metrics.server.leader_changes_seen.inc();
    metrics.server.health_success.inc();
    metrics
        .disk
        .wal_fsync_duration
        .observe(Duration::from_micros(1_500));
    metrics.disk.entries_per_sync.observe(64);
    let samples = read(&metrics.exposition()).unwrap().samples;
    for (series, value) in [
        ("etcd_mvcc_put_total", 3.0),
        ("etcd_debugging_mvcc_put_total", 3.0),
        ("etcd_server_leader_changes_seen_total", 1.0),
        ("etcd_server_health_success", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_count", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_sum", 0.0015),
        (
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}",
            0.0,
        ),
        (
            "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.002\"}",
            1.0,
        ),
        ("holm_log_entries_per_sync_bucket{le=\"64.0\"}", 1.0),
        ("etcd_server_version{server_version=\"3.6.12\"}", 1.0),
        ("etcd_cluster_version{cluster_version=\"3.6\"}", 1.0),
    ] {
        let shown = samples
            .get(series)
            .unwrap_or_else(|| panic!("{series} is missing"));
        assert!((shown - value).abs() < 1e-9, "{series} is {shown}");
    }
}

#[test]
fn readings_show_the_state_of_the_moment() {
    let metrics = metrics();
    let readings = Readings {
        node: 0x8e9e_05c5_2164_694d,
        has_leader: true,
        revision: 42,
        file_bytes: 1 << 26,
        quota_bytes: 2 << 30,
        ..Readings::default()
    };
    metrics.read(&readings);
    let samples = read(&metrics.exposition()).unwrap().samples;
    assert!((samples["etcd_server_has_leader"] - 1.0).abs() < 1e-9);
    assert!((samples["etcd_debugging_mvcc_current_revision"] - 42.0).abs() < 1e-9);
    assert!((samples["etcd_server_quota_backend_bytes"] - 2_147_483_648.0).abs() < 1e-9);
    assert!(samples.contains_key("etcd_server_id{server_id=\"8e9e05c52164694d\"}"));
}

#[test]
fn counters_follow_what_is_counted_elsewhere_and_never_fall() {
    let metrics = metrics();
    metrics.store.range.inc();
    for (puts, ranges) in [(5, 1), (3, 0), (7, 2)] {
        let counted = Counted {
            puts,
            ranges,
            ..Counted::default()
        };
        metrics.read(&Readings {
            counted,
            ..Readings::default()
        });
    }
    let samples = read(&metrics.exposition()).unwrap().samples;
    assert!((samples["etcd_mvcc_put_total"] - 7.0).abs() < 1e-9);
    assert!((samples["etcd_debugging_mvcc_range_total"] - 3.0).abs() < 1e-9);
}

#[test]
fn grpc_method_shows_every_code_from_the_start_and_counts_its_calls() {
    let metrics = metrics();
    let method = metrics.grpc_method("etcdserverpb.KV", "Put", GrpcKind::Unary);
    let begun = method.start();
    method.finish(0, begun);
    method.finish(8, begun);
    method.finish(99, begun);
    let samples = read(&metrics.exposition()).unwrap().samples;
    let labels = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    for code in GRPC_CODES {
        let series = format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}");
        let expected = if ["OK", "Unknown", "ResourceExhausted"].contains(&code) {
            1.0
        } else {
            0.0
        };
        assert!((samples[&series] - expected).abs() < 1e-9, "{series}");
    }
    assert!((samples[&format!("grpc_server_started_total{{{labels}}}")] - 1.0).abs() < 1e-9);
    let times = format!("grpc_server_handling_seconds_count{{{labels}}}");
    assert!((samples[&times] - 3.0).abs() < 1e-9);
}

#[test]
fn reader_of_these_tests_refuses_what_is_no_exposition() {
    for (text, why) in [
        ("# TYPE a counter\n", "no help"),
        (
            "# HELP a b\n# TYPE a gauge\n# TYPE a gauge\n",
            "described twice",
        ),
        ("# HELP a b\n# TYPE a gauge\nb 1\n", "not within"),
        ("# HELP a b\n# TYPE a gauge\na_sum 1\n", "ending"),
        ("# HELP a b\n# TYPE a gauge\na one\n", "no number"),
        ("# HELP a b\n# TYPE a gauge\na 1\na 2\n", "twice"),
    ] {
        let Err(error) = read(text) else {
            panic!("accepted: {text}")
        };
        assert!(error.starts_with(why), "{error}");
    }
}
