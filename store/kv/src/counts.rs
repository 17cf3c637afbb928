//! What was done since the node began to lead: for those who draw charts.
//!
//! Plain numbers of the one thread that applies; readers see them with the view.

/// How often what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys put, within transactions too.
    pub puts: u64,
    /// Deletes of a key or range, within transactions too.
    pub deletes: u64,
    /// Reads within transactions that write; others never come this far.
    pub ranges: u64,
    /// Transactions that write and did more than one thing, as etcd counts.
    pub txns: u64,
    /// Leases granted.
    pub granted: u64,
    /// Leases ended, however that came.
    pub revoked: u64,
    /// Renewals.
    pub renewed: u64,
    /// Leases ended because their time was up.
    pub expired: u64,
}

impl Counts {
    /// Everything that transactions are made of.
    pub(crate) const fn operations(&self) -> u64 {
        self.puts + self.deletes + self.ranges
    }
}
