//! The one-time token with which a node asks to join.
//!
//! ```text
//!   holm-join-v1.<base64url, no padding, of:>
//!     0 u64 cluster   8 [32] SHA-256 of the authority's certificate   40 [16] secret
//!    56 u64 expires, seconds since 1970   64 u8 addresses x {u8 length, host:port}
//!     .. u32 crc32c of all before
//! ```
//!
//! The secret is shown to the cluster once, over TLS to an address whose authority has the
//! fingerprint; whoever reads the token before that can join, so it expires. The checksum finds
//! a character lost in copying before anything is dialled.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use holm_base::ClusterId;
use sha2::{Digest, Sha256};

const PREFIX: &str = "holm-join-v1.";
const ADDRESSES_MAX: usize = 16;
const ADDRESS_MAX: usize = 255;

/// What a token carries.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// SHA-256 of the authority's certificate, DER.
    pub fingerprint: [u8; 32],
    /// Where to ask, as `host:port`.
    pub addresses: Vec<String>,
    /// What proves that its bearer was given it.
    pub secret: [u8; 16],
    /// When it expires, in seconds since 1970.
    pub expires: u64,
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error("join token: it does not begin with {PREFIX}")]
    Prefix,
    /// A character that no token has, or bits that no encoder leaves.
    #[error("join token: character {at} is wrong; was it copied whole?")]
    Character {
        /// Counted from 0 behind the prefix.
        at: usize,
    },
    /// It ends early, goes on too long, or has no address.
    #[error("join token: its length or an address is wrong; was it copied whole?")]
    Shape,
    /// It was changed on the way.
    #[error("join token: its checksum is wrong; was it copied whole?")]
    Checksum,
    /// It is too old.
    #[error(
        "join token: it expired {} ago by this machine's clock: make a new one with `holm site add` at a \
         member, or set the clock if it is wrong",
        span(*ago)
    )]
    Expired {
        /// How many seconds ago.
        ago: u64,
    },
    /// Its secret is not the one that was given out.
    #[error("join token: its secret is not known, or was used already")]
    Secret,
    /// The authority is not the one that made it.
    #[error("join token: the authority's certificate is not the one the token names")]
    Authority,
    /// More addresses, or longer ones, than fit.
    #[error("join token: 1 to {ADDRESSES_MAX} addresses of at most {ADDRESS_MAX} characters")]
    Addresses,
}

/// So many seconds, in words that a person takes in.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl JoinToken {
    /// The text to hand over.
    ///
    /// # Errors
    ///
    /// [`TokenError::Addresses`] if they do not fit.
    pub fn encode(&self) -> Result<String, TokenError> {
        let fits = |address: &String| !address.is_empty() && address.len() <= ADDRESS_MAX;
        let count = self.addresses.len();
        if count == 0 || count > ADDRESSES_MAX || !self.addresses.iter().all(fits) {
            return Err(TokenError::Addresses);
        }
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.cluster.value().to_le_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.expires.to_le_bytes());
        bytes.push(u8::try_from(count).expect("it was checked"));
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).expect("it was checked"));
            bytes.extend_from_slice(address.as_bytes());
        }
        let crc = holm_wire::checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(PREFIX.to_owned() + &to_base64url(&bytes))
    }

    /// Whether it may still be used at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`].
    pub const fn check_time(&self, now: u64) -> Result<(), TokenError> {
        if now >= self.expires {
            let ago = now - self.expires;
            return Err(TokenError::Expired { ago });
        }
        Ok(())
    }

    /// Whether an authority's certificate (DER) is the one it names.
    ///
    /// # Errors
    ///
    /// [`TokenError::Authority`].
    pub fn check_authority(&self, certificate: &[u8]) -> Result<(), TokenError> {
        let found: [u8; 32] = Sha256::digest(certificate).into();
        match found == self.fingerprint {
            true => Ok(()),
            false => Err(TokenError::Authority),
        }
    }

    /// Whether `shown` is its secret; takes as long whatever differs.
    ///
    /// # Errors
    ///
    /// [`TokenError::Secret`].
    pub fn check_secret(&self, shown: &[u8; 16]) -> Result<(), TokenError> {
        let pairs = self.secret.iter().zip(shown);
        match pairs.fold(0, |differs, (ours, theirs)| differs | (ours ^ theirs)) {
            0 => Ok(()),
            _ => Err(TokenError::Secret),
        }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let bytes = from_base64url(rest)?;
        let (body, crc) = bytes.split_last_chunk().ok_or(TokenError::Shape)?;
        if holm_wire::checksum(body) != u32::from_le_bytes(*crc) {
            return Err(TokenError::Checksum);
        }
        read(body).ok_or(TokenError::Shape)
    }
}

