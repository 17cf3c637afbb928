//! One open file: positioned reads and writes, and a sync that is never tried twice.

use std::os::fd::OwnedFd;

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError};
use rustix::io::Errno;

use crate::direct::{Direct, write_all};

/// An open file. Writes need `&mut`, so two threads cannot write through one handle.
#[derive(Debug)]
pub(crate) struct RealDisk {
    file: OwnedFd,
    direct: Direct,
    name: String,
    poisoned: bool,
}

impl RealDisk {
    pub(crate) const fn new(file: OwnedFd, name: String) -> Self {
        Self {
            file,
            direct: Direct::new(),
            name,
            poisoned: false,
        }
    }

    fn refuse_if_poisoned(&self) -> Result<(), DiskError> {
        if self.poisoned {
            return Err(DiskError::Poisoned {
                name: self.name.clone(),
            });
        }
        Ok(())
    }

    /// Allocates the blocks of `0..len`, so that a later write cannot find the disk full.
    ///
    /// A file system without `fallocate` gets its zeros written out instead.
    pub(crate) fn allocate(&mut self, len: ByteCount) -> Result<(), DiskError> {
        if len == ByteCount::ZERO {
            return Ok(());
        }
        let mode = rustix::fs::FallocateFlags::empty();
        let answer =
            rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, mode, 0, len.value()));
        match answer {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(len),
            Err(errno) => Err(failed(
                format!("allocate {len} bytes for {}", self.name),
                errno,
            )),
        }
    }

    fn write_zeros(&mut self, len: ByteCount) -> Result<(), DiskError> {
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < len.value() {
            let rest = usize::try_from(len.value() - at).unwrap_or(usize::MAX);
            let piece = &zeros[..rest.min(zeros.len())];
            self.write(ByteCount::new(at), piece)?;
            at += size(piece);
        }
        Ok(())
    }

    fn not_written(&mut self, at: ByteCount, bytes: &[u8], errno: Errno) -> DiskError {
        self.poisoned = true;
        let attempted = format!("write {} bytes to {} at {at}", bytes.len(), self.name);
        failed(attempted, errno)
    }
}

impl Disk for RealDisk {
    fn read(&self, at: ByteCount, into: &mut [u8]) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        let mut filled = 0;
        while filled < into.len() {
            let position = at.value() + filled as u64;
            match rustix::io::pread(&self.file, &mut into[filled..], position) {
                Ok(0) => {
                    return Err(DiskError::Short {
                        name: self.name.clone(),
                        at,
                        missing: ByteCount::new((into.len() - filled) as u64),
                    });
                }
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(format!("read {} at {at}", self.name), errno)),
            }
        }
        Ok(())
    }

    fn write(&mut self, at: ByteCount, bytes: &[u8]) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        let written = write_all(&self.file, at.value(), bytes);
        written.map_err(|errno| self.not_written(at, bytes, errno))
    }

    fn write_through(&mut self, at: ByteCount, bytes: &[u8]) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        match self.direct.write(&self.file, at.value(), bytes) {
            Ok(true) => Ok(()),
            Ok(false) => self.write(at, bytes),
            Err(errno) => Err(self.not_written(at, bytes, errno)),
        }
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        rustix::fs::fdatasync(&self.file).map_err(|errno| {
            self.poisoned = true;
            failed(format!("sync {}", self.name), errno)
        })
    }

    fn len(&self) -> Result<ByteCount, DiskError> {
        self.refuse_if_poisoned()?;
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|errno| failed(format!("measure {}", self.name), errno))?;
        let len = u64::try_from(stat.st_size).expect("a file's length is never negative");
        Ok(ByteCount::new(len))
    }

    fn set_len(&mut self, len: ByteCount) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        rustix::io::retry_on_intr(|| rustix::fs::ftruncate(&self.file, len.value())).map_err(
            |errno| {
                self.poisoned = true;
                failed(format!("set the length of {} to {len}", self.name), errno)
            },
        )
    }
}

/// The error for a system call that answered `errno`.
///
/// A full disk and a used-up quota are the same to storage: there is no room.
pub(crate) fn failed(attempted: String, errno: Errno) -> DiskError {
    match errno {
        Errno::NOSPC | Errno::DQUOT => DiskError::Full { attempted },
        other => DiskError::Failed {
            attempted,
            reason: std::io::Error::from(other).to_string(),
        },
    }
}

fn size(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
