//! What an operator may hold, and what the answer is when it holds it.

/// Bounds of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Keys; rows with one more are diverted.
    pub keys: usize,
    /// Open panes, or open sessions; rows that would open one more are diverted.
    pub panes: usize,
    /// Seeds the key tables.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys: 10_000_000,
            panes: 1 << 20,
            seed: 0,
        }
    }
}
