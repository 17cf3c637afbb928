//! Local-first keyspaces: what islands that write apart have agreed on, as pure code.
//!
//! Every site reads and writes on its own, cut off or not. What one did, all get, in an order
//! that respects what it had seen; and all that have the same updates show the same keys.
//!
//! ```text
//!  client ─► site's log ─► Island::originate ─► Update 1.7 ──┐          1.7 is a dot: slot 1's
//!                                                            │ Exchange          7th update
//!  client ◄─ watch ◄─ State per key ◄─ Island::take ◄─ log ◄─┘
//! ```
//!
//! # The idea
//!
//! An update carries the [`Vector`] of what its site had seen. It replaces exactly the writes
//! that this covers and stands beside the others: no clock decides what is lost, only which of
//! several concurrent writes is *shown*. A delete leaves nothing behind: a dot that a vector
//! covers and a state lacks was removed; a dot that it does not cover is news. Dots, vectors and
//! contexts after Preguica et al., *Dotted version vectors* (2012); sets without tombstones
//! after Bieniusa et al., *An optimized conflict-free replicated set* (2012).
//!
//! # Types of value
//!
//! ```text
//!            a put becomes                       a key's State holds
//! lww mv set Put: the bytes                      siblings: one is shown
//! counter    Put n: a base; Add +n -n            siblings (bases), deltas, runs of folded ones
//! json       Put: a whole document               siblings until a change of a part saw them,
//!            Paths: what it changes of one       then rows, one a path and dot
//! (any)      Delete; Erase where deletes win     a marker for each Erase
//!            Again, of who was left out          what the change in it leaves
//! ```
//!
//! [`Rules::put`] says what a put changes and refuses with the reason, [`Type::shown`] what a key
//! shows. Carrying changes out and joining states asks for no type and no schema, so sites whose
//! schemas differ still agree.
//!
//! # Forgetting
//!
//! [`Stability`] says which streams may be cut and which markers and additions may be forgotten:
//! not the same. Who is silent for a month is frozen ([`Members`], [`Freezing`]) and comes back
//! by [`Absent::made`]; who tells two stories is quarantined ([`Forks`]).
//!
//! # Invariants
//!
//! They keep their numbers from the design of local-first keyspaces.
//!
//! - I1 A site's revisions rise strictly; count is never 0 or 16,383 ([`Stamp`]).
//! - I4 An update takes effect whole, once, after its deps, in slot order ([`Island::take`]).
//! - I5 Equal sets of updates give equal states but for unstable markers ([`State`]), and equal
//!   digests whether additions are folded or not ([`State::digest`]).
//! - I6 A dot that the vector covers and its key lacks never returns ([`State::joined`]).
//! - I8 No update, and no vector, leaves a site before it is committed there ([`Exchange`]).
//! - I9 Another's vector is joined only in the entry that installs its states.
//! - I10 Own updates that nobody else has are never cut ([`Stability::truncatable`]).
//! - I11 Markers go, and additions fold, only once stable here ([`State::settle`]).
//! - I12 Nothing behind F of a frozen slot counts ([`Members::lets_in`]); an update is made again
//!   at most once, at no later time ([`reissue`]).
//! - I13 Clocks order only concurrent writes, and drop none ([`Hlc`]).
//! - I15 What is neither shown nor replaced by a write that saw it is told ([`conflicts`]).
//!
//! # What it does not do
//!
//! It keeps no keys, reads no disk and signs nothing: engine and log are its callers'. Of a part of a document or an addition that lost to a delete, the conflict names
//! the update and not the value; what fell to a delete that a *session* brought is not told.
//!
//! ```
//! use bytes::Bytes;
//! use holm_local_first::{Change, Intake, Island, Slot, State};
//!
//! let slot = |number| Slot::new(number).expect("it is not 0");
//! let (mut a, mut b) = (Island::new(slot(1), 1), Island::new(slot(2), 1));
//! let put = |value: &'static str| Change::Put {
//!     key: Bytes::from("door"),
//!     lease: 0,
//!     value: Bytes::from(value),
//! };
//! // Both write while they are cut off, b a second later; then a gets what b did.
//! let (ours, theirs) = (a.originate(vec![put("open")], 1_000), b.originate(vec![put("shut")], 2_000));
//! let mut door = State::new();
//! ours.update.changes[0].apply(&ours.update, &mut door);
//! let Intake::Next(found) = a.judge(&theirs.bytes, 2_000) else { panic!() };
//! a.take(&found);
//! found.update.changes[0].apply(&found.update, &mut door);
//! assert_eq!(door.shown().map(|it| &*it.value), Some(&b"shut"[..]));
//! assert_eq!(door.siblings().len(), 2, "the other is kept until a write that saw it");
//! ```
//!
//! Limits: 255 slots, 4 MiB an update, and what [`Config`] says of updates on their way; what is
//! full makes the other side pull later; documents have 1 MiB, 64 levels, 10,000 paths. Tests:
//! `tests/exhaustive.rs` and `tests/small.rs` are every order of small worlds, `tests/islands.rs`
//! random ones with cuts, crashes and truncated logs, `tests/kinds.rs` those of every type, all
//! against twins that keep all updates; `tests/traps.rs` is each trap by name. Start at
//! `island.rs`, then `state.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod clock;
mod conflict;
mod counter;
mod departures;
mod document;
mod encode;
mod exchange;
mod foretold;
mod fork;
mod island;
mod json;
mod kind;
mod members;
mod message;
mod ranges;
mod rebase;
mod revision;
mod roster;
mod schema;
mod seek;
mod stability;
mod state;
mod token;
mod tree;
mod update;
mod vector;
mod wire;

