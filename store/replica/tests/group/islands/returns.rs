//! A site that was left out comes back with what only it had; a copy of its data from before that does not.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_kv::command::Command;
use holm_local_first::{Members, Note, Proposal as Entry, State, Update};
use holm_virtual::Survival;

use super::{UNIX_MS, World, plain, roster, slot};

/// Two sites let the third go as lost, which writes on, and take it in again under slot 5. Gives
/// the table, and how much of it counts.
fn left_out(seed: u64, updates_bytes_max: usize) -> (World, Members, u64) {
    let mut world = World::new(seed, updates_bytes_max, [0, 900, 1_700]);
    world.run(2_000);
    world.write_some(&[0, 1, 2]);
    world.become_one(&[0, 1, 2]);
    world.cut = vec![(0, 2), (1, 2)];
    world.write_some(&[0, 1, 2]);
    world.put(2, "only", "of c");
    world.write_some(&[0, 2]);
    world.tell(&[0, 1], &Entry::Stop(slot(3)));
    let through = world.vector(0).seq(slot(3));
    assert_eq!(world.vector(1).seq(slot(3)), through);
    let island = world.sites[0].replica().keyspace().island().expect("one");
    let chain = island.tips()[&slot(3)].chain;
    let members = Members::new((1..=3).map(|it| (slot(it), 0)));
    let gone = members.let_go(slot(3), through, chain);
    let back = gone.and_then(|it| it.taken_back(slot(3), slot(5), UNIX_MS));
    let members = back.expect("5 is new");
    world.write_some(&[0, 1]);
    world.tell(&[0, 1], &roster_of(&members));
    world.cut.clear();
    (world, members, through)
}

/// The table with the third site behind slot 5.
fn roster_of(members: &Members) -> Entry {
    let Entry::Follow(mut roster) = roster(members) else {
        panic!("it is to be followed");
    };
    roster.nodes.insert(slot(5), vec![3]);
    Entry::Follow(roster)
}

/// What stands of each key, without names.
type Values = BTreeMap<Bytes, Vec<(u64, Bytes)>>;

fn values(states: &BTreeMap<Bytes, State>) -> Values {
    let of = |state: &State| {
        let all = state.siblings().iter();
        let mut all: Vec<_> = all.map(|it| (it.hlc.value(), it.value.clone())).collect();
        all.sort();
        all
    };
    states
        .iter()
        .map(|(key, it)| (key.clone(), of(it)))
        .collect()
}

impl World {
    /// The third site is back, and all have the same: what all updates come to, had all of its
    /// counted.
    fn is_back(&mut self, before: &[Update]) {
        for _ in 0..4_000 {
            self.tick();
            let first = self.vector(0);
            let is_equal = (1..3).all(|at| self.vector(at) == first);
            let island = self.sites[2].replica().keyspace().island();
            if is_equal && island.is_some_and(|it| it.slot() == slot(5)) {
                break;
            }
        }
        let mut all = self.vector(0);
        let own = before.iter().filter(|it| it.dot.slot == slot(3)).count();
        all.raise(slot(3), u64::try_from(own).expect("a few"));
        let expected = values(&plain::twin(before, &all));
        for at in 0..3 {
            assert_eq!(values(&self.states(at)), expected, "site {at}");
        }
    }

    fn again(&self) -> u64 {
        self.vector(2).seq(slot(5))
    }
}

#[test]
fn a_site_that_was_left_out_comes_back_with_all_that_only_it_had() {
    for (seed, updates_bytes_max) in [(1, 1 << 20), (3, 900)] {
        let (mut world, members, through) = left_out(seed, updates_bytes_max);
        let before = world.all.clone();
        assert!(world.vector(2).seq(slot(3)) > through, "it wrote on");
        world.tell(&[2], &roster_of(&members));
        world.is_back(&before);
        assert!(world.states(0).contains_key(&b"only"[..]));
        assert_eq!(world.again(), 1, "all of it is one update");
        // It takes part like any other.
        world.write_some(&[0, 1, 2]);
        world.sites[2].crash();
        let now = world.now;
        world.sites[2].start(now);
        world.write_some(&[0, 2]);
        world.run(4_000);
        world.judge();
        assert!(world.again() > 10 && world.vector(0) == world.vector(2));
        assert_eq!(world.vector(0).seq(slot(3)), through, "no more of it");
    }
}

