//! What a site that lies could send as a state is refused or stops nobody; and what a schema
//! calls one thing stays one, also between documents that were put whole.

use bytes::{BufMut, Bytes, BytesMut};
use holm_local_first::{
    Chain, Dot, Hlc, Rules, Schema, Sibling, Slot, State, Type, Update, Vector,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("seven bits"));
}

/// A counter's state with one run a slot that says the most that there can be.
fn runs(slots: u8, sum: i128, more: u64, count: u64) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&[1, 2, 0, 0, slots]);
    for number in 1..=slots {
        out.put_u8(number);
        varint(&mut out, 1);
        varint(&mut out, more);
        out.put_u64_le(5);
        out.put_i128_le(sum);
        varint(&mut out, count);
        out.put_bytes(0xff, 32);
    }
    // No rows, no markers.
    out.put_slice(&[0, 0]);
    out.freeze()
}

#[test]
fn runs_that_say_the_most_there_can_be_stop_nobody() {
    let mut read = 0;
    for (sum, more) in [
        (10 << 63, 9),
        (-10 << 63, 9),
        ((1 << 63) + 1, 0),
        (i128::MAX, 9),
        (i128::MIN, 9),
        (5, u64::MAX - 1),
        (i128::MAX, u64::MAX - 1),
    ] {
        let bytes = runs(3, sum, more, more + 1);
        let Ok(theirs) = State::decode(bytes) else {
            continue;
        };
        read += 1;
        let nothing = Vector::new();
        let joined = State::joined((&State::new(), &nothing), (&theirs, &nothing));
        assert!(Type::Counter.shown(&joined).is_some());
        assert_eq!(joined.digest(b"k"), theirs.digest(b"k"));
        let again = State::joined((&joined, &nothing), (&theirs, &nothing));
        assert_eq!(State::decode(again.encode()), Ok(again));
    }
    assert_eq!(read, 2, "what can be is read, and nothing else");
}

#[test]
fn two_whole_documents_do_not_mix_what_the_schema_says_is_one() {
    let schema =
        br#"{"properties":{"selector":{"type":"object","x-kubernetes-map-type":"atomic"}}}"#;
    let schema = Schema::parse(schema).expect("it is a schema");
    let rules = Rules {
        kind: Type::Json,
        schema,
        ..Rules::default()
    };
    let mut state = State::new();
    for (number, text) in [
        (1, r#"{"selector":{"app":"x"}}"#),
        (2, r#"{"selector":{"tier":"y"}}"#),
    ] {
        let put = (Bytes::from("k"), 0, Bytes::from(text));
        let change = rules.put(&State::new(), put).expect("it fits");
        let dot = Dot {
            slot: slot(number),
            seq: 1,
        };
        let update = Update {
            dot,
            epoch: 1,
            hlc: Hlc::of_unix_ms(u64::from(number)),
            deps: Vector::new(),
            prev: Chain::default(),
            is_reissued: false,
            changes: vec![change.clone()],
        };
        change.apply(&update, &mut state);
    }
    let shown = Type::Json.shown(&state).expect("it is there");
    assert_eq!(&*shown.value, br#"{"selector":{"tier":"y"}}"#);
}

#[test]
fn a_sibling_that_is_no_document_is_shown_and_stops_nobody() {
    let mut state = State::new();
    for (number, text) in [(1, "no json"), (2, "{\"a\":1}")] {
        let sibling = Sibling {
            dot: Dot {
                slot: slot(number),
                seq: 1,
            },
            hlc: Hlc::new(u64::from(number)),
            lease: 0,
            value: Bytes::from(text),
        };
        state.put(&Vector::new(), sibling);
    }
    assert!(Type::Json.shown(&state).is_some());
}
