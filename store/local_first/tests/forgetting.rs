//! Forgetting, and who comes back: what may be cut, who is left out, what it makes again.

use std::collections::BTreeMap;

use arbtest::arbtest;
use bytes::{Bytes, BytesMut};
use holm_base::Prng;
use holm_local_first::{
    Chain, Change, DecodeError, Dot, Fork, Forks, Freezing, Frozen, Head, Hlc, Intake, Island,
    Members, MembersError, SILENT_MS_MAX, Sealed, Slot, Stability, State, Update, Vector, adopted,
    may_adopt, rebase,
};

#[expect(
    dead_code,
    reason = "the network and the logs are for the random worlds"
)]
mod world;

use world::{Keys, carry_out, slot, twin};

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
    // (3, 7 + 2 + 4) was made again as (5, 6), and that as (6, 4).
    assert_eq!(third.renamed(dot(3, 13)), Some(dot(6, 4)));
    assert_eq!(third.renamed(dot(3, 9)), Some(dot(5, 2)));
    let context = third.renamed_all(&vector(&[(1, 8), (3, 13)]));
    assert_eq!(context, vector(&[(1, 8), (3, 7), (5, 2), (6, 4)]));
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

/// Two sites that stay and two that are left out.
struct Place {
    sites: BTreeMap<u8, (Island, Keys)>,
    all: Vec<Sealed>,
    hours: u64,
}

/// A mistake of a site that comes back, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// What it has is joined with what the group has.
    Merges,
    /// What it makes again is as if it were new: of now.
    NewTime,
    /// Likewise, and as if it had seen everything.
    NewContext,
    /// It comes with what it has, as if it had not been left out.
    GoesOn,
}

impl Place {
    fn new() -> Self {
        let site = |number| (number, (Island::new(slot(number), 1), Keys::new()));
        Self {
            sites: (1..=4).map(site).collect(),
            all: Vec::new(),
            hours: 0,
        }
    }

    fn write(&mut self, at: u8, changes: Vec<Change>) {
        self.hours += 1;
        let (island, keys) = self.sites.get_mut(&at).expect("it is there");
        let sealed = island.originate(changes, self.hours * 3_600_000);
        carry_out(&sealed.update, keys);
        self.all.push(sealed);
    }

    fn take(&mut self, at: u8, of: u8, members: &Members) {
        let (island, keys) = self.sites.get_mut(&at).expect("it is there");
        let next = dot(of, island.vector().seq(slot(of)) + 1);
        // A site's update, or what it made of it, is the last of that name.
        let found = self.all.iter().rfind(|it| it.update.dot == next);
        let Some(bytes) = found.map(|it| it.bytes.clone()) else {
            return;
        };
        if let Some(Intake::Next(sealed)) = members.judge(island, &bytes, u64::MAX / 2) {
            island.take(&sealed);
            carry_out(&sealed.update, keys);
        }
    }

    fn sync(&mut self, sites: &[u8], members: &Members) {
        for _ in 0..self.all.len() + 1 {
            for at in sites {
                (1..=6).for_each(|of| self.take(*at, of, members));
            }
        }
    }

    /// What is wrong with the keys of a site, if something is.
    fn check(&self, at: u8, mistake: Mistake) -> Result<(), String> {
        let (island, keys) = &self.sites[&at];
        let all: Vec<Update> = self.all.iter().map(|it| it.update.clone()).collect();
        let expected = twin(&all, island.vector());
        if *keys == expected {
            return Ok(());
        }
        Err(format!(
            "{mistake:?}: site {at} at {}: {keys:?}, not {expected:?}",
            island.vector()
        ))
    }

