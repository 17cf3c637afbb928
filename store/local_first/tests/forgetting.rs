//! Forgetting, and who comes back: what may be cut, who is left out, what it makes again.

use std::collections::{BTreeMap, BTreeSet};

use arbtest::arbtest;
use bytes::{Bytes, BytesMut};
use holm_base::Prng;
use holm_local_first::{
    Absent, Chain, Change, DecodeError, Dot, Fork, Forks, Freezing, Frozen, Head, Hlc, Intake,
    Island, Made, Members, MembersError, SILENT_MS_MAX, Sealed, Slot, Stability, State, Update,
    Vector, adopted, reissue,
};

#[expect(
    dead_code,
    reason = "the network and the logs are for the random worlds"
)]
mod world;

use world::{Keys, carry_out, slot};

const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn dot(number: u8, seq: u64) -> Dot {
    let slot = slot(number);
    Dot { slot, seq }
}

fn vector(all: &[(u8, u64)]) -> Vector {
    let mut vector = Vector::new();
    all.iter()
        .for_each(|(number, seq)| vector.raise(slot(*number), *seq));
    vector
}

fn put(key: &str, value: &str) -> Change {
    Change::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        lease: 0,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn delete(key: &str) -> Change {
    Change::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }
}

#[test]
fn own_updates_that_nobody_has_are_never_cut() {
    let mut stability = Stability::new([slot(2), slot(3)]);
    let ours = vector(&[(1, 90), (2, 7)]);
    let own = (slot(1), &ours);
    assert_eq!(
        stability.truncatable(slot(1), own, 0),
        0,
        "nobody was heard"
    );
    stability.report(slot(2), &vector(&[(1, 40), (2, 7)]), &ours, 0);
    stability.report(slot(3), &vector(&[(1, 30), (2, 5)]), &ours, 10 * DAY_MS);
    assert_eq!(stability.truncatable(slot(1), own, 11 * DAY_MS), 30);
    assert_eq!(stability.truncatable(slot(2), own, 11 * DAY_MS), 5);
    // Of two, one is silent for a month, then both are.
    assert_eq!(stability.truncatable(slot(1), own, 31 * DAY_MS), 30);
    assert_eq!(
        stability.truncatable(slot(1), own, 99 * DAY_MS),
        40,
        "I10: of 90, 50 are kept"
    );
    assert_eq!(stability.truncatable(slot(2), own, 99 * DAY_MS), 7);
    let silent: Vec<Slot> = stability.silent(31 * DAY_MS, SILENT_MS_MAX).collect();
    assert_eq!(silent, [slot(2)]);
}

#[test]
fn what_everybody_has_is_not_stable_while_something_is_under_way() {
    let mut stability = Stability::new([slot(2), slot(3)]);
    let mut ours = vector(&[(1, 4), (2, 1)]);
    stability.report(slot(3), &vector(&[(1, 4)]), &ours, 0);
    // Site 2 has our fourth, and had made a third of its own which we lack.
    stability.report(slot(2), &vector(&[(1, 4), (2, 3)]), &ours, 0);
    assert_eq!(
        stability.cut(0, SILENT_MS_MAX).seq(slot(1)),
        4,
        "its stream may be cut"
    );
    assert_eq!(stability.stable(&ours), Vector::new());
    // A later report does not take the place of one that will count sooner.
    stability.report(slot(2), &vector(&[(1, 5), (2, 9)]), &ours, 0);
    ours.raise(slot(2), 3);
    stability.advance(&ours);
    assert_eq!(stability.stable(&ours).seq(slot(1)), 4);
    stability.become_of([slot(2), slot(4)]);
    assert_eq!(
        stability.stable(&ours),
        Vector::new(),
        "the new site said nothing"
    );
}

fn four() -> Members {
    Members::new((1..=4).map(|number| (slot(number), 5)))
}

fn frozen(through: u64, heir: u8) -> Frozen {
    Frozen {
        through,
        chain: Chain([heir; 32]),
        heir: Slot::new(heir),
    }
}

