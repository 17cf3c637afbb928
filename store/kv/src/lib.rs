//! The MVCC engine: revisions, transactions, watches, leases, users.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod command;
mod job;
pub mod outcome;
pub mod range;
pub mod record;
pub mod refusal;
mod root;
mod store;

pub use job::{Job, JobDone, JobKind};
pub use range::KeyRange;
pub use record::Record;
pub use refusal::Refusal;
pub use root::{Change, ChangeKind, Meta, Root};
pub use store::{
    Deleted, FactKind, NewVersion, Put, Sizes, Store, StoreConfig, StoreError, SweepProgress,
};
