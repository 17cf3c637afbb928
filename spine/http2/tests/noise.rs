//! Noise, broken frames and cuts anywhere: no panic, and the bounds hold.

mod common;

use arbtest::arbitrary::{Result, Unstructured};
use common::*;
use holm_http2::{Connection, Key, Reason, Section};

/// A frame that is nearly right.
fn arbitrary_frame(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let kind = source.int_in_range(0..=10)?;
    let stream = source.int_in_range(0..=9)?;
    let flags = if source.ratio(3, 4)? {
        WHOLE | source.int_in_range(0..=1)?
    } else {
        source.arbitrary()?
    };
    let payload: Vec<u8> = match kind {
        HEADERS | CONTINUATION if source.ratio(3, 4)? => POST.to_vec(),
        SETTINGS => {
            let value = source.arbitrary()?;
            setting(source.int_in_range(1..=6)?, value)
        }
        WINDOW_UPDATE | RST_STREAM => number(source.arbitrary()?).to_vec(),
        PING => vec![0; 8],
        _ => source.arbitrary()?,
    };
    Ok(frame(kind, flags, stream, &payload))
}

/// Acts on a stream as a careless owner might.
fn act(connection: &mut Connection, key: Key, source: &mut Unstructured<'_>) -> Result<()> {
    match source.int_in_range(0..=5)? {
        0 => connection.head(key, 200, Section::Usual, source.arbitrary()?),
        1 => {
            connection.head(key, 404, Section::Fields(&[(b"a", b"b")]), false);
            if connection.has_room(key) {
                connection.data(key, vec![1; source.int_in_range(0..=70_000)?].into());
            }
        }
        2 => connection.reset(key, Reason::CANCEL),
        3 => connection.await_room(key),
        4 => connection.await_drained(key),
        _ => {}
    }
    Ok(())
}

#[test]
fn nearly_right_frames_keep_to_the_bounds() {
    arbtest::arbtest(|source| {
        let mut connection = greeted(config());
        let mut keys = Vec::new();
        while !source.is_empty() && !connection.is_over() {
            let said = arbitrary_frame(source)?;
            for came in say(&mut connection, &said) {
                match came {
                    Came::Began(key, _) => keys.push(key),
                    Came::Data(key, bytes, _) => connection.release(key, bytes.len()),
                    Came::Reset(key, _) | Came::Over(key) => {
                        assert!(!connection.is_alive(key));
                        keys.retain(|it| *it != key);
                    }
                    Came::Ended(_) | Came::Pinged | Came::Failed(_) => {}
                }
            }
            if let Some(key) = keys.last() {
                act(&mut connection, *key, source)?;
            }
            while connection.next_opened().is_some() {}
            assert!(connection.streams() <= 100);
            assert!(connection.out().len() < (64 << 10) + (17 << 10));
            frames(&connection.out().split());
            connection.pump();
        }
        Ok(())
    });
}

#[test]
fn cuts_do_not_matter() {
    arbtest::arbtest(|source| {
        let mut said = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        for _ in 0..source.int_in_range(0..=12)? {
            said.extend(arbitrary_frame(source)?);
        }
        let mut whole = Connection::new(config());
        let expected = say(&mut whole, &said);
        let mut cut = Connection::new(config());
        let (mut came, mut waiting) = (Vec::new(), Vec::new());
        let step = source.int_in_range(1..=40)?;
        for piece in said.chunks(step) {
            waiting.extend_from_slice(piece);
            loop {
                let (read, event) = cut.receive(&waiting);
                let event = event.map(Came::of);
                waiting.drain(..read);
                assert!(waiting.len() <= 9 + 16_384 + step);
                match event {
                    Some(event) => came.push(event),
                    None => break,
                }
            }
        }
        assert_eq!(came, expected);
        assert_eq!(cut.out(), whole.out());
        Ok(())
    });
}

#[test]
fn noise_ends_the_connection_or_waits() {
    arbtest::arbtest(|source| {
        let bytes: Vec<u8> = source.arbitrary()?;
        let mut connection = greeted(config());
        say(&mut connection, &bytes);
        let mut connection = Connection::new(config());
        say(&mut connection, &bytes);
        assert!(connection.streams() == 0);
        Ok(())
    });
}
