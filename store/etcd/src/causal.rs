//! Causal tokens in the heads and trailers of calls, as gRPC carries bytes there.
//!
//! A call that says `holm-want: context` is answered with `holm-context-bin`: what its site had
//! when it answered, so at least what the answer shows and what the call wrote. Presented with a
//! later call, at whichever site, that waits until the site has all of it.

use bytes::Bytes;
use holm_local_first::Token;

/// The field of a request's head that asks for a token, and what it says then.
pub(crate) const WANT: &str = "holm-want";
pub(crate) const CONTEXT: &str = "context";
/// The field that holds one, in heads and trailers.
pub(crate) const TOKEN: &str = "holm-context-bin";

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// As text: base64 without padding, as gRPC wants it.
#[must_use]
pub fn text(token: &Token) -> String {
    let bytes = token.encode();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let of = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 0x3f;
            text.push(char::from(
                DIGITS[usize::try_from(index).expect("six bits")],
            ));
        }
    }
    text
}

/// Reads a token, with or without padding.
#[must_use]
pub fn read(text: &[u8]) -> Option<Token> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    let padding = text.iter().rev().take_while(|it| **it == b'=').count();
    for digit in &text[..text.len() - padding] {
        let value = DIGITS.iter().position(|it| it == digit)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0x00ff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Token::decode(Bytes::from(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use holm_local_first::{Slot, Vector};

    use super::*;

    #[test]
    fn a_token_comes_back_from_its_text_with_and_without_padding() {
        for slots in 0..4 {
            let mut seen = Vector::new();
            for number in 1..=slots {
                seen.raise(Slot::new(number).expect("not 0"), 1 << (7 * number));
            }
            let token = Token {
                cluster: u64::MAX,
                keyspace: 2,
                seen,
            };
            let text = text(&token);
            assert_eq!(read(text.as_bytes()), Some(token.clone()));
            let padded = format!("{text}{}", &"==="[..(4 - text.len() % 4) % 4]);
            assert_eq!(read(padded.as_bytes()), Some(token));
        }
        for wrong in ["", "a b", "AQ", "====", "AgAA"] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
