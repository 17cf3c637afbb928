//! One contract for all drivers: what each must do with the same drill, whatever its world.
//!
//! A [`Rig`] puts a driver, with some machine in it, where each of its worlds can be moved by
//! hand: the disk, the network, the clock, the process. [`hold`] gives it the drill and says
//! which rule was broken, if one was. The real driver is held in `world/runtime`, the virtual
//! one in `sim/virtual`, the bare loop and all planted faults in `tests/conformance.rs` here.
//!
//! A rig counts what has left: *statements*, each of which waits for a write, and *echoes*,
//! which wait for nothing. It never waits itself: what a call sets going has happened when the
//! call returns, as far as the disk and the clock allow.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

use holm_base::Time;

/// How close to its time a timer is looked at: real clocks go on meanwhile.
const HALF_SECOND: u64 = 500_000_000;

/// A driver whose world is moved by hand.
pub trait Rig {
    /// Gives the machine an input that asks for `records` records, two at least, and for one
    /// statement that waits for the last of them. The flush begins, but does not end.
    fn write(&mut self, records: usize);

    /// As `count` times [`Rig::write`] of two records, all of which come before the driver runs.
    fn burst(&mut self, count: usize);

    /// Gives the machine an input that asks for one echo.
    fn echo(&mut self);

    /// Lets the oldest flush under way end, and the driver hear of it. False if there is none.
    fn sync(&mut self) -> bool;

    /// Statements that have left so far, in all runs together.
    fn statements(&mut self) -> usize;

    /// Echoes that have left so far, in all runs together.
    fn echoes(&mut self) -> usize;

    /// When the machine wants to be woken; it does want that.
    fn wake_at(&mut self) -> Time;

    /// Lets time pass until then, with the driver as awake as it would be.
    fn pass_until(&mut self, at: Time);

    /// How often the machine was seen to do what it does when it is woken.
    fn wakes(&mut self) -> usize;

    /// From now on the network takes nothing, or everything again.
    fn refuse(&mut self, refuses: bool);

    /// The process ends, and another begins with what is durable.
    fn crash(&mut self);

    /// How many records the machine of this run found when it began.
    fn found(&self) -> usize;
}

/// The rules of the drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A statement does not leave before its write is durable (I2).
    Held,
    /// It leaves when that is reported, and once.
    Released,
    /// What waits for nothing does not wait behind what does (I8).
    Free,
    /// Durability is reported in the order of the writes, and releases no more than it covers
    /// (I3).
    Ordered,
    /// What comes together is flushed together.
    Batched,
    /// No timer fires early (I4).
    NotEarly,
    /// One that is due fires, once, and is then set for later (I4).
    Honoured,
    /// What the network does not take is dropped, and nothing waits for it.
    Dropped,
    /// A crash loses held effects and what was not durable, and nothing else (I7).
    Crashed,
}

impl Rule {
    /// All of them, in the order of the drill.
    pub const ALL: [Self; 9] = [
        Self::Held,
        Self::Released,
        Self::Free,
        Self::Ordered,
        Self::Batched,
        Self::NotEarly,
        Self::Honoured,
        Self::Dropped,
        Self::Crashed,
    ];
}

/// A rule that a driver broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub rule: Rule,
    /// What was expected, and what was seen.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, what } = self;
        write!(f, "{rule:?} is broken: {what}")
    }
}

/// Takes a driver through the drill.
///
/// # Errors
///
/// The first rule that it broke.
pub fn hold(rig: &mut impl Rig) -> Result<(), Breach> {
    writes_are_held_and_released(rig)?;
    order_is_kept(rig)?;
    batches_are_flushed_together(rig)?;
    refused_sends_are_dropped(rig)?;
    crashes_lose_what_was_held(rig)?;
    timers_fire_in_time(rig)
}

fn expect<T: PartialEq + fmt::Debug>(
    rule: Rule,
    what: &str,
    (seen, wanted): (T, T),
) -> Result<(), Breach> {
    if seen == wanted {
        return Ok(());
    }
    let what = alloc::format!("{what}: {seen:?}, not {wanted:?}");
    Err(Breach { rule, what })
}

fn writes_are_held_and_released(rig: &mut impl Rig) -> Result<(), Breach> {
    let (stated, echoed) = (rig.statements(), rig.echoes());
    rig.write(2);
    let seen = (rig.statements(), stated);
    expect(Rule::Held, "statements while the disk is at it", seen)?;
    rig.echo();
    let seen = (rig.echoes(), echoed + 1);
    expect(Rule::Free, "echoes beside a held statement", seen)?;
    let seen = (rig.statements(), stated);
    expect(Rule::Held, "statements after something else", seen)?;
    expect(Rule::Batched, "one flush is under way", (rig.sync(), true))?;
    let seen = (rig.statements(), stated + 1);
    expect(Rule::Released, "statements once durable", seen)?;
    expect(Rule::Batched, "no flush is under way", (rig.sync(), false))?;
    let seen = (rig.statements(), stated + 1);
    expect(Rule::Released, "statements after that", seen)
}

