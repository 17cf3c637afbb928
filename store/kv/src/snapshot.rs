//! Snapshots for another node: a state as chunks named by their content, and back.
//!
//! ```text
//! Keyspace::pin ─► Export: names its chunks ─► Load: makes one again from the pinned state
//!                                                        │ (network)
//! Ready ◄─ Build: a store beside the one in use ◄─ Keep: in a folder, by name ◄──┘
//!   └─► Place: that folder is the engine's from now on ─► Keyspace::replace
//! ```
//!
//! What would surprise: a chunk holds changes and facts, not pieces of files. Which segments a
//! node keeps them in is its own affair; which revisions there are is not, so nodes that have
//! compacted alike name the same chunks. A chunk's end is chosen by what it holds: after a
//! compaction most of the names stay. And the giver writes nothing: the pinned state costs it
//! files that it would have removed by now, for as long as it is pinned.
//!
//! ```text
//! chunk, little-endian              item
//!  0 8 "HOLMKVS1"                    0 1 kind; 1 3 0
//!  8 2 version, 1; 10 6 0            4 4 sub          12 4 0
//! 16 . items                         8 4 body bytes   16 8 main
//!                                   24 . body
//! ```
//!
//! | kind | main, sub | body |
//! |--|--|--|
//! | 1 put | of the change | the complete KeyValue message |
//! | 2 delete | of the change | the key |
//! | 3 fact | bytes of its key; 0 | key, value |
//! | 4 end, once, last | the revision; 0 | compacted, applied op, term: 8 bytes each |

mod chunk;
mod export;
mod import;
mod places;

use std::sync::Arc;

use bytes::Bytes;
use holm_base::{Op, Revision, Term};

use crate::checkpoint::Fact;
use crate::error::StoreError;
use crate::index::Index;
use crate::root::Root;
use crate::store::Store;

pub use export::Export;
pub use import::{Build, BuildError};
pub use places::{Places, Survey};

/// The SHA-256 of a chunk's bytes.
pub type ChunkId = [u8; 32];

/// One state, held for as long as somebody reads it.
#[derive(Clone, Debug)]
pub struct Pin {
    pub(crate) root: Root,
    pub(crate) facts: Index<Fact>,
    pub(crate) applied: Op,
    pub(crate) term: Term,
}

impl Pin {
    /// The op that it includes.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.applied
    }

    /// Its revision.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.root.revision()
    }
}

/// A store that was built from chunks, durable, in the folder that is not in use yet.
#[derive(Debug)]
pub struct Ready {
    pub(crate) store: Store,
}

impl Ready {
    /// The op that it includes.
    #[must_use]
    pub const fn applied(&self) -> Op {
        self.store.applied()
    }
}

/// A bounded piece of a snapshot's work: see [`crate::Job::snapshot`].
#[derive(Debug)]
pub enum Task {
    /// Name some chunks.
    Export(Box<Export>),
    /// Make a chunk's bytes again.
    Load {
        /// Of which snapshot.
        export: Arc<Export>,
        /// Its index.
        index: u32,
    },
    /// Look which chunks are here already.
    Survey(Box<Survey>),
    /// Keep a chunk if its bytes have this name.
    Keep {
        /// Where.
        places: Places,
        /// Its name.
        id: ChunkId,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Go on building the store that the chunks hold.
    Build(Box<Build>),
    /// Make the store that was built the engine's.
    Place(Places),
    /// Remove what is not in use: chunks, and the files of the other store.
    Tidy(Places),
}

/// What came of a [`Task`].
#[derive(Debug)]
pub enum Done {
    /// Whether all chunks have their names.
    Export(Box<Export>, Result<bool, StoreError>),
    /// A chunk's bytes.
    Load(Result<Bytes, StoreError>),
    /// Whether all chunks were looked for.
    Survey(Box<Survey>, Result<bool, StoreError>),
    /// Whether the bytes had that name.
    Keep(Result<bool, StoreError>),
    /// Whether the store is complete and durable.
    Build(Box<Build>, Result<bool, BuildError>),
    /// Where the engine lies now.
    Place(Result<Places, StoreError>),
    /// It is gone.
    Tidy(Result<(), StoreError>),
}

impl Task {
    pub(crate) fn run(self) -> Done {
        match self {
            Self::Export(mut export) => {
                let named = export.slice();
                Done::Export(export, named)
            }
            Self::Load { export, index } => Done::Load(export.read(index)),
            Self::Survey(mut survey) => {
                let looked = survey.slice();
                Done::Survey(survey, looked)
            }
            Self::Keep { places, id, bytes } => Done::Keep(places.keep(&id, &bytes)),
            Self::Build(mut build) => {
                let built = build.slice();
                Done::Build(build, built)
            }
            Self::Place(places) => Done::Place(places.place()),
            Self::Tidy(places) => Done::Tidy(places.tidy()),
        }
    }
}
