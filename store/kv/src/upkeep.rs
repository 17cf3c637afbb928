//! When which job is due, and what its end means for the store.
//!
//! ```text
//! commands ─► frames ─► Flush ─► durable mark
//!                         └─ enough since the last one, or files to free ─► Checkpoint
//! compact, sweep ─► segments mostly dead ─► Clean ─► relink ─► retired ─► two checkpoints ─►
//!                                                                                 Free
//! ```
//!
//! A retired segment is named by no root any more. Its file goes after the end of the second
//! checkpoint whose state was pinned later: then neither of the two that are kept needs it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holm_base::Time;

use crate::checkpoint::{self, Checkpoint, ENTRY_MAX, Pinned, Stage};
use crate::clean::{self, Clean, Moves};
use crate::error::StoreError;
use crate::flush::{Flush, Flushed, Writer};
use crate::free::{Freeing, Leaving};
use crate::head::Position;
use crate::history::Place;
use crate::job::{Done, Job, JobDone, Work};
use crate::layout::count;
use crate::pace::Pace;
use crate::scan::unit;
use crate::segment::{SEGMENT_HEAD, Segment, SegmentKind};
use crate::store::{Store, stored_bytes};

/// How often the segments are looked at for something to clean.
const PLAN_EVERY: Duration = Duration::from_millis(250);
/// The pause after a slice of a checkpoint (4 MiB): 64 MiB a second at most.
const SLICE_PAUSE: Duration = Duration::from_millis(62);
/// How long a retired segment may wait for other reasons to write a checkpoint.
const RETIRED_WAIT: Duration = Duration::from_secs(5);
/// The pause before another try when there was no room.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// The state of the work beside the engine.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// Here while no flush is under way.
    writer: Option<Writer>,
    durable: Position,
    in_flight: u64,
    full: bool,
    /// Whether the cleaner took its spare.
    refill: bool,
    hurry: bool,
    now: Time,
    behind_since: Option<Time>,
    flush_at: Time,
    checkpoints: Checkpoints,
    cleaning: Cleaning,
    freeing: Freeing,
}

#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// Number and size of those that are kept, oldest first.
    pub(crate) kept: Vec<(u64, u64)>,
    pub(crate) next: u64,
    /// Bytes of frames that a restart would have to read.
    pub(crate) behind: u64,
    /// Older ones that cannot be read: number and size. They go once the next is durable.
    pub(crate) bad: Vec<(u64, u64)>,
    pub(crate) retired: Vec<Retired>,
    /// Since when they have waited for a checkpoint.
    pub(crate) retired_since: Option<Time>,
    pinned: Option<Pinned>,
    waiting: Option<Box<Checkpoint>>,
    out: bool,
    at: Time,
    /// When the newest was finished, if this run made it.
    finished: Option<Time>,
}

/// A segment that no root names any more.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) number: u32,
    pub(crate) bytes: u64,
    /// Itself, if this run knew it.
    pub(crate) segment: Option<Arc<Segment>>,
    /// How many checkpoints were pinned and finished since.
    pub(crate) checkpoints: u32,
}

/// What the cleaner is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleaner {
    /// Nothing is worth cleaning.
    #[default]
    Idle,
    /// It copies what is alive out of old segments.
    Copying,
    /// The index is pointed to the copies.
    Relinking,
    /// Old segments wait for the checkpoints that need them to be replaced.
    Waiting,
}

/// How the work beside the engine goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Background {
    /// What the cleaner is at.
    pub cleaner: Cleaner,
    /// How many bytes a second it may copy; none while there is no limit.
    pub cleaner_rate: Option<u64>,
    /// When the newest checkpoint was finished; none if it is of an earlier run.
    pub checkpointed: Option<Time>,
}

#[derive(Debug)]
struct Cleaning {
    waiting: Option<Box<Clean>>,
    out: bool,
    /// Whether the alarm about space is raised.
    is_short: bool,
    at: Time,
    plan_at: Time,
    relink: Option<Relink>,
    /// Segments with a damaged record stay as they are.
    damaged: BTreeSet<u32>,
    pace: Pace,
}

impl Cleaning {
    const fn new() -> Self {
        Self {
            waiting: None,
            out: false,
            is_short: false,
            at: Time::ZERO,
            plan_at: Time::ZERO,
            relink: None,
            damaged: BTreeSet::new(),
            pace: Pace::new(),
        }
    }
}

