//! What the log knows of one group: its hard state, where its entries stand, its chain.
//!
//! Memory: one [`Piece`] per mebibyte of segment that holds entries of the group, whatever their
//! number, and one pair per term among them.

use std::collections::VecDeque;

use bytes::Bytes;
use holm_base::{NodeId, Op, Term};

use crate::layout::{self, HardBody, InstalledBody, Kind, RecordView, StateBody, StateMore};

/// How far apart in a segment the entries of one piece may stand: what is read to find one.
const PIECE_REACH: u64 = 1 << 20;

/// What must not be forgotten about elections, as the log keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hard {
    /// The newest term.
    pub term: Term,
    /// The vote in it.
    pub vote: Option<NodeId>,
    /// Whether acknowledged entries may be missing here.
    pub is_recovering: bool,
}

/// A snapshot that the state comes from, as [`holm_sequencer::Record::Installed`] told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Installed {
    /// The term of the last entry that it covers.
    pub term: Term,
    /// That entry's place.
    pub op: Op,
    /// Whether the entries behind it stayed.
    pub is_suffix_kept: bool,
    /// What it consists of, in the sequencer's own bytes.
    pub body: Bytes,
}

/// Entries of one group that follow each other in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The first op.
    pub(crate) first: u64,
    /// The last op.
    pub(crate) last: u64,
    /// The group's chain before the first op.
    pub(crate) chain: u128,
    /// Encoded bytes of all its records.
    pub(crate) bytes: u64,
    /// Where the first op's record stands.
    pub(crate) place: Place,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first LSN of its segment.
    pub(crate) segment: u64,
    /// The LSN of its flush.
    pub(crate) flush: u64,
    /// Its index in the flush.
    pub(crate) record: u32,
}

/// An op and the term of the entry there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) op: u64,
    pub(crate) term: u64,
}

/// One group's part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) term: u64,
    vote: u64,
    is_recovering: bool,
    /// Whether the group knows of other nodes.
    is_replicated: bool,
    pub(crate) last: u64,
    pub(crate) chain: u128,
    /// Below the oldest entry that counts: cut to, or covered by a snapshot. Its term is zero if
    /// a node alone cut it before the log was opened.
    base: Position,
    /// Ops up to here are not needed, as told by the owner; not above `base`.
    pub(crate) cut: u64,
    /// The newest cut that a flush holds.
    pub(crate) written_cut: u64,
    /// Until the owner cuts to it, the snapshot that the state comes from, and its segment.
    installed: Option<(Installed, u64)>,
    pieces: VecDeque<Piece>,
    /// Where each term begins among the entries above `base`.
    terms: VecDeque<Position>,
    /// Something void stands behind the last entry, so the next one begins a piece.
    is_parted: bool,
    /// Records of the group may have been lost: `last` is what stands before the damage.
    pub(crate) is_lost: bool,
}

impl Group {
    /// A group as a State record describes it, when what came before was cut away.
    pub(crate) fn from_state(record: &RecordView<'_>) -> Self {
        let body = StateBody::decode(record);
        Self {
            term: record.term,
            vote: body.vote,
            is_recovering: body.more.is_some_and(|more| more.is_recovering),
            is_replicated: body.more.is_some(),
            last: record.op,
            chain: body.chain,
            base: Position {
                op: body.base,
                term: body.more.map_or(0, |more| more.base_term),
            },
            cut: body.base,
            written_cut: body.base,
            ..Self::default()
        }
    }

    /// A group of which nothing is known; behind damage that means little.
    pub(crate) fn fresh(is_lost: bool) -> Self {
        Self {
            is_lost,
            ..Self::default()
        }
    }

    /// The body of this group's State record.
    pub(crate) fn state(&self) -> StateBody {
        let more = StateMore {
            base_term: self.base.term,
            is_recovering: self.is_recovering,
            has_snapshot: self.installed.is_some(),
        };
        StateBody {
            vote: self.vote,
            base: self.base.op,
            chain: self.chain,
            more: self.is_replicated.then_some(more),
        }
    }

    /// The term that its Cut record names, if it names one.
    pub(crate) fn cut_term(&self) -> Option<u64> {
        self.is_replicated.then(|| self.term_at(self.cut))
    }