#[test]
fn a_table_freezes_slots_and_never_uses_one_again() {
    let first = four();
    assert_eq!(first.unused(), Ok(slot(5)));
    let second = first
        .without(slot(3), frozen(7, 5), 9)
        .expect("3 is active");
    assert!(first.is_followed_by(&second) && !second.is_followed_by(&first));
    assert!(
        second.lets_in(dot(3, 7)) && !second.lets_in(dot(3, 8)),
        "I12"
    );
    assert!(second.lets_in(dot(5, 1)) && !second.lets_in(dot(9, 1)));
    let used = MembersError::Used { slot: slot(3) };
    assert_eq!(second.with(slot(3), 0), Err(used));
    let gone = MembersError::NotActive { slot: slot(3) };
    assert_eq!(second.without(slot(3), frozen(1, 8), 0), Err(gone));
    let third = second
        .without(slot(5), frozen(2, 6), 9)
        .expect("5 is active");
    assert_eq!(third.heir(slot(3)), Some(slot(6)), "by way of 5");
    let counted = third.counted(&vector(&[(1, 8), (3, 13), (5, 1)]));
    assert_eq!(counted, vector(&[(1, 8), (3, 7), (5, 1)]));
    let two = Members::new([(slot(1), 0), (slot(2), 0)]);
    assert_eq!(
        two.without(slot(2), frozen(0, 3), 0),
        Err(MembersError::TooFew)
    );
    let all = Members::new((1..=255).map(|number| (slot(number), 0)));
    assert_eq!(all.unused(), Err(MembersError::UsedUp));
    for table in [first, second, third, all] {
        assert_eq!(Members::decode(table.encode()), Ok(table));
    }
}

#[test]
fn a_slot_is_frozen_at_the_most_that_an_active_site_has() {
    let (members, mut freezing) = (four(), Freezing::new(slot(3)));
    freezing.report(slot(1), 5, Chain([5; 32]));
    freezing.report(slot(2), 8, Chain([8; 32]));
    assert_eq!(freezing.agreed(&members), None, "4 takes in of it still");
    freezing.report(slot(4), 2, Chain([2; 32]));
    assert_eq!(freezing.agreed(&members), Some((8, Chain([8; 32]))));
    assert_eq!(freezing.slot(), slot(3));
}

#[test]
fn a_site_that_was_let_go_is_taken_back_under_a_slot_that_was_never_used() {
    let gone = four().let_go(slot(3), 7, Chain([3; 32]));
    let gone = gone.expect("3 is active");
    assert_eq!(gone.heir(slot(3)), None);
    assert_eq!(gone.heir(slot(2)), Some(slot(2)));
    let used = |number| MembersError::Used { slot: slot(number) };
    assert_eq!(gone.taken_back(slot(3), slot(4), 9), Err(used(4)));
    assert_eq!(gone.taken_back(slot(2), slot(5), 9), Err(used(2)));
    let back = gone.taken_back(slot(3), slot(5), 9).expect("5 is new");
    assert!(gone.is_followed_by(&back));
    assert_eq!(
        (back.heir(slot(3)), back.active()[&slot(5)]),
        (Some(slot(5)), 9)
    );
    // It goes once more before it has made anything there.
    let again = back.let_go(slot(5), 0, Chain::default()).expect("active");
    assert_eq!(again.heir(slot(3)), None);
    let last = again.taken_back(slot(3), slot(6), 10).expect("6 is new");
    assert_eq!(last.heir(slot(3)), Some(slot(6)));
    assert_eq!(Members::decode(last.encode()), Ok(last));
}

/// Two sites that stay and two that are left out.
struct Place {
    sites: BTreeMap<u8, (Island, Keys)>,
    all: Vec<Sealed>,
    hours: u64,
    /// What was not made again.
    told: Vec<Hlc>,
}

impl Place {
    fn new() -> Self {
        let site = |number| (number, (Island::new(slot(number), 1), Keys::new()));
        Self {
            sites: (1..=4).map(site).collect(),
            all: Vec::new(),
            hours: 0,
            told: Vec::new(),
        }
    }

