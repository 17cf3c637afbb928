//! The folders and files that storage code holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};

use crate::disk::device::{Change, Device, Go, Naming, dead};

/// From this length on a write is looked at for being all zeros: those need no copy.
const BLANK_MIN: usize = 4_096;

/// The device, shared by all handles.
pub(crate) type Shared = Arc<Mutex<Device>>;

/// Locks the device. A test that panicked while it held the lock has already failed.
pub(crate) fn lock(device: &Shared) -> MutexGuard<'_, Device> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder: the beginning that its files' paths share.
#[derive(Debug)]
pub(crate) struct VirtualFolder {
    device: Shared,
    /// Empty for the root, else ending in `/`.
    path: String,
}

impl VirtualFolder {
    pub(crate) const fn new(device: Shared, path: String) -> Self {
        Self { device, path }
    }

    fn place(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    fn handle(
        &self,
        device: &mut Device,
        name: &str,
        writes: bool,
    ) -> Result<Box<dyn Disk>, DiskError> {
        let path = self.place(name);
        device.refuse_if_crashed(&path)?;
        let file = *device
            .names
            .get(&path)
            .ok_or_else(|| DiskError::NotFound { name: path.clone() })?;
        device.file(file).handles += 1;
        Ok(Box::new(VirtualDisk {
            device: Arc::clone(&self.device),
            file,
            path,
            writes,
            poisoned: false,
        }))
    }
}

impl Folder for VirtualFolder {
    fn create(&self, name: &str, len: ByteCount) -> Result<Box<dyn Disk>, DiskError> {
        let path = self.place(name);
        let what = || format!("create {path} {len}");
        let mut device = lock(&self.device);
        if device.names.contains_key(&path) {
            return Err(DiskError::Exists { name: path });
        }
        let go = device.step(&what)?;
        device.claim(len.value(), &what)?;
        device.create(&self.path, &path, size(len));
        if go == Go::Dying {
            return Err(dead(&what()));
        }
        self.handle(&mut device, name, true)
    }

    fn open(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
        self.handle(&mut lock(&self.device), name, true)
    }

