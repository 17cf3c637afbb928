//! What the end of a lease changes at an island: nothing that its site has not seen.
//!
//! What would surprise: that holds where deletes win too. A lease ends because nobody renewed it
//! here, and that is no word about what another site wrote meanwhile: so it goes out as a delete
//! that does not win, and leaves no marker. And what hangs on one lease may be more than an
//! update holds: then its end is several of them, and as many revisions.

use bytes::Bytes;
use holm_local_first::{Change, State, Type};

use super::room::Room;
use super::{Isle, next};
use crate::apply::Work;
use crate::store::Store;

impl Isle {
    /// What a key holds once a lease has ended, if a write that does not hang on it was
    /// concurrent to the one that does. A counter or a document ends whole.
    pub(crate) fn survivor(&self, store: &Store, key: &Bytes, lease: i64) -> Option<Bytes> {
        if matches!(self.config.rules.kind, Type::Counter | Type::Json) {
            return None;
        }
        let bytes = self.kept_state(store, key)?;
        let state = State::decode(bytes).ok()?;
        let rest = state.siblings().iter();
        let rest = rest.filter(|it| it.lease != lease || it.dot.slot != self.island.slot());
        let best = rest.max_by_key(|it| (it.hlc, it.dot.slot));
        best.map(|it| it.value.clone())
    }

    /// A key ends with its lease. Markers of other deletes stay. Gives the mark of its record.
    fn ended(&mut self, store: &mut Store, key: &Bytes) -> Bytes {
        let kept = self.kept_state(store, key);
        let mut state = kept.and_then(|kept| State::decode(kept).ok());
        if let Some(state) = &mut state {
            state.delete(self.island.vector());
        }
        let rest = state.filter(|it| !it.is_empty());
        self.keep_state(store, key, rest.as_ref());
        self.changes.push(Change::Delete { key: key.clone() });
        self.own_mark().encode()
    }

    /// Sees to it that one more change fits the update in hand: if not, another begins.
    fn make_room(&mut self, store: &mut Store, (key, value): (&Bytes, &Bytes)) {
        if self.room.take_value(key, value) {
            return;
        }
        store.end_revision();
        self.originate(store);
        store.begin_revision(next(store.root(), self.unix_ms));
        self.room = Room::default();
        assert!(self.room.take_value(key, value), "an update had it before");
    }
}

impl Work<'_> {
    /// A key ends with its lease at an island.
    pub(crate) fn end_key(&mut self, key: &Bytes, lease: i64) {
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let survivor = isle.survivor(self.store, key, lease);
        let none = Bytes::new();
        isle.make_room(self.store, (key, survivor.as_ref().unwrap_or(&none)));
        if let Some(value) = survivor {
            // What was written elsewhere meanwhile does not end with this lease. Nothing of that
            // kind is refused: it needs no look at what is there.
            drop(self.put_own(key, &value, 0));
        } else {
            let mark = isle.ended(self.store, key);
            self.delete_key(key, mark);
        }
    }
}
