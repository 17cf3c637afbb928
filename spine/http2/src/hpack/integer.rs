//! Integers with a prefix (RFC 7541, section 5.1).

use bytes::{BufMut as _, BytesMut};

use super::HpackError;

/// The largest that is read: nothing here is as long.
const MAX: usize = 1 << 24;

/// Reads an integer whose first bits share the byte at `at`; moves `at` behind it.
pub(super) fn read(block: &[u8], at: &mut usize, prefix: u32) -> Result<usize, HpackError> {
    let full = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at).ok_or(HpackError)?) & full;
    *at += 1;
    if value < full {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let next = *block.get(*at).ok_or(HpackError)?;
        *at += 1;
        value += usize::from(next & 0x7f) << shift;
        if value > MAX {
            return Err(HpackError);
        }
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HpackError)
}

/// Writes an integer; `mark` are the bits above its prefix.
pub(super) fn write(out: &mut BytesMut, value: usize, prefix: u32, mark: u8) {
    let full = (1_usize << prefix) - 1;
    if value < full {
        out.put_u8(mark | low(value));
        return;
    }
    out.put_u8(mark | low(full));
    let mut rest = value - full;
    while rest >= 128 {
        out.put_u8(0x80 | low(rest & 0x7f));
        rest >>= 7;
    }
    out.put_u8(low(rest));
}

fn low(value: usize) -> u8 {
    u8::try_from(value).expect("it was cut to fewer than eight bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: usize, prefix: u32) -> BytesMut {
        let mut out = BytesMut::new();
        write(&mut out, value, prefix, 0);
        out
    }

    #[test]
    fn the_examples_of_the_standard_read_and_write() {
        // RFC 7541, C.1.1 to C.1.3.
        for (bytes, prefix, value) in [
            (&[0b1010][..], 5, 10),
            (&[0b11111, 0b1001_1010, 0b1010], 5, 1337),
            (&[0b10_1010], 8, 42),
        ] {
            let mut at = 0;
            assert_eq!(read(bytes, &mut at, prefix), Ok(value));
            assert_eq!(at, bytes.len());
            assert_eq!(written(value, prefix), bytes);
        }
    }

    #[test]
    fn what_is_too_long_or_cut_off_is_refused() {
        for bytes in [
            &[][..],
            &[0x1f],
            &[0x1f, 0x80],
            &[0x1f, 0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x1f, 0x80, 0x80, 0x80, 0x80, 0x00],
        ] {
            assert_eq!(read(bytes, &mut 0, 5), Err(HpackError));
        }
    }
}
