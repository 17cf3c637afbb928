//! What a world is made of, as its builder says it.

use holm_machine::Limits;

use crate::clock::ClockSpec;
use crate::link::LinkSpec;
use crate::node::Node;
use crate::order::Order;
use crate::quantiles::Quantiles;
use crate::trace::Report;

/// A node, where it runs, and how its surroundings behave.
#[derive(Debug)]
pub struct NodeSpec<N: Node> {
    /// What all its starts have in common.
    pub setup: N::Setup,
    /// The host whose cores it shares, as an index into [`WorldSpec::hosts`].
    pub host: usize,
    /// What loses power together with it.
    pub site: usize,
    /// Its clocks.
    pub clock: ClockSpec,
    /// How long a flush takes.
    pub sync: Quantiles,
    /// The same by how much it writes, ascending; empty if that makes no difference.
    pub sync_timed: Vec<SyncTime>,
    /// What its work costs.
    pub work: Work,
    /// How long a message waits at a node that sleeps until its threads run; a node that works
    /// is not woken. Plays no part where work is free.
    pub wake: Quantiles,
    /// The same where a core of the host sleeps, and has to be woken first, by how long it has
    /// slept, ascending; empty if that makes no difference.
    pub wake_idle: Vec<Wake>,
}

/// How long a flush of some size takes.
#[derive(Clone, Debug)]
pub struct SyncTime {
    /// How many bytes it writes.
    pub bytes: u64,
    /// How long it waits for the disk.
    pub alone: Quantiles,
    /// The same if it begins while another node of the same host waits for it, too.
    pub beside: Quantiles,
}

/// What it takes to wake a thread.
#[derive(Clone, Debug)]
pub struct Wake {
    /// How long the core has slept, in nanoseconds.
    pub slept_nanos: u64,
    /// What it spends itself, in nanoseconds of CPU.
    pub own_nanos: u64,
    /// Whether it has slept for so long that a node which has written its log since pays more: counted in
    /// [`Usage::cold`](crate::Usage::cold).
    pub is_cold: bool,
    /// How much more.
    pub cold_nanos: u64,
    /// What whoever calls it spends.
    pub call_nanos: u64,
    /// How long it waits from the call until it wants a core.
    pub delay: Quantiles,
}

/// What a node's work costs on a core, in nanoseconds. Without any cost the hosts play no part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// For each batch: without it batching would look free.
    pub batch_nanos: u64,
    /// For each input of it.
    pub input_nanos: u64,
    /// For each effect and record of it.
    pub effect_nanos: u64,
    /// For each time that a message wakes it.
    pub wake_nanos: u64,
    /// For each flush that it begins, by whichever thread.
    pub flush_nanos: u64,
    /// The same where no other thread waits for the core, so that it sleeps while the disk works; only with workers.
    pub flush_idle_nanos: u64,
    /// Threads that carry messages and serve the caller; without any, messages cost nothing. Where there are such, the
    /// log has a thread, too, and one flush is under way at a time.
    pub workers: usize,
    /// For each time that a worker writes to a link.
    pub write_nanos: u64,
    /// For each time that it reads from one.
    pub read_nanos: u64,
    /// For each message, written or read.
    pub message_nanos: u64,
    /// For each 1,024 bytes of them, written.
    pub kib_nanos: u64,
    /// For each 1,024 bytes of them, read and taken apart.
    pub read_kib_nanos: u64,
}

impl Work {
    pub(crate) const fn is_free(self) -> bool {
        let has_parts = self.batch_nanos > 0 || self.input_nanos > 0 || self.effect_nanos > 0;
        !has_parts && self.wake_nanos == 0 && self.flush_nanos == 0 && self.workers == 0
    }
}

/// The cores that nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// How many.
    pub cores: usize,
    /// How often a thread whose core is busy wakes on another that sleeps, of a million times.
    pub search: u32,
}

impl HostSpec {
    /// So many cores, where idle ones are always looked for.
    #[must_use]
    pub const fn of(cores: usize) -> Self {
        Self {
            cores,
            search: 1_000_000,
        }
    }
}

/// A whole world.
#[derive(Debug)]
pub struct WorldSpec<N: Node> {
    /// Its nodes; their ids count from 1.
    pub nodes: Vec<NodeSpec<N>>,
    /// The hosts.
    pub hosts: Vec<HostSpec>,
    /// The link between any two nodes, in each direction.
    pub link: LinkSpec,
    /// Links that differ, by the indexes of source and target, each in its direction.
    pub links: Vec<(usize, usize, LinkSpec)>,
    /// How the next event is found.
    pub order: Order,
    /// The limits of each node's driver.
    pub limits: Limits,
    /// Whether the run is written down in words.
    pub report: Report,
}

impl<N: Node> WorldSpec<N> {
    /// So many nodes with one setup, each on a host and site of its own, on plain links: 1 ms
    /// one way, 1 ms a sync, in timed order, without any fault.
    #[must_use]
    pub fn plain(setup: &N::Setup, nodes: usize) -> Self {
        let node = |index| NodeSpec {
            setup: setup.clone(),
            host: index,
            site: index,
            clock: ClockSpec::default(),
            sync: Quantiles::fixed(1_000_000),
            sync_timed: Vec::new(),
            work: Work::default(),
            wake: Quantiles::fixed(0),
            wake_idle: Vec::new(),
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            hosts: vec![HostSpec::of(1); nodes],
            link: LinkSpec::plain(1_000_000),
            links: Vec::new(),
            order: Order::Timed,
            limits: Limits::default(),
            report: Report::Off,
        }
    }
}

impl<N: Node> Clone for NodeSpec<N> {
    fn clone(&self) -> Self {
        Self {
            setup: self.setup.clone(),
            host: self.host,
            site: self.site,
            clock: self.clock,
            sync: self.sync.clone(),
            sync_timed: self.sync_timed.clone(),
            work: self.work,
            wake: self.wake.clone(),
            wake_idle: self.wake_idle.clone(),
        }
    }
}

impl<N: Node> Clone for WorldSpec<N> {
    fn clone(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            hosts: self.hosts.clone(),
            link: self.link.clone(),
            links: self.links.clone(),
            order: self.order.clone(),
            limits: self.limits,
            report: self.report,
        }
    }
}
