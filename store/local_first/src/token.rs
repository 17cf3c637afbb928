//! A causal token: what a client has seen, to be presented at another site.
//!
//! ```text
//! u8 version 1, u64 cluster, u32 keyspace, vector
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use crate::encode::{DecodeError, Reader};
use crate::vector::Vector;

const VERSION: u8 = 1;

/// What a client has seen of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The cluster whose keyspace it is.
    pub cluster: u64,
    /// The keyspace's number there.
    pub keyspace: u32,
    /// What was seen.
    pub seen: Vector,
}

impl Token {
    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(48);
        out.put_u8(VERSION);
        out.put_u64_le(self.cluster);
        out.put_u32_le(self.keyspace);
        self.seen.encode(&mut out);
        out.freeze()
    }

    /// Reads what [`Token::encode`] wrote.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says; the bytes may come from anybody.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let what = "a causal token";
        let mut reader = Reader::new(bytes);
        let version = reader.byte(what)?;
        if version != VERSION {
            return Err(DecodeError::Version { what, version });
        }
        let token = Self {
            cluster: reader.u64(what)?,
            keyspace: reader.u32(what)?,
            seen: Vector::decode(&mut reader)?,
        };
        reader.end(what)?;
        Ok(token)
    }
}
