//! Blank segments ahead of the tail: the next one, and the reserve for a full disk.
//!
//! Writing into blocks that are merely allocated makes the file system note, at each sync, that
//! they now hold data. So the next segment is written full of zeros beforehand, in slices.
//! Until that is done its file is called `.new`; a `.seg` is ready.
//!
//! A segment that nobody needs becomes a `.new` again: freeing 64 MiB takes a file system longer
//! than a flush may wait. What is too many is called `.old` and freed in slices: in idle moments,
//! and between flushes once there are more than a few.

use std::collections::VecDeque;

use holm_base::ByteCount;
use holm_machine::{Disk, DiskError, Folder};

use crate::config::{FREE_SLICE, LogConfig, RETIRED_MAX, SPARES, ZERO_SLICE};
use crate::error::LogError;
use crate::scan::Scanned;
use crate::segment;

/// What a call of [`Log::prepare_next`](crate::Log::prepare_next) left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// Nothing: the next segment is ready and the reserve is there.
    Ready,
    /// Call again.
    More,
    /// There is no room for another segment; call again when there may be.
    Full,
}

/// A blank segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) first: u64,
    pub(crate) len: u64,
    /// How far its zeros were written out.
    pub(crate) zeroed: u64,
    pub(crate) disk: Box<dyn Disk>,
    /// Whether it reads as zeros even where none were written out.
    is_blank: bool,
    is_named: bool,
}

/// The blank segments, in the order in which they will be used.
#[derive(Debug)]
pub(crate) struct Spares {
    next_first: u64,
    segment_bytes: u64,
    waiting: VecDeque<Spare>,
    /// First LSNs of files that are let go and not yet freed.
    retired: VecDeque<u64>,
    refused: bool,
}

impl Spares {
    /// Takes over what an earlier run left: blank segments of the right size, in a row behind
    /// the tail. Everything else that is blank goes.
    pub(crate) fn adopt(
        folder: &dyn Folder,
        config: &LogConfig,
        scanned: &Scanned,
    ) -> Result<Self, LogError> {
        let end = scanned
            .segments
            .last()
            .map_or(0, |&(first, len)| first + len);
        let mut spares = Self {
            // A log that lost its only segment to a torn first flush begins where that did.
            next_first: scanned.spares.first().map_or(end, |&(first, _)| first),
            segment_bytes: config.segment_bytes.value(),
            waiting: VecDeque::new(),
            retired: VecDeque::new(),
            refused: false,
        };
        let mut left: VecDeque<(u64, bool)> = scanned
            .spares
            .iter()
            .map(|&(first, _)| (first, true))
            .collect();
        for name in folder.list()? {
            left.extend(segment::parse_name(&name, ".new").map(|first| (first, false)));
            spares.retired.extend(segment::parse_name(&name, ".old"));
        }
        let mut unfit = Vec::new();
        for (first, is_named) in left {
            unfit.extend(spares.adopt_one(folder, first, is_named)?);
        }
        // The newest goes first, and durably: a gap before a segment would read as damage.
        for name in unfit.iter().rev() {
            folder.remove(name)?;
            folder.sync()?;
        }
        Ok(spares)
    }

    /// Takes over one file, or answers its name if it is not fit.
    fn adopt_one(
        &mut self,
        folder: &dyn Folder,
        first: u64,
        is_named: bool,
    ) -> Result<Option<String>, LogError> {
        let name = if is_named {
            segment::name(first)
        } else {
            segment::unready_name(first)
        };
        let disk = folder.open(&name)?;
        let len = disk.len()?.value();
        if first != self.next_first || len != self.segment_bytes || self.waiting.len() > SPARES {
            return Ok(Some(name));
        }
        let zeroed = if is_named { len } else { 0 };
        self.waiting.push_back(Spare {
            first,
            len,
            zeroed,
            disk,
            // A file that is not ready may be an old segment.
            is_blank: is_named,
            is_named,
        });
        self.next_first += len;
        Ok(None)
    }

    /// Makes sure that at least `count` blank segments are allocated.
    pub(crate) fn ensure(&mut self, folder: &dyn Folder, count: usize) -> Result<(), LogError> {
        while self.waiting.len() < count {
            self.allocate(folder)?;
        }
        Ok(())
    }

    fn allocate(&mut self, folder: &dyn Folder) -> Result<(), LogError> {
        let (first, len) = (self.next_first, self.segment_bytes);
        let name = segment::unready_name(first);
        let bytes = ByteCount::new(len);
        let mut answer = folder.create(&name, bytes);
        if matches!(answer, Err(DiskError::Full { .. })) && !self.retired.is_empty() {
            while self.free_slice(folder, len)? {}
            answer = folder.create(&name, bytes);
        }
        self.refused = matches!(answer, Err(DiskError::Full { .. }));
        if self.refused {
            return Err(LogError::Full { segment: bytes });
        }
        let disk = answer?;
        self.waiting.push_back(Spare {
            first,
            len,
            zeroed: 0,
            disk,
            is_blank: true,
            is_named: false,
        });
        self.next_first += len;
        Ok(())
    }

