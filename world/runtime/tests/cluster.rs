//! Three nodes in one process, their threads and disks real, the network between them a table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, ClusterId, NodeId};
use holm_kv::Refusal;
use holm_kv::command::{Command, Proposal, Put};
use holm_raft::{Change, Operation, Outcome, RoleName};
use holm_runtime::{
    ClusterConfig, Handle, MemberConfig, Network, Node, NodeConfig, Parcel, StartError, start,
};
use holm_telemetry::Metrics;
use tokio::runtime::{Builder, Runtime};

/// Who can be reached, and who cannot.
#[derive(Debug, Default)]
struct Switch {
    handles: Mutex<BTreeMap<NodeId, Handle>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

/// One node's way to the others.
#[derive(Debug)]
struct Port {
    switch: Arc<Switch>,
    from: NodeId,
}

impl Network for Port {
    fn send(&self, to: NodeId, parcel: Parcel) {
        let cut = self.switch.cut.lock().expect("nobody panics");
        if cut.contains(&to) || cut.contains(&self.from) {
            return;
        }
        drop(cut);
        let handles = self.switch.handles.lock().expect("nobody panics");
        if let Some(handle) = handles.get(&to).cloned() {
            drop(handles);
            let heard = handle.hear(self.from, parcel.kind, &parcel.body);
            heard.expect("a node says only what can be read");
            handle.attend();
        }
    }
}

fn id(node: u64) -> NodeId {
    NodeId::new(node)
}

fn config(place: &Path, node: u64, switch: &Arc<Switch>) -> NodeConfig {
    let member = |node: u64| MemberConfig {
        node: id(node),
        name: format!("n{node}"),
        peer_urls: Vec::new(),
    };
    let timeout = Duration::from_millis(300);
    let cluster = ClusterConfig {
        cluster: ClusterId::new(77),
        token: "test".to_owned(),
        node: id(node),
        members: (1..=3).map(member).collect(),
        is_joining: false,
        election_timeout: timeout,
        heartbeat_interval: Duration::from_millis(30),
        request_timeout: ClusterConfig::request_timeout_of(timeout),
        network: Arc::new(Port {
            switch: Arc::clone(switch),
            from: id(node),
        }),
    };
    NodeConfig {
        data_dir: place.join(format!("n{node}")),
        name: format!("n{node}"),
        site: format!("n{node}"),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        log_segment_bytes: ByteCount::new(1 << 20),
        cluster: Some(cluster),
        kv: holm_kv::Config::default(),
    }
}

struct Cluster {
    place: tempfile::TempDir,
    switch: Arc<Switch>,
    nodes: BTreeMap<u64, Node>,
    runtime: Runtime,
}

impl Cluster {
    fn start() -> Self {
        let mut runtime = Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all();
        let mut cluster = Self {
            place: tempfile::tempdir().expect("a place for files"),
            switch: Arc::default(),
            nodes: BTreeMap::new(),
            runtime: runtime.build().expect("threads"),
        };
        for node in 1..=3 {
            cluster.up(node);
        }
        cluster
    }

    fn up(&mut self, node: u64) {
        std::fs::create_dir_all(self.place.path().join(format!("n{node}"))).expect("a folder");
        let config = config(self.place.path(), node, &self.switch);
        let metrics = Arc::new(Metrics::new("0", "0"));
        let started = start(config, metrics, Arc::new(|why: &str| panic!("{why}")));
        let started = started.expect("it starts");
        let mut handles = self.switch.handles.lock().expect("nobody panics");
        handles.insert(id(node), started.handle().clone());
        drop(handles);
        self.nodes.insert(node, started);
    }

    /// As if its power was lost: the others hear nothing more, and its files are those of the
    /// moment.
    fn kill(&mut self, node: u64) {
        self.switch
            .cut
            .lock()
            .expect("nobody panics")
            .insert(id(node));
        let (from, to) = (format!("n{node}"), format!("copy{node}"));
        copy(&self.place.path().join(&from), &self.place.path().join(&to));
        self.nodes.remove(&node).expect("it is up").stop();
        std::fs::remove_dir_all(self.place.path().join(&from)).expect("it is there");
        std::fs::rename(self.place.path().join(to), self.place.path().join(from)).expect("ours");
        self.switch
            .cut
            .lock()
            .expect("nobody panics")
            .remove(&id(node));
    }

    fn handle(&self, node: u64) -> &Handle {
        self.nodes[&node].handle()
    }

    fn put(&self, node: u64, key: &str) -> i64 {
        let command = Command::Put(Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::from_static(b"value"),
            ..Put::default()
        });
        let proposal = Proposal {
            caller: None,
            command,
        };
        let applied = self
            .runtime
            .block_on(self.handle(node).propose_here(proposal));
        applied.expect("a quorum is up").revision.value()
    }

    /// Whether a linearizable read at a node finds the key.
    fn has(&self, node: u64, key: &str) -> bool {
        let handle = self.handle(node);
        let barrier = self.runtime.block_on(handle.read_barrier());
        barrier.expect("a quorum is up");
        handle.view().root.get(key.as_bytes()).is_some()
    }

    fn leader(&self) -> u64 {
        let handle = self.nodes.values().next().expect("some are up").handle();
        self.runtime
            .block_on(handle.read_barrier())
            .expect("a quorum is up");
        handle.leader().expect("a read has just found it").value()
    }

