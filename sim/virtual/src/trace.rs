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

/// How many bytes a number takes at most, rounded up.
const LONGEST: usize = 16;

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
    feed: Feed,
    steps: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(report: Report) -> Self {
        Self {
            feed: Feed::new(),
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
        let mut sha = self.feed.sha.clone();
        sha.update(self.feed.gathered());
        sha.finalize().into()
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    #[inline]
    fn begin(&mut self, now: Time, node: NodeId, input: &(impl Hash + Debug)) {
        self.steps += 1;
        (now.nanos(), node.value()).hash(&mut self.feed);
        input.hash(&mut self.feed);
        if let Some(lines) = &mut self.lines {
            let (ms, rest) = (now.nanos() / 1_000_000, now.nanos() % 1_000_000);
            lines.push(format!("{ms}.{rest:06} ms n{node} {input:?}"));
        }
    }

    #[inline]
    fn end(&mut self, effects: &[impl Hash + Debug]) {
        effects.hash(&mut self.feed);
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
    sha: Sha256,
    bytes: Box<[u8; GATHER]>,
    /// How many of them are gathered.
    end: usize,
}

impl Feed {
    fn new() -> Self {
        Self {
            sha: Sha256::new(),
            bytes: Box::new([0; GATHER]),
            end: 0,
        }
    }

    fn gathered(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Hashes what is gathered.
    #[cold]
    fn flush(&mut self) {
        self.sha.update(&self.bytes[..self.end]);
        self.end = 0;
    }

    /// A number, seven bits a byte.
    #[inline]
    fn number(&mut self, value: u64) {
        let end = if self.end > GATHER - LONGEST {
            self.flush();
            0
        } else {
            self.end
        };
        if value < 0x80 {
            self.bytes[end] = value.to_le_bytes()[0];
            self.end = end + 1;
        } else {
            self.end = more(&mut self.bytes, end, value);
        }
    }
}

/// Writes a number of more than seven bits; where it ends.
///
/// Up to eight groups of seven bits are made at once, without a branch for each: halves, quarters and eighths move
/// apart until each group has a byte. All eight bytes are written, and those that are not needed again by whoever comes
/// next.
#[inline(never)]
fn more(bytes: &mut [u8; GATHER], end: usize, value: u64) -> usize {
    if !(1 << 28..1 << 56).contains(&value) {
        return one_by_one(bytes, end, value);
    }
    let halves = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let quarters = halves & 0x0000_3fff_0000_3fff | (halves & 0x0fff_c000_0fff_c000) << 2;
    let groups = quarters & 0x007f_007f_007f_007f | (quarters & 0x3f80_3f80_3f80_3f80) << 1;
    let last = (63 - groups.leading_zeros()) / 8;
    let marks = 0x8080_8080_8080_8080 & ((1 << (8 * last)) - 1);
    bytes[end..end + 8].copy_from_slice(&(groups | marks).to_le_bytes());
    end + 1 + usize::try_from(last).expect("it is below eight")
}

#[inline]
fn one_by_one(bytes: &mut [u8; GATHER], mut end: usize, mut left: u64) -> usize {
    while left >= 0x80 {
        bytes[end] = left.to_le_bytes()[0] | 0x80;
        left >>= 7;
        end += 1;
    }
    bytes[end] = left.to_le_bytes()[0];
    end + 1
}

macro_rules! numbers {
    ($($name:ident $number:ty),*) => {
        $(#[inline]
        fn $name(&mut self, value: $number) {
            self.number(u64::from(value));
        })*
    };
}

macro_rules! signed {
    ($($name:ident $number:ty),*) => {
        $(#[inline]
        fn $name(&mut self, value: $number) {
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

    fn write(&mut self, mut bytes: &[u8]) {
        loop {
            let room = &mut self.bytes[self.end..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.end += now.len();
            bytes = later;
            if bytes.is_empty() {
                return;
            }
            self.flush();
        }
    }

    numbers!(write_u16 u16, write_u32 u32, write_u64 u64);
    signed!(write_i16 i16, write_i32 i32, write_i64 i64);

    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }

    fn write_i128(&mut self, value: i128) {
        self.write(&value.to_le_bytes());
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(u64::try_from(value).expect("a length fits 64 bits"));
    }

    #[inline]
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
    #[inline]
    fn before(&mut self, _: &N, now: Time, input: &N::Input) {
        self.trace.begin(now, self.node, input);
    }

    #[inline]
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
        let mut feed = Feed::new();
        (1_u16, Some(300_usize), "a", -2_i64).hash(&mut feed);
        // A variant is a signed number: 1 is fed as 2.
        let expected = [1, 2, 0xac, 0x02, b'a', 0xff, 3];
        assert_eq!(feed.gathered(), expected);
    }

    fn seven_bits_a_byte(value: u64, into: &mut Vec<u8>) {
        let mut left = value;
        while left >= 0x80 {
            into.push(left.to_le_bytes()[0] | 0x80);
            left >>= 7;
        }
        into.push(left.to_le_bytes()[0]);
    }

    #[test]
    fn every_length_of_number_is_fed_seven_bits_a_byte() {
        for shift in 0..64 {
            for value in [1 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let (mut feed, mut expected) = (Feed::new(), vec![7]);
                feed.write_u8(7);
                feed.write_u64(value);
                seven_bits_a_byte(value, &mut expected);
                assert_eq!(feed.gathered(), expected, "{value}");
            }
        }
    }

    #[test]
    fn the_hash_is_that_of_all_bytes_however_they_are_gathered() {
        let (mut feed, mut expected) = (Feed::new(), Vec::new());
        for round in 0..3_000_u64 {
            let value = round << (round % 57);
            feed.write_u64(value);
            seven_bits_a_byte(value, &mut expected);
            let text = vec![round.to_le_bytes()[0]; usize::try_from(round % 7 * 900).unwrap()];
            if round % 31 == 0 {
                feed.write(&text);
                expected.extend(text);
            }
        }
        feed.flush();
        assert_eq!(feed.sha.finalize(), Sha256::digest(&expected));
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