    fn write(&mut self, at: u8, changes: Vec<Change>) {
        self.hours += 1;
        let (island, keys) = self.sites.get_mut(&at).expect("it is there");
        let sealed = island.originate(changes, self.hours * 3_600_000);
        carry_out(&sealed.update, keys);
        self.all.push(sealed);
    }

    fn take(&mut self, at: u8, of: u8) {
        let (island, keys) = self.sites.get_mut(&at).expect("it is there");
        let next = dot(of, island.vector().seq(slot(of)) + 1);
        let found = self.all.iter().find(|it| it.update.dot == next);
        let Some(bytes) = found.map(|it| it.bytes.clone()) else {
            return;
        };
        if let Intake::Next(sealed) = island.judge(&bytes, u64::MAX / 2) {
            island.take(&sealed);
            carry_out(&sealed.update, keys);
        }
    }

    fn sync(&mut self, sites: &[u8]) {
        for _ in 0..=self.all.len() {
            for at in sites {
                (1..=6).for_each(|of| self.take(*at, of));
            }
        }
    }

    /// A site that was left out comes back by the first, under its heir.
    fn come_back(&mut self, at: u8, members: &Members) {
        let (first, group) = self.sites[&1].clone();
        let (old, keys) = self.sites[&at].clone();
        let limits = limits(members);
        let absent = Absent {
            slot: slot(at),
            vector: old.vector(),
            limits: &limits,
        };
        assert!(absent.may_adopt(first.vector()));
        let names: BTreeSet<&Bytes> = keys.keys().chain(group.keys()).collect();
        let none = State::new();
        let of = |keys: &Keys, key: &Bytes| keys.get(key).unwrap_or(&none).clone();
        let made = names
            .iter()
            .map(|key| absent.made(key, (&of(&keys, key), &of(&group, key))));
        let made: Vec<Made> = made.filter(|it| !it.is_empty()).collect();
        let told = made.iter().flat_map(|it| &it.left_out).map(|it| it.hlc);
        self.told.extend(told);
        let heir = members.heir(slot(at)).expect("it was taken back");
        let mut island = adopted(members, heir, first.tips().clone(), first.hlc());
        island.follow(members.epoch(), limits);
        let mut keys = group;
        for sealed in reissue(&mut island, made, Hlc::new(u64::MAX)) {
            carry_out(&sealed.update, &mut keys);
            self.all.push(sealed);
        }
        self.sites.insert(at, (island, keys));
    }

    /// A put that no other change of its key has seen, and that is nowhere.
    fn lost(
        &self,
        original: &[Update],
        at: u8,
        counts: &dyn Fn(&Update) -> bool,
    ) -> Option<String> {
        let keys = &self.sites[&at].1;
        for update in original.iter().filter(|it| counts(it)) {
            for (key, value, _) in update.changes.iter().filter_map(Change::put) {
                let is_put = |it: &Update| {
                    it.changes
                        .iter()
                        .any(|it| it.put().is_some() && it.touches(key))
                };
                let saw = |it: &Update| {
                    let has_seen = it.deps.covers(update.dot);
                    let touches = it.changes.iter().any(|it| it.touches(key));
                    let is_told = self.told.contains(&it.hlc);
                    has_seen && touches && (counts(it) || !is_put(it) || is_told)
                };
                let stands = |it: &State| {
                    let mut all = it.siblings().iter();
                    all.any(|it| it.hlc == update.hlc && it.value == *value)
                };
                if !original.iter().any(saw) && !keys.get(key).is_some_and(stands) {
                    return Some(format!("{} of {key:?} is nowhere: {keys:?}", update.dot));
                }
            }
        }
        None
    }
}

fn limits(members: &Members) -> BTreeMap<Slot, u64> {
    let frozen = members.frozen().iter();
    frozen.map(|(slot, it)| (*slot, it.through)).collect()
}

