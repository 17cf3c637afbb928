//! Bytes of what types of value added: changes of counters and documents, and states with more
//! than plain values. What was written is read, and version 1 stays as it is.

use arbtest::arbtest;
use bytes::Bytes;
use holm_local_first::{
    Change, DecodeError, Delta, Dot, Hlc, Island, Mark, Rules, Schema, Sealed, Sibling, Slot,
    State, Type, Vector,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn mark(number: u8, seq: u64) -> Mark {
    Mark {
        dot: Dot {
            slot: slot(number),
            seq,
        },
        hlc: Hlc::new(seq << 20),
    }
}

fn document(state: &State, text: &str) -> Change {
    let schema = br#"{"properties": {"l": {"x-kubernetes-list-type": "set"}}}"#;
    let rules = Rules {
        kind: Type::Json,
        schema: Schema::parse(schema).expect("it is one"),
        ..Rules::default()
    };
    let value = Bytes::copy_from_slice(text.as_bytes());
    rules
        .put(state, (Bytes::from("k"), 3, value))
        .expect("it fits")
}

fn sibling(number: u8, value: &str) -> Sibling {
    let Mark { dot, hlc } = mark(number, 5);
    Sibling {
        dot,
        hlc,
        lease: -1,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

/// One of everything.
fn everything() -> State {
    let mut state = State::new();
    state.erase(&Vector::new(), mark(9, 300));
    let mut seen = Vector::new();
    seen.raise(slot(9), 300);
    for (number, amount) in [(1, 7), (2, -9), (3, i64::MIN)] {
        let Mark { dot, hlc } = mark(number, 1);
        state.add(&seen, Delta { dot, hlc, amount });
    }
    let mut stable = Vector::new();
    stable.raise(slot(2), 1);
    state.settle(&stable);
    state.put(&seen, sibling(4, "12"));
    let Change::Paths { lease, writes, .. } =
        document(&State::new(), r#"{"a":{"b":1},"l":["x","y"]}"#)
    else {
        panic!("it has a list that merges");
    };
    state.write(&seen, lease, mark(5, 2), &writes);
    state
}

fn changes() -> Vec<Change> {
    let key = Bytes::from("k");
    let mut whole = State::new();
    whole.put(&Vector::new(), sibling(1, r#"{"a":{"b":1},"c":2}"#));
    vec![
        Change::Add {
            key: key.clone(),
            amount: -300,
        },
        document(&whole, r#"{"c":2,"l":[true]}"#),
        Change::Erase { key },
    ]
}

#[test]
fn changes_of_every_type_are_read_as_they_were_written() {
    arbtest(|choose| {
        let mut a = Island::new(slot(1), 3);
        let mut all = changes();
        all.push(Change::Add {
            key: Bytes::from(choose.arbitrary::<Vec<u8>>()?),
            amount: choose.arbitrary()?,
        });
        let sealed = a.originate(all, 5);
        assert_eq!(
            Sealed::decode(&sealed.bytes, &Vector::new()),
            Ok(sealed.clone())
        );
        // Damage that the checksum does not see: noise behind a whole head is refused or means
        // what is written again in the same way.
        let mut bytes = sealed.bytes.to_vec();
        let at = choose.int_in_range(66..=bytes.len() - 1)?;
        bytes[at] = choose.arbitrary()?;
        let sum = crc32c::crc32c(&bytes[8..]).to_le_bytes();
        bytes[4..8].copy_from_slice(&sum);
        if let Ok(other) = Sealed::decode(&Bytes::from(bytes.clone()), &Vector::new()) {
            let again = Sealed::new(other.update, &Vector::new());
            assert_eq!(*again.bytes, *bytes, "only one way to write it");
        }
        Ok(())
    })
    .budget_ms(1_000);
}

#[test]
fn states_of_every_type_are_read_as_they_were_written() {
    let state = everything();
    let bytes = state.encode();
    assert_eq!(State::decode(bytes.clone()), Ok(state));
    for length in 0..bytes.len() {
        assert!(
            State::decode(bytes.slice(..length)).is_err(),
            "{length} bytes"
        );
    }
    arbtest(|choose| {
        let mut damaged = bytes.to_vec();
        for _ in 0..choose.int_in_range(1..=3)? {
            let at = choose.choose_index(damaged.len())?;
            damaged[at] = choose.arbitrary()?;
        }
        if let Ok(other) = State::decode(Bytes::from(damaged.clone())) {
            assert_eq!(*other.encode(), *damaged, "only one way to write it");
            // Whatever it says can be shown.
            for kind in Type::ALL {
                assert!(kind.shown(&other).is_none() || !other.is_gone());
            }
        }
        let mut noise: Vec<u8> = vec![1, 2];
        noise.extend(choose.arbitrary::<Vec<u8>>()?);
        if let Ok(other) = State::decode(Bytes::from(noise.clone())) {
            assert_eq!(*other.encode(), *noise);
        }
        Ok(())
    })
    .budget_ms(1_500);
    let wrong = DecodeError::Wrong {
        what: "a key's state",
    };
    let long = Bytes::from_static(&[1, 2, 0, 0, 0, 0, 0]);
    assert_eq!(
        State::decode(long),
        Err(wrong),
        "what is plain is written plainly"
    );
}

#[test]
fn noise_is_no_document_and_what_is_shown_can_be_put_again() {
    arbtest(|choose| {
        let pieces = [
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"a\"",
            "\"l\"",
            "1",
            "-2.5e7",
            "null",
            "\"\\n\"",
            " ",
            "\"\\ud83d\\ude00\"",
            "{\"a\":1}",
            "[[]]",
        ];
        let mut text = String::new();
        for _ in 0..choose.int_in_range(1..=9)? {
            text.push_str(choose.choose::<&str>(&pieces)?);
        }
        let rules = Rules {
            kind: Type::Json,
            ..Rules::default()
        };
        let mut state = State::new();
        for (number, text) in [(1, text.as_str()), (2, r#"{"z":0}"#)] {
            let value = Bytes::copy_from_slice(text.as_bytes());
            let Ok(Change::Put { value, .. }) = rules.put(&State::new(), (Bytes::new(), 0, value))
            else {
                return Ok(());
            };
            let text = std::str::from_utf8(&value).expect("it is text");
            state.put(&Vector::new(), sibling(number, text));
        }
        let shown = Type::Json.shown(&state).expect("two stand").value;
        let again = rules.put(&State::new(), (Bytes::new(), 0, shown.clone()));
        assert!(again.is_ok(), "{text} is shown as {shown:?}");
        Ok(())
    })
    .budget_ms(1_000);
}

/// The bytes of the first release that wrote them: they must be readable for ever.
#[test]
fn version_1_of_states_and_changes_stays_as_it_is() {
    let update = Island::new(slot(1), 1).originate(changes(), 1_800_000_000_000);
    let hex = |bytes: &[u8]| {
        let digits = bytes.iter().map(|it| format!("{it:02x}"));
        digits.collect::<String>()
    };
    let all = [hex(&update.bytes), hex(&everything().encode())].join("\n") + "\n";
    assert_eq!(all, include_str!("compat/kinds1.hex"));
}
