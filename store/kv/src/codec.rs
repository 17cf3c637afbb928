//! A [`Proposal`] as bytes: what a log entry of a keyspace holds.
//!
//! What would surprise: decoding copies no key and no value, they are slices of the entry. An
//! entry that cannot be read is an error and never a panic; what can be read encodes back to
//! the same bytes.
//!
//! ```text
//! byte 0      version, 1; or 2, and 8 bytes little-endian: the milliseconds of Unix time at
//!             which it was proposed, which only local-first keyspaces go by; then as version 1
//! byte 1      0: nobody asks; 1: a caller follows (string user, number auth_revision)
//! byte 2..    command: one tag byte, then its fields in the order of their declaration
//!
//! number      base-128 varint of the 64 bits, 1 to 10 bytes
//! bytes       number length, then so many bytes; a string likewise, UTF-8
//! list        number count, then the elements
//! flags       one byte, bit n is the n-th boolean of the struct
//! ```

mod read;
mod write;

use bytes::{BufMut, Bytes, BytesMut};

use crate::command::{Caller, Proposal};
pub(crate) use read::Reader;
pub(crate) use write::{
    bytes as write_bytes, count as write_count, permission as write_permission,
};

/// The layout drawn above. Older ones stay readable; newer ones are refused.
const VERSION: u8 = 1;

/// Says that a time comes first.
const STAMPED: u8 = 2;

/// How long that is.
const STAMP: usize = 9;

/// How deep transactions may nest, the outermost included. A front refuses deeper ones, for
/// what was ordered and cannot be read is damage.
pub const DEPTH_MAX: u32 = 256;

/// Why bytes are no proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("read a proposal: it ends at byte {at} within a field")]
    Short {
        /// Where the field begins.
        at: usize,
    },
    /// The version is one that this release does not know.
    #[error("read a proposal: version {version} is unknown")]
    Version {
        /// The version found.
        version: u8,
    },
    /// A tag, flag, number or string is none that this release knows.
    #[error("read a proposal: {what} at byte {at} is invalid")]
    Invalid {
        /// What was expected.
        what: &'static str,
        /// Where it begins.
        at: usize,
    },
    /// Transactions nest too deeply.
    #[error("read a proposal: transactions nest deeper than {limit}")]
    Depth {
        /// The limit.
        limit: u32,
    },
    /// Bytes follow the command.
    #[error("read a proposal: {extra} bytes follow it")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl Proposal {
    /// The proposal as bytes. Cost: one buffer, and a copy of its keys and values.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(write::size_hint(&self.command));
        self.encode_into(&mut out);
        out.freeze()
    }

    /// As [`Proposal::encode`], with the time at which it is proposed, in milliseconds of Unix
    /// time: for local-first keyspaces.
    #[must_use]
    pub fn encode_at(&self, unix_ms: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(STAMP + write::size_hint(&self.command));
        out.put_u8(STAMPED);
        out.put_u64_le(unix_ms);
        self.encode_into(&mut out);
        out.freeze()
    }

    fn encode_into(&self, out: &mut BytesMut) {
        out.put_u8(VERSION);
        match &self.caller {
            None => out.put_u8(0),
            Some(caller) => {
                out.put_u8(1);
                write::bytes(out, caller.user.as_bytes());
                write::number(out, caller.auth_revision);
            }
        }
        write::command(out, &self.command);
    }

    /// As [`Proposal::decode`], with the time of [`Proposal::encode_at`]; 0 if there is none.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says.
    pub fn decode_at(bytes: &Bytes) -> Result<(Self, u64), DecodeError> {
        match bytes.first() {
            Some(&STAMPED) if bytes.len() >= STAMP => {
                let mut stamp = [0; 8];
                stamp.copy_from_slice(&bytes[1..STAMP]);
                let proposal = Self::decode(&bytes.slice(STAMP..))?;
                Ok((proposal, u64::from_le_bytes(stamp)))
            }
            Some(_) | None => Ok((Self::decode(bytes)?, 0)),
        }
    }

    /// Reads what [`Proposal::encode`] made. Keys and values share `bytes`' memory.
    ///
    /// # Errors
    ///
    /// As [`DecodeError`] says. Memory stays within a small multiple of the input's length.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version { version });
        }
        let caller = if reader.boolean("caller mark")? {
            Some(Caller {
                user: reader.string()?,
                auth_revision: reader.number()?,
            })
        } else {
            None
        };
        let command = reader.command()?;
        match reader.left() {
            0 => Ok(Self { caller, command }),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}
