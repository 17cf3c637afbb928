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

pub(crate) fn pack(values: impl Iterator<Item = u64>, width: u8, out: &mut Vec<u8>) {
    let mut held = 0_u128;
    let mut bits = 0_u32;
    for value in values {
        held |= u128::from(value) << bits;
        bits += u32::from(width);
        while bits >= 8 {
            out.push(low_byte(held));
            held >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(low_byte(held));
    }
}

fn low_byte(held: u128) -> u8 {
    u8::try_from(held & 0xFF).expect("a masked byte is one")
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
    let mut values = Vec::with_capacity(count);
    let mut rest = bytes.iter();
    let (mut held, mut bits) = (0_u128, 0_u32);
    for _ in 0..count {
        while bits < u32::from(width) {
            held |= u128::from(*rest.next()?) << bits;
            bits += 8;
        }
        let value = held & u128::from(mask);
        values.push(u64::try_from(value).ok()?);
        held >>= width;
        bits -= u32::from(width);
    }
    Some(values)
}
