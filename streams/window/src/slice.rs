//! The partial states of one piece of time: key by aggregate, with a count of rows for each key.
//!
//! Dense slices have a slot for each code. Sparse ones have a slot for each code that came, and
//! find it by an array of the size of all codes, which is made again when it is needed.

use holm_lanes::{Lane, LoadError, Loader, Narrow, Saver, Shape, index, number};

use crate::aggregate::Call;
use crate::state::{Input, Into, State, moved};

const NO_SLOT: u32 = u32::MAX;
/// Fewer slots than this are kept, with rows or without.
const THIN_MIN: usize = 1 << 12;

/// Partial states of one piece of time.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    /// Codes by slot; `None` where slots are codes.
    codes: Option<Vec<u32>>,
    places: Vec<u32>,
    rows: Vec<u64>,
    states: Vec<State>,
}

impl Slice {
    pub(crate) fn new(calls: &[Call], is_dense: bool) -> Self {
        Self {
            codes: (!is_dense).then(Vec::new),
            places: Vec::new(),
            rows: Vec::new(),
            states: calls
                .iter()
                .map(|call| State::new(call.aggregate, call.filter.is_some()))
                .collect(),
        }
    }

    fn resize(&mut self, slots: usize) {
        if slots > self.rows.len() {
            self.rows.resize(slots, 0);
            self.states.iter_mut().for_each(|state| state.resize(slots));
        }
    }

    /// Makes a slot for each of so many codes, where slots are codes.
    fn reach(&mut self, codes: usize) {
        if self.codes.is_none() {
            self.resize(codes);
        }
    }

    /// The slot of each code, made where there is none.
    fn slots(&mut self, codes: &[u32], slots: &mut Vec<u32>) {
        slots.clear();
        let Some(known) = &mut self.codes else {
            slots.extend_from_slice(codes);
            self.reach(bound(codes));
            return;
        };
        if self.places.is_empty() {
            for (slot, code) in known.iter().enumerate() {
                place(&mut self.places, *code, number(slot));
            }
        }
        for code in codes {
            let mut slot = self.places.get(index(*code)).copied().unwrap_or(NO_SLOT);
            if slot == NO_SLOT {
                slot = number(known.len());
                known.push(*code);
                place(&mut self.places, *code, slot);
            }
            slots.push(slot);
        }
        let count = known.len();
        self.resize(count);
    }

