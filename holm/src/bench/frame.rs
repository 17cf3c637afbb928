//! HTTP/2 frames: reading their headers and writing the few that a client sends.
//!
//! Nothing here keeps state; [`super::session`] does. Numbers on this wire are big-endian.

use thiserror::Error;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before each frame's payload.
pub(crate) const HEADER_BYTES: usize = 9;
/// The largest payload that we accept, the protocol's default, which we never raise.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 16_384;

/// Frame types, by their numbers on the wire.
pub(crate) mod kind {
    /// Payload of an answer.
    pub(crate) const DATA: u8 = 0;
    /// A header block, or its beginning.
    pub(crate) const HEADERS: u8 = 1;
    /// The end of one stream by an error.
    pub(crate) const RESET: u8 = 3;
    /// Connection parameters.
    pub(crate) const SETTINGS: u8 = 4;
    /// A pushed answer, which we forbid.
    pub(crate) const PUSH_PROMISE: u8 = 5;
    /// A sign of life that wants an answer.
    pub(crate) const PING: u8 = 6;
    /// The server will take no more streams.
    pub(crate) const GO_AWAY: u8 = 7;
    /// Room for more payload.
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    /// More of a header block.
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags, by their bits on the wire.
pub(crate) mod flag {
    /// The sender ends its half of the stream (DATA, HEADERS).
    pub(crate) const END_STREAM: u8 = 1;
    /// An answer to SETTINGS or PING.
    pub(crate) const ACK: u8 = 1;
    /// The header block is complete.
    pub(crate) const END_HEADERS: u8 = 4;
    /// The payload begins with a padding length.
    pub(crate) const PADDED: u8 = 8;
    /// The payload begins with five bytes of priority.
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Why bytes are not frames.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A frame above what we agreed to take.
    #[error("server sent a frame of {bytes} bytes, above the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// The length that the frame states.
        bytes: usize,
    },
    /// Padding or priority fields that do not fit into the frame.
    #[error("server sent a frame of type {kind} whose padding exceeds it")]
    Padding {
        /// The frame's type.
        kind: u8,
    },
}

/// The nine bytes before a payload, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of payload.
    pub(crate) length: usize,
    /// One of [`kind`], or a type that must be ignored.
    pub(crate) kind: u8,
    /// Bits of [`flag`].
    pub(crate) flags: u8,
    /// The stream, 0 for the connection.
    pub(crate) stream: u32,
}

impl FrameHeader {
    /// Whether all bits of `flags` are set.
    pub(crate) fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// Splits the first whole frame off `bytes`; `None` if it is not all there yet.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(FrameHeader, &[u8])>, FrameError> {
    let [a, b, c, kind, flags, rest @ ..] = bytes else {
        return Ok(None);
    };
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: length });
    }
    let Some((stream, rest)) = rest.split_at_checked(4) else {
        return Ok(None);
    };
    let header = FrameHeader {
        length,
        kind: *kind,
        flags: *flags,
        stream: number(stream) & 0x7fff_ffff,
    };
    Ok(rest.get(..length).map(|payload| (header, payload)))
}

/// A payload without its padding and priority fields.
pub(crate) fn unpadded(header: FrameHeader, payload: &[u8]) -> Result<&[u8], FrameError> {
    let failed = FrameError::Padding { kind: header.kind };
    let (padding, mut body) = if header.has(flag::PADDED) {
        let (first, rest) = payload.split_first().ok_or(failed)?;
        (usize::from(*first), rest)
    } else {
        (0, payload)
    };
    if header.kind == kind::HEADERS && header.has(flag::PRIORITY) {
        body = body.get(5..).ok_or(failed)?;
    }
    body.len()
        .checked_sub(padding)
        .map(|end| &body[..end])
        .ok_or(failed)
}

/// A big-endian number of at most four bytes.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Appends a frame's nine bytes.
pub(crate) fn put_header(out: &mut Vec<u8>, header: FrameHeader) {
    let length = u32::try_from(header.length).expect("payloads are at most 16 KiB");
    out.extend_from_slice(&network_order(length)[1..]);
    out.extend_from_slice(&[header.kind, header.flags]);
    out.extend_from_slice(&network_order(header.stream));
}

/// Appends a whole frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_header(
        out,
        FrameHeader {
            length: payload.len(),
            kind,
            flags,
            stream,
        },
    );
    out.extend_from_slice(payload);
}

/// Appends SETTINGS with the given pairs.
pub(crate) fn put_settings(out: &mut Vec<u8>, pairs: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(pairs.len() * 6);
    for (name, value) in pairs {
        payload.extend_from_slice(&network_order(u32::from(*name))[2..]);
        payload.extend_from_slice(&network_order(*value));
    }
    put(out, kind::SETTINGS, 0, 0, &payload);
}

/// Appends room for `bytes` more on a stream, or on the connection (0).
pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, kind::WINDOW_UPDATE, 0, stream, &network_order(bytes));
}

/// The four bytes of a number as this wire has them.
#[expect(
    clippy::big_endian_bytes,
    reason = "HTTP/2 and gRPC state numbers in network order"
)]
pub(crate) fn network_order(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_is_read_only_when_whole() {
        let mut bytes = Vec::new();
        put(&mut bytes, kind::DATA, flag::END_STREAM, 7, b"hello");
        for end in 0..bytes.len() {
            assert_eq!(first(&bytes[..end]), Ok(None), "cut at {end}");
        }
        bytes.push(9);
        let (header, payload) = first(&bytes).unwrap().expect("the frame is whole");
        assert_eq!(
            header,
            FrameHeader {
                length: 5,
                kind: kind::DATA,
                flags: flag::END_STREAM,
                stream: 7
            }
        );
        assert_eq!(payload, b"hello");
    }

    #[test]
    fn oversized_frame_is_refused_before_it_arrives() {
        assert_eq!(
            first(&[0, 0x40, 1, 0, 0]),
            Err(FrameError::TooLarge { bytes: 16_385 })
        );
    }

    #[test]
    fn padding_and_priority_are_removed() {
        let flags = flag::PADDED | flag::PRIORITY;
        let header = FrameHeader {
            length: 10,
            kind: kind::HEADERS,
            flags,
            stream: 1,
        };
        assert_eq!(unpadded(header, b"\x02pppppab\0\0"), Ok(b"ab".as_slice()));
        assert_eq!(
            unpadded(header, b"\x09pppppab\0\0"),
            Err(FrameError::Padding { kind: 1 })
        );
    }

    #[test]
    fn settings_have_six_bytes_a_pair() {
        let mut bytes = Vec::new();
        put_settings(&mut bytes, &[(4, 0x7fff_ffff)]);
        assert_eq!(bytes, b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff");
    }
}
