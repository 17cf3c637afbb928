//! Numbers of few bits, one behind the other, the low bits first.

/// Bits that the largest of these needs.
pub(crate) fn width_of(values: impl Iterator<Item = u64>) -> u8 {
    let all = values.fold(0, |all, value| all | value);
    u8::try_from(64 - all.leading_zeros()).expect("a word has 64 bits")
}

/// Bytes that so many numbers of so many bits take.
pub(crate) fn packed_bytes(count: usize, width: u8) -> usize {
    (count * usize::from(width)).div_ceil(8)
}

/// Writes numbers of so many bits each, of which they have no more.
pub(crate) fn pack(values: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    let width = u32::from(width);
    if width == 0 {
        return;
    }
    let mut held = 0_u64;
    let mut bits = 0_u32;
    for value in values {
        held |= value << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&held.to_le_bytes());
            bits -= 64;
            held = if bits == 0 {
                0
            } else {
                value >> (width - bits)
            };
        }
    }
    let rest = usize::try_from(bits.div_ceil(8)).expect("eight at most");
    out.extend_from_slice(&held.to_le_bytes()[..rest]);
}

/// So many numbers of so many bits; `None` if the bytes are too few.
pub(crate) fn unpack(bytes: &[u8], count: usize, width: u8) -> Option<Vec<u64>> {
    if width > 64 || bytes.len() != packed_bytes(count, width) {
        return None;
    }
    let mask = if width == 64 {
        u64::MAX
    } else {
        (1 << width) - 1
    };
    // A word is read at each value's first byte, so that there must be some behind the last.
    let mut padded = Vec::with_capacity(bytes.len() + 16);
    padded.extend_from_slice(bytes);
    padded.resize(bytes.len() + 16, 0);
    let width = usize::from(width);
    let value = |at: usize| {
        let place = at * width;
        let (byte, shift) = (place / 8, place % 8);
        let word = padded[byte..].first_chunk().expect("it was padded");
        let mut value = u64::from_le_bytes(*word) >> shift;
        if shift + width > 64 {
            value |= u64::from(padded[byte + 8]) << (64 - shift);
        }
        value & mask
    };
    Some((0..count).map(value).collect())
}
