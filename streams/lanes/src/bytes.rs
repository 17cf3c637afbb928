//! BYTES are kept as text: each byte is the letter of its number, U+0000 to U+00FF.
//!
//! So they are equal, ordered, keys and saved as text is, without a lane of their own: UTF-8 keeps
//! the order of numbers. A byte of 128 or more takes two. Outside they are base64, as in Flink.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// Bytes as letters.
#[must_use]
pub fn letters_of(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Letters as bytes.
///
/// # Panics
///
/// If a letter is no byte: kinds are settled before values flow.
#[must_use]
pub fn bytes_of(letters: &str) -> Vec<u8> {
    let byte = |letter| u8::try_from(letter).expect("a column of BYTES has letters of bytes");
    letters.chars().map(byte).collect()
}

/// As decoders that others wrote are: bits that are left over in the last digit say nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Bytes, given as letters, in base64.
pub fn write_base64(letters: &str, out: &mut String) {
    BASE64.encode_string(bytes_of(letters), out);
}

/// Base64 as bytes, given as letters; `None` of anything else.
#[must_use]
pub fn parse_base64(text: &str) -> Option<String> {
    let bytes = BASE64.decode(text).ok()?;
    Some(letters_of(&bytes))
}

/// Pairs of hexadecimal digits as bytes, given as letters.
#[must_use]
pub fn parse_hex(text: &str) -> Option<String> {
    let pairs = text.as_bytes().chunks(2).map(|pair| {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        u8::try_from(digit(0)? << 4 | digit(1)?).ok()
    });
    pairs
        .collect::<Option<Vec<u8>>>()
        .map(|bytes| letters_of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_one_of_rfc_4648() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"\x00\xff\xfb\xef\xbe", "AP/7774="),
        ] {
            let mut out = String::new();
            write_base64(&letters_of(bytes), &mut out);
            assert_eq!(out, text);
            assert_eq!(
                parse_base64(text).map(|it| bytes_of(&it)),
                Some(bytes.to_vec())
            );
        }
        for wrong in [
            "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9 ", "Zm9v\n", "Zm9-", "=m9v", "Z=9v",
        ] {
            assert_eq!(parse_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn letters_are_ordered_as_bytes_are() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes_of(&letters_of(&all)), all);
        for pair in all.windows(2) {
            assert!(letters_of(&pair[..1]) < letters_of(&pair[1..]));
        }
        assert_eq!(
            parse_hex("00fFa0").map(|it| bytes_of(&it)),
            Some(vec![0, 255, 160])
        );
        assert_eq!(parse_hex("0"), None);
        assert_eq!(parse_hex("0g"), None);
        assert_eq!(parse_hex(""), Some(String::new()));
    }
}
