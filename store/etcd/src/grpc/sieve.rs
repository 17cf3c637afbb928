//! A sieve between the socket and HTTP/2: mends the one thing that etcd takes and the HTTP/2
//! library does not, and counts pings, which the library answers without a word.
//!
//! etcdctl 3.4 sends a URL as `:authority` for some calls. No RFC allows that, and the library
//! resets such a stream. Nothing here reads the authority, so a URL in it is bent into one that
//! is allowed: `http://host` becomes `http:j@host`, a user's name before a host.
//!
//! What would surprise: the two have the same length, so the client's header table and ours
//! stay equal although only one of them saw the change. In Huffman's code `j@` is exactly one
//! byte longer than `//`, so what follows is moved and not coded anew.

use bytes::{Buf as _, BytesMut};
use tokio::io::ReadBuf;

/// Bytes before each frame's payload.
const HEAD_BYTES: usize = 9;
/// The largest payload of a frame; HTTP/2 refuses what is larger.
const PAYLOAD_BYTES_MAX: usize = 16_384;
/// What a client says before its first frame.
const PREFACE_BYTES: usize = 24;

const HEADERS: u8 = 1;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// What has come of a connection, on its way to HTTP/2.
#[derive(Debug)]
pub(crate) struct Sieve {
    /// Bytes that pass before the next frame begins.
    passing: usize,
    /// The beginning of a frame that must be whole to be looked at.
    partial: Vec<u8>,
    /// Mended bytes that HTTP/2 has not taken yet.
    ready: BytesMut,
    /// Pings that nobody has asked for yet.
    pings: u32,
}

impl Sieve {
    pub(crate) fn new() -> Self {
        Self {
            passing: PREFACE_BYTES,
            partial: Vec::new(),
            ready: BytesMut::new(),
            pings: 0,
        }
    }

    /// How many pings have come since this was last asked.
    pub(crate) const fn take_pings(&mut self) -> u32 {
        core::mem::replace(&mut self.pings, 0)
    }

    /// Gives what was mended before; whether that was anything.
    pub(crate) fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let count = self.ready.len().min(into.remaining());
        into.put_slice(&self.ready[..count]);
        self.ready.advance(count);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
        true
    }

    /// Looks at what was read behind `before`. False if it holds something to mend or the
    /// beginning of a frame: it was taken out, and what is whole of it is to be given.
    pub(crate) fn look(&mut self, into: &mut ReadBuf<'_>, before: usize) -> bool {
        let come = &into.filled()[before..];
        if self.partial.is_empty() && self.passes(come) {
            return true;
        }
        let come = come.to_vec();
        into.set_filled(before);
        self.sift(&come);
        false
    }

    /// Whether all of it may go as it is; if so, it is accounted for.
    fn passes(&mut self, come: &[u8]) -> bool {
        let (mut at, mut pings) = (self.passing, 0);
        while at < come.len() {
            let Some(head) = Head::read(&come[at..]) else {
                return false;
            };
            let end = at + HEAD_BYTES + head.bytes;
            if head.kind == HEADERS {
                let Some(frame) = come.get(at..end) else {
                    return false;
                };
                if find_url(frame, head).is_some() {
                    return false;
                }
            }
            pings += u32::from(head.is_ping());
            at = end;
        }
        self.passing = at - come.len();
        self.pings = self.pings.saturating_add(pings);
        true
    }

    fn sift(&mut self, mut come: &[u8]) {
        loop {
            let passing = self.passing.min(come.len());
            let (now, later) = come.split_at(passing);
            self.ready.extend_from_slice(now);
            self.passing -= passing;
            come = later;
            if come.is_empty() {
                return;
            }
            come = self.gather(come, HEAD_BYTES);
            let Some(head) = Head::read(&self.partial) else {
                return;
            };
            if head.kind != HEADERS || head.bytes > PAYLOAD_BYTES_MAX {
                self.pings = self.pings.saturating_add(u32::from(head.is_ping()));
                self.ready.extend_from_slice(&self.partial);
                self.passing = head.bytes;
                self.partial.clear();
                continue;
            }
            let whole = HEAD_BYTES + head.bytes;
            come = self.gather(come, whole);
            if self.partial.len() < whole {
                return;
            }
            let frame = core::mem::take(&mut self.partial);
            match find_url(&frame, head).and_then(|url| url.mended(&frame)) {
                Some(mended) => self.ready.extend_from_slice(&mended),
                None => self.ready.extend_from_slice(&frame),
            }
        }
    }

    /// Adds to the partial frame until it has `wanted` bytes; gives what is left.
    fn gather<'a>(&mut self, come: &'a [u8], wanted: usize) -> &'a [u8] {
        let missing = wanted.saturating_sub(self.partial.len()).min(come.len());
        self.partial.extend_from_slice(&come[..missing]);
        &come[missing..]
    }
}

