//! The identity of a run: SHA-256 over every step's `(now, node, input, effects)`.
//!
//! Equal runs have equal hashes in any process on any machine: numbers are fed as LEB128, seven
//! bits a byte and the lowest first, whatever the platform's own habits are. That says as much as
//! eight bytes each, for a reader would know where each ends, and is a third as long: most are
//! variants, lengths and ids.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use holm_base::{NodeId, Time};
use holm_machine::Recorder;
use sha2::{Digest, Sha256};

use crate::node::Node;

/// How many bytes are gathered before they are hashed.
const GATHER: usize = 4_096;

/// Whether a run is also written down in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A line for each step.
    On,
    /// Only the hash. The run is the same.
    Off,
}

/// The hash of a run so far, and its lines if they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    sha: Sha256,
    feed: Feed,
    steps: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(report: Report) -> Self {
        Self {
            sha: Sha256::new(),
            feed: Feed {
                bytes: Vec::with_capacity(2 * GATHER),
            },
            steps: 0,
            lines: match report {
                Report::On => Some(Vec::new()),
                Report::Off => None,
            },
        }
    }

    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut sha = self.sha.clone();
        sha.update(&self.feed.bytes);
        sha.finalize().into()
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    fn begin(&mut self, now: Time, node: NodeId, input: &(impl Hash + Debug)) {
        self.steps += 1;
        (now.nanos(), node.value()).hash(&mut self.feed);
        input.hash(&mut self.feed);
        if let Some(lines) = &mut self.lines {
            let (ms, rest) = (now.nanos() / 1_000_000, now.nanos() % 1_000_000);
            lines.push(format!("{ms}.{rest:06} ms n{node} {input:?}"));
        }
    }

    fn end(&mut self, effects: &[impl Hash + Debug]) {
        effects.hash(&mut self.feed);
        if self.feed.bytes.len() >= GATHER {
            self.sha.update(&self.feed.bytes);
            self.feed.bytes.clear();
        }
        if let Some(lines) = &mut self.lines {
            for effect in effects {
                lines.push(format!("    {effect:?}"));
            }
        }
    }
}

/// Gathers what a value says of itself when it is asked to be hashed.
#[derive(Clone, Debug)]
struct Feed {
    bytes: Vec<u8>,
}

impl Feed {
    /// A number, seven bits a byte.
    fn number(&mut self, value: u64) {
        let mut left = value;
        while left >= 0x80 {
            self.bytes.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        self.bytes.push(left.to_le_bytes()[0]);
    }
}

macro_rules! numbers {
    ($($name:ident $number:ty),*) => {
        $(fn $name(&mut self, value: $number) {
            self.number(u64::from(value));
        })*
    };
}

macro_rules! signed {
    ($($name:ident $number:ty),*) => {
        $(fn $name(&mut self, value: $number) {
            let value = i64::from(value);
            self.number((value << 1 ^ value >> 63).cast_unsigned());
        })*
    };
}

impl Hasher for Feed {
    /// Nothing reads it: the hash is made of the bytes.
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    numbers!(write_u16 u16, write_u32 u32, write_u64 u64);
    signed!(write_i16 i16, write_i32 i32, write_i64 i64);

    fn write_u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn write_i128(&mut self, value: i128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(u64::try_from(value).expect("a length fits 64 bits"));
    }

    fn write_isize(&mut self, value: isize) {
        self.write_i64(i64::try_from(value).expect("a variant fits 64 bits"));
    }
}

/// Feeds a node's steps to a trace, and asserts the node's invariants after each.
pub(crate) struct Recording<'trace> {
    pub(crate) trace: &'trace mut Trace,
    pub(crate) node: NodeId,
}

impl<N: Node> Recorder<N> for Recording<'_> {
    fn before(&mut self, _: &N, now: Time, input: &N::Input) {
        self.trace.begin(now, self.node, input);
    }

    fn after(&mut self, machine: &N, _: Time, effects: &[N::Effect]) {
        self.trace.end(effects);
        machine.check();
    }
}

/// The first line in which two reports differ, counted from 0, with both lines.
#[must_use]
pub fn first_difference<'a>(
    left: &'a [String],
    right: &'a [String],
) -> Option<(usize, &'a str, &'a str)> {
    let longest = left.len().max(right.len());
    let line = |lines: &'a [String], at: usize| lines.get(at).map_or("(ended)", String::as_str);
    (0..longest)
        .map(|at| (at, line(left, at), line(right, at)))
        .find(|(_, left, right)| left != right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feed_is_the_same_on_every_platform() {
        let mut feed = Feed { bytes: Vec::new() };
        (1_u16, Some(300_usize), "a", -2_i64).hash(&mut feed);
        // A variant is a signed number: 1 is fed as 2.
        let expected = [1, 2, 0xac, 0x02, b'a', 0xff, 3];
        assert_eq!(feed.bytes, expected);
    }

    #[test]
    fn a_difference_is_found_where_it_begins() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (left, right) = (lines("a b c"), lines("a x c"));
        assert_eq!(first_difference(&left, &right), Some((1, "b", "x")));
        assert_eq!(first_difference(&left, &left), None);
        let longer = lines("a b c d");
        assert_eq!(first_difference(&left, &longer), Some((3, "(ended)", "d")));
    }
}