fn read(body: &[u8]) -> Option<JoinToken> {
    let (cluster, rest) = body.split_first_chunk()?;
    let (fingerprint, rest) = rest.split_first_chunk()?;
    let (secret, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let (count, mut rest) = rest.split_first()?;
    let mut addresses = Vec::new();
    for _ in 0..*count {
        let (length, tail) = rest.split_first()?;
        let (address, tail) = tail.split_at_checked(usize::from(*length))?;
        addresses.push(str::from_utf8(address).ok()?.to_owned());
        rest = tail;
    }
    let fits = (1..=ADDRESSES_MAX).contains(&addresses.len());
    (fits && rest.is_empty()).then(|| JoinToken {
        cluster: ClusterId::new(u64::from_le_bytes(*cluster)),
        fingerprint: *fingerprint,
        addresses,
        secret: *secret,
        expires: u64::from_le_bytes(*expires),
    })
}

/// The secret is not printed.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("addresses", &self.addresses)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// RFC 4648, section 5, without padding.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn to_base64url(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..=chunk.len() {
            let digit = (group >> (18 - 6 * place)) & 63;
            let digit = usize::try_from(digit).expect("six bits");
            text.push(char::from(ALPHABET[digit]));
        }
    }
    text
}

fn from_base64url(text: &str) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::new();
    let (mut group, mut bits) = (0_u32, 0_u32);
    for (at, character) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|it| *it == character);
        let digit = digit.ok_or(TokenError::Character { at })?;
        group = group << 6 | u32::try_from(digit).expect("six bits");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 0xFF).expect("eight bits"));
            group &= (1 << bits) - 1;
        }
    }
    // What an encoder leaves over is zero, so that a token has one text.
    if bits >= 6 || group != 0 {
        return Err(TokenError::Character {
            at: text.len().saturating_sub(1),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn token() -> JoinToken {
        JoinToken {
            cluster: ClusterId::new(0x0123_4567_89AB_CDEF),
            fingerprint: Sha256::digest(b"authority").into(),
            addresses: vec!["10.0.0.1:2380".to_owned(), "b.example:2380".to_owned()],
            secret: [0xA5; 16],
            expires: 1_800_000_000,
        }
    }

    #[test]
    fn a_token_survives_its_text_and_one_lost_character_is_found() {
        let text = token().encode().unwrap();
        assert!(text.starts_with("holm-join-v1."), "{text}");
        assert_eq!(text.parse(), Ok(token()));
        for at in 0..text.len() {
            let cut = format!("{}{}", &text[..at], &text[at + 1..]);
            assert!(cut.parse::<JoinToken>().is_err(), "{cut}");
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(changed.parse::<JoinToken>().is_err(), "{changed}");
        }
    }

    #[test]
    fn a_token_is_held_against_time_secret_and_authority() {
        let token = token();
        assert_eq!(token.check_time(1_799_999_999), Ok(()));
        assert_eq!(
            token.check_time(1_800_000_007),
            Err(TokenError::Expired { ago: 7 })
        );
        let late = TokenError::Expired { ago: 315_356_413 }.to_string();
        assert!(late.contains("expired 3649 days ago"), "{late}");
        assert_eq!(token.check_secret(&[0xA5; 16]), Ok(()));
        let mut wrong = [0xA5; 16];
        wrong[15] ^= 1;
        assert_eq!(token.check_secret(&wrong), Err(TokenError::Secret));
        assert_eq!(token.check_authority(b"authority"), Ok(()));
        let other = token.check_authority(b"another");
        assert_eq!(other, Err(TokenError::Authority));
    }

    #[test]
    fn addresses_have_limits_and_the_secret_is_not_printed() {
        let none = JoinToken {
            addresses: Vec::new(),
            ..token()
        };
        assert_eq!(none.encode(), Err(TokenError::Addresses));
        let many = JoinToken {
            addresses: vec!["a:1".to_owned(); ADDRESSES_MAX + 1],
            ..token()
        };
        assert_eq!(many.encode(), Err(TokenError::Addresses));
        assert!(!format!("{:?}", token()).contains("secret"));
        assert!(TokenError::Prefix.to_string().contains("holm-join-v1."));
    }

    #[test]
    fn base64url_is_that_of_the_standard() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xFB, 0xFF], "-_8"),
        ] {
            assert_eq!(to_base64url(bytes), text);
            assert_eq!(from_base64url(text).unwrap(), bytes);
        }
        assert!(from_base64url("Zh").is_err(), "bits left over");
        assert!(from_base64url("Z").is_err());
    }
}
