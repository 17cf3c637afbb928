//! The bytes: everything comes back, nothing that is not whole is taken, and noise is answered.

mod words;

use bytes::{Bytes, BytesMut};
use expect_test::{expect, expect_file};
use holm_base::{NodeId, Op, Prng, Term};
use holm_raft::{
    Body, Checkpoint, Command, Configuration, DecodeError, Entry, Manifest, Message, Origin,
    Payload, Position, Windows,
};

use words::{KINDS, hex, message, messages, pick, weight};

fn encoded(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

#[test]
fn every_message_comes_back() {
    let mut random = Prng::new(1);
    for kind in (0..KINDS).cycle().take(4_000) {
        let said = message(&mut random, kind);
        assert_eq!(Message::decode(&encoded(&said)), Ok(said));
    }
}

#[test]
fn payloads_checkpoints_and_windows_come_back_by_themselves() {
    let mut random = Prng::new(2);
    for _ in 0..500 {
        let mut out = BytesMut::new();
        let payload = words::payload(&mut random);
        payload.encode(&mut out);
        assert_eq!(Payload::decode(&out.split().freeze()), Ok(payload));
        let checkpoint = words::checkpoint(&mut random);
        checkpoint.encode(&mut out);
        assert_eq!(Checkpoint::decode(&out.split().freeze()), Ok(checkpoint));
        let windows = words::windows(&mut random);
        windows.encode(&mut out);
        assert_eq!(Windows::decode(&out.split().freeze()), Ok(windows));
        let manifest = words::manifest(&mut random);
        manifest.encode(&mut out);
        assert_eq!(Manifest::decode(&out.split().freeze()), Ok(manifest));
    }
}

/// What carries a body to its end takes any: there a cut changes the body, and is the frame's
/// to notice.
fn is_open_ended(body: &Body) -> bool {
    matches!(body, Body::Offer { .. } | Body::Chunk { .. })
}

#[test]
fn nothing_that_was_cut_short_is_taken() {
    let mut random = Prng::new(3);
    for kind in (0..KINDS).cycle().take(200) {
        let said = message(&mut random, kind);
        let bytes = encoded(&said);
        for len in 0..bytes.len() {
            let cut = Message::decode(&bytes.slice(..len));
            let is_open = is_open_ended(&said.body);
            assert!(
                cut.is_err() || (is_open && cut != Ok(said.clone())),
                "{len} of {} bytes of {said:?}",
                bytes.len()
            );
        }
    }
}

#[test]
fn what_stands_behind_a_message_is_refused() {
    let mut random = Prng::new(4);
    for kind in (0..KINDS).cycle().take(200) {
        let said = message(&mut random, kind);
        if is_open_ended(&said.body) {
            continue;
        }
        let mut bytes = encoded(&said).to_vec();
        bytes.push(0);
        let what = "a message";
        let extra = 1;
        let expected = Err(DecodeError::Long { what, extra });
        assert_eq!(Message::decode(&bytes.into()), expected);
    }
}

#[test]
fn a_flipped_bit_is_answered_and_takes_no_room() {
    let mut random = Prng::new(5);
    for kind in (0..KINDS).cycle().take(100) {
        let bytes = encoded(&message(&mut random, kind));
        for bit in 0..bytes.len() * 8 {
            let mut harmed = bytes.to_vec();
            harmed[bit / 8] ^= 1 << (bit % 8);
            decode_all(&harmed.into());
        }
    }
}

#[test]
fn noise_is_answered_and_takes_no_room() {
    let mut random = Prng::new(6);
    for _ in 0..60_000 {
        let mut noise: Vec<u8> = (0..pick(&mut random, 120))
            .map(|_| random.next().to_le_bytes()[0])
            .collect();
        // Often enough of the right version and kind to come further than the first byte.
        if let [version, kind, ..] = noise.as_mut_slice()
            && random.below(8) > 0
        {
            (*version, *kind) = (1, *kind % 18);
        }
        // And with lengths that are often small, and sometimes as large as can be.
        for at in (4..noise.len().saturating_sub(4)).step_by(4) {
            match random.below(4) {
                0 => noise[at + 1..at + 4].fill(0),
                1 if random.below(8) == 0 => noise[at..at + 4].fill(0xff),
                _ => {}
            }
        }
        decode_all(&noise.into());
    }
}

/// Decodes as everything, and looks at the room it took.
fn decode_all(bytes: &Bytes) {
    let limit = words::ROOM_PER_BYTE * bytes.len() + words::ROOM;
    if let Ok(message) = Message::decode(bytes) {
        assert!(weight(&message) <= limit, "{message:?}");
        let _again = encoded(&message);
    }
    if let Ok(Payload::Command(command)) = Payload::decode(bytes) {
        assert!(command.body.len() < bytes.len());
    }
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        let words: usize = checkpoint.windows.parts().map(|it| it.2.len()).sum();
        assert!(words * 8 <= words::ROOM, "{words}");
    }
}

