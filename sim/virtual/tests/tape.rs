//! The tape: what is chosen, what is kept, and what bytes are refused.

use holm_virtual::{
    CHOICES_MAX, Fill, Place, Recording, STREAMS_MAX, Tape, TapeError, TapeFault, shrink,
};

const A: Place = Place::new("a");
const B: Place = Place::new("b");

/// The bytes of version 1, as they were written on 2026-11-27.
const VERSION_ONE: &[u8] = include_bytes!("compat/v1.tape");

/// The calls that wrote the kept bytes.
fn sample() -> Tape {
    let mut tape = Tape::fresh(7).bound_to([1; 32], [2; 32]);
    for n in [2, 300, 70_000, 5_000_000] {
        tape.choose(A, n);
    }
    tape.chance(B, 500_000);
    tape
}

#[test]
fn places_are_numbered_by_their_names_for_ever() {
    // FNV-1a of the empty string and of "a", from the definition of the hash.
    assert_eq!(Place::new("").id(), 0xcbf2_9ce4_8422_2325);
    assert_eq!(A.id(), 0xaf63_dc4c_8601_ec8c);
}

#[test]
fn one_answer_consumes_nothing() {
    let mut tape = Tape::fresh(1);
    assert_eq!(tape.choose(A, 1), 0);
    assert!(!tape.chance(A, 0));
    assert_eq!(tape.weighted(A, &[5, 0, 0]), 0);
    assert_eq!((tape.choices(), tape.values(A)), (0, [].as_slice()), "I8");
}

#[test]
fn each_place_has_a_stream_of_its_own() {
    let (mut left, mut right) = (Tape::fresh(1), Tape::fresh(1));
    let mut alone = Vec::new();
    let mut beside = Vec::new();
    for _ in 0..50 {
        alone.push(left.choose(A, 1_000));
        right.choose(B, 1_000);
        beside.push(right.choose(A, 1_000));
    }
    assert_eq!(alone, beside);
    assert_ne!(right.values(A), right.values(B));
}

#[test]
fn a_tape_replays_and_its_fill_says_what_follows() {
    let mut tape = Tape::fresh(9);
    let drawn: Vec<u32> = (0..10).map(|_| tape.choose(A, 100)).collect();
    let mut longer = Tape::fresh(9);
    let more: Vec<u32> = (0..20).map(|_| longer.choose(A, 100)).collect();
    for (fill, rest) in [
        (Fill::Fresh, more[10..].to_vec()),
        (Fill::Normal, vec![0; 10]),
    ] {
        let mut replayed = tape.rewound(fill);
        let again: Vec<u32> = (0..20).map(|_| replayed.choose(A, 100)).collect();
        assert_eq!((&again[..10], &again[10..]), (&drawn[..], &rest[..]));
    }
    let mut off = Tape::fresh(9).recording(Recording::Off);
    let unkept: Vec<u32> = (0..10).map(|_| off.choose(A, 100)).collect();
    assert_eq!((unkept, off.values(A).len()), (drawn, 0));
}

#[test]
fn a_value_that_does_not_fit_stops_the_tape_and_says_where() {
    let mut tape = Tape::normal();
    tape.set(A, vec![0, 3]);
    assert_eq!(tape.choose(A, 2), 0);
    assert_eq!(tape.choose(A, 2), 0);
    let fault = tape.fault().expect("3 is none of 2 answers");
    assert_eq!(fault.to_string(), "tape diverged at choice 1: 3 of 2 at a");
    assert_eq!(tape.choose(B, 1_000), 0, "after a fault all is normal");
}