fn order_is_kept(rig: &mut impl Rig) -> Result<(), Breach> {
    let stated = rig.statements();
    rig.write(2);
    rig.write(3);
    let seen = (rig.statements(), stated);
    expect(Rule::Held, "statements of two writes", seen)?;
    expect(Rule::Ordered, "the first flush ends", (rig.sync(), true))?;
    let seen = (rig.statements(), stated + 1);
    expect(Rule::Ordered, "statements after the first flush", seen)?;
    expect(Rule::Ordered, "the second flush ends", (rig.sync(), true))?;
    let seen = (rig.statements(), stated + 2);
    expect(Rule::Ordered, "statements after the second", seen)
}

fn batches_are_flushed_together(rig: &mut impl Rig) -> Result<(), Breach> {
    let stated = rig.statements();
    rig.burst(5);
    let seen = (rig.statements(), stated);
    expect(Rule::Held, "statements of a burst", seen)?;
    expect(Rule::Batched, "one flush for a burst", (rig.sync(), true))?;
    expect(Rule::Batched, "and no second", (rig.sync(), false))?;
    // One statement may cover several writes that came together.
    let added = rig.statements() - stated;
    let is_stated = (1..=5).contains(&added);
    expect(Rule::Released, "a burst is stated", (is_stated, true))
}

fn refused_sends_are_dropped(rig: &mut impl Rig) -> Result<(), Breach> {
    let (stated, echoed) = (rig.statements(), rig.echoes());
    rig.refuse(true);
    rig.echo();
    rig.write(2);
    let seen = (rig.sync(), true);
    expect(Rule::Dropped, "the disk works without a network", seen)?;
    rig.refuse(false);
    let seen = (rig.echoes(), echoed);
    expect(Rule::Dropped, "echoes that were refused", seen)?;
    rig.write(2);
    rig.sync();
    rig.echo();
    let seen = (rig.statements(), stated + 1);
    expect(Rule::Dropped, "statements after a refusal", seen)?;
    let seen = (rig.echoes(), echoed + 1);
    expect(Rule::Dropped, "echoes after a refusal", seen)
}

fn crashes_lose_what_was_held(rig: &mut impl Rig) -> Result<(), Breach> {
    let before = rig.found();
    rig.crash();
    let durable = rig.found();
    let is_kept = durable > before;
    expect(Rule::Crashed, "what was durable is found", (is_kept, true))?;
    let (stated, echoed) = (rig.statements(), rig.echoes());
    rig.write(2);
    rig.crash();
    while rig.sync() {}
    let seen = (rig.statements(), stated);
    expect(Rule::Crashed, "statements held at the crash", seen)?;
    // What was written and not synced may be there: the system outlives a process.
    let is_found = (durable..=durable + 2).contains(&rig.found());
    expect(Rule::Crashed, "the records are there", (is_found, true))?;
    rig.write(2);
    let seen = (rig.statements(), stated);
    expect(Rule::Held, "statements of the new run", seen)?;
    expect(Rule::Crashed, "the new run flushes", (rig.sync(), true))?;
    let seen = (rig.statements(), stated + 1);
    expect(Rule::Crashed, "the new run states its own", seen)?;
    rig.echo();
    let seen = (rig.echoes(), echoed + 1);
    expect(Rule::Crashed, "the new run echoes", seen)
}

fn timers_fire_in_time(rig: &mut impl Rig) -> Result<(), Breach> {
    let (due, woken) = (rig.wake_at(), rig.wakes());
    let early = due.nanos().saturating_sub(HALF_SECOND);
    rig.pass_until(Time::from_nanos(early));
    let seen = (rig.wakes(), woken);
    expect(Rule::NotEarly, "wakes half a second before", seen)?;
    let seen = (rig.wake_at(), due);
    expect(Rule::NotEarly, "when it is due, still", seen)?;
    rig.pass_until(due);
    let seen = (rig.wakes(), woken + 1);
    expect(Rule::Honoured, "wakes when it is due", seen)?;
    let is_later = rig.wake_at() > due;
    expect(Rule::Honoured, "the next is later", (is_later, true))?;
    rig.pass_until(due + Duration::from_millis(1));
    let seen = (rig.wakes(), woken + 1);
    expect(Rule::Honoured, "wakes a moment after", seen)
}
