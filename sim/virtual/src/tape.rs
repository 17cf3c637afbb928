//! The tape: every undetermined decision of a run, by the place that asked.
//!
//! Zero is always the most normal answer, so a tape of zeros is a run without any fault. Each
//! place has a stream of its own: an edit in one does not shift the others.

mod format;
mod tree;

use std::fmt;

use holm_base::Prng;

pub use format::TapeError;

/// How many places may ask.
pub const STREAMS_MAX: usize = 64;

/// How many choices all streams together may hold.
pub const CHOICES_MAX: u32 = 16 << 20;

/// A source of decisions, named once and for all.
///
/// The number is the FNV-1a hash of the name: never an address, never a seeded hash, so that a
/// tape of yesterday finds its streams today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    name: &'static str,
    id: u64,
}

impl Place {
    /// The place of that name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        let mut id: u64 = 0xcbf2_9ce4_8422_2325;
        let mut index = 0;
        while index < bytes.len() {
            id = (id ^ widen(bytes[index])).wrapping_mul(0x0000_0100_0000_01b3);
            index += 1;
        }
        Self { name, id }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its number on tapes.
    #[must_use]
    pub const fn id(self) -> u64 {
        self.id
    }
}

const fn widen(byte: u8) -> u64 {
    u64::from_le_bytes([byte, 0, 0, 0, 0, 0, 0, 0])
}

/// What a stream gives past its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Draws from the seed, by place and position.
    Fresh,
    /// Zero: everything is normal.
    Normal,
}

/// Whether a run keeps what it drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// The tape can be written out and replayed afterwards.
    On,
    /// Only the positions are kept. The run is the same.
    Off,
}

/// Why a tape cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapeFault {
    /// A recorded value does not fit the question: the build or the scenario is another.
    #[error("tape diverged at choice {choice}: {value} of {bound} at {place}")]
    Diverged {
        /// Which choice of the run, counted from 0.
        choice: u32,
        /// What the tape holds.
        value: u32,
        /// How many answers there are.
        bound: u32,
        /// Who asked.
        place: &'static str,
    },
    /// More places asked than a tape has streams.
    #[error("tape is full: place {place} would be stream {STREAMS_MAX}")]
    TooManyPlaces {
        /// Who asked.
        place: &'static str,
    },
    /// The run made more choices than a tape holds.
    #[error("tape is full: {CHOICES_MAX} choices")]
    TooManyChoices,
}

/// One place's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stream {
    place: u64,
    seed: u64,
    /// What was recorded or is to be replayed.
    values: Vec<u32>,
    /// How many choices of this run lie behind.
    position: usize,
}

/// What an enumerated run was offered, at the places that are enumerated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offered {
    places: Vec<u64>,
    choices: Vec<Choice>,
}

/// One choice of an enumerated run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    stream: usize,
    bound: u32,
}

/// The decisions of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tape {
    seed: u64,
    fill: Fill,
    recording: Recording,
    scenario: [u8; 32],
    build: [u8; 32],
    streams: Vec<Stream>,
    choices: u32,
    fault: Option<TapeFault>,
    /// Of a mutant: what its holes are drawn from, besides the seed. What does not fit is a hole
    /// too. 0 is no mutant.
    salt: u64,
    /// Kept when runs are enumerated.
    offered: Option<Offered>,
}

impl Tape {
    /// A choice of a mutant that is to be drawn anew.
    pub(crate) const HOLE: u32 = u32::MAX;

    /// A tape that draws everything from `seed`.
    #[must_use]
    pub fn fresh(seed: u64) -> Self {
        Self::empty(seed, Fill::Fresh)
    }

    /// The tape on which nothing unusual happens.
    #[must_use]
    pub fn normal() -> Self {
        Self::empty(0, Fill::Normal)
    }

    const fn empty(seed: u64, fill: Fill) -> Self {
        Self {
            seed,
            fill,
            recording: Recording::On,
            scenario: [0; 32],
            build: [0; 32],
            streams: Vec::new(),
            choices: 0,
            fault: None,
            salt: 0,
            offered: None,
        }
    }

