//! The newest events, shared by all watchers and bounded in bytes and revisions.
//!
//! What would surprise: only whole revisions leave. A revision that is larger than the ring
//! leaves at once, and its watchers read it from the store.

use std::collections::VecDeque;

use bytes::Bytes;
use holm_base::Revision;

use super::event::{self, Event, Previous};
use crate::root::ChangeKind;

/// One event, ready to be sent.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) main: Revision,
    pub(super) kind: ChangeKind,
    pub(super) key: Bytes,
    bare: Bytes,
    /// With the version before; missing if that must be looked up.
    full: Option<Bytes>,
}

impl Entry {
    /// Builds the bytes. The key shares them, so that nothing else is kept alive.
    pub(super) fn new(event: &Event) -> Self {
        let bare = event::encode(event.kind, &event.record, None);
        let record = bare.slice(bare.len() - event.record.bytes().len()..);
        let full = match &event.previous {
            Previous::Absent => Some(bare.clone()),
            Previous::Unread => None,
            Previous::Read(it) => Some(event::encode(event.kind, &event.record, Some(it))),
        };
        Self {
            main: event.main,
            kind: event.kind,
            key: find_key(&record, event.key.len()),
            bare,
            full,
        }
    }

    fn bytes(&self) -> usize {
        let full = self.full.as_ref().map_or(0, Bytes::len);
        self.bare.len() + full + size_of::<Self>()
    }

    /// The event as a watcher wants it. `None` if the version before must be looked up.
    pub(super) const fn form(&self, with_previous: bool) -> Option<&Bytes> {
        if with_previous {
            self.full.as_ref()
        } else {
            Some(&self.bare)
        }
    }
}

/// The key at the head of a message: one tag byte, its length, itself.
fn find_key(record: &Bytes, len: usize) -> Bytes {
    let mut at = 2;
    let mut left = len >> 7;
    while left > 0 {
        at += 1;
        left >>= 7;
    }
    record.slice(at..at + len)
}

/// The newest events.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    /// The number of the first entry; numbers are never used twice.
    first: u64,
    /// Every event of this revision and above is here.
    oldest: Revision,
    bytes: usize,
    bytes_max: usize,
    revisions: usize,
    revisions_max: usize,
}

impl Ring {
    pub(super) const fn new(bytes_max: usize, revisions_max: usize, oldest: Revision) -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            oldest,
            bytes: 0,
            bytes_max,
            revisions: 0,
            revisions_max,
        }
    }

    pub(super) const fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The number that comes after the newest.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::try_from(self.entries.len()).expect("a count fits")
    }

    /// Adds an event; its revision is not below the newest.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.back().is_none_or(|it| it.main != entry.main) {
            self.revisions += 1;
        }
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
    }

    /// Lets the oldest revisions go until the rest is within the bounds. Call it once a
    /// revision is whole.
    pub(super) fn trim(&mut self) {
        while self.bytes > self.bytes_max || self.revisions > self.revisions_max {
            let Some(main) = self.entries.front().map(|it| it.main) else {
                return;
            };
            while let Some(entry) = self.entries.pop_front_if(|it| it.main == main) {
                self.first += 1;
                self.bytes -= entry.bytes();
            }
            self.revisions -= 1;
            self.oldest = main.next();
        }
    }

    /// Lets everything go; the next event is of `oldest` or above.
    pub(super) fn clear(&mut self, oldest: Revision) {
        self.first = self.end();
        self.entries.clear();
        self.entries.shrink_to(1024);
        (self.bytes, self.revisions, self.oldest) = (0, 0, oldest);
    }

    /// An entry by its number, which must be in the ring.
    pub(super) fn entry(&self, number: u64) -> &Entry {
        let at = usize::try_from(number - self.first).expect("the ring fits memory");
        &self.entries[at]
    }

    /// The number of the first entry of `main` or above.
    pub(super) fn find(&self, main: Revision) -> u64 {
        let at = self.entries.partition_point(|it| it.main < main);
        self.first + u64::try_from(at).expect("a count fits")
    }
}
