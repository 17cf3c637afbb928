//! The partial states of one piece of time: key by aggregate, with a count of rows for each key.
//!
//! Dense slices have a slot for each code. Sparse ones have a slot for each code that came, and
//! find it by an array of the size of all codes, which is made again when it is needed.

use holm_lanes::{LoadError, Loader, Saver, index, number};

use crate::aggregate::Call;
use crate::state::{Input, State};

const NO_SLOT: u32 = u32::MAX;

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

    /// The slot of each code, made where there is none.
    fn slots(&mut self, codes: &[u32], slots: &mut Vec<u32>) {
        slots.clear();
        let Some(known) = &mut self.codes else {
            slots.extend_from_slice(codes);
            let most = codes.iter().max().map_or(0, |code| index(*code) + 1);
            self.resize(most);
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

    /// Adds rows, given with their codes, in order.
    pub(crate) fn add<'a>(
        &mut self,
        calls: &[Call],
        rows: std::ops::Range<usize>,
        codes: &[u32],
        inputs: impl Fn(usize) -> Input<'a>,
    ) {
        let mut slots = Vec::new();
        let slots = if self.codes.is_none() {
            let most = codes.iter().max().map_or(0, |code| index(*code) + 1);
            self.resize(most);
            codes
        } else {
            self.slots(codes, &mut slots);
            &slots
        };
        for slot in slots {
            self.rows[index(*slot)] += 1;
        }
        for (number, (state, call)) in self.states.iter_mut().zip(calls).enumerate() {
            state.add(call.aggregate, rows.clone(), slots, inputs(number));
        }
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

    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        if let Some(codes) = &mut self.codes {
            codes.clear();
        }
        self.places.clear();
        self.rows.clear();
        self.states.iter_mut().for_each(|state| state.resize(0));
    }

    /// Forgets how to find slots; what it is for is done.
    pub(crate) fn seal(&mut self) {
        self.places = Vec::new();
    }

    /// Adds another slice.
    pub(crate) fn merge(&mut self, calls: &[Call], other: &Self) {
        let into = self.slots_of(other);
        for (from, to) in into.iter().enumerate() {
            self.rows[index(*to)] += other.rows[from];
        }
        for ((ours, theirs), call) in self.states.iter_mut().zip(&other.states).zip(calls) {
            ours.merge(call.aggregate, &into, theirs);
        }
    }

    /// Takes another slice away, which was added before.
    pub(crate) fn subtract(&mut self, other: &Self) {
        let into = self.slots_of(other);
        for (from, to) in into.iter().enumerate() {
            self.rows[index(*to)] -= other.rows[from];
        }
        for (ours, theirs) in self.states.iter_mut().zip(&other.states) {
            ours.subtract(&into, theirs);
        }
    }

    fn slots_of(&mut self, other: &Self) -> Vec<u32> {
        let mut into = Vec::new();
        match &other.codes {
            Some(codes) => self.slots(codes, &mut into),
            None => {
                let codes: Vec<u32> = (0..number(other.rows.len())).collect();
                self.slots(&codes, &mut into);
            }
        }
        into
    }

    /// The slots that have rows, in the order of their codes.
    pub(crate) fn present(&self) -> Vec<(u32, usize)> {
        let live = |slot: &usize| self.rows[*slot] > 0;
        let slots = (0..self.rows.len()).filter(live);
        match &self.codes {
            None => slots.map(|slot| (number(slot), slot)).collect(),
            Some(codes) => {
                let mut found: Vec<(u32, usize)> = slots.map(|slot| (codes[slot], slot)).collect();
                found.sort_unstable();
                found
            }
        }
    }

    pub(crate) fn rows(&self, slot: usize) -> u64 {
        self.rows[slot]
    }

    pub(crate) fn states(&self) -> &[State] {
        &self.states
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
        self.states.iter().for_each(|state| state.save(to));
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
            state.load(slots, from)?;
        }
        Ok(slice)
    }
}
