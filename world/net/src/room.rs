//! How many connections may be open at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections beyond this are refused room even where the system has descriptors for more.
const CONNECTIONS_MAX: usize = 16_384;

/// Descriptors that are kept for files, logs and the listeners themselves.
const DESCRIPTORS_KEPT: usize = 512;

/// Fewer than this would refuse even a handful of clients on a tightly limited system.
const CONNECTIONS_MIN: usize = 16;

/// Room for connections, shared by all listeners of the process. Clones share it.
#[derive(Clone, Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    size: usize,
}

impl Room {
    /// Room for `size` connections.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let places = Arc::new(Semaphore::new(size));
        Self { places, size }
    }

    /// Room for 16,384 connections, or for as many as the process may open files, less 512.
    #[must_use]
    pub fn of_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let files = limit.current.and_then(|files| usize::try_from(files).ok());
        Self::new(size_for(files))
    }

    /// How many connections fit.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits())
    }

    /// A place, if there is one.
    pub(crate) fn try_enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place, as soon as there is one. First come, first served.
    pub(crate) async fn enter(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.expect("the semaphore lives in this value and is never closed")
    }
}

/// The room that a process has which may open `files` files; `None` is no limit.
fn size_for(files: Option<usize>) -> usize {
    files.map_or(CONNECTIONS_MAX, |files| {
        files
            .saturating_sub(DESCRIPTORS_KEPT)
            .clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_follows_the_file_limit_within_its_bounds() {
        assert_eq!(size_for(None), 16_384);
        assert_eq!(size_for(Some(1_000_000)), 16_384);
        assert_eq!(size_for(Some(1_024)), 512);
        assert_eq!(size_for(Some(256)), 16);
    }

    #[test]
    fn a_full_room_has_no_place_until_somebody_leaves() {
        let room = Room::new(1);
        let place = room.try_enter();
        assert!(place.is_some() && room.try_enter().is_none());
        assert_eq!(room.open(), 1);
        drop(place);
        assert!(room.try_enter().is_some());
    }
}
