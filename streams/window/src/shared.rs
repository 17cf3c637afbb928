//! Windows of several queries over one set of panes: each row is coded and added up once.
//!
//! Queries that read the same rows, by the same key, differ in their windows and aggregates. Their
//! panes are one grid, fine enough for all of them; a pane holds each aggregate that any of them
//! wants, once. What each keeps for itself is an assembler over its own aggregates, and which
//! window it closes next. A query alone is the same with one member.
//!
//! A sum of floats depends on where panes end, to the last bit: a query that has one shares only
//! if its panes stay as long as they were. So what comes out is what each alone would give.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use holm_lanes::{
    Batch, Fault, Keys, LoadError, Loader, Marks, NO_CODE, Saver, Shape, index, number,
};

use crate::aggregate::Call;
use crate::assembler::{Assembler, Cost, Panes, Strategy, load_panes, save_panes};
use crate::closed::{Closed, Pushed};
use crate::gauge::Gauge;
use crate::grid::Grid;
use crate::limits::Limits;
use crate::regroup::Regroup;
use crate::rows::{Coder, Rows};
use crate::slice::Slice;

/// A slice may have a slot for each code while this many fit all of its panes.
const DENSE_SLOTS: usize = 1 << 16;

/// What a query wants of rows that others read, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its windows.
    pub grid: Grid,
    /// Its aggregates.
    pub calls: Vec<Call>,
    /// How its panes are put together; the cheapest way if nothing is said.
    pub strategy: Option<Strategy>,
}

/// What a query has for itself.
#[derive(Clone, Debug)]
struct Member {
    grid: Grid,
    calls: Vec<Call>,
    /// Where its aggregates stand among all; `None` if it has all of them.
    picked: Option<Vec<usize>>,
    assembler: Assembler,
    regroup: Option<Regroup>,
    /// The first window that has not closed.
    next: i64,
    /// The first pane of that window: it lets go of those before.
    needed: i64,
}

/// Windows of several queries.
#[derive(Clone, Debug)]
pub struct Shared {
    time: usize,
    coder: Coder,
    /// The aggregates of all members.
    calls: Vec<Call>,
    limits: Limits,
    panes: Panes,
    mark: i64,
    members: Vec<Member>,
}

impl Shared {
    /// Windows of queries over the times of a column, by the columns of a key; `None` if these
    /// queries cannot share panes.
    #[must_use]
    pub fn new(
        time: usize,
        keys: &[(usize, Shape)],
        queries: &[Query],
        limits: Limits,
    ) -> Option<Self> {
        let grids = Self::grids(queries)?;
        let mut calls: Vec<Call> = Vec::new();
        for call in queries.iter().flat_map(|query| &query.calls) {
            if !calls.contains(call) {
                calls.push(call.clone());
            }
        }
        let members = queries.iter().zip(grids);
        let members = members.map(|(query, grid)| Member::new(query, grid, &calls));
        Some(Self {
            time,
            coder: Coder::new(keys, &calls, limits),
            members: members.collect(),
            calls,
            limits,
            panes: BTreeMap::new(),
            mark: Marks::START,
        })
    }

    /// The grids of queries over common panes; `None` if there are none that leave every result
    /// what it is.
    #[must_use]
    pub fn grids(queries: &[Query]) -> Option<Vec<Grid>> {
        let first = queries.first()?.grid;
        let pane = queries.iter().map(|query| query.grid.pane());
        let pane = pane.reduce(crate::grid::gcd)?;
        let grid = |query: &Query| {
            let keeps = query.grid.pane() == pane;
            let is_exact = query.calls.iter().all(|call| call.aggregate.is_exact());
            let finer = query.grid.over(pane, first.origin());
            finer.filter(|_| keeps || is_exact)
        };
        queries.iter().map(grid).collect()
    }

    /// A member by another strategy than the cheapest.
    pub(crate) fn set_strategy(&mut self, member: usize, strategy: Strategy) {
        let member = &mut self.members[member];
        member.assembler = Assembler::new(strategy, &member.calls);
    }

    /// What comes out of a member is counted by parts of the key.
    pub(crate) fn count_by(&mut self, member: usize, parts: &[(usize, Shape)], results: usize) {
        let regroup = Regroup::new(parts, results, self.limits);
        self.members[member].regroup = Some(regroup);
    }

