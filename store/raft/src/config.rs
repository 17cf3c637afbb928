//! Every limit and timeout, checked once.

use core::time::Duration;

use holm_base::NodeId;

/// How linearizable reads are confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// By a quorum, after the read was asked. Right under any clock.
    Quorum,
    /// At a leader, by a lease of 0.99 election timeouts. A bad clock rate can give a stale
    /// read, never a lost write. Elsewhere as `Quorum`.
    Lease,
}

/// The longest window of sequences: a mebibit for each member.
pub(crate) const ORIGIN_WINDOW_MAX: u64 = 1 << 20;

/// The limits and timeouts of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// This run of it: how often its log was opened. Must rise (I18, I7).
    pub boot: u64,
    /// Seeds the timeouts.
    pub seed: u64,
    /// The shortest silence after which an election begins.
    pub election_timeout: Duration,
    /// How often a leader speaks.
    pub heartbeat_interval: Duration,
    /// How reads are confirmed.
    pub read_mode: ReadMode,
    /// Weight of entries that may be uncommitted at a leader. Full: `Busy`, or shed.
    pub uncommitted_bytes_max: u64,
    /// Weight of commands that may wait at their origin. Full: `Busy`.
    pub origin_bytes_max: u64,
    /// How many commands may wait at their origin. Full: `Busy`.
    pub origin_count_max: usize,
    /// How long a command waits at its origin; then its client is told that its time is up, and
    /// one that never went to a leader is dropped for good. `None` waits for ever.
    pub origin_patience: Option<Duration>,
    /// How many sequences back a command is told from an applied one; older ones count as
    /// applied. A multiple of 64, at most 1,048,576. Must be the same on all replicas.
    pub origin_window: u64,
    /// How many reads may wait. Full: `Busy`.
    pub reads_max: usize,
    /// How many rounds of read probes may be open; further reads wait for one to close.
    pub read_rounds_max: usize,
    /// The largest body of a request. Larger: `TooLarge`.
    pub request_bytes_max: u64,
    /// The weight at which an Append or Forward is full. One entry may exceed it.
    pub append_bytes_max: u64,
    /// How many entries an Append, or commands a Forward, has at most.
    pub append_count_max: usize,
    /// Weight of Appends under way to one peer. Full: the rest waits for an answer.
    pub in_flight_bytes_max: u64,
    /// Weight of committed entries kept in memory for peers that lag; older are fetched.
    pub cache_bytes_max: u64,
    /// How many ops below a snapshot the log keeps for peers that lag.
    pub kept_ops: u64,
    /// How many voters a half may have. More: `TooManyMembers`.
    pub voters_max: usize,
    /// How many learners there may be. More: `TooManyMembers`.
    pub learners_max: usize,
    /// How far a learner may lag, for one whole round, and still be promoted.
    pub promotion_lag_max: u64,
    /// How many chunks are asked for at a time.
    pub chunks_in_flight_max: usize,
    /// How long a chunk is waited for.
    pub chunk_timeout: Duration,
    /// Bytes of snapshot asked for in a second.
    pub chunk_rate: u64,
}

impl Config {
    /// The defaults for one node in one run.
    #[must_use]
    pub const fn new(node: NodeId, boot: u64) -> Self {
        Self {
            node,
            boot,
            seed: node.value(),
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            read_mode: ReadMode::Quorum,
            uncommitted_bytes_max: 64 << 20,
            origin_bytes_max: 16 << 20,
            origin_count_max: 65_536,
            origin_patience: None,
            origin_window: 65_536,
            reads_max: 65_536,
            read_rounds_max: 64,
            request_bytes_max: 3 << 19,
            append_bytes_max: 1 << 20,
            append_count_max: 8_192,
            in_flight_bytes_max: 32 << 20,
            cache_bytes_max: 64 << 20,
            kept_ops: 5_000,
            voters_max: 7,
            learners_max: 8,
            promotion_lag_max: 1_000,
            chunks_in_flight_max: 4,
            chunk_timeout: Duration::from_secs(5),
            chunk_rate: 32 << 20,
        }
    }

    /// Whether the settings can work together.
    ///
    /// # Errors
    ///
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("origin_count_max", self.origin_count_max),
            ("reads_max", self.reads_max),
            ("read_rounds_max", self.read_rounds_max),
            ("append_count_max", self.append_count_max),
            ("voters_max", self.voters_max),
            ("chunks_in_flight_max", self.chunks_in_flight_max),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { setting });
        }
        if self.heartbeat_interval.is_zero() || self.chunk_rate == 0 {
            return Err(ConfigError::Zero {
                setting: "heartbeat_interval or chunk_rate",
            });
        }
        if self.election_timeout < self.heartbeat_interval * 2 {
            return Err(ConfigError::Hasty {
                election: self.election_timeout,
                heartbeat: self.heartbeat_interval,
            });
        }
        let window = self.origin_window;
        if window == 0 || !window.is_multiple_of(64) || window > ORIGIN_WINDOW_MAX {
            return Err(ConfigError::Window { window });
        }
        Ok(())
    }
}

/// Why settings cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A limit of nothing.
    #[error("{setting} is zero, so nothing could ever happen")]
    Zero {
        /// Which.
        setting: &'static str,
    },
    /// Followers would give up on leaders that are well.
    #[error("an election timeout of {election:?} needs heartbeats more often than {heartbeat:?}")]
    Hasty {
        /// The election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// The window is kept in words of 64 bits.
    #[error("an origin window of {window} is no positive multiple of 64")]
    Window {
        /// What was set.
        window: u64,
    },
}
