//! A stream's state, and the table of all.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::event::Key;

/// How a stream is to end once what waits in it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Not yet.
    #[default]
    Open,
    /// With its last piece of data.
    Data,
    /// With the usual trailers.
    Usual,
    /// With these trailers, as a block.
    Block(Bytes),
}

/// What the owner of a stream waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    /// For nothing.
    #[default]
    None,
    /// That all was sent.
    Drained,
    /// That all was sent and there is room for more.
    Room,
}

/// A stream.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each side begins and ends by itself"
)]
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// Whether the client has said everything.
    pub(crate) has_ended: bool,
    /// Whether its head was sent.
    pub(crate) is_begun: bool,
    /// Whether its end was sent.
    pub(crate) is_done: bool,
    /// Whether it stands in the queue of those that could send.
    pub(crate) is_queued: bool,
    /// What was sent beyond what the client has allowed since: the client's first window less
    /// this is what may be sent.
    pub(crate) sent: i64,
    /// What has come and was not released.
    pub(crate) held: u32,
    /// What was released and not told to the client.
    pub(crate) released: u32,
    /// What the head said is still to come of the body.
    pub(crate) left: Option<u64>,
    /// Data that waits for the window, and how the stream ends behind it.
    pub(crate) pending: Bytes,
    pub(crate) tail: Tail,
    pub(crate) wish: Wish,
}

/// All streams of a connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: Vec<Stream>,
    free: Vec<usize>,
    places: BTreeMap<u32, usize>,
    /// The place that was asked for last.
    recent: usize,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() - 1
            }
        };
        self.places.insert(id, slot);
        self.recent = slot;
        Key { slot, id }
    }

    /// The stream of a number.
    pub(crate) fn find(&mut self, id: u32) -> Option<Key> {
        let recent = self.slots.get(self.recent).filter(|it| it.id == id);
        if recent.is_none() {
            self.recent = *self.places.get(&id)?;
        }
        let slot = self.recent;
        Some(Key { slot, id })
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Stream> {
        self.slots.get(key.slot).filter(|it| it.id == key.id)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot).filter(|it| it.id == key.id)
    }

    /// Takes a stream out; whether it was there.
    pub(crate) fn remove(&mut self, key: Key) -> bool {
        let Some(stream) = self.get_mut(key) else {
            return false;
        };
        // No stream has the number 0.
        *stream = Stream::default();
        self.places.remove(&key.id);
        self.free.push(key.slot);
        true
    }

    /// The keys of all.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let keys = self.places.iter();
        keys.map(|(id, slot)| Key {
            slot: *slot,
            id: *id,
        })
    }
}