    /// The key of each code that comes out of a member.
    #[must_use]
    pub fn keys_of(&self, member: usize) -> &Keys {
        let groups = self.members[member].regroup.as_ref();
        groups.map_or_else(|| self.coder.keys(), Regroup::groups)
    }

    /// How much it keeps.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        let panes: usize = self.panes.values().map(Slice::bytes).sum();
        let members = self.members.iter().map(|member| {
            let regroup = member.regroup.as_ref().map_or(0, Regroup::bytes);
            member.assembler.bytes() + regroup
        });
        Gauge {
            panes: self.panes.len(),
            keys: self.coder.keys().len(),
            bytes: panes + members.sum::<usize>() + self.coder.bytes(),
        }
    }

    /// Takes a batch, and closes what its watermark passes: what that led to, by member.
    ///
    /// # Panics
    ///
    /// If the column of times holds no times.
    pub fn push(&mut self, batch: &Batch) -> Vec<Pushed> {
        let members = self.members.iter();
        let mut pushed: Vec<Pushed> = members.map(Member::nothing).collect();
        let rows = self
            .coder
            .rows(batch, &self.calls, Some(self.time), &batch.origin);
        match &batch.marks.rows {
            None => self.add_all(&rows, 0..batch.rows, &mut pushed),
            Some(marks) => self.add_marked(&rows, marks, &mut pushed),
        }
        self.advance(batch.marks.after, &mut pushed);
        for pushed in &mut pushed {
            pushed.diverted.sort_by_key(|(row, _)| *row);
            pushed.late.sort_unstable();
        }
        pushed
    }

    /// Adds rows of which some are below the mark that stood before them.
    fn add_marked(&mut self, rows: &Rows<'_>, marks: &[i64], pushed: &mut [Pushed]) {
        let (grid, times) = (self.members[0].grid, rows.times());
        let mut from = marks.partition_point(|mark| *mark == Marks::START);
        self.add_all(rows, 0..from, pushed);
        while from < marks.len() {
            // While the mark is in one pane, those that are due are those before this one.
            let pane = grid.pane_of(marks[from]);
            let (due, end) = (grid.start_of(pane), grid.start_of(pane + 1));
            let run = marks[from..].partition_point(|mark| *mark < end);
            let stretch = from..from + run;
            from += run;
            let late = times[stretch.clone()].iter().filter(|time| **time < due);
            let late = late.count();
            if late > 0 {
                self.advance(due, pushed);
                self.add_stretch(rows, stretch, (due, late), pushed);
            } else {
                self.add_all(rows, stretch, pushed);
            }
        }
    }

    /// Adds rows of which so many are late: their panes are due, which end at one time at most.
    /// No two rows of the two kinds have a pane in common, so each kind is added by itself.
    fn add_stretch(
        &mut self,
        rows: &Rows<'_>,
        stretch: Range<usize>,
        (due, late): (i64, usize),
        pushed: &mut [Pushed],
    ) {
        // Fewer than these are added one by one.
        const FEW: usize = 4;
        let times = rows.times();
        let has_room = self.panes.len() + stretch.len() <= self.limits.panes;
        if late >= FEW && has_room && !self.coder.keys().is_full() {
            let (above, below) = parted(&times[stretch.clone()], stretch.start, (due, late));
            self.add_all(&rows.take(&above), 0..above.len(), pushed);
            self.add_below(rows, &below, pushed);
            return;
        }
        let mut from = stretch.start;
        for row in stretch.clone().filter(|row| times[*row] < due) {
            self.add_all(rows, from..row, pushed);
            self.add_late(rows, row, pushed);
            from = row + 1;
        }
        self.add_all(rows, from..stretch.end, pushed);
    }

    /// Adds rows whose panes are due, none of which is diverted: as [`add_late`](Self::add_late)
    /// one after the other.
    fn add_below(&mut self, rows: &Rows<'_>, below: &[u32], pushed: &mut [Pushed]) {
        let (grid, times) = (self.members[0].grid, rows.times());
        let panes = below.iter().map(|row| grid.pane_of(times[index(*row)]));
        let panes: Vec<i64> = panes.collect();
        let order = in_order(&panes);
        let of = |at: &u32| panes[index(*at)];
        let sorted: Vec<u32> = order.iter().map(|at| below[index(*at)]).collect();
        let gathered = rows.take(&sorted);
        let mut summed = vec![Vec::new(); self.members.len()];
        let mut from = 0;
        for group in order.chunk_by(|a, b| of(a) == of(b)) {
            let (pane, run) = (of(&group[0]), from..from + group.len());
            from = run.end;
            let each = sorted[run.clone()].iter().map(|row| index(*row));
            let wanting = self.wanting(pane, each, pushed);
            for member in &wanting {
                if self.members[*member].assembler.amend(pane) {
                    summed[*member].extend_from_slice(&sorted[run.clone()]);
                }
            }
            self.add_run(&gathered, (pane, run), &wanting, pushed);
        }
        let keys = self.coder.keys().len();
        for (member, mut summed) in self.members.iter_mut().zip(summed) {
            // One sum has all of them, in the order in which they came.
            summed.sort_unstable();
            if !summed.is_empty() {
                let run = 0..summed.len();
                member.add_to_sum((&rows.take(&summed), run), keys);
            }
        }
    }

    /// The members that a pane which is due is not too late for; the others note its rows.
    fn wanting(
        &self,
        pane: i64,
        rows: impl Iterator<Item = usize> + Clone,
        pushed: &mut [Pushed],
    ) -> Vec<usize> {
        let mut wanting = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            if member.wants(pane) {
                wanting.push(number);
            } else if member.has_windows(pane) {
                pushed[number].late.extend(rows.clone());
            }
        }
        wanting
    }

    /// Adds rows none of which is late for any window.
    fn add_all(&mut self, rows: &Rows<'_>, range: Range<usize>, pushed: &mut [Pushed]) {
        let (grid, times) = (self.members[0].grid, rows.times());
        let mut from = range.start;
        let mut members = Vec::with_capacity(self.members.len());
        while from < range.end {
            let pane = grid.pane_of(times[from]);
            let (start, end) = (grid.start_of(pane), grid.start_of(pane + 1));
            let run = run_within(&times[from..range.end], start, end);
            members.clear();
            let wants = |member: &usize| self.members[*member].has_windows(pane);
            members.extend((0..self.members.len()).filter(wants));
            self.add_run(rows, (pane, from..from + run), &members, pushed);
            from += run;
        }
    }

    /// Adds rows of a pane that these members want.
    fn add_run(
        &mut self,
        rows: &Rows<'_>,
        (pane, run): (i64, Range<usize>),
        members: &[usize],
        pushed: &mut [Pushed],
    ) {
        let mut divert = |row: usize, fault: Fault| {
            for member in members {
                pushed[*member].diverted.push((row, fault.clone()));
            }
        };
        if members.is_empty() {
            return;
        }
        if !self.panes.contains_key(&pane) {
            if self.panes.len() >= self.limits.panes {
                let limit = self.limits.panes;
                run.for_each(|row| divert(row, Fault::Panes { limit }));
                return;
            }
            let slice = Slice::new(&self.calls, self.is_dense());
            self.panes.insert(pane, slice);
        }
        let slice = self.panes.get_mut(&pane).expect("it was just made");
        let mine = &rows.codes[run.clone()];
        let keys = self.coder.keys();
        if !keys.is_full() || !mine.contains(&NO_CODE) {
            let mine = (mine, keys.len());
            slice.add(&self.calls, run, mine, |call| rows.input(call));
            return;
        }
        let limit = keys.limit();
        for row in run {
            if rows.codes[row] == NO_CODE {
                divert(row, Fault::Keys { limit });
            } else {
                let code = (&rows.codes[row..=row], keys.len());
                slice.add(&self.calls, row..row + 1, code, |call| rows.input(call));
            }
        }
    }

    /// Whether a new pane has a slot for each code: few do no harm, and many are used if the
    /// pane before used a quarter.
    fn is_dense(&self) -> bool {
        let panes = self.members.iter().map(|member| member.grid.panes()).max();
        let panes = usize::try_from(panes.unwrap_or(0)).unwrap_or(usize::MAX);
        let keys = self.coder.keys().len();
        let slots = keys.saturating_mul(panes.saturating_add(1));
        let before = || self.panes.last_key_value().map_or(0, |(_, it)| it.live());
        slots <= DENSE_SLOTS || before() * 4 >= keys
    }

    /// Adds a row whose pane is due: it counts in those windows that are open (I4).
    fn add_late(&mut self, rows: &Rows<'_>, row: usize, pushed: &mut [Pushed]) {
        let pane = self.members[0].grid.pane_of(rows.times()[row]);
        let wanting = self.wanting(pane, std::iter::once(row), pushed);
        let is_new = !self.panes.contains_key(&pane);
        let has_room = !is_new || self.panes.len() < self.limits.panes;
        if rows.codes[row] != NO_CODE && has_room {
            let keys = self.coder.keys().len();
            for number in &wanting {
                let member = &mut self.members[*number];
                if member.assembler.amend(pane) {
                    member.add_to_sum((rows, row..row + 1), keys);
                }
            }
        }
        self.add_run(rows, (pane, row..row + 1), &wanting, pushed);
    }

    /// Closes the windows that end at or before a mark.
    fn advance(&mut self, mark: i64, pushed: &mut [Pushed]) {
        if mark <= self.mark {
            return;
        }
        self.mark = mark;
        let keys = self.coder.keys();
        for (member, pushed) in self.members.iter_mut().zip(pushed) {
            member.advance(keys, &self.panes, mark, pushed);
        }
        // A pane goes when nobody needs it any more.
        let needed = self.members.iter().map(|member| member.needed).min();
        while let Some(entry) = self.panes.first_entry() {
            if needed.is_none_or(|needed| *entry.key() >= needed) {
                break;
            }
            entry.remove();
        }
    }
}

