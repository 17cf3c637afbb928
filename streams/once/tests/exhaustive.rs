//! Every order of three batches, two sinks, flushes, snapshots and crashes, one of which may also
//! damage the snapshot that is wanted next: each sink has every output once and in order, and no
//! acknowledged batch is lost.
//!
//! The world beside the machine is as small as it can be: a batch n has n outputs, and of a second
//! query one fewer for each that the first has more; a flush makes all that waits durable, a crash
//! takes what does not. States that were seen are not seen again.

use std::collections::{BTreeSet, VecDeque};

use holm_base::{Time, WriteId};
use holm_machine::{Effects, Machine};
use holm_once::{Config, Effect, Found, Input, Once, Outputs, Record, Refusal, Snapshot};

const BATCHES: usize = 3;
const SINKS: usize = 2;

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// Effects do not wait for their write.
    DoesNotHold,
    /// The newest snapshot is loaded whoever is behind.
    NewestSnapshot,
    /// The log is cut below the newest snapshot, not below the one before.
    TruncatesEarly,
    /// A snapshot is let go as soon as there is a newer one.
    ForgetsEarly,
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Disk {
    /// For each record the number of the batch in it; 0 for an opening. The first is number 1.
    log: Vec<usize>,
    below: u64,
    epoch: u64,
    snapshots: Vec<Snapshot>,
    /// For each sink its outputs.
    sinks: Vec<Vec<u64>>,
    /// Batches that the source knows to be safe.
    acknowledged: usize,
    /// The snapshot that cannot be read, once one was damaged.
    damaged: Option<u64>,
}

