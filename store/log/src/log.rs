//! The log itself: open, flush, cut, close.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, GroupId, Op, Term};
use holm_machine::Folder;
use holm_sequencer::{Form, Record};

use crate::config::LogConfig;
use crate::error::LogError;
use crate::group::{Group, Hard, Installed};
use crate::plan::Plan;
use crate::replay::{self, Then};
use crate::scan::{self, Scanned};
use crate::segment;
use crate::spare::{Preparation, Spares};
use crate::write::{Writer, WriterState};

/// How much a flush may ask of a disk that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Leaves the reserve alone: refused when no further segment can be had.
    Ordinary,
    /// May use the reserve segment: deletes, compaction, hard state.
    Reserve,
}

/// The write-ahead log of one node, for all its groups.
///
/// All calls block. One thread owns it. After any error but [`LogError::Full`],
/// [`LogError::TooLarge`] and [`LogError::Gone`] it refuses everything (I12).
#[derive(Debug)]
pub struct Log {
    folder: Arc<dyn Folder>,
    config: LogConfig,
    groups: BTreeMap<u32, Group>,
    /// Segments with data before the tail, oldest first: first LSN and length.
    closed: VecDeque<(u64, u64)>,
    writer: Writer,
    spares: Spares,
    was_clean: bool,
    torn: u64,
    damage: Option<LogError>,
    broken: bool,
}

impl Log {
    /// Opens the log in `folder`, or begins one there.
    ///
    /// Reads every segment once and checks all of it, zeroes a torn tail, and makes durable
    /// that the log was opened once more. Memory: about a mebibyte, whatever the log's size.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`] if bytes that may have been acknowledged cannot be read back;
    /// nothing is changed then. With peers only if a hard state may be among them, and else see
    /// [`Log::is_damaged`]. [`LogError::Foreign`] and [`LogError::Version`] for a log that
    /// is not this node's or not this release's. [`LogError::Full`] if there is no room even
    /// for the note that it was opened.
    pub fn open(folder: Arc<dyn Folder>, config: LogConfig) -> Result<Self, LogError> {
        config.check()?;
        let mut scanned = scan::scan(&*folder, &config)?;
        let mut spares = Spares::adopt(&*folder, &config, &scanned)?;
        let (writer, closed) = if let Some(&(first, len)) = scanned.segments.last() {
            scanned.segments.pop();
            let disk = folder.open(&segment::name(first))?;
            (
                Writer::new(state(&scanned, &config, (first, len)), disk),
                scanned.segments.into(),
            )
        } else {
            spares.ensure(&*folder, 1)?;
            let spare = spares.take(&*folder)?;
            let mut state = state(&scanned, &config, (spare.first, spare.len));
            state.used = 0;
            state.zeroed = spare.zeroed;
            (Writer::new(state, spare.disk), VecDeque::new())
        };
        let mut log = Self {
            folder,
            config,
            groups: scanned.groups,
            closed,
            writer,
            spares,
            was_clean: scanned.closed,
            torn: scanned.torn,
            damage: scanned.damage,
            broken: false,
        };
        log.mend()?;
        log.note_opened()?;
        Ok(log)
    }

