//! A folder of the real file system, held open so that a renamed path cannot move it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::file::{RealDisk, failed};

/// A folder of the real file system.
#[derive(Debug)]
pub struct RealFolder {
    folder: OwnedFd,
    path: PathBuf,
}

impl RealFolder {
    /// Opens the folder at `path`, creating it and its parents (readable by their owner only,
    /// and durably) where they are missing.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says; the text names the path and the system's reason.
    pub fn open(path: &Path) -> Result<Arc<dyn Folder>, DiskError> {
        create_path(path)?;
        Ok(Arc::new(Self::open_existing(path)?))
    }

    fn open_existing(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| failed(format!("open folder {}", path.display()), errno))?;
        Ok(Self {
            folder,
            path: path.to_path_buf(),
        })
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn open_file(&self, name: &str, flags: OFlags) -> Result<Box<dyn Disk>, DiskError> {
        refuse_separators(name)?;
        let answer = rustix::fs::openat(&self.folder, name, flags | OFlags::CLOEXEC, Mode::empty());
        match answer {
            Ok(file) => Ok(Box::new(RealDisk::new(file, self.place(name)))),
            Err(Errno::NOENT) => Err(self.not_found(name)),
            Err(errno) => Err(failed(format!("open {}", self.place(name)), errno)),
        }
    }

    fn not_found(&self, name: &str) -> DiskError {
        DiskError::NotFound {
            name: self.place(name),
        }
    }

    fn is_file(&self, name: &std::ffi::CStr, kind: FileType) -> bool {
        if kind != FileType::Unknown {
            return kind == FileType::RegularFile;
        }
        rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

impl Folder for RealFolder {
    fn create(&self, name: &str, len: ByteCount) -> Result<Box<dyn Disk>, DiskError> {
        refuse_separators(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match rustix::fs::openat(&self.folder, name, flags, mode) {
            Ok(file) => file,
            Err(Errno::EXIST) => {
                return Err(DiskError::Exists {
                    name: self.place(name),
                });
            }
            Err(errno) => return Err(failed(format!("create {}", self.place(name)), errno)),
        };
        let mut disk = RealDisk::new(file, self.place(name));
        if let Err(refused) = disk.allocate(len) {
            // I2: a name whose blocks could not be had is given back. Should even that fail,
            // the file is empty or short, and its owner finds it by its length.
            rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())
                .map_err(|errno| failed(format!("remove {}", self.place(name)), errno))?;
            return Err(refused);
        }
        Ok(Box::new(disk))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
        self.open_file(name, OFlags::RDWR)
    }

    fn open_read_only(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
        self.open_file(name, OFlags::RDONLY)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        refuse_separators(from)?;
        refuse_separators(to)?;
        match rustix::fs::renameat(&self.folder, from, &self.folder, to) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(self.not_found(from)),
            Err(errno) => Err(failed(
                format!("rename {} to {to}", self.place(from)),
                errno,
            )),
        }
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        refuse_separators(name)?;
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(self.not_found(name)),
            Err(errno) => Err(failed(format!("remove {}", self.place(name)), errno)),
        }
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let attempted = || format!("list {}", self.path.display());
        let entries =
            rustix::fs::Dir::read_from(&self.folder).map_err(|errno| failed(attempted(), errno))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|errno| failed(attempted(), errno))?;
            if self.is_file(entry.file_name(), entry.file_type()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync(&self) -> Result<(), DiskError> {
        rustix::fs::fsync(&self.folder)
            .map_err(|errno| failed(format!("sync folder {}", self.path.display()), errno))
    }

    fn free(&self) -> Result<ByteCount, DiskError> {
        let stat = rustix::fs::fstatvfs(&self.folder)
            .map_err(|errno| failed(format!("measure room at {}", self.path.display()), errno))?;
        Ok(ByteCount::new(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn folder(&self, name: &str) -> Result<Arc<dyn Folder>, DiskError> {
        refuse_separators(name)?;
        let path = self.path.join(name);
        match rustix::fs::mkdirat(&self.folder, name, Mode::RWXU) {
            // One that is there may be of a run that ended before it could sync.
            Ok(()) | Err(Errno::EXIST) => self.sync()?,
            Err(errno) => return Err(failed(format!("create folder {}", path.display()), errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.folder, name, flags, Mode::empty())
            .map_err(|errno| failed(format!("open folder {}", path.display()), errno))?;
        Ok(Arc::new(Self { folder, path }))
    }
}

/// Creates `path` and its missing parents, each made durable in the folder that holds it. So is
/// the first one that is there: it may be of a run that ended before it could sync.
pub(crate) fn create_path(path: &Path) -> Result<(), DiskError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    if path.is_dir() {
        return sync_if_readable(parent);
    }
    create_path(parent)?;
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => RealFolder::open_existing(parent)?.sync(),
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(errno) => Err(failed(format!("create folder {}", path.display()), errno)),
    }
}

/// Syncs a folder that somebody else may have made: one that we may not read holds nothing that
/// we could have made.
fn sync_if_readable(path: &Path) -> Result<(), DiskError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let attempted = || format!("sync folder {}", path.display());
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => rustix::fs::fsync(&folder).map_err(|errno| failed(attempted(), errno)),
        Err(Errno::ACCESS) => Ok(()),
        Err(errno) => Err(failed(attempted(), errno)),
    }
}

fn refuse_separators(name: &str) -> Result<(), DiskError> {
    let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    if is_plain {
        return Ok(());
    }
    Err(DiskError::Failed {
        attempted: format!("use {name:?} as a file name"),
        reason: "it is not a plain name".to_owned(),
    })
}