/// Four sites that write and hear of each other, and then in two pairs.
fn parted(prng: &mut Prng) -> Place {
    let mut place = Place::new();
    let some = |prng: &mut Prng, place: &mut Place, group: [u8; 2]| {
        let at = group[usize::try_from(prng.below(2)).expect("small")];
        let key = ["a", "b", "c"][usize::try_from(prng.below(3)).expect("small")];
        match prng.below(5) {
            0 => place.write(at, vec![put(key, &format!("{at}-{}", place.hours))]),
            1 => place.write(at, vec![delete(key), put("d", &format!("{at}"))]),
            _ => group.into_iter().for_each(|of| place.take(at, of)),
        }
    };
    for _ in 0..30 {
        let one = 1 + u8::try_from(prng.below(4)).expect("small");
        let other = 1 + u8::try_from(prng.below(4)).expect("small");
        some(prng, &mut place, [one, other]);
    }
    for _ in 0..20 {
        some(prng, &mut place, [1, 2]);
        some(prng, &mut place, [3, 4]);
    }
    place
}

/// The first pair agrees on how much of the other counts, and takes both back.
fn left_out(place: &mut Place) -> Members {
    let mut later = four();
    for gone in [3, 4] {
        let seq = |at| place.sites[&at].0.vector().seq(slot(gone));
        let through = seq(1).max(seq(2));
        later = later
            .let_go(slot(gone), through, Chain::default())
            .expect("it is active");
    }
    for (gone, heir) in [(3, 5), (4, 6)] {
        later = later
            .taken_back(slot(gone), slot(heir), 0)
            .expect("it is new");
    }
    for at in [1, 2] {
        let (island, _) = place.sites.get_mut(&at).expect("it is there");
        island.follow(later.epoch(), limits(&later));
    }
    place.sync(&[1, 2]);
    later
}

/// Two that were left out met before: neither knows what of the other's counts.
#[test]
fn two_sites_that_were_left_out_together_come_back_and_lose_nothing() {
    for seed in 0..400 {
        let mut prng = Prng::new(seed | 1);
        let mut place = parted(&mut prng);
        let original: Vec<Update> = place.all.iter().map(|it| it.update.clone()).collect();
        let later = left_out(&mut place);
        let back: &[u8] =
            [&[3][..], &[4], &[3, 4], &[4, 3]][usize::try_from(seed % 4).expect("small")];
        for at in back {
            place.come_back(*at, &later);
            place.sync(&[1, 2]);
        }
        let here: Vec<u8> = [1, 2].iter().chain(back).copied().collect();
        place.sync(&here);
        let counts = |it: &Update| {
            let is_back = back.iter().any(|at| slot(*at) == it.dot.slot);
            later.lets_in(it.dot) || is_back
        };
        for at in &here {
            let lost = place.lost(&original, *at, &counts);
            assert_eq!(lost, None, "seed {seed}, site {at}");
            assert_eq!(
                place.sites[at].1, place.sites[&1].1,
                "seed {seed}, site {at}"
            );
        }
    }
}

#[test]
fn a_value_of_a_month_ago_does_not_replace_what_was_written_since() {
    let mut place = Place::new();
    place.write(1, vec![put("a", "first"), put("e", "first")]);
    place.sync(&[1, 2, 3, 4]);
    place.write(3, vec![put("a", "cut off"), put("b", "only here")]);
    place.write(3, vec![delete("e")]);
    place.hours += 31 * 24;
    place.write(2, vec![put("a", "newer")]);
    let (at, seq) = (slot(3), 0);
    let later = four().let_go(at, seq, Chain::default());
    let later = later.and_then(|it| it.taken_back(at, slot(5), 0));
    let later = later.expect("3 is active, 5 is new");
    for at in [1, 2] {
        let (island, _) = place.sites.get_mut(&at).expect("it is there");
        island.follow(later.epoch(), limits(&later));
    }
    place.sync(&[1, 2]);
    place.come_back(3, &later);
    place.sync(&[1, 2, 3]);
    for at in [1, 2, 3] {
        let keys = &place.sites[&at].1;
        let shown = |key: &str| {
            let state = keys.get(key.as_bytes());
            state.and_then(State::shown).map(|it| it.value.clone())
        };
        assert_eq!(shown("a"), Some(Bytes::from("newer")));
        assert_eq!(keys["a".as_bytes()].siblings().len(), 2, "it stands beside");
        assert_eq!(shown("b"), Some(Bytes::from("only here")));
        assert_eq!(shown("e"), None, "what it deleted is deleted");
    }
}