#[test]
fn too_many_places_are_a_fault() {
    let names: Vec<&'static str> = (0..=STREAMS_MAX)
        .map(|number| -> &'static str { format!("place {number}").leak() })
        .collect();
    let mut tape = Tape::fresh(1);
    for name in &names {
        tape.choose(Place::new(name), 2);
    }
    let place = names[STREAMS_MAX];
    assert_eq!(
        tape.fault(),
        Some(&TapeFault::TooManyPlaces { place }),
        "I12"
    );
}

#[test]
fn too_many_choices_are_a_fault() {
    let mut tape = Tape::fresh(1).recording(Recording::Off);
    for _ in 0..CHOICES_MAX {
        tape.choose(A, 2);
    }
    assert_eq!(tape.fault(), None);
    tape.choose(A, 2);
    assert_eq!(tape.fault(), Some(&TapeFault::TooManyChoices), "I12");
}

#[test]
fn chances_and_weights_come_as_often_as_asked() {
    let mut tape = Tape::fresh(5);
    let hits = (0..10_000).filter(|_| tape.chance(A, 100_000)).count();
    assert!((900..1_100).contains(&hits), "{hits}");
    let mut seen = [0; 4];
    for _ in 0..10_000 {
        seen[tape.weighted(B, &[6, 3, 0, 1])] += 1;
    }
    assert!(
        seen[2] == 0 && (5_700..6_300).contains(&seen[0]),
        "{seen:?}"
    );
    assert!((800..1_200).contains(&seen[3]), "{seen:?}");
}

#[test]
fn version_one_is_still_read_and_still_what_is_written() {
    let read = Tape::decode(VERSION_ONE).expect("it was a tape");
    assert_eq!(read.made_with(), (&[1; 32], &[2; 32]));
    assert_eq!(read, sample().rewound(Fill::Fresh));
    assert_eq!(sample().encode(), VERSION_ONE);
}

#[test]
fn damaged_bytes_are_refused_with_the_reason() {
    let whole = sample().encode();
    assert_eq!(Tape::decode(b"HOLMTAPF"), Err(TapeError::NotATape));
    assert_eq!(Tape::decode(&whole[..40]), Err(TapeError::Short { at: 40 }));
    let mut newer = whole.clone();
    newer[8] = 2;
    assert_eq!(Tape::decode(&newer), Err(TapeError::Version { found: 2 }));
    for at in 10..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        let refused = Tape::decode(&flipped).expect_err("a flipped bit is seen");
        assert!(
            matches!(refused, TapeError::Checksum { .. }),
            "{at}: {refused}"
        );
    }
}

/// Seals bytes as a tape would be, so that what is inside gets read.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    body
}

#[test]
fn random_bytes_never_make_the_decoder_panic_and_what_it_takes_it_writes_again() {
    arbtest::arbtest(|choose| {
        let mut body = sample().encode();
        body.truncate(body.len() - 4);
        for _ in 0..choose.int_in_range(0..=4)? {
            let at = choose.int_in_range(8..=body.len() - 1)?;
            body[at] = choose.arbitrary()?;
        }
        body.truncate(choose.int_in_range(80..=body.len())?);
        body.extend_from_slice(choose.bytes(choose.len().min(8))?);
        let bytes = sealed(body);
        if let Ok(tape) = Tape::decode(&bytes) {
            let again = Tape::decode(&tape.encode()).expect("it was just written");
            assert_eq!(again, tape);
        }
        Ok(())
    })
    .budget_ms(1_000);
}

#[test]
fn random_tapes_come_back_from_their_bytes() {
    arbtest::arbtest(|choose| {
        let mut tape = Tape::fresh(choose.arbitrary()?);
        for _ in 0..choose.int_in_range(0..=40)? {
            let place = if choose.arbitrary()? { A } else { B };
            tape.choose(place, choose.int_in_range(2..=u32::MAX)?);
        }
        let read = Tape::decode(&tape.encode()).expect("it was just written");
        assert_eq!(read.values(A), tape.values(A));
        assert_eq!(read.values(B), tape.values(B));
        Ok(())
    })
    .budget_ms(500);
}

#[test]
fn every_tape_of_a_small_tree_is_walked_once() {
    let mut tape = Tape::first_of_all(&[A, B]);
    let mut seen = std::collections::BTreeSet::new();
    loop {
        // Whether a second question is asked depends on the first answer.
        let first = tape.choose(A, 3);
        let second = if first == 1 { tape.choose(B, 4) } else { 0 };
        assert!(seen.insert((first, second)), "twice {first} {second}");
        match tape.successor() {
            Some(next) => tape = next,
            None => break,
        }
    }
    assert_eq!(seen.len(), 2 + 4);
}

#[test]
fn a_planted_failure_shrinks_to_exactly_what_it_needs() {
    let mut tape = Tape::fresh(3);
    for _ in 0..300 {
        tape.choose(A, 50);
        tape.choose(B, 50);
    }
    // Fails whenever some choice of A is 17 or more and a later one is not zero.
    let mut runs = 0;
    let fails = |tape: &Tape| {
        runs += 1;
        let values = tape.values(A);
        let high = values.iter().position(|&value| value >= 17);
        high.is_some_and(|at| values[at + 1..].iter().any(|&value| value > 0))
    };
    let shrunk = shrink(&tape, 2_000, fails).expect("a fresh tape of 300 fails");
    assert_eq!(shrunk.tape.values(A), [17, 1]);
    assert!(shrunk.tape.values(B).is_empty());
    assert_eq!(shrunk.runs, runs);
    let calm = Tape::normal();
    assert_eq!(shrink(&calm, 10, |_| false), None, "nothing to shrink");
}