#[derive(Debug)]
struct Relink {
    moves: Moves,
    next: usize,
    victims: Vec<Arc<Segment>>,
    copy: u32,
}

impl Checkpoints {
    pub(crate) const fn new(kept: Vec<(u64, u64)>, next: u64, behind: u64) -> Self {
        Self {
            kept,
            next,
            behind,
            bad: Vec::new(),
            retired: Vec::new(),
            retired_since: None,
            pinned: None,
            waiting: None,
            out: false,
            at: Time::ZERO,
            finished: None,
        }
    }

    const fn is_idle(&self) -> bool {
        self.pinned.is_none() && self.waiting.is_none() && !self.out
    }
}

impl Upkeep {
    pub(crate) fn new(writer: Writer, durable: Position, checkpoints: Checkpoints) -> Self {
        Self {
            writer: Some(writer),
            durable,
            in_flight: 0,
            full: false,
            refill: false,
            hurry: false,
            now: Time::ZERO,
            behind_since: None,
            flush_at: Time::ZERO,
            checkpoints,
            cleaning: Cleaning::new(),
            freeing: Freeing::default(),
        }
    }

    pub(crate) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(crate) const fn full(&self) -> bool {
        self.full
    }

    pub(crate) const fn durable(&self) -> &Position {
        &self.durable
    }

    /// Bytes of the newest checkpoint.
    pub(crate) fn checkpoint_bytes(&self) -> u64 {
        self.checkpoints.kept.last().map_or(0, |kept| kept.1)
    }

    /// Space matters more than who waits for the disk.
    const fn is_urgent(&self) -> bool {
        self.full || self.cleaning.is_short
    }

    fn note(&mut self, now: Time, behind: bool) {
        self.now = self.now.max(now);
        if !behind {
            self.behind_since = None;
        } else if self.behind_since.is_none() {
            self.behind_since = Some(self.now);
        }
    }
}

impl Store {
    /// The next piece of work, if any is due: at most one of each kind is under way. Call it
    /// between commands, after each batch, after each [`Store::finish`] and when
    /// [`Store::job_at`] is due.
    pub fn next_job(&mut self, now: Time) -> Option<Job> {
        assert!(!self.dirty && self.subs == 0, "not within a command");
        self.upkeep.note(now, self.is_behind());
        let work = self
            .flush()
            .or_else(|| self.checkpoint())
            .or_else(|| self.clean())
            .or_else(|| self.free(now))?;
        Some(Job::new(work))
    }

    /// When [`Store::next_job`] will have something because time passed, as far as is known.
    #[must_use]
    pub fn job_at(&self) -> Option<Time> {
        let Upkeep {
            checkpoints,
            cleaning,
            ..
        } = &self.upkeep;
        let flush = self.upkeep.behind_since.map(|since| {
            let due = since + self.config.flush_after;
            due.max(self.upkeep.flush_at)
        });
        let flush = flush.filter(|_| self.upkeep.writer.is_some());
        let full = self.upkeep.full.then_some(self.upkeep.flush_at);
        let checkpoint =
            (checkpoints.waiting.is_some() && !checkpoints.out).then_some(checkpoints.at);
        let clean = (cleaning.waiting.is_some() && !cleaning.out).then_some(cleaning.at);
        let retired = checkpoints.retired_since.filter(|_| checkpoints.is_idle());
        let retired = retired.map(|since| since + RETIRED_WAIT);
        let free = self.upkeep.freeing.at();
        [flush, full, checkpoint, clean, retired, free]
            .into_iter()
            .flatten()
            .min()
    }

    /// Makes everything due at once, a checkpoint included: for a clean stop, run jobs until
    /// there are none. A store that was not stopped so is as good, its start takes longer.
    pub const fn hurry(&mut self) {
        self.upkeep.hurry = true;
    }

    /// Forgets the time of whoever had it until now, and that there was haste.
    pub(crate) fn begin_anew(&mut self) {
        let upkeep = &mut self.upkeep;
        (upkeep.hurry, upkeep.now) = (false, Time::ZERO);
        (upkeep.behind_since, upkeep.flush_at) = (None, Time::ZERO);
        let checkpoints = &mut upkeep.checkpoints;
        (checkpoints.at, checkpoints.finished) = (Time::ZERO, None);
        checkpoints.retired_since = checkpoints.retired_since.map(|_since| Time::ZERO);
        let cleaning = &mut upkeep.cleaning;
        (cleaning.at, cleaning.plan_at) = (Time::ZERO, Time::ZERO);
        cleaning.pace = Pace::new();
        upkeep.freeing.begin_anew();
    }

