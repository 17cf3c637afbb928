//! A tape as bytes, so that a failure found today is replayed tomorrow.
//!
//! ```text
//!  0  8 "HOLMTAPE"           16  8 seed                   88 .. streams, by place:
//!  8  2 version = 1          24 32 SHA-256 of scenario        place u64, count u32,
//! 10  2 streams              56 32 SHA-256 of build           bytes u32, LEB128 values
//! 12  4 1 fresh, 0 normal                                end  4 crc32c of all before
//! ```
//!
//! All numbers are little-endian. Every tape has one form: places rise, values are in their
//! shortest LEB128, nothing follows the checksum.

use crate::tape::{CHOICES_MAX, Fill, Recording, STREAMS_MAX, Stream, Tape};

const MAGIC: &[u8; 8] = b"HOLMTAPE";
const VERSION: u16 = 1;
const HEADER: usize = 88;
const STREAM_HEADER: usize = 16;
const CHECKSUM: usize = 4;

/// Why bytes are no tape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapeError {
    /// It does not begin as tapes do.
    #[error("read tape: not a tape")]
    NotATape,
    /// A version that this build does not know.
    #[error("read tape: version {found}, and this build reads version {VERSION}")]
    Version {
        /// What it says.
        found: u16,
    },
    /// It ends before what it announces.
    #[error("read tape: ends early at byte {at}")]
    Short {
        /// Where it ends.
        at: usize,
    },
    /// The bytes are not those that were written.
    #[error("read tape: checksum {found:08x}, and its bytes give {expected:08x}")]
    Checksum {
        /// What it says.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
    /// The bytes are whole and say something that no tape says.
    #[error("read tape: {what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

impl Tape {
    /// The tape as bytes: everything recorded, whatever the position.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut streams: Vec<&Stream> = self.streams.iter().collect();
        streams.retain(|stream| !stream.values.is_empty());
        streams.sort_by_key(|stream| stream.place);
        let count = u16::try_from(streams.len()).expect("streams are at most 64");
        let fill: u32 = match self.fill {
            Fill::Normal => 0,
            Fill::Fresh => 1,
        };
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&fill.to_le_bytes());
        bytes.extend_from_slice(&self.seed.to_le_bytes());
        bytes.extend_from_slice(&self.scenario);
        bytes.extend_from_slice(&self.build);
        for stream in streams {
            put_stream(&mut bytes, stream);
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a tape; it stands at its first choice.
    ///
    /// # Errors
    ///
    /// As [`TapeError`] says. No bytes make it panic or take more memory than their own length
    /// times four.
    pub fn decode(bytes: &[u8]) -> Result<Self, TapeError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.array::<8>()? != *MAGIC {
            return Err(TapeError::NotATape);
        }
        let found = reader.u16()?;
        if found != VERSION {
            return Err(TapeError::Version { found });
        }
        checksum(bytes)?;
        reader.bytes = &bytes[..bytes.len() - CHECKSUM];
        let count = usize::from(reader.u16()?);
        if count > STREAMS_MAX {
            return reader.malformed("too many streams");
        }
        let fill = match reader.u32()? {
            0 => Fill::Normal,
            1 => Fill::Fresh,
            _ => return reader.malformed("unknown fill"),
        };
        let mut tape = Self::empty(reader.u64()?, fill);
        tape.recording = Recording::On;
        tape.scenario = reader.array()?;
        tape.build = reader.array()?;
        let mut left = CHOICES_MAX;
        for _ in 0..count {
            let stream = reader.stream(tape.seed, &mut left)?;
            if tape
                .streams
                .last()
                .is_some_and(|last| last.place >= stream.place)
            {
                return reader.malformed("places out of order");
            }
            tape.streams.push(stream);
        }
        if reader.at != reader.bytes.len() {
            return reader.malformed("bytes behind the last stream");
        }
        Ok(tape)
    }
}

fn checksum(bytes: &[u8]) -> Result<(), TapeError> {
    let whole = bytes.split_last_chunk::<CHECKSUM>();
    let Some((body, tail)) = whole.filter(|(body, _)| body.len() >= HEADER) else {
        return Err(TapeError::Short { at: bytes.len() });
    };
    let found = u32::from_le_bytes(*tail);
    let expected = crc32c::crc32c(body);
    if found == expected {
        Ok(())
    } else {
        Err(TapeError::Checksum { found, expected })
    }
}

fn put_stream(bytes: &mut Vec<u8>, stream: &Stream) {
    let mut values = Vec::with_capacity(stream.values.len());
    for &value in &stream.values {
        put_leb128(&mut values, value);
    }
    let count = u32::try_from(stream.values.len()).expect("choices are at most 16 M");
    let length = u32::try_from(values.len()).expect("a choice takes five bytes at most");
    bytes.extend_from_slice(&stream.place.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&values);
}

fn put_leb128(bytes: &mut Vec<u8>, mut value: u32) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

/// Takes numbers off the front of bytes that nobody vouches for.
struct Reader<'bytes> {
    bytes: &'bytes [u8],
    at: usize,
}

impl Reader<'_> {
    fn malformed<T>(&self, what: &'static str) -> Result<T, TapeError> {
        let at = self.at;
        Err(TapeError::Malformed { what, at })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TapeError> {
        let end = self.bytes.len();
        let taken = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.first_chunk());
        let taken: &[u8; N] = taken.ok_or(TapeError::Short { at: end })?;
        self.at += N;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, TapeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, TapeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, TapeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn stream(&mut self, seed: u64, left: &mut u32) -> Result<Stream, TapeError> {
        let place = self.u64()?;
        let (count, length) = (self.u32()?, self.u32()?);
        debug_assert!(self.at >= HEADER + STREAM_HEADER, "the header is behind us");
        let Some(rest) = left.checked_sub(count) else {
            return self.malformed("too many choices");
        };
        *left = rest;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length));
        let Some(end) = end.filter(|&end| end <= self.bytes.len()) else {
            return Err(TapeError::Short {
                at: self.bytes.len(),
            });
        };
        // Each value takes a byte at least, so this cannot ask for more than is there.
        if count == 0 || count > length {
            return self.malformed("a count of values that its bytes cannot hold");
        }
        let mut stream = Stream::new(seed, place);
        for _ in 0..count {
            stream.values.push(self.leb128(end)?);
        }
        if self.at != end {
            return self.malformed("bytes behind the last value of a stream");
        }
        Ok(stream)
    }

    fn leb128(&mut self, end: usize) -> Result<u32, TapeError> {
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            if self.at >= end {
                return self.malformed("a value that its stream cuts short");
            }
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return self.malformed("a value longer than it need be");
                }
                let Ok(value) = u32::try_from(value) else {
                    return self.malformed("a value beyond 32 bits");
                };
                return Ok(value);
            }
        }
        self.malformed("a value beyond 32 bits")
    }
}
