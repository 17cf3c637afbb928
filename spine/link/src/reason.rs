//! Why a link ends, in words that an operator can act on.

use alloc::string::String;
use core::time::Duration;

use holm_base::{ClusterId, NodeId};
use holm_wire::WireError;

use crate::hello::HelloError;

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The certificate is good but names no node.
    #[error("link refused: the peer's certificate names no node (holm://cluster/site/node)")]
    NoIdentity,
    /// The certificate is of another cluster.
    #[error("link refused: certificate is of cluster {theirs}, this is cluster {ours}")]
    ForeignCertificate {
        /// Ours.
        ours: String,
        /// What it names.
        theirs: String,
    },
    /// The greeting cannot be read.
    #[error("link refused: {0}")]
    Hello(#[source] HelloError),
    /// The greeting is of another cluster.
    #[error(
        "link refused: {certificate} greets as of cluster {:016x}, this is {:016x}",
        theirs.value(),
        ours.value()
    )]
    ForeignHello {
        /// Ours.
        ours: ClusterId,
        /// What it says.
        theirs: ClusterId,
        /// Whom the certificate names.
        certificate: String,
    },
    /// The greeting names a node that is not in the member table.
    #[error("link refused: {certificate} greets as node {node}, which is no member")]
    NotMember {
        /// What it says.
        node: NodeId,
        /// Whom the certificate names.
        certificate: String,
    },
    /// The member table has another name for that node.
    #[error(
        "link refused: node {node} is {table} in the member table, its certificate names {certificate}"
    )]
    NameDiffers {
        /// What it says.
        node: NodeId,
        /// What the table says.
        table: String,
        /// What the certificate says.
        certificate: String,
    },
    /// The member table has no name for that node yet, and another has its.
    #[error("link refused: {certificate} greets as node {node}, and another member has its name")]
    NameTaken {
        /// What it says.
        node: NodeId,
        /// Whom the certificate names.
        certificate: String,
    },
    /// Another member than the one that was dialled.
    #[error("link refused: dialled node {expected}, node {found} answers: check its address")]
    Unexpected {
        /// Who was dialled.
        expected: NodeId,
        /// Who answers.
        found: NodeId,
    },
    /// This node itself.
    #[error("link refused: node {node} talks to itself: check addresses and node names")]
    Itself {
        /// Both.
        node: NodeId,
    },
    /// A newer run of that node exists (I20).
    #[error(
        "link refused: boot {boot} of node {node} is fenced, boot {newest} was seen: this process was replaced, or \
         another runs on a copy of its data directory"
    )]
    Fenced {
        /// Who.
        node: NodeId,
        /// Its run.
        boot: u64,
        /// The newest run.
        newest: u64,
    },
    /// Two processes run as one boot of that node.
    #[error(
        "link refused: another process runs as boot {boot} of node {node}: the data directory was copied; stop one \
         of the two, remove its directory and let it join anew"
    )]
    Cloned {
        /// Who.
        node: NodeId,
        /// Its run.
        boot: u64,
    },
    /// A plane that both speak, in no common version.
    #[error(
        "link refused: plane {plane}: we speak versions {ours}, site {site} speaks {theirs}: update the older of the \
         two"
    )]
    NoCommonVersion {
        /// Which.
        plane: u8,
        /// Ours, as a range.
        ours: String,
        /// Theirs, as a range.
        theirs: String,
        /// Their site.
        site: String,
    },
    /// No choice in a layer, or one that is not good enough.
    #[error(
        "link refused: layer {layer}: we offer [{ours}], site {site} offers [{theirs}], {demand}"
    )]
    Layer {
        /// Which.
        layer: String,
        /// Ours.
        ours: String,
        /// Theirs.
        theirs: String,
        /// Their site.
        site: String,
        /// What is demanded.
        demand: String,
    },
    /// A frame before its time (I19).
    #[error("link refused: frame of plane {plane}, kind {kind} before both ends were bound")]
    Early {
        /// What it says.
        plane: u8,
        /// What it says.
        kind: u8,
    },
    /// The digests differ: somebody is in between, or the ends chose differently.
    #[error("link refused: binds differ, so what was said is not what was heard")]
    BindDiffers,
    /// A switch to another epoch (I21).
    #[error("link refused: epoch {epoch} is not supported, only 0 is")]
    EpochUnsupported {
        /// Which.
        epoch: u32,
    },
    /// A greeting or bind where none belongs, or a body of the wrong size.
    #[error("link closed: kind {kind} of the link's own frames makes no sense here")]
    Senseless {
        /// What it says.
        kind: u8,
    },
    /// The stream cannot be read.
    #[error("link closed: {0}")]
    Damaged(#[source] WireError),
    /// The ends were not bound in time.
    #[error("link refused: not bound within {0:?}")]
    BindLate(Duration),
    /// The other end is gone (I33).
    #[error("link closed: nothing heard for {0:?}")]
    Silent(Duration),
    /// The other end did not finish a connection that was replaced.
    #[error("link closed: not drained within {0:?}")]
    DrainLate(Duration),
    /// Another connection took over, and everything that was sent here has arrived.
    #[error("link closed: replaced by another connection")]
    Drained,
    /// The other end says why.
    #[error("site {site} says: {text}")]
    Told {
        /// Their site, by certificate.
        site: String,
        /// Its words.
        text: String,
    },
}

impl Reason {
    /// Whether this is how a connection ought to end.
    #[must_use]
    pub const fn is_orderly(&self) -> bool {
        matches!(self, Self::Drained)
    }
}
