//! Which ranges hold a key: a static interval tree, and a short list of what came since.
//!
//! What would surprise: the tree is an array. The node of a slice is its middle, and knows the
//! highest end within the slice. Adding rebuilds it only when an eighth is new, removing only
//! when half is gone, so both cost O(log n) on average and asking O(log n + hits).

use bytes::Bytes;

use crate::range::KeyRange;

/// New ranges that are searched one by one before the tree is built anew.
const RECENT_MIN: usize = 32;

#[derive(Clone, Debug)]
struct Item {
    first: Bytes,
    /// Without one, the range is open.
    end: Option<Bytes>,
    group: u32,
    is_gone: bool,
    /// The highest end in the slice whose middle this is.
    highest: Option<Bytes>,
}

/// Intervals of keys, each with a number.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    sorted: Vec<Item>,
    recent: Vec<Item>,
    gone: usize,
}

impl Ranges {
    /// Adds a range that is not in yet.
    pub(super) fn add(&mut self, range: &KeyRange, group: u32) {
        let (first, end) = bounds(range);
        self.recent.push(Item {
            first,
            highest: end.clone(),
            end,
            group,
            is_gone: false,
        });
        if self.recent.len() > RECENT_MIN + self.sorted.len() / 8 {
            self.rebuild();
        }
    }

    /// Removes a range.
    pub(super) fn remove(&mut self, range: &KeyRange) {
        let (first, end) = bounds(range);
        let is_it = |it: &Item| !it.is_gone && it.first == first && it.end == end;
        if let Some(at) = self.recent.iter().position(is_it) {
            self.recent.swap_remove(at);
            return;
        }
        let from = self.sorted.partition_point(|it| it.first < first);
        let same = self.sorted[from..].iter_mut();
        let mut same = same.take_while(|it| it.first == first);
        if let Some(item) = same.find(|it| is_it(it)) {
            item.is_gone = true;
            self.gone += 1;
        }
        if self.gone * 2 > self.sorted.len() {
            self.rebuild();
        }
    }

    /// Visits the numbers of all ranges that hold `key`.
    pub(super) fn each(&self, key: &[u8], each: &mut dyn FnMut(u32)) {
        visit(&self.sorted, key, each);
        for item in &self.recent {
            if item.first.as_ref() <= key && is_below(key, item.end.as_ref()) {
                each(item.group);
            }
        }
    }

    fn rebuild(&mut self) {
        self.sorted.append(&mut self.recent);
        self.sorted.retain(|it| !it.is_gone);
        self.sorted
            .sort_by(|left, right| left.first.cmp(&right.first));
        self.gone = 0;
        raise(&mut self.sorted);
    }
}

fn bounds(range: &KeyRange) -> (Bytes, Option<Bytes>) {
    match range {
        KeyRange::One(key) => (key.clone(), Some(key.clone())),
        KeyRange::Between(first, end) => (first.clone(), Some(end.clone())),
        KeyRange::From(first) => (first.clone(), None),
    }
}

fn is_below(key: &[u8], end: Option<&Bytes>) -> bool {
    end.is_none_or(|end| key < end.as_ref())
}

/// Works out the highest end of each slice; gives that of the whole.
fn raise(items: &mut [Item]) -> Option<Option<Bytes>> {
    if items.is_empty() {
        return None;
    }
    let middle = items.len() / 2;
    let (left, rest) = items.split_at_mut(middle);
    let (node, right) = rest.split_first_mut()?;
    let mut highest = node.end.clone();
    for below in [raise(left), raise(right)].into_iter().flatten() {
        let is_higher = match (&below, &highest) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(below), Some(highest)) => below > highest,
        };
        if is_higher {
            highest = below;
        }
    }
    node.highest.clone_from(&highest);
    Some(highest)
}

fn visit(items: &[Item], key: &[u8], each: &mut dyn FnMut(u32)) {
    let Some(node) = items.get(items.len() / 2) else {
        return;
    };
    if !is_below(key, node.highest.as_ref()) {
        return;
    }
    let (left, rest) = items.split_at(items.len() / 2);
    visit(left, key, each);
    if node.first.as_ref() > key {
        return;
    }
    if !node.is_gone && is_below(key, node.end.as_ref()) {
        each(node.group);
    }
    visit(&rest[1..], key, each);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u8, end: u8) -> KeyRange {
        let first = Bytes::copy_from_slice(&[first]);
        if end == 0 {
            KeyRange::From(first)
        } else {
            KeyRange::Between(first, Bytes::copy_from_slice(&[end]))
        }
    }

    #[test]
    fn it_finds_what_a_list_finds() {
        arbtest::arbtest(|u| {
            let mut ranges = Ranges::default();
            let mut list: Vec<(KeyRange, u32)> = Vec::new();
            for number in 0..u.int_in_range(0..=300)? {
                if u.ratio(1, 3)? && !list.is_empty() {
                    let at = u.choose_index(list.len())?;
                    let (gone, _) = list.swap_remove(at);
                    ranges.remove(&gone);
                } else {
                    let first = u.int_in_range(0..=30)?;
                    let end = u.int_in_range(0..=31)?;
                    let range = range(first, end);
                    if list.iter().all(|(it, _)| *it != range) {
                        ranges.add(&range, number);
                        list.push((range, number));
                    }
                }
                let key = [u.int_in_range(0..=31)?];
                let mut found = Vec::new();
                ranges.each(&key, &mut |group| found.push(group));
                found.sort_unstable();
                let holds = list.iter().filter(|(it, _)| it.contains(&key));
                let mut expected: Vec<u32> = holds.map(|(_, group)| *group).collect();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
            Ok(())
        });
    }
}
