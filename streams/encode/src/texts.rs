//! Strings: as they are, or as codes into those that differ; and either squeezed by LZ4 where
//! that spares a tenth.

use std::collections::BTreeMap;

use holm_lanes::Text;

use crate::bits::{pack, packed_bytes, unpack, width_of};
use crate::decoder::{Block, DecodeError, Decoder, invalid};
use crate::encoder::{block, small};
use crate::{CODES, LZ4, RAW};

/// The most text of one lane.
const TEXT_MAX: usize = 256 << 20;
/// Less text than this is not worth a try.
const SQUEEZED_MIN: usize = 256;
/// Of more text than twice this so much is tried first.
const SAMPLE: usize = 4_096;
/// A byte of LZ4 stands for no more than this.
const SWELL: usize = 255;

/// Codes of all rows, each into the strings that differ.
struct Codes {
    codes: Vec<i64>,
    width: u8,
}

pub(crate) fn write(values: &Text, out: &mut Vec<u8>) {
    let (strings, codes) = match coded(values) {
        Some((strings, codes)) => (strings, Some(codes)),
        None => (values.iter().collect(), None),
    };
    let text: usize = strings.iter().map(|it| it.len()).sum();
    let beside = codes
        .as_ref()
        .map_or(0, |it| 4 + packed_bytes(it.codes.len(), it.width));
    let plain = strings.len() * 4 + text + beside;
    let squeezed = squeezed(&strings, text).filter(|it| spares(it.len() + beside, plain));
    let way = match (&codes, &squeezed) {
        (None, None) => (RAW, 0),
        (Some(codes), None) => (CODES, codes.width),
        (None, Some(_)) => (LZ4, 0),
        (Some(codes), Some(_)) => (LZ4, codes.width + 1),
    };
    block(way.0, way.1, out, |out| {
        if codes.is_some() {
            out.extend_from_slice(&small(strings.len()));
        }
        match squeezed {
            Some(squeezed) => out.extend_from_slice(&squeezed),
            None => write_strings(&strings, out),
        }
        if let Some(Codes { codes, width }) = codes {
            pack(&codes, 0, width, out);
        }
    });
}

/// The strings that differ, in the order of their first rows; `None` if those are more than half.
fn coded(values: &Text) -> Option<(Vec<&str>, Codes)> {
    let mut places: BTreeMap<&str, i64> = BTreeMap::new();
    let mut distinct: Vec<&str> = Vec::new();
    let mut codes: Vec<i64> = Vec::with_capacity(values.len());
    for text in values.iter() {
        let next = i64::try_from(distinct.len()).expect("fewer than rows");
        let code = *places.entry(text).or_insert_with(|| {
            distinct.push(text);
            next
        });
        codes.push(code);
        if distinct.len() * 2 > values.len() {
            return None;
        }
    }
    let most = codes.iter().fold(0, |most, code| most | *code);
    let width = width_of(most.cast_unsigned());
    Some((distinct, Codes { codes, width }))
}

/// Whether the shorter one is worth its work.
const fn spares(bytes: usize, of: usize) -> bool {
    bytes * 10 <= of * 9
}

/// Lengths and LZ4 of all strings, if LZ4 makes them shorter.
fn squeezed(strings: &[&str], text: usize) -> Option<Vec<u8>> {
    if !(SQUEEZED_MIN..=TEXT_MAX).contains(&text) {
        return None;
    }
    let whole = strings.concat().into_bytes();
    let is_worth = |text: &[u8]| {
        let bytes = lz4_flex::block::compress(text);
        spares(bytes.len(), text.len()).then_some(bytes)
    };
    if whole.len() > 2 * SAMPLE {
        is_worth(&whole[..SAMPLE])?;
    }
    let bytes = is_worth(&whole)?;
    let lengths: Vec<i64> = strings
        .iter()
        .map(|it| i64::try_from(it.len()).expect("a string is in memory"))
        .collect();
    let most = lengths.iter().fold(0, |most, length| most | *length);
    let width = width_of(most.cast_unsigned());
    let mut out = vec![width];
    pack(&lengths, 0, width, &mut out);
    out.extend_from_slice(&small(bytes.len()));
    out.extend_from_slice(&bytes);
    Some(out)
}

