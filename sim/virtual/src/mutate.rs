//! Changing a few choices of a tape, so that a run like an earlier one is made.
//!
//! What is changed becomes a hole, and the run draws there anew, each place by its own rule: a
//! rare fault stays rare. What no longer fits further on is drawn anew as well.

use holm_base::Prng;

use crate::tape::Tape;
use crate::world::SCHEDULE;

/// The mean of how many segments are changed, and of how long one is.
const MEAN: u64 = 5;

/// What is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Who went next.
    Order,
    /// One of the other places: delays, faults, what clients ask, what disks keep.
    Inputs,
}

/// A tape like that one, with some segments to be drawn anew. `salt` is what they are drawn
/// from, with the tape's own seed.
///
/// Both the number of segments and their length are geometric with a mean of five, and together
/// they are at most a third of the place's choices.
#[must_use]
pub fn mutate(tape: &Tape, aim: Aim, salt: u64) -> Tape {
    let mut prng = Prng::new(salt);
    let mut mutant = tape.salted(salt);
    let order = mutant.index(SCHEDULE);
    let lengths: Vec<usize> = mutant.stream_values().map(|values| values.len()).collect();
    let others = lengths.iter().enumerate();
    let others: Vec<usize> = others
        .filter(|&(at, &len)| len > 0 && Some(at) != order)
        .map(|(at, _)| at)
        .collect();
    let stream = match (aim, order) {
        (Aim::Order, Some(order)) if lengths[order] > 0 => order,
        (Aim::Order | Aim::Inputs, _) => match others.len() {
            0 => return mutant,
            count => others[below(&mut prng, count)],
        },
    };
    let Some(values) = mutant.stream_values().nth(stream) else {
        return mutant;
    };
    let mut room = (values.len() / 3).max(1);
    for _ in 0..geometric(&mut prng) {
        let len = geometric(&mut prng).min(room);
        let at = below(&mut prng, values.len());
        let end = (at + len).min(values.len());
        values[at..end].fill(Tape::HOLE);
        room -= len;
        if room == 0 {
            break;
        }
    }
    mutant
}

fn below(prng: &mut Prng, count: usize) -> usize {
    let count = u64::try_from(count).expect("tapes are short");
    usize::try_from(prng.below(count)).expect("it is below a usize")
}

/// At least 1, with a mean of [`MEAN`].
fn geometric(prng: &mut Prng) -> usize {
    let mut drawn = 1;
    while prng.below(MEAN) > 0 && drawn < 1_000 {
        drawn += 1;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::{Fill, Place};

    const OTHER: Place = Place::new("other");

    fn tape() -> Tape {
        let mut tape = Tape::fresh(3);
        for _ in 0..300 {
            tape.choose(SCHEDULE, 1_000);
            tape.choose(OTHER, 1_000);
        }
        tape
    }

    fn replayed(mut tape: Tape, bound: u32) -> Tape {
        for _ in 0..300 {
            tape.choose(SCHEDULE, bound);
            tape.choose(OTHER, 1_000);
        }
        tape
    }

    #[test]
    fn a_mutant_differs_in_a_few_choices_of_what_was_aimed_at() {
        let tape = tape();
        let mut sum = 0;
        for salt in 1..200 {
            let mutant = replayed(mutate(&tape, Aim::Order, salt), 1_000);
            assert_eq!(mutant.values(OTHER), tape.values(OTHER));
            let pairs = mutant.values(SCHEDULE).iter().zip(tape.values(SCHEDULE));
            let changed = pairs.filter(|(new, old)| new != old).count();
            assert!(changed <= 100, "{changed} are more than a third");
            sum += changed;
            let mutant = replayed(mutate(&tape, Aim::Inputs, salt), 1_000);
            assert_eq!(mutant.values(SCHEDULE), tape.values(SCHEDULE));
        }
        assert!(
            (2_000..6_000).contains(&sum),
            "{sum} of 5 times 5 times 199"
        );
    }

    #[test]
    fn what_a_mutant_drew_is_on_its_tape_and_replays() {
        // Other bounds than before: what does not fit is drawn anew.
        let mutant = replayed(mutate(&tape(), Aim::Order, 9), 10);
        assert_eq!(mutant.fault(), None);
        assert!(mutant.values(SCHEDULE).iter().all(|&value| value < 10));
        let read = Tape::decode(&mutant.encode()).expect("it was written a moment ago");
        let again = replayed(read.rewound(Fill::Normal), 10);
        assert_eq!(again.fault(), None);
        assert_eq!(again.values(SCHEDULE), mutant.values(SCHEDULE));
    }
}
