//! From what threads spent to what each piece of work costs.
//!
//! Each kind of thread is solved for by itself. Under load of many, batches are large and hardly anybody sleeps: what
//! is spent is the price of each operation, and a little for batches. With two clients nearly everything is wakes, calls
//! and batches. So the leader's engine under reads of few and of many says what a batch costs and what a read; then a
//! follower's workers say what a call costs, which do nothing but links and such batches as the engine's thread was not
//! woken for. How many of each there are for one operation is what the model says, which runs the same protocol; since
//! that depends on the prices, both are found in turns.

use crate::costs::{Costs, Load, Measured, Work};
use crate::scenario::whole;
use crate::validate::{Counts, Share, model};

/// The fewest clients that prices come from.
pub const FEW: u32 = 2;
/// And the most.
pub const MANY: u32 = 256;
/// How many sites are measured together.
pub const SITES: u32 = 3;
/// How often prices and counts are found in turn.
const TURNS: usize = 5;
/// Clients that share a connection, in the second of the two echoes.
const SHARING: f64 = 16.0;

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

/// The loads that were measured, and what the model counts under them.
struct Ends {
    put: [Measured; 2],
    range: [Measured; 2],
    /// Puts of many, at a site alone.
    alone: Measured,
}

/// Fills in all prices but those that were timed by themselves; remarks say what is doubtful.
///
/// # Errors
///
/// If a load was not measured that prices come from, or the model says nothing of it.
pub fn solve(costs: &mut Costs) -> Result<Vec<String>, String> {
    let at = |sites: u32, load: Option<Load>, clients: u32, connections: u32| {
        let mut all = costs.measured.iter().copied();
        let found = all.find(|it| {
            (it.sites, it.load, it.clients) == (sites, load, clients)
                && (connections == 0 || it.connections == connections)
        });
        found.ok_or_else(|| format!("{load:?} of {clients} clients was not measured"))
    };
    let find = |load, clients, connections| at(SITES, load, clients, connections);
    let (each, shared) = (find(None, 64, 64)?, find(None, 64, 4)?);
    let ends = Ends {
        put: [
            find(Some(Load::Put), FEW, 0)?,
            find(Some(Load::Put), MANY, 0)?,
        ],
        range: [
            find(Some(Load::Range), FEW, 0)?,
            find(Some(Load::Range), MANY, 0)?,
        ],
        alone: at(1, Some(Load::Put), MANY, 0)?,
    };
    let polls = 1.0 - 1.0 / SHARING;
    let mut remarks = Remarks::default();
    let front = (each.leader.front - shared.leader.front) / polls;
    let generator = (each.generator - shared.generator) / polls;
    costs.set(Work::FrontPoll, rounded(remarks.floor("front.poll", front)));
    let echo = each.leader.front - front.max(0.0);
    costs.set(Work::FrontEcho, rounded(remarks.floor("front.echo", echo)));
    let generator = remarks.floor("generator.poll", generator);
    costs.set(Work::GeneratorPoll, rounded(generator));
    first_guess(costs, &ends);
    for turn in 1..=TURNS {
        let mut noted = Remarks::default();
        refine(costs, &ends, &mut noted)?;
        if turn == TURNS {
            remarks.0.append(&mut noted.0);
        }
    }
    Ok(remarks.0)
}

/// How often each piece of work is done for an operation, in the model.
fn counts(costs: &Costs, end: &Measured) -> Result<Counts, String> {
    let load = end.load.ok_or("an echo has no counts")?;
    Ok(model(costs, load, end.clients, 1)?.counts)
}

/// What an operation costs in all, so that the first counts are of busy sites.
fn first_guess(costs: &mut Costs, ends: &Ends) {
    let (put, range) = (&ends.put[1], &ends.range[1]);
    for (work, nanos) in [
        (Work::FrontPut, put.leader.front),
        (Work::EnginePut, put.leader.engine / 2.0),
        (Work::EngineEntry, put.follower.engine),
        (Work::LogEntry, put.follower.log / 2.0),
        (Work::FrontRange, range.leader.front),
        (Work::EngineRange, range.leader.engine),
        (Work::GeneratorPut, put.generator),
        (Work::GeneratorRange, range.generator),
        (Work::LinkCall, ends.range[0].follower.front / 4.0),
        (Work::EngineTurn, ends.range[0].follower.engine / 2.0),
    ] {
        costs.set(work, rounded(nanos));
    }
}

