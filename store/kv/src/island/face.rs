//! What a keyspace shows of the island that it is, to whoever exchanges with others.

use bytes::Bytes;
use holm_local_first::{Applied, Island, Sealed, Slot};

use super::{Indexed, Isle, States};
use crate::keyspace::Keyspace;

impl Keyspace {
    /// What the island has taken in, if it is one.
    #[must_use]
    pub fn island(&self) -> Option<&Island> {
        self.isle.as_deref().map(Isle::island)
    }

    /// What the island took in since this was last asked, in order.
    pub fn take_applied(&mut self) -> Vec<Applied> {
        self.isle
            .as_deref_mut()
            .map(Isle::take_applied)
            .unwrap_or_default()
    }

    /// These updates of others are about to come as a command, and were read already.
    pub fn expect(&mut self, updates: Vec<Sealed>) {
        if let Some(isle) = self.isle.as_deref_mut() {
            isle.expect(updates);
        }
    }

    /// Whether the island has something to forget once it is stable: additions to fold.
    #[must_use]
    pub fn has_to_forget(&self) -> bool {
        self.isle.as_deref().is_some_and(Isle::is_loose)
    }

    /// Updates of a slot behind a number, as many as fit and at least one. `None` if the first
    /// of them is not kept any more.
    #[must_use]
    pub fn updates(&self, slot: Slot, after: u64, bytes_max: usize) -> Option<Vec<Bytes>> {
        self.isle.as_deref()?.read(slot, after, bytes_max)
    }

    /// All keys of the island as they are now. Call it between commands.
    #[must_use]
    pub fn states(&self) -> Option<States> {
        let isle = self.isle.as_deref()?;
        Some(isle.states(&self.store))
    }

    /// The index of all keys of the island as they are now. Call it between commands. If there
    /// is none, [`Keyspace::sweep`] makes one from here on; it is kept up to date until this
    /// node ends.
    pub fn index(&mut self) -> Option<Indexed> {
        Some(self.isle.as_deref_mut()?.index())
    }

    /// Whether an index is being made.
    pub(crate) fn is_indexing(&self) -> bool {
        self.isle.as_deref().is_some_and(Isle::is_indexing)
    }

    /// Makes a slice of it; whether more is left.
    pub(crate) fn index_some(&mut self) -> bool {
        let isle = self.isle.as_deref_mut();
        isle.is_some_and(|isle| isle.index_some(&self.store))
    }
}
