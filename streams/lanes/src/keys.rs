//! Tuples become small numbers, by first appearance (I5).
//!
//! An open table with linear probing over the codes; the tuples themselves are lanes. Integers of
//! a small range go through an array instead. NULLs of a column are equal to one another, as are
//! NaNs, and 0.0 is -0.0.

use crate::lane::{Lane, LaneBuilder, Values};
use crate::narrow::for_integers;
use crate::{Shape, index, number};

/// What a row has whose tuple would be one too many.
pub const NO_CODE: u32 = u32::MAX;

const EMPTY: u32 = u32::MAX;
/// Integers from 0 to below this are looked up in an array.
const DIRECT: usize = 1 << 16;
/// Tuples of no more bits than this are compared as one word.
const PACKED_BITS: u32 = 62;
/// Tuples that are found without looking at their parts: at least and at most so many.
const RECENT_MIN: usize = 1 << 12;
const RECENT_MAX: usize = 1 << 20;
/// Places behind the first that many rows look at together.
const BEHIND: usize = 3;

/// The tuples that were seen, with their codes.
#[derive(Clone, Debug)]
pub struct Keys {
    columns: Vec<LaneBuilder>,
    shapes: Vec<Shape>,
    hashes: Vec<u64>,
    table: Vec<u32>,
    /// Codes by value, and one place more for all that is too large: it is never filled.
    direct: Vec<u32>,
    /// Words of tuples that were met lately, with their codes; -1 is no word.
    recent: Vec<(i64, u32)>,
    /// How many bits each column has in a place of the array, where there are several.
    bits: Vec<u32>,
    /// Whether all tuples that were seen are in the array, of one column.
    is_small: bool,
    count: usize,
    limit: usize,
    seed: u64,
}

impl Keys {
    /// No tuples of these shapes yet, and never more than `limit`. The seed keeps strangers from
    /// choosing tuples that collide; codes do not depend on it.
    #[must_use]
    pub fn new(shapes: Vec<Shape>, limit: usize, seed: u64) -> Self {
        Self {
            columns: shapes
                .iter()
                .map(|shape| LaneBuilder::new(*shape))
                .collect(),
            shapes,
            hashes: Vec::new(),
            table: vec![EMPTY; 64],
            direct: Vec::new(),
            recent: Vec::new(),
            bits: Vec::new(),
            is_small: true,
            count: 0,
            limit: limit.min(index(NO_CODE)),
            seed,
        }
    }

