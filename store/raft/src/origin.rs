//! Commands from where they came in: which were applied (I18), and which still wait.
//!
//! The windows are replicated state: every replica at one applied op holds the same. The
//! outbox is this node's own: what its clients asked for in this run and has not been applied.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use holm_base::{NodeId, RequestId, Time};

use crate::message::{Command, Flags, HEADER_WEIGHT, Origin};

/// Which commands of each node were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows {
    nodes: BTreeMap<NodeId, Window>,
}

/// The newest run of one node, and its last sequences.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Window {
    boot: u64,
    highest: u64,
    /// One bit a sequence, by its remainder.
    bits: Vec<u64>,
}

impl Windows {
    /// Nothing was applied yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
        }
    }

    /// Marks a command as applied; false if it was, is of an earlier run, or is so old that it
    /// counts as applied (I18).
    pub fn admit(&mut self, origin: Origin, sequence: u64, size: u64) -> bool {
        let words = usize::try_from(size / 64).expect("a window fits in memory");
        let fresh = || Window {
            boot: origin.boot,
            highest: 0,
            bits: alloc::vec![0; words],
        };
        let window = self.nodes.entry(origin.node).or_insert_with(fresh);
        if origin.boot > window.boot {
            *window = fresh();
        }
        if !window.is_fresh(origin.boot, sequence, size) {
            return false;
        }
        // One of another size came with a snapshot: what it does not know counts as applied.
        window.bits.resize(words, u64::MAX);
        window.mark(sequence, size);
        true
    }

    /// Whether [`Windows::admit`] would say yes.
    #[must_use]
    pub fn is_fresh(&self, origin: Origin, sequence: u64, size: u64) -> bool {
        match self.nodes.get(&origin.node) {
            None => sequence > 0,
            Some(window) if origin.boot > window.boot => sequence > 0,
            Some(window) => window.is_fresh(origin.boot, sequence, size),
        }
    }

    /// Forgets nodes that left; they never come back under the same id (I14).
    pub(crate) fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_member(*node));
    }

    /// Each node's run, highest sequence and bits, for the wire.
    pub fn parts(&self) -> impl Iterator<Item = (Origin, u64, &[u64])> + '_ {
        self.nodes.iter().map(|(&node, window)| {
            let origin = Origin {
                node,
                boot: window.boot,
            };
            (origin, window.highest, window.bits.as_slice())
        })
    }

    /// Puts back what [`Windows::parts`] gave.
    pub fn restore(&mut self, origin: Origin, highest: u64, bits: Vec<u64>) {
        let window = Window {
            boot: origin.boot,
            highest,
            bits,
        };
        self.nodes.insert(origin.node, window);
    }
}

impl Window {
    fn is_fresh(&self, boot: u64, sequence: u64, size: u64) -> bool {
        if boot != self.boot || sequence == 0 || sequence.saturating_add(size) <= self.highest {
            return false;
        }
        sequence > self.highest || !self.holds(sequence, size)
    }

    fn holds(&self, sequence: u64, size: u64) -> bool {
        let (word, bit) = place(sequence, size);
        self.bits.get(word).is_none_or(|bits| bits & bit != 0)
    }

    fn mark(&mut self, sequence: u64, size: u64) {
        if sequence > self.highest {
            let jump = sequence - self.highest;
            if jump >= size {
                self.bits.fill(0);
            } else {
                for skipped in self.highest + 1..=sequence {
                    let (word, bit) = place(skipped, size);
                    self.bits[word] &= !bit;
                }
            }
            self.highest = sequence;
        }
        let (word, bit) = place(sequence, size);
        self.bits[word] |= bit;
    }
}

fn place(sequence: u64, size: u64) -> (usize, u64) {
    let at = sequence % size;
    let word = usize::try_from(at / 64).expect("a window fits in memory");
    (word, 1 << (at % 64))
}

/// A command of this run that was not applied yet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    request: RequestId,
    body: Bytes,
    /// When it came in; never before the one in front of it.
    asked: Time,
    /// When it went to a leader, if it did.
    sent: Option<Time>,
}

/// What clients of this node wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outbox {
    origin: Origin,
    /// The sequence of the first place in `pending`.
    first: u64,
    /// By sequence; applied ones are `None` until they reach the front.
    pending: VecDeque<Option<Pending>>,
    count: usize,
    bytes: u64,
    /// No command below this sequence waits to be sent.
    unsent: u64,
}

