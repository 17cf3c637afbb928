//! A peer that takes rows as they are, one at a time, as published row engines for windows do: rows are copied into a
//! ring, a task takes a piece of it and makes *window fragments* (groups of one pane each, in a hash table), and a
//! last stage puts fragments together in order and slides. Sums go along by adding the newest pane and taking the
//! oldest away, floats too, which costs least and which Holm does not do.
//!
//! It exists to be measured: nothing else uses it. Its queries are written by hand, as a compiler of queries would
//! have it, and its rows are compared with Holm's.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use crate::case::{self, Case};
use crate::data::{self, BATCH};
use crate::measure::{Asked, middle, planned, real, rows_in};
use crate::peers::{Rows, difference, ours, whole};

const SECOND: i64 = 1_000_000;
/// Rows that the ring holds, of which a task takes this part.
const TASKS: usize = 4;

/// A query by hand: `N` columns of sums.
struct Query<const N: usize> {
    name: &'static str,
    /// Microseconds of a pane, and panes of a window.
    window: (i64, usize),
    /// The key of a row that counts.
    key: fn(&[u8]) -> Option<u64>,
    values: fn(&[u8]) -> [f64; N],
    /// The results of a group: its key, its sums, how many rows it has.
    out: fn(u64, &[f64; N], u64) -> Option<[f64; 4]>,
    /// How many columns of results there are, and how many of the first columns of a row are keys.
    width: (usize, usize),
    /// Whether only the group with the greatest result comes out.
    is_top: bool,
}

/// Groups by key.
struct Groups<const N: usize> {
    keys: Vec<u64>,
    sums: Vec<[f64; N]>,
    counts: Vec<u64>,
    len: usize,
}

const EMPTY: u64 = u64::MAX;

impl<const N: usize> Groups<N> {
    fn new(slots: usize) -> Self {
        Self {
            keys: vec![EMPTY; slots],
            sums: vec![[0.0; N]; slots],
            counts: vec![0; slots],
            len: 0,
        }
    }

    fn slot(&mut self, key: u64) -> usize {
        loop {
            let mask = self.keys.len() - 1;
            let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let mut slot = usize::try_from(hash).expect("it has 32 bits") & mask;
            while self.keys[slot] != key && self.keys[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            if self.keys[slot] == key {
                return slot;
            }
            if self.len * 2 < self.keys.len() {
                self.keys[slot] = key;
                self.len += 1;
                return slot;
            }
            self.grow();
        }
    }

    fn grow(&mut self) {
        let old = std::mem::replace(self, Self::new(self.keys.len() * 2));
        for (at, key) in old.keys.into_iter().enumerate().filter(|it| it.1 != EMPTY) {
            let slot = self.slot(key);
            (self.sums[slot], self.counts[slot]) = (old.sums[at], old.counts[at]);
        }
    }

    /// Adds other groups, or takes them away.
    fn combine(&mut self, other: &Self, sign: f64) {
        for (at, key) in other.keys.iter().enumerate().filter(|it| *it.1 != EMPTY) {
            let slot = self.slot(*key);
            let pairs = self.sums[slot].iter_mut().zip(&other.sums[at]);
            pairs.for_each(|(sum, more)| *sum += sign * more);
            let count = &mut self.counts[slot];
            *count = if sign > 0.0 {
                *count + other.counts[at]
            } else {
                *count - other.counts[at]
            };
            if *count == 0 {
                // What is left of sums that were taken away is nobody's.
                self.sums[slot] = [0.0; N];
            }
        }
    }

    fn clear(&mut self) {
        self.keys.fill(EMPTY);
        self.sums.fill([0.0; N]);
        self.counts.fill(0);
        self.len = 0;
    }
}

/// What runs a query.
struct Engine<'a, const N: usize> {
    query: &'a Query<N>,
    ring: Vec<u8>,
    next: usize,
    spare: Vec<Groups<N>>,
    /// Panes that a window still has, the newest last; those without rows have none.
    panes: VecDeque<(i64, Groups<N>)>,
    running: Groups<N>,
    /// Where the next window ends.
    end: i64,
    out: Vec<f64>,
    rows: u64,
}

