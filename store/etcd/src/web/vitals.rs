//! What health checks and metrics ask of a node.

use std::fmt;
use std::pin::Pin;

use holm_kv::command::AlarmKind;
use holm_telemetry::Readings;

/// Why a node cannot read. The text is shown to whoever asks for the node's health.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ReadFailure {
    /// What a client that read would have been told.
    pub why: String,
}

/// What a node knows of its own health. Tests have one that is as ill as they need it.
pub trait Vitals: fmt::Debug + Send + Sync {
    /// Raised alarms.
    fn alarms(&self) -> Vec<AlarmKind>;

    /// Whether some node leads.
    fn has_leader(&self) -> bool;

    /// Whether this node has no vote. A node alone always has one.
    fn is_learner(&self) -> bool {
        false
    }

    /// What a node that is cut off says in all its answers.
    fn island(&self) -> Option<String> {
        None
    }

    /// Reads what is here, current or not.
    ///
    /// # Errors
    ///
    /// [`ReadFailure`] if it cannot be read.
    fn read_here(&self) -> Result<(), ReadFailure>;

    /// Reads what is current, which needs the engine to answer. Gives up by itself.
    fn read_current(&self) -> Pin<Box<dyn Future<Output = Result<(), ReadFailure>> + Send + '_>>;

    /// What is shown of each keyspace at this node, as lines of a scrape.
    fn keyspace_gauges(&self) -> String {
        String::new()
    }

    /// What gauges show.
    fn readings(&self) -> Readings;
}
