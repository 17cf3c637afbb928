//! A site that lacks what was cut gets a snapshot: whoever leads, whatever crashes.

use holm_raft::Event as Raft;
use holm_replica::Event;

use crate::world::World;

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
    let is_installed = |event: &&Event| matches!(event, Event::Raft(Raft::SnapshotInstalled { .. }));
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