    /// A site that was left out comes back by the first, under its heir.
    fn come_back(&mut self, at: u8, members: &Members, mistake: Mistake) -> Option<Dot> {
        let (first, group) = self.sites[&1].clone();
        let (old, old_keys) = self.sites[&at].clone();
        let heir = members.frozen()[&slot(at)].heir.expect("it has one");
        let behind = members.frozen()[&slot(at)].through;
        let is_own = |it: &&Sealed| it.update.dot.slot == slot(at) && it.update.dot.seq > behind;
        let own: Vec<Sealed> = self.all.iter().filter(is_own).cloned().collect();
        assert!(may_adopt(members, old.vector(), first.vector()));
        let mut island = if old.slot() == heir {
            old.clone()
        } else {
            adopted(members, heir, first.tips().clone(), first.hlc())
        };
        let mut keys = if old.slot() == heir {
            old_keys.clone()
        } else {
            group.clone()
        };
        if mistake == Mistake::Merges && old.slot() != heir {
            keys.clear();
            for key in old_keys.keys().chain(group.keys()) {
                let none = State::new();
                let (one, other) = (
                    old_keys.get(key).unwrap_or(&none),
                    group.get(key).unwrap_or(&none),
                );
                let joined = State::joined((one, old.vector()), (other, first.vector()));
                keys.insert(key.clone(), joined);
            }
            keys.retain(|_, state| !state.is_empty());
        }
        let mut made = rebase(members, &mut island, &own, Hlc::new(u64::MAX), &|_| false);
        let now = Hlc::of_unix_ms((self.hours + 1) * 3_600_000);
        for sealed in &mut made.reissued {
            let update = &mut sealed.update;
            match mistake {
                Mistake::NewTime => update.hlc = now,
                Mistake::NewContext => update.deps = island.vector().clone(),
                Mistake::None | Mistake::Merges | Mistake::GoesOn => {}
            }
            carry_out(update, &mut keys);
        }
        for sealed in &made.reissued {
            // What comes of it must be what its site made, under another name.
            let same = own
                .iter()
                .find(|it| members.renamed(it.update.dot) == Some(sealed.update.dot));
            let same = &same.expect("it was its own").update;
            self.all.push(Sealed {
                update: Update {
                    hlc: same.hlc,
                    deps: members.renamed_all(&same.deps),
                    ..sealed.update.clone()
                },
                ..sealed.clone()
            });
        }
        self.sites.insert(at, (island, keys));
        made.waits
    }
}