#[test]
fn who_comes_back_takes_of_a_slot_that_it_had_stopped_what_others_have() {
    let (mut world, members, _through) = left_out(5, 900);
    world.cut = vec![(0, 1), (1, 2)];
    world.write_some(&[1]);
    let both = [0, 2].map(|at: usize| world.vector(at).seq(slot(2)));
    assert!(both[1] < both[0], "it was cut off: {both:?}");
    world.tell(&[0, 2], &Entry::Stop(slot(2)));
    world.tell(&[2], &roster_of(&members));
    for _ in 0..2_000 {
        world.tick();
        if world.vector(2) == world.vector(0) {
            break;
        }
    }
    let island = world.sites[2].replica().keyspace().island();
    let island = island.expect("it is one");
    assert_eq!(
        (island.slot(), island.limited(slot(2), 99)),
        (slot(5), both[0])
    );
    assert_eq!(world.vector(2), world.vector(0));
}

/// Ends the site that comes back so many ticks after it heard of it; whether it was back by then.
fn end_within_a_return(ticks: u64, ended: usize) -> bool {
    let (mut world, members, _through) = left_out(ticks, 900);
    let before = world.all.clone();
    world.change(2, Command::Island(roster_of(&members)));
    let is_back = |world: &World| {
        let island = world.sites[2].replica().keyspace().island();
        island.is_some_and(|it| it.slot() == slot(5))
    };
    for _ in 0..400 {
        if world
            .notes(2)
            .any(|it| matches!(it, Note::SessionOpened(_)))
        {
            break;
        }
        world.tick();
    }
    (0..ticks).for_each(|_| world.tick());
    let is_over = is_back(&world);
    world.sites[ended].crash();
    let mail = &mut world.mail;
    mail.retain(|(from, to), _| *from != ended && *to != ended);
    world.run(100);
    let now = world.now;
    world.sites[ended].start(now);
    world.is_back(&before);
    assert_eq!(world.again(), 1, "nothing is made twice");
    is_over
}

#[test]
fn a_return_that_a_power_cut_ends_at_any_step_makes_nothing_twice() {
    for ended in [2, 0] {
        let over = (0..14).filter(|ticks| end_within_a_return(*ticks, ended));
        let over = over.count();
        assert!((1..=12).contains(&over), "{over} were over in time");
    }
}

/// The third site is back as 5, and its data are put back to before that.
fn copied(seed: u64) -> (World, Members) {
    let (mut world, members, _through) = left_out(seed, 900);
    let before = world.all.clone();
    let now = world.now;
    world.sites[2].crash();
    let copy = world.sites[2].storage.reopen(Survival::Keep);
    world.sites[2].start(now);
    world.tell(&[2], &roster_of(&members));
    world.is_back(&before);
    assert_eq!(world.vector(0).seq(slot(5)), 1);
    world.sites[2].crash();
    world.sites[2].storage = copy;
    let now = world.now;
    world.sites[2].start(now);
    (world, members)
}

#[test]
fn a_copy_of_before_a_return_makes_nothing_again() {
    for seed in [1, 3] {
        let (mut world, members) = copied(seed);
        let shown = values(&world.states(0));
        world.change(2, Command::Island(roster_of(&members)));
        world.run(14_000);
        let notes = || world.notes(2);
        assert!(notes().any(|it| matches!(it, Note::SetBack(dot) if dot.slot == slot(5))));
        let charter = world.sites[2].replica().keyspace().charter();
        assert!(charter.expect("one").stops().contains_key(&slot(5)));
        assert_eq!(world.vector(2).seq(slot(5)), 0, "it is not back");
        // It is let go as lost, and taken in again.
        let island = world.sites[0].replica().keyspace().island().expect("one");
        let chain = island.tips()[&slot(5)].chain;
        let gone = members.let_go(slot(5), 1, chain);
        let back = gone.and_then(|it| it.taken_back(slot(3), slot(6), UNIX_MS));
        let members = back.expect("6 is new");
        let Entry::Follow(mut roster) = roster(&members) else {
            panic!("it is to be followed");
        };
        roster.nodes.insert(slot(6), vec![3]);
        world.tell(&[0, 1, 2], &Entry::Follow(roster));
        world.run(14_000);
        let island = world.sites[2].replica().keyspace().island().expect("one");
        assert_eq!((island.slot(), island.vector().seq(slot(6))), (slot(6), 0));
        for at in 0..3 {
            assert_eq!(values(&world.states(at)), shown, "site {at}");
        }
        world.put(2, "later", "of c");
        world.run(4_000);
        assert!(world.states(0).contains_key(&b"later"[..]));
    }
}
