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
    /// What was counted elsewhere.
    pub counted: Counted,
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
    /// Until when the certificate for links is good, in seconds since 1970; 0 at a node alone.
    pub certificate_until: u64,
}

/// What the engine and the watch hub count by themselves; counters follow at each scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Puts, those within transactions too.
    pub puts: u64,
    /// Deletes, those within transactions too.
    pub deletes: u64,
    /// Reads within transactions that write.
    pub ranges: u64,
    /// Transactions that write and did more than one thing.
    pub txns: u64,
    /// Watch events sent.
    pub events: u64,
    /// Leases granted.
    pub granted: u64,
    /// Leases ended.
    pub revoked: u64,
    /// Renewals.
    pub renewed: u64,
    /// Leases whose time was up.
    pub expired: u64,
}
