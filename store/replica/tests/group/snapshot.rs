//! A site that lacks what was cut gets a snapshot: whoever leads, whatever crashes.

use holm_raft::Event as Raft;
use holm_replica::Event;
use holm_virtual::Survival;

use crate::world::{Weather, World};

/// Three sites with logs so short that who is away for a moment needs a snapshot.
fn small(seed: u64) -> World {
    let mut world = World::new(seed);
    for at in 0..3 {
        world.crash(at);
        world.sites[at].kept_ops = 20;
        world.sites[at].laggard_bytes_min = 2 << 10;
        world.restart(at);
    }
    world.run_until("a leader", |it| it.leader().is_some());
    world
}

/// Writes at the sites that are up.
fn write(world: &mut World, name: &str, count: usize) {
    for number in 0..count {
        let up = (0..3).filter(|at| world.sites[*at].up.is_some() && !world.cut.contains(at));
        let up: Vec<usize> = up.collect();
        world.put(up[number % up.len()], &format!("{name}{number}"));
        world.run(10);
    }
    // Engines flush, and logs are cut.
    world.run(3_000);
}

fn installs(world: &World, at: usize) -> usize {
    let is_installed =
        |event: &&Event| matches!(event, Event::Raft(Raft::SnapshotInstalled { .. }));
    world.sites[at].events.iter().filter(is_installed).count()
}

#[test]
fn a_site_held_back_past_the_cut_gets_a_snapshot_and_equals_the_others() {
    for seed in 0..4 {
        let mut world = small(seed);
        write(&mut world, "before", 20);
        let at = if seed % 2 == 0 {
            world.follower()
        } else {
            world.leader().expect("it is calm")
        };
        world.crash(at);
        write(&mut world, "without", 300);
        world.restart(at);
        world.heal();
        assert_eq!(installs(&world, at), 1, "seed {seed}");
        assert_eq!(world.acknowledged.len(), 320);
        // It goes on as a site like any other, and is found as such.
        write(&mut world, "after", 40);
        world.crash(at);
        world.heal();
        assert_eq!(installs(&world, at), 1, "seed {seed}");
        assert_eq!(world.acknowledged.len(), 360);
    }
}

/// How many chunks of a snapshot a site has kept.
fn chunks_kept(world: &World, at: usize) -> usize {
    let names = world.sites[at].storage.names();
    let is_chunk = |name: &&String| name.contains(".chunks/") && !name.ends_with(".new");
    names.iter().filter(is_chunk).count()
}

fn chunks_sent(world: &World) -> u64 {
    world.sites.iter().map(|site| site.chunks_sent).sum()
}

/// A site that is away while so much is written that it needs a snapshot: which one.
fn away(world: &mut World) -> usize {
    write(world, "before", 20);
    let at = world.follower();
    world.crash(at);
    write(world, "without", 300);
    at
}

#[test]
fn a_site_killed_in_the_middle_goes_on_where_it_was() {
    let mut world = small(21);
    let at = away(&mut world);
    world.restart(at);
    world.run_until("half of the chunks", |it| chunks_kept(it, at) >= 12);
    assert_eq!(installs(&world, at), 0);
    let (kept, sent) = (chunks_kept(&world, at), chunks_sent(&world));
    world.end(at, Survival::Keep);
    world.run(500);
    world.restart(at);
    world.heal();
    assert_eq!(installs(&world, at), 1);
    let made = world.sites.iter().flat_map(|site| &site.events);
    let chunks = made.filter_map(|event| match event {
        Event::SnapshotMade { chunks, .. } => Some(u64::from(*chunks)),
        _ => None,
    });
    let (kept, chunks) = (kept as u64, chunks.max().expect("one was made"));
    let more = chunks_sent(&world) - sent;
    // Four were on their way when it ended.
    assert!(
        more <= chunks - kept + 4,
        "{more} more of {chunks}, {kept} were there"
    );
    assert_eq!(chunks_kept(&world, at), 0, "they are removed");
}

