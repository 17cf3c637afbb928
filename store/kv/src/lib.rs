//! The MVCC engine: revisions, transactions, watches, leases, users.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod command;
pub mod outcome;
pub mod range;
pub mod record;
pub mod refusal;

pub use range::KeyRange;
pub use record::Record;
pub use refusal::Refusal;