impl Outbox {
    pub(crate) const fn new(origin: Origin) -> Self {
        Self {
            origin,
            first: 1,
            pending: VecDeque::new(),
            count: 0,
            bytes: 0,
            unsent: 1,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Sequences from the oldest that waits to the newest.
    pub(crate) fn span(&self) -> usize {
        self.pending.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn end(&self) -> u64 {
        self.first + self.pending.len() as u64
    }

    /// Gives the next sequence to a request.
    pub(crate) fn push(&mut self, now: Time, request: RequestId, body: Bytes) {
        self.bytes += weight(&body);
        self.count += 1;
        self.pending.push_back(Some(Pending {
            request,
            body,
            asked: now,
            sent: None,
        }));
    }

    /// Takes commands that wait to be sent, until one of the limits is reached.
    pub(crate) fn take_unsent(
        &mut self,
        now: Time,
        bytes_max: u64,
        count_max: usize,
    ) -> Vec<Command> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while self.unsent < self.end() && taken.len() < count_max && bytes < bytes_max {
            let sequence = self.unsent;
            self.unsent += 1;
            let (origin, at) = (self.origin, self.index(sequence));
            let Some(pending) = at.and_then(|at| self.pending[at].as_mut()) else {
                continue;
            };
            if pending.sent.is_none() {
                pending.sent = Some(now);
                bytes += weight(&pending.body);
                taken.push(Command {
                    origin,
                    sequence,
                    flags: Flags {
                        is_numbered: true,
                        is_origin_counted: false,
                    },
                    body: pending.body.clone(),
                });
            }
        }
        taken
    }

    /// A sequence was applied: who waits for it?
    pub(crate) fn take(&mut self, sequence: u64) -> Option<RequestId> {
        let at = self.index(sequence)?;
        let pending = self.pending.get_mut(at)?.take()?;
        self.count -= 1;
        self.bytes -= weight(&pending.body);
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        self.unsent = self.unsent.max(self.first);
        Some(pending.request)
    }

    /// Lets everything sent before `limit` go out again; `None` means everything.
    pub(crate) fn resend(&mut self, limit: Option<Time>) {
        for (at, slot) in self.pending.iter_mut().enumerate() {
            let Some(pending) = slot else { continue };
            let is_late = limit.is_none_or(|limit| pending.sent.is_some_and(|sent| sent <= limit));
            if is_late {
                pending.sent = None;
                self.unsent = self.unsent.min(self.first + at as u64);
            }
        }
    }

    /// When the oldest that waits came in.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.pending.iter().flatten().next().map(|it| it.asked)
    }

    /// Takes the oldest that waits if it came in at `limit` or before. What was never sent is
    /// gone then; what was sent may still be applied, and nobody waits for it.
    pub(crate) fn take_late(&mut self, limit: Time) -> Option<RequestId> {
        let (at, pending) = self
            .pending
            .iter()
            .enumerate()
            .find_map(|(at, slot)| slot.as_ref().map(|pending| (at, pending)))?;
        if pending.asked > limit {
            return None;
        }
        self.take(self.first + at as u64)
    }

    /// All sequences that wait, oldest first.
    pub(crate) fn sequences(&self) -> Vec<u64> {
        let waits =
            |(at, slot): (usize, &Option<Pending>)| slot.as_ref().map(|_| self.first + at as u64);
        self.pending.iter().enumerate().filter_map(waits).collect()
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        usize::try_from(sequence.checked_sub(self.first)?).ok()
    }
}

fn weight(body: &Bytes) -> u64 {
    body.len() as u64 + HEADER_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        node: NodeId::new(1),
        boot: 3,
    };

    #[test]
    fn a_sequence_is_admitted_once_in_any_order() {
        let mut windows = Windows::new();
        for sequence in [3, 1, 2, 70, 69, 130] {
            assert!(windows.admit(ORIGIN, sequence, 128), "{sequence}");
            assert!(!windows.admit(ORIGIN, sequence, 128), "{sequence}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_counts_as_applied() {
        let mut windows = Windows::new();
        assert!(windows.admit(ORIGIN, 200, 64));
        assert!(!windows.admit(ORIGIN, 136, 64));
        assert!(windows.admit(ORIGIN, 137, 64));
        assert!(windows.admit(ORIGIN, 300, 64));
        assert!(!windows.is_fresh(ORIGIN, 200, 64));
        assert!(windows.is_fresh(ORIGIN, 264, 64));
    }

    #[test]
    fn a_later_run_begins_anew_and_an_earlier_one_is_over() {
        let mut windows = Windows::new();
        let later = Origin { boot: 4, ..ORIGIN };
        assert!(windows.admit(ORIGIN, 1, 64));
        assert!(windows.admit(later, 1, 64));
        assert!(!windows.admit(ORIGIN, 2, 64));
        assert!(!windows.admit(later, 0, 64));
    }
}
