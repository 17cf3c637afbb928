//! Numbers of few bits, one behind the other, the low bits first.
//!
//! Eight numbers end where a byte ends, whatever their width is. So they are written and read in
//! groups of eight, by code that is made for each width: where each number's bits go is settled
//! when it is compiled, and no branch is left.

/// Numbers that are written together.
const GROUP: usize = 8;

/// Calls what is made for a width from 1 to 64.
macro_rules! by_width {
    ($width:expr, $call:ident, $given:tt, $($one:literal)*) => {
        match $width {
            $($one => $call::<$one> $given,)*
            width => panic!("a number has 1 to 64 bits, not {width}"),
        }
    };
    ($width:expr, $call:ident $given:tt) => {
        by_width!(
            $width, $call, $given,
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61
            62 63 64
        )
    };
}

/// Bits that a number needs.
pub(crate) fn width_of(value: u64) -> u8 {
    u8::try_from(64 - value.leading_zeros()).expect("a word has 64 bits")
}

/// Bytes that so many numbers of so many bits take.
pub(crate) fn packed_bytes(count: usize, width: u8) -> usize {
    (count * usize::from(width)).div_ceil(8)
}

/// Writes how far each value is above the least, in so many bits, of which it has no more.
pub(crate) fn pack(values: &[i64], least: i64, width: u8, out: &mut Vec<u8>) {
    if width > 0 {
        by_width!(width, pack_all(values, least, out));
    }
}

fn pack_all<const WIDTH: usize>(values: &[i64], least: i64, out: &mut Vec<u8>) {
    let bytes = (values.len() * WIDTH).div_ceil(8);
    let start = out.len();
    out.reserve(bytes + WIDTH);
    let (groups, rest) = values.as_chunks::<GROUP>();
    for group in groups {
        out.extend_from_slice(&pack_group::<WIDTH>(group, least)[..WIDTH]);
    }
    if !rest.is_empty() {
        let mut last = [least; GROUP];
        last[..rest.len()].copy_from_slice(rest);
        out.extend_from_slice(&pack_group::<WIDTH>(&last, least)[..WIDTH]);
        out.truncate(start + bytes);
    }
}

#[inline]
fn pack_group<const WIDTH: usize>(group: &[i64; GROUP], least: i64) -> [u8; 64] {
    let mut words = [0_u64; GROUP];
    for (at, value) in group.iter().enumerate() {
        let value = value.wrapping_sub(least).cast_unsigned();
        let (word, shift) = (at * WIDTH / 64, at * WIDTH % 64);
        words[word] |= value << shift;
        if shift + WIDTH > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    let mut bytes = [0; 64];
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    bytes
}

/// So many numbers of so many bits; `None` if the bytes are too few.
pub(crate) fn unpack(bytes: &[u8], count: usize, width: u8) -> Option<Vec<u64>> {
    if width > 64 || bytes.len() != packed_bytes(count, width) {
        return None;
    }
    let mut values = vec![0; count];
    if width > 0 {
        by_width!(width, unpack_all(bytes, &mut values));
    }
    Some(values)
}

fn unpack_all<const WIDTH: usize>(bytes: &[u8], values: &mut [u64]) {
    let (groups, rest) = values.as_chunks_mut::<GROUP>();
    let mut pieces = bytes.chunks(WIDTH);
    for (group, piece) in groups.iter_mut().zip(&mut pieces) {
        let mut padded = [0; 64];
        padded[..WIDTH].copy_from_slice(&piece[..WIDTH]);
        *group = unpack_group::<WIDTH>(&padded);
    }
    if let Some(piece) = pieces.next() {
        let mut padded = [0; 64];
        padded[..piece.len()].copy_from_slice(piece);
        let last = unpack_group::<WIDTH>(&padded);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[inline]
fn unpack_group<const WIDTH: usize>(bytes: &[u8; 64]) -> [u64; GROUP] {
    let mask = u64::MAX >> (64 - WIDTH);
    let (words, _) = bytes.as_chunks::<8>();
    let word = |at: usize| u64::from_le_bytes(words[at]);
    std::array::from_fn(|at| {
        let (place, shift) = (at * WIDTH / 64, at * WIDTH % 64);
        let mut value = word(place) >> shift;
        if shift + WIDTH > 64 {
            value |= word(place + 1) << (64 - shift);
        }
        value & mask
    })
}
