//! From what threads spent to what each piece of work costs.
//!
//! Under load of many, batches are large and nobody sleeps: what is spent is the price of each operation, and a little
//! for batches. With one client every operation wakes everybody and is a batch by itself: what is spent beyond the
//! prices of operations is that of batches, frames and wakes. How many of each there are for one operation is what the
//! model says, which runs the same protocol; since that depends on the prices, both are found in turns.
//!
//! What would surprise: what the leader spends with one client decides no price. That it comes out right is the check
//! on the others, and is told.

use anyhow::Context;
use holm_rehearse::{Costs, Counts, Load, Share, Work, model};

use super::alone::Alone;
use super::threads::Parts;
use super::{Ends, MANY};
use crate::quantity::rounded;

/// How often prices and counts are found in turn.
const TURNS: usize = 4;
/// Clients that share a connection, in the second of the two echoes.
const SHARING: f64 = 16.0;
/// Threads that wake for a message between two engines.
const HOPS: f64 = 3.0;
/// Those of them that belong to links.
const LINK_HOPS: f64 = 2.0;

/// What is known of prices, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Prices {
    wake: f64,
    flush: f64,
    poll: f64,
    generator: f64,
    turn: f64,
    frame: f64,
    entry: f64,
}

/// What is doubtful about prices.
#[derive(Debug, Default)]
struct Remarks(Vec<String>);

impl Remarks {
    /// Work costs nothing at least; says so where it came out as less.
    fn floor(&mut self, name: &str, nanos: f64) -> f64 {
        if nanos < 0.0 {
            let micros = nanos / 1e3;
            self.0.push(format!(
                "{name} came out as {micros:.2} us, and stands as 0"
            ));
        }
        nanos.max(0.0)
    }
}

/// Fills in all prices; remarks say what is doubtful.
pub(super) fn prices(costs: &mut Costs, alone: &Alone, ends: &Ends) -> anyhow::Result<Vec<String>> {
    costs.wake.clone_from(&alone.wake);
    costs.sync.clone_from(&alone.sync);
    costs.set(Work::ThreadWake, rounded(alone.wake_cpu));
    costs.set(Work::LogFlush, rounded(alone.flush_cpu));
    let (each, shared) = (&ends.echo[0].spent, &ends.echo[1].spent);
    let polls = 1.0 - 1.0 / SHARING;
    let mut remarks = Remarks::default();
    let front = (each.leader.front - shared.leader.front) / polls;
    let generator = (each.generator - shared.generator) / polls;
    let mut prices = Prices {
        wake: alone.wake_cpu,
        flush: alone.flush_cpu,
        poll: remarks.floor("front.poll", front),
        generator: remarks.floor("generator.poll", generator),
        turn: 0.0,
        frame: 0.0,
        entry: ends.put[1].spent.follower.all(),
    };
    costs.set(Work::FrontPoll, rounded(prices.poll));
    costs.set(Work::GeneratorPoll, rounded(prices.generator));
    first_guess(costs, ends);
    for turn in 1..=TURNS {
        let mut noted = Remarks::default();
        let check = prices.refine(costs, ends, &mut noted)?;
        if turn == TURNS {
            remarks.0.append(&mut noted.0);
            remarks.0.push(check);
        }
    }
    Ok(remarks.0)
}

/// How often each piece of work is done for an operation, in the model.
fn counts(costs: &Costs, load: Load, clients: u32) -> anyhow::Result<Counts> {
    let said = model(costs, load, clients, 1).map_err(anyhow::Error::msg);
    Ok(said.context("count work in the model")?.counts)
}

/// What an operation costs in all, so that the first counts are of busy sites.
fn first_guess(costs: &mut Costs, ends: &Ends) {
    let (put, range) = (&ends.put[1].spent, &ends.range[1].spent);
    costs.set(Work::FrontPut, rounded(put.leader.front));
    costs.set(Work::EnginePut, rounded(put.leader.engine));
    costs.set(Work::EngineEntry, rounded(put.follower.all()));
    costs.set(Work::FrontRange, rounded(range.leader.front));
    costs.set(Work::EngineRange, rounded(range.leader.engine));
    costs.set(Work::GeneratorPut, rounded(put.generator));
    costs.set(Work::GeneratorRange, rounded(range.generator));
}

