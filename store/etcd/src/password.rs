//! Hashing passwords, which is slow on purpose and so must not be done by many at once.
//!
//! What would surprise: a hash takes some 50 ms of a core. Two run at a time, 64 wait, and
//! whoever comes then is told `too many requests`: guessing passwords cannot stop the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::errors;
use crate::status::{Code, Status};

/// Hashes that are computed at once.
const RUNNING_MAX: usize = 2;
/// Hashes that may wait for those.
const WAITING_MAX: usize = 64;
/// etcd's default strength: 2 to this power rounds.
pub(crate) const COST: u32 = 10;

/// Computes password hashes, a few at a time. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Passwords {
    room: Arc<Semaphore>,
    present: Arc<AtomicUsize>,
    cost: u32,
}

impl Passwords {
    /// A pool whose hashes are of this strength, 4 to 31.
    pub(crate) fn new(cost: u32) -> Self {
        Self {
            room: Arc::new(Semaphore::new(RUNNING_MAX)),
            present: Arc::new(AtomicUsize::new(0)),
            cost,
        }
    }

    /// The hash of a new password.
    ///
    /// # Errors
    ///
    /// `too many requests`; and above 72 bytes, which is all that this hash looks at.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Status> {
        let cost = self.cost;
        let hashed = self
            .run(move || bcrypt::non_truncating_hash(password, cost))
            .await?;
        hashed.map_err(|error| match error {
            bcrypt::BcryptError::Truncation(_) => {
                Status::new(Code::Unknown, "bcrypt: password length exceeds 72 bytes")
            }
            other => Status::new(Code::Internal, format!("hash a password: {other}")),
        })
    }

    /// Whether the password is the one that was hashed. A hash that cannot be read matches none.
    ///
    /// # Errors
    ///
    /// `too many requests`.
    pub(crate) async fn matches(&self, password: String, hash: String) -> Result<bool, Status> {
        self.run(move || bcrypt::verify(password, &hash).unwrap_or(false))
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let present = Present::enter(&self.present)?;
        let room = Arc::clone(&self.room);
        let permit = room
            .acquire_owned()
            .await
            .map_err(|_closed| errors::stopped())?;
        // The permit goes along, for work goes on even if nobody waits for it any longer.
        let work = move || {
            let result = work();
            drop((permit, present));
            result
        };
        let broken = |_| Status::new(Code::Internal, "hashing a password broke off");
        spawn_blocking(work).await.map_err(broken)
    }
}

/// One of those that compute or wait.
struct Present(Arc<AtomicUsize>);

impl Present {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, Status> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let present = Self(Arc::clone(count));
        if before < RUNNING_MAX + WAITING_MAX {
            Ok(present)
        } else {
            Err(errors::too_many_requests())
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_matches_its_hash_alone() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert_eq!(
            passwords.matches("secret".to_owned(), hash.clone()).await,
            Ok(true)
        );
        assert_eq!(
            passwords.matches("Secret".to_owned(), hash).await,
            Ok(false)
        );
        assert_eq!(
            passwords.matches(String::new(), String::new()).await,
            Ok(false)
        );
        let long = passwords.hash("x".repeat(73)).await.unwrap_err();
        assert_eq!(long.message(), "bcrypt: password length exceeds 72 bytes");
    }

    #[tokio::test]
    async fn above_the_limit_nobody_waits_and_later_there_is_room_again() {
        let passwords = Passwords::new(4);
        let mut present: Vec<_> = (0..RUNNING_MAX + WAITING_MAX)
            .map(|_| Present::enter(&passwords.present).unwrap())
            .collect();
        let refused = passwords.hash("late".to_owned()).await;
        assert_eq!(refused, Err(errors::too_many_requests()));
        present.pop();
        assert!(passwords.hash("early".to_owned()).await.is_ok());
    }
}
