//! A stream's seat at the watch hub: a place that is given back however it ends.

use std::fmt;
use std::sync::Arc;

use holm_kv::{Hub, StreamId};
use tokio::sync::Notify;

/// What the hub calls.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// Rings for a stream.
#[derive(Clone)]
pub(crate) struct Bell {
    notify: Arc<Notify>,
    /// What the hub calls.
    ring: Wake,
}

impl Bell {
    pub(crate) fn new() -> Self {
        let notify = Arc::new(Notify::new());
        let rung = Arc::clone(&notify);
        Self {
            notify,
            ring: Arc::new(move || rung.notify_waiters()),
        }
    }

    /// Resolves at the next ring after it was enabled. It remembers nothing: enable it first,
    /// look at the hub second, wait third.
    pub(crate) fn rung(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }

    /// What the hub is to call.
    pub(crate) fn wake(&self) -> Wake {
        Arc::clone(&self.ring)
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").finish_non_exhaustive()
    }
}

/// A stream at the hub, closed when the seat is left.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// The stream's name there.
    pub(crate) stream: StreamId,
}

impl Seat {
    /// Opens a stream; `wake` is called when the hub has something for it. Streams that share
    /// what is called are woken by one call.
    pub(crate) fn open(hub: &Arc<Hub>, wake: Wake) -> Self {
        Self {
            hub: Arc::clone(hub),
            stream: hub.open_stream(wake),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.close_stream(self.stream);
    }
}
