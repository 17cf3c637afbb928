//! The limits of a connection.

use crate::hpack::Favourites;

/// The limits of a connection, and what its answers mostly carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Streams at once; one more is refused.
    pub streams_max: u32,
    /// What a client may send on a stream before it is released.
    pub stream_window: u32,
    /// What a client may send on all streams before it is released.
    pub connection_window: u32,
    /// A request's fields, as HTTP/2 counts them, and the bytes of their block.
    pub head_bytes_max: u32,
    /// Output beyond which data waits in its stream.
    pub out_bytes_max: usize,
    /// Frames in a row that bring nothing forward, before the client is sent away.
    pub idle_frames_max: u32,
    /// By how many the streams that were broken off may outnumber those that ended well.
    pub resets_max: u32,
    /// Frames that one header block may come in.
    pub pieces_max: u32,
    /// Fields that are worth a place in the client's table.
    pub favourites: Favourites,
}

/// The table of header fields that a client may fill: what HTTP/2 begins with.
pub(crate) const TABLE_BYTES: u32 = 4_096;
