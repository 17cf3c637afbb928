//! Signed tokens: who it is, under which revision of the user table, until when.
//!
//! What would surprise: the wall clock counts here, for the token's end must mean the same to
//! all who check it. A node with only a public key checks tokens and gives none.

use std::fmt;
use std::time::Duration;

use holm_kv::command::Caller;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation, get_current_timestamp,
};
use serde::{Deserialize, Serialize};

use super::TokenError;
use crate::status::{Code, Status};

/// How tokens are signed, with keys as PEM, or as they are for the HS methods.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// `RS256` to `RS512`, `PS256` to `PS512`, `ES256`, `ES384`, `HS256` to `HS512`, `EdDSA`.
    pub method: String,
    /// What tokens are checked with; may be left out where the private key tells it.
    pub public_key: Option<Vec<u8>>,
    /// What tokens are signed with; without it none are given.
    pub private_key: Option<Vec<u8>>,
    /// How long a token is good.
    pub lifetime: Duration,
}

impl fmt::Debug for JwtConfig {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtConfig")
            .field("method", &self.method)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    exp: u64,
}

/// Signs and checks.
pub(super) struct Jwt {
    algorithm: Algorithm,
    signing: Option<EncodingKey>,
    checking: DecodingKey,
    validation: Validation,
    lifetime: Duration,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Jwt {
    pub(super) fn new(config: &JwtConfig) -> Result<Self, TokenError> {
        let method = &config.method;
        let algorithm: Algorithm = method.parse().map_err(|source| TokenError::Method {
            method: method.clone(),
            source,
        })?;
        let family = algorithm.family();
        let signing = config.private_key.as_deref();
        let signing = signing.map(|key| signing_key(family, key)).transpose();
        let signing = signing.map_err(|source| TokenError::PrivateKey { source })?;
        let checking = checking_key(config, algorithm, signing.as_ref())?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = 0;
        // At its end a token is over, not one second later.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_aud = false;
        Ok(Self {
            algorithm,
            signing,
            checking,
            validation,
            lifetime: config.lifetime,
        })
    }

    pub(super) fn sign(&self, caller: &Caller) -> Result<String, Status> {
        let Some(key) = &self.signing else {
            return Err(Status::new(
                Code::Unknown,
                "auth: token signing attempted with verify-only key",
            ));
        };
        let claims = Claims {
            username: caller.user.clone(),
            revision: caller.auth_revision,
            exp: get_current_timestamp().saturating_add(self.lifetime.as_secs()),
        };
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key)
            .map_err(|error| Status::new(Code::Internal, format!("sign a token: {error}")))
    }

    pub(super) fn read(&self, token: &str) -> Option<Caller> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation).ok()?;
        Some(Caller {
            user: data.claims.username,
            auth_revision: data.claims.revision,
        })
    }
}

fn signing_key(
    family: AlgorithmFamily,
    key: &[u8],
) -> Result<EncodingKey, jsonwebtoken::errors::Error> {
    match family {
        AlgorithmFamily::Hmac => Ok(EncodingKey::from_secret(key)),
        AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(key),
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(key),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(key),
    }
}

/// The public key, or what the private key tells of it; for a shared secret that is the secret.
fn checking_key(
    config: &JwtConfig,
    algorithm: Algorithm,
    signing: Option<&EncodingKey>,
) -> Result<DecodingKey, TokenError> {
    let public = config.public_key.as_deref();
    let key = match (algorithm.family(), public, signing) {
        (AlgorithmFamily::Hmac, ..) => match &config.private_key {
            Some(secret) => Ok(DecodingKey::from_secret(secret)),
            None => return Err(TokenError::NoKey),
        },
        (AlgorithmFamily::Rsa, Some(key), _) => DecodingKey::from_rsa_pem(key),
        (AlgorithmFamily::Ec, Some(key), _) => DecodingKey::from_ec_pem(key),
        (AlgorithmFamily::Ed, Some(key), _) => DecodingKey::from_ed_pem(key),
        (_, None, Some(signing)) => Jwk::from_encoding_key(signing, algorithm)
            .and_then(|shown| DecodingKey::from_jwk(&shown)),
        (_, None, None) => return Err(TokenError::NoKey),
    };
    key.map_err(|source| TokenError::PublicKey { source })
}
