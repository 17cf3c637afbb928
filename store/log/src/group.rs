//! What the log knows of one group: its hard state, where its entries stand, its chain.
//!
//! Memory: one [`Piece`] per segment that holds entries of the group, whatever their number.

use std::collections::VecDeque;

use crate::layout::{self, Kind, RecordView, StateBody};

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

/// One group's part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) last: u64,
    pub(crate) chain: u128,
    /// Ops up to here are not needed, as told by the owner.
    pub(crate) cut: u64,
    /// The newest cut that a flush holds.
    pub(crate) written_cut: u64,
    pieces: VecDeque<Piece>,
}

impl Group {
    /// A group as a State record describes it, when what came before was cut away.
    pub(crate) fn from_state(record: &RecordView<'_>) -> Self {
        let body = StateBody::decode(record.body);
        Self {
            term: record.term,
            vote: body.vote,
            last: record.op,
            chain: body.chain,
            cut: body.cut,
            written_cut: body.cut,
            pieces: VecDeque::new(),
        }
    }

    /// The body of this group's State record.
    pub(crate) const fn state(&self) -> StateBody {
        StateBody {
            vote: self.vote,
            cut: self.cut,
            chain: self.chain,
        }
    }

    /// The oldest op still here; one past the last if there is none.
    pub(crate) fn first(&self) -> u64 {
        let kept = self
            .pieces
            .front()
            .map_or(self.last + 1, |piece| piece.first);
        kept.max(self.cut + 1)
    }

    /// Whether an op that is needed is in no segment.
    pub(crate) fn has_a_hole(&self) -> bool {
        let kept = self
            .pieces
            .front()
            .map_or(self.last + 1, |piece| piece.first);
        self.cut < self.last && kept > self.cut + 1
    }

    /// The pieces, oldest first, that hold an op above `after`.
    pub(crate) fn pieces_after(&self, after: u64) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(move |piece| piece.last > after)
    }

    /// Takes the next entry: `chain_after` is the group's chain behind it.
    pub(crate) fn append(&mut self, record: &RecordView<'_>, place: Place, chain_after: u128) {
        assert!(record.op == self.last + 1, "the ops of a group are dense");
        let bytes = RecordView::encoded_bytes(record.body.len()) as u64;
        match self.pieces.back_mut() {
            Some(piece) if piece.place.segment == place.segment && piece.last == self.last => {
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
        self.last = record.op;
        self.chain = chain_after;
        self.term = self.term.max(record.term);
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
        self.last = op;
        self.chain = chain;
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

    /// Whether a needed entry stands in this segment or an older one.
    pub(crate) fn needs(&self, segment: u64) -> bool {
        self.pieces
            .iter()
            .any(|piece| piece.place.segment <= segment && piece.last > self.cut)
    }

    /// The bytes of all pieces that hold a needed entry, if none stands in `tail`.
    pub(crate) fn quiet_bytes(&self, tail: u64) -> Option<u64> {
        let is_quiet = self
            .pieces
            .back()
            .is_none_or(|piece| piece.place.segment != tail);
        is_quiet.then(|| self.pieces_after(self.cut).map(|piece| piece.bytes).sum())
    }

    /// Takes a record that was read back, or says what is wrong with it.
    pub(crate) fn take(
        &mut self,
        record: &RecordView<'_>,
        place: Place,
        scratch: &mut Vec<u8>,
    ) -> Result<(), String> {
        match record.kind {
            Kind::Entry => self.take_entry(record, place, scratch),
            Kind::Hard => {
                self.term = self.term.max(record.term);
                self.vote = layout::u64_at(record.body, 0);
                Ok(())
            }
            Kind::CutTo => {
                if record.op > self.last {
                    return Err(format!(
                        "a cut to op {} above the last op {}",
                        record.op, self.last
                    ));
                }
                self.cut_to(record.op, layout::u128_at(record.body, 0));
                Ok(())
            }
            Kind::State => self.take_state(record),
            Kind::Cut => {
                self.cut = self.cut.max(record.op.min(self.last));
                self.written_cut = self.cut;
                Ok(())
            }
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

    fn take_state(&mut self, record: &RecordView<'_>) -> Result<(), String> {
        let body = StateBody::decode(record.body);
        let agrees = (record.term, record.op, body.vote, body.chain)
            == (self.term, self.last, self.vote, self.chain);
        if !agrees {
            return Err(format!("a state at op {} that differs", record.op));
        }
        self.cut = self.cut.max(body.cut.min(self.last));
        self.written_cut = self.cut;
        Ok(())
    }
}
