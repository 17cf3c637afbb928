//! The contract between what Holm decides and what the world does.
//!
//! A protocol is a [`Machine`]: a value that is told what happened and says what it wants.
//! It never blocks, fails, logs, or reads a clock. Storage is ordinary blocking code over
//! [`Disk`] and [`Folder`]. Both run unchanged on real hardware and in the simulator.
//!
//! ```text
//!             Input                    Effect
//!   driver ──────────► Machine::step ──────────► driver: log, sockets, clients
//!      ▲                                            │
//!      └──────── wake_at() says when to call again ─┘
//! ```
//!
//! # Invariants of a driver
//!
//! - I1 `now` never decreases between steps of one machine.
//! - I2 An effect with `after: Some(w)` leaves only when all writes through `w` are durable,
//!   and at once if they already are.
//! - I3 `WriteId` rises by one per `Persist`; durability is reported in that order.
//! - I4 A wake before the deadline changes nothing; at or past it all due timers fire, and then
//!   `wake_at` is `None` or later than `now`.
//! - I5 Equal configuration, seed and `(now, input)` sequence give equal effects and state on
//!   every platform.
//! - I6 One step emits at most the number of effects that its configuration allows.
//! - I7 A crash loses held effects; a restored machine knows only what was durable.
//! - I8 Sends have no order among themselves but `after`.
//!
//! # The loop
//!
//! [`Driver`] is the part of that loop which does no input or output, so the real world and the
//! simulator run the same one. A *turn* steps a batch of inputs, hands out all their records as
//! one flush, and lets go of what may leave. Everything else waits for a completed flush.
//!
//! ```text
//!   offer(input) ─► waiting ─► turn ─┬─► leaving: carry out now
//!                                    ├─► records, flush: append, sync, then completed(flush)
//!                                    └─► held: released by a turn after completed
//! ```
//!
//! - I9 A batch has at most 256 inputs, at most 4 flushes are under way, and at most 4,096
//!   effects wait; without room a request is answered *unavailable*, a peer's message is
//!   dropped, and the driver's own inputs (start, wake, durable) are taken all the same.
//!
//! Releasing only when something new completes would hang: an effect may name a write that has
//! been durable for long. I2's last clause is about that, and a driver that forgets it fails
//! the tests of this crate. A send without `after` may overtake a held one.
//!
//! ```
//! use holm_base::{Time, WriteId};
//! use holm_machine::{Class, Driven, Driver, Effects, Limits, Machine, Order, Turn};
//!
//! /// Persists each input and lets the answer wait for it.
//! #[derive(Clone)]
//! struct Echo(WriteId);
//! enum Input { Ask(u8), Durable, Wake }
//! enum Effect { Persist(WriteId), Answer(u8, WriteId) }
//!
//! impl Machine for Echo {
//!     type Input = Input;
//!     type Effect = Effect;
//!     fn step(&mut self, _: Time, input: Input, effects: &mut Effects<Effect>) {
//!         if let Input::Ask(word) = input {
//!             self.0 = self.0.next();
//!             effects.push(Effect::Persist(self.0));
//!             effects.push(Effect::Answer(word, self.0));
//!         }
//!     }
//!     fn wake_at(&self) -> Option<Time> { None }
//! }
//! impl Driven for Echo {
//!     fn order(effect: &Effect) -> Order {
//!         match effect {
//!             Effect::Persist(write) => Order::Persist { write: *write },
//!             Effect::Answer(_, after) => Order::Leave { after: Some(*after) },
//!         }
//!     }
//!     fn class(_: &Input) -> Class { Class::Request }
//!     fn wake() -> Input { Input::Wake }
//!     fn durable(_: WriteId) -> Input { Input::Durable }
//! }
//!
//! let mut driver = Driver::new(Echo(WriteId::ZERO), Limits::default());
//! let mut turn = Turn::new();
//! driver.offer(Input::Ask(7));
//! driver.turn(Time::ZERO, &mut (), &mut turn);
//! let flush = turn.flush.take().expect("there is a record to flush");
//! assert!(turn.leaving.is_empty(), "nothing leaves before it is durable");
//! driver.completed(flush);
//! driver.turn(Time::ZERO, &mut (), &mut turn);
//! assert!(matches!(turn.leaving[0], Effect::Answer(7, _)));
//! ```
//!
//! # Storage
//!
//! After a failed write or sync a handle refuses everything: what the device holds is then
//! unknown, and a second sync may report success for bytes that the first one lost.
//! A folder that cannot *allocate* a file is different: that is [`DiskError::Full`], nothing
//! was lost, and the caller may go on.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::wildcard_enum_match_arm)]

extern crate alloc;

pub mod conformance;
mod disk;
mod driven;
mod driver;
mod machine;
mod observe;

pub use disk::{Disk, DiskError, Folder};
pub use driven::{Class, Driven, Order, Recorder};
pub use driver::{Driver, Limits, Offer, Turn};
pub use machine::{Effects, Machine};
pub use observe::{Label, Observe};
