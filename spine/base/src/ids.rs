//! One type for each kind of number, so that no two of them can be confused.
//!
//! All are plain integers inside; `new` and `value` convert, nothing else does.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The value zero, which stands for "none yet" wherever a number counts from one.
            pub const ZERO: Self = Self(0);

            /// Wraps a bare integer, as it comes from the wire or the disk.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The bare integer, for the wire or the disk.
            #[must_use]
            pub const fn value(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

macro_rules! counter {
    ($name:ident) => {
        impl $name {
            /// The number after this one. Overflow aborts, as all arithmetic here does.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

number! {
    /// A position in the log of one group. The first entry is op 1.
    Op(u64)
}
number! {
    /// A sequencer's epoch. It never falls within a group.
    Term(u64)
}
number! {
    /// A process that takes part in a cluster.
    NodeId(u64)
}
number! {
    /// A set of nodes that share a member table.
    ClusterId(u64)
}
number! {
    /// The nodes that run one protocol together; one keyspace is one group.
    GroupId(u32)
}
number! {
    /// A write to the log that a machine asked for. Rises by one for each `Persist`.
    WriteId(u64)
}
number! {
    /// A request that waits for its answer. Unique within one run of a node.
    RequestId(u64)
}
number! {
    /// A keyspace's revision: one for each mutating transaction. A fresh keyspace is at 1.
    Revision(i64)
}
number! {
    /// A size in bytes.
    ByteCount(u64)
}

counter!(Op);
counter!(Term);
counter!(WriteId);
counter!(RequestId);
counter!(Revision);
