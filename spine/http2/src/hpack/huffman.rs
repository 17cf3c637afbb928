//! The Huffman code of header strings (RFC 7541, section 5.2 and appendix B).
//!
//! What would surprise: the code is canonical, so that the lengths are all there is to know.
//! Codes of one length are neighbours in the order of their symbols, and longer codes are larger
//! numbers. A code is found by its length, which is found by comparing.

use alloc::vec::Vec;

use super::HpackError;

/// Symbols: all bytes, and the mark of the end.
const SYMBOLS: usize = 257;
/// The longest code, in bits.
const BITS_MAX: usize = 30;
const END: u16 = 256;

/// How long each symbol's code is.
#[rustfmt::skip]
const LENGTHS: [usize; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// What is made of the lengths.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: where its symbols begin, its first code, and the first 32 bits that are
    /// beyond it.
    starts: [usize; BITS_MAX + 1],
    firsts: [u32; BITS_MAX + 1],
    beyond: [u64; BITS_MAX + 1],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code = Code {
        symbols: [0; SYMBOLS],
        starts: [0; BITS_MAX + 1],
        firsts: [0; BITS_MAX + 1],
        beyond: [0; BITS_MAX + 1],
    };
    let (mut length, mut placed, mut next) = (1, 0, 0_u32);
    while length <= BITS_MAX {
        next <<= 1;
        code.starts[length] = placed;
        code.firsts[length] = next;
        let (mut symbol, mut name) = (0, 0_u16);
        while symbol < SYMBOLS {
            if LENGTHS[symbol] == length {
                code.symbols[placed] = name;
                placed += 1;
                next += 1;
            }
            symbol += 1;
            name += 1;
        }
        code.beyond[length] = (next as u64) << (32 - length);
        length += 1;
    }
    code
}

/// Appends what a coded string says, if that is no more than `bytes_max`.
pub(super) fn decode(coded: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), HpackError> {
    let (mut bits, mut count) = (0_u64, 0_usize);
    let mut rest = coded.iter();
    let end = out.len() + bytes_max;
    loop {
        while count <= 32 {
            let Some(byte) = rest.next() else {
                break;
            };
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        if count < 8 && is_padding(bits, count) {
            return Ok(());
        }
        // The next 32 bits; behind the end there are ones, of which no code is made but the end's.
        let window = if count >= 32 {
            bits >> (count - 32) & 0xffff_ffff
        } else {
            (bits << (32 - count) | 0xffff_ffff >> count) & 0xffff_ffff
        };
        let (symbol, length) = symbol(window)?;
        if length > count || out.len() == end {
            return Err(HpackError);
        }
        count -= length;
        bits &= (1 << count) - 1;
        out.push(symbol);
    }
}

/// Whether fewer than eight bits are the beginning of the end's code.
const fn is_padding(bits: u64, count: usize) -> bool {
    bits == (1 << count) - 1
}

fn symbol(window: u64) -> Result<(u8, usize), HpackError> {
    let mut length = 5;
    while window >= CODE.beyond[length] {
        length += 1;
        if length > BITS_MAX {
            return Err(HpackError);
        }
    }
    let code = u32::try_from(window >> (32 - length)).map_err(|_wide| HpackError)?;
    let offset = usize::try_from(code - CODE.firsts[length]).map_err(|_wide| HpackError)?;
    let symbol = CODE.symbols[CODE.starts[length] + offset];
    debug_assert!(symbol <= END, "there are 257 symbols");
    let symbol = u8::try_from(symbol).map_err(|_end| HpackError)?;
    Ok((symbol, length))
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    /// The code by the book: bit by bit.
    fn encode(text: &[u8]) -> Vec<u8> {
        let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
        for byte in text {
            let place = CODE.symbols.iter().position(|it| *it == u16::from(*byte));
            let place = place.unwrap();
            let length = LENGTHS[usize::from(*byte)];
            let code = CODE.firsts[length] + u32::try_from(place - CODE.starts[length]).unwrap();
            bits = bits << length | u64::from(code);
            count += length;
            while count >= 8 {
                count -= 8;
                out.push(u8::try_from(bits >> count & 0xff).unwrap());
            }
        }
        if count > 0 {
            let filled = bits << (8 - count) | ((1 << (8 - count)) - 1);
            out.push(u8::try_from(filled & 0xff).unwrap());
        }
        out
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(coded, 1 << 16, &mut out)?;
        Ok(out)
    }

    #[test]
    fn every_symbol_reads_back_alone_and_among_others() {
        for byte in 0..=255_u8 {
            for text in [vec![byte], vec![byte; 9], vec![b'a', byte, b'z', byte]] {
                assert_eq!(decoded(&encode(&text)).as_deref(), Ok(&text[..]), "{byte}");
            }
        }
    }

    #[test]
    fn the_example_of_the_standard_reads() {
        // RFC 7541, C.4.1.
        let coded = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decoded(coded).as_deref(), Ok(&b"www.example.com"[..]));
        assert_eq!(encode(b"www.example.com"), coded);
    }

    #[test]
    fn random_text_reads_back_and_noise_is_read_or_refused() {
        arbtest::arbtest(|source| {
            let text: Vec<u8> = source.arbitrary()?;
            assert_eq!(decoded(&encode(&text)).as_deref(), Ok(&text[..]));
            if let Ok(said) = decoded(&text) {
                assert_eq!(encode(&said), text, "there is one coding of a text");
            }
            Ok(())
        });
    }

    #[test]
    fn padding_that_is_none_and_the_end_itself_are_refused() {
        for bad in [&[0x00][..], &[0xff], &[0xff; 4], &[0x18], &[0xf1, 0xff]] {
            assert_eq!(decoded(bad), Err(HpackError), "{bad:?}");
        }
        assert_eq!(decoded(&[]), Ok(Vec::new()));
        // `a` and three ones.
        assert_eq!(decoded(&[0x1f]).as_deref(), Ok(&b"a"[..]));
    }

    #[test]
    fn no_more_is_written_than_is_allowed() {
        let mut out = Vec::new();
        assert_eq!(decode(&encode(b"abc"), 2, &mut out), Err(HpackError));
        assert_eq!(out.len(), 2);
        assert_eq!(decode(&encode(b"abc"), 3, &mut Vec::new()), Ok(()));
    }
}
