//! What outlives a crash: decided per sector and per name.

use holm_base::Prng;

use crate::disk::device::Change;
use crate::disk::sheet::Sheet;

const SECTOR: usize = 512;

/// Which of the unsynced changes a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All of them.
    Keep,
    /// None of them.
    Drop,
    /// All but the last write of each file and the last name, which are cut short at a random
    /// sector.
    Torn {
        /// Where they are cut.
        seed: u64,
    },
    /// Each sector of each write, and each name, on its own: as if the device had reordered
    /// everything.
    Reordered {
        /// Which survive.
        seed: u64,
    },
}

/// Decides, change by change, in the order of the changes.
#[derive(Debug)]
pub(crate) struct Judge {
    survival: Survival,
    prng: Prng,
}

impl Judge {
    pub(crate) const fn new(survival: Survival) -> Self {
        let seed = match survival {
            Survival::Keep | Survival::Drop => 0,
            Survival::Torn { seed } | Survival::Reordered { seed } => seed,
        };
        Self {
            survival,
            prng: Prng::new(seed),
        }
    }

    /// Whether a change that happens as a whole survives.
    pub(crate) fn keeps(&mut self, is_last: bool) -> bool {
        match self.survival {
            Survival::Keep => true,
            Survival::Drop => false,
            Survival::Torn { .. } => !is_last || self.prng.below(2) == 0,
            Survival::Reordered { .. } => self.prng.below(2) == 0,
        }
    }

    /// Applies to `durable` what survives of one file's changes.
    pub(crate) fn settle(&mut self, durable: &mut Sheet, changes: &[Change]) {
        for (index, change) in changes.iter().enumerate() {
            let is_last = index + 1 == changes.len();
            match change {
                Change::SetLen { len } => {
                    if self.keeps(is_last) {
                        durable.resize(*len);
                    }
                }
                Change::Write { at, bytes } => {
                    self.write(
                        durable,
                        (*at, bytes.len()),
                        is_last,
                        &|into, from, until| {
                            into.put(from, &bytes[from - at..until - at]);
                        },
                    );
                }
                Change::Blank { at, len } => {
                    self.write(durable, (*at, *len), is_last, &|into, from, until| {
                        into.blank(from, until - from);
                    });
                }
            }
        }
    }

    /// Lets what survives of a write through to `act`, sector by sector.
    fn write(
        &mut self,
        durable: &mut Sheet,
        (at, len): (usize, usize),
        is_last: bool,
        act: &dyn Fn(&mut Sheet, usize, usize),
    ) {
        let mut tail = match self.survival {
            Survival::Torn { .. } if is_last => {
                let sectors = len.div_ceil(SECTOR) as u64 + 1;
                usize::try_from(self.prng.below(sectors)).expect("a count of sectors fits")
            }
            Survival::Keep
            | Survival::Drop
            | Survival::Torn { .. }
            | Survival::Reordered { .. } => usize::MAX,
        };
        let mut from = at;
        let end = at + len;
        while from < end {
            // Sectors are the file's, not the write's: a write may begin inside one.
            let until = end.min((from / SECTOR + 1) * SECTOR);
            let is_kept = match self.survival {
                Survival::Keep => true,
                Survival::Drop => false,
                Survival::Torn { .. } => tail > 0,
                Survival::Reordered { .. } => self.prng.below(2) == 0,
            };
            if is_kept {
                act(durable, from, until);
            }
            tail = tail.saturating_sub(1);
            from = until;
        }
    }
}
