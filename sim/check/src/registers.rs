//! Registers without revisions, every value written once: the intervals of Gibbons and Korach.
//!
//! All operations on one value, its write and its reads, lie close together in any order that
//! explains them. From the first that returned to the last that was asked for is the value's
//! zone: forward if it surely held the register for all of that time, backward if one moment
//! may have been enough.
//!
//! ```text
//! forward:   write ├──┤      ├──┤ read        backward:  write ├─────────┤
//!                     ╰──────╯                            read     ├─────────┤
//! ```
//!
//! There is an order if no read returns before its write is asked for, no two forward zones
//! overlap, and no backward zone lies within a forward one. That is n log n, where a search
//! would be exponential.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::verdict::Violation;

const JUDGE: &str = "registers";

/// One operation on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access<V> {
    /// When it was asked for.
    pub invoked: u64,
    /// When it was answered, if it was. A read without an answer says nothing.
    pub returned: Option<u64>,
    /// What was written or read; none for a read of a register that nobody had written.
    pub value: Option<V>,
    /// Whether it wrote.
    pub is_write: bool,
}

/// All operations on one value.
#[derive(Clone, Copy, Debug)]
struct Zone {
    first_return: u64,
    last_invoked: u64,
    written: u64,
}

/// Judges all operations on one register.
///
/// # Errors
///
/// A value written twice or never, a read of the future, or two values that both held the
/// register at one moment.
pub fn register<V: Ord + Debug>(accesses: &[Access<V>]) -> Result<(), Violation> {
    let zones = zones(accesses)?;
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for (value, zone) in &zones {
        if zone.first_return < zone.last_invoked {
            forward.push((zone.first_return, zone.last_invoked, *value));
        } else {
            backward.push((zone.last_invoked, zone.first_return, *value));
        }
    }
    forward.sort_unstable();
    for pair in forward.windows(2) {
        let ((_, end, value), (start, _, other)) = (&pair[0], &pair[1]);
        if start < end {
            let place = format!("{value:?} until {end}, and {other:?} from {start}");
            return broken("one value at a time holds a register", place);
        }
    }
    for (start, end, value) in backward {
        // The only forward zone that may hold it is the last that begins before it.
        let after = forward.partition_point(|(first, ..)| *first < start);
        let around = after.checked_sub(1).and_then(|at| forward.get(at));
        if let Some((first, last, other)) = around
            && *last > end
        {
            let place = format!("{value:?} within {other:?}, from {first} to {last}");
            return broken("one value at a time holds a register", place);
        }
    }
    Ok(())
}

fn zones<V: Ord + Debug>(accesses: &[Access<V>]) -> Result<BTreeMap<Option<&V>, Zone>, Violation> {
    let mut zones: BTreeMap<Option<&V>, Zone> = BTreeMap::new();
    // Nothing was there before anybody asked.
    let beginning = Zone {
        first_return: 0,
        last_invoked: 0,
        written: 0,
    };
    zones.insert(None, beginning);
    for write in accesses.iter().filter(|one| one.is_write) {
        let zone = Zone {
            first_return: write.returned.unwrap_or(u64::MAX),
            last_invoked: write.invoked,
            written: write.invoked,
        };
        if zones.insert(write.value.as_ref(), zone).is_some() {
            let place = format!("{:?}", write.value);
            return broken("a value is written once", place);
        }
    }
    for read in accesses.iter().filter(|one| !one.is_write) {
        let Some(returned) = read.returned else {
            continue;
        };
        let Some(zone) = zones.get_mut(&read.value.as_ref()) else {
            return broken("what is read was written", format!("{:?}", read.value));
        };
        if returned < zone.written {
            let place = format!("{:?}, returned at {returned}", read.value);
            return broken("nobody reads the future", place);
        }
        zone.first_return = zone.first_return.min(returned);
        zone.last_invoked = zone.last_invoked.max(read.invoked);
    }
    // Who was never answered and never read may not have happened.
    zones.retain(|_, zone| zone.first_return < u64::MAX);
    Ok(zones)
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}
