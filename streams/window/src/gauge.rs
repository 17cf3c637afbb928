//! How much an operator keeps.

/// What is open, and about how many bytes it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// Open panes, sessions or windows.
    pub panes: usize,
    /// Keys that are known.
    pub keys: usize,
    /// Bytes of all that, about.
    pub bytes: usize,
}

impl Gauge {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            panes: self.panes + other.panes,
            keys: self.keys + other.keys,
            bytes: self.bytes + other.bytes,
        }
    }
}