fn head(seq: u64, chain: u8) -> Head {
    Head {
        keyspace: [9; 16],
        epoch: 1,
        dot: dot(2, seq),
        chain: Chain([chain; 32]),
        signature: [chain; 64],
    }
}

#[test]
fn two_heads_of_one_update_stop_a_slot_until_a_table_says_which_counts() {
    let mut forks = Forks::default();
    assert_eq!(forks.see(head(4, 1)), None);
    assert_eq!(forks.see(head(4, 1)), None, "it is the same");
    assert_eq!(forks.see(head(5, 2)), None, "it is the next");
    assert_eq!(Fork::of(head(4, 1), head(5, 2)), None);
    let fork = forks.see(head(5, 3)).expect("it is another story");
    assert_eq!(Some(fork), Fork::of(head(5, 3), head(5, 2)), "in any order");
    assert!(!forks.lets_in(slot(2)) && forks.lets_in(slot(1)));
    assert_eq!(forks.of(slot(2)), Some(&fork));
    assert!(!forks.prove(fork), "it was passed on already");
    assert_eq!(Fork::decode(fork.encode()), Ok(fork));
    assert_eq!(fork.heads()[0].signed().len(), 62);
    forks.settle(slot(2));
    assert!(forks.lets_in(slot(2)));
}

#[test]
fn noise_is_no_table_no_head_and_no_fork() {
    arbtest(|choose| {
        let mut noise: Vec<u8> = choose.arbitrary()?;
        if let Some(version) = noise.first_mut() {
            *version = 1;
        }
        let noise = Bytes::from(noise);
        if let Ok(table) = Members::decode(noise.clone()) {
            assert_eq!(table.encode(), noise, "only one way to write it");
        }
        if let Ok(head) = Head::decode(noise.clone()) {
            let mut out = BytesMut::new();
            head.encode(&mut out);
            assert_eq!(out, noise);
        }
        if let Ok(fork) = Fork::decode(noise.clone()) {
            assert_eq!(fork.encode(), noise);
        }
        let table = four()
            .without(slot(3), frozen(7, 5), 9)
            .expect("3 is active");
        for bytes in [
            table.encode(),
            Fork::of(head(1, 1), head(1, 2)).expect("a fork").encode(),
        ] {
            let cut = bytes.slice(..choose.int_in_range(0..=bytes.len() - 1)?);
            assert!(Members::decode(cut.clone()).is_err());
            assert!(Fork::decode(cut).is_err());
        }
        Ok(())
    })
    .budget_ms(500);
    let same = Fork::of(head(1, 1), head(1, 2)).expect("a fork").encode();
    let mut twice = same[..127].to_vec();
    twice.extend_from_slice(&same[1..127]);
    let wrong = DecodeError::Wrong { what: "a fork" };
    assert_eq!(
        Fork::decode(Bytes::from(twice)),
        Err(wrong),
        "one story is no fork"
    );
}

/// The bytes of the first release that wrote them: they must be readable for ever.
#[test]
fn version_1_of_tables_and_forks_stays_as_it_is() {
    let table = four()
        .without(slot(3), frozen(700, 5), 9)
        .expect("3 is active");
    let fork = Fork::of(head(1, 1), head(1, 2)).expect("a fork");
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect::<String>()
    };
    let all = [hex(&table.encode()), hex(&fork.encode())].join("\n") + "\n";
    assert_eq!(all, include_str!("compat/members1.hex"));
}
