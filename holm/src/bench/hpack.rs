//! Reads HTTP/2 header blocks, as far as a load generator needs them.
//!
//! A server may put `grpc-status` into its compression table once and afterwards send one byte per answer, so the
//! generator must follow that table; refusing it (a table size of 0) would make every answer dearer for the server
//! and so bias the measurement. Only three fields are kept: `:status`, `grpc-status` and `grpc-message`; of every
//! other field only the size matters, for eviction. The Huffman code of RFC 7541 is canonical: the lengths of its
//! codes are enough to rebuild it.

use std::collections::VecDeque;

use thiserror::Error;

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

/// Why a header block could not be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum HpackError {
    /// The block ends inside a field.
    #[error("header block ends inside a field")]
    Short,
    /// An integer or an index that no encoder sends.
    #[error("header block holds index or length {value}, which cannot be")]
    Range {
        /// The number that was read.
        value: usize,
    },
    /// A string whose Huffman code has no meaning.
    #[error("header block holds a string that is no Huffman code")]
    Huffman,
}

/// The lengths of RFC 7541's Huffman codes, for the symbols 0 to 255 and the end mark.
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The lengths of the names in the static table, entry 1 first.
const STATIC_NAME_BYTES: [usize; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14,
    16, 13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10,
    25, 17, 10, 4, 3, 16,
];

/// The statuses of entries 8 to 14 of the static table.
const STATIC_STATUS: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

const LONGEST_CODE: usize = 30;
const TABLE_BYTES_DEFAULT: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Http,
    Grpc,
    Message,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":status" => Self::Http,
            b"grpc-status" => Self::Grpc,
            b"grpc-message" => Self::Message,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Debug)]
struct Field {
    name: Name,
    name_bytes: usize,
    /// Empty for fields that nobody asks for.
    value: Vec<u8>,
    value_bytes: usize,
}

impl Field {
    fn cost(&self) -> usize {
        self.name_bytes + self.value_bytes + 32
    }

    fn note(&self, summary: &mut Summary) {
        let text = || String::from_utf8_lossy(&self.value).into_owned();
        match self.name {
            Name::Http => summary.http = text().parse().ok(),
            Name::Grpc => summary.grpc = text().parse().ok(),
            Name::Message => summary.message = Some(text()),
            Name::Other => {}
        }
    }
}

/// One connection's header decoder. Blocks must be given in the order in which they arrived.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: VecDeque<Field>,
    bytes: usize,
    limit: usize,
    huffman: Huffman,
}

impl Decoder {
    /// A decoder with the protocol's default table of 4,096 bytes.
    pub(crate) fn new() -> Self {
        Self {
            table: VecDeque::new(),
            bytes: 0,
            limit: TABLE_BYTES_DEFAULT,
            huffman: Huffman::new(),
        }
    }

    /// Reads one block, adding what it says to `summary`. The table may be half changed after an error: the
    /// connection is then of no more use.
    pub(crate) fn decode(&mut self, block: &[u8], summary: &mut Summary) -> Result<(), HpackError> {
        let mut rest = block;
        while let Some(&first) = rest.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                self.indexed(index, summary)?;
            } else if first & 0xc0 == 0x40 {
                let field = self.literal(&mut rest, 6)?;
                field.note(summary);
                self.insert(field);
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut rest, 5)?;
                if limit > TABLE_BYTES_DEFAULT {
                    return Err(HpackError::Range { value: limit });
                }
                self.limit = limit;
                self.evict(0);
            } else {
                self.literal(&mut rest, 4)?.note(summary);
            }
        }
        Ok(())
    }

    fn indexed(&self, index: usize, summary: &mut Summary) -> Result<(), HpackError> {
        if let Some(status) = index.checked_sub(8).and_then(|at| STATIC_STATUS.get(at)) {
            summary.http = Some(*status);
        } else if index == 0 {
            return Err(HpackError::Range { value: index });
        } else if index > STATIC_NAME_BYTES.len() {
            self.entry(index)?.note(summary);
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<&Field, HpackError> {
        index
            .checked_sub(STATIC_NAME_BYTES.len() + 1)
            .and_then(|at| self.table.get(at))
            .ok_or(HpackError::Range { value: index })
    }

    fn literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Field, HpackError> {
        let index = integer(rest, prefix_bits)?;
        let (name, name_bytes) = if index == 0 {
            let text = self.string(rest)?;
            (Name::of(&text), text.len())
        } else if let Some(bytes) = STATIC_NAME_BYTES.get(index - 1) {
            (
                if (8..=14).contains(&index) {
                    Name::Http
                } else {
                    Name::Other
                },
                *bytes,
            )
        } else {
            let entry = self.entry(index)?;
            (entry.name, entry.name_bytes)
        };
        let mut value = self.string(rest)?;
        let value_bytes = value.len();
        if name == Name::Other {
            value = Vec::new();
        }
        Ok(Field {
            name,
            name_bytes,
            value,
            value_bytes,
        })
    }

    fn string(&self, rest: &mut &[u8]) -> Result<Vec<u8>, HpackError> {
        let coded = rest.first().ok_or(HpackError::Short)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (text, after) = rest.split_at_checked(length).ok_or(HpackError::Short)?;
        *rest = after;
        if coded {
            self.huffman.decode(text)
        } else {
            Ok(text.to_vec())
        }
    }

    fn insert(&mut self, field: Field) {
        let cost = field.cost();
        self.evict(cost);
        if cost <= self.limit {
            self.bytes += cost;
            self.table.push_front(field);
        }
    }

    /// Makes room for an entry of `cost` bytes, oldest out first.
    fn evict(&mut self, cost: usize) {
        while self.bytes + cost > self.limit {
            let Some(oldest) = self.table.pop_back() else {
                break;
            };
            self.bytes -= oldest.cost();
        }
    }
}

/// A prefixed integer of RFC 7541, section 5.1; the bits above the prefix are the caller's.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, HpackError> {
    let (&first, mut after) = rest.split_first().ok_or(HpackError::Short)?;
    let full = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(first) & full;
    if value == full {
        let mut shift = 0;
        loop {
            let (&next, behind) = after.split_first().ok_or(HpackError::Short)?;
            after = behind;
            value += usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(HpackError::Range { value });
            }
        }
    }
    *rest = after;
    Ok(value)
}

