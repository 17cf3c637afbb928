//! Writing header blocks: static indices, literals, and two favourites.
//!
//! What would surprise: the favourites are all that ever enters the client's table, so their
//! places are known without a table: the first at 62, and at 63 once the second came.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{fixed, integer};

/// The index of the newest entry of the client's table.
const NEWEST: u8 = 62;
/// A field that is to be kept, with its name written out.
const KEPT: u8 = 0x40;
/// What a table must hold at least for the favourites.
const TABLE_BYTES: u32 = 4096;

/// The fields that nearly all answers carry: one in heads, one in trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Favourites {
    /// In heads, behind status 200.
    pub head: (Bytes, Bytes),
    /// In trailers, alone.
    pub tail: (Bytes, Bytes),
}

/// What the client's table holds of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Nothing,
    Head,
    Both,
    /// Its table is too small: nothing is kept any more.
    Never,
}

/// Writes header blocks.
#[derive(Debug)]
pub(crate) struct Encoder {
    favourites: Favourites,
    kept: Kept,
    /// The client must be told that its table is not used.
    must_empty: bool,
}

impl Encoder {
    pub(crate) const fn new(favourites: Favourites) -> Self {
        Self {
            favourites,
            kept: Kept::Nothing,
            must_empty: false,
        }
    }

    /// The client allows a table of so many bytes.
    pub(crate) const fn allow(&mut self, bytes: u32) {
        if bytes < TABLE_BYTES {
            self.kept = Kept::Never;
            self.must_empty = true;
        }
    }

    /// Whatever must stand before the first field of a block.
    pub(crate) fn begin(&mut self, out: &mut BytesMut) {
        if self.must_empty {
            self.must_empty = false;
            out.put_u8(0x20);
        }
    }

    /// Status 200 and the favourite of heads.
    pub(crate) fn usual_head(&mut self, out: &mut BytesMut) {
        put_status(out, 200);
        let (name, value) = &self.favourites.head;
        match self.kept {
            Kept::Both => out.put_u8(0x80 | (NEWEST + 1)),
            Kept::Head => out.put_u8(0x80 | NEWEST),
            Kept::Nothing => {
                put_field(out, KEPT, name, value);
                self.kept = Kept::Head;
            }
            Kept::Never => put_field(out, 0, name, value),
        }
    }

    /// The favourite of trailers.
    pub(crate) fn usual_tail(&mut self, out: &mut BytesMut) {
        let (name, value) = &self.favourites.tail;
        match self.kept {
            Kept::Both => out.put_u8(0x80 | NEWEST),
            Kept::Head => {
                put_field(out, KEPT, name, value);
                self.kept = Kept::Both;
            }
            Kept::Nothing | Kept::Never => put_field(out, 0, name, value),
        }
    }
}

/// Writes a status.
pub(crate) fn put_status(out: &mut BytesMut, status: u16) {
    match status {
        200 => out.put_u8(0x88),
        404 => out.put_u8(0x8d),
        _ => {
            integer::write(out, 8, 4, 0);
            let digits = [status / 100 % 10, status / 10 % 10, status % 10];
            let text = digits.map(|it| b'0' + u8::try_from(it).expect("a digit"));
            put_string(out, &text);
        }
    }
}

/// Writes a field that is not kept.
pub(crate) fn put_literal(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_field(out, 0, name, value);
}

fn put_field(out: &mut BytesMut, mark: u8, name: &[u8], value: &[u8]) {
    let place = fixed::FIELDS.iter().position(|it| it.0.as_bytes() == name);
    match place {
        Some(place) => integer::write(out, place + 1, if mark == KEPT { 6 } else { 4 }, mark),
        None => {
            out.put_u8(mark);
            put_string(out, name);
        }
    }
    put_string(out, value);
}

fn put_string(out: &mut BytesMut, text: &[u8]) {
    integer::write(out, text.len(), 7, 0);
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::{Decoder, Field};
    use super::*;

    fn encoder() -> Encoder {
        let field = |name: &'static str, value: &'static str| {
            let bytes = |it: &'static str| Bytes::from_static(it.as_bytes());
            (bytes(name), bytes(value))
        };
        Encoder::new(Favourites {
            head: field("content-type", "application/grpc"),
            tail: field("grpc-status", "0"),
        })
    }

    fn read(decoder: &mut Decoder, block: &[u8]) -> Vec<Field> {
        let mut fields = Vec::new();
        decoder
            .decode(block, 1 << 16, |it| fields.push(it))
            .unwrap();
        fields
    }

    /// Two answers, then the sizes of the blocks.
    fn blocks(encoder: &mut Encoder, decoder: &mut Decoder) -> Vec<usize> {
        let mut sizes = Vec::new();
        for _ in 0..2 {
            let mut head = BytesMut::new();
            encoder.begin(&mut head);
            encoder.usual_head(&mut head);
            let fields = read(decoder, &head);
            assert_eq!(
                (&fields[0].name[..], &fields[0].value[..]),
                (&b":status"[..], &b"200"[..])
            );
            assert_eq!(fields[1].value, "application/grpc");
            let mut tail = BytesMut::new();
            encoder.usual_tail(&mut tail);
            let fields = read(decoder, &tail);
            assert_eq!(
                (&fields[0].name[..], &fields[0].value[..]),
                (&b"grpc-status"[..], &b"0"[..])
            );
            sizes.extend([head.len(), tail.len()]);
        }
        sizes
    }

    #[test]
    fn favourites_are_written_out_once() {
        let (mut encoder, mut decoder) = (encoder(), Decoder::new(4096));
        assert_eq!(blocks(&mut encoder, &mut decoder), [19, 15, 2, 1]);
    }

    #[test]
    fn a_client_with_a_small_table_is_told_that_it_stays_empty() {
        let (mut encoder, mut decoder) = (encoder(), Decoder::new(4096));
        blocks(&mut encoder, &mut decoder);
        encoder.allow(100);
        encoder.allow(1 << 20);
        assert_eq!(blocks(&mut encoder, &mut decoder), [21, 15, 20, 15]);
    }

    #[test]
    fn all_statuses_and_fields_read_back() {
        let mut out = BytesMut::new();
        for status in [200, 204, 404, 431, 503] {
            put_status(&mut out, status);
        }
        let long = [b'x'; 300];
        put_literal(&mut out, b"holm-island", &long);
        put_literal(&mut out, b"content-type", b"text/plain");
        let fields = read(&mut Decoder::new(4096), &out);
        let values: Vec<&[u8]> = fields.iter().map(|it| &it.value[..]).collect();
        assert_eq!(values[..5], [b"200", b"204", b"404", b"431", b"503"]);
        assert_eq!((values[5], values[6]), (&long[..], &b"text/plain"[..]));
    }
}
