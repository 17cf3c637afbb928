//! Turns of the streams of a site: live ones before those that read what is there already.
//!
//! A stream that has rows asks for a turn, which is a stint of `holm_engine::Stints`: about 100 us of
//! work, as many of them at a time as there are cores. Whoever is live and comes waits for one stint
//! that ends, not for a batch of the other. Only who runs rows takes turns: the log, snapshots and
//! sinks have threads of their own, which mostly wait for the disk.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use holm_engine::{Class, Stints};

use crate::waiting::hold;
use crate::waits::Waits;

#[derive(Debug, Default)]
struct Asked {
    stints: Stints,
    wants: Vec<bool>,
    may: Vec<bool>,
    /// Numbers of those that are gone.
    free: Vec<usize>,
    running: usize,
    /// Of live streams.
    waits: Waits,
}

#[derive(Debug)]
struct Shared {
    asked: Mutex<Asked>,
    bell: Condvar,
    /// Stints at a time.
    places: usize,
}

/// The turns of a site. Cheap to clone: all clones are one.
#[derive(Clone, Debug)]
pub struct Turns(Arc<Shared>);

/// What one thread of a stream has of them.
#[derive(Debug, Default)]
pub(crate) struct Turn(Option<Own>);

#[derive(Debug)]
struct Own {
    turns: Turns,
    class: Class,
    number: usize,
}

/// A stint; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Stint<'a> {
    of: &'a Turn,
    begun: Instant,
    /// How many rows it may be, and then how many it was.
    pub(crate) rows: usize,
}

impl Turns {
    /// So many stints at a time.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Shared {
            asked: Mutex::default(),
            bell: Condvar::new(),
            places: places.max(1),
        }))
    }

    /// How long live streams waited for their turns, since the site began.
    #[must_use]
    pub fn waits(&self) -> Waits {
        hold(&self.0.asked).waits.clone()
    }

    /// Takes a stream in.
    pub(crate) fn join(&self, class: Class) -> Turn {
        let mut asked = hold(&self.0.asked);
        let number = if let Some(number) = asked.free.pop() {
            asked.stints.renew(number, class);
            number
        } else {
            asked.wants.push(false);
            asked.may.push(false);
            asked.stints.add(class)
        };
        Turn(Some(Own {
            turns: self.clone(),
            class,
            number,
        }))
    }
}

impl Asked {
    /// Lets those begin whose turn it is, as many at a time as there are places.
    fn grant(&mut self, places: usize) {
        while self.running < places {
            let wants = &self.wants;
            let Some(next) = self.stints.next(|number| wants[number]) else {
                return;
            };
            self.wants[next] = false;
            self.may[next] = true;
            self.running += 1;
        }
    }
}

impl Turn {
    /// That of a stream that nobody is beside: it never waits.
    pub(crate) const fn alone() -> Self {
        Self(None)
    }

    /// Another one of the same stream, for another of its threads.
    pub(crate) fn another(&self) -> Self {
        let own = self.0.as_ref();
        own.map_or(Self::alone(), |own| own.turns.join(own.class))
    }

    /// Whether it reads what is there already, beside others.
    pub(crate) fn is_batch(&self) -> bool {
        let own = self.0.as_ref();
        own.is_some_and(|own| own.class == Class::Batch)
    }

    /// Waits for its turn.
    pub(crate) fn wait(&self) -> Stint<'_> {
        let mut rows = usize::MAX;
        if let Some(own) = &self.0 {
            let (number, shared) = (own.number, &own.turns.0);
            let asked_at = Instant::now();
            let mut asked = hold(&shared.asked);
            asked.wants[number] = true;
            asked.grant(shared.places);
            shared.bell.notify_all();
            while !asked.may[number] {
                let woken = shared.bell.wait(asked);
                asked = woken.unwrap_or_else(PoisonError::into_inner);
            }
            asked.may[number] = false;
            if own.class == Class::Live {
                asked.waits.add(asked_at.elapsed());
            }
            rows = asked.stints.rows(number);
        }
        Stint {
            of: self,
            begun: Instant::now(),
            rows,
        }
    }
}

impl Drop for Stint<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.of.0 {
            let shared = &own.turns.0;
            let took = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let mut asked = hold(&shared.asked);
            asked.stints.took(own.number, self.rows, took);
            asked.running -= 1;
            asked.grant(shared.places);
            shared.bell.notify_all();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(own) = &self.0 {
            hold(&own.turns.0.asked).free.push(own.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Stints` decides, without threads: who waits is granted in its order.
    fn granted(turns: &Turns, of: &[&Turn]) -> Vec<bool> {
        let asked = hold(&turns.0.asked);
        let may = |turn: &&Turn| turn.0.as_ref().is_some_and(|own| asked.may[own.number]);
        of.iter().map(may).collect()
    }

    fn want(turns: &Turns, turn: &Turn) {
        let mut asked = hold(&turns.0.asked);
        let own = turn.0.as_ref().expect("it has a number");
        asked.wants[own.number] = true;
        asked.grant(turns.0.places);
    }

    #[test]
    fn who_is_live_goes_before_who_came_first() {
        let turns = Turns::new(1);
        let (batch, live) = (turns.join(Class::Batch), turns.join(Class::Live));
        let stint = batch.wait();
        let again = batch.another();
        want(&turns, &again);
        want(&turns, &live);
        assert_eq!(granted(&turns, &[&again, &live]), [false, false]);
        drop(stint);
        assert_eq!(granted(&turns, &[&again, &live]), [false, true]);
    }

    #[test]
    fn as_many_run_as_there_are_places() {
        let turns = Turns::new(2);
        let each = [Class::Batch, Class::Batch, Class::Live].map(|class| turns.join(class));
        let stints = (each[0].wait(), each[1].wait());
        want(&turns, &each[2]);
        assert_eq!(granted(&turns, &[&each[2]]), [false]);
        drop(stints.0);
        assert_eq!(granted(&turns, &[&each[2]]), [true]);
    }

    #[test]
    fn numbers_of_those_that_are_gone_are_given_again() {
        let turns = Turns::new(1);
        drop(turns.join(Class::Batch));
        let live = turns.join(Class::Live);
        assert_eq!(live.0.as_ref().map(|own| own.number), Some(0));
        assert!(!live.is_batch());
        assert!(live.wait().rows >= 64);
        assert_eq!(Turn::alone().wait().rows, usize::MAX);
    }
}
