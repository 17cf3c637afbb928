//! A stream's seat at the watch hub: a bell, and a place that is given back however it ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use holm_kv::{Hub, StreamId};
use tokio::sync::Notify;

/// Streams that share a bell: one ring wakes all of them, and those that have nothing look in
/// vain. More save rings when all have something, fewer save looks when one has.
const SHARERS_MAX: usize = 64;

/// Rings for the streams of one connection.
#[derive(Clone)]
pub(crate) struct Bell {
    notify: Arc<Notify>,
    /// What the hub calls; the same for all who share the bell, so that it is called once.
    ring: Arc<dyn Fn() + Send + Sync>,
}

impl Bell {
    fn new() -> Self {
        let notify = Arc::new(Notify::new());
        let rung = Arc::clone(&notify);
        Self {
            notify,
            ring: Arc::new(move || rung.notify_waiters()),
        }
    }

    /// Resolves at the next ring after it was enabled.
    pub(crate) fn rung(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

/// The bells of a connection.
#[derive(Debug)]
pub(crate) struct Bells {
    belfry: Mutex<Belfry>,
    is_stopping: AtomicBool,
}

#[derive(Debug)]
struct Belfry {
    newest: Bell,
    /// Streams that share the newest.
    sharers: usize,
    /// Those before it, as long as a stream has them.
    older: Vec<Weak<Notify>>,
}

impl Bells {
    pub(crate) fn new() -> Self {
        Self {
            belfry: Mutex::new(Belfry {
                newest: Bell::new(),
                sharers: 0,
                older: Vec::new(),
            }),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// A bell for one more stream.
    fn share(&self) -> Bell {
        let mut belfry = self.belfry.lock().unwrap_or_else(PoisonError::into_inner);
        if belfry.sharers == SHARERS_MAX {
            belfry.older.retain(|it| it.strong_count() > 0);
            let full = Arc::downgrade(&belfry.newest.notify);
            belfry.older.push(full);
            belfry.newest = Bell::new();
            belfry.sharers = 0;
        }
        belfry.sharers += 1;
        belfry.newest.clone()
    }

    /// Tells all streams of the connection that this server stops.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        let belfry = self.belfry.lock().unwrap_or_else(PoisonError::into_inner);
        let older = belfry.older.iter().filter_map(Weak::upgrade);
        for notify in older.chain([Arc::clone(&belfry.newest.notify)]) {
            notify.notify_waiters();
        }
    }

    /// Whether this server stops. Look behind enabling [`Bell::rung`], which rings then.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// A stream at the hub, closed when the seat is left.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// The stream's name there.
    pub(crate) stream: StreamId,
    /// Rings when the hub has something for the stream, or for another that shares it. It
    /// remembers nothing: enable [`Bell::rung`] first, look at the hub second, wait third.
    pub(crate) bell: Bell,
}

impl Seat {
    /// Opens a stream with a bell of its own.
    pub(crate) fn take(hub: &Arc<Hub>) -> Self {
        Self::at(hub, Bell::new())
    }

    /// Opens a stream of a connection.
    pub(crate) fn share(hub: &Arc<Hub>, bells: &Bells) -> Self {
        Self::at(hub, bells.share())
    }

    fn at(hub: &Arc<Hub>, bell: Bell) -> Self {
        let stream = hub.open_stream(Arc::clone(&bell.ring));
        Self {
            hub: Arc::clone(hub),
            stream,
            bell,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.close_stream(self.stream);
    }
}
