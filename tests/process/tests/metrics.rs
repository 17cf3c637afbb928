//! Metrics under real traffic: what dashboards and alerts of etcd's users read is there and true.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::http::Connection;
use holm_process_tests::sites::until;
use holm_process_tests::{Gateway, Grpc, Program, Server, Setup};
use serde_json::json;

type Samples = BTreeMap<String, f64>;

fn scrape(server: &Server) -> Result<Samples> {
    let reply = Connection::open(server.address())?.ask("GET", "/metrics", &[], b"")?;
    ensure!(reply.status == 200, "metrics: {}", reply.status);
    let text = reply.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').context("a sample")?;
            Ok((series.to_owned(), value.parse()?))
        })
        .collect()
}

/// How much a series has grown; one that is not there fails the test.
fn grown(before: &Samples, after: &Samples, series: &str) -> f64 {
    let at = |samples: &Samples| {
        *samples
            .get(series)
            .unwrap_or_else(|| panic!("{series} is missing"))
    };
    at(after) - at(before)
}

fn unary(metric: &str, service: &str, method: &str) -> String {
    format!(
        "{metric}{{grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"unary\"}}"
    )
}

/// A few calls of each kind, one of them refused.
fn traffic(client: &mut Grpc) {
    let mut call = |path: &str, body: serde_json::Value| {
        let answer = client.post(path, &body).expect("the gateway answers");
        assert!(answer.is_ok(), "{path}: {}", answer.body);
    };
    let key = encode(b"a");
    for _ in 0..10 {
        call("kv/put", json!({"key": key, "value": encode(&[7; 1000])}));
    }
    call("kv/range", json!({"key": key}));
    call("kv/deleterange", json!({"key": key}));
    let put = json!({"requestPut": {"key": key, "value": key}});
    let range = json!({"requestRange": {"key": key}});
    call("kv/txn", json!({"success": [put, range]}));
    call("lease/grant", json!({"TTL": "60", "ID": "7"}));
    call("lease/revoke", json!({"ID": "7"}));
    call("kv/compaction", json!({"revision": "5", "physical": true}));
    let refused = client.post("kv/range", &json!({"key": key, "revision": "999"}));
    assert!(!refused.expect("the gateway answers").is_ok());
}

/// By how much each counter must have grown, at least and at most.
fn expect(before: &Samples, after: &Samples, growths: &[(&str, f64, f64)]) {
    for (series, low, high) in growths {
        let growth = grown(before, after, series);
        assert!(
            (*low..=*high).contains(&growth),
            "{series} grew by {growth}, not by {low} to {high}"
        );
    }
}

#[test]
fn counters_count_what_clients_did() {
    let server = Server::start(Setup::new(Program::Holm)).unwrap();
    let before = scrape(&server).unwrap();
    traffic(&mut Grpc::open(server.address()).unwrap());
    let after = scrape(&server).unwrap();
    let handled = |code: &str| {
        format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Range\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}}"
        )
    };
    let (fine, refused) = (handled("OK"), handled("OutOfRange"));
    let begun = unary("grpc_server_started_total", "KV", "Put");
    let times = unary("grpc_server_handling_seconds_count", "KV", "Put");
    let exact = [
        ("etcd_mvcc_put_total", 11.0),
        ("etcd_debugging_mvcc_put_total", 11.0),
        ("etcd_mvcc_delete_total", 1.0),
        ("etcd_mvcc_range_total", 3.0),
        ("etcd_mvcc_txn_total", 1.0),
        ("etcd_debugging_lease_granted_total", 1.0),
        ("etcd_debugging_lease_revoked_total", 1.0),
        ("etcd_debugging_mvcc_keys_total", 1.0),
        ("etcd_debugging_mvcc_compact_revision", 5.0),
        ("etcd_debugging_mvcc_current_revision", 12.0),
        ("etcd_server_proposals_failed_total", 0.0),
        ("etcd_server_leader_changes_seen_total", 0.0),
        ("holm_store_commit_duration_seconds_count", 15.0),
        (begun.as_str(), 10.0),
        (times.as_str(), 10.0),
        (fine.as_str(), 1.0),
        (refused.as_str(), 1.0),
    ];
    expect(
        &before,
        &after,
        &exact.map(|(series, growth)| (series, growth, growth)),
    );
    // Fifteen calls changed something; the log may hold a few ops of the node's own.
    expect(
        &before,
        &after,
        &[
            ("etcd_server_proposals_committed_total", 15.0, 25.0),
            ("etcd_server_proposals_applied_total", 15.0, 25.0),
            (
                "etcd_network_client_grpc_received_bytes_total",
                10_000.0,
                40_000.0,
            ),
            ("etcd_network_client_grpc_sent_bytes_total", 100.0, 40_000.0),
            ("etcd_disk_wal_fsync_duration_seconds_count", 1.0, 20.0),
            ("etcd_disk_wal_write_bytes_total", 10_000.0, 40_000.0),
        ],
    );
}