impl Member {
    fn new(query: &Query, grid: Grid, all: &[Call]) -> Self {
        let place = |call: &Call| all.iter().position(|other| other == call);
        let places = query
            .calls
            .iter()
            .map(|call| place(call).expect("all has each"));
        let picked: Vec<usize> = places.collect();
        let strategy = query
            .strategy
            .unwrap_or_else(|| Cost::of(&grid, &query.calls).cheapest());
        Self {
            grid,
            assembler: Assembler::new(strategy, &query.calls),
            calls: query.calls.clone(),
            picked: (picked.len() != all.len()
                || picked.iter().enumerate().any(|(at, to)| at != *to))
            .then_some(picked),
            regroup: None,
            next: i64::MIN,
            needed: i64::MIN,
        }
    }

    fn nothing(&self) -> Pushed {
        let mut pushed = Pushed::new(&self.calls);
        if let Some(regroup) = &self.regroup {
            pushed.closed = Closed::of_counts(regroup.results());
        }
        pushed
    }

    /// Whether a pane is part of any of its windows.
    const fn has_windows(&self, pane: i64) -> bool {
        self.grid.first_with(pane) <= self.grid.last_with(pane)
    }

    /// Whether a pane is part of any of its windows that are open.
    const fn wants(&self, pane: i64) -> bool {
        self.has_windows(pane) && self.grid.last_with(pane) >= self.next
    }

