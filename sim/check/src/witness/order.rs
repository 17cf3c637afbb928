//! Which operation stands at which number.

use std::collections::BTreeMap;

use crate::history::{Operation, Outcome};
use crate::witness::Numbered;
use crate::witness::publication::{Publication, counted, seat};

/// Which operations stand at which number, and what breaks the first rules.
///
/// Operations and places are counted from 1, 0 being none, in half the room of an index: what is made beside a long
/// history stays small, and each pass goes along with it.
pub(super) struct Order {
    /// The write in each place. Place 0 is that of the first number, which nobody wrote.
    pub(super) writes: Vec<u32>,
    /// The first read at the number of each place.
    pub(super) reads: Vec<u32>,
    /// By operation, the next read at the same number.
    pub(super) next: Vec<u32>,
    /// The least number beyond all places that was read.
    pub(super) beyond: Option<u64>,
    /// Whether a number was read that lies before the first.
    pub(super) has_older: bool,
    /// The first operation that breaks a rule by itself.
    pub(super) faulty: Option<(usize, Fault)>,
    /// By place that more than one operation claims, the second of them.
    pub(super) claimed: BTreeMap<u32, u32>,
}

/// How an operation contradicts what is published.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// It was told a number that its mark does not have.
    Unpublished { told: u64, found: Option<u64> },
    /// It was refused, or answered as what does not write.
    Happened { at: u64 },
}

impl Order {
    /// Goes through a history from its end, so that what is kept last comes first in it.
    pub(super) fn new<M: Numbered>(
        model: &M,
        operations: &[Operation<M::Call, M::Reply>],
        published: &Publication,
    ) -> Self {
        let places = published.numbers().len() + 1;
        let mut order = Self {
            writes: vec![0; places],
            reads: vec![0; places],
            next: vec![0; operations.len()],
            beyond: None,
            has_older: false,
            faulty: None,
            claimed: BTreeMap::new(),
        };
        for (at, operation) in operations.iter().enumerate().rev() {
            let mark = model.mark(&operation.call);
            let place = mark.map_or(0, |mark| published.place(mark));
            match wrote(model, operation, published.number(place)) {
                Err(fault) => order.faulty = Some((at, fault)),
                Ok(true) => order.write(place, at),
                Ok(false) => {
                    let quoted = operation.reply().and_then(|reply| model.revision(reply));
                    if let Some(revision) = quoted {
                        order.read(M::FIRST, revision, at);
                    }
                }
            }
        }
        order
    }

    fn write(&mut self, place: u32, at: usize) {
        let other = std::mem::replace(&mut self.writes[seat(place)], counted(at));
        if other != 0 {
            self.claimed.insert(place, other);
        }
    }

    fn read(&mut self, first: u64, revision: u64, at: usize) {
        let Some(place) = revision.checked_sub(first) else {
            self.has_older = true;
            return;
        };
        let seat = usize::try_from(place).ok();
        match seat.and_then(|seat| self.reads.get_mut(seat)) {
            Some(seat) => self.next[at] = std::mem::replace(seat, counted(at)),
            None => self.beyond = Some(self.beyond.map_or(revision, |it| it.min(revision))),
        }
    }
}

/// Whether an operation wrote, by its answer and by the number that is published for its mark.
fn wrote<M: Numbered>(
    model: &M,
    operation: &Operation<M::Call, M::Reply>,
    found: Option<u64>,
) -> Result<bool, Fault> {
    match &operation.outcome {
        Outcome::Returned { reply, .. } if model.wrote(&operation.call, reply) => {
            let quoted = model.revision(reply).or(found);
            if quoted.is_none() || quoted != found {
                let told = quoted.unwrap_or(0);
                return Err(Fault::Unpublished { told, found });
            }
            Ok(true)
        }
        Outcome::Returned { .. } | Outcome::Refused => match found {
            Some(at) => Err(Fault::Happened { at }),
            None => Ok(false),
        },
        Outcome::Unknown => Ok(found.is_some()),
    }
}
