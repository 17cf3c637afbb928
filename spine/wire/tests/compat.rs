//! Bytes of earlier versions, which stay readable, and which are still what is written.

use bytes::{Bytes, BytesMut};
use holm_wire::{Decoder, Frame};

fn frames_of_version_1() -> [Frame; 2] {
    [
        Frame {
            kind: 16,
            plane: 1,
            version: 1,
            group: 0x0102_0304,
            body: Bytes::from_static(b"holm"),
        },
        Frame {
            kind: 3,
            plane: 0,
            version: 0xABCD,
            group: 0,
            body: Bytes::new(),
        },
    ]
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| str::from_utf8(pair).expect("digits are ASCII"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("they are hexadecimal"))
        .collect()
}

#[test]
fn frames_of_version_1_are_read_and_written() {
    let kept = hex(include_str!("compat/frames-1.hex"));
    let mut input = BytesMut::from(&kept[..]);
    let mut decoder = Decoder::new();
    let mut written = BytesMut::new();
    for frame in frames_of_version_1() {
        assert_eq!(decoder.next(&mut input), Ok(Some(frame.clone())));
        frame.encode(&mut written);
    }
    assert_eq!(decoder.end(&input), Ok(()));
    assert_eq!(written, kept, "{written:02x?}");
}