    fn open_read_only(&self, name: &str) -> Result<Box<dyn Disk>, DiskError> {
        self.handle(&mut lock(&self.device), name, false)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let (from, to) = (self.place(from), self.place(to));
        let mut device = lock(&self.device);
        if !device.names.contains_key(&from) {
            return Err(DiskError::NotFound { name: from });
        }
        let what = || format!("rename {from} {to}");
        let go = device.step(&what)?;
        let (from, to) = (from.clone(), to.clone());
        device.name(&self.path, Naming::Rename { from, to });
        finish(go, &what)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.place(name);
        let mut device = lock(&self.device);
        if !device.names.contains_key(&path) {
            return Err(DiskError::NotFound { name: path });
        }
        let what = || format!("remove {path}");
        let go = device.step(&what)?;
        let path = path.clone();
        device.name(&self.path, Naming::Remove { path });
        finish(go, &what)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let device = lock(&self.device);
        device.refuse_if_crashed("list")?;
        let own = device
            .names
            .keys()
            .filter_map(|path| path.strip_prefix(&self.path));
        Ok(own
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn sync(&self) -> Result<(), DiskError> {
        let what = || format!("sync folder /{}", self.path);
        let mut device = lock(&self.device);
        let go = device.step(&what)?;
        finish(go, &what)?;
        device.syncs += 1;
        device.sync_folder(&self.path);
        Ok(())
    }

    fn free(&self) -> Result<ByteCount, DiskError> {
        let device = lock(&self.device);
        device.refuse_if_crashed("free")?;
        Ok(ByteCount::new(
            device.capacity.saturating_sub(device.used()),
        ))
    }

    fn folder(&self, name: &str) -> Result<Arc<dyn Folder>, DiskError> {
        lock(&self.device).refuse_if_crashed(name)?;
        let path = format!("{}/", self.place(name));
        Ok(Arc::new(Self::new(Arc::clone(&self.device), path)))
    }
}

/// One open file.
#[derive(Debug)]
struct VirtualDisk {
    device: Shared,
    file: u64,
    path: String,
    writes: bool,
    poisoned: bool,
}

impl VirtualDisk {
    fn refuse_if_poisoned(&self) -> Result<(), DiskError> {
        if self.poisoned {
            return Err(DiskError::Poisoned {
                name: self.path.clone(),
            });
        }
        Ok(())
    }

    /// Runs a step that changes the file; whatever fails poisons the handle.
    fn change(
        &mut self,
        what: &dyn Fn(&str) -> String,
        act: impl FnOnce(&mut Device, Go, &dyn Fn() -> String) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        let mut device = lock(&self.device);
        let name = if device.trace.is_some() {
            device.name_of(self.file)
        } else {
            None
        };
        let what = || what(name.as_deref().unwrap_or(&self.path));
        let answer = if self.writes {
            device.step(&what).and_then(|go| {
                act(&mut device, go, &what)?;
                finish(go, &what)
            })
        } else {
            Err(DiskError::Failed {
                attempted: what(),
                reason: "the handle only reads".to_owned(),
            })
        };
        drop(device);
        self.poisoned = answer.is_err();
        answer
    }
}

impl Disk for VirtualDisk {
    fn read(&self, at: ByteCount, into: &mut [u8]) -> Result<(), DiskError> {
        self.refuse_if_poisoned()?;
        let mut device = lock(&self.device);
        device.refuse_if_crashed(&self.path)?;
        let live = &device.file(self.file).live;
        let start = size(at).min(live.len());
        let there = (live.len() - start).min(into.len());
        if there < into.len() {
            return Err(DiskError::Short {
                name: self.path.clone(),
                at,
                missing: ByteCount::new((into.len() - there) as u64),
            });
        }
        live.read(start, into);
        Ok(())
    }

    fn write(&mut self, at: ByteCount, bytes: &[u8]) -> Result<(), DiskError> {
        let what = |name: &str| format!("write {name} {at}+{}", bytes.len());
        let number = self.file;
        self.change(&what, |device, _, what| {
            let end = at.value() + bytes.len() as u64;
            let len = device.file(number).live.len() as u64;
            device.claim(end.saturating_sub(len), what)?;
            let file = device.file(number);
            let (at, len) = (size(at), bytes.len());
            let change = if len >= BLANK_MIN && is_blank(bytes) {
                file.live.blank(at, len);
                Change::Blank { at, len }
            } else {
                file.live.put(at, bytes);
                let bytes = bytes.to_vec();
                Change::Write { at, bytes }
            };
            file.changes.push(change);
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        let what = |name: &str| format!("sync {name}");
        let number = self.file;
        self.change(&what, |device, go, what| {
            if std::mem::take(&mut device.fails_sync) {
                // The system gives what it could not write up, and says so once.
                device.failed_syncs += 1;
                let file = device.file(number);
                file.changes.clear();
                file.is_apart = true;
                return Err(DiskError::Failed {
                    attempted: what(),
                    reason: "input/output error".to_owned(),
                });
            }
            if go == Go::On {
                device.syncs += 1;
                device.sync_file(number);
            }
            Ok(())
        })
    }

    fn len(&self) -> Result<ByteCount, DiskError> {
        self.refuse_if_poisoned()?;
        let mut device = lock(&self.device);
        device.refuse_if_crashed(&self.path)?;
        Ok(ByteCount::new(device.file(self.file).live.len() as u64))
    }

    fn set_len(&mut self, len: ByteCount) -> Result<(), DiskError> {
        let what = |name: &str| format!("set length {name} {len}");
        let number = self.file;
        self.change(&what, |device, _, what| {
            let before = device.file(number).live.len() as u64;
            device.claim(len.value().saturating_sub(before), what)?;
            let file = device.file(number);
            file.live.resize(size(len));
            file.changes.push(Change::SetLen { len: size(len) });
            Ok(())
        })
    }
}

impl Drop for VirtualDisk {
    fn drop(&mut self) {
        lock(&self.device).release(self.file);
    }
}

fn finish(go: Go, what: &dyn Fn() -> String) -> Result<(), DiskError> {
    match go {
        Go::On => Ok(()),
        Go::Dying => Err(dead(&what())),
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}

fn size(bytes: ByteCount) -> usize {
    usize::try_from(bytes.value()).expect("virtual files fit into memory")
}