    /// While the alarm about space is raised, cleaning knows no limit.
    pub(crate) const fn set_short(&mut self, is_short: bool) {
        self.upkeep.cleaning.is_short = is_short;
    }

    /// The log was synced: see [`Pace`].
    pub(crate) fn log_synced(&mut self, now: Time, took: Duration) {
        self.upkeep.cleaning.pace.synced(now, took);
    }

    /// How the work beside the engine goes.
    #[must_use]
    pub fn background(&self) -> Background {
        let (cleaning, checkpoints) = (&self.upkeep.cleaning, &self.upkeep.checkpoints);
        let cleaner = if cleaning.relink.is_some() {
            Cleaner::Relinking
        } else if cleaning.out || cleaning.waiting.is_some() {
            Cleaner::Copying
        } else if checkpoints.retired.is_empty() {
            Cleaner::Idle
        } else {
            Cleaner::Waiting
        };
        let is_limited = !self.upkeep.is_urgent();
        Background {
            cleaner,
            cleaner_rate: is_limited.then(|| cleaning.pace.rate()),
            checkpointed: checkpoints.finished,
        }
    }

    /// Takes note of what a job did. Call it between commands.
    ///
    /// # Errors
    ///
    /// The disk failed: the store must not be used any more. A full disk is no such error; see
    /// [`crate::Sizes::full`]. Nor is a damaged record that a job came across: it is answered
    /// to who reads it, and its segment stays as it is.
    pub fn finish(&mut self, done: JobDone) -> Result<(), StoreError> {
        match done.done {
            Done::Flush(flushed) => self.flushed(*flushed),
            Done::Checkpoint(checkpoint, result) => self.checkpointed(checkpoint, result),
            Done::Clean(clean, result) => self.cleaned(clean, result),
            Done::Free(free, result) => {
                self.upkeep.freeing.stepped(free);
                result
            }
            Done::Snapshot(_) => unreachable!("a snapshot's work was none of the store's"),
        }
    }

    /// Whether [`Store::next_job`] would take frames that lack the sequencer's newest words: set
    /// them first, with [`Store::set_sequencer`]. So they cost a record a flush, not a command.
    pub fn is_sequencer_due(&mut self, now: Time) -> bool {
        self.upkeep.note(now, self.is_behind());
        self.is_sequencer_behind() && self.may_flush()
    }

    fn may_flush(&self) -> bool {
        let upkeep = &self.upkeep;
        let now = upkeep.now;
        let old = |since: Time| now >= since + self.config.flush_after;
        let due = upkeep.hurry
            || self.tail.waiting() >= self.config.flush_bytes.value()
            || upkeep.behind_since.is_some_and(old);
        let wanted = (due && self.is_behind()) || (upkeep.full && !upkeep.hurry);
        wanted && now >= upkeep.flush_at && upkeep.writer.is_some()
    }

    fn flush(&mut self) -> Option<Work> {
        if !self.may_flush() {
            return None;
        }
        assert!(
            !self.is_sequencer_behind(),
            "I16: data reach the disk together with what the sequencer knows of them"
        );
        let frames = self.take();
        self.upkeep.in_flight = frames.iter().map(crate::tail::Frame::bytes).sum();
        self.pin_if_due();
        let mut writer = self.upkeep.writer.take()?;
        writer.spares &= !std::mem::take(&mut self.upkeep.refill);
        Some(Work::Flush(Box::new(Flush { writer, frames })))
    }

    fn take(&mut self) -> Vec<crate::tail::Frame> {
        if self.is_behind() && !self.tail.fits(0) {
            self.roll(0);
        }
        self.tail.take(self.stamp())
    }

    fn flushed(&mut self, done: Flushed) -> Result<(), StoreError> {
        let upkeep = &mut self.upkeep;
        if let Some(source) = done.failed {
            return Err(StoreError::Disk {
                attempted: "flush frames".to_owned(),
                source,
            });
        }
        upkeep.writer = Some(done.writer);
        upkeep.full = done.full;
        if done.full {
            upkeep.flush_at = upkeep.now + FULL_PAUSE;
        }
        let left: u64 = done.left.iter().map(crate::tail::Frame::bytes).sum();
        upkeep.checkpoints.behind += upkeep.in_flight - left;
        upkeep.in_flight = 0;
        if let Some(position) = done.position {
            assert!(
                position.frame > upkeep.durable.frame,
                "the mark moves forward"
            );
            upkeep.durable = position;
            self.root.pending.release(Place {
                segment: position.segment,
                unit: unit(position.end),
            });
        }
        self.tail.put_back(done.left);
        self.upkeep.behind_since = None;
        let behind = self.is_behind();
        self.upkeep.note(self.upkeep.now, behind);
        Ok(())
    }