    /// Adds rows to the sum that their panes were added to before they came.
    fn add_to_sum(&mut self, (rows, run): (&Rows<'_>, Range<usize>), keys: usize) {
        let (calls, picked) = (&self.calls, &self.picked);
        let at = |call: usize| picked.as_ref().map_or(call, |picked| picked[call]);
        if let Some(sum) = self.assembler.sum()
            && !run.is_empty()
        {
            let codes = (&rows.codes[run.clone()], keys);
            sum.add(calls, run, codes, |call| rows.input(at(call)));
        }
    }

    fn advance(&mut self, keys: &Keys, panes: &Panes, mark: i64, pushed: &mut Pushed) {
        let is_end = mark == Marks::END;
        while let Some((pane, _)) = panes.range(self.needed..).next() {
            let window = self.grid.first_with(*pane).max(self.next);
            let end = self.grid.end_of(window);
            if !is_end && end > mark {
                break;
            }
            let range = self.grid.range(window);
            let (calls, start) = (&self.calls, self.grid.start_of(range.0));
            let regroup = &mut self.regroup;
            let out = |slice: &Slice| match regroup {
                Some(regroup) => regroup.add(keys, (start, end), slice, pushed),
                None => pushed.closed.add(calls, (start, end), slice),
            };
            let picked = self.picked.as_deref();
            self.assembler.close(calls, (panes, picked), range, out);
            self.next = window + 1;
            self.let_go(panes);
        }
        if !is_end {
            self.next = self.next.max(self.grid.open_at(mark));
            self.let_go(panes);
        }
    }

    /// Lets go of panes that are part of no open window.
    fn let_go(&mut self, panes: &Panes) {
        let needed = self.grid.range(self.next).0;
        for (number, pane) in panes.range(self.needed..needed.max(self.needed)) {
            self.assembler
                .retire(*number, (pane, self.picked.as_deref()));
        }
        self.needed = self.needed.max(needed);
    }
}

/// A pane as one member sees it.
pub(crate) fn seen<'a>(pane: &'a Slice, picked: Option<&[usize]>) -> Cow<'a, Slice> {
    picked.map_or(Cow::Borrowed(pane), |picked| Cow::Owned(pane.pick(picked)))
}

