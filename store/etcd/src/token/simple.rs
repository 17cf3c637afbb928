//! Random tokens: sixteen letters, a dot, and the op at which they were given.
//!
//! What would surprise: each use moves a token's end, but not its place in the queue of those
//! to be looked at; it is moved there when its turn comes, so that a request costs a look-up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use holm_base::{Op, Time};

use crate::random::{self, NoRandom};

/// How many tokens there are at most; one more, and the oldest goes.
const TOKENS_MAX: usize = 100_000;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LENGTH: usize = 16;

/// The tokens in force. Each stands in `queue` once, and so do a few that were forgotten.
#[derive(Debug)]
pub(super) struct SimpleTokens {
    /// How long an unused token lives.
    lifetime: Duration,
    by_token: BTreeMap<String, Login>,
    queue: VecDeque<(Time, String)>,
}

#[derive(Debug)]
struct Login {
    user: String,
    /// The hash of the password that it was given for.
    password: String,
    ends: Time,
}

impl SimpleTokens {
    pub(super) const fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            by_token: BTreeMap::new(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn give(
        &mut self,
        (user, password): (&str, &str),
        now: Time,
        op: Op,
    ) -> Result<String, NoRandom> {
        self.drop_ended(now);
        while self.queue.len() >= TOKENS_MAX
            && let Some((_, oldest)) = self.queue.pop_front()
        {
            self.by_token.remove(&oldest);
        }
        let token = format!("{}.{op}", letters()?);
        let ends = now + self.lifetime;
        self.queue.push_back((ends, token.clone()));
        let login = Login {
            user: user.to_owned(),
            password: password.to_owned(),
            ends,
        };
        self.by_token.insert(token.clone(), login);
        Ok(token)
    }

    /// Whom the token names, and makes it live on; nobody if the user's password is another one
    /// by now.
    pub(super) fn user(
        &mut self,
        token: &str,
        now: Time,
        is_password: impl Fn(&str, &str) -> bool,
    ) -> Option<String> {
        let login = self.by_token.get_mut(token)?;
        if login.ends <= now || !is_password(&login.user, &login.password) {
            self.by_token.remove(token);
            return None;
        }
        login.ends = now + self.lifetime;
        Some(login.user.clone())
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::new(self.lifetime);
    }

    pub(super) fn forget_user(&mut self, user: &str) {
        self.by_token.retain(|_, login| login.user != user);
    }

    fn drop_ended(&mut self, now: Time) {
        while let Some((_, token)) = self.queue.pop_front_if(|(turn, _)| *turn <= now) {
            let Some(login) = self.by_token.get(&token) else {
                continue;
            };
            if login.ends <= now {
                self.by_token.remove(&token);
            } else {
                self.queue.push_back((login.ends, token));
            }
        }
    }
}

/// Letters drawn evenly: bytes that would favour some are drawn again.
fn letters() -> Result<String, NoRandom> {
    let mut text = String::with_capacity(LENGTH);
    while text.len() < LENGTH {
        for byte in random::bytes::<32>()? {
            let even = usize::from(byte) < LETTERS.len() * 4;
            if even && text.len() < LENGTH {
                text.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::ZERO;
    fn is_p(_user: &str, password: &str) -> bool {
        password == "p"
    }

    const LIFETIME: Duration = Duration::from_secs(300);

    #[test]
    fn a_token_is_sixteen_letters_and_an_op() {
        let token = SimpleTokens::new(LIFETIME)
            .give(("root", "p"), START, Op::new(7))
            .unwrap();
        let (letters, op) = token.split_once('.').expect("a dot");
        assert_eq!((letters.len(), op), (16, "7"));
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphabetic()));
    }

    #[test]
    fn use_keeps_a_token_and_idleness_ends_it() {
        let mut tokens = SimpleTokens::new(LIFETIME);
        let token = tokens.give(("ann", "p"), START, Op::new(1)).unwrap();
        let mut now = START;
        for _ in 0..3 {
            now = now + Duration::from_secs(299);
            assert_eq!(tokens.user(&token, now, is_p).as_deref(), Some("ann"));
        }
        assert_eq!(tokens.user(&token, now + LIFETIME, is_p), None);
        assert_eq!(tokens.user("made.up", now, is_p), None);
    }

    #[test]
    fn a_token_ends_with_the_password_that_it_was_given_for() {
        let mut tokens = SimpleTokens::new(LIFETIME);
        let token = tokens.give(("ann", "p"), START, Op::new(1)).unwrap();
        assert_eq!(tokens.user(&token, START, |_, it| it == "q"), None);
        assert_eq!(tokens.user(&token, START, is_p), None, "for ever");
    }

    #[test]
    fn a_token_that_was_used_survives_its_first_turn_in_the_queue() {
        let mut tokens = SimpleTokens::new(LIFETIME);
        let used = tokens.give(("ann", "p"), START, Op::new(1)).unwrap();
        let idle = tokens.give(("bob", "p"), START, Op::new(2)).unwrap();
        tokens.user(&used, START + Duration::from_secs(200), is_p);
        let later = START + LIFETIME;
        tokens.give(("eve", "p"), later, Op::new(3)).unwrap();
        assert!(tokens.by_token.contains_key(&used) && !tokens.by_token.contains_key(&idle));
    }

    #[test]
    fn above_the_limit_the_oldest_goes() {
        let mut tokens = SimpleTokens::new(LIFETIME);
        let oldest = tokens.give(("ann", "p"), START, Op::new(1)).unwrap();
        for _ in 0..TOKENS_MAX {
            tokens.give(("bob", "p"), START, Op::new(2)).unwrap();
        }
        assert_eq!(tokens.by_token.len(), TOKENS_MAX);
        assert_eq!(tokens.user(&oldest, START, is_p), None);
    }

    #[test]
    fn a_forgotten_users_tokens_are_void_and_only_these() {
        let mut tokens = SimpleTokens::new(LIFETIME);
        let ann = tokens.give(("ann", "p"), START, Op::new(1)).unwrap();
        let bob = tokens.give(("bob", "p"), START, Op::new(1)).unwrap();
        tokens.forget_user("ann");
        assert_eq!(tokens.user(&ann, START, is_p), None);
        assert_eq!(tokens.user(&bob, START, is_p).as_deref(), Some("bob"));
    }
}
