//! Conflicts: what is told of writes that met, how it is written, and how much of it is kept.

use std::time::Duration;

use arbtest::arbtest;
use bytes::Bytes;
use holm_local_first::{
    Cause, Change, Conflict, ConflictKind, Conflicts, DecodeError, Dot, Entry, Hlc, Island, Mark,
    Party, Sealed, Slot, State, Type, VALUE_MAX, conflicts,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn key() -> Bytes {
    Bytes::from("k")
}

fn put(value: &str) -> Change {
    Change::Put {
        key: key(),
        lease: 0,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn site(number: u8) -> Island {
    Island::new(slot(number), 1)
}

/// Carries updates out on one key, in their order; all that was told.
fn told(updates: &[&Sealed]) -> (State, Vec<Conflict>) {
    let (mut state, mut told) = (State::new(), Vec::new());
    for it in updates {
        let before = state.clone();
        let change = &it.update.changes[0];
        change.apply(&it.update, &mut state);
        let cause = Cause::Update(&it.update, change);
        told.extend(conflicts(Type::Lww, &key(), (&before, &state), cause, None));
    }
    (state, told)
}

#[test]
fn concurrent_puts_are_told_alike_in_every_order() {
    let one = site(1).originate(vec![put("one")], 1_000);
    let two = site(2).originate(vec![put("two")], 3_000);
    let three = site(3).originate(vec![put("three")], 2_000);
    let orders = [
        [&one, &two, &three],
        [&one, &three, &two],
        [&two, &one, &three],
        [&two, &three, &one],
        [&three, &one, &two],
        [&three, &two, &one],
    ];
    let (state, first) = told(&orders[0]);
    for order in orders {
        let (also, conflicts) = told(&order);
        assert_eq!(also, state);
        assert_eq!(conflicts.len(), 2, "the first is alone");
        assert_eq!(conflicts.last(), first.last());
    }
    let last = first.last().expect("there are two");
    assert_eq!(last.kind.name(), "concurrent_put");
    assert_eq!(&*last.winner.value, b"two");
    let losers: Vec<&[u8]> = last.losers.iter().map(|it| &*it.value).collect();
    assert_eq!(losers, [&b"one"[..], b"three"]);
}

#[test]
fn a_write_that_saw_the_other_is_no_conflict() {
    let mut a = site(1);
    let one = a.originate(vec![put("1")], 5);
    let two = a.originate(vec![put("2")], 0);
    let gone = a.originate(vec![Change::Delete { key: key() }], 0);
    assert_eq!(told(&[&one, &two, &gone]).1, []);
}

#[test]
fn a_put_that_beat_a_delete_is_told_at_both_sites_alike() {
    let mut a = site(1);
    let first = a.originate(vec![put("1")], 1_000);
    let mut b = site(2);
    b.take(&first);
    let gone = a.originate(vec![Change::Delete { key: key() }], 9_000);
    let again = b.originate(vec![put("2")], 2_000);
    // Where the put was first, the delete itself tells.
    let (_, here) = told(&[&first, &again, &gone]);
    // Where the delete was first, the engine's history knows of it.
    let (state, none) = told(&[&first, &gone]);
    assert_eq!((state.is_empty(), none.len()), (true, 0));
    let mut after = state.clone();
    let change = &again.update.changes[0];
    change.apply(&again.update, &mut after);
    let removed = Mark {
        dot: gone.update.dot,
        hlc: gone.update.hlc,
    };
    let cause = Cause::Update(&again.update, change);
    let there = conflicts(Type::Lww, &key(), (&state, &after), cause, Some(removed));
    assert_eq!(here, there);
    let told = &there[0];
    assert_eq!(told.kind, ConflictKind::PutBeatDelete);
    assert_eq!(told.losers[0].dot, gone.update.dot);
    // A put that saw the delete is nothing to tell.
    b.take(&gone);
    let knew = b.originate(vec![put("3")], 2_000);
    let change = &knew.update.changes[0];
    let mut after = state.clone();
    change.apply(&knew.update, &mut after);
    let cause = Cause::Update(&knew.update, change);
    assert_eq!(
        conflicts(Type::Lww, &key(), (&state, &after), cause, Some(removed)),
        []
    );
}

#[test]
fn what_a_session_brings_is_told_once() {
    let one = site(1).originate(vec![put("one")], 1_000);
    let two = site(2).originate(vec![put("two")], 3_000);
    let (ours, _) = told(&[&one]);
    let (both, by_update) = told(&[&one, &two]);
    let installed = conflicts(Type::Lww, &key(), (&ours, &both), Cause::Install, None);
    assert_eq!(installed, by_update);
    assert_eq!(
        conflicts(Type::Lww, &key(), (&both, &both), Cause::Install, None),
        []
    );
}

fn some(number: u64, length: usize) -> Conflict {
    let mark = |number, seq| Mark {
        dot: Dot {
            slot: slot(number),
            seq,
        },
        hlc: Hlc::new(seq),
    };
    let value = Bytes::from(vec![7; length]);
    Conflict::new(
        ConflictKind::ConcurrentPut,
        (&key(), &Bytes::new()),
        Party::new(mark(1, number), &value),
        vec![
            Party::new(mark(3, 1), &value),
            Party::new(mark(2, 1), &value),
        ],
    )
}

#[test]
fn members_of_a_set_never_meet_in_a_conflict() {
    let one = site(1).originate(vec![put("one")], 1_000);
    let two = site(2).originate(vec![put("two")], 3_000);
    let ((before, _), (after, _)) = (told(&[&one]), told(&[&one, &two]));
    let met = |kind| conflicts(kind, &key(), (&before, &after), Cause::Install, None);
    assert_eq!(met(Type::Set), []);
    assert_eq!(met(Type::Mv).len(), 1);
    assert_eq!(met(Type::Counter)[0].kind.name(), "base_lost");
    assert!(
        Type::ALL
            .into_iter()
            .all(|it| Type::named(it.name()) == Some(it))
    );
    assert_eq!(Type::named("text"), None);
}

#[test]
fn a_long_value_is_cut_and_its_digest_is_of_all() {
    let (short, long) = (some(1, VALUE_MAX).winner, some(1, VALUE_MAX + 1).winner);
    assert_eq!(long.value.len(), VALUE_MAX);
    assert_eq!(long.length, 4_097);
    assert_eq!(short.value, long.value);
    assert_ne!(short.digest, long.digest);
}

#[test]
fn what_is_kept_is_bounded_and_says_how_many_are_gone() {
    let mut kept = Conflicts::new(Duration::from_secs(1), 2_000);
    assert!(kept.is_empty());
    for number in 1..=9 {
        kept.push(5, 100, some(number, 200));
    }
    let lines: Vec<Bytes> = kept.lines().collect();
    let total: usize = lines[1..].iter().map(Bytes::len).sum();
    assert!(total <= 2_000 && lines.len() > 2, "{total}");
    let gone = 9 - u64::try_from(kept.len()).expect("few");
    assert_eq!(Entry::decode(lines[0].clone()), Ok(Entry::Dropped(gone)));
    // What was kept is restored, and goes when it is old.
    let mut again = Conflicts::new(Duration::from_secs(1), 2_000);
    lines
        .iter()
        .for_each(|line| again.restore(line).expect("it is whole"));
    assert_eq!(again.lines().collect::<Vec<_>>(), lines);
    again.forget(1_100);
    assert_eq!(again.dropped(), gone, "a second is not over");
    again.forget(1_101);
    assert_eq!((again.len(), again.dropped()), (0, 9));
    let Ok(Entry::Dropped(9)) = Entry::decode(again.lines().next().expect("it says so")) else {
        panic!("one line is left");
    };
}

#[test]
fn noise_is_no_entry_and_entries_are_read_as_they_were_written() {
    arbtest(|choose| {
        let noise: Vec<u8> = choose.arbitrary()?;
        if let Ok(entry) = Entry::decode(Bytes::from(noise.clone())) {
            assert_eq!(*entry.encode(), *noise, "only one way to write it");
        }
        let entry = Entry::Met {
            revision: choose.arbitrary()?,
            unix_ms: choose.arbitrary()?,
            conflict: Box::new(some(
                choose.int_in_range(1..=u64::MAX)?,
                choose.int_in_range(0..=5_000)?,
            )),
        };
        let bytes = entry.encode();
        assert_eq!(Entry::decode(bytes.clone()), Ok(entry));
        let mut damaged = bytes.to_vec();
        let at = choose.choose_index(bytes.len())?;
        damaged[at] ^= 1 << choose.int_in_range(0..=7)?;
        if let Ok(other) = Entry::decode(Bytes::from(damaged.clone())) {
            assert_eq!(*other.encode(), *damaged);
        }
        Ok(())
    })
    .budget_ms(1_000);
    let version = DecodeError::Version {
        what: "a conflict",
        version: 2,
    };
    assert_eq!(Entry::decode(Bytes::from_static(&[2, 0])), Err(version));
}

/// The bytes of the first release that wrote them: they must be readable for ever.
#[test]
fn version_1_of_an_entry_stays_as_it_is() {
    let entry = Entry::Met {
        revision: 77,
        unix_ms: 1_800_000_000_000,
        conflict: Box::new(some(4, 3)),
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect::<String>()
    };
    let all = [hex(&entry.encode()), hex(&Entry::Dropped(300).encode())].join("\n") + "\n";
    assert_eq!(all, include_str!("compat/conflict1.hex"));
}
