//! Keyspaces of one node: one log and one sync for all, and nothing of one seen in another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, ClusterId, GroupId, NodeId, Prng};
use holm_kv::Refusal;
use holm_kv::command::{Command, DeleteRange, Proposal, Put};
use holm_kv::outcome::Applied;
use holm_runtime::{Handle, KeyspaceConfig, Node, NodeConfig, keyspace_cluster_id, start};
use holm_telemetry::Metrics;
use tokio::runtime::{Builder, Runtime};

const ORDERS: GroupId = GroupId::new(2);

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all();
    runtime.build().expect("threads")
}

fn node(place: &Path, metrics: &Arc<Metrics>) -> Node {
    let config = NodeConfig {
        data_dir: place.to_owned(),
        name: "a".to_owned(),
        site: "a".to_owned(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        log_segment_bytes: ByteCount::new(1 << 20),
        cluster: None,
        kv: holm_kv::Config::default(),
    };
    let never = Arc::new(|why: &str| panic!("{why}"));
    start(config, Arc::clone(metrics), never).expect("it starts")
}

fn keyspace(node: &Node, group: GroupId) -> Handle {
    let config = KeyspaceConfig {
        group,
        place: group,
        name: format!("k{group}"),
        cluster: keyspace_cluster_id(ClusterId::new(1), group),
        client_urls: Vec::new(),
        members: Vec::new(),
        is_joining: false,
        kv: holm_kv::Config::default(),
        shores: None,
        metrics: Arc::new(Metrics::new("0", "0")),
    };
    node.keyspaces().open(config).expect("it opens")
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key{number}"))
}

fn put(number: u64, value: String) -> Command {
    Command::Put(Put {
        key: key(number),
        value: Bytes::from(value),
        ..Put::default()
    })
}

async fn propose(handle: &Handle, command: Command) -> Result<Applied, Refusal> {
    let caller = None;
    handle.propose(Proposal { caller, command }).await
}

/// How often the log was synced, and how many records that were.
fn syncs(metrics: &Metrics) -> u64 {
    let text = metrics.exposition();
    let begin = "etcd_disk_wal_fsync_duration_seconds_count ";
    let line = text.lines().find_map(|line| line.strip_prefix(begin));
    line.and_then(|it| it.parse().ok()).expect("it is counted")
}

#[test]
fn writes_of_two_keyspaces_share_syncs() {
    let place = tempfile::tempdir().expect("a place for files");
    let metrics = Arc::new(Metrics::new("0", "0"));
    let node = node(place.path(), &metrics);
    let two = [node.handle().clone(), keyspace(&node, ORDERS)];
    let before = syncs(&metrics);
    runtime().block_on(async {
        let mut writing = tokio::task::JoinSet::new();
        for number in 0..2_000 {
            for handle in &two {
                let handle = handle.clone();
                writing.spawn(async move { propose(&handle, put(number, "1".to_owned())).await });
            }
        }
        for answer in writing.join_all().await {
            answer.expect("it is durable");
        }
    });
    let syncs = syncs(&metrics) - before;
    assert!(
        syncs < 2_000,
        "{syncs} syncs for 4,000 writes of two keyspaces"
    );
    for handle in &two {
        assert_eq!(handle.view().revision().value(), 2_001, "a line of its own");
    }
    node.stop();
}

/// Random commands over two keyspaces against two models, over several runs of the node.
#[test]
fn what_two_keyspaces_hold_is_what_two_models_say() {
    let place = tempfile::tempdir().expect("a place for files");
    let threads = runtime();
    let mut prng = Prng::new(7);
    let mut models = [BTreeMap::new(), BTreeMap::new()];
    let mut revisions = [1_i64, 1];
    for _run in 0..4 {
        let node = node(place.path(), &Arc::new(Metrics::new("0", "0")));
        let two = [node.handle().clone(), keyspace(&node, ORDERS)];
        for at in 0..2 {
            check(&two[at], &models[at], revisions[at]);
        }
        for step in 0..200 {
            let at = usize::from(prng.below(2) == 0);
            let (number, model) = (prng.below(20), &mut models[at]);
            let command = if prng.below(3) == 0 {
                revisions[at] += i64::from(model.remove(&number).is_some());
                Command::DeleteRange(DeleteRange {
                    key: key(number),
                    range_end: Bytes::new(),
                    prev_kv: false,
                })
            } else {
                let value = format!("{at} {step}");
                model.insert(number, value.clone());
                revisions[at] += 1;
                put(number, value)
            };
            let applied = threads.block_on(propose(&two[at], command));
            applied.expect("it is durable").result.expect("it is right");
        }
        for at in 0..2 {
            check(&two[at], &models[at], revisions[at]);
        }
        node.stop();
    }
}

fn check(handle: &Handle, model: &BTreeMap<u64, String>, revision: i64) {
    let view = handle.view();
    assert_eq!(view.revision().value(), revision);
    for number in 0..20 {
        let found = view.root.get(&key(number));
        assert_eq!(found.is_some(), model.contains_key(&number), "{number}");
    }
    assert_eq!(view.sizes.keys, model.len() as u64);
}

#[test]
fn leases_of_one_keyspace_are_unknown_in_another() {
    let place = tempfile::tempdir().expect("a place for files");
    let node = node(place.path(), &Arc::new(Metrics::new("0", "0")));
    let (home, orders) = (node.handle().clone(), keyspace(&node, ORDERS));
    runtime().block_on(async {
        let grant = Command::LeaseGrant {
            id: 5,
            ttl: 60,
            ttl_min: 2,
        };
        propose(&orders, grant).await.expect("it is durable");
        assert_eq!(orders.lease_renew(5).await, Ok(60));
        assert_eq!(home.lease_renew(5).await, Err(Refusal::LeaseNotFound));
        assert_eq!(home.leases().await.expect("it answers"), Vec::<i64>::new());
    });
    node.stop();
}

#[test]
fn a_removed_keyspace_leaves_nothing_and_the_others_go_on() {
    let place = tempfile::tempdir().expect("a place for files");
    let threads = runtime();
    let started = node(place.path(), &Arc::new(Metrics::new("0", "0")));
    let orders = keyspace(&started, ORDERS);
    for number in 0..10 {
        let written = threads.block_on(propose(&orders, put(number, "1".to_owned())));
        written.expect("it is durable");
    }
    assert_eq!(started.keyspaces().found(), [ORDERS]);
    started.keyspaces().remove(ORDERS).expect("it goes");
    started.keyspaces().remove(ORDERS).expect("it has gone");
    assert_eq!(started.keyspaces().found(), [], "nothing of it is left");
    let late = threads.block_on(propose(&orders, put(1, "2".to_owned())));
    assert_eq!(late, Err(Refusal::Stopped));
    let home = started.handle().clone();
    let written = threads.block_on(propose(&home, put(1, "1".to_owned())));
    written.expect("it goes on");
    started.stop();
    let again = node(place.path(), &Arc::new(Metrics::new("0", "0")));
    assert_eq!(again.handle().view().sizes.keys, 1);
    again.stop();
}

#[test]
fn a_message_for_a_keyspace_that_is_not_here_is_dropped_and_counted() {
    let place = tempfile::tempdir().expect("a place for files");
    let node = node(place.path(), &Arc::new(Metrics::new("0", "0")));
    let message = (1, &Bytes::from_static(b"whatever"));
    let dropped = node.keyspaces().hear(NodeId::new(9), ORDERS, message);
    assert_eq!(dropped.map_err(|error| error.to_string()), Ok(()));
    assert_eq!(node.keyspaces().strays(), 1);
    node.stop();
}
