//! The state behind all handles: files, names, what is synced of both, and the step counter.

use std::collections::BTreeMap;

use holm_machine::DiskError;

use crate::disk::sheet::Sheet;
use crate::disk::storage::Fault;
use crate::disk::survival::{Judge, Survival};

/// One unsynced change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Write {
        at: usize,
        bytes: Vec<u8>,
    },
    /// A write of zeros, as when a file is filled beforehand.
    Blank {
        at: usize,
        len: usize,
    },
    SetLen {
        len: usize,
    },
}

/// One unsynced change of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    Create { path: String, file: u64 },
    Rename { from: String, to: String },
    Remove { path: String },
}

/// A file's bytes, as they are read now and as they are after a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) live: Sheet,
    pub(crate) durable: Sheet,
    pub(crate) changes: Vec<Change>,
    pub(crate) handles: usize,
    /// A sync failed, and what it was to save is read and not kept.
    pub(crate) is_apart: bool,
}

/// Everything there is.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) files: BTreeMap<u64, File>,
    pub(crate) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Unsynced changes of names; a folder's path ends in `/`, the root's is empty.
    namings: Vec<(String, Naming)>,
    next_file: u64,
    pub(crate) capacity: u64,
    /// The steps taken, and, if somebody looks, what they were.
    pub(crate) steps: u64,
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) crash_at: Option<u64>,
    pub(crate) has_crashed: bool,
    pub(crate) faults: BTreeMap<u64, Fault>,
    pub(crate) syncs: u64,
    /// The next sync fails, and what it was to save is lost.
    pub(crate) fails_sync: bool,
    /// How many syncs failed so.
    pub(crate) failed_syncs: u64,
}

/// What a step is to do, once it was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Go {
    /// It happens.
    On,
    /// The power fails while it happens: its effect is unsynced, and it does not return.
    Dying,
}

