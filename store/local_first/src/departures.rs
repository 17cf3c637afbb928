//! Letting sites go: who is on the way out, what was said of it, and how much of it counts.
//!
//! ```text
//! it leaves   it stops itself and says how far it is             its slot is closed
//! it is lost  all that stay, or leave, stop it and say how far   the most counts, then it is closed
//! ```
//!
//! The table of keyspaces goes by this, and so do rehearsals. Each site says here what only it can
//! know; a site of several nodes says it by one of them.
//!
//! What would surprise: of two that are lost neither's word counts, whatever it said before; and
//! two sites that have as many updates of a third, but others, are named and not believed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::members::{Members, MembersError};
use crate::update::Chain;
use crate::vector::{Slot, Vector};

/// How far a slot is, and the hash of its newest update there.
pub type Reach = (u64, Chain);

/// A site that is on its way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departure {
    /// Whether it is lost, so that the others say how far it is.
    pub is_lost: bool,
    /// Which sites have said how far it is.
    pub told: BTreeMap<Slot, Reach>,
}

/// Why a slot is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DepartureError {
    /// Two sites know another update each under one name: a third told two stories.
    #[error("slots {from} and {other} know another update each as number {through} of slot {slot}")]
    TwoStories {
        /// Of which slot.
        slot: Slot,
        /// Which update.
        through: u64,
        /// Who said so now.
        from: Slot,
        /// Who said otherwise before.
        other: Slot,
    },
    /// The next table cannot be as asked for.
    #[error(transparent)]
    Members(#[from] MembersError),
}

/// The sites that are on their way out of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departures {
    /// The table, which has them still.
    pub members: Members,
    /// By slot.
    pub going: BTreeMap<Slot, Departure>,
}

impl Departures {
    /// A site shall go. One that is lost is not asked; what was said of it before is said anew.
    pub fn begin(&mut self, slot: Slot, is_lost: bool) {
        if !self.members.active().contains_key(&slot) {
            return;
        }
        let going = self.going.entry(slot).or_default();
        if is_lost && !going.is_lost {
            going.is_lost = true;
            going.told.clear();
        }
    }

    /// A site says how far a slot is that is on its way out: of itself that it is all there will
    /// be, of another that it takes in no more. Gives the slots that are closed by that, in the
    /// order of the tables that say so.
    ///
    /// # Errors
    ///
    /// If nobody would be left, or another has another update there.
    pub fn tell(
        &mut self,
        slot: Slot,
        from: Slot,
        reach: Reach,
    ) -> Result<Vec<Slot>, DepartureError> {
        let Some(going) = self.going.get_mut(&slot) else {
            return Ok(Vec::new());
        };
        if going.is_lost == (from == slot) {
            return Ok(Vec::new());
        }
        let (through, chain) = reach;
        let parts = |(_, it): &(&Slot, &Reach)| it.0 == through && it.1 != chain;
        if let Some((&other, _)) = going.told.iter().find(parts) {
            return Err(DepartureError::TwoStories {
                slot,
                through,
                from,
                other,
            });
        }
        going.told.insert(from, reach);
        let is_lost = going.is_lost;
        let mut closed = Vec::new();
        if !is_lost {
            self.close(slot, reach)?;
            closed.push(slot);
        }
        closed.extend(self.close_agreed()?);
        Ok(closed)
    }

    /// Closes the slots of lost sites of which all has been said that will be. To be called when
    /// another is lost, for nothing is waited for from it any more.
    ///
    /// # Errors
    ///
    /// If nobody would be left.
    pub fn close_agreed(&mut self) -> Result<Vec<Slot>, DepartureError> {
        let lost = self.going.iter().filter(|(_, it)| it.is_lost);
        let agreed = lost.filter_map(|(slot, it)| Some((*slot, self.agreed(*slot, it)?)));
        let agreed: Vec<(Slot, Reach)> = agreed.collect();
        let mut closed = Vec::new();
        for (slot, reach) in agreed {
            self.close(slot, reach)?;
            closed.push(slot);
        }
        Ok(closed)
    }

    /// How far a lost site's slot counts, once every site has said how far it is that can still
    /// hand on what it has: one that leaves by itself does, and its writes may hang on those of
    /// the lost one; another lost one does not, whatever it said before.
    fn agreed(&self, slot: Slot, going: &Departure) -> Option<Reach> {
        let is_lost = |it: &Slot| self.going.get(it).is_some_and(|it| it.is_lost);
        let others = self.members.active().keys();
        let others = others.filter(|it| **it != slot && !is_lost(it));
        let said: Option<Vec<Reach>> = others.map(|it| going.told.get(it).copied()).collect();
        said?.into_iter().max_by_key(|(through, _)| *through)
    }

    fn close(&mut self, slot: Slot, (through, chain): Reach) -> Result<(), DepartureError> {
        self.members = self.members.let_go(slot, through, chain)?;
        self.going.remove(&slot);
        Ok(())
    }
}

/// What a site that was taken in is to have before it serves, of what another had when it was first
/// heard: of a slot that does not go on, what counts of it and one of the others has, for whoever
/// had more may have gone since. So too of a slot whose own site says that it has less: its data
/// was set back.
pub fn still_due<'a>(
    members: &Members,
    wanted: &Vector,
    others: impl IntoIterator<Item = (Slot, &'a Vector)>,
) -> Vector {
    let (mut there, mut own) = (Vector::new(), Vector::new());
    for (slot, vector) in others {
        there.join(vector);
        own.raise(slot, vector.seq(slot));
    }
    let mut due = Vector::new();
    for (slot, seq) in members.counted(wanted).iter() {
        let has_ended = members.frozen().contains_key(&slot);
        let is_set_back = (1..seq).contains(&own.seq(slot));
        let most = if has_ended || is_set_back {
            there.seq(slot)
        } else {
            seq
        };
        due.raise(slot, seq.min(most));
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(all: [u64; 3]) -> Vector {
        let mut vector = Vector::new();
        for (number, seq) in (1..).zip(all) {
            vector.raise(Slot::new(number).expect("it is not 0"), seq);
        }
        vector
    }

    #[test]
    fn of_a_slot_that_ended_is_due_what_counts_and_somebody_has() {
        let slot = |number| Slot::new(number).expect("it is not 0");
        let members = Members::new((1..=3).map(|it| (slot(it), 0)));
        let members = members.let_go(slot(2), 5, Chain::default());
        let members = members.expect("others stay");
        let wanted = vector([9, 7, 8]);
        let due = |others: &[(u8, [u64; 3])]| {
            let others: Vec<_> = others.iter().map(|it| (slot(it.0), vector(it.1))).collect();
            still_due(&members, &wanted, others.iter().map(|it| (it.0, &it.1)))
        };
        assert_eq!(due(&[(3, [1, 6, 8])]), vector([9, 5, 8]));
        let two = [(3, [1, 3, 8]), (4, [1, 2, 1])];
        assert_eq!(due(&two), vector([9, 3, 8]), "who had more is gone");
        assert_eq!(due(&[]).seq(slot(2)), 0);
        let set_back = [(3, [1, 6, 4]), (4, [1, 6, 6])];
        assert_eq!(due(&set_back), vector([9, 5, 6]), "nobody has more of it");
    }
}
