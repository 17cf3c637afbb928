//! Reading history for watchers that the ring has left behind.
//!
//! What would surprise: one slice serves many watchers of a stream at once, each from its own
//! cursor. Versions before are looked up in the same pinned root, so a compaction that happens
//! meanwhile changes nothing. What a slice holds for its watchers is bounded apart from what it
//! reads, for all of it may be wanted, by each of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_base::Revision;

use super::event::encode;
use super::watcher::Wants;
use crate::error::StoreError;
use crate::range::KeyRange;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::root::{Change, Root};

/// How many revisions one slice covers at most.
const REVISIONS_MAX: usize = 1_000;

/// How many watchers share a slice.
pub(super) const LAGS_MAX: usize = 256;

/// A watcher that has fallen behind, and what was read for it.
#[derive(Debug)]
pub(super) struct Lag {
    pub(super) slot: u32,
    pub(super) serial: u64,
    pub(super) from: Revision,
    pub(super) range: KeyRange,
    pub(super) wants: Wants,
    pub(super) events: Vec<Bytes>,
    pub(super) last: Revision,
}

/// A piece of history and the watchers it is read for.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) lags: Vec<Lag>,
    /// Everything below was read.
    pub(super) reached: Revision,
    /// Why reading failed.
    pub(super) failure: Option<Refusal>,
    singles: BTreeMap<Bytes, Vec<usize>>,
    ranges: Vec<usize>,
    /// What the events read so far take.
    held_bytes: usize,
}

impl Slice {
    pub(super) fn new(lags: Vec<Lag>) -> Self {
        let (mut singles, mut ranges) = (BTreeMap::<Bytes, Vec<usize>>::new(), Vec::new());
        for (at, lag) in lags.iter().enumerate() {
            match &lag.range {
                KeyRange::One(key) => singles.entry(key.clone()).or_default().push(at),
                KeyRange::Between(..) | KeyRange::From(_) => ranges.push(at),
            }
        }
        Self {
            lags,
            reached: Revision::ZERO,
            failure: None,
            singles,
            ranges,
            held_bytes: 0,
        }
    }

    /// Reads from the lowest cursor on. Blocks for about `bytes_max` bytes of history, and stops
    /// behind the revision that brings what is held for the watchers to `held_max`.
    pub(super) fn read(&mut self, root: &Root, bytes_max: usize, held_max: usize) {
        let lowest = self.lags.iter().map(|it| it.from).min();
        let from = lowest.unwrap_or_else(|| root.revision().next());
        self.reached = from;
        if from > root.revision() {
            return;
        }
        let upto = root.revision();
        let mut failed = None;
        let most = (bytes_max, REVISIONS_MAX);
        let read = root.changes_while(from, upto, most, &mut |change| {
            if let Err(error) = self.take(root, &change) {
                failed.get_or_insert(error);
            }
            if self.held_bytes < held_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        match (read, failed) {
            (Ok(reached), None) => self.reached = reached,
            (Err(error), _) | (Ok(_), Some(error)) => self.failure = Some(error.into()),
        }
    }

    fn take(&mut self, root: &Root, change: &Change) -> Result<(), StoreError> {
        let (mut bare, mut full) = (None, None);
        let singles = self.singles.get(&change.key).into_iter().flatten();
        for &at in singles.chain(&self.ranges) {
            let lag = &mut self.lags[at];
            let is_wanted = lag.from <= change.main
                && lag.wants.includes(change.kind)
                && lag.range.contains(&change.key);
            if !is_wanted {
                continue;
            }
            let form = if lag.wants.previous {
                &mut full
            } else {
                &mut bare
            };
            let event = match form {
                Some(event) => event,
                None => {
                    let previous = if lag.wants.previous {
                        before(root, change)?
                    } else {
                        None
                    };
                    let event = encode(change.kind, &change.record, previous.as_ref());
                    self.held_bytes += event.len();
                    form.insert(event)
                }
            };
            self.held_bytes += size_of::<Bytes>();
            lag.events.push(event.clone());
            lag.last = change.main;
        }
        Ok(())
    }
}

/// The version at the revision before a change; none if that was compacted.
fn before(root: &Root, change: &Change) -> Result<Option<Record>, StoreError> {
    let at = Revision::new(change.main.value() - 1);
    if at < root.compacted() || at < Revision::new(1) {
        return Ok(None);
    }
    root.get_at(&change.key, at)
        .map(|meta| root.read(&meta))
        .transpose()
}