#[test]
fn gauges_show_how_the_node_is() {
    let server = Server::start(Setup::new(Program::Holm)).unwrap();
    let mut gateway = Gateway::new(server.address());
    gateway.put("a", "1").unwrap();
    // A flush comes within a second.
    let deadline = Instant::now() + Duration::from_secs(60);
    let flushes = "etcd_disk_backend_commit_duration_seconds_count";
    let mut samples = scrape(&server).unwrap();
    while samples[flushes] < 1.0 && Instant::now() < deadline {
        sleep(Duration::from_millis(100));
        samples = scrape(&server).unwrap();
    }
    for (series, low, high) in [
        ("etcd_server_has_leader", 1.0, 1.0),
        ("etcd_server_is_leader", 1.0, 1.0),
        ("etcd_server_leader_changes_seen_total", 1.0, 1.0),
        ("etcd_server_proposals_pending", 0.0, 0.0),
        (flushes, 1.0, 100.0),
        ("etcd_mvcc_db_total_size_in_bytes", 1e6, 1e9),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", 1.0, 1e6),
        (
            "etcd_server_quota_backend_bytes",
            2_147_483_648.0,
            2_147_483_648.0,
        ),
        ("process_resident_memory_bytes", 1e6, 4e9),
        ("process_open_fds", 8.0, 200.0),
        ("process_max_fds", 48.0, 1e10),
        // A machine that does something else for a while makes one slow.
        ("etcd_server_slow_apply_total", 0.0, 2.0),
    ] {
        let value = *samples.get(series).unwrap_or_else(|| panic!("{series}"));
        assert!((low..=high).contains(&value), "{series} is {value}");
    }
}

#[test]
fn watchers_are_counted_and_those_that_are_behind() -> Result<()> {
    let server = Server::start(Setup::new(Program::Holm))?;
    let mut gateway = Gateway::new(server.address());
    let watch = json!({"create_request": {"key": encode(b"w")}});
    let mut stream = gateway.follow("watch", &watch)?;
    ensure!(stream.next_result()?.is_some(), "created");
    for _ in 0..5 {
        gateway.put("w", "1")?;
    }
    let mut seen = 0;
    while seen < 5 {
        let answer = stream.next_result()?.context("five events")?;
        seen += answer["events"].as_array().map_or(0, Vec::len);
    }
    let samples = scrape(&server)?;
    ensure!(
        samples["etcd_debugging_mvcc_watcher_total"]
            .total_cmp(&1.0)
            .is_eq(),
        "one watcher"
    );
    ensure!(
        samples["etcd_debugging_mvcc_watch_stream_total"]
            .total_cmp(&1.0)
            .is_eq(),
        "one stream"
    );
    ensure!(
        samples["etcd_debugging_mvcc_events_total"]
            .total_cmp(&5.0)
            .is_eq(),
        "five events"
    );
    ensure!(
        samples["etcd_debugging_mvcc_slow_watcher_total"]
            .total_cmp(&0.0)
            .is_eq(),
        "none behind"
    );
    // Nobody reads any more, and more comes than buffers hold.
    let value = "x".repeat(500_000);
    for _ in 0..60 {
        gateway.put("w", &value)?;
    }
    let behind = "etcd_debugging_mvcc_slow_watcher_total";
    until("one is behind", || {
        Ok(scrape(&server)?[behind].total_cmp(&1.0).is_eq())
    })?;
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(60);
    while scrape(&server)?["etcd_debugging_mvcc_watcher_total"] > 0.0 {
        ensure!(Instant::now() < deadline, "the watcher has left");
        sleep(Duration::from_millis(50));
    }
    ensure!(
        scrape(&server)?["etcd_debugging_mvcc_slow_watcher_total"] == 0.0,
        "and is not behind"
    );
    Ok(())
}
