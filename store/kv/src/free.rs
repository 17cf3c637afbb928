//! Giving files' space back a few mebibytes at a time.
//!
//! ```text
//! checkpoint done ─► queue: name, length, who may still read ─► cut 4 MiB, pause, cut ... ─► remove
//! ```
//!
//! A file system frees a file within one transaction of its journal, and a sync of any other
//! file waits for that: 20 ms for 64 MiB of ext4, 2 ms for 4. Nothing names a file that is here,
//! and its header stays until the end, so a crash at any point leaves what the next start
//! removes.
//!
//! What would surprise: a file that somebody still reads waits, for cutting it would take from
//! under them what removing only its name would leave.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holm_base::{ByteCount, Time};
use holm_machine::{Disk, DiskError, Folder};

use crate::checkpoint::remove_if_there;
use crate::segment::{SEGMENT_HEAD, Segment};

/// How many steps a file as long as a segment takes: 4 MiB each.
const STEPS: u64 = 16;
/// The pause after a step: 512 MiB a second at most.
const STEP_PAUSE: Duration = Duration::from_millis(8);
/// How often those who read files that are to go are looked at.
const READERS_PAUSE: Duration = Duration::from_millis(100);

/// A file that is needed no more.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// The segment that it was, if this run knew it: others may still read it.
    pub(crate) segment: Option<Arc<Segment>>,
}

impl Leaving {
    fn is_read(&self) -> bool {
        let holders = self.segment.as_ref().map(Arc::strong_count);
        holders.is_some_and(|holders| holders > 1)
    }
}

/// The files that are to go.
#[derive(Debug, Default)]
pub(crate) struct Freeing {
    /// Bounded by how many files the store had.
    queue: VecDeque<Leaving>,
    waiting: Option<Box<Free>>,
    /// Bytes of the file that a job is at.
    out: Option<u64>,
    at: Time,
}

impl Freeing {
    pub(crate) fn push(&mut self, leaving: Leaving) {
        self.queue.push_back(leaving);
    }

    /// Bytes that are still to be given back.
    pub(crate) fn bytes(&self) -> u64 {
        let queue: u64 = self.queue.iter().map(|it| it.bytes).sum();
        let waiting = self.waiting.as_ref().map_or(0, |free| free.left);
        queue + waiting + self.out.unwrap_or(0)
    }

    /// When [`Freeing::next`] has something, if it will.
    pub(crate) fn at(&self) -> Option<Time> {
        let has = self.waiting.is_some() || !self.queue.is_empty();
        (has && self.out.is_none()).then_some(self.at)
    }

    /// Takes up the time of another clock.
    pub(crate) const fn begin_anew(&mut self) {
        self.at = Time::ZERO;
    }

    /// The next step, if one is due or there is haste.
    pub(crate) fn next(
        &mut self,
        now: Time,
        is_urgent: bool,
        folder: &Arc<dyn Folder>,
        segment_bytes: ByteCount,
    ) -> Option<Box<Free>> {
        let at = self.at()?;
        if now < at && !is_urgent {
            return None;
        }
        self.at = now + STEP_PAUSE;
        let free = self.waiting.take().or_else(|| {
            let found = self.queue.iter().position(|it| !it.is_read());
            let leaving = found.and_then(|at| self.queue.remove(at))?;
            Some(Box::new(Free {
                folder: Arc::clone(folder),
                name: leaving.name,
                disk: None,
                left: leaving.bytes,
                step: segment_bytes.value() / STEPS,
            }))
        });
        if free.is_none() {
            self.at = now + READERS_PAUSE;
        }
        self.out = free.as_ref().map(|free| free.left);
        free
    }

    /// Takes note of a step's end.
    pub(crate) fn stepped(&mut self, free: Box<Free>) {
        self.out = None;
        self.waiting = (free.left > 0).then_some(free);
    }
}

/// The freeing of one file.
#[derive(Debug)]
pub(crate) struct Free {
    folder: Arc<dyn Folder>,
    name: String,
    disk: Option<Box<dyn Disk>>,
    /// How long the file still is; 0 once it is gone.
    left: u64,
    step: u64,
}

impl Free {
    /// Does one step.
    ///
    /// # Errors
    ///
    /// As [`DiskError`] says.
    pub(crate) fn run(&mut self) -> Result<(), DiskError> {
        if self.disk.is_none() {
            match self.folder.open(&self.name) {
                Ok(disk) => {
                    self.left = disk.len()?.value();
                    self.disk = Some(disk);
                }
                Err(DiskError::NotFound { .. }) => {
                    self.left = 0;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let rest = self.left.saturating_sub(self.step);
        if rest > SEGMENT_HEAD
            && let Some(disk) = &mut self.disk
        {
            disk.set_len(ByteCount::new(rest))?;
            self.left = rest;
            return Ok(());
        }
        self.disk = None;
        remove_if_there(self.folder.as_ref(), &self.name)?;
        self.left = 0;
        Ok(())
    }
}
