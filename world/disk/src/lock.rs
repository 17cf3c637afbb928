//! One process per data directory: an advisory lock on a file that names its holder.
//!
//! The system drops the lock when the process ends, however it ends, so a left-over file never
//! keeps anybody out. The process id inside only serves the message.

use std::os::fd::OwnedFd;
use std::path::Path;

use holm_machine::DiskError;
use rustix::fs::{Access, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::file::failed;
use crate::folder::create_path;

const NAME: &str = "holm.lock";

/// The right to use a data directory, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

/// Why a data directory could not be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Another process uses the directory.
    #[error("another holm (pid {pid}) has this directory open: {path}")]
    Held {
        /// The other process, or `unknown` while it has not yet written its id.
        pid: String,
        /// The data directory.
        path: String,
    },
    /// The process's user may not use the directory.
    #[error(
        "no permission to use the data directory {path}: {source}; let the user that runs holm \
         (uid {user}) own the directory and its files, or choose another with --data-dir"
    )]
    Denied {
        /// The data directory.
        path: String,
        /// Who the process is.
        user: u32,
        /// What was refused.
        source: DiskError,
    },
    /// There is something at the directory's place that is none.
    #[error("{path} is not a directory: choose another place with --data-dir")]
    NoFolder {
        /// The place.
        path: String,
    },
    /// The lock file could not be made or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Takes the data directory at `path` for this process, creating it if it is missing.
///
/// # Errors
///
/// [`LockError::Held`] at once, without waiting, if another process has it.
pub fn lock(path: &Path) -> Result<Lock, LockError> {
    create_path(path).map_err(|source| explain(path, source))?;
    let place = path.join(NAME);
    let attempt = |verb: &str| format!("{verb} {}", place.display());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(&place, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| explain(path, failed(attempt("open"), errno)))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(LockError::Held {
                pid: holder(&file),
                path: path.display().to_string(),
            });
        }
        Err(errno) => return Err(failed(attempt("lock"), errno).into()),
    }
    write_pid(&file).map_err(|errno| failed(attempt("write"), errno))?;
    Ok(Lock { _file: file })
}

/// Says of a failure what an operator can do about it.
fn explain(path: &Path, source: DiskError) -> LockError {
    let there = path.ancestors().find(|it| it.exists());
    if there.is_some_and(|it| !it.is_dir()) {
        let path = there.unwrap_or(path).display().to_string();
        return LockError::NoFolder { path };
    }
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    let lock = path.join(NAME);
    let is_refused = |place: &Path, wanted| rustix::fs::access(place, wanted) == Err(Errno::ACCESS);
    let is_denied = there.is_none_or(|it| is_refused(it, wanted))
        || is_refused(&lock, Access::READ_OK | Access::WRITE_OK);
    if is_denied {
        return LockError::Denied {
            path: path.display().to_string(),
            user: rustix::process::geteuid().as_raw(),
            source,
        };
    }
    source.into()
}

/// Ten digits and a line end, always the same length, so a reader never sees half of a longer
/// number. A full disk must not keep a node from starting, and does not: the id is for people.
fn write_pid(file: &OwnedFd) -> Result<(), Errno> {
    let line = format!("{:>10}\n", std::process::id());
    match rustix::io::pwrite(file, line.as_bytes(), 0) {
        Ok(_) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn holder(file: &OwnedFd) -> String {
    let mut line = [0; 16];
    let read = rustix::io::pread(file, &mut line, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&line[..read]).trim().to_owned();
    if text.is_empty() {
        return "unknown".to_owned();
    }
    text
}
