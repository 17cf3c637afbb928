//! Frames: nine bytes and a payload (RFC 9113, section 4.1).
//!
//! ```text
//! 0 u24 length; 3 u8 kind; 4 u8 flags; 5 u32 stream; 9 payload       big-endian
//! ```

use bytes::{Buf as _, BufMut as _, BytesMut};

/// What a client says before its first frame.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before each payload.
pub(crate) const HEAD_BYTES: usize = 9;
/// The largest payload that is taken or sent: what all must take, and nobody need ask for more.
pub(crate) const PAYLOAD_MAX: usize = 16_384;
/// The largest window, and the largest stream.
pub(crate) const MAX_31: u32 = 0x7fff_ffff;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const HAS_PRIORITY: u8 = 0x20;

pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const STREAMS_MAX: u16 = 3;
pub(crate) const INITIAL_WINDOW: u16 = 4;
pub(crate) const FRAME_SIZE_MAX: u16 = 5;
pub(crate) const HEADER_LIST_MAX: u16 = 6;

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHead {
    /// Reads a head, if it is whole.
    pub(crate) fn read(input: &[u8]) -> Option<Self> {
        let head = input.get(..HEAD_BYTES)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        Some(Self {
            length,
            kind: head[3],
            flags: head[4],
            stream: (&head[5..]).get_u32() & MAX_31,
        })
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame's head.
pub(crate) fn put_head(out: &mut BytesMut, length: usize, (kind, flags): (u8, u8), stream: u32) {
    debug_assert!(length <= PAYLOAD_MAX, "no peer need take more");
    let length = u32::try_from(length).expect("a payload is short");
    out.put_uint(u64::from(length), 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

/// Takes padding off a payload (RFC 9113, section 6.1); `None` if it is longer than that.
pub(crate) fn unpadded(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (count, rest) = payload.split_first()?;
    let end = rest.len().checked_sub(usize::from(*count))?;
    Some(&rest[..end])
}
