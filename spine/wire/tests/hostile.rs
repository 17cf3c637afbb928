//! Decoding noise, cuts and lies: no panic, no memory for what is not there, same frames.

use bytes::{Bytes, BytesMut};
use holm_wire::{BODY_MAX, Decoder, Frame, WireError};

fn frame(kind: u8, body: Vec<u8>) -> Frame {
    Frame {
        kind,
        plane: 1,
        version: 1,
        group: u32::from(kind) * 3,
        body: Bytes::from(body),
    }
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

#[test]
fn random_cuts_of_a_stream_give_the_same_frames() {
    arbtest::arbtest(|u| {
        let mut frames = Vec::new();
        for _ in 0..u.int_in_range(0..=8)? {
            let length = u.int_in_range(0..=300)?;
            frames.push(frame(u.arbitrary()?, u.bytes(length)?.to_vec()));
        }
        let stream = encoded(&frames);
        let (mut decoder, mut input, mut found) = (Decoder::new(), BytesMut::new(), Vec::new());
        let mut at = 0;
        while at < stream.len() {
            let count = u.int_in_range(1..=100)?.min(stream.len() - at);
            input.extend_from_slice(&stream[at..at + count]);
            at += count;
            while let Some(next) = decoder.next(&mut input).expect("it is well formed") {
                found.push(next);
            }
        }
        assert_eq!(found, frames);
        assert_eq!(decoder.end(&input), Ok(()));
        Ok(())
    });
}

#[test]
fn random_bytes_are_refused_or_waited_for_and_never_panic() {
    arbtest::arbtest(|u| {
        let length = u.len();
        let mut input = BytesMut::from(u.bytes(length)?);
        let mut decoder = Decoder::new();
        while let Ok(Some(next)) = decoder.next(&mut input) {
            // Only what is there becomes a body.
            assert!(next.body.len() <= length);
        }
        let _verdict = decoder.end(&input);
        Ok(())
    });
}

#[test]
fn one_flipped_bit_is_never_a_frame_of_the_same_length() {
    let stream = encoded(&[frame(7, b"some body".to_vec())]);
    for bit in 0..stream.len() * 8 {
        let mut input = stream.clone();
        input[bit / 8] ^= 1 << (bit % 8);
        let outcome = Decoder::new().next(&mut input);
        assert!(!matches!(outcome, Ok(Some(_))), "bit {bit} went unseen");
    }
}

#[test]
fn a_claim_beyond_the_limit_is_refused_before_any_body_and_for_ever() {
    let mut input = encoded(&[frame(1, Vec::new())]);
    let claim = u32::try_from(BODY_MAX + 1).unwrap();
    input[..4].copy_from_slice(&claim.to_le_bytes());
    let mut decoder = Decoder::new();
    let refusal = Err(WireError::TooLong {
        length: BODY_MAX + 1,
        max: BODY_MAX,
    });
    assert_eq!(decoder.next(&mut input), refusal);
    let mut good = encoded(&[frame(1, Vec::new())]);
    assert_eq!(decoder.next(&mut good), refusal, "I2");
}

#[test]
fn a_body_at_the_limit_passes_and_a_small_limit_holds() {
    let whole = frame(2, vec![5; BODY_MAX]);
    let mut input = encoded(std::slice::from_ref(&whole));
    assert_eq!(Decoder::new().next(&mut input), Ok(Some(whole)));
    let mut decoder = Decoder::new();
    decoder.set_body_max(10);
    let mut input = encoded(&[frame(2, vec![0; 10]), frame(2, vec![0; 11])]);
    assert!(decoder.next(&mut input).unwrap().is_some());
    assert_eq!(
        decoder.next(&mut input),
        Err(WireError::TooLong {
            length: 11,
            max: 10
        })
    );
}

/// Whoever keeps a short body, as a log does with a lone entry, would otherwise keep a whole read with it.
#[test]
fn bodies_that_are_kept_hold_no_memory_that_was_read_into() {
    const READ: usize = 64 << 10;
    let (mut decoder, mut input) = (Decoder::new(), BytesMut::with_capacity(2 * READ));
    let read_into = input.spare_capacity_mut().as_ptr_range();
    let read_into = read_into.start.cast::<u8>()..read_into.end.cast::<u8>();
    let mut kept = Vec::new();
    for length in [0, 300, 4_000, READ, 300] {
        input.reserve(READ);
        assert!(
            read_into.contains(&input.as_ptr()),
            "{length} bytes are kept"
        );
        input.extend_from_slice(&encoded(&[frame(1, vec![7; length])]));
        let found = decoder.next(&mut input).expect("it is well formed");
        kept.push(found.expect("it is whole").body);
        assert!(input.is_empty());
    }
    let lengths: Vec<usize> = kept.iter().map(Bytes::len).collect();
    assert_eq!(lengths, [0, 300, 4_000, READ, 300]);
    // A longer one is most of what it holds.
    input.extend_from_slice(&encoded(&[frame(1, vec![7; READ + 1])]));
    let slice = input[16..].as_ptr();
    let found = decoder.next(&mut input).expect("it is well formed");
    assert_eq!(found.expect("it is whole").body.as_ptr(), slice);
}