fn word(row: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(*row[at..].first_chunk().expect("eight bytes"))
}

fn int(row: &[u8], at: usize) -> u64 {
    let value = i32::from_le_bytes(*row[at..].first_chunk().expect("four bytes"));
    u64::from(value.cast_unsigned())
}

fn single(row: &[u8], at: usize) -> f64 {
    f64::from(f32::from_le_bytes(
        *row[at..].first_chunk().expect("four bytes"),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "keys and counts are small")]
const fn double(value: u64) -> f64 {
    value as f64
}

impl<'a, const N: usize> Engine<'a, N> {
    fn new(query: &'a Query<N>, row: usize) -> Self {
        Self {
            query,
            ring: vec![0; row * BATCH * TASKS],
            next: 0,
            spare: Vec::new(),
            panes: VecDeque::new(),
            running: Groups::new(64),
            end: i64::MIN,
            out: Vec::new(),
            rows: 0,
        }
    }

    /// A task: rows go into the ring, and from there into fragments.
    fn task(&mut self, rows: &[u8], row: usize) {
        let place = self.next * row * BATCH;
        self.next = (self.next + 1) % TASKS;
        self.ring[place..place + rows.len()].copy_from_slice(rows);
        let ring = std::mem::take(&mut self.ring);
        let (length, _) = self.query.window;
        let mut fragments: Vec<(i64, Groups<N>)> = Vec::new();
        let (mut from, mut to) = (0, 0);
        for row in ring[place..place + rows.len()].chunks_exact(row) {
            let time = word(row, 0);
            if time < from || time >= to {
                from = time.div_euclid(length) * length;
                to = from + length;
                let groups = self.spare.pop().unwrap_or_else(|| Groups::new(64));
                fragments.push((from / length, groups));
            }
            let Some(key) = (self.query.key)(row) else {
                continue;
            };
            let (_, fragment) = fragments.last_mut().expect("one was just begun");
            let slot = fragment.slot(key);
            let values = (self.query.values)(row);
            let pairs = fragment.sums[slot].iter_mut().zip(values);
            pairs.for_each(|(sum, value)| *sum += value);
            fragment.counts[slot] += 1;
        }
        self.ring = ring;
        for (pane, groups) in fragments {
            self.merge(pane, groups);
        }
    }

    /// Puts a fragment where it belongs, and closes the windows that end where it begins.
    fn merge(&mut self, pane: i64, groups: Groups<N>) {
        if let Some((last, open)) = self.panes.back_mut()
            && *last == pane
        {
            open.combine(&groups, 1.0);
            return self.give_back(groups);
        }
        if self.end == i64::MIN {
            self.end = pane + 1;
        }
        while self.end <= pane {
            self.close();
        }
        self.panes.push_back((pane, groups));
    }

    fn give_back(&mut self, mut groups: Groups<N>) {
        groups.clear();
        self.spare.push(groups);
    }

    fn close(&mut self) {
        let (length, count) = self.query.window;
        let from = self.end - i64::try_from(count).expect("small");
        if count == 1 {
            if let Some((_, groups)) = self.panes.pop_front_if(|it| it.0 == from) {
                let running = std::mem::replace(&mut self.running, groups);
                self.emit(from * length);
                let groups = std::mem::replace(&mut self.running, running);
                self.give_back(groups);
            }
            self.end += 1;
            return;
        }
        if let Some((pane, groups)) = self.panes.back()
            && *pane == self.end - 1
        {
            self.running.combine(groups, 1.0);
        }
        self.emit(from * length);
        if let Some((_, groups)) = self.panes.pop_front_if(|it| it.0 == from) {
            self.running.combine(&groups, -1.0);
            self.give_back(groups);
        }
        self.end += 1;
    }

    fn emit(&mut self, start: i64) {
        let start = double(start.cast_unsigned());
        let groups = &self.running;
        let mut best: Option<[f64; 4]> = None;
        let live = groups.counts.iter().enumerate().filter(|it| *it.1 > 0);
        for (slot, count) in live {
            let result = (self.query.out)(groups.keys[slot], &groups.sums[slot], *count);
            let Some(result) = result else {
                continue;
            };
            if self.query.is_top {
                let is_better = |best: &[f64; 4]| {
                    result[1] > best[1] || result[1] >= best[1] && result[0] < best[0]
                };
                if best.as_ref().is_none_or(is_better) {
                    best = Some(result);
                }
                continue;
            }
            self.rows += 1;
            self.out.push(start);
            self.out.extend_from_slice(&result[..self.query.width.0]);
        }
        if let Some(best) = best {
            self.rows += 1;
            self.out.push(start);
            self.out.extend_from_slice(&best[..self.query.width.0]);
        }
    }
}

/// Seconds, and the rows that came out if they are wanted.
fn run<const N: usize>(
    query: &Query<N>,
    case: &Case,
    rows: &data::Rows,
    keep: bool,
) -> (f64, Rows) {
    let mut engine = Engine::new(query, case.row);
    let mut kept = Rows::new();
    let begun = Instant::now();
    for piece in rows.bytes.chunks(case.row * BATCH) {
        engine.task(piece, case.row);
        if keep {
            let each = engine.out.chunks_exact(1 + query.width.0);
            kept.extend(each.map(<[f64]>::to_vec));
        }
        black_box(&engine.out);
        engine.out.clear();
    }
    (begun.elapsed().as_secs_f64(), kept)
}

fn line<const N: usize>(query: &Query<N>, asked: &Asked) -> String {
    if !asked.names.is_empty() && !asked.names.iter().any(|name| name == query.name) {
        return String::new();
    }
    let case = case::all().find(|case| case.name == query.name);
    let case = case.expect("it is one of them");
    let planned = planned(case);
    let rows = data::rows(case, asked.rows);
    let columns = data::columns_read(case, &planned.needed[0], &rows);
    let ends = || columns.iter().filter_map(|batch| batch.lanes[0].ints());
    let first = ends().find_map(|times| times.first().copied());
    let last = ends().filter_map(|times| times.last().copied()).next_back();
    let span = (first.unwrap_or(0), last.unwrap_or(0));
    let (length, panes) = query.window;
    let size = length * i64::try_from(panes).expect("small");
    // One window may be open here and closed there: it ends where the records do.
    let shape = (query.width.1, size + length);
    let right = whole(ours(case, &planned, &columns), shape, span);
    let found = whole(run(query, case, &rows, true).1, shape, span);
    if let Some(what) = difference(&right, &found) {
        return format!("{}: the row engine answers otherwise: {what}\n", query.name);
    }
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..asked.rounds {
        own.push(rows_in(case, &planned, &rows).0);
        theirs.push(run(query, case, &rows, false).0);
    }
    let rate = |times| real(asked.rows) / middle(times, asked.is_best) / 1e6;
    let (own, theirs) = (rate(own), rate(theirs));
    format!(
        "|{}|{own:.1}|{theirs:.1}|{:.2}|{}|\n",
        query.name,
        own / theirs,
        right.len()
    )
}

const fn average(sum: f64, count: u64) -> f64 {
    sum / double(count)
}

fn segment(row: &[u8]) -> u64 {
    let (highway, direction, position) = (int(row, 16), int(row, 24), int(row, 28));
    (highway << 32) | (direction << 24) | (position / 5_280)
}

#[expect(clippy::unnecessary_wraps, reason = "other queries leave groups out")]
const fn sum_of(key: u64, sums: &[f64; 1], _count: u64) -> Option<[f64; 4]> {
    Some([double(key), sums[0], 0.0, 0.0])
}

#[expect(clippy::unnecessary_wraps, reason = "other queries leave groups out")]
const fn count_of(key: u64, _sums: &[f64; 0], count: u64) -> Option<[f64; 4]> {
    Some([double(key), double(count), 0.0, 0.0])
}

const CM1: Query<1> = Query {
    name: "CM1",
    window: (SECOND, 60),
    key: |row| Some(int(row, 40)),
    values: |row| [single(row, 48)],
    out: sum_of,
    width: (2, 2),
    is_top: false,
};

const CM2: Query<1> = Query {
    name: "CM2",
    window: (SECOND, 60),
    key: |row| (int(row, 32) == 1).then(|| word(row, 8).cast_unsigned()),
    values: |row| [single(row, 48)],
    out: sum_of,
    width: (2, 2),
    is_top: false,
};

const SG1: Query<1> = Query {
    name: "SG1",
    window: (SECOND, 3_600),
    key: |_| Some(0),
    values: |row| [single(row, 8)],
    out: |_, sums, count| Some([average(sums[0], count), 0.0, 0.0, 0.0]),
    width: (1, 1),
    is_top: false,
};

const SG2: Query<1> = Query {
    name: "SG2",
    window: (SECOND, 128),
    key: |row| Some((int(row, 16) << 32) | (int(row, 20) << 16) | int(row, 24)),
    values: |row| [single(row, 8)],
    out: |key, sums, count| {
        let part = |shift: u32| double(key >> shift & 0xffff);
        Some([part(32), part(16), part(0), average(sums[0], count)])
    },
    width: (4, 4),
    is_top: false,
};

const LRB1: Query<1> = Query {
    name: "LRB1",
    window: (SECOND, 300),
    key: |row| Some(segment(row)),
    values: |row| [single(row, 12)],
    out: |key, sums, count| {
        let part = |shift: u32, mask: u64| double(key >> shift & mask);
        let speed = average(sums[0], count);
        (speed < 40.0).then(|| [part(32, 0xffff), part(24, 0xff), part(0, 0xff_ffff), speed])
    },
    width: (4, 4),
    is_top: false,
};

const YSB: Query<0> = Query {
    name: "YSB",
    window: (10 * SECOND, 1),
    key: |row| (word(row, 56) == 1).then(|| word(row, 40).cast_unsigned() % 100),
    values: |_| [],
    out: count_of,
    width: (2, 2),
    is_top: false,
};

const NBQ5: Query<0> = Query {
    name: "NBQ5",
    window: (SECOND, 60),
    key: |row| Some(word(row, 16).cast_unsigned()),
    values: |_| [],
    out: count_of,
    width: (2, 1),
    is_top: true,
};

const ME1: Query<3> = Query {
    name: "ME1",
    window: (SECOND, 60),
    key: |_| Some(0),
    values: |row| [single(row, 16), single(row, 20), single(row, 24)],
    out: |_, sums, count| {
        Some([
            average(sums[0], count),
            average(sums[1], count),
            average(sums[2], count),
            0.0,
        ])
    },
    width: (3, 1),
    is_top: false,
};

/// Prints the table.
pub(crate) fn measure(asked: &Asked) -> String {
    let mut text = String::from(
        "|query|Holm, rows in, M/s|row engine, M/s|ratio|equal rows|\n|--|--|--|--|--|\n",
    );
    text += &line(&CM1, asked);
    text += &line(&CM2, asked);
    text += &line(&SG1, asked);
    text += &line(&SG2, asked);
    text += &line(&LRB1, asked);
    text += &line(&YSB, asked);
    text += &line(&NBQ5, asked);
    text += &line(&ME1, asked);
    writeln!(
        text,
        "LRB2 groups what it has grouped, and is not written for it"
    )
    .expect("a string takes all");
    text
}