    /// How many tuples there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The shapes of a tuple's parts.
    #[must_use]
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tuples: usize = self.columns.iter().map(LaneBuilder::bytes).sum();
        let recent = 16 * self.recent.len();
        tuples + recent + 8 * self.hashes.len() + 4 * (self.table.len() + self.direct.len())
    }

    /// Whether there are as many as there may be: rows may have no code then.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count >= self.limit
    }

    /// The most there may be.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// The code of each row; [`NO_CODE`] where its tuple would be one too many.
    ///
    /// # Panics
    ///
    /// If there are not as many lanes as the tuples have parts.
    pub fn code(&mut self, lanes: &[&Lane], rows: usize, codes: &mut Vec<u32>) {
        assert_eq!(
            lanes.len(),
            self.shapes.len(),
            "a lane for each part of a key"
        );
        codes.clear();
        codes.reserve(rows);
        if lanes.is_empty() {
            self.count = 1;
            codes.resize(rows, 0);
            return;
        }
        if let [lane] = lanes
            && is_plain(lane)
        {
            return self.code_ints(lane, codes);
        }
        self.is_small = false;
        if self.code_packed(lanes, codes) {
            return;
        }
        for row in 0..rows {
            codes.push(self.find_or_add(lanes, row));
        }
    }

    /// One lane of integers: the frequent case, and small ones need no hash.
    fn code_ints(&mut self, lane: &Lane, codes: &mut Vec<u32>) {
        if self.direct.is_empty() {
            self.is_small &= self.count == 0;
            self.direct = vec![NO_CODE; DIRECT + 1];
        }
        if self.count > DIRECT {
            self.look_ahead(lane, codes);
        } else if look_up_lane(&self.direct, lane, codes) {
            return;
        }
        let values = lane.ints().expect("its shape was looked at");
        for (row, code) in codes.iter_mut().enumerate() {
            if *code != NO_CODE {
                continue;
            }
            let place = place_of(values[row]);
            // It may have been added a few rows ago.
            *code = self.direct[place];
            if *code == NO_CODE {
                *code = self.find_or_add(&[lane], row);
                if place < DIRECT {
                    self.direct[place] = *code;
                } else {
                    self.is_small = false;
                }
            }
        }
    }

    /// The code of each integer that stands where it is looked for first, or in one of the places
    /// behind, of so many that memory is waited for. No branch depends on what memory says but
    /// where a few are left, so that many rows wait together.
    fn look_ahead(&self, lane: &Lane, codes: &mut Vec<u32>) {
        let values = lane.ints().expect("its shape was looked at");
        let known = &self.columns[0];
        let Values::Int(tuples) = known.values() else {
            panic!("keys of integers are integers");
        };
        let mask = self.table.len() - 1;
        let (table, seed) = (self.table.as_slice(), self.seed);
        let place = |value: &i64| low(stir(seed, value.cast_unsigned())) & mask;
        codes.extend(values.iter().map(|value| table[place(value)]));
        // An empty place has no code, and so no tuple.
        let is_it = |code: u32, value: i64| {
            let at = index(code);
            tuples.get(at) == Some(&value) && !known.is_null(at)
        };
        let mut elsewhere = vec![0; values.len() + 1];
        let mut count = 0;
        for ((row, code), value) in codes.iter_mut().enumerate().zip(values) {
            let is_it = is_it(*code, *value);
            elsewhere[count] = row;
            count += usize::from(!is_it & (*code != EMPTY));
            *code = if is_it { *code } else { NO_CODE };
        }
        elsewhere.truncate(count);
        for step in 1..=BEHIND {
            let behind = |row: &usize| table[(place(&values[*row]) + step) & mask];
            let found: Vec<u32> = elsewhere.iter().map(behind).collect();
            let mut left = 0;
            for (at, code) in found.into_iter().enumerate() {
                let row = elsewhere[at];
                let is_it = is_it(code, values[row]);
                codes[row] = if is_it { code } else { NO_CODE };
                elsewhere[left] = row;
                left += usize::from(!is_it & (code != EMPTY));
            }
            elsewhere.truncate(left);
        }
    }

    /// Several lanes of small integers: their bits side by side are a place in the array, or a
    /// word that is quick to compare. Whether they are small enough; nothing was coded if not.
    fn code_packed(&mut self, lanes: &[&Lane], codes: &mut Vec<u32>) -> bool {
        let mut bits = self.bits.clone();
        bits.resize(lanes.len(), 1);
        for (lane, bits) in lanes.iter().zip(&mut bits) {
            if !is_plain(lane) {
                return false;
            }
            let most = any_bits(lane);
            if most < 0 {
                return false;
            }
            *bits = (*bits).max(64 - most.leading_zeros());
        }
        let width = bits.iter().sum::<u32>();
        if width > PACKED_BITS {
            return false;
        }
        if bits != self.bits {
            // Places have moved; they are found anew, as they are needed.
            (self.direct, self.bits) = (Vec::new(), bits);
            self.recent.clear();
        }
        let mut places = vec![0_i64; lanes[0].len()];
        for (lane, bits) in lanes.iter().zip(&self.bits) {
            beside(&mut places, *bits, lane);
        }
        if width > DIRECT.ilog2() {
            self.code_recent(lanes, &places, codes);
            return true;
        }
        if self.direct.is_empty() {
            self.direct = vec![NO_CODE; DIRECT + 1];
        }
        if look_up(&self.direct, places.iter().copied(), codes) {
            return true;
        }
        for (row, code) in codes.iter_mut().enumerate() {
            if *code == NO_CODE {
                let place = place_of(places[row]);
                if self.direct[place] == NO_CODE {
                    self.direct[place] = self.find_or_add(lanes, row);
                }
                *code = self.direct[place];
            }
        }
        true
    }

    /// The code of each word: those that were met lately stand in one place of memory each.
    fn code_recent(&mut self, lanes: &[&Lane], words: &[i64], codes: &mut Vec<u32>) {
        let wanted = (self.count * 4)
            .next_power_of_two()
            .clamp(RECENT_MIN, RECENT_MAX);
        if self.recent.len() < wanted {
            self.recent = vec![(-1, NO_CODE); wanted];
        }
        let mask = self.recent.len() - 1;
        let seed = self.seed;
        let place_of = |word: i64| low(stir(seed, word.cast_unsigned())) & mask;
        // No branch depends on what memory says, so that many rows wait for it together.
        let recent = self.recent.as_slice();
        codes.extend(words.iter().map(|word| {
            let (met, code) = recent[place_of(*word)];
            if met == *word { code } else { NO_CODE }
        }));
        for row in 0..words.len() {
            if codes[row] != NO_CODE {
                continue;
            }
            let (word, place) = (words[row], place_of(words[row]));
            let (met, code) = self.recent[place];
            codes[row] = if met == word {
                code
            } else {
                self.find_or_add(lanes, row)
            };
            if codes[row] != NO_CODE {
                self.recent[place] = (word, codes[row]);
            }
        }
    }

    /// The code of each row's tuple, [`NO_CODE`] where it was not seen, if there is one lane of
    /// integers and all that were seen are small. Whether it was found out.
    pub fn find_small(&self, lanes: &[&Lane], codes: &mut Vec<u32>) -> bool {
        let [lane] = lanes else {
            return false;
        };
        if !is_plain(lane) || !self.is_small || self.direct.is_empty() {
            return false;
        }
        look_up_lane(&self.direct, lane, codes);
        true
    }

    /// The code of one row's tuple, which is added if it was not seen; [`NO_CODE`] where it would be
    /// one too many.
    ///
    /// # Panics
    ///
    /// If there are not as many lanes as the tuples have parts, or none.
    pub fn code_of(&mut self, lanes: &[&Lane], row: usize) -> u32 {
        let parts = self.shapes.len();
        assert!(lanes.len() == parts && parts > 0, "a lane for each part");
        self.is_small = false;
        self.find_or_add(lanes, row)
    }

    fn find_or_add(&mut self, lanes: &[&Lane], row: usize) -> u32 {
        let (place, hash) = match self.probe(lanes, row) {
            Ok(code) => return code,
            Err(free) => free,
        };
        if self.count >= self.limit {
            return NO_CODE;
        }
        let code = number(self.count);
        self.table[place] = code;
        self.add(lanes, row, hash);
        code
    }

    /// The code of a row's tuple, if it was seen.
    #[must_use]
    pub fn find(&self, lanes: &[&Lane], row: usize) -> Option<u32> {
        self.probe(lanes, row).ok()
    }

    /// The code of a row's tuple, or the free place where it would stand and its hash.
    fn probe(&self, lanes: &[&Lane], row: usize) -> Result<u32, (usize, u64)> {
        let hash = lanes
            .iter()
            .fold(self.seed, |hash, lane| mix(hash, lane, row));
        let mask = self.table.len() - 1;
        let mut place = low(hash) & mask;
        loop {
            let code = self.table[place];
            if code == EMPTY {
                return Err((place, hash));
            }
            if self.hashes[index(code)] == hash && self.equal(lanes, row, index(code)) {
                return Ok(code);
            }
            place = (place + 1) & mask;
        }
    }

    fn equal(&self, lanes: &[&Lane], row: usize, code: usize) -> bool {
        self.columns
            .iter()
            .zip(lanes)
            .all(|(column, lane)| same(column, code, lane, row))
    }

    fn add(&mut self, lanes: &[&Lane], row: usize, hash: u64) {
        for (column, lane) in self.columns.iter_mut().zip(lanes) {
            column.push_from(lane, row);
        }
        self.hashes.push(hash);
        self.count += 1;
        if self.count * 2 > self.table.len() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let size = self.table.len() * 4;
        let mask = size - 1;
        let mut table = vec![EMPTY; size];
        for (code, hash) in self.hashes.iter().enumerate() {
            let mut place = low(*hash) & mask;
            while table[place] != EMPTY {
                place = (place + 1) & mask;
            }
            table[place] = number(code);
        }
        self.table = table;
    }

    /// Some lanes of tuples by their codes.
    #[must_use]
    pub fn parts(&self, parts: &[usize], codes: &[u32]) -> Vec<Lane> {
        let parts = parts.iter();
        parts.map(|part| self.columns[*part].take(codes)).collect()
    }

    /// The lanes of tuples by their codes.
    #[must_use]
    pub fn tuples(&self, codes: &[u32]) -> Vec<Lane> {
        self.columns
            .iter()
            .map(|column| column.take(codes))
            .collect()
    }
}

