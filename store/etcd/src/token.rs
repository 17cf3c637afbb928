//! Tokens: what a login gives, and what a request shows instead of a password.
//!
//! Two kinds, as `--auth-token` says: `simple` ones are random, live in this node's memory and
//! are forgotten when it stops; `jwt` ones are signed and hold what they say.

mod jwt;
mod simple;
mod spec;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holm_base::{Op, Time};
use holm_kv::command::Caller;

use crate::errors;
use crate::status::{Code, Status};

pub use jwt::JwtConfig;
pub use spec::TokenError;

use jwt::Jwt;
use simple::SimpleTokens;

/// Which tokens a node gives and takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// Random ones.
    Simple {
        /// How long one lives that nobody uses.
        lifetime: Duration,
    },
    /// Signed ones.
    Jwt(JwtConfig),
}

/// Random tokens of etcd's lifetime.
impl Default for TokenConfig {
    fn default() -> Self {
        Self::Simple {
            lifetime: Duration::from_secs(300),
        }
    }
}

/// The tokens that are in force.
#[derive(Debug)]
pub struct Tokens(Kind);

#[derive(Debug)]
enum Kind {
    Simple(Mutex<SimpleTokens>),
    Jwt(Box<Jwt>),
}

impl Tokens {
    /// Tokens of the kind that was asked for.
    ///
    /// # Errors
    ///
    /// If a key cannot be read or does not fit the method.
    pub fn new(config: &TokenConfig) -> Result<Self, TokenError> {
        Ok(Self(match config {
            TokenConfig::Simple { lifetime } => {
                Kind::Simple(Mutex::new(SimpleTokens::new(*lifetime)))
            }
            TokenConfig::Jwt(config) => Kind::Jwt(Box::new(Jwt::new(config)?)),
        }))
    }

    /// Gives a token to a user whose password was right; `password` is its hash.
    ///
    /// # Errors
    ///
    /// If this node can check tokens but not sign them, or has no random bytes.
    pub(crate) fn give(
        &self,
        caller: &Caller,
        password: &str,
        (now, op): (Time, Op),
    ) -> Result<String, Status> {
        match &self.0 {
            Kind::Simple(tokens) => lock(tokens)
                .give((&caller.user, password), now, op)
                .map_err(|error| Status::new(Code::Internal, error.to_string())),
            Kind::Jwt(jwt) => jwt.sign(caller),
        }
    }

    /// Whom a token names. A simple one says nothing of the state of the user table, and is
    /// good for the one that is in force, `auth_revision`, as long as `is_password` says that
    /// the user's hash is the one that it was given for: the user may have been changed at
    /// another site.
    ///
    /// # Errors
    ///
    /// `invalid auth token` if it is unknown, expired or forged.
    pub(crate) fn caller(
        &self,
        token: &str,
        now: Time,
        auth_revision: u64,
        is_password: impl Fn(&str, &str) -> bool,
    ) -> Result<Caller, Status> {
        let caller = match &self.0 {
            Kind::Simple(tokens) => {
                let user = lock(tokens).user(token, now, is_password);
                user.map(|user| Caller {
                    user,
                    auth_revision,
                })
            }
            Kind::Jwt(jwt) => jwt.read(token),
        };
        caller.ok_or_else(errors::invalid_auth_token)
    }

    /// Forgets a user's tokens: the user is gone, or has another password. Signed tokens stay
    /// good until the user table's revision, which they hold, is compared.
    pub(crate) fn forget_user(&self, user: &str) {
        match &self.0 {
            Kind::Simple(tokens) => lock(tokens).forget_user(user),
            Kind::Jwt(_) => {}
        }
    }

    /// Forgets all tokens: users are enforced no longer.
    pub(crate) fn forget_all(&self) {
        match &self.0 {
            Kind::Simple(tokens) => lock(tokens).forget_all(),
            Kind::Jwt(_) => {}
        }
    }
}

fn lock(tokens: &Mutex<SimpleTokens>) -> std::sync::MutexGuard<'_, SimpleTokens> {
    tokens.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
