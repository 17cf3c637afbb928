//! A frame and its bytes.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the body.
pub const HEADER: usize = 16;

/// The longest body.
pub const BODY_MAX: usize = 8 << 20;

/// One message of one plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says, in its plane's own numbers.
    pub kind: u8,
    /// Whose it is: 0 the link's own, 1 the store's.
    pub plane: u8,
    /// In which version of the plane's language.
    pub version: u16,
    /// The group that it is about; 0 where there is none.
    pub group: u32,
    /// The rest.
    pub body: Bytes,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) plane: u8,
    pub(crate) version: u16,
    pub(crate) group: u32,
    pub(crate) crc: u32,
}

impl Frame {
    /// How many bytes it takes on the wire.
    #[must_use]
    pub const fn size(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Appends its bytes.
    ///
    /// # Panics
    ///
    /// If the body is longer than [`BODY_MAX`]: whoever made it knows the limit.
    pub fn encode(&self, out: &mut BytesMut) {
        assert!(self.body.len() <= BODY_MAX, "a frame keeps to the limit");
        let length = u32::try_from(self.body.len()).expect("the limit fits 32 bits");
        let mut head = [0; 12];
        head[..4].copy_from_slice(&length.to_le_bytes());
        head[4] = self.kind;
        head[5] = self.plane;
        head[6..8].copy_from_slice(&self.version.to_le_bytes());
        head[8..].copy_from_slice(&self.group.to_le_bytes());
        out.reserve(self.size());
        out.put_slice(&head);
        out.put_u32_le(seal(&head, &self.body));
        out.put_slice(&self.body);
    }
}

/// The checksum of a header's first twelve bytes and a body.
pub(crate) fn seal(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum(head), body)
}

/// The checksum that everything between sites carries: CRC-32C.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

impl Header {
    /// Reads the sixteen bytes. What they claim is checked by the decoder.
    pub(crate) fn read(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            length: usize::try_from(word(0)).unwrap_or(usize::MAX),
            kind: bytes[4],
            plane: bytes[5],
            version: u16::from_le_bytes([bytes[6], bytes[7]]),
            group: word(8),
            crc: word(12),
        }
    }
}