/// A frame's first bytes, as far as they matter here.
#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: usize,
    kind: u8,
    flags: u8,
}

impl Head {
    #[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
    fn read(frame: &[u8]) -> Option<Self> {
        let head = frame.get(..HEAD_BYTES)?;
        let bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Some(Self {
            bytes: usize::try_from(bytes).ok()?,
            kind: head[3],
            flags: head[4],
        })
    }

    const fn is_ping(self) -> bool {
        self.kind == PING && self.flags & ACK == 0
    }
}

/// Where in a frame the value of `:authority` lies, if it is a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Url {
    /// Where its length begins, where its text does, and where that ends.
    length_at: usize,
    text_at: usize,
    end: usize,
    is_coded: bool,
    /// Bits before the two slashes.
    scheme_bits: usize,
}

/// Finds a URL as `:authority` in a whole header block. What is no header block has none:
/// HTTP/2 says so.
fn find_url(frame: &[u8], head: Head) -> Option<Url> {
    if head.flags & END_HEADERS == 0 || head.bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let (mut at, mut end) = (HEAD_BYTES, frame.len());
    if head.flags & PADDED != 0 {
        end = end.checked_sub(usize::from(*frame.get(at)?))?;
        at += 1;
    }
    if head.flags & PRIORITY != 0 {
        at += 5;
    }
    let block = frame.get(..end)?;
    while at < end {
        let first = block[at];
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let name = integer(block, &mut at, prefix)?;
        if matches!(first, 0x80.. | 0x20..=0x3f) {
            continue;
        }
        if name == 0 {
            string(block, &mut at)?;
        }
        let value = string(block, &mut at)?;
        if name == 1 {
            return value.with_scheme(block);
        }
    }
    None
}

