//! Quorum arithmetic: what a majority has reached, and how a vote stands.
//!
//! Two questions are asked of a set of voters. *Which is the largest value that enough of them
//! have reached?* (commit points, read rounds, times of contact.) *Has the vote been won?*
//! While a membership changes there are two sets, and both must agree, which is all that joint
//! consensus asks of counting (Raft §6).
//!
//! ```text
//!   incoming  a b c      values 7 5 3   reached by a majority: 5 ─┐
//!   outgoing  b c d e    values 5 3 9 9 reached by a majority: 3 ─┴─► agreed: 3
//! ```
//!
//! # Invariants
//!
//! - I1 Two quorums of one [`Voters`] share a node.
//! - I2 A quorum of a joint [`Voters`] holds a majority of each half.
//! - I3 Nobody is a quorum of nobody: without voters nothing is agreed and no vote is won.
//!
//! What it does not do: remember votes or values; the caller gives them as a function.
//! Counting allocates nothing up to sixteen voters a half.
//!
//! ```
//! use holm_base::NodeId;
//! use holm_quorum::{Verdict, Voters};
//!
//! let [a, b, c] = [1, 2, 3].map(NodeId::new);
//! let voters = Voters::new([a, b, c]);
//! assert_eq!(voters.agreed(|node| node.value() * 10), Some(20));
//! assert_eq!(voters.verdict(|node| (node != c).then_some(true)), Verdict::Won);
//! ```
//!
//! Tests: `tests/model.rs` compares with a twin that lists all subsets.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod voters;

pub use voters::{Verdict, Voters, majority};