/// The canonical code: for each length, the first code and where its symbols stand.
#[derive(Debug)]
struct Huffman {
    symbols: Vec<usize>,
    first_code: [u32; LONGEST_CODE + 1],
    first_symbol: [usize; LONGEST_CODE + 2],
}

impl Huffman {
    fn new() -> Self {
        let mut symbols: Vec<usize> = (0..CODE_BITS.len()).collect();
        symbols.sort_by_key(|symbol| CODE_BITS[*symbol]);
        let mut first_code = [0; LONGEST_CODE + 1];
        let mut first_symbol = [0; LONGEST_CODE + 2];
        let mut code = 0_u32;
        for bits in 1..=LONGEST_CODE {
            let count = CODE_BITS
                .iter()
                .filter(|length| usize::from(**length) == bits)
                .count();
            code <<= 1;
            first_code[bits] = code;
            first_symbol[bits + 1] = first_symbol[bits] + count;
            code += u32::try_from(count).expect("there are 257 symbols");
        }
        Self {
            symbols,
            first_code,
            first_symbol,
        }
    }

    fn decode(&self, coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut text = Vec::with_capacity(coded.len() * 2);
        let (mut code, mut bits) = (0_u32, 0_usize);
        for byte in coded {
            for place in (0..8).rev() {
                code = code << 1 | u32::from(byte >> place & 1);
                bits += 1;
                if bits > LONGEST_CODE {
                    return Err(HpackError::Huffman);
                }
                if let Some(symbol) = self.symbol(code, bits) {
                    text.push(u8::try_from(symbol).map_err(|_end_mark| HpackError::Huffman)?);
                    (code, bits) = (0, 0);
                }
            }
        }
        Ok(text)
    }

    fn symbol(&self, code: u32, bits: usize) -> Option<usize> {
        let above = usize::try_from(code.checked_sub(self.first_code[bits])?).ok()?;
        let at = self.first_symbol[bits] + above;
        (at < self.first_symbol[bits + 1]).then(|| self.symbols[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Summary {
        let mut summary = Summary::default();
        decoder.decode(block, &mut summary).unwrap();
        summary
    }

    #[test]
    fn literal_status_is_read_and_then_known_by_index() {
        let mut decoder = Decoder::new();
        let block = [b"\x88\x40\x0bgrpc-status\x010\x40\x0cgrpc-message\x00".as_slice()].concat();
        let first = read(&mut decoder, &block);
        assert_eq!(
            first,
            Summary {
                http: Some(200),
                grpc: Some(0),
                message: Some(String::new())
            }
        );
        let second = read(&mut decoder, &[0xbf]);
        assert_eq!(second.grpc, Some(0));
        let third = read(&mut decoder, &[0xbe]);
        assert_eq!(third.message.as_deref(), Some(""));
    }

    #[test]
    fn huffman_text_of_the_rfc_is_read() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(Huffman::new().decode(&coded).unwrap(), b"www.example.com");
    }

    #[test]
    fn old_entries_leave_the_table() {
        let mut decoder = Decoder::new();
        read(&mut decoder, b"\x40\x0bgrpc-status\x017");
        let filler = [b"\x40\x01x\x7f\xc9\x1e".as_slice(), &[b'y'; 4040]].concat();
        read(&mut decoder, &filler);
        assert_eq!(decoder.table.len(), 1);
        let mut summary = Summary::default();
        assert_eq!(
            decoder.decode(&[0xbf], &mut summary),
            Err(HpackError::Range { value: 63 })
        );
    }

    #[test]
    fn cut_blocks_are_refused() {
        let block = b"\x40\x0bgrpc-status\x010";
        for end in 1..block.len() {
            let mut summary = Summary::default();
            assert_eq!(
                Decoder::new().decode(&block[..end], &mut summary),
                Err(HpackError::Short),
                "cut at {end}"
            );
        }
    }
}