    /// Pins the state for a checkpoint, right after all frames were taken.
    fn pin_if_due(&mut self) {
        let checkpoints = &self.upkeep.checkpoints;
        let relinks = self.upkeep.cleaning.relink.is_some();
        if relinks || !checkpoints.is_idle() || self.upkeep.now < checkpoints.at {
            return;
        }
        if !self.checkpoint_is_due() {
            return;
        }
        let pinned = Pinned {
            root: self.root.clone(),
            facts: self.facts.clone(),
            position: *self.tail.position(),
            bytes_max: self.checkpoint_bytes_max(),
            retired: checkpoints.retired.iter().map(|it| it.number).collect(),
        };
        self.upkeep.checkpoints.pinned = Some(pinned);
        self.upkeep.checkpoints.behind = 0;
    }

    fn checkpoint_is_due(&self) -> bool {
        let checkpoints = &self.upkeep.checkpoints;
        let last = checkpoints.kept.last().map_or(0, |kept| kept.1);
        let goal = self.config.checkpoint_bytes_min.value().max(last / 4);
        let retired: u64 = checkpoints.retired.iter().map(|it| it.bytes).sum();
        let reclaim = self.config.segment_bytes.value().max(last);
        let waited = |since: Time| self.upkeep.now >= since + RETIRED_WAIT;
        let waited = checkpoints.retired_since.is_some_and(waited);
        checkpoints.behind > goal
            || (retired > 0 && (retired >= reclaim || waited || self.upkeep.full))
            || (self.upkeep.hurry && checkpoints.behind + self.upkeep.in_flight > 0)
    }

    fn checkpoint_bytes_max(&self) -> u64 {
        let segments = self.root.table.in_order();
        let marks: u64 = segments.iter().map(|it| it.bytes / 4096 + 128).sum();
        let keys = self.root.index.live() + count(self.dead.len());
        let entries = keys + self.root.history.len();
        let facts = self.facts.live() * 20 + self.fact_bytes;
        let blocks = (entries * ENTRY_MAX + facts) / 2048;
        8192 + marks + entries * ENTRY_MAX + self.key_bytes + facts + blocks
    }

    fn checkpoint(&mut self) -> Option<Work> {
        if !self.is_behind() {
            self.pin_if_due();
        }
        let durable = self.upkeep.durable.frame;
        let checkpoints = &mut self.upkeep.checkpoints;
        let ready = |pinned: &mut Pinned| pinned.position.frame <= durable;
        if let Some(mut pinned) = checkpoints.pinned.take_if(ready) {
            checkpoints.waiting = Some(Box::new(Checkpoint {
                folder: Arc::clone(&self.folder),
                owner: self.config.owner(),
                number: checkpoints.next,
                retired: std::mem::take(&mut pinned.retired),
                pinned: Some(pinned),
                stage: Stage::Start,
            }));
            checkpoints.next += 1;
        }
        let now = self.upkeep.now;
        if now < checkpoints.at && !self.upkeep.hurry {
            return None;
        }
        let work = checkpoints.waiting.take()?;
        checkpoints.out = true;
        checkpoints.at = now + SLICE_PAUSE;
        Some(Work::Checkpoint(work))
    }

