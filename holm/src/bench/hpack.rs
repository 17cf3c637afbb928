//! What a header block says about one answer.
//!
//! A server may put `grpc-status` into its compression table once and afterwards send one byte per answer, so the
//! generator must follow that table; refusing it (a table size of 0) would make every answer dearer for the server
//! and so bias the measurement.

use std::str;

pub(crate) use holm_http2::HpackError;
use holm_http2::{Decoder, Field};

/// The table that the protocol begins with.
const TABLE_BYTES: usize = 4096;
/// The fields of one block; what is beyond is not looked at.
const FIELD_BYTES_MAX: usize = 64 << 10;

/// What a header block said about one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The HTTP status, 200 in every proper gRPC answer.
    pub(crate) http: Option<u16>,
    /// The gRPC status: 0 is success.
    pub(crate) grpc: Option<u32>,
    /// The text beside a gRPC status that is not 0, percent-encoded as it came.
    pub(crate) message: Option<String>,
}

impl Summary {
    fn note(&mut self, field: &Field) {
        let text = str::from_utf8(&field.value).ok();
        match &field.name[..] {
            b":status" => self.http = text.and_then(|text| text.parse().ok()),
            b"grpc-status" => self.grpc = text.and_then(|text| text.parse().ok()),
            b"grpc-message" => self.message = text.map(str::to_owned),
            _ => {}
        }
    }
}

/// One connection's blocks, given in the order in which they arrived.
#[derive(Debug)]
pub(crate) struct Blocks(Decoder);

impl Blocks {
    /// None was read yet.
    pub(crate) const fn new() -> Self {
        Self(Decoder::new(TABLE_BYTES))
    }

    /// Reads one block, adding what it says to `summary`. The connection is of no more use after an error.
    pub(crate) fn read(&mut self, block: &[u8], summary: &mut Summary) -> Result<(), HpackError> {
        let each = |field: Field| summary.note(&field);
        self.0.decode(block, FIELD_BYTES_MAX, each).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(blocks: &mut Blocks, block: &[u8]) -> Summary {
        let mut summary = Summary::default();
        blocks.read(block, &mut summary).unwrap();
        summary
    }

    #[test]
    fn literal_status_is_read_and_then_known_by_index() {
        let mut blocks = Blocks::new();
        let block = b"\x88\x40\x0bgrpc-status\x010\x40\x0cgrpc-message\x00";
        let first = read(&mut blocks, block);
        assert_eq!(
            first,
            Summary {
                http: Some(200),
                grpc: Some(0),
                message: Some(String::new())
            }
        );
        assert_eq!(read(&mut blocks, &[0xbf]).grpc, Some(0));
        assert_eq!(read(&mut blocks, &[0xbe]).message.as_deref(), Some(""));
        assert!(blocks.read(&[0xc0], &mut Summary::default()).is_err());
    }
}
