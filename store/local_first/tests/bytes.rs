//! Bytes: what was written is read, what is damaged is refused, and version 1 stays as it is.

use arbtest::arbtest;
use bytes::Bytes;
use holm_local_first::{
    Change, DecodeError, Dot, Hlc, Intake, Island, Sealed, Sibling, Slot, State, Vector,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn put(key: &'static str, value: &'static str) -> Change {
    Change::Put {
        key: Bytes::from(key),
        lease: 7,
        value: Bytes::from(value),
    }
}

#[test]
fn random_updates_are_read_as_they_were_written() {
    arbtest(|choose| {
        let mut a = Island::new(slot(choose.int_in_range(1..=255)?), 3);
        let mut before = Vector::new();
        for _ in 0..choose.int_in_range(1..=70)? {
            let keys: Vec<Vec<u8>> = choose.arbitrary()?;
            let mut changes: Vec<Change> = Vec::new();
            for (at, key) in keys.into_iter().map(Bytes::from).enumerate().take(5) {
                changes.push(match at % 3 {
                    0 => Change::Put {
                        lease: choose.arbitrary()?,
                        value: key.clone(),
                        key,
                    },
                    1 => Change::Delete { key },
                    _ => Change::DeleteRange {
                        end: key.clone(),
                        key,
                    },
                });
            }
            let sealed = a.originate(changes, choose.int_in_range(0..=1 << 40)?);
            assert_eq!(Sealed::decode(&sealed.bytes, &before), Ok(sealed.clone()));
            before = sealed.update.deps;
        }
        Ok(())
    })
    .budget_ms(1_500);
}

#[test]
fn any_flipped_bit_of_an_update_is_noticed() {
    let mut a = Island::new(slot(1), 1);
    let sealed = a.originate(
        vec![
            put("key", "value"),
            Change::Delete {
                key: Bytes::from("x"),
            },
        ],
        5,
    );
    for at in 0..sealed.bytes.len() * 8 {
        let mut bytes = sealed.bytes.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        assert!(
            Sealed::decode(&Bytes::from(bytes), &Vector::new()).is_err(),
            "bit {at}"
        );
    }
    for length in 0..sealed.bytes.len() {
        let cut = sealed.bytes.slice(..length);
        assert!(
            Sealed::decode(&cut, &Vector::new()).is_err(),
            "{length} bytes"
        );
        assert!(matches!(
            Island::new(slot(2), 1).judge(&cut, 5),
            Intake::Wrong(_)
        ));
    }
}

#[test]
fn random_noise_is_no_state_and_states_are_read_as_they_were_written() {
    arbtest(|choose| {
        let noise: Vec<u8> = choose.arbitrary()?;
        if let Ok(state) = State::decode(Bytes::from(noise.clone())) {
            assert_eq!(*state.encode(), *noise, "only one way to write a state");
        }
        let mut state = State::new();
        for number in 1..=choose.int_in_range(1..=9)? {
            let dot = Dot {
                slot: slot(number),
                seq: choose.int_in_range(1..=u64::MAX)?,
            };
            let hlc = Hlc::new(choose.arbitrary()?);
            let value = Bytes::from(choose.arbitrary::<Vec<u8>>()?);
            state.put(
                &Vector::new(),
                Sibling {
                    dot,
                    hlc,
                    lease: choose.arbitrary()?,
                    value,
                },
            );
        }
        assert_eq!(State::decode(state.encode()), Ok(state));
        Ok(())
    })
    .budget_ms(1_000);
}

/// The bytes of the first release that wrote them: they must be readable for ever.
#[test]
fn version_1_stays_as_it_is() {
    let mut a = Island::new(slot(1), 1);
    let first = a.originate(vec![put("k", "v")], 1_800_000_000_000);
    let second = a.originate(
        vec![Change::Delete {
            key: Bytes::from("k"),
        }],
        0,
    );
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|it| format!("{it:02x}"))
            .collect::<String>()
    };
    let state = {
        let mut state = State::new();
        first.update.changes[0].apply(&first.update, &mut state);
        state.encode()
    };
    let all = [hex(&first.bytes), hex(&second.bytes), hex(&state)].join("\n") + "\n";
    assert_eq!(all, include_str!("compat/version1.hex"));
    let read = Sealed::decode(&second.bytes, &first.update.deps);
    assert_eq!(read.map(|it| it.chain), Ok(second.chain));
}

#[test]
fn two_stories_about_one_update_and_a_clock_too_far_ahead_are_told() {
    let (mut a, mut liar) = (Island::new(slot(1), 1), Island::new(slot(1), 1));
    let mut b = Island::new(slot(2), 1);
    let first = a.originate(vec![put("k", "1")], 10);
    liar.originate(vec![put("k", "2")], 10);
    let second = liar.originate(vec![put("k", "3")], 10);
    let late = Island::new(slot(3), 1).originate(vec![put("k", "4")], 60_000);
    let newer = Island::new(slot(4), 9).originate(vec![put("k", "5")], 10);
    let Intake::Next(found) = b.judge(&first.bytes, 10) else {
        panic!("it is the next");
    };
    b.take(&found);
    assert_eq!(
        b.judge(&second.bytes, 10),
        Intake::Forked(second.update.dot)
    );
    assert_eq!(b.judge(&late.bytes, 54_999), Intake::Ahead(late.update.hlc));
    assert!(matches!(b.judge(&late.bytes, 55_000), Intake::Next(_)));
    assert_eq!(b.judge(&newer.bytes, 10), Intake::Epoch(9));
    assert_eq!(b.judge(&first.bytes, 10), Intake::Known);
    let version = DecodeError::Version {
        what: "a key's state",
        version: 2,
    };
    assert_eq!(State::decode(Bytes::from_static(&[2, 1, 0])), Err(version));
}
