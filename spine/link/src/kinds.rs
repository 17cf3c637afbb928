//! The numbers of the link's own frames.

use bytes::Bytes;
use holm_wire::Frame;

/// The plane of the link's own frames.
pub const LINK_PLANE: u8 = 0;

/// The longest body that a stranger's frame may have.
pub const FRAME_MAX_UNBOUND: usize = 32 << 10;

/// The version of the link's own frames.
pub(crate) const VERSION: u16 = 1;

pub(crate) const HELLO: u8 = 1;
pub(crate) const BIND: u8 = 2;
pub(crate) const PING: u8 = 3;
pub(crate) const PONG: u8 = 4;
/// The last frame of a connection that is refused or ended; its body says why, in words.
pub(crate) const CLOSE: u8 = 5;
/// The last frame of a direction that another connection took over.
pub(crate) const MARK: u8 = 6;
/// Asks the end that dials for a new connection.
pub(crate) const RENEW: u8 = 7;
/// Would begin a switch to another epoch; refused so far (I21).
pub(crate) const PREPARE: u8 = 8;

/// A frame of the link's own.
pub(crate) const fn own(kind: u8, body: Bytes) -> Frame {
    Frame {
        kind,
        plane: LINK_PLANE,
        version: VERSION,
        group: 0,
        body,
    }
}