/// A prefixed integer (RFC 7541, section 5.1); moves `at` behind it.
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let full = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & full;
    *at += 1;
    if value < full {
        return Some(value);
    }
    for shift in [0, 7, 14] {
        let next = *block.get(*at)?;
        *at += 1;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A string (RFC 7541, section 5.2); moves `at` behind it.
fn string(block: &[u8], at: &mut usize) -> Option<Url> {
    let length_at = *at;
    let is_coded = *block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let text_at = *at;
    let end = text_at
        .checked_add(length)
        .filter(|it| *it <= block.len())?;
    *at = end;
    Some(Url {
        length_at,
        text_at,
        end,
        is_coded,
        scheme_bits: 0,
    })
}

/// `http:` and `https:` in Huffman's code, and how many bits that are; then the same of `//`
/// and of `j@`.
const SCHEMES: [(u64, usize); 2] = [
    (0b1_0011_1010_0101_0011_0101_1101_1100, 29),
    (0b10_0111_0100_1010_0110_1011_0100_0101_1100, 34),
];
const SLASHES: (u64, usize) = (0b0110_0001_1000, 12);
const USER: (u64, usize) = (0b1110_1001_1111_1111_1010, 20);

impl Url {
    /// The string itself, if it begins as a URL.
    fn with_scheme(self, block: &[u8]) -> Option<Self> {
        let text = &block[self.text_at..self.end];
        let scheme_bits = if self.is_coded {
            let begins = |(code, bits): (u64, usize)| {
                let whole = code << SLASHES.1 | SLASHES.0;
                (bits_at(text, 0, bits + SLASHES.1) == Some(whole)).then_some(bits)
            };
            SCHEMES.into_iter().find_map(begins)?
        } else if text.starts_with(b"http://") {
            5 * 8
        } else if text.starts_with(b"https://") {
            6 * 8
        } else {
            return None;
        };
        Some(Self {
            scheme_bits,
            ..self
        })
    }

    /// The frame with a user's name in the place of the slashes; `None` if it grew too large.
    #[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
    fn mended(self, frame: &[u8]) -> Option<Vec<u8>> {
        let text = &frame[self.text_at..self.end];
        let text = if self.is_coded {
            recoded(text, self.scheme_bits)
        } else {
            let slashes = self.scheme_bits / 8;
            [&text[..slashes], b"j@", &text[slashes + 2..]].concat()
        };
        let mut mended = frame[..self.length_at].to_vec();
        put_length(&mut mended, text.len(), self.is_coded)?;
        mended.extend_from_slice(&text);
        mended.extend_from_slice(&frame[self.end..]);
        let bytes = mended.len() - HEAD_BYTES;
        if bytes > PAYLOAD_BYTES_MAX {
            return None;
        }
        let length = u32::try_from(bytes).ok()?.to_be_bytes();
        mended[..3].copy_from_slice(&length[1..]);
        Some(mended)
    }
}

/// A string's length and whether it is coded (RFC 7541, section 5.2).
fn put_length(out: &mut Vec<u8>, length: usize, is_coded: bool) -> Option<()> {
    let mark = if is_coded { 0x80 } else { 0 };
    let Some(mut rest) = length.checked_sub(127) else {
        out.push(mark | u8::try_from(length).ok()?);
        return Some(());
    };
    out.push(mark | 127);
    while rest >= 128 {
        out.push(0x80 | u8::try_from(rest & 0x7f).ok()?);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).ok()?);
    Some(())
}

/// `count` bits from bit `from` on, at most 64.
fn bits_at(text: &[u8], from: usize, count: usize) -> Option<u64> {
    let mut bits = 0;
    for place in from..from + count {
        let byte = text.get(place / 8)?;
        bits = bits << 1 | u64::from(byte >> (7 - place % 8) & 1);
    }
    Some(bits)
}

/// The coded text with `j@` in the place of the slashes behind the scheme.
fn recoded(text: &[u8], scheme_bits: usize) -> Vec<u8> {
    let mut out = vec![0; text.len() + 1];
    let mut end = 0;
    let mut put = |bit: bool| {
        if bit {
            out[end / 8] |= 1 << (7 - end % 8);
        }
        end += 1;
    };
    let bit_of = |place: usize| text[place / 8] >> (7 - place % 8) & 1 == 1;
    (0..scheme_bits).for_each(|place| put(bit_of(place)));
    (0..USER.1)
        .rev()
        .for_each(|place| put(USER.0 >> place & 1 == 1));
    (scheme_bits + SLASHES.1..text.len() * 8).for_each(|place| put(bit_of(place)));
    out
}

