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

pub use decoder::Field;
pub(crate) use decoder::{Decoder, Outcome};
pub use encoder::Favourites;
pub(crate) use encoder::{Encoder, put_literal, put_status};

/// A header block that cannot be read: the connection must end, for its table is unknown now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HpackError;

/// What a field counts for beyond its bytes (RFC 7541, section 4.1).
pub(crate) const FIELD_OVERHEAD: usize = 32;
