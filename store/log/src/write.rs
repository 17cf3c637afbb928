//! The tail: encodes a flush, writes it once, syncs once.
//!
//! Records are encoded one after the other into `stream`, behind room for the flush header;
//! then the stream is cut into stamped sectors in `sectors`, which goes to the disk in one
//! write. Both buffers are kept from flush to flush.

use std::collections::BTreeMap;

use holm_base::{ByteCount, GroupId, NodeId};
use holm_machine::Disk;
use holm_sequencer::{Form, Record};

use crate::config::FLUSH_BYTES_TARGET;
use crate::error::LogError;
use crate::group::{self, Group, Installed};
use crate::layout::{
    self, CLEAN_CLOSE, ENTRIES_ALONE, FLUSH_HEADER, FlushHeader, HardBody, InstalledBody, Kind,
    RecordView, SegmentHeader, VERSION, VERSION_2,
};
use crate::plan::{self, Room};
use crate::replay::Carried;
use crate::sector::{self, BLOCK, Place};
use crate::spare::{self, Spare};

/// Where the log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriterState {
    pub(crate) cluster: u64,
    pub(crate) node: u64,
    /// The tail's first LSN.
    pub(crate) first: u64,
    pub(crate) len: u64,
    /// How many bytes of the tail are taken; zero before its header is written.
    pub(crate) used: u64,
    /// How far the tail was written before, with zeros or more.
    pub(crate) zeroed: u64,
    pub(crate) segment_number: u64,
    pub(crate) flush_number: u64,
    pub(crate) chain: u128,
    pub(crate) opens: u64,
}

/// The tail segment and the buffers that feed it.
#[derive(Debug)]
pub(crate) struct Writer {
    state: WriterState,
    disk: Box<dyn Disk>,
    stream: Vec<u8>,
    sectors: Vec<u8>,
    scratch: Vec<u8>,
    /// The body in hand, of a record that is not an entry.
    body: Vec<u8>,
    records: u32,
}

type Groups = BTreeMap<u32, Group>;

impl Writer {
    pub(crate) fn new(state: WriterState, disk: Box<dyn Disk>) -> Self {
        Self {
            state,
            disk,
            stream: Vec::new(),
            sectors: Vec::new(),
            scratch: Vec::new(),
            body: Vec::new(),
            records: 0,
        }
    }

    pub(crate) const fn opens(&self) -> u64 {
        self.state.opens
    }

    pub(crate) const fn used(&self) -> u64 {
        self.state.used
    }

    pub(crate) const fn len(&self) -> u64 {
        self.state.len
    }

    /// The tail's first LSN and length.
    pub(crate) const fn extent(&self) -> (u64, u64) {
        (self.state.first, self.state.len)
    }

    /// What a batch may fill, a note's room held back.
    pub(crate) fn room(&self, groups: usize) -> Room {
        let held_back = plan::note_disk_bytes(groups as u64, false);
        Room {
            free: (self.state.len - self.state.used).saturating_sub(held_back),
            held_back,
            states: plan::states_bytes(groups),
        }
    }

    /// Whether a flush with one small record per group fits into the tail.
    pub(crate) fn has_room_for_a_note(&self, groups: usize) -> bool {
        let is_new = self.state.used == 0;
        let header = if is_new { BLOCK as u64 } else { 0 };
        let needed = header + plan::note_disk_bytes(groups as u64, is_new);
        self.state.len - self.state.used >= needed
    }

    /// Goes on in a blank segment; its header goes out with the next flush.
    pub(crate) fn roll(&mut self, spare: Spare) {
        assert!(
            self.state.used > 0,
            "a segment is left only with data in it"
        );
        self.state.first = spare.first;
        self.state.len = spare.len;
        self.state.used = 0;
        self.state.zeroed = spare.zeroed;
        self.state.segment_number += 1;
        self.disk = spare.disk;
    }

    /// One flush with records of these groups. `chain` is the first group's behind the op of a
    /// [`Record::CutTo`], which stands first if at all.
    pub(crate) fn records(
        &mut self,
        groups: &mut Groups,
        parts: &[(GroupId, &[Record])],
        chain: Option<u128>,
    ) -> Result<(), LogError> {
        self.begin(groups);
        let begins_segment = self.state.used == 0;
        let mut is_alone = !begins_segment;
        for &(number, records) in parts {
            let number = number.value();
            let group = groups.entry(number).or_default();
            for record in records {
                self.record(group, number, record, chain);
            }
            is_alone &= group.is_replicated()
                && records.iter().all(|it| matches!(it, Record::Entry { .. }));
        }
        self.finish(if is_alone { ENTRIES_ALONE } else { 0 })
    }

