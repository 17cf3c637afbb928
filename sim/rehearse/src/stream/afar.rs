//! A keyspace elsewhere, as a stream's sink sees it: a port whose answers fail, or get lost.
//!
//! It keeps what was put, transaction by transaction, for whoever judges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holm_connect::{Change, Keyspace, KeyspaceError};

/// What becomes of the next transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// It is carried out, and answered.
    #[default]
    Works,
    /// It is not, and nobody knows.
    Fails,
    /// It is, and nobody knows.
    Loses,
    /// Nobody knows; it is carried out behind what is asked next.
    Lags,
}

/// What a transaction put: keys and values.
pub(crate) type Puts = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Debug)]
struct Late {
    key: Vec<u8>,
    guard: Option<Vec<u8>>,
    puts: Puts,
}

#[derive(Debug, Default)]
struct Store {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    done: Vec<Puts>,
    fate: Fate,
    late: Vec<Late>,
}

/// The keyspace. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Afar(Arc<Mutex<Store>>);

impl Afar {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides over the next transaction.
    pub(crate) fn set_fate(&self, fate: Fate) {
        self.store().fate = fate;
    }

    /// The transactions, oldest first.
    pub(crate) fn done(&self) -> Vec<Puts> {
        self.store().done.clone()
    }
}

impl Store {
    fn carry_out(&mut self, (key, guard): (&[u8], Option<&[u8]>), puts: &Puts) -> bool {
        if self.values.get(key).map(Vec::as_slice) != guard {
            return false;
        }
        self.values.extend(puts.iter().cloned());
        self.done.push(puts.clone());
        true
    }

    fn catch_up(&mut self) {
        for Late { key, guard, puts } in std::mem::take(&mut self.late) {
            self.carry_out((&key, guard.as_deref()), &puts);
        }
    }
}

fn unknown() -> KeyspaceError {
    KeyspaceError::Unavailable("deadline exceeded".to_owned())
}

fn unasked() -> KeyspaceError {
    KeyspaceError::Refused("only sinks ask here".to_owned())
}

impl Keyspace for Afar {
    fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let mut store = self.store();
        let value = store.values.get(key).cloned();
        store.catch_up();
        Ok(value)
    }

    fn all(&mut self, _prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError> {
        Err(unasked())
    }

    fn all_at(&mut self, _prefix: &[u8], _revision: i64) -> Result<Vec<Change>, KeyspaceError> {
        Err(unasked())
    }

    fn watch(&mut self, _prefix: &[u8], _from: i64) -> Result<(), KeyspaceError> {
        Err(unasked())
    }

    fn changes(&mut self, _wait: Duration) -> Result<Vec<Change>, KeyspaceError> {
        Err(unasked())
    }

    fn put_if(
        &mut self,
        guard: (&[u8], Option<&[u8]>),
        puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError> {
        let mut store = self.store();
        let puts = puts.to_vec();
        match std::mem::take(&mut store.fate) {
            Fate::Works => {
                let is_done = store.carry_out(guard, &puts);
                store.catch_up();
                Ok(is_done)
            }
            Fate::Fails => Err(unknown()),
            Fate::Loses => {
                store.carry_out(guard, &puts);
                Err(unknown())
            }
            Fate::Lags => {
                store.late.push(Late {
                    key: guard.0.to_vec(),
                    guard: guard.1.map(<[u8]>::to_vec),
                    puts,
                });
                Err(unknown())
            }
        }
    }
}