    /// Adds rows, given with their codes, in order. All codes are below a bound.
    pub(crate) fn add<'a>(
        &mut self,
        calls: &[Call],
        rows: std::ops::Range<usize>,
        (codes, bound): (&[u32], usize),
        inputs: impl Fn(usize) -> Input<'a>,
    ) {
        let mut slots = Vec::new();
        let slots = if self.codes.is_none() {
            self.reach(bound);
            codes
        } else {
            self.slots(codes, &mut slots);
            &slots
        };
        // A row by itself gains nothing from sums side by side.
        if slots.len() > 1
            && let Some(slot) = only(slots)
        {
            self.add_run(calls, rows, (slots, slot), inputs);
            return;
        }
        for (number, (state, call)) in self.states.iter_mut().zip(calls).enumerate() {
            let slots = (slots, &*self.rows);
            state.add(call.aggregate, rows.clone(), slots, inputs(number));
        }
        count_each(slots, &mut self.rows);
    }

    /// Adds rows of one slot: sums of floats go side by side, for each waits for itself (I5).
    fn add_run<'a>(
        &mut self,
        calls: &[Call],
        rows: std::ops::Range<usize>,
        (slots, slot): (&[u32], usize),
        inputs: impl Fn(usize) -> Input<'a>,
    ) {
        let mut sums: Vec<(&mut f64, &[f64])> = Vec::new();
        let mut singles: Vec<(&mut f64, &[f32])> = Vec::new();
        for (number, (state, call)) in self.states.iter_mut().zip(calls).enumerate() {
            let input = inputs(number);
            let reals = |lane: &&Lane| input.is_dense() && lane.shape() == Shape::Real;
            if let Some(lane) = input.lane.filter(reals)
                && state.plain_sum(slot).is_some()
            {
                let sum = state.plain_sum(slot).expect("it was just there");
                if let Some(Narrow::Singles(values)) = lane.narrow_values() {
                    singles.push((sum, &values[rows.clone()]));
                } else {
                    let values = lane.reals().expect("its shape was just seen");
                    sums.push((sum, &values[rows.clone()]));
                }
                continue;
            }
            if input.is_dense() && state.add_exact_run(slot, rows.clone(), input.lane) {
                continue;
            }
            state.add(call.aggregate, rows.clone(), (slots, &self.rows), input);
        }
        sum_side_by_side(&mut sums);
        sum_side_by_side(&mut singles);
        self.rows[slot] += u64::try_from(slots.len()).expect("a batch is in memory");
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let states: usize = self.states.iter().map(State::bytes).sum();
        let codes = self.codes.as_ref().map_or(0, Vec::len);
        states + 8 * self.rows.len() + 4 * (codes + self.places.len())
    }

    /// Makes a slot without rows.
    pub(crate) fn add_empty(&mut self) {
        self.resize(1);
    }

    /// Forgets how to find slots; what it is for is done.
    pub(crate) fn seal(&mut self) {
        self.places = Vec::new();
    }

    /// The same with some of its aggregates.
    pub(crate) fn pick(&self, picked: &[usize]) -> Self {
        Self {
            codes: self.codes.clone(),
            places: Vec::new(),
            rows: self.rows.clone(),
            states: picked.iter().map(|at| self.states[*at].clone()).collect(),
        }
    }

    /// Whether it has no slots.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many slots have rows.
    pub(crate) fn live(&self) -> usize {
        self.rows.iter().filter(|rows| **rows > 0).count()
    }

    /// Adds another slice.
    pub(crate) fn merge(&mut self, calls: &[Call], other: &Self) {
        self.with_places(other, |ours, into| {
            let states = ours.states.iter_mut().zip(&other.states).zip(calls);
            for ((state, theirs), call) in states {
                state.merge(call.aggregate, into, (&ours.rows, &other.rows), theirs);
            }
            match into {
                Into::Same(_) => {
                    let pairs = ours.rows.iter_mut().zip(&other.rows);
                    pairs.for_each(|(ours, theirs)| *ours = ours.wrapping_add(*theirs));
                }
                Into::At(_) => into
                    .pairs()
                    .for_each(|(from, to)| ours.rows[to] += other.rows[from]),
            }
        });
    }

    /// Takes another slice away, which was added before.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.with_places(other, |ours, into| {
            for (state, theirs) in ours.states.iter_mut().zip(&other.states) {
                state.subtract(into, (&ours.rows, &other.rows), theirs);
            }
            into.pairs()
                .for_each(|(from, to)| ours.rows[to] -= other.rows[from]);
        });
        self.thin_out();
    }

    /// Does something with the places of another slice's slots in ours, made where there are none.
    fn with_places(&mut self, other: &Self, act: impl FnOnce(&mut Self, &Into<'_>)) {
        let slots = other.rows.len();
        match &other.codes {
            Some(codes) if self.codes.is_none() => {
                self.reach(bound(codes));
                act(self, &Into::At(codes));
            }
            Some(codes) => {
                let mut into = Vec::new();
                self.slots(codes, &mut into);
                act(self, &Into::At(&into));
            }
            None => {
                self.spread();
                self.resize(slots);
                act(self, &Into::Same(slots));
            }
        }
    }

    /// Makes slots the codes.
    fn spread(&mut self) {
        let Some(codes) = self.codes.take() else {
            return;
        };
        self.places = Vec::new();
        self.relocate(bound(&codes), &codes);
    }

    /// Lets go of slots without rows when there are too many of them.
    fn thin_out(&mut self) {
        let Some(codes) = &self.codes else {
            return;
        };
        if codes.len() < THIN_MIN || self.live() * 2 > codes.len() {
            return;
        }
        let present = self.present();
        let mut places = vec![NO_SLOT; self.rows.len()];
        for (to, (_, from)) in present.iter().enumerate() {
            places[*from] = number(to);
        }
        self.codes = Some(present.iter().map(|(code, _)| *code).collect());
        self.places = Vec::new();
        self.relocate(present.len(), &places);
    }

    /// Moves each slot to another one of so many; those without a place have no rows.
    fn relocate(&mut self, slots: usize, places: &[u32]) {
        moved(&mut self.rows, slots, places);
        for state in &mut self.states {
            state.relocate(slots, places);
        }
    }

    /// Hands out the codes that have rows, in no order.
    pub(crate) fn each_present(&self, mut out: impl FnMut(u32)) {
        let slots = (0..).zip(&self.rows).filter(|(_, rows)| **rows > 0);
        match &self.codes {
            None => slots.for_each(|(slot, _)| out(slot)),
            Some(codes) => slots.for_each(|(slot, _)| out(codes[index(slot)])),
        }
    }

    /// The slots that have rows, in the order of their codes.
    pub(crate) fn present(&self) -> Vec<(u32, usize)> {
        let live = |slot: &usize| self.rows[*slot] > 0;
        let slots = (0..self.rows.len()).filter(live);
        match &self.codes {
            None => slots.map(|slot| (number(slot), slot)).collect(),
            // Where most codes have a slot, a walk over all codes costs less than a sort.
            Some(codes) if self.places.len() / 16 < codes.len() && !self.places.is_empty() => {
                let places = (0..).zip(&self.places);
                let known = places.filter(|(_, slot)| **slot != NO_SLOT);
                let known = known.map(|(code, slot)| (code, index(*slot)));
                known.filter(|(_, slot)| live(slot)).collect()
            }
            Some(codes) => {
                let mut found: Vec<(u32, usize)> = slots.map(|slot| (codes[slot], slot)).collect();
                found.sort_unstable();
                found
            }
        }
    }

    pub(crate) fn rows(&self) -> &[u64] {
        &self.rows
    }

    pub(crate) fn states(&self) -> &[State] {
        &self.states
    }
}

