//! Bytes of what a keyspace's sites go by: tables with nodes, charters, tokens of clients, and the
//! entries and words that carry them. Version 1 stays as it is.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use holm_local_first::{
    Ask, Chain, Charter, DecodeError, Dot, Hush, Island, Members, Message, Proposal, Roster, Slot,
    Token, Vector,
};

fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

fn roster() -> Roster {
    let first = Members::new((1..=3).map(|number| (slot(number), 5)));
    let second = first.with(slot(4), 9).expect("it is new");
    let members = second
        .let_go(slot(2), 7, Chain([1; 32]))
        .expect("others stay");
    let nodes = members.active().keys();
    let node = |slot: &Slot| (*slot, vec![u64::from(slot.value()) * 10]);
    let nodes: BTreeMap<Slot, Vec<u64>> = nodes.map(node).collect();
    Roster { members, nodes }
}

fn charter() -> Charter {
    let mut charter = Charter::default();
    assert!(charter.follow(roster()));
    charter.stop(slot(3), 300);
    charter
}

fn vector() -> Vector {
    let mut vector = Vector::new();
    vector.raise(slot(1), 300);
    vector.raise(slot(4), 2);
    vector
}

fn token() -> Token {
    Token {
        cluster: 7,
        keyspace: 300,
        seen: vector(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn bytes(hex: &str) -> Bytes {
    let digits = hex.trim().as_bytes().chunks(2);
    let digits = digits.map(|it| std::str::from_utf8(it).expect("it is ASCII"));
    let found = digits.map(|it| u8::from_str_radix(it, 16).expect("two digits"));
    found.collect()
}

fn beat(chains: Vec<u64>) -> Message {
    Message::Beat {
        vector: vector(),
        epoch: 3,
        head: Chain([2; 32]),
        chains,
        asks: true,
        keeps_back: false,
    }
}

#[test]
fn version_1_stays_as_it_is() {
    let entry = |entry: &Proposal| {
        let mut out = BytesMut::new();
        entry.encode(&mut out);
        hex(&out)
    };
    let word = |message: &Message| {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        hex(&out)
    };
    let dot = Dot {
        slot: slot(3),
        seq: 300,
    };
    let all = [
        hex(&roster().encode()),
        hex(&charter().encode()),
        hex(&Charter::default().encode()),
        hex(&token().encode()),
        entry(&Proposal::Follow(roster())),
        entry(&Proposal::Stop(slot(3))),
        word(&Message::Forked { dot }),
        word(&beat(vec![7, 8])),
    ];
    let kept = include_str!("compat/roster1.hex");
    // A word of how far a site is was written otherwise once, and is still read.
    let mut lines: Vec<&str> = kept.lines().collect();
    let older = Message::decode(&bytes(lines.remove(6)));
    assert_eq!(older, Ok(beat(Vec::new())));
    assert_eq!(all.to_vec(), lines);
    assert_eq!(Message::decode(&bytes(lines[7])), Ok(beat(vec![7, 8])));
    let lines: Vec<Bytes> = kept.lines().map(bytes).collect();
    assert_eq!(Roster::decode(lines[0].clone()), Ok(roster()));
    assert_eq!(Charter::decode(lines[1].clone()), Ok(charter()));
    assert_eq!(Charter::decode(lines[2].clone()), Ok(Charter::default()));
    assert_eq!(Token::decode(lines[3].clone()), Ok(token()));
}

/// Of a site whose data are an older copy.
#[test]
fn version_2_of_a_charter_stays_as_it_is() {
    let mut charter = charter();
    charter.set_back_at(slot(4), 9);
    let kept = include_str!("compat/charter2.hex");
    assert_eq!(hex(&charter.encode()), kept.trim());
    assert_eq!(Charter::decode(bytes(kept)), Ok(charter));
}

/// A question that says nothing of what the asker has at the end was asked once: whoever answered
/// it as one of today would compare with nothing.
#[test]
fn a_question_of_version_2_is_refused() {
    let old = bytes(include_str!("compat/pages1-refused.hex"));
    let found = Ask::decode(old);
    let is_refused = matches!(found, Err(DecodeError::Version { version: 2, .. }));
    assert!(is_refused, "{found:?}");
}

/// An island without a hush is written as it was before there were any.
#[test]
fn a_hush_stays_as_it_is() {
    let mut island = Island::new(slot(3), 2);
    let before = island.encode();
    let told = [
        (slot(1), (7, Chain([1; 32]))),
        (slot(3), (300, Chain([2; 32]))),
    ];
    let hush = Hush {
        slot: slot(3),
        told: told.into(),
    };
    island.hush_up(hush.clone());
    let mut entries = [BytesMut::new(), BytesMut::new()];
    let entry = Proposal::Hush {
        run: 7,
        hush: hush.clone(),
    };
    entry.encode(&mut entries[0]);
    Proposal::Speak { run: 7 }.encode(&mut entries[1]);
    let all = [&before[..], &island.encode(), &entries[0], &entries[1]].map(hex);
    let kept: Vec<_> = include_str!("compat/hush1.hex").lines().collect();
    assert_eq!(all.to_vec(), kept);
    let read = |at: usize| Island::decode(&bytes(kept[at])).expect("it is an island");
    assert_eq!(read(0).hush(), None);
    assert_eq!(read(1).hush(), Some(&hush));
    let whole = island.encode();
    for length in before.len() + 1..whole.len() {
        assert!(Island::decode(&whole.slice(..length)).is_err(), "{length}");
    }
}