    /// The same choices, to be made again from the first; what is a hole or does not fit is drawn
    /// from the seed and `salt`.
    pub(crate) fn salted(&self, salt: u64) -> Self {
        let mut tape = self.rewound(Fill::Fresh);
        tape.recording = Recording::On;
        tape.salt = salt;
        tape
    }

    /// What a scheduler's own choices come from.
    pub(crate) const fn luck(&self) -> u64 {
        self.seed ^ self.salt
    }

    /// The same tape, bound to a scenario and a build by their SHA-256.
    #[must_use]
    pub const fn bound_to(mut self, scenario: [u8; 32], build: [u8; 32]) -> Self {
        self.scenario = scenario;
        self.build = build;
        self
    }

    /// The same tape, keeping what it draws or not.
    #[must_use]
    pub const fn recording(mut self, recording: Recording) -> Self {
        self.recording = recording;
        self
    }

    /// The same choices, to be made again from the first, with another fill past their end.
    #[must_use]
    pub fn rewound(&self, fill: Fill) -> Self {
        let mut tape = self.clone();
        tape.fill = fill;
        tape.choices = 0;
        tape.fault = None;
        tape.salt = 0;
        tape.offered = None;
        for stream in &mut tape.streams {
            stream.position = 0;
        }
        tape
    }

    /// The same tape without what the run did not come to: a mutant may end before its parent.
    #[must_use]
    pub fn cut(&self) -> Self {
        let mut tape = self.clone();
        for stream in &mut tape.streams {
            stream.values.truncate(stream.position);
        }
        tape
    }

