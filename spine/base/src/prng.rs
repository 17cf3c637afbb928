//! A small seeded generator: equal seeds give equal numbers on every platform.
//!
//! Not for secrets. It is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17), which
//! passes the usual statistical batteries and needs one word of state.

/// What one call adds to the state.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// A seeded source of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prng {
    state: u64,
}

impl Prng {
    /// A generator whose whole future is fixed by `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The generator that [`Prng::new`] gives after `position` calls of [`Prng::next`], at once.
    #[must_use]
    pub const fn at(seed: u64, position: u64) -> Self {
        Self {
            state: seed.wrapping_add(position.wrapping_mul(GAMMA)),
        }
    }

    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless source is no Iterator: there is no None"
    )]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// A number below `bound`, all equally likely to within 2⁻⁶⁴ × `bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is zero: there is no number below zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number lies below zero");
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product of two words is a word")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let (mut left, mut right) = (Prng::new(42), Prng::new(42));
        for _ in 0..1000 {
            assert_eq!(left.next(), right.next());
        }
    }

    #[test]
    fn a_jump_ends_where_the_calls_would() {
        let mut walked = Prng::new(9);
        for position in 0..100 {
            assert_eq!(walked, Prng::at(9, position));
            walked.next();
        }
    }

    #[test]
    fn below_covers_its_range_and_nothing_else() {
        let mut prng = Prng::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            let drawn = usize::try_from(prng.below(7)).expect("seven fits");
            seen[drawn] += 1;
        }
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
    }

    #[test]
    fn the_sequence_of_seed_zero_never_changes() {
        assert_eq!(Prng::new(0).next(), 0xE220_A839_7B1D_CDAF);
    }
}
