//! What a test holds: the storage, its faults, its crash, and its bytes.
//!
//! Paths are written as `log/0000.seg`, from the root down.

use std::sync::{Arc, Mutex};

use holm_base::ByteCount;
use holm_machine::{DiskError, Folder};

use crate::disk::device::Device;
use crate::disk::handle::{Shared, VirtualFolder, lock};
use crate::disk::sheet::Sheet;
use crate::disk::survival::Survival;

/// A failure that a step can be made to have. The step changes nothing then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device fails (`EIO`).
    Io,
    /// There is no room (`ENOSPC`).
    Full,
}

/// A virtual disk. Clones share it.
#[derive(Clone, Debug)]
pub struct Storage {
    device: Shared,
}

impl Storage {
    /// An empty one, without limit.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Device::new())
    }

    fn of(device: Device) -> Self {
        Self {
            device: Arc::new(Mutex::new(device)),
        }
    }

    /// The outermost folder.
    #[must_use]
    pub fn root(&self) -> Arc<dyn Folder> {
        Arc::new(VirtualFolder::new(Arc::clone(&self.device), String::new()))
    }

    /// How many steps were taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        lock(&self.device).steps
    }

    /// The steps taken, in words: `write log/a 4096+512`, `sync log/a`, `rename a b`.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        lock(&self.device).trace.clone().unwrap_or_default()
    }

    /// Notes steps in words no more, here and after a crash: for long runs.
    pub fn forget_trace(&self) {
        lock(&self.device).trace = None;
    }

    /// Lets the next sync of a file fail; what it was to save is lost, though reads still
    /// find it.
    pub fn fail_next_sync(&self) {
        lock(&self.device).fails_sync = true;
    }

    /// How many syncs [`Storage::fail_next_sync`] has let fail.
    #[must_use]
    pub fn failed_syncs(&self) -> u64 {
        lock(&self.device).failed_syncs
    }

    /// Takes back [`Storage::fail_next_sync`] if it has not struck yet.
    pub fn heal(&self) {
        lock(&self.device).fails_sync = false;
    }

    /// How many syncs of files and folders returned.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        lock(&self.device).syncs
    }

    /// Lets the power fail during this step (they count from 1): it does not return, what it
    /// did is unsynced, and everything after it fails.
    pub fn crash_at(&self, step: u64) {
        lock(&self.device).crash_at = Some(step);
    }

    /// Whether the power has failed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        lock(&self.device).has_crashed
    }

    /// Makes this step (they count from 1) fail and change nothing.
    pub fn fail_at(&self, step: u64, fault: Fault) {
        lock(&self.device).faults.insert(step, fault);
    }

    /// Limits what all files together may hold.
    pub fn set_capacity(&self, capacity: ByteCount) {
        lock(&self.device).capacity = capacity.value();
    }

    /// What all files together hold.
    #[must_use]
    pub fn used(&self) -> ByteCount {
        ByteCount::new(lock(&self.device).used())
    }

    /// What a reboot now finds, as a storage of its own; this one stays as it is, so that
    /// several survivals can be tried.
    #[must_use]
    pub fn reopen(&self, survival: Survival) -> Self {
        Self::of(lock(&self.device).after_crash(survival))
    }

    /// A storage of its own with equal bytes, names, limits and faults to come. Handles of this
    /// one stay with this one.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut device = lock(&self.device).clone();
        device.forget_handles();
        Self::of(device)
    }

    /// All file names, as paths, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.device).names.keys().cloned().collect()
    }

    /// A file's bytes as they are read now, if there is such a file.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        let device = lock(&self.device);
        let file = device.names.get(path)?;
        device.files.get(file).map(|file| file.live.to_vec())
    }

    /// Puts a file there, durably, whatever was there before; no step is counted.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let mut device = lock(&self.device);
        let folder = path.rfind('/').map_or("", |end| &path[..=end]);
        let file = device.create(folder, path, bytes.len());
        let made = device.file(file);
        made.live = Sheet::of(bytes);
        made.durable = made.live.clone();
        made.changes.clear();
        device.sync_folder(folder);
    }

    /// Adds bytes to a file that others only read, durably, as a process beside them would; no step
    /// is counted.
    ///
    /// # Errors
    ///
    /// If there is no such file, no room, or no power.
    pub fn append(&self, path: &str, bytes: &[u8]) -> Result<(), DiskError> {
        let mut device = lock(&self.device);
        device.refuse_if_crashed(path)?;
        let name = || path.to_owned();
        let file = *device
            .names
            .get(path)
            .ok_or_else(|| DiskError::NotFound { name: name() })?;
        device.claim(bytes.len() as u64, &|| format!("append {path}"))?;
        let file = device.file(file);
        let end = file.live.len();
        file.live.put(end, bytes);
        file.durable.put(end, bytes);
        Ok(())
    }

    /// Changes a file's bytes behind its owner's back, durably: rot, a misdirected write.
    ///
    /// # Panics
    ///
    /// If there is no such file or it ends before.
    pub fn patch(&self, path: &str, at: ByteCount, bytes: &[u8]) {
        self.corrupt(path, at, bytes.len(), |old| old.copy_from_slice(bytes));
    }

    /// Inverts one bit of each byte, durably.
    ///
    /// # Panics
    ///
    /// As [`Storage::patch`].
    pub fn flip(&self, path: &str, at: ByteCount, len: usize) {
        self.corrupt(path, at, len, |old| {
            for byte in old {
                *byte ^= 1;
            }
        });
    }

    /// Makes bytes zero, durably: a write that never arrived.
    ///
    /// # Panics
    ///
    /// As [`Storage::patch`].
    pub fn blank(&self, path: &str, at: ByteCount, len: usize) {
        self.corrupt(path, at, len, |old| old.fill(0));
    }

    fn corrupt(&self, path: &str, at: ByteCount, len: usize, act: impl Fn(&mut [u8])) {
        let mut device = lock(&self.device);
        let file = *device.names.get(path).expect("the file to corrupt exists");
        let start = usize::try_from(at.value()).expect("virtual files fit into memory");
        let file = device.file(file);
        let is_there = file.live.revise(start, len, &act);
        assert!(is_there, "the file does not end before");
        file.durable.revise(start, len, &act);
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}