impl Device {
    pub(crate) const fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            namings: Vec::new(),
            next_file: 0,
            capacity: u64::MAX,
            steps: 0,
            trace: Some(Vec::new()),
            crash_at: None,
            has_crashed: false,
            faults: BTreeMap::new(),
            syncs: 0,
            fails_sync: false,
            failed_syncs: 0,
        }
    }

    /// Counts a step and says how it goes.
    pub(crate) fn step(&mut self, what: &dyn Fn() -> String) -> Result<Go, DiskError> {
        if self.has_crashed {
            return Err(dead(&what()));
        }
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
        self.steps += 1;
        if self.crash_at == Some(self.steps) {
            self.has_crashed = true;
            return Ok(Go::Dying);
        }
        let Some(fault) = self.faults.remove(&self.steps) else {
            return Ok(Go::On);
        };
        let attempted = what();
        Err(match fault {
            Fault::Io => DiskError::Failed {
                attempted,
                reason: "input/output error".to_owned(),
            },
            Fault::Full => DiskError::Full { attempted },
        })
    }

    /// After the crash nothing answers any more.
    pub(crate) fn refuse_if_crashed(&self, what: &str) -> Result<(), DiskError> {
        if self.has_crashed {
            return Err(dead(what));
        }
        Ok(())
    }

    pub(crate) fn used(&self) -> u64 {
        self.files.values().map(|file| file.live.len() as u64).sum()
    }

    /// Refuses what would make the files larger than the capacity.
    pub(crate) fn claim(&self, more: u64, what: &dyn Fn() -> String) -> Result<(), DiskError> {
        if self.capacity == u64::MAX {
            return Ok(());
        }
        if self.used().saturating_add(more) > self.capacity {
            return Err(DiskError::Full { attempted: what() });
        }
        Ok(())
    }

    /// The name that a file has now: it may have been renamed since it was opened.
    pub(crate) fn name_of(&self, file: u64) -> Option<String> {
        let mut named = self.names.iter().filter(|&(_, &number)| number == file);
        named.next().map(|(path, _)| path.clone())
    }

    pub(crate) fn file(&mut self, file: u64) -> &mut File {
        self.files
            .get_mut(&file)
            .expect("a file lives while it has a name or a handle")
    }

    pub(crate) fn create(&mut self, folder: &str, path: &str, len: usize) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        let mut made = File {
            live: Sheet::zeros(len),
            ..File::default()
        };
        if len > 0 {
            made.changes.push(Change::SetLen { len });
        }
        self.files.insert(file, made);
        let path = path.to_owned();
        self.name(folder, Naming::Create { path, file });
        file
    }

    /// Changes the names as they are seen now; a sync of the folder makes it last.
    pub(crate) fn name(&mut self, folder: &str, naming: Naming) {
        let is_first = match &naming {
            Naming::Create { path, .. } => !self.names.contains_key(path),
            Naming::Rename { .. } | Naming::Remove { .. } => false,
        };
        apply(&mut self.names, &naming);
        self.namings.push((folder.to_owned(), naming));
        // A name where there was none takes nothing from anybody.
        if !is_first {
            self.collect();
        }
    }

    /// A handle of a file is gone.
    pub(crate) fn release(&mut self, file: u64) {
        let handles = &mut self.file(file).handles;
        *handles -= 1;
        let is_held = *handles > 0;
        if !is_held && !self.names.values().any(|&named| named == file) {
            self.collect();
        }
    }

    pub(crate) fn sync_folder(&mut self, folder: &str) {
        let (synced, rest) = std::mem::take(&mut self.namings)
            .into_iter()
            .partition::<Vec<_>, _>(|(place, _)| place == folder);
        for (_, naming) in &synced {
            apply(&mut self.durable_names, naming);
        }
        self.namings = rest;
        self.collect();
    }

    pub(crate) fn sync_file(&mut self, file: u64) {
        let file = self.file(file);
        for change in file.changes.drain(..) {
            match change {
                // What is read and what is kept are one from here on.
                Change::Write { at, bytes } if !file.is_apart => {
                    file.durable.follow(&file.live, at, bytes.len());
                }
                Change::Write { at, bytes } => file.durable.put(at, &bytes),
                Change::Blank { at, len } => file.durable.blank(at, len),
                Change::SetLen { len } => file.durable.resize(len),
            }
        }
    }

    /// Lets go of files that nobody can reach, now or after a crash.
    pub(crate) fn collect(&mut self) {
        let created: Vec<u64> = self
            .namings
            .iter()
            .filter_map(|(_, naming)| match naming {
                Naming::Create { file, .. } => Some(*file),
                Naming::Rename { .. } | Naming::Remove { .. } => None,
            })
            .collect();
        let (names, durable) = (&self.names, &self.durable_names);
        self.files.retain(|number, file| {
            let is_named = names
                .values()
                .chain(durable.values())
                .any(|named| named == number);
            let is_reachable = is_named || file.handles > 0 || created.contains(number);
            if !names.values().any(|named| named == number) && file.handles == 0 {
                // Its room is free, though a crash may still bring its synced bytes back.
                file.live = Sheet::default();
            }
            is_reachable
        });
    }

    /// Nobody holds a file of a device that was just copied.
    pub(crate) fn forget_handles(&mut self) {
        for file in self.files.values_mut() {
            file.handles = 0;
        }
        self.collect();
    }

    /// The device as a reboot finds it.
    pub(crate) fn after_crash(&self, survival: Survival) -> Self {
        let mut judge = Judge::new(survival);
        let mut names = self.durable_names.clone();
        for (index, (_, naming)) in self.namings.iter().enumerate() {
            if judge.keeps(index + 1 == self.namings.len()) {
                apply(&mut names, naming);
            }
        }
        let mut next = Self::new();
        next.capacity = self.capacity;
        next.trace = self.trace.as_ref().map(|_| Vec::new());
        next.next_file = self.next_file;
        for (&number, file) in &self.files {
            if !names.values().any(|&named| named == number) {
                continue;
            }
            let mut bytes = file.durable.clone();
            judge.settle(&mut bytes, &file.changes);
            let kept = File {
                live: bytes.clone(),
                durable: bytes,
                ..File::default()
            };
            next.files.insert(number, kept);
        }
        next.names.clone_from(&names);
        next.durable_names = names;
        next
    }
}

fn apply(names: &mut BTreeMap<String, u64>, naming: &Naming) {
    match naming {
        Naming::Create { path, file } => {
            names.insert(path.clone(), *file);
        }
        Naming::Rename { from, to } => {
            // A renaming may survive a crash that its creation did not: then it says nothing.
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Naming::Remove { path } => {
            names.remove(path);
        }
    }
}

/// What every call answers once the power has failed.
pub(crate) fn dead(what: &str) -> DiskError {
    DiskError::Failed {
        attempted: what.to_owned(),
        reason: "the virtual power failed".to_owned(),
    }
}
