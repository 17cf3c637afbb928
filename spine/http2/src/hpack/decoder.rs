//! Reading header blocks, and the table of what was said before.
//!
//! What would surprise: a list that is too long is read to its end all the same, for later
//! blocks build on the table, but nothing of it is kept.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{FIELD_OVERHEAD, HpackError, fixed, huffman, integer};

/// A name and its value. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name, in lower case; pseudo-fields begin with a colon.
    pub name: Bytes,
    /// The value.
    pub value: Bytes,
}

impl Field {
    fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + FIELD_OVERHEAD
    }
}

/// What a block came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All fields were given.
    Whole,
    /// They were more than allowed; only the first were given.
    TooLarge,
}

/// The other side's table, as we know it: one for each connection, told every block in order.
#[derive(Debug)]
pub struct Decoder {
    /// Newest first.
    entries: VecDeque<Field>,
    bytes: usize,
    /// What the other side said that it uses.
    bytes_max: usize,
    /// What we allow.
    bytes_allowed: usize,
    /// Rises with each change of the table.
    generation: u64,
    text: Vec<u8>,
}

impl Decoder {
    /// An empty table of `bytes_allowed` at most.
    #[must_use]
    pub const fn new(bytes_allowed: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max: bytes_allowed,
            bytes_allowed,
            generation: 0,
            text: Vec::new(),
        }
    }

    /// Rises with each change of the table: the same block means the same as long as it stays.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Reads a whole block, of `list_max` bytes of fields at most.
    ///
    /// # Errors
    ///
    /// If the block breaks the rules; the table may be half changed, and is of no more use.
    pub fn decode(
        &mut self,
        block: &[u8],
        list_max: usize,
        mut each: impl FnMut(Field),
    ) -> Result<Outcome, HpackError> {
        let (mut at, mut list, mut has_fields) = (0, 0_usize, false);
        while let Some(first) = block.get(at) {
            if first & 0xe0 == 0x20 {
                // RFC 7541, section 4.2: only at the beginning of a block.
                let bytes = integer::read(block, &mut at, 5)?;
                if has_fields || bytes > self.bytes_allowed {
                    return Err(HpackError);
                }
                self.resize(bytes);
                continue;
            }
            has_fields = true;
            let field = self.field(block, &mut at, *first)?;
            list = list.saturating_add(field.bytes());
            if list <= list_max {
                each(field);
            }
        }
        Ok(if list <= list_max {
            Outcome::Whole
        } else {
            Outcome::TooLarge
        })
    }

    fn field(&mut self, block: &[u8], at: &mut usize, first: u8) -> Result<Field, HpackError> {
        if first & 0x80 != 0 {
            let index = integer::read(block, at, 7)?;
            return self.lookup(index);
        }
        let is_kept = first & 0x40 != 0;
        let index = integer::read(block, at, if is_kept { 6 } else { 4 })?;
        let name = if index == 0 {
            self.string(block, at)?
        } else {
            self.lookup(index)?.name
        };
        let value = self.string(block, at)?;
        let field = Field { name, value };
        if is_kept {
            self.insert(field.clone());
        }
        Ok(field)
    }

    fn lookup(&self, index: usize) -> Result<Field, HpackError> {
        let index = index.checked_sub(1).ok_or(HpackError)?;
        if let Some((name, value)) = fixed::FIELDS.get(index) {
            return Ok(Field {
                name: Bytes::from_static(name.as_bytes()),
                value: Bytes::from_static(value.as_bytes()),
            });
        }
        let place = index - fixed::FIELDS.len();
        self.entries.get(place).cloned().ok_or(HpackError)
    }

    /// A string (RFC 7541, section 5.2).
    fn string(&mut self, block: &[u8], at: &mut usize) -> Result<Bytes, HpackError> {
        let is_coded = block.get(*at).ok_or(HpackError)? & 0x80 != 0;
        let length = integer::read(block, at, 7)?;
        let end = at.checked_add(length).ok_or(HpackError)?;
        let text = block.get(*at..end).ok_or(HpackError)?;
        *at = end;
        if !is_coded {
            return Ok(Bytes::copy_from_slice(text));
        }
        self.text.clear();
        // The shortest code has five bits.
        huffman::decode(text, text.len() * 8 / 5, &mut self.text)?;
        Ok(Bytes::copy_from_slice(&self.text))
    }

    fn insert(&mut self, field: Field) {
        self.generation += 1;
        let bytes = field.bytes();
        self.shrink(self.bytes_max.saturating_sub(bytes));
        if bytes <= self.bytes_max {
            self.bytes += bytes;
            self.entries.push_front(field);
        }
    }

    fn resize(&mut self, bytes: usize) {
        self.generation += 1;
        self.bytes_max = bytes;
        self.shrink(bytes);
    }

    /// Lets the oldest go until no more than `bytes` are left.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let oldest = self.entries.pop_back().expect("bytes are of entries");
            self.bytes -= oldest.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn unhex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let value = |it: u8| u8::try_from(char::from(it).to_digit(16).unwrap()).unwrap();
        let pairs = digits.chunks(2);
        pairs.map(|it| value(it[0]) << 4 | value(it[1])).collect()
    }

    fn expect(decoder: &mut Decoder, block: &str, fields: Pairs<'_>, bytes: usize) {
        let mut found = Vec::new();
        let outcome = decoder.decode(&unhex(block), 1 << 16, |it| found.push(it));
        assert_eq!(outcome, Ok(Outcome::Whole));
        let expected: Vec<_> = fields
            .iter()
            .map(|(name, value)| Field {
                name: Bytes::copy_from_slice(name.as_bytes()),
                value: Bytes::copy_from_slice(value.as_bytes()),
            })
            .collect();
        assert_eq!(found, expected);
        assert_eq!(decoder.bytes, bytes);
    }

    const FIRST: Pairs<'_> = &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
    ];

    const SECOND: Pairs<'_> = &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ];

    const THIRD: Pairs<'_> = &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ];

    #[test]
    fn single_fields_of_the_standard() {
        // RFC 7541, C.2.1 to C.2.4.
        let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
        let mut decoder = Decoder::new(4096);
        let fields = [("custom-key", "custom-header")];
        expect(&mut decoder, custom, &fields, 55);
        let path = "040c 2f73 616d 706c 652f 7061 7468";
        expect(
            &mut Decoder::new(4096),
            path,
            &[(":path", "/sample/path")],
            0,
        );
        let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
        expect(&mut Decoder::new(4096), never, &[("password", "secret")], 0);
        expect(&mut Decoder::new(4096), "82", &[(":method", "GET")], 0);
    }

    #[test]
    fn requests_of_the_standard_plain() {
        // RFC 7541, C.3.1 to C.3.3.
        let mut decoder = Decoder::new(4096);
        let first = "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d";
        expect(&mut decoder, first, FIRST, 57);
        expect(
            &mut decoder,
            "8286 84be 5808 6e6f 2d63 6163 6865",
            SECOND,
            110,
        );
        let third = "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65";
        expect(&mut decoder, third, THIRD, 164);
    }

    #[test]
    fn requests_of_the_standard_in_huffmans_code() {
        // RFC 7541, C.4.1 to C.4.3.
        let mut decoder = Decoder::new(4096);
        let first = "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff";
        expect(&mut decoder, first, FIRST, 57);
        expect(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf", SECOND, 110);
        let third = "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf";
        expect(&mut decoder, third, THIRD, 164);
    }

    const DATES: [&str; 2] = [
        "Mon, 21 Oct 2013 20:13:21 GMT",
        "Mon, 21 Oct 2013 20:13:22 GMT",
    ];
    const LOCATION: (&str, &str) = ("location", "https://www.example.com");
    const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";

    /// What the examples of C.5 and C.6 say, with the table's size behind each.
    fn expect_responses(blocks: [&str; 3]) {
        let mut decoder = Decoder::new(256);
        let common = [("cache-control", "private"), ("date", DATES[0]), LOCATION];
        let first = [&[(":status", "302")][..], &common].concat();
        expect(&mut decoder, blocks[0], &first, 222);
        let second = [&[(":status", "307")][..], &common].concat();
        expect(&mut decoder, blocks[1], &second, 222);
        let third = [
            (":status", "200"),
            ("cache-control", "private"),
            ("date", DATES[1]),
            LOCATION,
            ("content-encoding", "gzip"),
            ("set-cookie", COOKIE),
        ];
        expect(&mut decoder, blocks[2], &third, 215);
    }

    #[test]
    fn responses_of_the_standard_plain_with_eviction() {
        // RFC 7541, C.5.1 to C.5.3.
        expect_responses([
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ]);
    }

    #[test]
    fn responses_of_the_standard_in_huffmans_code_with_eviction() {
        // RFC 7541, C.6.1 to C.6.3.
        expect_responses([
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ]);
    }

    #[test]
    fn the_table_keeps_to_its_bound() {
        let mut decoder = Decoder::new(256);
        for count in 0..1_000_u16 {
            let name = alloc::format!("name-{count}");
            let mut block = alloc::vec![0x40, u8::try_from(name.len()).unwrap()];
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(&[1, b'v']);
            decoder.decode(&block, 1 << 16, drop).unwrap();
            assert!(decoder.bytes <= 256 && decoder.entries.len() <= 256 / 32);
        }
        let large = [&[0x40, 1, b'n', 0x7f, 0xff, 0x01][..], &[b'v'; 382]].concat();
        decoder.decode(&large, 1 << 16, drop).unwrap();
        assert_eq!((decoder.bytes, decoder.entries.len()), (0, 0));
    }

    #[test]
    fn a_list_that_is_too_long_is_read_and_not_kept() {
        let mut decoder = Decoder::new(4096);
        let entry = [&[0x40, 1, b'n', 0x7f, 0x81, 0x1e][..], &[b'v'; 3_968]].concat();
        decoder.decode(&entry, 1 << 16, drop).unwrap();
        let (mut found, bomb) = (0, [0xbe; 60_000]);
        let outcome = decoder.decode(&bomb, 1 << 16, |_| found += 1);
        assert_eq!((outcome, found), (Ok(Outcome::TooLarge), 16));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            "80",             // index 0
            "be",             // an entry that is not there
            "3fe21f",         // a table of 4097 bytes
            "8220",           // a new size behind a field
            "40",             // nothing follows
            "4001 61",        // no value
            "4005 61",        // a name cut off
            "0001 6181 00",   // wrong padding
            "ff ff ff ff ff", // an endless index
        ] {
            let read = Decoder::new(4096).decode(&unhex(bad), 1 << 16, drop);
            assert_eq!(read, Err(HpackError), "{bad}");
        }
    }

    #[test]
    fn noise_never_panics_and_stays_within_bounds() {
        arbtest::arbtest(|source| {
            let mut decoder = Decoder::new(512);
            for _ in 0..4 {
                let block: Vec<u8> = source.arbitrary()?;
                let mut list = 0;
                let read = decoder.decode(&block, 256, |it| list += it.bytes());
                assert!(list <= 256 && decoder.bytes <= 512);
                if read.is_err() {
                    break;
                }
            }
            Ok(())
        });
    }
}
