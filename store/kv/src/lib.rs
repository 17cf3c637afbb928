//! The MVCC engine: revisions, transactions, watches, leases, users.
#![deny(clippy::wildcard_enum_match_arm)]

mod checkpoint;
mod clean;
pub mod command;
mod config;
mod error;
mod flush;
mod frame;
mod head;
mod history;
mod index;
mod job;
mod keys;
mod layout;
mod open;
pub mod outcome;
pub mod range;
pub mod record;
pub mod refusal;
mod root;
mod scan;
mod segment;
mod store;
mod tail;
mod upkeep;

pub use config::StoreConfig;
pub use error::StoreError;
pub use job::{Job, JobDone, JobKind};
pub use range::KeyRange;
pub use record::Record;
pub use refusal::Refusal;
pub use root::{Change, ChangeKind, Meta, Root};
pub use store::{Deleted, FactKind, NewVersion, Put, Sizes, Store, SweepProgress};
