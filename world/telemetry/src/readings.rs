//! What is read when somebody looks, rather than counted as it happens.

/// The state that gauges show, read at each scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// This node's id.
    pub node: u64,
    /// Whether some node leads.
    pub has_leader: bool,
    /// Whether this node leads.
    pub is_leader: bool,
    /// The newest committed op.
    pub committed: u64,
    /// The newest applied op.
    pub applied: u64,
    /// Requests that wait for their op to be durable.
    pub pending: u64,
    /// The current revision.
    pub revision: i64,
    /// The compacted revision.
    pub compacted: i64,
    /// Live keys.
    pub keys: u64,
    /// Bytes of the keyspace's files.
    pub file_bytes: u64,
    /// Bytes that are needed among them.
    pub retained_bytes: u64,
    /// The quota, in bytes.
    pub quota_bytes: u64,
    /// Watchers.
    pub watchers: u64,
    /// Watchers that read history instead of following.
    pub slow_watchers: u64,
    /// Watch streams.
    pub watch_streams: u64,
    /// Leases.
    pub leases: u64,
    /// The revision of the user table.
    pub auth_revision: u64,
    /// Open connections.
    pub connections: u64,
    /// Room for connections.
    pub connections_max: u64,
}