pub use clock::{AHEAD_MAX, Hlc};
pub use conflict::{
    Cause, Conflict, ConflictKind, Conflicts, Entry, KEPT_BYTES, KEPT_FOR, Party, VALUE_MAX,
    conflicts,
};
pub use counter::{Delta, Run};
pub use departures::{Departure, DepartureError, Departures, Reach, still_due};
pub use document::{DOCUMENT_MAX, Node, PATHS_MAX, Row, Write, path_text};
pub use encode::DecodeError;
pub use exchange::{Applied, Config, Effect, Exchange, Input, Note, Proposal};
pub use foretold::{Foretold, ForetoldKind};
pub use fork::{Fork, Forks, Head};
pub use island::{Hush, Intake, Island, Session, Tip, dot_of};
pub use json::DEPTH_MAX;
pub use kind::{Exists, Rules, Shown, Type, Unfit};
pub use members::{Freezing, Frozen, Members, MembersError};
pub use message::Message;
pub use ranges::{Answer, Claim, Digest, Index, LIST_MAX, Ranges, Short, Sum, WAYS};
pub use rebase::{Absent, Made, adopted, reissue};
pub use revision::{EPOCH_UNIX_MS, Stamp, Whose, whose};
pub use roster::{Charter, Roster};
pub use schema::Schema;
pub use seek::{ASK_BYTES_MAX, Ask, CLAIMS_MAX, Named, Seek, Tell, tell};
pub use stability::{SILENT_MS_MAX, Stability};
pub use state::{Sibling, State};
pub use token::Token;
pub use tree::{PAGE_BYTES, Tree, Written};
pub use update::{CHANGES_BYTES_MAX, CHANGES_MAX, Chain, Change, Sealed, UPDATE_MAX, Update};
pub use vector::{Dot, Slot, Vector};
pub use wire::Mark;

/// How many islands one keyspace has at most: each tells all others.
pub const ISLANDS_MAX: usize = 16;
/// How many bytes of updates a site keeps for those that lack them.
pub const UPDATES_BYTES_MAX: usize = 64 << 20;