/// Four sites that write and hear of each other, and then in two pairs.
fn parted(prng: &mut Prng) -> Place {
    let (mut place, members) = (Place::new(), four());
    let some = |prng: &mut Prng, place: &mut Place, group: [u8; 2]| {
        let at = group[usize::try_from(prng.below(2)).expect("small")];
        let key = ["a", "b", "c"][usize::try_from(prng.below(3)).expect("small")];
        match prng.below(5) {
            0 => place.write(at, vec![put(key, &format!("{at}-{}", place.hours))]),
            1 => place.write(at, vec![delete(key), put("d", &format!("{at}"))]),
            _ => group
                .into_iter()
                .for_each(|of| place.take(at, of, &members)),
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

/// The first pair agrees on how much of the other counts.
fn left_out(place: &mut Place) -> Members {
    let mut later = four();
    for (gone, heir) in [(3, 5), (4, 6)] {
        let mut freezing = Freezing::new(slot(gone));
        for at in 1..=5 {
            // Those that are left out have no say.
            let tip = place.sites.get(&at).filter(|_| at < 3);
            let tip = tip.and_then(|(island, _)| island.tips().get(&slot(gone)));
            let tip = tip.cloned().unwrap_or_default();
            freezing.report(slot(at), tip.seq, tip.chain);
        }
        let (through, chain) = freezing.agreed(&later).expect("all said so");
        let frozen = Frozen {
            through,
            chain,
            heir: Slot::new(heir),
        };
        later = later.without(slot(gone), frozen, 0).expect("it is active");
    }
    place.sync(&[1, 2], &later);
    for at in [1, 2] {
        let (island, _) = place.sites.get_mut(&at).expect("it is there");
        *island = adopted(&later, slot(at), island.tips().clone(), island.hlc());
    }
    later
}

/// Whether all have all that counts, and the same of it.
fn are_equal(place: &Place, members: &Members, mistake: Mistake) -> Result<(), String> {
    let end = &place.sites[&1].1;
    for at in 1..=4 {
        place.check(at, mistake)?;
        let (island, keys) = &place.sites[&at];
        let counts = place.all.iter().filter(|it| members.lets_in(it.update.dot));
        let lacks = counts
            .map(|it| it.update.dot)
            .find(|it| !island.vector().covers(*it));
        if let Some(dot) = lacks {
            return Err(format!("site {at} lacks {dot}"));
        }
        if keys != end {
            return Err(format!("site {at}: {keys:?}, not {end:?}"));
        }
    }
    Ok(())
}

fn come_back_at_random(seed: u64, mistake: Mistake) -> Result<usize, String> {
    let mut prng = Prng::new(seed | 1);
    let mut place = parted(&mut prng);
    let later = left_out(&mut place);
    if mistake == Mistake::GoesOn {
        place.sync(&[1, 2, 3, 4], &four());
        let first = place.sites[&1].0.vector();
        let is_in = |it: &Sealed| !later.lets_in(it.update.dot) && first.covers(it.update.dot);
        let is_wrong = place.all.iter().any(is_in);
        return if is_wrong { Err("I12".into()) } else { Ok(0) };
    }
    let (before, mut waited) = (place.all.len(), 0);
    for round in 0..60 {
        let at = if (round + seed).is_multiple_of(2) {
            3
        } else {
            4
        };
        waited += usize::from(place.come_back(at, &later, mistake).is_some());
        place.check(at, mistake)?;
        place.sync(&[1, 2, 3, 4], &later);
        if round == 1 {
            // Both are back, and the group goes on.
            place.write(1, vec![put("a", "later")]);
        }
    }
    are_equal(&place, &later, mistake)?;
    Ok(place.all.len() - before + waited)
}

#[test]
fn sites_that_were_left_out_come_back_and_all_end_equal() {
    let mut made = 0;
    for seed in 0..300 {
        made += come_back_at_random(seed, Mistake::None)
            .unwrap_or_else(|it| panic!("seed {seed}: {it}"));
    }
    assert!(made > 1_000, "{made}");
}

#[test]
fn each_mistake_of_a_site_that_comes_back_is_found() {
    for mistake in [
        Mistake::Merges,
        Mistake::NewTime,
        Mistake::NewContext,
        Mistake::GoesOn,
    ] {
        let found = (0..300).find(|seed| come_back_at_random(*seed, mistake).is_err());
        assert!(found.is_some(), "{mistake:?} is not found");
    }
}

#[test]
fn a_value_of_a_month_ago_does_not_replace_what_was_written_since() {
    let mut place = Place::new();
    let members = four();
    place.write(1, vec![put("a", "first")]);
    place.sync(&[1, 2, 3, 4], &members);
    place.write(3, vec![put("a", "cut off"), put("b", "only here")]);
    place.hours += 31 * 24;
    place.write(2, vec![put("a", "newer")]);
    place.sync(&[1, 2, 4], &Members::new([1, 2, 4].map(|it| (slot(it), 0))));
    let later = members
        .without(slot(3), frozen(0, 5), 0)
        .expect("3 is active");
    for at in [1, 2, 4] {
        let (island, _) = place.sites.get_mut(&at).expect("it is there");
        *island = adopted(&later, slot(at), island.tips().clone(), island.hlc());
    }
    assert_eq!(place.come_back(3, &later, Mistake::None), None);
    place.sync(&[1, 2, 3, 4], &later);
    for (_, keys) in place.sites.values() {
        let shown = |key: &str| keys[key.as_bytes()].shown().map(|it| it.value.clone());
        assert_eq!(shown("a"), Some(Bytes::from("newer")));
        assert_eq!(
            keys["a".as_bytes()].siblings().len(),
            2,
            "it is kept beside it"
        );
        assert_eq!(shown("b"), Some(Bytes::from("only here")));
    }
}

#[test]
fn where_deletes_win_a_put_over_what_was_deleted_is_only_reported_and_times_only_fall() {
    let members = four()
        .without(slot(3), frozen(0, 5), 0)
        .expect("3 is active");
    let mut away = Island::new(slot(3), 1);
    let own = [away.originate(vec![put("gone", "1"), put("here", "2")], 9_000_000)];
    let mut island = adopted(&members, slot(5), BTreeMap::new(), Hlc::default());
    let latest = Hlc::of_unix_ms(5_000);
    let made = rebase(&members, &mut island, &own, latest, &|key| *key == "gone");
    assert_eq!(made.reported, [(dot(5, 1), Bytes::from("gone"))]);
    assert_eq!(made.reissued[0].update.changes, [put("here", "2")]);
    assert_eq!(made.reissued[0].update.hlc, latest);
    assert!(made.reissued[0].update.is_reissued);
    // A second time makes nothing: I12.
    let again = rebase(&members, &mut island, &own, latest, &|_| false);
    assert_eq!((again.reissued.len(), again.waits), (0, None));
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