    fn record(&mut self, group: &mut Group, number: u32, record: &Record, chain: Option<u128>) {
        match record {
            Record::Entry {
                term,
                op,
                form,
                body,
            } => self.entry(group, number, (term.value(), op.value()), (*form, body)),
            Record::Hard {
                term,
                vote,
                is_recovering,
            } => {
                assert!(*vote != Some(NodeId::ZERO), "no node has the id 0");
                let body = HardBody {
                    vote: vote.map_or(0, NodeId::value),
                    is_recovering: *is_recovering,
                };
                group.harden(term.value(), body);
                self.hard(group, number, body);
            }
            Record::CutTo { last } => {
                let chain = chain.expect("the chain was looked up");
                self.cut_to(group, number, (last.value(), chain));
            }
            Record::Installed {
                term,
                op,
                is_suffix_kept,
                body,
            } => {
                let installed = Installed {
                    term: *term,
                    op: *op,
                    is_suffix_kept: *is_suffix_kept,
                    body: body.clone(),
                };
                self.installed(group, number, installed);
            }
        }
    }

    /// One flush that says which ops of each group are not needed.
    pub(crate) fn cuts(&mut self, groups: &mut Groups) -> Result<(), LogError> {
        self.begin(groups);
        for (&number, group) in groups.iter_mut() {
            if group.written_cut < group.cut {
                group.written_cut = group.cut;
                let record = RecordView {
                    op: group.cut,
                    ..plain(Kind::Cut, number, group)
                };
                match group.cut_term() {
                    None => self.push(&record),
                    Some(term) => self.push(&RecordView {
                        version: VERSION_2,
                        body: &term.to_le_bytes(),
                        ..record
                    }),
                }
            }
        }
        self.finish(0)
    }

    /// One flush that voids a group's needed entries and holds them again.
    pub(crate) fn carried(
        &mut self,
        groups: &mut Groups,
        number: u32,
        carried: &Carried,
    ) -> Result<(), LogError> {
        self.begin(groups);
        let group = groups.entry(number).or_default();
        self.cut_to(group, number, (carried.after, carried.chain));
        for record in &carried.records {
            if let Record::Entry {
                term,
                op,
                form,
                body,
            } = record
            {
                self.entry(group, number, (term.value(), op.value()), (*form, body));
            }
        }
        self.finish(0)
    }

    /// One flush that says nothing but that the log is open.
    pub(crate) fn note(&mut self, groups: &mut Groups) -> Result<(), LogError> {
        self.begin(groups);
        self.finish(0)
    }