/// Places in the order of their panes; those of one pane stay in theirs (I5).
fn in_order(panes: &[i64]) -> Vec<u32> {
    const SPAN: i64 = 1 << 12;
    let all = 0..number(panes.len());
    let (least, most) = (panes.iter().min(), panes.iter().max());
    let (Some(least), Some(most)) = (least, most) else {
        return Vec::new();
    };
    if most - least >= SPAN {
        let mut order: Vec<u32> = all.collect();
        order.sort_by_key(|at| panes[index(*at)]);
        return order;
    }
    let place = |pane: &i64| usize::try_from(pane - least).expect("it is no less");
    let mut ends = vec![0; place(most) + 1];
    panes.iter().for_each(|pane| ends[place(pane)] += 1);
    let mut sum = 0;
    for end in &mut ends {
        (sum, *end) = (sum + *end, sum);
    }
    let mut order = vec![0; panes.len()];
    for (at, pane) in all.zip(panes) {
        let end = &mut ends[place(pane)];
        order[*end] = at;
        *end += 1;
    }
    order
}

/// The rows at or above a time, and those below it, which are so many; the first has a number.
fn parted(times: &[i64], first: usize, (due, late): (i64, usize)) -> (Vec<u32>, Vec<u32>) {
    // Each row is written to both, and one of them goes on: no branch waits for the time.
    let mut above = vec![0; times.len() - late + 1];
    let mut below = vec![0; late + 1];
    let (mut above_len, mut below_len) = (0, 0);
    for (row, time) in (number(first)..).zip(times) {
        let is_below = usize::from(*time < due);
        (above[above_len], below[below_len]) = (row, row);
        above_len += 1 - is_below;
        below_len += is_below;
    }
    above.truncate(above_len);
    below.truncate(below_len);
    (above, below)
}

/// How many times from the first on lie in a pane.
fn run_within(times: &[i64], start: i64, end: i64) -> usize {
    const BLOCK: usize = 256;
    let mut run = 0;
    for block in times.chunks(BLOCK) {
        // Of a time outside one of the two differences is below zero, also where it wraps.
        let outside = |time: &i64| time.wrapping_sub(start) | (end - 1).wrapping_sub(*time);
        if block.iter().fold(0, |any, time| any | outside(time)) < 0 {
            return run + block.iter().take_while(|time| outside(time) >= 0).count();
        }
        run += block.len();
    }
    run
}

/// State as bytes, and back.
impl Shared {
    /// Writes all that it holds.
    pub fn save(&self, to: &mut Saver) {
        self.members.iter().for_each(|member| to.int(member.next));
        to.int(self.mark);
        self.coder.save(to);
        save_panes(&self.panes, to);
        for member in &self.members {
            let seen = (&self.panes, member.picked.as_deref());
            let whole = member.assembler.whole(&member.calls, seen, member.needed);
            whole.save(to);
            member.regroup.iter().for_each(|regroup| regroup.save(to));
        }
    }

    /// Takes over what windows of the same queries wrote; these must have seen nothing yet.
    ///
    /// # Errors
    ///
    /// If it is not what was written.
    pub fn load(&mut self, from: &mut Loader<'_>) -> Result<(), LoadError> {
        for member in &mut self.members {
            member.next = from.int()?;
            if member.next != i64::MIN {
                let range = member.grid.checked_range(member.next);
                member.needed = range.ok_or(LoadError::Invalid { what: "window" })?.0;
            }
        }
        self.mark = from.int()?;
        self.coder.load(from)?;
        self.panes = load_panes(&self.calls, from)?;
        for member in &mut self.members {
            member.assembler = Assembler::load(&member.calls, from)?;
            if let Some(regroup) = &mut member.regroup {
                regroup.load(from)?;
            }
        }
        Ok(())
    }
}
