//! A cache that is never older than it says, and chooses per key how it is kept fresh.
//!
//! A site that is no member of a keyspace, or a gateway, keeps the keys that are read there. Its
//! home tells it of changes in frames; a value that may be older than the bound is not answered.
//!
//! ```text
//!  readers ─► Cache ── Report, Fetch, Evict ──►  Home ◄── writes, in order
//!          ◄─       ◄── Frame, Value ──────────        ◄── read index
//! ```
//!
//! # Invariants
//!
//! - I1 An answer is at most as old as it says, and that is at most the bound. No clock but the
//!   cache's own is in that.
//! - I2 A frame is taken whole and in order; after one that is missing nothing is believed.
//! - I3 A home counts a key's changes from before it reads it for a fetch.
//! - I4 A key costs at most twice what the best choices would have cost, and a few fetches
//!   ([`Policy`]).
//! - I5 What a home tells of a key never goes back to an older revision.
//!
//! # What it does not do
//!
//! It opens no connection and has no wire format (`store/etcd` has, and the binary's `holm cache`
//! is its front), answers single keys only, and writes nothing: a write goes home. Whether reads
//! that cannot be answered go home or are refused is the caller's choice.
//!
//! ```
//! use holm_freshness::{Choice, Policy, Prices};
//!
//! let prices = Prices { update: 300, invalidate: 40, miss: 400 };
//! let mut key = Policy::new();
//! assert_eq!(key.write(prices), Choice::Update);
//! assert_eq!(key.write(prices), Choice::Invalidate, "two updates cost more than a fetch");
//! key.read(prices);
//! ```
//!
//! Limits: keys a home knows of, bytes that wait for a frame, items a frame, bytes and waiting
//! reads at a cache; what is full is answered by forgetting a key (first one that the cache does
//! not hold), by a frame at once, by more frames, by throwing out what was not read for longest,
//! by going home. Tests:
//! `tests/policy.rs` and `tests/traces.rs` against hindsight and plain strategies, `tests/bound.rs`
//! against the truth, `tests/way.rs` over a way of fixed length.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod cache;
mod home;
mod message;
mod policy;

pub use cache::{Answer, Cache, CacheConfig, CacheEffect, CacheInput, OnCut, Tally};
pub use home::{Home, HomeConfig, HomeEffect, HomeInput};
pub use message::{Found, Item, KeyId, ToCache, ToHome};
pub use policy::{Choice, Policy, Prices};
