//! What wakes a connection's task, and for what.
//!
//! A connection has one task and many reasons to run it. Each reason leaves a note; the first
//! note wakes the task, which takes them all. So a hundred answers that the engine gives at
//! once wake it once, and nothing is looked at that has nothing to say.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Why a connection's task is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The call at this place can go on.
    Call(usize),
    /// The hub has something for watch streams of this group.
    Bell(usize),
    /// This server stops.
    Stop,
    /// A time has come.
    Time,
    /// There has been no leader for long.
    Leaderless,
}

/// The notes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    notes: Mutex<Vec<Note>>,
    driver: AtomicWaker,
}

impl Ring {
    /// Wakes this task from now on.
    pub(crate) fn register(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    /// Takes all notes, by way of an empty list.
    pub(crate) fn take(&self, into: &mut Vec<Note>) {
        debug_assert!(into.is_empty(), "notes are taken once");
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *notes, into);
    }

    /// Leaves a note.
    pub(crate) fn leave(&self, note: Note) {
        let is_first = {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.push(note);
            notes.len() == 1
        };
        if is_first {
            self.driver.wake();
        }
    }
}

/// Leaves a note when woken, once until it is [taken](Pen::lift).
#[derive(Debug)]
pub(crate) struct Pen {
    ring: Arc<Ring>,
    note: Note,
    has_written: AtomicBool,
}

impl Pen {
    pub(crate) fn new(ring: &Arc<Ring>, note: Note) -> Arc<Self> {
        Arc::new(Self {
            ring: Arc::clone(ring),
            note,
            has_written: AtomicBool::new(false),
        })
    }

    /// The note was taken: the next wake leaves another. Before looking at what it was for.
    pub(crate) fn lift(&self) {
        self.has_written.store(false, Ordering::SeqCst);
    }

    /// Leaves the note.
    pub(crate) fn write(&self) {
        if !self.has_written.swap(true, Ordering::SeqCst) {
            self.ring.leave(self.note);
        }
    }
}

impl Wake for Pen {
    fn wake(self: Arc<Self>) {
        self.write();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn many_notes_wake_once_and_each_is_left_once() {
        let (ring, count) = (Arc::new(Ring::default()), Arc::new(Count::default()));
        ring.register(&Waker::from(Arc::clone(&count)));
        let pens = [Note::Call(7), Note::Bell(0)].map(|note| Pen::new(&ring, note));
        for pen in [&pens[0], &pens[0], &pens[1], &pens[0]] {
            Waker::from(Arc::clone(pen)).wake();
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        let mut notes = Vec::new();
        ring.take(&mut notes);
        assert_eq!(notes, [Note::Call(7), Note::Bell(0)]);
        notes.clear();
        pens[0].write();
        ring.take(&mut notes);
        assert_eq!(notes, [], "it was not lifted");
        pens[0].lift();
        ring.register(&Waker::from(Arc::clone(&count)));
        pens[0].write();
        ring.take(&mut notes);
        assert_eq!(
            (notes, count.0.load(Ordering::SeqCst)),
            (vec![Note::Call(7)], 2)
        );
    }
}
