//! Why a stream or a connection ends (RFC 9113, section 7).

/// Why a stream or a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason(pub u32);

impl Reason {
    /// All went well.
    pub const NO_ERROR: Self = Self(0);
    /// What no rule allows.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// More was sent than the window allowed, or the window grew beyond what can be.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Something for a stream that had ended.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame of a wrong length.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The stream was not begun; it may be tried again.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody wants the rest.
    pub const CANCEL: Self = Self(8);
    /// A header block that cannot be read.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}