/// Where a value stands in the array: the last place if it is too large or below zero.
#[inline]
fn place_of(value: i64) -> usize {
    usize::try_from(value.cast_unsigned())
        .unwrap_or(DIRECT)
        .min(DIRECT)
}

/// What the array says of each value, and whether it knows all of them.
fn look_up(direct: &[u32], values: impl Iterator<Item = i64>, codes: &mut Vec<u32>) -> bool {
    let direct = &direct[..=DIRECT];
    let mut has_all = true;
    codes.extend(values.map(|value| {
        let code = direct[place_of(value)];
        has_all &= code != NO_CODE;
        code
    }));
    has_all
}

/// The same of a lane of integers.
fn look_up_lane(direct: &[u32], lane: &Lane, codes: &mut Vec<u32>) -> bool {
    let narrow = lane.narrow_values().and_then(|narrow| {
        for_integers!(narrow, values => {
            look_up(direct, values.iter().map(|value| i64::from(*value)), codes)
        })
    });
    narrow.unwrap_or_else(|| {
        let values = lane.ints().expect("its shape was looked at");
        look_up(direct, values.iter().copied(), codes)
    })
}

/// Whether a lane has integers, and no NULLs.
fn is_plain(lane: &Lane) -> bool {
    lane.shape() == Shape::Int && lane.nulls().is_none()
}

