//! A stream's seat at the watch hub: a bell, and a place that is given back however it ends.

use std::sync::Arc;

use holm_kv::{Hub, StreamId};
use tokio::sync::Notify;

/// A stream at the hub, closed when the seat is left.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// The stream's name there.
    pub(crate) stream: StreamId,
    /// Rings when the hub has something for the stream.
    pub(crate) bell: Arc<Notify>,
}

impl Seat {
    /// Opens a stream.
    pub(crate) fn take(hub: &Arc<Hub>) -> Self {
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let stream = hub.open_stream(Arc::new(move || rung.notify_one()));
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
