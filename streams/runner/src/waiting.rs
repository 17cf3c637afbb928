//! What threads hand to one another: queues that can be closed, and credit in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue between two threads. What goes in is bounded by whoever puts it there: one piece of
/// work at a time, or what there is credit for.
#[derive(Debug)]
pub(crate) struct Post<T> {
    inner: Mutex<(VecDeque<T>, bool)>,
    bell: Condvar,
}

impl<T> Default for Post<T> {
    fn default() -> Self {
        Self {
            inner: Mutex::new((VecDeque::new(), false)),
            bell: Condvar::new(),
        }
    }
}

/// A thread that panicked ends the process; the state is as it left it.
pub(crate) fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Post<T> {
    pub(crate) fn push(&self, item: T) {
        hold(&self.inner).0.push_back(item);
        self.bell.notify_all();
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        hold(&self.inner).1 = true;
        self.bell.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        hold(&self.inner).1
    }

    /// The next; `None` when it is closed and empty.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut inner = hold(&self.inner);
        loop {
            if let Some(item) = inner.0.pop_front() {
                return Some(item);
            }
            if inner.1 {
                return None;
            }
            let woken = self.bell.wait(inner);
            inner = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All that is there, after waiting for the first no longer than this.
    pub(crate) fn drain(&self, wait: Duration) -> Vec<T> {
        let mut inner = hold(&self.inner);
        if inner.0.is_empty() && !wait.is_zero() {
            let woken = self.bell.wait_timeout(inner, wait);
            inner = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.0.drain(..).collect()
    }
}

/// Bytes that may be under way.
#[derive(Debug)]
pub(crate) struct Credit {
    limit: usize,
    inner: Mutex<Held>,
    bell: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
    is_paused: bool,
    is_over: bool,
}

impl Credit {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            inner: Mutex::new(Held::default()),
            bell: Condvar::new(),
        }
    }

    /// Waits until there is some, for a while; how much there is.
    pub(crate) fn wait(&self, wait: Duration) -> usize {
        let mut held = hold(&self.inner);
        let free = |held: &Held| {
            if held.is_paused {
                0
            } else {
                self.limit.saturating_sub(held.bytes)
            }
        };
        if free(&held) == 0 && !held.is_over {
            let woken = self.bell.wait_timeout(held, wait);
            held = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        free(&held)
    }

    pub(crate) fn charge(&self, bytes: usize) {
        hold(&self.inner).bytes += bytes;
    }

    pub(crate) fn free(&self, bytes: usize) {
        hold(&self.inner).bytes -= bytes;
        self.bell.notify_all();
    }

    pub(crate) fn held(&self) -> usize {
        hold(&self.inner).bytes
    }

    pub(crate) fn pause(&self, is_paused: bool) {
        hold(&self.inner).is_paused = is_paused;
        self.bell.notify_all();
    }

    /// Sources are to end.
    pub(crate) fn end(&self) {
        hold(&self.inner).is_over = true;
        self.bell.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        hold(&self.inner).is_over
    }
}