    fn stop(self) {
        for node in self.nodes.into_values() {
            node.stop();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is there");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("it is there");
        }
    }
}

#[test]
fn three_nodes_serve_at_each_and_go_on_without_any_one() {
    let mut cluster = Cluster::start();
    let mut revision = 1;
    for node in 1..=3 {
        revision += 1;
        let key = format!("at{node}");
        assert_eq!(cluster.put(node, &key), revision, "revisions are dense");
        assert!((1..=3).all(|it| cluster.has(it, &key)));
    }
    let leader = cluster.leader();
    for node in [leader, leader % 3 + 1] {
        cluster.kill(node);
        let other = node % 3 + 1;
        let key = format!("without{node}");
        cluster.put(other, &key);
        assert!(cluster.has(other % 3 + 1, &key) || other % 3 + 1 == node);
        cluster.up(node);
        assert!(cluster.has(node, &key), "it has caught up");
    }
    for node in 1..=3 {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.up(node);
    }
    for node in 1..=3 {
        for key in ["at1", "at2", "at3"] {
            assert!(cluster.has(node, key), "{key} at {node}");
        }
    }
    cluster.stop();
}

#[test]
fn leases_members_and_the_lead_are_asked_for_at_any_node() {
    let cluster = Cluster::start();
    cluster.put(1, "key");
    let leader = cluster.leader();
    let follower = cluster.handle(leader % 3 + 1).clone();
    cluster.runtime.block_on(async {
        let command = Command::LeaseGrant {
            id: 5,
            ttl: 60,
            ttl_min: 2,
        };
        let proposal = Proposal {
            caller: None,
            command,
        };
        follower.propose(proposal).await.expect("a quorum is up");
        assert_eq!(follower.lease_renew(5).await.expect("it runs"), 60);
        let view = follower.lease_time_to_live(5, true).await.expect("it runs");
        assert!((58..=60).contains(&view.ttl), "{view:?}");
        assert_eq!(follower.leases().await.expect("known everywhere"), [5]);
        let learner = Operation::Change(Change::AddLearner(id(4)));
        let changed = follower.operate(learner).await.expect("there is an answer");
        assert!(
            matches!(changed, Ok(Outcome::Changed { .. })),
            "{changed:?}"
        );
        let to = id(leader % 3 + 1);
        let leads = cluster.handle(leader).operate(Operation::MoveLeader { to });
        let moved = leads.await.expect("there is an answer");
        assert_eq!(moved, Ok(Outcome::Moved { leader: to }));
        follower.read_barrier().await.expect("a quorum is up");
        let standing = follower.standing().await.expect("there is an answer");
        assert_eq!(standing.role, RoleName::Leader);
        assert_eq!(standing.peers.len(), 3, "two voters and a learner");
        assert!(standing.configuration.learners().contains(&id(4)));
        assert_eq!(follower.leader(), Some(to));
        assert!(follower.term() >= standing.term);
    });
    cluster.stop();
}

#[test]
fn a_folder_keeps_the_member_it_belongs_to() {
    let place = tempfile::tempdir().expect("a place for files");
    let switch = Arc::default();
    let metrics = || Arc::new(Metrics::new("0", "0"));
    let ignore = || Arc::new(|_: &str| {});
    let first = config(place.path(), 1, &switch);
    std::fs::create_dir_all(&first.data_dir).expect("a folder");
    let data_dir = first.data_dir.clone();
    start(first, metrics(), ignore()).expect("it starts").stop();
    let other = NodeConfig {
        data_dir,
        ..config(place.path(), 2, &switch)
    };
    let error = start(other, metrics(), ignore()).expect_err("it is node 1's");
    assert!(matches!(error, StartError::Identity { .. }), "{error}");
}

#[test]
fn a_node_that_stops_hands_its_lead_on() {
    let mut cluster = Cluster::start();
    cluster.put(1, "key");
    let leader = cluster.leader();
    let other = cluster.handle(leader % 3 + 1).clone();
    let term = other.term();
    cluster.nodes.remove(&leader).expect("it is up").stop();
    assert!(other.term() > term, "another was elected before it stopped");
    cluster.put(leader % 3 + 1, "next");
    cluster.stop();
}

#[test]
fn a_minority_promises_nothing_and_says_so_in_time() {
    let mut cluster = Cluster::start();
    cluster.put(1, "key");
    cluster.nodes.remove(&2).expect("it is up").stop();
    cluster.nodes.remove(&3).expect("it is up").stop();
    let mut switch = cluster.switch.handles.lock().expect("nobody panics");
    switch.retain(|node, _| *node == id(1));
    drop(switch);
    let handle = cluster.handle(1).clone();
    let command = Command::Put(Put {
        key: Bytes::from_static(b"late"),
        ..Put::default()
    });
    let put = handle.propose(Proposal {
        caller: None,
        command,
    });
    let read = handle.read_barrier();
    let both = cluster.runtime.block_on(async { tokio::join!(put, read) });
    assert_eq!(both.0.err(), Some(Refusal::TimedOut));
    assert_eq!(both.1, Err(Refusal::TimedOut));
    assert!(
        handle.view().root.get(b"key").is_some(),
        "what it has it shows"
    );
    assert!(handle.view().root.get(b"late").is_none());
    assert_eq!(handle.leader(), None);
    cluster.stop();
}