    /// Takes over a segment that nobody needs: as a spare, if one more is of use.
    ///
    /// It has its new name durably when this returns, so a crash can leave no gap before a
    /// newer segment.
    pub(crate) fn take_back(
        &mut self,
        folder: &dyn Folder,
        (first, len): (u64, u64),
    ) -> Result<(), LogError> {
        if len != self.segment_bytes || self.waiting.len() > SPARES {
            folder.rename(&segment::name(first), &segment::retired_name(first))?;
            folder.sync()?;
            self.retired.push_back(first);
            return Ok(());
        }
        let name = segment::unready_name(self.next_first);
        folder.rename(&segment::name(first), &name)?;
        folder.sync()?;
        self.waiting.push_back(Spare {
            first: self.next_first,
            len,
            zeroed: 0,
            disk: folder.open(&name)?,
            is_blank: false,
            is_named: false,
        });
        self.next_first += len;
        Ok(())
    }

    /// Frees a piece of a file that was let go; false if there is none.
    fn free_slice(&mut self, folder: &dyn Folder, slice: u64) -> Result<bool, LogError> {
        let Some(&first) = self.retired.front() else {
            return Ok(false);
        };
        let name = segment::retired_name(first);
        let mut disk = folder.open(&name)?;
        let len = disk.len()?.value();
        if len > slice {
            disk.set_len(ByteCount::new(len - slice))?;
        } else {
            // No sync: should the name come back after a crash, it is freed then.
            folder.remove(&name)?;
            self.retired.pop_front();
        }
        Ok(true)
    }

    /// The next segment, ready to be written. There is one, by [`Spares::ensure`].
    pub(crate) fn take(&mut self, folder: &dyn Folder) -> Result<Spare, LogError> {
        let mut spare = self.waiting.pop_front().expect("a spare was ensured");
        spare.name(folder)?;
        Ok(spare)
    }

    /// One bounded step towards a ready spare and a reserve.
    ///
    /// What there is comes before what could be had: on a full disk the next segment is still
    /// made ready.
    pub(crate) fn prepare(&mut self, folder: &dyn Folder) -> Result<Preparation, LogError> {
        if let Some(next) = self.waiting.front_mut() {
            if zero_slice(&mut *next.disk, &mut next.zeroed, next.len)? {
                return Ok(Preparation::More);
            }
            next.name(folder)?;
        }
        if self.waiting.len() < SPARES {
            return match self.allocate(folder) {
                Ok(()) => Ok(Preparation::More),
                Err(LogError::Full { .. }) => Ok(Preparation::Full),
                Err(other) => Err(other),
            };
        }
        if self.free_slice(folder, FREE_SLICE)? {
            return Ok(Preparation::More);
        }
        Ok(Preparation::Ready)
    }

    /// Whether the next segment is zeroed less far than the tail is used.
    pub(crate) fn is_behind(&self, used: u64) -> bool {
        match self.waiting.front() {
            Some(next) => next.zeroed < next.len.min(used),
            None => !self.refused,
        }
    }

    /// Whether more files were let go than may wait for an idle moment.
    pub(crate) fn is_crowded(&self) -> bool {
        self.retired.len() > RETIRED_MAX
    }

    /// Frees a slice of what was let go.
    pub(crate) fn free_some(&mut self, folder: &dyn Folder) -> Result<Preparation, LogError> {
        self.free_slice(folder, FREE_SLICE)?;
        Ok(Preparation::More)
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.waiting.iter().map(|spare| spare.len).sum()
    }
}

impl Spare {
    /// Gives the file its lasting name, durably; its length, and that it is blank, are durable
    /// before.
    fn name(&mut self, folder: &dyn Folder) -> Result<(), LogError> {
        if self.is_named {
            return Ok(());
        }
        if !self.is_blank {
            while zero_slice(&mut *self.disk, &mut self.zeroed, self.len)? {}
        }
        self.disk.sync()?;
        folder.rename(
            &segment::unready_name(self.first),
            &segment::name(self.first),
        )?;
        folder.sync()?;
        self.is_named = true;
        Ok(())
    }
}

/// Writes the next zeros of a blank file, durably; false if it has them all.
pub(crate) fn zero_slice(
    disk: &mut dyn Disk,
    zeroed: &mut u64,
    len: u64,
) -> Result<bool, LogError> {
    if *zeroed >= len {
        return Ok(false);
    }
    let slice = ZERO_SLICE.min(len - *zeroed);
    let zeros = vec![0; segment::to_usize(slice)];
    disk.write(ByteCount::new(*zeroed), &zeros)?;
    disk.sync()?;
    *zeroed += slice;
    Ok(true)
}
