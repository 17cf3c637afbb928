//! From what threads spent to what each piece of work costs.
//!
//! Each kind of thread is solved for by itself. Under load of many, batches are large and hardly anybody sleeps: what
//! is spent is the price of each operation, and a little for batches. With two clients nearly everything is wakes, calls
//! and batches. So the leader's engine under reads of few and of many says what a batch costs and what a read; then a
//! follower's workers say what a call costs, which do nothing but links and such batches as the engine's thread was not
//! woken for. What few clients that write cost beyond all that is charged to wakes of cores that slept; it is found last.
//! How many of each there are for one operation is what the model says, which runs the same protocol; since
//! that depends on the prices, both are found in turns.

use crate::costs::{Costs, Load, Measured, Work, crowd_per_mille};
use crate::scenario::whole;
use crate::validate::{Counts, Share, model};

/// The fewest clients that prices come from.
pub const FEW: u32 = 2;
/// Many of them.
pub const MANY: u32 = 256;
/// And the most, who only write.
pub const MOST: u32 = 2_560;
/// How many sites are measured together.
pub const SITES: u32 = 3;
/// How often prices and counts are found in turn.
const TURNS: usize = 8;
/// How far apart batches of two loads are at least, for how much cheaper an entry is in the larger ones to be found.
const CROWDS_APART: f64 = 0.1;
/// How often a put of few clients wakes a core that slept for long, for what that costs to be found.
const COLD_WAKES_MIN: f64 = 0.02;
/// By how much a sync may wait longer under load, as a factor: what is beyond that, something else is amiss.
const LOADS: (f64, f64) = (0.5, 8.0);
/// How often what is left over is found, in ever smaller steps: dearer wakes make larger batches, and so fewer wakes.
const REMAINDERS: u32 = 12;
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
    put: [Measured; 3],
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
            find(Some(Load::Put), MOST, 0)?,
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
    costs.set(Work::Cold, 0);
    for timed in &mut costs.sync {
        timed.load = 1.0;
    }
    first_guess(costs, &ends);
    for turn in 1..=TURNS {
        let mut noted = Remarks::default();
        refine(costs, &ends, &mut noted)?;
        if turn == TURNS {
            // What is left over is found last, against prices that stay.
            for step in 1..=REMAINDERS {
                let mut last = Remarks::default();
                let told = if step == REMAINDERS {
                    &mut noted
                } else {
                    &mut last
                };
                remembered(costs, &ends.put[0], 1.0 / f64::from(step), told)?;
            }
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
        (Work::EngineCrowd, ends.put[2].follower.engine),
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
    let most = counts(costs, &ends.put[2])?;
    waited(costs, 1, &ends.put[1], &many);
    waited(costs, 2, &ends.put[2], &most);
    let price = |costs: &Costs, work: Work| exact(costs.of(work));
    // Batches, and reads: the leader's engine under few and many that read.
    let ([few, range], put) = (&ends.range, &ends.put[1]);
    // What the engine's thread writes to links itself, by the last price of that.
    let known = price(costs, Work::LinkCall);
    let wrote = |share: &Share| share.own_writes * known;
    let awake = |end: &Measured, share: &Share| {
        end.leader.engine + end.leader.other - share.timed_nanos - wrote(share)
    };
    let (slow, fast) = (awake(few, &asked.leader), awake(range, &read.leader));
    let turn = (slow - fast) / (asked.leader.own_turns() - read.leader.own_turns());
    let turn = noted.floor("engine.turn", turn);
    let asks = fast - read.leader.own_turns() * turn;
    // Links: a follower of few clients that read.
    let share = &asked.follower;
    let calls = few.follower.front - share.worker_timed_nanos - share.turns_here * turn;
    let call = noted.floor("link.call", calls / share.calls());
    // Entries: a follower of many that write.
    let engine = |share: &Share| share.own_turns() * turn + share.timed_nanos + wrote(share);
    let spent = |end: &Measured, said: &Counts| end.follower.engine - engine(&said.follower);
    let of_many = (spent(put, &many), &many.follower);
    let of_most = (spent(&ends.put[2], &most), &most.follower);
    let (entry, slope) = entries(of_many, of_most);
    let entry = noted.floor("engine.entry.256", entry);
    let crowded = noted.floor("engine.entry.256.crowd", entry + slope);
    let each = |share: &Share| {
        let batch = share.records / share.logging.max(f64::EPSILON);
        entry + slope * crowd(batch)
    };
    let share = &many.follower;
    let here = |share: &Share| share.turns_here * turn + share.records_here * entry;
    let calls = share.worker_timed_nanos + share.calls() * call + here(share);
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
    let links = |share: &Share| share.calls() * call;
    let rest = put.leader.front - writes - polls(lead) - slept(lead) - links(lead) - here(lead);
    let kib = noted.floor("link.kib", rest / lead.link_kib);
    let taken = noted.floor("link.read.kib", taken(kib));
    // What is left at the leader is the front's, and what its engine does for its own clients.
    let asked = &read.leader;
    let reads = range.leader.front - links(asked) - polls(asked) - slept(asked) - here(asked);
    let entries = (many.leader.records - many.leader.records_here) * each(&many.leader);
    let own = put.leader.engine + put.leader.other - engine(&many.leader) - entries;
    let sends = [sends(costs, put, &many), sends(costs, range, &read)];
    for (work, name, nanos) in [
        (Work::LinkCall, "link.call", call),
        (Work::LinkKib, "link.kib", kib),
        (Work::LinkReadKib, "link.read.kib", taken),
        (Work::EngineTurn, "engine.turn", turn),
        (Work::EngineEntry, "engine.entry.256", entry),
        (Work::EngineCrowd, "engine.entry.256.crowd", crowded),
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
    // That it is below nothing is told once, at the end.
    remembered(costs, &ends.put[0], 1.0, &mut Remarks::default())
}

/// What an entry costs in a batch of few, and how much more in one of a crowd, by what two loads spent on theirs.
fn entries(many: (f64, &Share), most: (f64, &Share)) -> (f64, f64) {
    let each = |(spent, share): (f64, &Share)| {
        let records = (share.records - share.records_here).max(f64::EPSILON);
        let batch = records / (share.logging - share.logging_here).max(f64::EPSILON);
        (spent / records, crowd(batch))
    };
    let ((one, few), (other, crowd)) = (each(many), each(most));
    let slope = (other - one) / (crowd - few).max(CROWDS_APART);
    (one - slope * few, slope)
}

/// How far a batch of so many entries is one of many, as a share.
fn crowd(batch: f64) -> f64 {
    let entries = u64::try_from(whole(batch)).unwrap_or(0);
    exact(crowd_per_mille(entries)) / 1e3
}

/// What a wake of a core that slept costs more once the log is written: what few clients that write cost at all sites, and the model does not say.
fn remembered(
    costs: &mut Costs,
    few: &Measured,
    share: f64,
    noted: &mut Remarks,
) -> Result<(), String> {
    let said = counts(costs, few)?;
    let all = |share: &Share| share.worker_nanos + share.engine_nanos + share.log_nanos;
    let followers = f64::from(SITES - 1);
    let spent = few.leader.all() + followers * few.follower.all();
    let modelled = all(&said.leader) + followers * all(&said.follower);
    let wakes = said.leader.cold + followers * said.follower.cold;
    if wakes < COLD_WAKES_MIN {
        // Their cores never sleep for so long.
        return Ok(());
    }
    let more = (spent - modelled) / wakes;
    let cold = exact(costs.of(Work::Cold)) + more * share;
    costs.set(Work::Cold, rounded(noted.floor("thread.cold", cold)));
    Ok(())
}

/// How much longer a sync waits at sites under load than by itself, by what was written at once there.
fn waited(costs: &mut Costs, at: usize, end: &Measured, said: &Counts) {
    let all = |of: fn(&Share) -> f64| of(&said.leader) + f64::from(SITES - 1) * of(&said.follower);
    let wait = all(|share| share.sync_nanos) / all(|share| share.flushes).max(f64::EPSILON);
    if let Some(timed) = costs.sync.get_mut(at)
        && wait > 0.0
        && end.sync > 0.0
    {
        timed.load = (timed.load * end.sync / wait).clamp(LOADS.0, LOADS.1);
    }
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