/// Whether what is written answers a call: a frame of data or of headers is in it.
pub(crate) fn answers(written: &[u8]) -> bool {
    let mut rest = written;
    while let Some(head) = Head::read(rest) {
        if head.kind <= HEADERS {
            return true;
        }
        rest = rest.get(HEAD_BYTES + head.bytes..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8; PREFACE_BYTES] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out if the bytes come in pieces of `step`, and the pings that were counted.
    fn sifted(bytes: &[u8], step: usize) -> (Vec<u8>, u32) {
        let mut sieve = Sieve::new();
        let mut out = Vec::new();
        let mut space = [0; 64];
        for piece in bytes.chunks(step) {
            let mut into = ReadBuf::new(&mut space);
            into.put_slice(piece);
            if sieve.look(&mut into, 0) {
                out.extend_from_slice(into.filled());
            }
            loop {
                let mut into = ReadBuf::new(&mut space);
                if !sieve.give(&mut into) {
                    break;
                }
                out.extend_from_slice(into.filled());
            }
        }
        (out, sieve.take_pings())
    }

    fn expect(come: &[Vec<u8>], gone: &[Vec<u8>], pings: u32) {
        let come = [PREFACE.to_vec(), come.concat()].concat();
        let gone = [PREFACE.to_vec(), gone.concat()].concat();
        for step in 1..=64 {
            assert_eq!(sifted(&come, step), (gone.clone(), pings), "by {step}");
        }
    }

    /// A block with `:authority` as a literal, between two indexed fields.
    fn block(text: &[u8], is_coded: bool) -> Vec<u8> {
        let length = u8::try_from(text.len()).unwrap() | if is_coded { 0x80 } else { 0 };
        [&[0x83, 0x41, length], text, &[0x86]].concat()
    }

    #[test]
    fn urls_become_names_of_the_same_length() {
        for (url, name) in [
            ("http://127.0.0.1:2379", "http:j@127.0.0.1:2379"),
            ("https://a", "https:j@a"),
        ] {
            assert!(name.parse::<http::uri::Authority>().is_ok());
            let come = frame(HEADERS, END_HEADERS, &block(url.as_bytes(), false));
            let gone = frame(HEADERS, END_HEADERS, &block(name.as_bytes(), false));
            expect(&[come], &[gone], 0);
        }
    }

    #[test]
    fn coded_urls_stay_coded() {
        let url = b"\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f";
        let name = b"\x9d\x29\xae\xe7\x4f\xfd\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f";
        let come = frame(HEADERS, END_HEADERS | 1, &block(url, true));
        let gone = frame(HEADERS, END_HEADERS | 1, &block(name, true));
        let data = frame(0, 1, &[7; 100]);
        expect(&[come, data.clone()], &[gone, data], 0);
    }

    #[test]
    fn padding_and_priority_are_stepped_over() {
        let padded = |text: &[u8]| {
            let block = block(text, false);
            let payload = [&[3][..], &[0; 5], &block, &[0; 3]].concat();
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)
        };
        expect(&[padded(b"http://a")], &[padded(b"http:j@a")], 0);
    }

    #[test]
    fn all_else_passes_as_it_came() {
        let frames = [
            frame(4, 0, &[]),
            frame(HEADERS, END_HEADERS, &block(b"127.0.0.1:2379", false)),
            frame(HEADERS, END_HEADERS, b"\x00\x04path\x08http://a\x82"),
            frame(HEADERS, 0, &block(b"http://in-two-frames", false)),
            frame(9, END_HEADERS, &[0x82]),
            frame(HEADERS, END_HEADERS, b"\x41\xff\xff\xff\xff\x7f"),
            frame(HEADERS, END_HEADERS | PADDED, &[200, 0x82]),
            frame(HEADERS, END_HEADERS | PADDED, &[]),
            frame(0, 0, &[0; 300]),
        ];
        expect(&frames, &frames, 0);
    }

    #[test]
    fn pings_are_counted_and_answers_to_pings_are_not() {
        let frames = [
            frame(PING, 0, &[0; 8]),
            frame(0, 0, &[PING; 40]),
            frame(PING, ACK, &[0; 8]),
            frame(PING, 0, &[0; 8]),
        ];
        expect(&frames, &frames, 2);
    }

    #[test]
    fn random_bytes_pass_or_wait_and_never_panic() {
        arbtest::arbtest(|source| {
            let bytes: Vec<u8> = source.arbitrary()?;
            let come = [&PREFACE[..], &bytes].concat();
            let whole = sifted(&come, 64);
            assert_eq!(whole, sifted(&come, 3));
            assert!(whole.0.len() <= come.len() + come.len() / HEAD_BYTES * 2);
            Ok(())
        });
    }

    #[test]
    fn answers_are_told_from_what_http2_says_by_itself() {
        let (ping, data) = (frame(PING, ACK, &[0; 8]), frame(0, 0, &[1]));
        assert!(!answers(&ping) && !answers(&frame(4, 1, &[])) && !answers(b"short"));
        assert!(answers(&data) && answers(&[ping, data].concat()));
    }
}
