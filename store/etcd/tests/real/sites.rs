//! Real nodes of one cluster in one process: their threads and disks are real, the network
//! between them is a table that a test cuts and mends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holm_base::{ByteCount, NodeId};
use holm_etcd::services::{Limits, Services};
use holm_etcd::token::TokenConfig;
use holm_kv::{Config, StoreConfig};
use holm_runtime::{
    ClusterConfig, Handle, MemberConfig, Network, Node, NodeConfig, Parcel, cluster_id, member_id,
};
use holm_telemetry::Metrics;
use tempfile::TempDir;

use crate::node::beside;

/// Files small enough that a test starts at once.
const SEGMENT: ByteCount = ByteCount::new(4 << 20);
const TOKEN: &str = "test";
/// The shortest silence after which an election begins.
pub(crate) const ELECTION: Duration = Duration::from_millis(500);

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

/// A cluster of nodes called `a`, `b`, `c`.
pub(crate) struct Sites {
    switch: Arc<Switch>,
    services: BTreeMap<String, Services>,
    nodes: Vec<Node>,
    folders: Vec<TempDir>,
}

/// Where a node is reached by others; nobody listens there.
pub(crate) fn peer_url(name: &str) -> String {
    format!("https://{name}:2380")
}

pub(crate) fn id(name: &str) -> NodeId {
    member_id(TOKEN, &[peer_url(name)])
}

/// Runs a test's work against three fresh nodes, and stops them.
pub(crate) fn with_sites(work: impl AsyncFnOnce(&mut Sites)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime starts");
    let (nodes, folders) = runtime.block_on(async {
        let mut sites = Sites {
            switch: Arc::default(),
            services: BTreeMap::new(),
            nodes: Vec::new(),
            folders: Vec::new(),
        };
        for name in ["a", "b", "c"] {
            sites.start(name, false);
        }
        work(&mut sites).await;
        (sites.nodes, sites.folders)
    });
    for node in nodes {
        node.stop();
    }
    drop(folders);
}

impl Sites {
    /// Starts a node; one that joins was added before.
    pub(crate) fn start(&mut self, name: &str, is_joining: bool) {
        let metrics = Arc::new(Metrics::new("0", "3.6.12"));
        let config = self.config(name, is_joining);
        let on_failure = Arc::new(|why: &str| panic!("the node failed: {why}"));
        let node =
            holm_runtime::start(config, Arc::clone(&metrics), on_failure).expect("the node starts");
        let limits = Limits {
            password_cost: 4,
            ..Limits::default()
        };
        let handle = node.handle().clone();
        let services = Services::new(handle.clone(), limits, &TokenConfig::default(), metrics)
            .expect("simple tokens need no keys");
        let mut handles = self.switch.handles.lock().expect("nobody panics");
        handles.insert(id(name), handle);
        drop(handles);
        self.nodes.push(node);
        let tended = services.clone();
        beside(async move { tended.tend().await });
        self.services.insert(name.to_owned(), services);
    }

    fn config(&mut self, name: &str, is_joining: bool) -> NodeConfig {
        let first = ["a", "b", "c"].into_iter();
        let newcomer = is_joining.then_some(name);
        let member = |name: &str| MemberConfig {
            node: id(name),
            name: name.to_owned(),
            peer_urls: vec![peer_url(name)],
        };
        let folder = TempDir::new().expect("a temporary directory");
        let data_dir = folder.path().to_owned();
        self.folders.push(folder);
        NodeConfig {
            data_dir,
            name: name.to_owned(),
            site: name.to_owned(),
            peer_urls: vec![peer_url(name)],
            client_urls: vec![format!("http://{name}:2379")],
            log_segment_bytes: SEGMENT,
            cluster: Some(ClusterConfig {
                cluster: cluster_id(TOKEN),
                node: id(name),
                token: TOKEN.to_owned(),
                members: first.chain(newcomer).map(member).collect(),
                is_joining,
                election_timeout: ELECTION,
                heartbeat_interval: ELECTION / 10,
                request_timeout: ClusterConfig::request_timeout_of(ELECTION),
                network: Arc::new(Port {
                    switch: Arc::clone(&self.switch),
                    from: id(name),
                }),
            }),
            kv: Config {
                free_bytes_min: 0,
                store: StoreConfig {
                    segment_bytes: SEGMENT,
                    ..StoreConfig::default()
                },
                ..Config::default()
            },
        }
    }

    pub(crate) fn at(&self, name: &str) -> Services {
        self.services[name].clone()
    }

    /// The name of the node that leads, once one does.
    pub(crate) async fn leader(&self) -> String {
        let handle = self.at("a").handle().clone();
        loop {
            handle.read_barrier().await.expect("a quorum is up");
            let leader = handle.leader();
            let name = self.services.keys().find(|name| Some(id(name)) == leader);
            if let Some(name) = name {
                return name.clone();
            }
            tokio::task::yield_now().await;
        }
    }

    /// The names of those who do not lead.
    pub(crate) async fn followers(&self) -> Vec<String> {
        let leader = self.leader().await;
        let names = self.services.keys().filter(|name| **name != leader);
        names.cloned().collect()
    }

    /// Cuts a node off, or puts it back.
    pub(crate) fn cut(&self, name: &str, is_cut: bool) {
        let mut cut = self.switch.cut.lock().expect("nobody panics");
        if is_cut {
            cut.insert(id(name));
        } else {
            cut.remove(&id(name));
        }
    }
}

/// Asks until the answer is as it should be; gives up after ten seconds.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .expect("it comes to that in ten seconds")
}
