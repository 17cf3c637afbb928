//! Random worlds of three islands: cuts, losses, crashes, truncated streams, sessions. At every
//! step each site's keys are what the twin says of the updates that it has, and after a heal all
//! sites have all of them.

use std::time::Duration;

use holm_local_first::{Note, Slot};

mod world;

use world::{Mistake, World, slot};

/// What a run did, so that a test can demand that it did something.
#[derive(Debug, Default)]
struct Told {
    updates: usize,
    sessions: usize,
    siblings: usize,
}

/// One random run of so many steps; what was wrong, if something was.
fn run(seed: u64, steps: u32, mistake: Mistake) -> Result<Told, String> {
    let mut world = World::new(3, seed, mistake);
    let mut told = Told::default();
    for _ in 0..steps {
        let (one, other) = pair(&mut world);
        match world.prng.below(32) {
            0..=5 => world.change_something(one),
            6..=17 => {
                let is_lost = world.prng.below(8) == 0;
                world.deliver(one, other, is_lost);
            }
            18..=23 => world.commit(one),
            24 => world.cut(one, other),
            25 => world.heal(),
            26 => world.crash(one),
            27 | 28 => world.truncate(one, other),
            29 => world.truncate(one, one),
            _ => world.pass(Duration::from_millis(400)),
        }
        for own in world.slots() {
            world.wrong(own).map_or(Ok(()), Err)?;
            let keys = world.sites[&own].keys.values();
            told.siblings = told
                .siblings
                .max(keys.map(|it| it.siblings().len()).max().unwrap_or(0));
        }
    }
    world.heal();
    for _ in 0..60 {
        world.settle();
        if world.are_equal() {
            break;
        }
    }
    for own in world.slots() {
        world.wrong(own).map_or(Ok(()), Err)?;
        let lacking = world
            .all
            .iter()
            .find(|it| !world.sites[&own].island.vector().covers(it.dot));
        if let Some(update) = lacking {
            return Err(format!("site {own} lacks {} after the heal", update.dot));
        }
        let known = world.machine(own).acknowledged();
        if world.sites[&own].island.vector() != &known {
            world.settle();
            world.settle();
        }
        assert_eq!(
            &world.machine(own).acknowledged(),
            world.sites[&own].island.vector()
        );
    }
    told.updates = world.all.len();
    let done = world
        .notes
        .iter()
        .filter(|it| matches!(it, Note::SessionDone(_)));
    told.sessions = done.count();
    Ok(told)
}

fn pair(world: &mut World) -> (Slot, Slot) {
    let one = world.prng.below(3);
    let other = (one + 1 + world.prng.below(2)) % 3;
    let name = |number: u64| slot(u8::try_from(number).expect("small") + 1);
    (name(one), name(other))
}

#[test]
fn random_islands_show_what_the_twin_shows_and_end_equal() {
    let mut sum = Told::default();
    for seed in 0..600 {
        let told =
            run(seed, 400, Mistake::None).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
        sum.updates += told.updates;
        sum.sessions += told.sessions;
        sum.siblings = sum.siblings.max(told.siblings);
    }
    assert!(
        sum.updates > 20_000 && sum.sessions > 200 && sum.siblings == 3,
        "{sum:?}"
    );
}

#[test]
fn each_mistake_of_an_engine_is_found() {
    for mistake in [
        Mistake::LosersDropped,
        Mistake::JoinedWithoutVectors,
        Mistake::VectorJoinedEarly,
        Mistake::HalfTaken,
        Mistake::PutReplacesAll,
        Mistake::AskerPinnedFirst,
    ] {
        let found = (0..2_000).find(|seed| run(*seed, 400, mistake).is_err());
        assert!(found.is_some(), "{mistake:?} is not found");
    }
}

#[test]
fn in_step_updates_are_sent_once_to_each_and_together() {
    let mut world = World::new(3, 1, Mistake::None);
    world.settle();
    for _ in 0..3 {
        world.change_something(slot(1));
    }
    assert_eq!(world.sent, (2, 2), "the first does not wait");
    world.settle();
    assert_eq!(world.sent, (4, 6), "the others go together");
    assert!(world.are_equal());
    assert_eq!(world.sites[&slot(3)].island.vector().seq(slot(1)), 3);
}