/// No code of these is as large.
fn bound(codes: &[u32]) -> usize {
    codes.iter().max().map_or(0, |code| index(*code) + 1)
}

/// Counts the rows of each slot. Of few slots each has four counters in turn: rows of one slot
/// that follow one another do not wait for one another.
fn count_each(slots: &[u32], counts: &mut [u64]) {
    const FEW: usize = 64;
    if counts.len() > FEW || slots.len() < 4 * FEW {
        slots.iter().for_each(|slot| counts[index(*slot)] += 1);
        return;
    }
    let mut turns = [[0_u64; FEW]; 4];
    let (fours, rest) = slots.as_chunks::<4>();
    for four in fours {
        for (turn, slot) in turns.iter_mut().zip(four) {
            let count = &mut turn[index(*slot) % FEW];
            *count = count.wrapping_add(1);
        }
    }
    for turn in turns {
        let pairs = counts.iter_mut().zip(turn);
        pairs.for_each(|(count, more)| *count += more);
    }
    rest.iter().for_each(|slot| counts[index(*slot)] += 1);
}

/// The slot of all rows, if they have one.
fn only(slots: &[u32]) -> Option<usize> {
    let first = *slots.first()?;
    let few = slots.len().min(16);
    let differ = |slots: &[u32]| slots.iter().fold(0, |differ, slot| differ | (slot ^ first)) != 0;
    (!differ(&slots[..few]) && !differ(slots)).then(|| index(first))
}

/// Adds each run of values to its sum, one after the other within a run.
fn sum_side_by_side<V: Copy + std::convert::Into<f64>>(sums: &mut [(&mut f64, &[V])]) {
    let wide = |value: &V| -> f64 { (*value).into() };
    for four in sums.chunks_mut(4) {
        match four {
            [a, b, c, d] => {
                let mut sum = [*a.0, *b.0, *c.0, *d.0];
                let (left, right) = (a.1.iter().zip(b.1), c.1.iter().zip(d.1));
                for ((a, b), (c, d)) in left.zip(right) {
                    let more = [wide(a), wide(b), wide(c), wide(d)];
                    sum = [
                        sum[0] + more[0],
                        sum[1] + more[1],
                        sum[2] + more[2],
                        sum[3] + more[3],
                    ];
                }
                (*a.0, *b.0, *c.0, *d.0) = (sum[0], sum[1], sum[2], sum[3]);
            }
            [a, b, c] => {
                let mut sum = [*a.0, *b.0, *c.0];
                for ((a, b), c) in a.1.iter().zip(b.1).zip(c.1) {
                    sum = [sum[0] + wide(a), sum[1] + wide(b), sum[2] + wide(c)];
                }
                (*a.0, *b.0, *c.0) = (sum[0], sum[1], sum[2]);
            }
            [a, b] => {
                let mut sum = [*a.0, *b.0];
                for (a, b) in a.1.iter().zip(b.1) {
                    sum = [sum[0] + wide(a), sum[1] + wide(b)];
                }
                (*a.0, *b.0) = (sum[0], sum[1]);
            }
            few => few.iter_mut().for_each(|(sum, values)| {
                **sum = values.iter().fold(**sum, |sum, value| sum + wide(value));
            }),
        }
    }
}

fn place(places: &mut Vec<u32>, code: u32, slot: u32) {
    if places.len() <= index(code) {
        places.resize(index(code) + 1, NO_SLOT);
    }
    places[index(code)] = slot;
}

/// State as bytes, and back.
impl Slice {
    pub(crate) fn save(&self, to: &mut Saver) {
        to.truth(self.codes.is_some());
        to.count(self.rows.len());
        self.rows.iter().for_each(|rows| to.word(*rows));
        self.codes.iter().flatten().for_each(|code| to.small(*code));
        self.states
            .iter()
            .for_each(|state| state.save(&self.rows, to));
    }

    pub(crate) fn load(calls: &[Call], from: &mut Loader<'_>) -> Result<Self, LoadError> {
        let is_sparse = from.truth()?;
        let mut slice = Self::new(calls, !is_sparse);
        let slots = from.count(8)?;
        slice.rows = from.many(slots, Loader::word)?;
        if is_sparse {
            slice.codes = Some(from.many(slots, Loader::small)?);
        }
        for state in &mut slice.states {
            state.load(&slice.rows, from)?;
        }
        Ok(slice)
    }
}