#[test]
fn a_length_that_is_not_there_is_refused_before_room_is_made() {
    // An Append, a Want and a Forward of 2^32 - 1 things each.
    let cases = [("0105", 24), ("0110", 8), ("010d", 0)];
    for (head, zeros) in cases {
        let before = format!("{head}00000100000000000000{}", "00".repeat(zeros));
        let bytes = words::unhex(&format!("{before}ffffffff"));
        let what = "a message";
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Short { what }));
    }
    // Windows of too many words each, and too many of them.
    let window = format!("0100000001000000{}ffffffff", "00".repeat(24));
    let what = "windows";
    let nonsense = Err(DecodeError::Nonsense { what });
    assert_eq!(Windows::decode(&words::unhex(&window)), nonsense);
    let mut many = words::unhex("0100000041000000").to_vec();
    many.resize(8 + 65 * 28, 0);
    assert_eq!(Windows::decode(&many.into()), nonsense);
}

#[test]
fn another_version_and_an_unknown_kind_are_named() {
    let what = "a message";
    let version = Message::decode(&words::unhex("02010000"));
    assert_eq!(version, Err(DecodeError::Version { what, version: 2 }));
    let kind = Message::decode(&words::unhex("011200000100000000000000"));
    assert_eq!(kind, Err(DecodeError::Kind { what, kind: 18 }));
    let what = "a payload";
    let kind = Payload::decode(&words::unhex("01030000"));
    assert_eq!(kind, Err(DecodeError::Kind { what, kind: 3 }));
}

#[test]
fn windows_without_gaps_are_short() {
    let mut windows = Windows::new();
    for node in 1..=3 {
        for sequence in 1..=200_000 {
            let node = NodeId::new(node);
            windows.admit(Origin { node, boot: 1 }, sequence, 65_536);
        }
    }
    let mut out = BytesMut::new();
    windows.encode(&mut out);
    // Behind the newest sequence of the run stand the oldest ones that are remembered.
    assert_eq!(out.len(), 8 + 3 * (28 + 4));
}

/// Another size than ours comes from a node with another setting, or from an enemy.
#[test]
fn windows_of_another_size_are_no_trap() {
    let origin = Origin {
        node: NodeId::new(1),
        boot: 1,
    };
    for words in [0, 1, 5_000] {
        let mut windows = Windows::new();
        windows.restore(origin, 100, vec![0; words]);
        assert!(windows.admit(origin, 101, 65_536));
        assert!(!windows.admit(origin, 101, 65_536));
        assert!(windows.admit(origin, u64::MAX, 65_536));
    }
}

#[test]
fn bodies_are_slices_of_the_input() {
    let command = Command {
        origin: Origin {
            node: NodeId::new(1),
            boot: 2,
        },
        sequence: 3,
        flags: holm_raft::Flags::default(),
        body: Bytes::from_static(b"the engine's bytes"),
    };
    let entry = Entry {
        op: Op::new(1),
        term: Term::new(1),
        payload: Payload::Command(command),
    };
    let body = Body::Append {
        previous: Position::ZERO,
        commit: Op::ZERO,
        entries: vec![entry],
    };
    let term = Term::new(1);
    let bytes = encoded(&Message { term, body });
    let inside = bytes.as_ptr_range();
    let decoded = Message::decode(&bytes).expect("it was encoded");
    let Body::Append { entries, .. } = &decoded.body else {
        panic!("an Append was encoded");
    };
    let Payload::Command(command) = &entries[0].payload else {
        panic!("a command was encoded");
    };
    assert!(inside.contains(&command.body.as_ptr()));
}

#[test]
fn an_empty_configuration_is_one() {
    let mut out = BytesMut::new();
    Checkpoint::genesis(Configuration::default()).encode(&mut out);
    let decoded = Checkpoint::decode(&out.freeze());
    assert_eq!(decoded, Ok(Checkpoint::genesis(Configuration::default())));
}

/// Recorded when version 1 was made. A change here is a new version, not a new recording.
#[test]
fn the_bytes_of_version_one_stay_readable() {
    let said: Vec<Message> = messages();
    let lines: Vec<String> = said.iter().map(|it| hex(&encoded(it)) + "\n").collect();
    expect_file!["compat/messages_v1.txt"].assert_eq(&lines.concat());
    let recorded = include_str!("compat/messages_v1.txt").lines();
    let read: Vec<_> = recorded
        .map(|line| Message::decode(&words::unhex(line)).expect("it was whole once"))
        .collect();
    assert_eq!(read, said);
}

#[test]
fn a_put_as_the_log_holds_it() {
    let payload = messages().into_iter().find_map(|it| match it.body {
        Body::Append { entries, .. } => Some(entries[1].payload.clone()),
        _ => None,
    });
    let mut out = BytesMut::new();
    payload.expect("one of them is an Append").encode(&mut out);
    expect!["01010300010000000000000002000000000000000300000000000000707574"].assert_eq(&hex(&out));
}