    fn checkpointed(
        &mut self,
        checkpoint: Box<Checkpoint>,
        result: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let checkpoints = &mut self.upkeep.checkpoints;
        checkpoints.out = false;
        match result {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                self.upkeep.full = true;
                checkpoints.at = self.upkeep.now + FULL_PAUSE;
                // All that was written since still waits for one.
                checkpoints.behind = u64::MAX / 2;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let Stage::Done { bytes } = checkpoint.stage else {
            checkpoints.waiting = Some(checkpoint);
            return Ok(());
        };
        let gone = checkpoints.kept.len().saturating_sub(1);
        let older = checkpoints.kept.drain(..gone);
        for (number, bytes) in older.chain(checkpoints.bad.drain(..)) {
            self.upkeep.freeing.push(Leaving {
                name: checkpoint::name(number),
                bytes,
                segment: None,
            });
        }
        checkpoints.kept.push((checkpoint.number, bytes));
        checkpoints.finished = Some(self.upkeep.now);
        let is_gone =
            |it: &mut Retired| it.checkpoints > 0 && checkpoint.retired.contains(&it.number);
        for gone in checkpoints.retired.extract_if(.., is_gone) {
            self.upkeep.freeing.push(Leaving {
                name: Segment::name(gone.number),
                bytes: gone.bytes,
                segment: gone.segment,
            });
        }
        for retired in &mut checkpoints.retired {
            if checkpoint.retired.contains(&retired.number) {
                retired.checkpoints += 1;
            }
        }
        let left = !checkpoints.retired.is_empty();
        checkpoints.retired_since = left.then_some(self.upkeep.now);
        Ok(())
    }

    fn free(&mut self, now: Time) -> Option<Work> {
        let upkeep = &mut self.upkeep;
        let is_urgent = upkeep.is_urgent() || upkeep.hurry;
        let free = upkeep
            .freeing
            .next(now, is_urgent, &self.folder, self.config.segment_bytes)?;
        Some(Work::Free(free))
    }

    fn clean(&mut self) -> Option<Work> {
        let now = self.upkeep.now;
        let cleaning = &self.upkeep.cleaning;
        if cleaning.out || cleaning.relink.is_some() || self.upkeep.hurry {
            return None;
        }
        if now < cleaning.at && !self.upkeep.is_urgent() {
            return None;
        }
        if cleaning.waiting.is_none() && now >= cleaning.plan_at {
            self.upkeep.cleaning.plan_at = now + PLAN_EVERY;
            self.plan();
        }
        let cleaning = &mut self.upkeep.cleaning;
        let work = cleaning.waiting.take()?;
        cleaning.out = true;
        cleaning.at = now + cleaning.pace.pause(now, clean::SLICE);
        Some(Work::Clean(work))
    }

    /// Retires what is wholly dead and looks for a run of segments that is worth a copy.
    fn plan(&mut self) {
        let sealed: Vec<_> = self.root.table.in_order().iter().map(Arc::clone).collect();
        let spread = self.is_spread();
        let runs = sealed.split(|segment| !self.may_be_cleaned(segment));
        let dead = runs.flatten().filter(|segment| self.used(segment) == 0);
        let dead: Vec<_> = dead.map(Arc::clone).collect();
        let best = sealed
            .split(|segment| !self.may_be_cleaned(segment) || self.used(segment) == 0)
            .flat_map(|run| (0..run.len()).filter_map(|start| self.worth(&run[start..], spread)))
            .max_by_key(|worth| worth.0);
        let victims = best.map(|(_, victims)| victims.to_vec());
        if !dead.is_empty() {
            self.retire(&dead, None);
        }
        let Some(victims) = victims else {
            return;
        };
        let used: u64 = victims.iter().map(|segment| self.used(segment)).sum();
        let number = self.next_segment;
        self.next_segment += 1;
        self.upkeep.cleaning.waiting = Some(Box::new(Clean {
            folder: Arc::clone(&self.folder),
            owner: self.config.owner(),
            root: Some(self.root.clone()),
            victims,
            number,
            bytes_max: clean::file_bytes(used),
            segment_bytes: self.config.segment_bytes.value(),
            took_spare: false,
            copy: None,
            at: (0, SEGMENT_HEAD),
            moves: Moves::default(),
            done: None,
        }));
    }

    /// The longest beginning of a run whose survivors fit one segment, and what copying them
    /// would bring for what it costs; `None` if too little.
    fn worth<'a>(
        &self,
        run: &'a [Arc<Segment>],
        spread: bool,
    ) -> Option<(u64, &'a [Arc<Segment>])> {
        let (mut len, mut used, mut file) = (0, 0, 0);
        for segment in run {
            let more = used + self.used(segment);
            if len > 0 && clean::file_bytes(more) > self.config.segment_bytes.value() {
                break;
            }
            (len, used, file) = (len + 1, more, file + segment.bytes);
        }
        let copied = clean::file_bytes(used);
        let freed = file.saturating_sub(copied);
        let dear = !spread && used > file / 2;
        if dear || freed < file / 8 || freed < 16 << 10 {
            return None;
        }
        Some((freed.saturating_mul(1000) / (file + used), &run[..len]))
    }

