//! Building a store from chunks, beside the one that is in use.

use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Revision, Term};

use super::chunk::{self, End, Item};
use super::{ChunkId, Places, Ready};
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::layout::Bad;
use crate::record::Record;
use crate::restore::{Restore, RestoreError};

/// Why a snapshot could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A chunk that was kept is gone or not what it was. It must be fetched again.
    #[error("read chunk {index} of a snapshot: it is gone or damaged")]
    Spoiled {
        /// Its index.
        index: u32,
    },
    /// The chunks are what they were named for, and hold no state.
    #[error("build a store from a snapshot: {found}")]
    Nonsense {
        /// What was wrong.
        found: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store in the making.
#[derive(Debug)]
pub struct Build {
    places: Places,
    config: StoreConfig,
    ids: Arc<[ChunkId]>,
    at: (Op, Term),
    sequencer: Bytes,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    /// The next chunk to take.
    Filling(Box<Restore>, usize, Option<End>),
    Sealed(Box<Restore>),
    Done(Box<Restore>),
}

impl Build {
    /// Of the chunks that are kept there under these names, as a state at an op and its term.
    /// `sequencer` is what the sequencer must find again beside it.
    #[must_use]
    pub const fn new(
        places: Places,
        config: StoreConfig,
        ids: Arc<[ChunkId]>,
        at: (Op, Term),
        sequencer: Bytes,
    ) -> Self {
        Self {
            places,
            config,
            ids,
            at,
            sequencer,
            stage: Stage::Start,
        }
    }

    /// The store, once it is complete.
    #[must_use]
    pub fn into_ready(self) -> Option<Ready> {
        match self.stage {
            Stage::Done(restore) => Some(Ready {
                store: restore.into_store(),
            }),
            Stage::Start | Stage::Filling(..) | Stage::Sealed(_) => None,
        }
    }

    /// Begins anew, in an empty folder.
    pub fn restart(&mut self) {
        self.stage = Stage::Start;
    }

    /// Does one slice of the work: a chunk, or a job of the new store. Whether it is complete.
    ///
    /// # Errors
    ///
    /// As [`BuildError`] says; it must then begin anew.
    pub(crate) fn slice(&mut self) -> Result<bool, BuildError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => {
                let folder = self.places.begin_spare()?;
                let restore = Restore::at(folder, self.config.clone(), self.at);
                Stage::Filling(Box::new(restore.map_err(refused)?), 0, None)
            }
            Stage::Filling(mut restore, next, mut end) => match self.ids.get(next) {
                Some(id) => {
                    let index = u32::try_from(next).unwrap_or(u32::MAX);
                    let bytes = self.places.chunk(id)?;
                    let bytes = bytes.ok_or(BuildError::Spoiled { index })?;
                    take(&mut restore, &bytes, &mut end)?;
                    Stage::Filling(restore, next + 1, end)
                }
                None => {
                    self.seal(&mut restore, end)?;
                    Stage::Sealed(restore)
                }
            },
            Stage::Sealed(mut restore) => {
                if restore.settle().map_err(refused)? {
                    self.places.mark_built(self.at)?;
                    Stage::Done(restore)
                } else {
                    Stage::Sealed(restore)
                }
            }
            done @ Stage::Done(_) => done,
        };
        Ok(matches!(self.stage, Stage::Done(_)))
    }

    fn seal(&self, restore: &mut Restore, end: Option<End>) -> Result<(), BuildError> {
        let Some(end) = end else {
            return Err(nonsense("its last chunk has no end"));
        };
        if (end.applied, end.term) != (self.at.0.value(), self.at.1.value()) {
            return Err(nonsense("it is of another op"));
        }
        let line = Revision::new(end.compacted);
        restore
            .seal((Revision::new(end.revision), line), self.sequencer.clone())
            .map_err(refused)
    }
}

fn take(restore: &mut Restore, bytes: &Bytes, end: &mut Option<End>) -> Result<(), BuildError> {
    for item in chunk::items(bytes).map_err(|Bad(found)| nonsense(found))? {
        if end.is_some() {
            return Err(nonsense("something stands behind its end"));
        }
        match item {
            Item::Put { main, sub, record } => {
                let parts = Record::from_bytes(record).decode();
                let parts = parts.ok_or_else(|| nonsense("a record makes no sense"))?;
                restore.put(main, sub, &parts).map_err(refused)?;
            }
            Item::Delete { main, sub, key } => {
                let mark = Bytes::new();
                restore.delete(main, sub, (key, mark)).map_err(refused)?;
            }
            Item::Erased { main, sub, record } => {
                let parts = Record::from_bytes(record).decode();
                let parts = parts.ok_or_else(|| nonsense("a delete makes no sense"))?;
                let delete = (parts.key, parts.mark);
                restore.delete(main, sub, delete).map_err(refused)?;
            }
            Item::Fact { key, value } => restore.fact(&key, &value).map_err(refused)?,
            Item::End(found) => *end = Some(found),
        }
    }
    Ok(())
}

fn nonsense(found: &str) -> BuildError {
    BuildError::Nonsense {
        found: found.to_owned(),
    }
}

fn refused(error: RestoreError) -> BuildError {
    match error {
        RestoreError::Store(error) => BuildError::Store(error),
        RestoreError::NotEmpty => BuildError::Store(StoreError::Damaged {
            file: "the folder for a snapshot".to_owned(),
            at: ByteCount::ZERO,
            found: "it was emptied, and is not empty".to_owned(),
        }),
        other @ (RestoreError::Order { .. }
        | RestoreError::Record { .. }
        | RestoreError::AuthTooLarge { .. }) => BuildError::Nonsense {
            found: other.to_string(),
        },
    }
}
