//! Whether a keyspace takes requests at this site, and if not, why.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::status::{Code, Status};

/// A door that is open until it is shut with a reason. Asking an open one costs a load.
#[derive(Debug, Default)]
pub(crate) struct Door {
    is_shut: AtomicBool,
    why: Mutex<Option<Status>>,
}

impl Door {
    /// Shuts it with what callers are told, or opens it.
    pub(crate) fn set(&self, why: Option<(Code, &str)>) {
        let mut kept = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = why.map(|(code, why)| Status::new(code, why.to_owned()));
        self.is_shut.store(kept.is_some(), Ordering::Release);
    }

    /// Why it is shut.
    pub(crate) fn why(&self) -> Option<Status> {
        if !self.is_shut.load(Ordering::Acquire) {
            return None;
        }
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }
}
