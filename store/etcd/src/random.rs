//! Random bytes from the operating system, for tokens and lease ids.

use rustix::rand::{GetRandomFlags, getrandom};

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: {0}")]
pub(crate) struct NoRandom(rustix::io::Errno);

/// Bytes that nobody can guess. Cost: one system call, some 300 ns.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    let count = getrandom(&mut bytes, GetRandomFlags::empty()).map_err(NoRandom)?;
    // The system fills up to 256 bytes at once or fails.
    assert_eq!(count, N, "random bytes are asked for in small numbers");
    Ok(bytes)
}
