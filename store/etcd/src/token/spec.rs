//! The text of `--auth-token`: `simple`, or `jwt` and its options.

use std::io;
use std::time::Duration;

use super::{JwtConfig, TokenConfig};

/// How long a signed token is good, if nothing is said.
const LIFETIME: Duration = Duration::from_secs(300);

/// Why tokens cannot be given as asked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is none of ours.
    #[error(
        "auth token `{text}` is not understood: say simple, or jwt,sign-method=RS256,priv-key=FILE,pub-key=FILE,ttl=5m"
    )]
    Text {
        /// The part that was not understood.
        text: String,
    },
    /// A file of keys could not be read.
    #[error("read key file {file}")]
    File {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The method does not exist.
    #[error(
        "sign-method `{method}` does not exist: use RS, PS, ES, HS with 256, 384 or 512, or EdDSA"
    )]
    Method {
        /// Which.
        method: String,
        /// Why.
        source: jsonwebtoken::errors::Error,
    },
    /// The private key cannot be used.
    #[error("the private key does not fit the sign-method")]
    PrivateKey {
        /// Why.
        source: jsonwebtoken::errors::Error,
    },
    /// The public key cannot be used.
    #[error("the public key does not fit the sign-method")]
    PublicKey {
        /// Why.
        source: jsonwebtoken::errors::Error,
    },
    /// There is no key to check tokens with.
    #[error("signed tokens need priv-key, or pub-key to check them only")]
    NoKey,
}

impl TokenConfig {
    /// Reads the flag's text; `read` reads the files that it names.
    ///
    /// # Errors
    ///
    /// If the text is not understood or a file cannot be read.
    pub fn parse(
        text: &str,
        read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, TokenError> {
        let mut parts = text.split(',');
        match parts.next() {
            Some("simple" | "") if parts.next().is_none() => Ok(Self::default()),
            Some("jwt") => jwt(parts, read).map(Self::Jwt),
            _ => Err(not_understood(text)),
        }
    }
}

fn jwt<'a>(
    parts: impl Iterator<Item = &'a str>,
    read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
) -> Result<JwtConfig, TokenError> {
    let mut config = JwtConfig {
        method: String::new(),
        public_key: None,
        private_key: None,
        lifetime: LIFETIME,
    };
    let mut open = |file: &str| {
        read(file).map_err(|source| TokenError::File {
            file: file.to_owned(),
            source,
        })
    };
    for part in parts {
        match part.split_once('=') {
            Some(("sign-method", method)) => method.clone_into(&mut config.method),
            Some(("pub-key", file)) => config.public_key = Some(open(file)?),
            Some(("priv-key", file)) => config.private_key = Some(open(file)?),
            Some(("ttl", text)) => {
                config.lifetime = duration(text).ok_or_else(|| not_understood(part))?;
            }
            Some(_) | None => return Err(not_understood(part)),
        }
    }
    Ok(config)
}

fn not_understood(text: &str) -> TokenError {
    TokenError::Text {
        text: text.to_owned(),
    }
}

/// Reads durations as etcd's flags have them: `300s`, `5m`, `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit())?;
        let count: u32 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|it: char| it.is_ascii_digit());
        let (unit, next) = rest.split_at(length.unwrap_or(rest.len()));
        let one = match unit {
            "h" => Duration::from_secs(3_600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(count)?)?;
        rest = next;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_flags_write_them() {
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1_500)));
        for bad in ["", "5", "m", "0s", "5x", "-5m"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_flag_names_files_and_what_is_not_understood_is_said() {
        let mut read = |file: &str| match file {
            "there" => Ok(b"secret".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let config = TokenConfig::parse("jwt,sign-method=HS256,priv-key=there,ttl=1m", &mut read);
        let TokenConfig::Jwt(config) = config.unwrap() else {
            unreachable!("the text says jwt")
        };
        assert_eq!(config.private_key.as_deref(), Some(&b"secret"[..]));
        assert_eq!(config.lifetime, Duration::from_secs(60));
        let error = TokenConfig::parse("jwt,pub-key=gone", &mut read).unwrap_err();
        assert_eq!(error.to_string(), "read key file gone");
        for bad in ["jwt,ttl=no", "jwt,sign-method", "bearer", "simple,ttl=1m"] {
            let error = TokenConfig::parse(bad, &mut read).unwrap_err();
            assert!(matches!(error, TokenError::Text { .. }), "{bad}: {error}");
        }
    }
}