fn write_strings(strings: &[&str], out: &mut Vec<u8>) {
    for text in strings {
        out.extend_from_slice(&small(text.len()));
        out.extend_from_slice(text.as_bytes());
    }
}

pub(crate) fn read(block: &Block<'_>, rows: usize) -> Result<Text, DecodeError> {
    let mut from = Decoder::new(block.bytes);
    let text = match (block.way, block.parameter) {
        (RAW, _) => {
            let text = read_strings(&mut from, rows)?;
            return ended(&from, text);
        }
        (LZ4, 0) => {
            let text = swollen(&mut from, rows)?;
            return ended(&from, text);
        }
        (CODES, width) => {
            let count = from.small("codes")?;
            (read_strings(&mut from, count)?, width)
        }
        (LZ4, parameter) => {
            let count = from.small("codes")?;
            // Those that differ are no more than the rows.
            if count > rows {
                return Err(invalid("count of strings"));
            }
            (swollen(&mut from, count)?, parameter - 1)
        }
        _ => return Err(invalid("way for strings")),
    };
    named(&from, text, rows)
}

fn ended(from: &Decoder<'_>, text: Text) -> Result<Text, DecodeError> {
    let is_it = from.rest().is_empty();
    is_it.then_some(text).ok_or(invalid("end of a block"))
}

/// What codes name of strings that differ.
fn named(
    from: &Decoder<'_>,
    (distinct, width): (Text, u8),
    rows: usize,
) -> Result<Text, DecodeError> {
    let codes = unpack(from.rest(), rows, width).ok_or(invalid("codes"))?;
    let mut text = Text::default();
    for code in codes {
        let place = usize::try_from(code).ok();
        let place = place.filter(|place| *place < distinct.len());
        let string = distinct.at(place.ok_or(invalid("code"))?);
        // A few bytes may name a long string a million times.
        if text.size() + string.len() > TEXT_MAX {
            return Err(invalid("amount of text"));
        }
        text.push(string);
    }
    Ok(text)
}

fn read_strings(from: &mut Decoder<'_>, count: usize) -> Result<Text, DecodeError> {
    // Each takes four bytes at least, so that a count cannot ask for more than is there.
    if count > from.rest().len() / 4 {
        return Err(invalid("count of strings"));
    }
    let mut text = Text::default();
    for _ in 0..count {
        let length = from.small("a string")?;
        let bytes = from.take(length, "a string")?;
        text.push(std::str::from_utf8(bytes).map_err(|_utf8| invalid("string"))?);
    }
    Ok(text)
}

/// So many strings out of LZ4. What they would take is settled before any of it is taken.
fn swollen(from: &mut Decoder<'_>, count: usize) -> Result<Text, DecodeError> {
    let width = from.take(1, "a width")?[0];
    if width > 64 {
        return Err(invalid("width of lengths"));
    }
    let lengths = from.take(packed_bytes(count, width), "lengths")?;
    let lengths = unpack(lengths, count, width).ok_or(invalid("lengths"))?;
    let bytes = from.small("LZ4")?;
    let bytes = from.take(bytes, "LZ4")?;
    let whole = lengths
        .iter()
        .fold(0, |all: u64, it| all.saturating_add(*it));
    let limit = TEXT_MAX.min(bytes.len().saturating_mul(SWELL));
    let whole = usize::try_from(whole).ok().filter(|it| *it <= limit);
    let mut out = vec![0; whole.ok_or(invalid("amount of text"))?];
    let written = lz4_flex::block::decompress_into(bytes, &mut out);
    if written.ok() != Some(out.len()) {
        return Err(invalid("LZ4"));
    }
    let whole = std::str::from_utf8(&out).map_err(|_utf8| invalid("string"))?;
    let mut text = Text::default();
    for length in lengths {
        let start = text.size();
        let length = usize::try_from(length).map_err(|_large| invalid("length"))?;
        let string = whole.get(start..start + length);
        text.push(string.ok_or(invalid("string"))?);
    }
    Ok(text)
}
