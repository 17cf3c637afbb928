//! Watchers by what they watch: all that watch the same keys are one group.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ranges::Ranges;
use crate::range::KeyRange;

/// Watchers of the same keys.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) range: KeyRange,
    /// The watchers' slots.
    pub(super) watchers: Vec<u32>,
    /// How many of them want the version before.
    pub(super) wanting_previous: u32,
}

/// All groups, found by key.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
    by_key: BTreeMap<Bytes, u32>,
    by_range: BTreeMap<KeyRange, u32>,
    ranges: Ranges,
}

impl Groups {
    /// Adds a watcher; gives its group and its place within.
    pub(super) fn add(&mut self, range: &KeyRange, watcher: u32, previous: bool) -> (u32, u32) {
        let number = self.find(range).unwrap_or_else(|| self.found(range));
        let group = self.group_mut(number);
        group.wanting_previous += u32::from(previous);
        group.watchers.push(watcher);
        let place = u32::try_from(group.watchers.len() - 1).expect("watchers are limited");
        (number, place)
    }

    fn find(&self, range: &KeyRange) -> Option<u32> {
        match range {
            KeyRange::One(key) => self.by_key.get(key).copied(),
            KeyRange::Between(..) | KeyRange::From(_) => self.by_range.get(range).copied(),
        }
    }

    fn found(&mut self, range: &KeyRange) -> u32 {
        let group = Some(Group {
            range: range.clone(),
            watchers: Vec::new(),
            wanting_previous: 0,
        });
        let number = if let Some(number) = self.free.pop() {
            self.groups[index(number)] = group;
            number
        } else {
            self.groups.push(group);
            u32::try_from(self.groups.len() - 1).expect("watchers are limited")
        };
        match range {
            KeyRange::One(key) => {
                self.by_key.insert(key.clone(), number);
            }
            KeyRange::Between(..) | KeyRange::From(_) => {
                self.by_range.insert(range.clone(), number);
                self.ranges.add(range, number);
            }
        }
        number
    }

    /// Removes a watcher. The last one of the group takes its place and is given back, so that
    /// it can be told.
    pub(super) fn remove(&mut self, number: u32, place: u32, previous: bool) -> Option<u32> {
        let group = self.group_mut(number);
        group.wanting_previous -= u32::from(previous);
        group.watchers.swap_remove(index(place));
        let moved = group.watchers.get(index(place)).copied();
        if group.watchers.is_empty() {
            let range = group.range.clone();
            self.groups[index(number)] = None;
            self.free.push(number);
            match &range {
                KeyRange::One(key) => {
                    self.by_key.remove(key);
                }
                KeyRange::Between(..) | KeyRange::From(_) => {
                    self.by_range.remove(&range);
                    self.ranges.remove(&range);
                }
            }
        }
        moved
    }

    pub(super) fn group(&self, number: u32) -> &Group {
        let group = self.groups[index(number)].as_ref();
        group.expect("a watcher's group lives as long as it")
    }

    fn group_mut(&mut self, number: u32) -> &mut Group {
        let group = self.groups[index(number)].as_mut();
        group.expect("a watcher's group lives as long as it")
    }

    /// Collects the groups whose range holds `key`. O(log n + groups found).
    pub(super) fn matching(&self, key: &[u8], into: &mut Vec<u32>) {
        into.extend(self.by_key.get(key));
        self.ranges.each(key, &mut |number| into.push(number));
    }

    /// Whether a watcher of `key` wants the version before.
    pub(super) fn wants_previous(&self, key: &[u8]) -> bool {
        let wants = |number: u32| self.group(number).wanting_previous > 0;
        if self.by_key.get(key).is_some_and(|number| wants(*number)) {
            return true;
        }
        let mut any = false;
        self.ranges.each(key, &mut |number| any |= wants(number));
        any
    }
}

pub(super) fn index(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit an index")
}
