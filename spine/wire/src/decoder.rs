//! Cuts a stream into frames, as it arrives.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{BODY_MAX, Frame, HEADER, Header, seal};

/// Bodies up to here are copied out of what was read. A slice of it would hold all of its memory, for as long as
/// somebody keeps the body, and the next read would need other memory.
const COPIED_MAX: usize = 64 << 10;

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A header claims more than is allowed.
    #[error("frame of {length} bytes, {max} is the limit")]
    TooLong {
        /// What it claims.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// The bytes are not those that were sent.
    #[error("frame of plane {plane}, kind {kind}: its checksum is wrong")]
    Checksum {
        /// What the header says.
        plane: u8,
        /// What the header says.
        kind: u8,
    },
    /// The stream ended within a frame.
    #[error("stream ends within a frame, at least {missing} bytes early")]
    Torn {
        /// What is known to be missing.
        missing: usize,
    },
}

/// Where in a stream the reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    body_max: usize,
    state: State,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Body { head: [u8; 12], header: Header },
    Refused(WireError),
}

impl Decoder {
    /// At the beginning of a stream, with the limit [`BODY_MAX`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            body_max: BODY_MAX,
            state: State::Header,
        }
    }

    /// Allows bodies of up to `body_max` from the next header on. A stream whose peer is not
    /// known yet is read with a small limit.
    pub const fn set_body_max(&mut self, body_max: usize) {
        self.body_max = body_max;
    }

    /// Takes the next frame out of `input`, which holds what was read and not used yet; `None`
    /// if more must be read first.
    ///
    /// A body of up to 64 KiB is a copy that holds no more memory than it needs, so that what was read can be read into
    /// again; a longer one is a slice of `input`'s memory.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes are no frame; then, and ever after (I2).
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        loop {
            match self.state {
                State::Refused(error) => return Err(error),
                State::Header => {
                    let Some(bytes) = input.first_chunk::<HEADER>() else {
                        return Ok(None);
                    };
                    let header = Header::read(bytes);
                    let mut head = [0; 12];
                    head.copy_from_slice(&bytes[..12]);
                    if header.length > self.body_max {
                        let (length, max) = (header.length, self.body_max);
                        return self.refuse(WireError::TooLong { length, max });
                    }
                    input.advance(HEADER);
                    self.state = State::Body { head, header };
                }
                State::Body { head, header } => {
                    if input.len() < header.length {
                        return Ok(None);
                    }
                    let body = if header.length <= COPIED_MAX {
                        let body = Bytes::copy_from_slice(&input[..header.length]);
                        input.advance(header.length);
                        body
                    } else {
                        input.split_to(header.length).freeze()
                    };
                    let Header {
                        length: _,
                        kind,
                        plane,
                        version,
                        group,
                        crc,
                    } = header;
                    if seal(&head, &body) != crc {
                        return self.refuse(WireError::Checksum { plane, kind });
                    }
                    self.state = State::Header;
                    return Ok(Some(Frame {
                        kind,
                        plane,
                        version,
                        group,
                        body,
                    }));
                }
            }
        }
    }

    /// Says whether a stream may end here, `input` being what was read and not used.
    ///
    /// # Errors
    ///
    /// [`WireError::Torn`] if it ends within a frame; the refusal if there was one.
    pub fn end(&self, input: &[u8]) -> Result<(), WireError> {
        let wanted = match self.state {
            State::Refused(error) => return Err(error),
            State::Header if input.is_empty() => return Ok(()),
            State::Header => HEADER,
            State::Body { head: _, header } => header.length,
        };
        match wanted.saturating_sub(input.len()) {
            0 => Ok(()),
            missing => Err(WireError::Torn { missing }),
        }
    }

    const fn refuse(&mut self, error: WireError) -> Result<Option<Frame>, WireError> {
        self.state = State::Refused(error);
        Err(error)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}
