//! How many connections may be open at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    open: Arc<AtomicUsize>,
    size: usize,
}

/// A place in the room; leaving it drops it.
#[derive(Debug)]
pub(crate) struct Place {
    /// Kept until the place is left.
    _permit: OwnedSemaphorePermit,
    /// The room's count of connections, once there is one in this place.
    counted: Option<Arc<AtomicUsize>>,
}

impl Place {
    /// Says that a connection has this place now: until then a listener holds it for the next.
    pub(crate) fn occupy(&mut self, room: &Room) {
        room.open.fetch_add(1, Ordering::Relaxed);
        self.counted = Some(Arc::clone(&room.open));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = &self.counted {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Room {
    /// Room for `size` connections.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let places = Arc::new(Semaphore::new(size));
        Self {
            places,
            open: Arc::default(),
            size,
        }
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
        self.open.load(Ordering::Relaxed)
    }

    /// A place, if there is one.
    pub(crate) fn try_enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place {
            _permit: permit,
            counted: None,
        })
    }

    /// A place, as soon as there is one. First come, first served.
    pub(crate) async fn enter(&self) -> Place {
        let permit = Arc::clone(&self.places).acquire_owned().await;
        let permit = permit.expect("the semaphore lives in this value and is never closed");
        Place {
            _permit: permit,
            counted: None,
        }
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
        let mut place = room.try_enter().unwrap();
        assert!(room.try_enter().is_none());
        assert_eq!(room.open(), 0, "the place waits for its connection");
        place.occupy(&room);
        assert_eq!(room.open(), 1);
        drop(place);
        assert_eq!(room.open(), 0);
        assert!(room.try_enter().is_some());
    }
}