    pub(crate) fn hard(&self) -> Hard {
        Hard {
            term: Term::new(self.term),
            vote: (self.vote > 0).then_some(NodeId::new(self.vote)),
            is_recovering: self.is_recovering,
        }
    }

    /// The snapshot that the state comes from, until the owner cuts to it.
    pub(crate) fn installed(&self) -> Option<&Installed> {
        self.installed.as_ref().map(|(installed, _)| installed)
    }

    /// The place below the oldest op that is still here.
    pub(crate) fn base(&self) -> Position {
        let op = self.first() - 1;
        let term = self.term_at(op);
        Position { op, term }
    }

    /// The oldest op still here; one past the last if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.kept().max(self.base.op + 1)
    }

    fn kept(&self) -> u64 {
        let oldest = self.pieces.front();
        oldest.map_or(self.last + 1, |piece| piece.first)
    }

    /// Whether an op that is needed is in no segment.
    pub(crate) fn has_a_hole(&self) -> bool {
        self.base.op < self.last && self.kept() > self.base.op + 1
    }

    /// The term of an entry that is still here or was the last to be cut; zero if not known.
    fn term_at(&self, op: u64) -> u64 {
        if op == self.base.op {
            return self.base.term;
        }
        let begun = self.terms.partition_point(|it| it.op <= op);
        let run = begun.checked_sub(1).and_then(|index| self.terms.get(index));
        run.map_or(0, |it| it.term)
    }

    /// The pieces, oldest first, that hold an op above `after`.
    pub(crate) fn pieces_after(&self, after: u64) -> impl Iterator<Item = &Piece> {
        let begin = self.pieces.partition_point(|piece| piece.last <= after);
        self.pieces.range(begin..)
    }

    /// Takes the next entry: `chain_after` is the group's chain behind it.
    pub(crate) fn append(&mut self, record: &RecordView<'_>, place: Place, chain_after: u128) {
        assert!(record.op == self.last + 1, "the ops of a group are dense");
        let bytes = RecordView::encoded_bytes(record.body.len()) as u64;
        let is_parted = core::mem::take(&mut self.is_parted);
        match self.pieces.back_mut() {
            Some(piece) if !is_parted && piece.reaches(place) => {
                piece.last = record.op;
                piece.bytes += bytes;
            }
            Some(_) | None => self.pieces.push_back(Piece {
                first: record.op,
                last: record.op,
                chain: self.chain,
                bytes,
                place,
            }),
        }
        if self.terms.back().is_none_or(|it| it.term != record.term) {
            self.terms.push_back(Position {
                op: record.op,
                term: record.term,
            });
        }
        self.last = record.op;
        self.chain = chain_after;
        self.is_replicated |= record.version > layout::VERSION;
        self.raise_term(record.term);
    }

    /// A vote counts in its own term alone.
    fn raise_term(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.vote = 0;
        }
    }

    /// Takes a hard state. The term of a group never falls.
    pub(crate) fn harden(&mut self, term: u64, body: HardBody) {
        self.raise_term(term);
        self.vote = body.vote;
        self.is_recovering = body.is_recovering;
        self.is_replicated |= body.vote > 0 || body.is_recovering;
    }

    /// Voids all entries above `op`; `chain` is the group's chain behind `op`.
    ///
    /// The next entry begins a new piece, for what stands between is void.
    pub(crate) fn cut_to(&mut self, op: u64, chain: u128) {
        while self.pieces.back().is_some_and(|piece| piece.first > op) {
            self.pieces.pop_back();
        }
        if let Some(piece) = self.pieces.back_mut() {
            piece.last = piece.last.min(op);
        }
        while self.terms.back().is_some_and(|it| it.op > op) {
            self.terms.pop_back();
        }
        self.last = op;
        self.chain = chain;
        self.is_parted = true;
    }

    /// The state comes from a snapshot now; the record that says so stands in `segment`.
    pub(crate) fn install(&mut self, installed: Installed, segment: u64) {
        let (op, term) = (installed.op.value(), installed.term.value());
        if !installed.is_suffix_kept {
            self.pieces.clear();
            self.terms.clear();
            self.base = Position { op, term };
            self.last = op;
            self.chain = layout::group_chain(0, term, op, &installed.body, &mut Vec::new());
            self.is_parted = true;
        }
        self.is_replicated = true;
        self.raise_term(term);
        self.installed = Some((installed, segment));
    }

    /// The owner needs no op up to `op`, which is not above the last.
    pub(crate) fn cut(&mut self, op: u64) {
        let term = self.term_at(op);
        self.cut_at(Position { op, term });
    }

    fn cut_at(&mut self, at: Position) {
        self.cut = self.cut.max(at.op);
        self.raise(at);
        if self.installed().is_some_and(|it| it.op.value() <= at.op) {
            self.installed = None;
        }
    }

    /// Nothing up to here counts any more.
    fn raise(&mut self, base: Position) {
        if base.op > self.base.op {
            self.base = base;
            // The run that holds the next op stays.
            while self.terms.get(1).is_some_and(|it| it.op <= base.op + 1) {
                self.terms.pop_front();
            }
        }
    }

    /// What a State record says of the base. While a snapshot waits this is no cut of the owner.
    fn take_base(&mut self, body: &StateBody) {
        let op = body.base.min(self.last);
        let told = body.more.map(|more| more.base_term);
        let term = told.unwrap_or_else(|| self.term_at(op));
        if body.more.is_some_and(|more| more.has_snapshot) {
            self.raise(Position { op, term });
            return;
        }
        self.cut_at(Position { op, term });
        self.written_cut = self.cut;
    }

    /// Forgets the entries of a segment that is about to go.
    pub(crate) fn forget(&mut self, segment: u64) {
        while self
            .pieces
            .front()
            .is_some_and(|piece| piece.place.segment <= segment)
        {
            self.pieces.pop_front();
        }
    }

    /// Whether something that is needed stands in this segment or an older one.
    pub(crate) fn needs(&self, segment: u64) -> bool {
        let is_in = |of: u64| of <= segment;
        let oldest = self.pieces_after(self.base.op).next();
        oldest.is_some_and(|piece| is_in(piece.place.segment))
            || self.installed.as_ref().is_some_and(|&(_, of)| is_in(of))
    }

    /// The bytes of all pieces that hold a needed entry, if nothing that is needed stands in
    /// `tail` or cannot be written anew.
    pub(crate) fn quiet_bytes(&self, tail: u64) -> Option<u64> {
        let is_quiet = self.installed.is_none()
            && self
                .pieces
                .back()
                .is_none_or(|piece| piece.place.segment != tail);
        is_quiet.then(|| {
            self.pieces_after(self.base.op)
                .map(|piece| piece.bytes)
                .sum()
        })
    }

    /// Whether a flush of its entries alone is marked as such.
    pub(crate) const fn is_replicated(&self) -> bool {
        self.is_replicated
    }

    /// Acknowledged entries may be missing: from now on the next State record says so.
    pub(crate) const fn recover(&mut self) {
        self.is_recovering = true;
        self.is_replicated = true;
    }

    /// Takes a record that was read back, or says what is wrong with it.
    pub(crate) fn take(
        &mut self,
        record: &RecordView<'_>,
        place: Place,
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        if self.is_lost {
            self.take_behind_damage(record, place);
            return Ok(());
        }
        match record.kind {
            Kind::Entry => self.take_entry(record, place, scratch),
            Kind::Hard => {
                self.harden(record.term, HardBody::decode(record));
                Ok(())
            }
            Kind::CutTo => {
                let kept = self.base.op..=self.last;
                if !kept.contains(&record.op) {
                    return Err(format!("a cut to op {} that is not in {kept:?}", record.op));
                }
                self.cut_to(record.op, layout::u128_at(record.body, 0));
                Ok(())
            }
            Kind::Installed => self.take_installed(record, place),
            Kind::State => self.take_state(record),
            Kind::Cut => {
                let op = record.op.min(self.last);
                let term = told_term(record).filter(|_| op == record.op);
                let term = term.unwrap_or_else(|| self.term_at(op));
                self.cut_at(Position { op, term });
                self.written_cut = self.cut;
                Ok(())
            }
        }
    }

    /// Takes what a record behind damage still tells: hard state, cuts, snapshots. Entries count
    /// again only behind a record that names the very place where these ended.
    fn take_behind_damage(&mut self, record: &RecordView<'_>, place: Place) {
        match record.kind {
            Kind::Entry => {}
            Kind::Hard => self.harden(record.term, HardBody::decode(record)),
            Kind::CutTo => self.join(record.op, layout::u128_at(record.body, 0)),
            Kind::Installed => self.install_behind_damage(record, place),
            Kind::State => {
                let body = StateBody::decode(record);
                let more = body.more;
                let hard = HardBody {
                    vote: body.vote,
                    is_recovering: more.is_some_and(|more| more.is_recovering),
                };
                self.harden(record.term, hard);
                self.skip_to(body.base);
                self.take_base(&body);
                self.join(record.op, body.chain);
            }
            Kind::Cut => {
                let (op, term) = (record.op, told_term(record).unwrap_or(0));
                self.skip_to(op);
                self.cut_at(Position { op, term });
                self.written_cut = self.cut;
            }
        }
    }

    fn install_behind_damage(&mut self, record: &RecordView<'_>, place: Place) {
        if record.op < self.base.op {
            return;
        }
        let body = InstalledBody::decode(record);
        let was_kept = body.is_suffix_kept;
        let installed = Installed {
            term: Term::new(record.term),
            op: Op::new(record.op),
            // What stood behind it then may be what was lost.
            is_suffix_kept: was_kept && record.op <= self.last,
            body: Bytes::copy_from_slice(body.manifest),
        };
        self.install(installed, place.segment);
        self.is_lost = was_kept;
    }

    /// If the group ended here, nothing of it is missing before this.
    fn join(&mut self, op: u64, chain: u128) {
        if (op, chain) == (self.last, self.chain) {
            self.is_lost = false;
            self.is_parted = true;
        }
    }

    /// Nothing up to here counts, lost or not.
    fn skip_to(&mut self, op: u64) {
        if op > self.last {
            self.pieces.clear();
            self.terms.clear();
            self.last = op;
            self.chain = 0;
        }
    }

    fn take_entry(
        &mut self,
        record: &RecordView<'_>,
        place: Place,
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        if record.op.checked_sub(1) != Some(self.last) {
            return Err(format!("op {} behind op {}", record.op, self.last));
        }
        if record.chain != layout::low_half(self.chain) {
            return Err(format!("op {} on another chain", record.op));
        }
        let chain = layout::group_chain(self.chain, record.term, record.op, record.body, scratch);
        self.append(record, place, chain);
        Ok(())
    }

    fn take_installed(&mut self, record: &RecordView<'_>, place: Place) -> Result<(), String> {
        let body = InstalledBody::decode(record);
        if let Some(found) = self.misfit(record.op, body.is_suffix_kept) {
            return Err(found);
        }
        let installed = Installed {
            term: Term::new(record.term),
            op: Op::new(record.op),
            is_suffix_kept: body.is_suffix_kept,
            body: Bytes::copy_from_slice(body.manifest),
        };
        self.install(installed, place.segment);
        Ok(())
    }

    /// What is wrong with a snapshot at `op`, if something is.
    pub(crate) fn misfit(&self, op: u64, is_suffix_kept: bool) -> Option<String> {
        if op < self.base.op {
            return Some(format!("a snapshot at op {op} below op {}", self.base.op));
        }
        let is_behind = is_suffix_kept && op > self.last;
        is_behind.then(|| format!("a snapshot at op {op} behind the last op {}", self.last))
    }

    fn take_state(&mut self, record: &RecordView<'_>) -> Result<(), String> {
        let body = StateBody::decode(record);
        let agrees = (record.term, record.op, body.vote, body.chain)
            == (self.term, self.last, self.vote, self.chain)
            && body
                .more
                .is_none_or(|more| more.is_recovering == self.is_recovering);
        if !agrees {
            return Err(format!("a state at op {} that differs", record.op));
        }
        self.take_base(&body);
        Ok(())
    }
}

/// The term that a Cut record tells, if it does.
fn told_term(record: &RecordView<'_>) -> Option<u64> {
    (record.version > layout::VERSION).then(|| layout::u64_at(record.body, 0))
}

impl Piece {
    /// Whether an entry that stands at `place` may belong to this piece.
    fn reaches(&self, place: Place) -> bool {
        self.place.segment == place.segment && place.flush - self.place.flush < PIECE_REACH
    }
}
