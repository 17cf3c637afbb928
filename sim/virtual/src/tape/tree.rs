//! All runs of a small world, one tape after the other: the choices as a tree, depth first.

use crate::tape::{Fill, Offered, Place, Tape};

impl Tape {
    /// The first tape of an enumeration: all zero, remembering what these places were offered.
    /// All other places stay at zero in every run.
    #[must_use]
    pub fn first_of_all(places: &[Place]) -> Self {
        let mut tape = Self::normal();
        tape.offered = Some(Offered {
            places: places.iter().map(|place| place.id()).collect(),
            choices: Vec::new(),
        });
        tape
    }

    /// The next tape after a run with this one; `None` once every run has been made.
    ///
    /// The last choice that can be raised is raised, and everything after it is zero again. A
    /// world whose choices are bounded in number and in answers is thereby walked completely.
    ///
    /// # Panics
    ///
    /// If the tape did not come from [`Tape::first_of_all`].
    #[must_use]
    pub fn successor(&self) -> Option<Self> {
        let offered = self
            .offered
            .as_ref()
            .expect("only enumerated tapes have one");
        let mut next = self.rewound(Fill::Normal);
        next.offered = Some(Offered {
            places: offered.places.clone(),
            choices: Vec::new(),
        });
        let mut lengths: Vec<usize> = self.streams.iter().map(|one| one.position).collect();
        for choice in offered.choices.iter().rev() {
            let length = &mut lengths[choice.stream];
            *length -= 1;
            let values = &mut next.streams[choice.stream].values;
            values.truncate(*length + 1);
            if values[*length] + 1 < choice.bound {
                values[*length] += 1;
                return Some(next);
            }
            values.truncate(*length);
        }
        None
    }
}