/// The bits that any integer of a lane has.
fn any_bits(lane: &Lane) -> i64 {
    let narrow = lane.narrow_values().and_then(|narrow| {
        for_integers!(narrow, values => {
            i64::from(values.iter().fold(0, |most, value| most | *value))
        })
    });
    let wide = || {
        lane.ints()
            .map(|it| it.iter().fold(0, |most, value| most | *value))
    };
    narrow.or_else(wide).expect("its shape was looked at")
}

/// Puts the integers of a lane into the low bits of words.
fn beside(words: &mut [i64], bits: u32, lane: &Lane) {
    let narrow = lane.narrow_values().and_then(|narrow| {
        for_integers!(narrow, values => {
            for (word, value) in words.iter_mut().zip(values) {
                *word = (*word << bits) | i64::from(*value);
            }
        })
    });
    if narrow.is_none() {
        let values = lane.ints().expect("its shape was looked at");
        for (word, value) in words.iter_mut().zip(values) {
            *word = (*word << bits) | value;
        }
    }
}

fn low(hash: u64) -> usize {
    usize::try_from(hash & 0xFFFF_FFFF).expect("a pointer has 32 bits at least")
}

/// A multiply and a fold: quick, and every bit of the value reaches the low ones.
fn stir(hash: u64, word: u64) -> u64 {
    let wide = u128::from(hash ^ word ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93_u128;
    let (high, low) = (wide >> 64, wide & u128::from(u64::MAX));
    let folded = u64::try_from(high ^ low).expect("half of a wide number is a word");
    folded.rotate_left(23) ^ word.wrapping_mul(0xA076_1D64_78BD_642F)
}

fn mix(hash: u64, lane: &Lane, row: usize) -> u64 {
    if lane.is_null(row) {
        return stir(hash, 0x006E_756C_6C00);
    }
    match lane.values() {
        Values::Bool(values) => stir(hash, u64::from(values[row])),
        Values::Int(values) => stir(hash, values[row].cast_unsigned()),
        Values::Wide(values) => {
            let wide = values[row].cast_unsigned();
            let half = |wide: u128| {
                u64::try_from(wide & u128::from(u64::MAX)).expect("a masked half is a word")
            };
            stir(stir(hash, half(wide)), half(wide >> 64))
        }
        Values::Real(values) => stir(hash, bits(values[row])),
        Values::Text(values) => {
            let bytes = values.at(row).as_bytes();
            let mut hash = stir(
                hash,
                u64::try_from(bytes.len()).expect("a length is a word"),
            );
            for chunk in bytes.chunks(8) {
                let mut word = [0_u8; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                hash = stir(hash, u64::from_le_bytes(word));
            }
            hash
        }
    }
}

/// The bits of a float, one pattern for zero and one for NaN.
fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        (value + 0.0).to_bits()
    }
}

fn same(left: &LaneBuilder, at: usize, right: &Lane, row: usize) -> bool {
    match (left.is_null(at), right.is_null(row)) {
        (true, true) => return true,
        (false, false) => {}
        (true, false) | (false, true) => return false,
    }
    match (left.values(), right.values()) {
        (Values::Bool(left), Values::Bool(right)) => left[at] == right[row],
        (Values::Int(left), Values::Int(right)) => left[at] == right[row],
        (Values::Wide(left), Values::Wide(right)) => left[at] == right[row],
        (Values::Real(left), Values::Real(right)) => bits(left[at]) == bits(right[row]),
        (Values::Text(left), Values::Text(right)) => left.at(at) == right.at(row),
        _ => false,
    }
}