    /// The last flush of a run that ends in order.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        self.begin(&mut BTreeMap::new());
        self.finish(CLEAN_CLOSE)
    }

    /// Writes zeros ahead of the tail's data; false if there is nothing left to do.
    pub(crate) fn zero_slice(&mut self) -> Result<bool, LogError> {
        let state = &mut self.state;
        state.zeroed = state.zeroed.max(state.used);
        spare::zero_slice(&mut *self.disk, &mut state.zeroed, state.len)
    }

    /// Whether the data is about to reach blocks that were never written.
    pub(crate) fn is_behind(&self) -> bool {
        let ahead = self.state.used + FLUSH_BYTES_TARGET;
        self.state.zeroed < self.state.len.min(ahead)
    }

    fn begin(&mut self, groups: &mut Groups) {
        self.stream.clear();
        self.stream.resize(FLUSH_HEADER, 0);
        self.records = 0;
        if self.state.used == 0 {
            for (&number, group) in groups.iter_mut() {
                group.written_cut = group.cut;
                let mut body = core::mem::take(&mut self.body);
                let version = group.state().encode(&mut body);
                self.push(&RecordView {
                    version,
                    body: &body,
                    ..plain(Kind::State, number, group)
                });
                self.body = body;
            }
        }
    }

    /// Where the flush in hand will stand in its segment.
    const fn at(&self) -> u64 {
        if self.state.used == 0 {
            BLOCK as u64
        } else {
            self.state.used
        }
    }

    fn push(&mut self, record: &RecordView<'_>) {
        record.encode(&mut self.stream);
        self.records += 1;
    }

    fn hard(&mut self, group: &Group, number: u32, hard: HardBody) {
        let mut body = core::mem::take(&mut self.body);
        let version = hard.encode(&mut body);
        self.push(&RecordView {
            version,
            body: &body,
            ..plain(Kind::Hard, number, group)
        });
        self.body = body;
    }

    fn cut_to(&mut self, group: &mut Group, number: u32, (op, chain): (u64, u128)) {
        self.push(&RecordView {
            op,
            body: &chain.to_le_bytes(),
            ..plain(Kind::CutTo, number, group)
        });
        group.cut_to(op, chain);
    }

    fn installed(&mut self, group: &mut Group, number: u32, installed: Installed) {
        let (op, is_suffix_kept) = (installed.op.value(), installed.is_suffix_kept);
        let misfit = group.misfit(op, is_suffix_kept);
        assert!(misfit.is_none(), "I11: {misfit:?}");
        let mut body = core::mem::take(&mut self.body);
        let manifest = &installed.body;
        InstalledBody {
            is_suffix_kept,
            manifest,
        }
        .encode(&mut body);
        self.push(&RecordView {
            op,
            term: installed.term.value(),
            body: &body,
            ..plain(Kind::Installed, number, group)
        });
        self.body = body;
        group.install(installed, self.state.first);
    }

    fn entry(
        &mut self,
        group: &mut Group,
        number: u32,
        (term, op): (u64, u64),
        (form, body): (Form, &[u8]),
    ) {
        let record = RecordView {
            version: version_of(form),
            term,
            op,
            body,
            ..plain(Kind::Entry, number, group)
        };
        let place = group::Place {
            segment: self.state.first,
            flush: self.state.first + self.at(),
            record: self.records,
        };
        let chain = layout::group_chain(group.chain, term, op, body, &mut self.scratch);
        group.append(&record, place, chain);
        self.push(&record);
    }

    fn finish(&mut self, flags: u32) -> Result<(), LogError> {
        let (at, start) = (self.at(), self.state.used);
        let lsn = self.state.first + at;
        self.state.flush_number += 1;
        let payload = u32::try_from(self.stream.len() - FLUSH_HEADER)
            .expect("a flush is planned to be far below 4 GiB");
        let header = FlushHeader {
            payload,
            number: self.state.flush_number,
            lsn,
            records: self.records,
            flags,
            chain: self.state.chain,
            opens: self.state.opens,
        };
        let room = self
            .stream
            .first_chunk_mut()
            .expect("the header's room comes first");
        header.encode(room);
        self.sectors.clear();
        if start == 0 {
            let header = self.segment_header().encode();
            sector::scatter(&header, self.state.first, Place::Inside, &mut self.sectors);
        }
        sector::scatter(&self.stream, lsn, Place::FlushStart, &mut self.sectors);
        let end = start + self.sectors.len() as u64;
        assert!(end <= self.state.len, "a flush lies within its segment");
        self.disk
            .write_through(ByteCount::new(start), &self.sectors)?;
        self.disk.sync()?;
        self.state.chain = layout::flush_chain(self.state.chain, &mut self.stream);
        self.state.used = end;
        self.shrink();
        Ok(())
    }

    const fn segment_header(&self) -> SegmentHeader {
        SegmentHeader {
            cluster: self.state.cluster,
            node: self.state.node,
            number: self.state.segment_number,
            first: self.state.first,
            opens: self.state.opens,
            chain: self.state.chain,
        }
    }

    /// Gives back what one very large record made the buffers grow to.
    fn shrink(&mut self) {
        let limit = crate::segment::to_usize(2 * FLUSH_BYTES_TARGET);
        let buffers = [
            &mut self.stream,
            &mut self.sectors,
            &mut self.scratch,
            &mut self.body,
        ];
        for buffer in buffers {
            if buffer.capacity() > limit {
                *buffer = Vec::new();
            }
        }
    }
}

/// A record of version 1 without a body, at the group's last op.
fn plain(kind: Kind, number: u32, group: &Group) -> RecordView<'static> {
    RecordView {
        kind,
        version: VERSION,
        group: number,
        term: group.term,
        op: group.last,
        chain: layout::low_half(group.chain),
        body: &[],
    }
}

/// The version of an entry's record.
const fn version_of(form: Form) -> u16 {
    match form {
        Form::Plain => VERSION,
        Form::Raft => VERSION_2,
    }
}
