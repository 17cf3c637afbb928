//! Hybrid logical clocks (Kulkarni et al. 2014): which of two concurrent writes is shown.
//!
//! A wrong clock can only make the wrong one of two *concurrent* writes win; a write that saw
//! another replaces it whatever clocks say (I13). One that is far ahead of everybody's is held
//! back at the door of each other site, so that it does not win for ever.

use core::fmt;
use core::time::Duration;

/// How far ahead of the receiver's clock an update's may be.
pub const AHEAD_MAX: Duration = Duration::from_secs(5);

/// 48 bits of Unix milliseconds, 16 bits that count within one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc(u64);

impl Hlc {
    /// Wraps the bare bits, as they come from the wire or the disk.
    #[must_use]
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The bare bits, for the wire or the disk.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The first of a millisecond of Unix time.
    #[must_use]
    pub const fn of_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms << 16)
    }

    /// The next one of a site whose last was `self` and whose clock says `unix_ms`.
    #[must_use]
    pub fn next(self, unix_ms: u64) -> Self {
        Self(self.0 + 1).max(Self::of_unix_ms(unix_ms))
    }

    /// The milliseconds of Unix time in it.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// Whether it is further ahead of a clock than is let in.
    #[must_use]
    pub fn is_too_far_ahead(self, unix_ms: u64) -> bool {
        let most = u64::try_from(AHEAD_MAX.as_millis()).expect("five seconds");
        self.unix_ms() > unix_ms + most
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.unix_ms(), self.0 & 0xffff)
    }
}
