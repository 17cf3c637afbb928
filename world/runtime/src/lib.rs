//! The threads that drive a node: one log writer, and for each keyspace an engine and a worker.
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
//! All keyspaces of a node share the log writer: what waits of any of them goes out in one flush.
//! [`Keyspaces`] opens, closes and removes them while others go on.
//!
//! A node of a cluster has the same threads. Messages of other nodes come in by
//! [`Handle::hear`], are decoded where they came in and queue in the inbox; what the replica
//! has to say is encoded once for each destination and handed to a [`Network`]. Words that state
//! what is not durable yet are held on the engine's thread until it is.
//!
//! Everything that arrives at the log writer while a sync is under way joins the next one
//! (group commit). Reads do not come here at all: [`Handle::view`] gives the newest published
//! state, which holds every acknowledged write of this node; of the others too once
//! [`Handle::read_barrier`] has returned.
//!
//! While the engine's thread sleeps, whoever brings it something small does its work where it is
//! ([`Handle::propose_here`], [`Handle::attend`]), which saves waking it.
//!
//! A write that is alone, or a few that came together, are flushed by whoever runs the engine, in
//! a cluster too: what they say to others was written before, by the same thread
//! ([`Network::send_here`]), so other disks work meanwhile, and no batch is lost, for there is none. A
//! disk that hangs then holds up the heartbeats with it, and that is right: another shall lead.
//!
//! # Limits
//!
//! The inbox takes 65,536 requests or 64 MiB; beyond, a request is answered
//! [`holm_kv::Refusal::Busy`]. Besides it takes 65,536 messages of other nodes or 64 MiB;
//! beyond, they are dropped and counted, and are sent again. What waits for the log is bounded
//! by the sequencer, jobs by the engine (one of each kind at a time).
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
mod humble;
mod identity;
mod ids;
mod inbox;
mod keyspaces;
mod log_writer;
mod network;
mod node;
mod note;
mod outbox;
mod recording;
mod removal;
mod restore;

pub use clock::Clock;
pub use handle::{Handle, Identity, unix_ms};
pub use humble::humble;
pub use identity::IdentityError;
pub use ids::{cluster_id, keyspace_cluster_id, member_id};
pub use keyspaces::{DEFAULT, KeyspaceConfig, Keyspaces};
pub use network::{Bootstrap, ClusterConfig, MemberConfig, Network, Parcel};
pub use node::{Node, NodeConfig, OnFailure, StartError, start, start_recorded};
pub use recording::{RecordingConfig, ReplayError, recordings, replay};
pub use restore::{SeedError, seed, seed_founder};
