//! Ids, time and seeded randomness: the words that every other crate uses.
//!
//! Nothing here reads a clock or an entropy source. A protocol gets its time as an argument
//! and its randomness from a [`Prng`] that was seeded in its configuration, so that the same
//! inputs give the same outputs on every machine and in every rehearsal.
//!
//! ```
//! use holm_base::{Op, Prng, Time};
//! use core::time::Duration;
//!
//! let start = Time::ZERO;
//! assert_eq!(start + Duration::from_millis(3), Time::from_nanos(3_000_000));
//! assert_eq!(Op::ZERO.next(), Op::new(1));
//! assert_eq!(Prng::new(7).next(), Prng::new(7).next());
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

mod ids;
mod prng;
mod time;

pub use ids::{ByteCount, ClusterId, GroupId, NodeId, Op, RequestId, Revision, Term, WriteId};
pub use prng::Prng;
pub use time::Time;