impl Prices {
    /// Finds the prices that follow from counts under the last ones; the check on them, in words.
    fn refine(
        &mut self,
        costs: &mut Costs,
        ends: &Ends,
        noted: &mut Remarks,
    ) -> anyhow::Result<String> {
        let few = counts(costs, Load::Put, 1)?;
        let many = counts(costs, Load::Put, MANY)?;
        let read = counts(costs, Load::Range, MANY)?;
        let [alone, busy] = &ends.put;
        let reading = &ends.range[1].spent;
        self.of_batches(&alone.spent.follower, &few, noted);
        let batches = self.batches(&many.follower, many.leader.sent / 2.0);
        let entry = busy.spent.follower.all() - batches;
        self.entry = noted.floor("engine.entry.256", entry);
        let put = self.origin(&busy.spent.leader, &many, self.entry);
        let range = self.origin(&reading.leader, &read, 0.0);
        let put = (
            noted.floor("front.put.256", put.0),
            noted.floor("engine.put.256", put.1),
        );
        let range = (
            noted.floor("front.range.256", range.0),
            noted.floor("engine.range", range.1),
        );
        let polled = |counts: &Counts| {
            counts.generator_polls * self.generator + counts.generator_wakes * self.wake
        };
        let writes = noted.floor("generator.put.256", busy.spent.generator - polled(&many));
        let reads = noted.floor("generator.range.256", reading.generator - polled(&read));
        for (work, nanos) in [
            (Work::EngineTurn, self.turn),
            (Work::LinkFrame, self.frame),
            (Work::EngineEntry, self.entry),
            (Work::FrontPut, put.0),
            (Work::EnginePut, put.1),
            (Work::FrontRange, range.0),
            (Work::EngineRange, range.1),
            (Work::GeneratorPut, writes),
            (Work::GeneratorRange, reads),
        ] {
            costs.set(work, rounded(nanos));
        }
        let batches = self.batches(&few.leader, 2.0 * few.follower.sent);
        let said = batches + self.front(&few.leader) + self.entry + put.0 + put.1;
        let real = alone.spent.leader.all() / 1e3;
        let said = said / 1e3;
        Ok(format!(
            "sum check: with one client the leader spends {real:.1} us a put, the prices say {said:.1}"
        ))
    }

    /// What a follower spends on an operation of one client: its links on frames, the rest on batches.
    fn of_batches(&mut self, own: &Parts, few: &Counts, noted: &mut Remarks) {
        let share = &few.follower;
        let frames = share.sent + few.leader.sent / 2.0;
        let links = own.front - LINK_HOPS * share.wakes * self.wake;
        self.frame = noted.floor("link.frame", links / frames);
        let wakes = (HOPS - LINK_HOPS) * share.wakes * self.wake;
        let engine = own.engine - self.flush * share.flushes - self.entry - wakes;
        self.turn = noted.floor("engine.turn", engine / share.turns);
    }

    /// What a node spends on batches, frames and wakes for each answer; `received` are frames that come.
    fn batches(&self, share: &Share, received: f64) -> f64 {
        share.turns * self.turn
            + (share.sent + received) * self.frame
            + share.flushes * self.flush
            + HOPS * share.wakes * self.wake
    }

    fn front(&self, share: &Share) -> f64 {
        share.polls * self.poll + share.front_wakes * self.wake
    }

    /// What is left for an operation of the leader's own clients: in its front, and in its engine.
    fn origin(&self, spent: &Parts, counts: &Counts, entry: f64) -> (f64, f64) {
        let received = 2.0 * counts.follower.sent;
        let frames = (counts.leader.sent + received) * self.frame;
        let links = frames + LINK_HOPS * counts.leader.wakes * self.wake;
        let front = spent.front - links - self.front(&counts.leader);
        let engine = self.batches(&counts.leader, received) - links;
        (front, spent.engine + spent.other - engine - entry)
    }
}
