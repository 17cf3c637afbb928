//! How two sites agree to talk, over a stream that TLS has already secured.
//!
//! A [`Link`] is one end of one connection. Both ends greet at once, check what the other says
//! against its certificate and the member table, choose how to talk by the same rule, and show
//! each other a digest of all of it. Only then does a message count. Nothing falls back in
//! silence: what does not fit is refused in words that both ends can print.
//!
//! ```text
//!   lower node                                     higher node
//!     Hello ──────────────────►  ◄────────────────── Hello      who, which boot, what I can
//!     Bind  ──────────────────►  ◄────────────────── Bind       SHA-256(both ‖ TLS exporter)
//!        planes' frames, Ping, Pong  ◄────────────►  ...        only after equal Binds
//!     Mark  ──────────────────►  ◄────────────────── Mark       another connection took over
//! ```
//!
//! # Invariants
//!
//! - I19 No frame but Hello and Bind is acted on before equal Binds. A Close only ends the
//!   connection, which anybody who can write to it could do anyway.
//! - I20 Certificate, Hello and member table agree on the node, and a boot lower than one that
//!   was seen is fenced: a process that was replaced speaks for nobody.
//! - I21 A switch never mixes epochs. There is one epoch so far, 0; a peer that wants another is
//!   refused.
//! - I32 Both ends compute the same choices: per layer the highest sum of both ranks, equal sums
//!   going to the lower id. No reply is needed.
//! - I33 A live end is heard from at least every [`Config::ping_interval`]; one that is silent
//!   for [`Config::silence_max`] is given up.
//!
//! # Inputs and effects
//!
//! |input|meaning||effect|meaning|
//! |--|--|--|--|--|
//! |`Open`|TLS is done; whom it proved||`Send`|write this frame|
//! |`Frame`, `Heard`|bytes came||`Bind`|whole: frames may be sent|
//! |`Damage`|the stream is unreadable||`Deliver`|a plane's frame|
//! |`Fence`|a newer boot was seen||`Renew`|the other end wants a new connection|
//! |`Drain`, `Renew`|certificates changed||`Close`|and why|
//! |`Wake`|time has passed||`Note`|an event|
//!
//! Frames of planes are sent without asking the machine: it would only hand them back. They must
//! not be sent before `Bind` nor after `Drain`.
//!
//! # What it does not do
//!
//! Dial, queue, verify certificates, or keep the table of boots between connections. Frames are
//! not compressed: the layer has a number and one implementation, `none`.
//!
//! ```
//! use holm_base::{ClusterId, NodeId, Time};
//! use holm_link::{Config, Effect, Identity, Input, Link, Member};
//! use holm_machine::{Effects, Machine};
//!
//! let end = |node: u64, name: &str| {
//!     let identity = Identity::new("demo", name, name).expect("good names");
//!     let mut config = Config::new(ClusterId::new(7), NodeId::new(node), identity);
//!     config.members = [(1, "a"), (2, "b")]
//!         .map(|(id, name)| Member::new(NodeId::new(id), name))
//!         .to_vec();
//!     config
//! };
//! let (mut a, mut b) = (Link::new(end(1, "a")), Link::new(end(2, "b")));
//! let mut said = Effects::new();
//! let opened = |name| Input::Open {
//!     exporter: [9; 32],
//!     certificate: Some(Identity::new("demo", name, name).expect("good names")),
//! };
//! a.step(Time::ZERO, opened("b"), &mut said);
//! b.step(Time::ZERO, opened("a"), &mut said);
//! let hellos: Vec<Effect> = said.drain().collect();
//! let Effect::Send(hello_of_a) = &hellos[0] else { panic!("it greets first") };
//! b.step(Time::ZERO, Input::Frame(hello_of_a.clone()), &mut said);
//! assert!(matches!(said.as_slice()[0], Effect::Send(_)), "b binds");
//! ```
//!
//! Limits: 32 planes, 64 layers, 32 choices each; 32 KiB a frame before equal Binds. Tests:
//! `tests/script` has a scenario a refusal, `tests/compat.rs` keeps bytes. Start at `link.rs`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

mod config;
mod effect;
mod hello;
mod identity;
mod input;
mod kinds;
mod layers;
mod link;
mod reason;
mod token;

pub use config::{Config, Member, PlaneRange};
pub use effect::{Binding, Effect, Event};
pub use hello::{Hello, HelloError, Offer};
pub use identity::{Identity, IdentityError};
pub use input::Input;
pub use kinds::{FRAME_MAX_UNBOUND, LINK_PLANE};
pub use layers::{CHANNEL, COMPRESSION, Choice, Chosen, Floor, Layer, LayerId};
pub use link::Link;
pub use reason::Reason;
pub use token::{JoinToken, TokenError};
