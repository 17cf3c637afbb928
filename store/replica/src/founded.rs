//! A group whose first state comes from elsewhere: that of a snapshot's file.
//!
//! What would surprise: all of it is the state at op 1, and the log begins behind that. So a site
//! that joins gets a snapshot, as if the log had been cut.

use std::sync::Arc;

use bytes::BytesMut;
use holm_base::{GroupId, NodeId, Op, Term};
use holm_kv::{Restore, RestoreError, StoreConfig};
use holm_log::{Log, LogError};
use holm_machine::Folder;
use holm_raft::{Checkpoint, Configuration, Position};
use holm_sequencer::Record;

use crate::open_group::go_on_behind;

/// A group of one, before its first run.
#[derive(Clone, Debug)]
pub struct Founded {
    checkpoint: Checkpoint,
}

impl Founded {
    /// The group that this node founds.
    #[must_use]
    pub fn by(node: NodeId) -> Self {
        let mut checkpoint = Checkpoint::genesis(Configuration::new([node]));
        checkpoint.at = Position {
            term: Term::new(1),
            op: Op::new(1),
        };
        Self { checkpoint }
    }

    /// Begins its state, in an empty folder.
    ///
    /// # Errors
    ///
    /// As [`Restore::new`].
    pub fn restore(
        &self,
        engine: Arc<dyn Folder>,
        config: StoreConfig,
    ) -> Result<Restore, RestoreError> {
        let mut words = BytesMut::new();
        self.checkpoint.encode(&mut words);
        let Position { term, op } = self.checkpoint.at;
        Restore::in_group(engine, config, (op, term), words.freeze())
    }

    /// Begins its log, once its state is complete.
    ///
    /// # Errors
    ///
    /// What the log says.
    pub fn begin_log(&self, log: &mut Log, group: GroupId) -> Result<(), LogError> {
        let hard = Record::Hard {
            term: self.checkpoint.at.term,
            vote: None,
            is_recovering: false,
        };
        go_on_behind(log, group, &self.checkpoint, hard)
    }
}
