//! Header compression (RFC 7541).
//!
//! Reading keeps the table that the client fills, within its bound. Writing adds at most two
//! fields to the client's table, those that nearly all answers carry, and names them by index
//! from then on; all else is written out.

mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod integer;

use core::fmt;

pub use decoder::{Decoder, Field, Outcome};
pub use encoder::Favourites;
pub(crate) use encoder::{Encoder, put_literal, put_status};

/// A header block that cannot be read: the connection must end, for its table is unknown now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpackError;

impl fmt::Display for HpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read a header block: it breaks the rules of RFC 7541")
    }
}

impl core::error::Error for HpackError {}

/// What a field counts for beyond its bytes (RFC 7541, section 4.1).
pub(crate) const FIELD_OVERHEAD: usize = 32;