    /// Whether the segments that are not written to any more take up much more than what they
    /// hold.
    fn is_spread(&self) -> bool {
        let sealed = self.root.table.in_order().iter();
        let sealed = sealed.filter(|segment| self.may_be_cleaned(segment));
        let (mut file, mut used) = (0, 0);
        for segment in sealed {
            file += segment.bytes;
            used += self.used(segment);
        }
        let spare = self.config.segment_bytes.value() / 4;
        self.upkeep.full || file > used + used / 10 * 3 + spare
    }

    fn may_be_cleaned(&self, segment: &Segment) -> bool {
        let sealed = match segment.kind {
            SegmentKind::Cleaned => true,
            SegmentKind::Tail => segment.number < self.upkeep.durable.segment,
        };
        sealed && !self.upkeep.cleaning.damaged.contains(&segment.number)
    }

    fn used(&self, segment: &Segment) -> u64 {
        self.uses.get(&segment.number).copied().unwrap_or(0)
    }

    fn cleaned(
        &mut self,
        mut clean: Box<Clean>,
        result: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let cleaning = &mut self.upkeep.cleaning;
        cleaning.out = false;
        if std::mem::take(&mut clean.took_spare) {
            self.upkeep.full = true;
            self.upkeep.refill = true;
        }
        match result {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                self.upkeep.full = true;
                cleaning.at = self.upkeep.now + FULL_PAUSE;
                return Ok(());
            }
            Err(StoreError::Damaged { .. }) => {
                let victims = clean.victims.iter().map(|segment| segment.number);
                cleaning.damaged.extend(victims);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let Some(copy) = clean.done.take() else {
            cleaning.waiting = Some(clean);
            return Ok(());
        };
        cleaning.relink = Some(Relink {
            moves: std::mem::take(&mut clean.moves),
            next: 0,
            victims: std::mem::take(&mut clean.victims),
            copy: copy.number,
        });
        Arc::make_mut(&mut self.root.table).insert_copy(copy);
        Ok(())
    }

    /// Points one version to its record's copy, if it is still there.
    pub(crate) fn relink_one(&mut self) -> bool {
        let Some(relink) = &mut self.upkeep.cleaning.relink else {
            return false;
        };
        let Some((key, moved)) = relink.moves.get(relink.next) else {
            let done = self.upkeep.cleaning.relink.take();
            let done = done.expect("it was there a moment ago");
            self.retire(&done.victims, Some(done.copy));
            return true;
        };
        relink.next += 1;
        let here =
            |slot: &crate::history::Slot| slot.change() == moved.change && slot.place == moved.from;
        let Some(slot) = self.root.find(key, moved.change).copied().filter(here) else {
            return true;
        };
        let to = moved.to;
        if !self.root.index.update(key, here, |slot| slot.place = to) {
            let newest = self.root.index.get(key).expect("find went through it");
            let old = self.root.history.find(newest, moved.change);
            let number = old.expect("find went through it").0;
            self.root.history.relink(number, to);
        }
        let bytes = stored_bytes(&slot);
        let used = self.uses.get_mut(&moved.from.segment);
        *used.expect("I10: a segment that is pointed to is counted") -= bytes;
        *self.uses.entry(to.segment).or_default() += bytes;
        true
    }

    fn retire(&mut self, victims: &[Arc<Segment>], copy: Option<u32>) {
        Arc::make_mut(&mut self.root.table).replace(victims, copy);
        for victim in victims {
            let used = self.uses.remove(&victim.number).unwrap_or(0);
            assert!(used == 0, "I8: nothing points to a segment that goes");
            self.upkeep.checkpoints.retired.push(Retired {
                number: victim.number,
                bytes: victim.bytes,
                segment: Some(Arc::clone(victim)),
                checkpoints: 0,
            });
        }
        let now = self.upkeep.now;
        self.upkeep.checkpoints.retired_since.get_or_insert(now);
    }

    /// Bytes of all files.
    pub(crate) fn file_bytes(&self) -> u64 {
        let checkpoints = &self.upkeep.checkpoints;
        let kept: u64 = checkpoints.kept.iter().map(|kept| kept.1).sum();
        let retired: u64 = checkpoints.retired.iter().map(|it| it.bytes).sum();
        let spares = 2 * self.config.segment_bytes.value();
        let freeing = self.upkeep.freeing.bytes();
        8192 + self.root.table.bytes() + retired + freeing + kept + spares
    }
}