    /// The seed that fresh choices come from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// SHA-256 of the scenario and of the build that it was made with.
    #[must_use]
    pub const fn made_with(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.scenario, &self.build)
    }

    /// How many choices lie behind.
    #[must_use]
    pub const fn choices(&self) -> u32 {
        self.choices
    }

    /// How many recorded choices are not the normal one: what is left to explain.
    #[must_use]
    pub fn abnormal(&self) -> usize {
        let values = self.streams.iter().flat_map(|stream| &stream.values);
        values.filter(|&&value| value != 0).count()
    }

    /// Why the run must stop, if it must. Choices after a fault are all zero.
    #[must_use]
    pub const fn fault(&self) -> Option<&TapeFault> {
        self.fault.as_ref()
    }

    /// One of `n` answers, 0 being the most normal. One answer consumes nothing.
    pub fn choose(&mut self, place: Place, n: u32) -> u32 {
        self.decide(place, n, |prng| {
            u32::try_from(prng.below(u64::from(n))).expect("it is below a u32")
        })
    }

    /// Whether something unusual happens that does so `per_million` times in a million.
    /// Never consumes nothing.
    #[inline]
    pub fn chance(&mut self, place: Place, per_million: u32) -> bool {
        per_million > 0 && self.happens(place, per_million)
    }

    fn happens(&mut self, place: Place, per_million: u32) -> bool {
        let drawn = self.decide(place, 2, |prng| {
            u32::from(prng.below(1_000_000) < u64::from(per_million))
        });
        drawn == 1
    }

    /// One of the answers, each as likely as its weight says; the first is the most normal.
    /// Answers without weight are not offered, so what is recorded is a place among the others,
    /// and nothing is consumed if there are none.
    pub fn weighted(&mut self, place: Place, weights: &[u32]) -> usize {
        // Asked at every moment of a hunt: nothing is put on the heap for it.
        let offered = weights.iter().enumerate();
        let offered = offered.filter(|&(answer, &weight)| answer == 0 || weight > 0);
        let bound = u32::try_from(offered.clone().count()).expect("answers are few");
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let drawn = self.decide(place, bound.max(1), |prng| {
            let mut left = prng.below(total);
            let behind = offered.clone().take_while(|&(_, &weight)| {
                let is_behind = left >= u64::from(weight);
                left = left.saturating_sub(u64::from(weight));
                is_behind
            });
            u32::try_from(behind.count()).expect("answers are few")
        });
        let drawn = usize::try_from(drawn).expect("answers are few");
        offered.map(|(answer, _)| answer).nth(drawn).unwrap_or(0)
    }

    /// One of `n` answers, which `wish` names when neither the tape nor the fill does.
    ///
    /// `wish` gets the generator of this place and position; a scheduler may use its own
    /// instead. What it says is recorded, so a replay asks it nothing.
    ///
    /// # Panics
    ///
    /// If there is no answer to choose from.
    pub fn decide(&mut self, place: Place, n: u32, wish: impl FnOnce(&mut Prng) -> u32) -> u32 {
        assert!(n > 0, "there must be an answer");
        if n == 1 || self.fault.is_some() {
            return 0;
        }
        let Some(index) = self.stream(place) else {
            self.fault = Some(TapeFault::TooManyPlaces { place: place.name });
            return 0;
        };
        if self.choices == CHOICES_MAX {
            self.fault = Some(TapeFault::TooManyChoices);
            return 0;
        }
        let value = self.next(index, n, wish);
        if value >= n {
            self.fault = Some(TapeFault::Diverged {
                choice: self.choices,
                value,
                bound: n,
                place: place.name,
            });
            return 0;
        }
        if let Some(offered) = &mut self.offered
            && offered.places.contains(&place.id)
        {
            let stream = index;
            offered.choices.push(Choice { stream, bound: n });
        }
        self.choices += 1;
        value
    }

    fn next(&mut self, index: usize, n: u32, wish: impl FnOnce(&mut Prng) -> u32) -> u32 {
        let (fill, recording, salt) = (self.fill, self.recording, self.salt);
        let stream = &mut self.streams[index];
        let position = stream.position;
        stream.position += 1;
        if let Some(recorded) = stream.values.get_mut(position) {
            if salt != 0 && *recorded >= n {
                let at = u64::try_from(position).expect("positions are few");
                *recorded = wish(&mut Prng::at(stream.seed ^ salt, at));
            }
            return *recorded;
        }
        let value = match fill {
            Fill::Normal => 0,
            Fill::Fresh => {
                let position = u64::try_from(position).expect("positions are few");
                wish(&mut Prng::at(stream.seed ^ salt, position))
            }
        };
        if recording == Recording::On {
            stream.values.push(value);
        }
        value
    }

    /// The stream of a place, made if it is missing and there is room.
    fn stream(&mut self, place: Place) -> Option<usize> {
        let known = self.index(place);
        if known.is_some() {
            return known;
        }
        if self.streams.len() == STREAMS_MAX {
            return None;
        }
        self.streams.push(Stream::new(self.seed, place.id));
        Some(self.streams.len() - 1)
    }

    /// The recorded values of a place.
    #[must_use]
    pub fn values(&self, place: Place) -> &[u32] {
        let known = self.streams.iter().find(|one| one.place == place.id);
        known.map_or(&[], |stream| &stream.values)
    }

    /// Sets the values of a place, to be followed by a run that starts anew.
    ///
    /// # Panics
    ///
    /// If there are [`STREAMS_MAX`] other places already.
    pub fn set(&mut self, place: Place, values: Vec<u32>) {
        let index = self.stream(place).expect("a tape has room for its places");
        self.streams[index].values = values;
    }

    pub(crate) fn index(&self, place: Place) -> Option<usize> {
        self.streams.iter().position(|one| one.place == place.id)
    }

    pub(crate) fn stream_values(&mut self) -> impl Iterator<Item = &mut Vec<u32>> {
        self.streams.iter_mut().map(|stream| &mut stream.values)
    }
}

impl Stream {
    fn new(seed: u64, place: u64) -> Self {
        Self {
            place,
            seed: Prng::new(seed ^ place).next(),
            values: Vec::new(),
            position: 0,
        }
    }
}

impl fmt::Display for Tape {
    /// `seed 7, 1904 choices, 37 abnormal`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded: usize = self.streams.iter().map(|stream| stream.values.len()).sum();
        let abnormal = self.abnormal();
        write!(
            f,
            "seed {}, {recorded} choices, {abnormal} abnormal",
            self.seed
        )
    }
}