    /// Whether entries of a group were lost to damage that opening came across: the group ends
    /// before it, its hard state is whole and says from now on that the node is recovering
    /// (I14), and what was lost is to be had from peers. The damaged bytes stay where they are
    /// (I13) until their segment is not needed any more.
    ///
    /// The engine may be ahead of such a log. Then tell it so before anything is appended: flush
    /// a [`Record::Installed`] of the engine's applied op without suffix, and cut to that op.
    #[must_use]
    pub fn is_damaged(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|group| group.is_lost)
    }

    /// That damage, for a person to read.
    #[must_use]
    pub const fn damage(&self) -> Option<&LogError> {
        self.damage.as_ref()
    }

    /// How often this log was opened, this time included: the node's boot number.
    #[must_use]
    pub const fn opens(&self) -> u64 {
        self.writer.opens()
    }

    /// Whether the last run closed the log before it ended.
    #[must_use]
    pub const fn was_closed(&self) -> bool {
        self.was_clean
    }

    /// How many bytes of a torn flush were zeroed at opening.
    #[must_use]
    pub const fn torn(&self) -> ByteCount {
        ByteCount::new(self.torn)
    }

    /// The hard state of a group; all zero for a group that the log does not know.
    #[must_use]
    pub fn hard(&self, group: GroupId) -> Hard {
        self.group(group).map_or_else(Hard::default, Group::hard)
    }

    /// The place below the oldest entry of a group that is still here, as term and op.
    ///
    /// The term is zero where nothing is below, and where a node alone cut the entry away: it
    /// does not keep that term.
    #[must_use]
    pub fn base(&self, group: GroupId) -> (Term, Op) {
        let base = self.group(group).map(Group::base).unwrap_or_default();
        (Term::new(base.term), Op::new(base.op))
    }

    /// The snapshot that the group's state comes from, until the owner cuts to its op: then the
    /// engine holds it. If its op is above what the engine has applied, a crash came between the
    /// record and the engine: finish that first, for the entries may begin behind it.
    #[must_use]
    pub fn installed(&self, group: GroupId) -> Option<&Installed> {
        self.group(group).and_then(Group::installed)
    }

    /// The newest op of a group; zero if there was none yet.
    #[must_use]
    pub fn last(&self, group: GroupId) -> Op {
        Op::new(self.group(group).map_or(0, |group| group.last))
    }

    /// The oldest op of a group that is still here; one past the last if none is.
    #[must_use]
    pub fn first(&self, group: GroupId) -> Op {
        Op::new(self.group(group).map_or(1, Group::first))
    }

    /// How many bytes the log's files take.
    #[must_use]
    pub fn file_bytes(&self) -> ByteCount {
        let closed: u64 = self.closed.iter().map(|&(_, len)| len).sum();
        ByteCount::new(closed + self.writer.len() + self.spares.file_bytes())
    }

    /// Hands `each` the entries of `group` above `after`, in order.
    ///
    /// Reads the segments that hold them, once; used at start.
    ///
    /// # Errors
    ///
    /// [`LogError::Gone`] if an entry above `after` was cut away; [`LogError::Damaged`] if one
    /// cannot be read back.
    pub fn replay(
        &self,
        group: GroupId,
        after: Op,
        each: &mut dyn FnMut(Term, Op, Form, Bytes),
    ) -> Result<(), LogError> {
        self.read(group, after, &mut |term, op, form, body| {
            each(term, op, form, body);
            Then::Next
        })
    }

    /// Reads the entries `first..=last` of a group, or as many of them as `bytes_max` bytes of
    /// bodies allow, but one at least if there is one.
    ///
    /// Cost: it reads about a mebibyte of its segment before the first of them, at most.
    ///
    /// # Errors
    ///
    /// As [`Log::replay`] says.
    pub fn entries(
        &self,
        group: GroupId,
        first: Op,
        last: Op,
        bytes_max: u64,
    ) -> Result<Vec<(Term, Op, Form, Bytes)>, LogError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        if first > last {
            return Ok(found);
        }
        let after = Op::new(first.value().saturating_sub(1));
        self.read(group, after, &mut |term, op, form, body| {
            bytes += body.len() as u64;
            let is_too_much = bytes > bytes_max && !found.is_empty();
            if op > last || is_too_much {
                return Then::Stop;
            }
            found.push((term, op, form, body));
            if op == last { Then::Stop } else { Then::Next }
        })?;
        Ok(found)
    }

    fn read(
        &self,
        group: GroupId,
        after: Op,
        each: &mut dyn FnMut(Term, Op, Form, Bytes) -> Then,
    ) -> Result<(), LogError> {
        let Some(known) = self.group(group) else {
            return Ok(());
        };
        if after.value() < known.last && after.value() + 1 < known.first() {
            return Err(LogError::Gone {
                group,
                after,
                first: Op::new(known.first()),
            });
        }
        replay::replay(
            &*self.folder,
            group.value(),
            known,
            after.value(),
            &mut |entry| {
                each(
                    Term::new(entry.term),
                    Op::new(entry.op),
                    replay::form_of(entry),
                    Bytes::copy_from_slice(entry.body),
                )
            },
        )
    }

    /// As [`Log::flush_all`], for the records of one group.
    ///
    /// # Errors
    ///
    /// As [`Log::flush_all`] says.
    ///
    /// # Panics
    ///
    /// As [`Log::flush_all`] says.
    pub fn flush(
        &mut self,
        group: GroupId,
        records: &[Record],
        urgency: Urgency,
    ) -> Result<(), LogError> {
        self.flush_all(&[(group, records)], urgency)
    }

    /// Writes the records of all these groups and syncs once; they are durable when it returns
    /// `Ok`. No group stands twice among them.
    ///
    /// Cost: one write and one `fdatasync`, and about 100 ns of work for a record of 300 bytes.
    /// Records of more than 4 MiB together are split over several flushes, each synced before
    /// the next; after a crash then a prefix of the records may be there. A
    /// [`Record::CutTo`] begins a flush too, and costs reading about a mebibyte at most.
    ///
    /// # Errors
    ///
    /// [`LogError::Full`] and [`LogError::TooLarge`]: nothing was written, and the log can be
    /// used on. Anything else: some of it may have been written, and the log refuses
    /// everything (I12).
    ///
    /// # Panics
    ///
    /// If an entry's op does not follow its group's last one, a [`Record::CutTo`] names an op
    /// that is not here, or a [`Record::Installed`] does not fit (I11).
    pub fn flush_all(
        &mut self,
        batches: &[(GroupId, &[Record])],
        urgency: Urgency,
    ) -> Result<(), LogError> {
        self.refuse_if_broken()?;
        let keep = match urgency {
            Urgency::Ordinary => 1,
            Urgency::Reserve => 0,
        };
        let records = batches.iter().flat_map(|(_group, records)| *records);
        let room = self.room_with(batches);
        let plan = Plan::of(records, room, &self.config)?;
        self.spares.ensure(&*self.folder, plan.rolls() + keep)?;
        self.or_break(|log| {
            for chunk in plan.chunks() {
                if chunk.rolls {
                    log.roll()?;
                }
                let parts = parts(batches, &chunk.range);
                // Only its first record can be a cut, for each begins a flush.
                let chain = match parts.first() {
                    Some(&(group, records)) => log.chain_to_cut(group, records)?,
                    None => None,
                };
                log.writer.records(&mut log.groups, &parts, chain)?;
            }
            Ok(())
        })
    }

    /// Says that entries of `group` up to `through` are not needed any more.
    ///
    /// Costs nothing until a whole segment can go; then one small flush, and for each such
    /// segment a renaming and a folder sync: it becomes a spare, or is freed by
    /// [`Log::prepare_next`]. A group whose last entries are few and old has them
    /// written anew, so that it holds no segment.
    ///
    /// # Errors
    ///
    /// As [`Log::flush`] says. After [`LogError::Full`] the cut is known but no segment went.
    ///
    /// # Panics
    ///
    /// If `through` is above the group's last op.
    pub fn cut(&mut self, group: GroupId, through: Op) -> Result<(), LogError> {
        self.refuse_if_broken()?;
        let known = self.groups.entry(group.value()).or_default();
        assert!(
            through.value() <= known.last,
            "only what was written can be cut"
        );
        known.cut(through.value());
        self.carry_forward()?;
        let removable = self.removable();
        if removable == 0 {
            return Ok(());
        }
        self.make_room_for_a_note()?;
        self.or_break(|log| {
            log.writer.cuts(&mut log.groups)?;
            (0..removable).try_for_each(|_| log.remove_oldest())
        })
    }

    /// Forgets a group that has ended for good: what it wrote holds no segment any more, and
    /// new ones do not begin with its state. Its number must never be used again.
    ///
    /// Cost: one small flush, and what [`Log::cut`] costs for each segment that can go. While
    /// a segment with its records is left, the group is there again when the log is opened;
    /// then it is to be released again.
    ///
    /// # Errors
    ///
    /// As [`Log::cut`] says.
    pub fn release(&mut self, group: GroupId) -> Result<(), LogError> {
        self.refuse_if_broken()?;
        let Some(known) = self.groups.get_mut(&group.value()) else {
            return Ok(());
        };
        known.cut(known.last);
        self.make_room_for_a_note()?;
        self.or_break(|log| log.writer.cuts(&mut log.groups))?;
        self.groups.remove(&group.value());
        let removable = self.removable();
        self.or_break(|log| (0..removable).try_for_each(|_| log.remove_oldest()))
    }

    /// The groups that the log has heard of.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().map(|&number| GroupId::new(number))
    }

    /// Whether the log has heard of a group.
    #[must_use]
    pub fn knows(&self, group: GroupId) -> bool {
        self.group(group).is_some()
    }

    /// Does a bounded piece of preparing the next segment: allocating it, zeroing 256 KiB, or
    /// freeing a piece of an old one.
    ///
    /// For the log's thread to call when it has nothing to flush, and between flushes whenever
    /// [`Log::is_behind`]. A full disk is no error here; the next flush tells.
    ///
    /// # Errors
    ///
    /// The disk's, and then the log refuses everything (I12).
    pub fn prepare_next(&mut self) -> Result<Preparation, LogError> {
        self.refuse_if_broken()?;
        let is_lagging = self.is_lagging();
        self.or_break(|log| {
            if log.spares.is_crowded() && !is_lagging {
                return log.spares.free_some(&*log.folder);
            }
            if log.writer.zero_slice()? {
                return Ok(Preparation::More);
            }
            log.spares.prepare(&*log.folder)
        })
    }

    /// Whether preparing has fallen so far behind that a flush may soon pay for it, or that more
    /// files wait to be freed than should: then it does not wait for an idle moment.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_lagging() || self.spares.is_crowded()
    }

    fn is_lagging(&self) -> bool {
        self.writer.is_behind() || self.spares.is_behind(self.writer.used())
    }

    /// Notes that nothing was under way when the node stopped, and closes the files.
    ///
    /// # Errors
    ///
    /// The disk's. Nothing that was acknowledged depends on it.
    pub fn close(mut self) -> Result<(), LogError> {
        self.refuse_if_broken()?;
        if self.writer.has_room_for_a_note(0) {
            self.writer.close()?;
        }
        Ok(())
    }

    /// How many of the oldest segments no group needs.
    fn removable(&self) -> usize {
        let is_free =
            |&&(first, _): &&(u64, u64)| self.groups.values().all(|group| !group.needs(first));
        self.closed.iter().take_while(is_free).count()
    }

    /// The chain that a flush needs if it begins with a [`Record::CutTo`].
    fn chain_to_cut(&self, group: GroupId, records: &[Record]) -> Result<Option<u128>, LogError> {
        let Some(Record::CutTo { last }) = records.first() else {
            return Ok(None);
        };
        let last = last.value();
        let known = self.group(group);
        let kept = known.map_or(0..=0, |known| known.base().op..=known.last);
        assert!(
            kept.contains(&last),
            "I2: the log is cut to op {last}, it has {kept:?}"
        );
        let Some(known) = known else {
            return Ok(Some(0));
        };
        replay::chain_at(&*self.folder, group.value(), known, last).map(Some)
    }

    fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group.value())
    }

    fn room(&self) -> crate::plan::Room {
        self.writer.room(self.groups.len())
    }

    /// The room once groups that are new in these batches have their states and notes too.
    fn room_with(&self, batches: &[(GroupId, &[Record])]) -> crate::plan::Room {
        let is_new = |group: &GroupId| !self.groups.contains_key(&group.value());
        let new = batches.iter().filter(|(group, _)| is_new(group)).count();
        self.writer.room(self.groups.len() + new)
    }

    const fn refuse_if_broken(&self) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Broken);
        }
        Ok(())
    }

    /// I12: whatever fails on the way to the disk ends this log.
    fn or_break<T>(
        &mut self,
        attempt: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let answer = attempt(self);
        self.broken = answer.is_err();
        answer
    }

    /// I14: before anything else happens it is durable that entries are missing, and where the
    /// group goes on. Both stand in the states that a new segment begins with.
    fn mend(&mut self) -> Result<(), LogError> {
        if self.damage.is_none() {
            return Ok(());
        }
        for group in self.groups.values_mut().filter(|it| it.is_lost) {
            group.recover();
        }
        self.spares.ensure(&*self.folder, 1)?;
        self.or_break(Self::roll)
    }

    /// Makes the new count of opens durable; from then on this run's flushes carry it.
    fn note_opened(&mut self) -> Result<(), LogError> {
        self.make_room_for_a_note()?;
        self.writer.note(&mut self.groups)
    }

    fn make_room_for_a_note(&mut self) -> Result<(), LogError> {
        if self.writer.has_room_for_a_note(self.groups.len()) {
            return Ok(());
        }
        self.spares.ensure(&*self.folder, 1)?;
        self.or_break(Self::roll)
    }

    fn roll(&mut self) -> Result<(), LogError> {
        let spare = self.spares.take(&*self.folder)?;
        self.closed.push_back(self.writer.extent());
        self.writer.roll(spare);
        Ok(())
    }

    /// I13 permits this: the Cut that covers the segment is durable.
    fn remove_oldest(&mut self) -> Result<(), LogError> {
        let oldest = self
            .closed
            .pop_front()
            .expect("it was counted as removable");
        for group in self.groups.values_mut() {
            group.forget(oldest.0);
        }
        self.spares.take_back(&*self.folder, oldest)
    }

    /// Writes the entries of quiet groups anew while they alone hold the oldest segment.
    fn carry_forward(&mut self) -> Result<(), LogError> {
        let Some(&(oldest, _)) = self.closed.front() else {
            return Ok(());
        };
        let tail = self.writer.extent().0;
        let holders = || self.groups.iter().filter(|(_, group)| group.needs(oldest));
        let all_are_quiet = holders().all(|(_, group)| {
            group
                .quiet_bytes(tail)
                .is_some_and(|bytes| bytes <= crate::config::CARRY_BYTES_MAX)
        });
        if !all_are_quiet {
            return Ok(());
        }
        let numbers: Vec<u32> = holders().map(|(&number, _)| number).collect();
        for number in numbers {
            self.carry(number)?;
        }
        Ok(())
    }

    /// I13: the void and the new entries are one flush, so a crash leaves the old or the new.
    ///
    /// Entries that fit into no one flush stay where they are, and their segment with them.
    fn carry(&mut self, number: u32) -> Result<(), LogError> {
        let carried = replay::read_needed(&*self.folder, number, &self.groups[&number])?;
        let room = self.room().less_a_block();
        let Some(plan) = Plan::in_one_flush(&carried.records, room, &self.config) else {
            return Ok(());
        };
        self.spares.ensure(&*self.folder, plan.rolls())?;
        self.or_break(|log| {
            if plan.rolls() > 0 {
                log.roll()?;
            }
            log.writer.carried(&mut log.groups, number, &carried)
        })
    }
}

/// The records of a chunk, group by group.
fn parts<'r>(
    batches: &[(GroupId, &'r [Record])],
    range: &Range<usize>,
) -> Vec<(GroupId, &'r [Record])> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for &(group, records) in batches {
        let end = begin + records.len();
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            parts.push((group, &records[from - begin..to - begin]));
        }
        begin = end;
    }
    parts
}

fn state(scanned: &Scanned, config: &LogConfig, (first, len): (u64, u64)) -> WriterState {
    WriterState {
        cluster: config.cluster.value(),
        node: config.node.value(),
        first,
        len,
        used: scanned.used,
        zeroed: len,
        segment_number: scanned.segment_number,
        flush_number: scanned.flush_number,
        chain: scanned.chain,
        opens: scanned.opens + 1,
    }
}