impl Disk {
    /// The snapshot that is loaded next: the newest that no sink is behind.
    fn wanted(&self, queries: [usize; SINKS]) -> Option<Snapshot> {
        let fits = |it: &&Snapshot| {
            let mut sinks = queries.iter().zip(&self.sinks);
            sinks.all(|(query, sink)| it.outputs.at(*query) <= wide(sink.len()))
        };
        self.snapshots.iter().rev().find(fits).copied()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// For each sink the query whose outputs it gets.
    queries: [usize; SINKS],
    disk: Disk,
    once: Once,
    /// Records that no flush has taken.
    waiting: Vec<(usize, WriteId)>,
    held: Vec<Effect>,
    commits: Vec<VecDeque<(u64, u64)>>,
    saving: Option<(Snapshot, bool)>,
    /// Batches that were given.
    given: usize,
    time: u64,
    crashes: usize,
    /// Why it did not come back.
    wrong: Option<String>,
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

/// Outputs of a query.
fn outputs_of(log: &[usize], query: usize) -> u64 {
    let of = |batch: &usize| match (*batch, query) {
        (0, _) => 0,
        (batch, 0) => wide(batch),
        (batch, _) => wide(BATCHES - batch),
    };
    log.iter().map(of).sum()
}

fn all_outputs(log: &[usize]) -> Outputs {
    Outputs::of((0..2).map(|query| outputs_of(log, query)))
}

impl World {
    fn start(queries: [usize; SINKS], disk: Disk, crashes: usize, mutant: Mutant) -> Self {
        let mut world = Self {
            queries,
            once: Once::new(Config {
                sinks: queries.to_vec(),
                snapshot_interval_ms: 1,
            }),
            given: disk.log.iter().copied().max().unwrap_or(0),
            waiting: Vec::new(),
            held: Vec::new(),
            commits: vec![VecDeque::new(); SINKS],
            saving: None,
            time: 0,
            crashes,
            wrong: None,
            disk,
        };
        let snapshots = world.disk.snapshots.clone();
        let last = wide(world.disk.log.len());
        let first = if last == 0 {
            0
        } else {
            world.disk.below.max(1)
        };
        let epoch = world.disk.epoch;
        let found = Found {
            first,
            last,
            epoch,
            snapshots,
        };
        let mut effects = VecDeque::from(world.step(Input::Opened(found)));
        while let Some(effect) = effects.pop_front() {
            effects.extend(world.recover(effect, mutant));
        }
        let is_back = world.once.is_running() || world.wrong.is_some();
        assert!(is_back, "I6: it comes back");
        world
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Effects::new();
        let now = Time::from_nanos(self.time * 1_000_000);
        self.once.step(now, input, &mut effects);
        effects.drain().collect()
    }

    /// The way back, on which everything happens at once.
    fn recover(&mut self, effect: Effect, mutant: Mutant) -> Vec<Effect> {
        match effect {
            Effect::Persist {
                write,
                record: Record::Open { epoch },
                ..
            } => {
                assert!(epoch > self.disk.epoch, "I5: the epoch rises");
                self.disk.epoch = epoch;
                self.disk.log.push(0);
                self.step(Input::Durable { write })
            }
            Effect::Ask { sink, .. } => {
                let mut output = wide(self.disk.sinks[sink].len());
                if mutant == Mutant::NewestSnapshot {
                    let newest = self.disk.snapshots.last();
                    output = output.max(newest.map_or(0, |it| it.outputs.at(self.queries[sink])));
                }
                self.step(Input::Answered { sink, output })
            }
            Effect::Load { through } => {
                if let Some(through) = through {
                    let is_there = self.disk.snapshots.iter().any(|it| it.through == through);
                    assert!(is_there, "I3: what is loaded is there");
                    if self.disk.damaged == Some(through) {
                        return self.step(Input::Damaged);
                    }
                }
                self.step(Input::Loaded)
            }
            Effect::Assemble { sequence } => {
                assert!(sequence >= self.disk.below, "I4: what is replayed is there");
                let outputs = all_outputs(&self.disk.log[..index(sequence)]);
                self.step(Input::Assembled { sequence, outputs })
            }
            Effect::Refuse(refusal) => {
                self.wrong = Some(format!("I4: it does not come back: {refusal:?}"));
                Vec::new()
            }
            other => {
                self.run(other, mutant);
                Vec::new()
            }
        }
    }

    fn run(&mut self, effect: Effect, mutant: Mutant) {
        if effect.after().is_some() && mutant != Mutant::DoesNotHold {
            if let Effect::Snapshot { of, .. } = &effect {
                self.saving = Some((*of, false));
            }
            return self.held.push(effect);
        }
        match effect {
            Effect::Persist {
                write,
                record: Record::Batch { .. },
                ..
            } => self.waiting.push((self.given, write)),
            Effect::Assemble { sequence } => {
                let waiting: Vec<usize> = self.waiting.iter().map(|it| it.0).collect();
                let log = [self.disk.log.clone(), waiting].concat();
                let outputs = all_outputs(&log[..index(sequence)]);
                for effect in self.step(Input::Assembled { sequence, outputs }) {
                    self.run(effect, mutant);
                }
            }
            Effect::Commit {
                sink, first, last, ..
            } => self.commits[sink].push_back((first, last)),
            Effect::Acknowledge { sequence, .. } => {
                let log = &self.disk.log;
                let batch = log.get(index(sequence) - 1).copied();
                self.disk.acknowledged = batch.unwrap_or(self.given);
            }
            Effect::Snapshot { of, .. } => self.saving = Some((of, true)),
            Effect::Truncate { below } => {
                let newest = self
                    .disk
                    .snapshots
                    .last()
                    .map_or(below, |it| it.through + 1);
                let below = match mutant {
                    Mutant::TruncatesEarly => newest,
                    Mutant::None
                    | Mutant::DoesNotHold
                    | Mutant::NewestSnapshot
                    | Mutant::ForgetsEarly => below,
                };
                self.disk.below = self.disk.below.max(below);
            }
            Effect::Forget { through } => {
                self.disk.snapshots.retain(|it| it.through != through);
            }
            Effect::Open => {}
            Effect::Ask { .. }
            | Effect::Load { .. }
            | Effect::Persist { .. }
            | Effect::Refuse(_) => panic!("not in a run: {effect:?}"),
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        for (sink, query) in self.disk.sinks.iter().zip(self.queries) {
            let dense = sink
                .iter()
                .zip(1..)
                .all(|(output, wanted)| *output == wanted);
            if !dense {
                return Err(format!("I2: a sink has {sink:?}"));
            }
            let durable = outputs_of(&self.disk.log, query);
            if wide(sink.len()) > durable {
                return Err("I2: a sink has outputs of no durable batch".to_owned());
            }
        }
        let logged = self.disk.log.iter().copied().max().unwrap_or(0);
        if logged < self.disk.acknowledged {
            return Err("I1: an acknowledged batch is not durable".to_owned());
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let batches: Vec<usize> = (1..=BATCHES).collect();
        let mut sinks = self.disk.sinks.iter().zip(self.queries);
        self.given == BATCHES
            && sinks.all(|(sink, query)| wide(sink.len()) == outputs_of(&batches, query))
    }

    /// Every world that may follow.
    fn next(&self, mutant: Mutant) -> Vec<Self> {
        let mut worlds = Vec::new();
        if self.given < BATCHES {
            let mut world = self.clone();
            world.given += 1;
            for effect in world.step(Input::Received { source: 0 }) {
                world.run(effect, mutant);
            }
            worlds.push(world);
        }
        if !self.waiting.is_empty() {
            let mut world = self.clone();
            let waiting = std::mem::take(&mut world.waiting);
            let write = waiting.last().expect("it is there").1;
            world.disk.log.extend(waiting.iter().map(|it| it.0));
            for effect in world.step(Input::Durable { write }) {
                world.run(effect, mutant);
            }
            for effect in std::mem::take(&mut world.held) {
                if effect.after() > Some(write) {
                    world.held.push(effect);
                } else if let Effect::Snapshot { of, .. } = effect {
                    world.saving = Some((of, true));
                } else {
                    world.run(released(effect), mutant);
                }
            }
            worlds.push(world);
        }
        for sink in 0..SINKS {
            if let Some((first, last)) = self.commits[sink].front().copied() {
                let mut world = self.clone();
                world.commits[sink].pop_front();
                world.disk.sinks[sink].extend(first..=last);
                // It may crash before it says so.
                worlds.extend(world.crash(mutant));
                let committed = Input::Committed { sink, output: last };
                for effect in world.step(committed) {
                    world.run(effect, mutant);
                }
                worlds.push(world);
            }
        }
        if let Some((of, true)) = self.saving {
            let mut world = self.clone();
            world.saving = None;
            if mutant == Mutant::ForgetsEarly {
                let held = |it: &Snapshot| !it.outputs.is_within(&of.outputs);
                world.disk.snapshots.retain(held);
            }
            world.disk.snapshots.push(of);
            worlds.extend(world.crash(mutant));
            let through = of.through;
            for effect in world.step(Input::Snapshotted { through }) {
                world.run(effect, mutant);
            }
            worlds.push(world);
        }
        let mut world = self.clone();
        world.time += 1;
        for effect in world.step(Input::Wake) {
            world.run(effect, mutant);
        }
        if world.saving != self.saving {
            worlds.push(world);
        }
        worlds.extend(self.crash(mutant));
        worlds
    }

    fn crash(&self, mutant: Mutant) -> Vec<Self> {
        let mut worlds = Vec::new();
        if self.crashes > 0 {
            let (queries, crashes) = (self.queries, self.crashes - 1);
            worlds.push(Self::start(queries, self.disk.clone(), crashes, mutant));
            // Bits rot once: two good snapshots are kept, not three.
            if self.disk.damaged.is_none()
                && let Some(wanted) = self.disk.wanted(queries)
            {
                let mut disk = self.disk.clone();
                disk.damaged = Some(wanted.through);
                worlds.push(Self::start(queries, disk, crashes, mutant));
            }
        }
        worlds
    }
}

/// The same effect, whose write is durable.
fn released(effect: Effect) -> Effect {
    match effect {
        Effect::Commit {
            sink, first, last, ..
        } => Effect::Commit {
            sink,
            first,
            last,
            after: None,
        },
        Effect::Acknowledge {
            source, sequence, ..
        } => Effect::Acknowledge {
            source,
            sequence,
            after: None,
        },
        other => other,
    }
}

/// Both sinks are of one query.
const ONE: [usize; SINKS] = [0, 0];
/// Each sink is of a query of its own.
const TWO: [usize; SINKS] = [0, 1];

/// Walks through all worlds; how many there are, and how many end with all outputs.
fn explore(queries: [usize; SINKS], mutant: Mutant) -> Result<(usize, usize), String> {
    let disk = Disk {
        sinks: vec![Vec::new(); SINKS],
        ..Disk::default()
    };
    let mut seen = BTreeSet::new();
    let mut ahead = vec![World::start(queries, disk, 2, mutant)];
    let mut done = 0;
    while let Some(mut world) = ahead.pop() {
        // Time only ever has to go on.
        world.time = world.time.min(u64::from(u32::MAX));
        if !seen.insert(world.clone()) {
            continue;
        }
        world.check()?;
        done += usize::from(world.is_done());
        ahead.extend(world.next(mutant));
    }
    Ok((seen.len(), done))
}

#[test]
fn every_order_and_every_crash_gives_each_output_once() {
    for queries in [ONE, TWO] {
        let (worlds, done) = explore(queries, Mutant::None).expect("it is there");
        assert!(worlds > 10_000, "{worlds} worlds are too few to be all");
        assert!(done > 0, "some of them end with all outputs");
    }
}

#[test]
fn a_world_in_which_nothing_waits_for_the_disk_is_caught() {
    for queries in [ONE, TWO] {
        let wrong = explore(queries, Mutant::DoesNotHold).expect_err("it is refused");
        assert!(wrong.contains("durable"), "{wrong}");
    }
}

#[test]
fn a_world_that_loads_the_newest_snapshot_regardless_is_caught() {
    for queries in [ONE, TWO] {
        let wrong = explore(queries, Mutant::NewestSnapshot).expect_err("it is refused");
        assert!(wrong.starts_with("I2"), "{wrong}");
    }
}

#[test]
fn a_log_that_is_cut_one_snapshot_too_early_is_caught() {
    for queries in [ONE, TWO] {
        let wrong = explore(queries, Mutant::TruncatesEarly).expect_err("it is refused");
        assert!(wrong.starts_with("I4"), "{wrong}");
    }
}

#[test]
fn a_snapshot_that_is_let_go_too_early_is_caught() {
    for queries in [ONE, TWO] {
        let wrong = explore(queries, Mutant::ForgetsEarly).expect_err("it is refused");
        assert!(wrong.starts_with("I4"), "{wrong}");
    }
}

#[test]
fn what_cannot_be_brought_back_is_refused() {
    let snapshot = |through, output| Snapshot {
        through,
        outputs: Outputs::of([output]),
    };
    let refusal = |found: Found, outputs: [u64; SINKS]| {
        let mut once = Once::new(Config {
            sinks: ONE.to_vec(),
            snapshot_interval_ms: 1,
        });
        let mut effects = Effects::new();
        once.step(Time::ZERO, Input::Opened(found), &mut effects);
        for (sink, output) in outputs.into_iter().enumerate() {
            once.step(Time::ZERO, Input::Answered { sink, output }, &mut effects);
        }
        effects.drain().last()
    };
    let found = |first, last, snapshots| Found {
        first,
        last,
        epoch: 1,
        snapshots,
    };
    assert_eq!(
        refusal(found(5, 9, vec![snapshot(4, 7), snapshot(6, 9)]), [7, 3]),
        Some(Effect::Refuse(Refusal::SinkBehind { sink: 1, output: 3 }))
    );
    assert_eq!(
        refusal(found(1, 5, vec![snapshot(6, 9)]), [9, 9]),
        Some(Effect::Refuse(Refusal::LogLost {
            through: 6,
            last: 5
        }))
    );
    assert_eq!(
        refusal(found(3, 5, vec![]), [0, 0]),
        Some(Effect::Refuse(Refusal::NoSnapshot { first: 3 }))
    );
}

#[test]
fn a_sink_that_has_more_than_there_is_is_refused() {
    let mut once = Once::new(Config {
        sinks: vec![0],
        snapshot_interval_ms: 1,
    });
    let mut effects = Effects::new();
    once.step(Time::ZERO, Input::Opened(Found::default()), &mut effects);
    let answered = Input::Answered { sink: 0, output: 4 };
    once.step(Time::ZERO, answered, &mut effects);
    once.step(Time::ZERO, Input::Loaded, &mut effects);
    let assembled = Input::Assembled {
        sequence: 1,
        outputs: Outputs::NONE,
    };
    once.step(Time::ZERO, assembled, &mut effects);
    let refusal = Refusal::SinkAhead {
        sink: 0,
        output: 4,
        known: 0,
    };
    assert_eq!(effects.drain().last(), Some(Effect::Refuse(refusal)));
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before() {
    let mut once = Once::new(Config {
        sinks: Vec::new(),
        snapshot_interval_ms: 1,
    });
    let mut effects = Effects::new();
    let of = |through| Snapshot {
        through,
        outputs: Outputs::NONE,
    };
    let found = Found {
        first: 1,
        last: 9,
        epoch: 1,
        snapshots: vec![of(4), of(6)],
    };
    once.step(Time::ZERO, Input::Opened(found), &mut effects);
    let through = |effect: Option<Effect>| match effect {
        Some(Effect::Load { through }) => through,
        other => panic!("{other:?}"),
    };
    assert_eq!(through(effects.drain().last()), Some(6));
    once.step(Time::ZERO, Input::Damaged, &mut effects);
    assert_eq!(through(effects.drain().last()), Some(4));
    once.step(Time::ZERO, Input::Damaged, &mut effects);
    assert_eq!(through(effects.drain().last()), None);
}
