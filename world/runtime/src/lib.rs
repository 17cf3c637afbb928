//! The threads that drive a node: one engine, one log writer, one background worker.
//!
//! ```text
//!  front tasks ──inbox──► engine thread (replica: sequencer, engine, watch hub)
//!       ▲                   │        ▲          │         ▲
//!       └──── answers ──────┘     durable     jobs       done
//!                           │        │          │         │
//!                           └──► log writer     └──► background worker
//!                                (fdatasync)         (flush, checkpoint, clean)
//! ```
//!
//! Everything that arrives at the log writer while a sync is under way joins the next one
//! (group commit). Reads do not come here at all: [`Handle::view`] gives the newest published
//! state, which holds every acknowledged write.
//!
//! # Limits
//!
//! The inbox takes 65,536 requests or 64 MiB; beyond, a request is answered
//! [`holm_kv::Refusal::Busy`]. What waits for the log is bounded by the sequencer, jobs by the
//! engine (one of each kind at a time).
//!
//! # When the disk fails
//!
//! After a failed write or sync nothing is known about what the device holds. The node's
//! failure callback is told, no further answer is given, and the process is to end: what was
//! acknowledged is durable, the rest was never promised.

mod background;
mod clock;
mod engine;
mod handle;
mod identity;
mod ids;
mod inbox;
mod log_writer;
mod network;
mod node;
mod note;
mod restore;

pub use clock::Clock;
pub use handle::{Handle, Identity};
pub use identity::IdentityError;
pub use ids::{cluster_id, member_id};
pub use network::{Bootstrap, ClusterConfig, MemberConfig, Network, Parcel};
pub use node::{Node, NodeConfig, OnFailure, StartError, start};
pub use restore::{SeedError, seed};