#[test]
fn another_leader_in_between_sends_only_what_is_missing() {
    let mut world = small(22);
    let at = away(&mut world);
    world.restart(at);
    world.run_until("half of the chunks", |it| chunks_kept(it, at) >= 12);
    assert_eq!(installs(&world, at), 0);
    let (kept, sent) = (chunks_kept(&world, at) as u64, chunks_sent(&world));
    let leader = world.leader().expect("somebody sent them");
    world.crash(leader);
    world.run(4_000);
    world.restart(leader);
    world.heal();
    assert_eq!(installs(&world, at), 1);
    let more = chunks_sent(&world) - sent;
    assert!(more + kept < 40, "{more} more, though {kept} were there");
}

#[test]
fn a_spoiled_chunk_is_refused_and_fetched_again() {
    let mut world = small(23);
    let at = away(&mut world);
    for site in &mut world.sites {
        site.spoils = 5;
    }
    world.restart(at);
    world.heal();
    let is_spoiled = |event: &&Event| matches!(event, Event::Raft(Raft::ChunkSpoiled { .. }));
    let spoiled = world.sites[at].events.iter().filter(is_spoiled).count();
    assert_eq!((spoiled, installs(&world, at)), (5, 1));
}

#[test]
fn what_is_offered_twice_is_taken_once() {
    let mut world = small(24);
    let at = away(&mut world);
    world.is_doubled = true;
    world.restart(at);
    world.heal();
    assert_eq!(installs(&world, at), 1);
}

#[test]
fn writes_go_on_while_one_is_given() {
    let mut world = small(25);
    let at = away(&mut world);
    world.restart(at);
    for number in 0..200 {
        let to = world.leader().unwrap_or((at + 1) % 3);
        world.put(to, &format!("meanwhile{number}"));
        world.run(10);
    }
    world.heal();
    assert!(installs(&world, at) >= 1);
    assert_eq!(world.acknowledged.len(), 520);
}

#[test]
fn a_crash_at_any_step_of_taking_one_loses_nothing() {
    let mut world = small(26);
    let at = away(&mut world);
    world.restart(at);
    let first = world.sites[at].storage.steps();
    world.heal();
    let last = world.sites[at].storage.steps();
    assert!(last - first > 100, "{first} to {last}");
    let survivals = [Survival::Keep, Survival::Drop, Survival::Torn { seed: 3 }];
    for (step, survival) in (first..last).step_by(17).zip(survivals.into_iter().cycle()) {
        let mut world = small(26);
        assert_eq!(away(&mut world), at, "the same seed, the same world");
        world.restart(at);
        world.sites[at].storage.crash_at(step);
        for _ in 0..400 {
            if world.sites[at].storage.has_crashed() {
                break;
            }
            world.tick();
        }
        world.end(at, survival);
        world.heal();
        assert_eq!(world.acknowledged.len(), 320, "step {step}, {survival:?}");
    }
}

/// One run in a hostile world with short logs. How many snapshots were installed.
fn storm(seed: u64) -> usize {
    let mut world = small(seed);
    let mut number = 0;
    for _ in 0..25 {
        world.weather = Weather {
            loss: world.prng.below(4) * 60,
            late: world.prng.below(4) * 100,
            slow: world.prng.below(4) * 150,
        };
        world.is_doubled = world.prng.below(3) == 0;
        let at = usize::try_from(world.prng.below(3)).expect("one of three");
        match world.prng.below(5) {
            0 | 1 if world.sites[at].up.is_some() => world.crash(at),
            0 | 1 => world.restart(at),
            2 => {
                world.cut.insert(at);
            }
            3 => world.cut.clear(),
            _ => {}
        }
        for _ in 0..40 {
            let at = usize::try_from(world.prng.below(3)).expect("one of three");
            if world.sites[at].up.is_some() {
                number += 1;
                world.put(at, &format!("key{number}"));
                world.read(at);
            }
        }
        let millis = world.prng.below(2_500);
        world.run(millis);
    }
    world.heal();
    (0..3).map(|at| installs(&world, at)).sum()
}

#[test]
fn storms_over_short_logs_lose_nothing() {
    let installed: usize = (100..108).map(storm).sum();
    assert!(installed > 5, "only {installed} snapshots were installed");
}