/// Finds the prices that follow from counts under the last ones.
fn refine(costs: &mut Costs, ends: &Ends, noted: &mut Remarks) -> Result<(), String> {
    let asked = counts(costs, &ends.range[0])?;
    let read = counts(costs, &ends.range[1])?;
    let many = counts(costs, &ends.put[1])?;
    let price = |costs: &Costs, work: Work| exact(costs.of(work));
    // Batches, and reads: the leader's engine under few and many that read.
    let few = &ends.range[0];
    let (put, range) = (&ends.put[1], &ends.range[1]);
    let own = |share: &Share| share.turns - share.turns_here;
    let awake =
        |end: &Measured, share: &Share| end.leader.engine + end.leader.other - share.timed_nanos;
    let (slow, fast) = (awake(few, &asked.leader), awake(range, &read.leader));
    let turn = (slow - fast) / (own(&asked.leader) - own(&read.leader));
    let turn = noted.floor("engine.turn", turn);
    let asks = fast - own(&read.leader) * turn;
    // Links: a follower of few clients that read.
    let share = &asked.follower;
    let calls = few.follower.front - share.worker_timed_nanos - share.turns_here * turn;
    let call = noted.floor("link.call", calls / (share.writes + share.reads));
    // Entries: a follower of many that write.
    let share = &many.follower;
    let engine = |share: &Share| own(share) * turn + share.timed_nanos;
    let entry = put.follower.engine + put.follower.other - engine(share);
    let entry = entry / (share.records - share.records_here).max(f64::EPSILON);
    let entry = noted.floor("engine.entry.256", entry);
    let here = |share: &Share| share.turns_here * turn + share.records_here * entry;
    let calls = share.worker_timed_nanos + (share.writes + share.reads) * call + here(share);
    let taken = |kib: f64| {
        let left = put.follower.front - calls - share.link_kib * kib;
        left / share.read_kib
    };
    let log = noted.floor("log.entry.256", put.follower.log - share.log_timed_nanos);
    // The front of a site alone has no links; what more it does with others is theirs.
    let polls = |share: &Share| share.polls * price(costs, Work::FrontPoll);
    let slept = |share: &Share| share.worker_timed_nanos;
    let lead = &many.leader;
    let writes = ends.alone.leader.front - polls(lead) - slept(lead);
    let links = |share: &Share| (share.writes + share.reads) * call;
    let rest = put.leader.front - writes - polls(lead) - slept(lead) - links(lead) - here(lead);
    let kib = noted.floor("link.kib", rest / lead.link_kib);
    let taken = noted.floor("link.read.kib", taken(kib));
    // What is left at the leader is the front's, and what its engine does for its own clients.
    let asked = &read.leader;
    let reads = range.leader.front - links(asked) - polls(asked) - slept(asked) - here(asked);
    let entries = (many.leader.records - many.leader.records_here) * entry;
    let own = put.leader.engine + put.leader.other - engine(&many.leader) - entries;
    let sends = [sends(costs, put, &many), sends(costs, range, &read)];
    for (work, name, nanos) in [
        (Work::LinkCall, "link.call", call),
        (Work::LinkKib, "link.kib", kib),
        (Work::LinkReadKib, "link.read.kib", taken),
        (Work::EngineTurn, "engine.turn", turn),
        (Work::EngineEntry, "engine.entry.256", entry),
        (Work::LogEntry, "log.entry.256", log),
        (Work::FrontPut, "front.put.256", writes),
        (Work::FrontRange, "front.range.256", reads),
        (Work::EnginePut, "engine.put.256", own),
        (Work::EngineRange, "engine.range", asks),
        (Work::GeneratorPut, "generator.put.256", sends[0]),
        (Work::GeneratorRange, "generator.range.256", sends[1]),
    ] {
        costs.set(work, rounded(noted.floor(name, nanos)));
    }
    Ok(())
}

/// What the generator spends on an operation, beyond turning to its connections.
fn sends(costs: &Costs, end: &Measured, counts: &Counts) -> f64 {
    let polls = counts.generator_polls * exact(costs.of(Work::GeneratorPoll));
    end.generator - polls - counts.generator_wake_nanos
}

#[expect(clippy::cast_precision_loss, reason = "prices are far below 2^53")]
const fn exact(nanos: u64) -> f64 {
    nanos as f64
}

fn rounded(nanos: f64) -> u64 {
    u64::try_from(whole(nanos)).unwrap_or(0)
}
