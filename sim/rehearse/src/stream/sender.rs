//! Who sends a stream its rows: whole requests, in order, each again until it is answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use holm_base::{RequestId, Time};
use holm_check::streams::Times;
use holm_connect::{Format, Generator, write};

use crate::scenario::Stream;

/// Requests that wait for an answer at most.
pub(crate) const UNANSWERED_MAX: usize = 1_024;
/// The most rows of a request.
pub(super) const ROWS_MOST: u64 = 1_024;
/// How long after its first row the last one of a request is due at most.
pub(super) const SLOT: Duration = Duration::from_millis(1);

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) number: u64,
    pub(crate) rows: Arc<Vec<u8>>,
    /// When its first row was due: it is no younger for having waited for room.
    pub(crate) at: Time,
    /// Under way, as this.
    request: Option<RequestId>,
    /// It reached the stream, and it was answered, at least once.
    has_come: bool,
    is_answered: bool,
}

/// A sender.
#[derive(Debug)]
pub(crate) struct Sender {
    stream: Arc<Stream>,
    generator: Generator,
    /// How many rows there will be, and how many there are.
    most: u64,
    pub(crate) made: u64,
    pieces: u64,
    /// What is not answered, oldest first.
    waiting: VecDeque<Piece>,
    /// What each row was through.
    pub(crate) times: BTreeMap<Vec<u8>, Times>,
    /// All rows, each once.
    pub(crate) lines: Vec<Vec<u8>>,
}

impl Sender {
    pub(crate) fn new(stream: &Arc<Stream>, seed: u64) -> Self {
        let source = &stream.source;
        let most = source.rows.unwrap_or(u64::MAX);
        let pace = (i64::from(source.rate_milli), source.disorder);
        Self {
            generator: Generator::new(source.recipe, seed, most, pace),
            stream: Arc::clone(stream),
            most,
            made: 0,
            pieces: 0,
            waiting: VecDeque::new(),
            times: BTreeMap::new(),
            lines: Vec::new(),
        }
    }

    /// Whether all rows were made that are to be.
    pub(crate) const fn is_done(&self) -> bool {
        self.made >= self.most
    }

    /// No rows are made any more.
    pub(crate) const fn stop(&mut self) {
        self.most = self.made;
    }

    /// Whether all that was made was answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many rows are due by a time.
    fn due(&self, now: Time) -> u64 {
        self.stream.source.due(now.nanos()).min(self.most)
    }

    /// How many rows are due and not made, since too many requests wait.
    pub(crate) fn behind(&self, now: Time) -> u64 {
        self.due(now).saturating_sub(self.made)
    }

    /// When the next row is due.
    pub(crate) fn next_at(&self) -> Time {
        Time::from_nanos(self.stream.source.due_at(self.made))
    }

    /// Makes all rows that are due, as requests of a few each; not while too many wait.
    pub(crate) fn make_due(&mut self, now: Time) {
        while self.behind(now) > 0 && self.waiting.len() < UNANSWERED_MAX {
            let slot = self.due(now.min(self.next_at() + SLOT)) - self.made;
            self.make(slot.clamp(1, ROWS_MOST));
        }
    }

    /// Makes the next rows, as one request; not while too many wait.
    pub(crate) fn make(&mut self, rows: u64) {
        if self.waiting.len() >= UNANSWERED_MAX {
            return;
        }
        let at = self.next_at();
        let rows = rows.min(self.most - self.made);
        let Some(batch) = self.generator.batch(rows) else {
            return;
        };
        self.made += rows;
        let mut text = String::new();
        write(
            Format::JsonLines,
            &self.stream.source.recipe.fields(),
            &batch,
            &mut text,
        );
        self.lines
            .extend(lines_of(text.as_bytes()).map(<[u8]>::to_vec));
        self.pieces += 1;
        self.waiting.push_back(Piece {
            number: self.pieces,
            rows: Arc::new(text.into_bytes()),
            at,
            request: None,
            has_come: false,
            is_answered: false,
        });
    }

    /// The next request that is not under way.
    pub(crate) fn next(&self) -> Option<&Piece> {
        self.waiting.iter().find(|piece| piece.request.is_none())
    }

    /// It is under way now.
    pub(crate) fn sent(&mut self, number: u64, request: RequestId) {
        let is_keyed = self.stream.source.is_keyed;
        if let Some(piece) = self.waiting.iter_mut().find(|piece| piece.number == number) {
            piece.request = Some(request);
            let counts = !(is_keyed && piece.has_come);
            piece.has_come = true;
            note(&mut self.times, piece, counts, |times| times.sent += 1);
        }
    }

    /// Its rows are durable. `is_heard` says whether that was heard; if not it is sent again.
    pub(crate) fn answered(&mut self, request: RequestId, is_heard: bool) {
        let is_it = |piece: &Piece| piece.request == Some(request);
        let Some(at) = self.waiting.iter().position(is_it) else {
            return;
        };
        let piece = &mut self.waiting[at];
        let counts = !(self.stream.source.is_keyed && piece.is_answered);
        (piece.is_answered, piece.request) = (true, None);
        note(&mut self.times, piece, counts, |times| {
            times.acknowledged += 1;
        });
        if is_heard {
            self.waiting.remove(at);
        }
    }

    /// Its rows are in the file that the stream follows.
    pub(crate) fn written(&mut self) {
        if let Some(piece) = self.waiting.pop_front() {
            note(&mut self.times, &piece, true, |times| {
                times.sent += 1;
                times.acknowledged += 1;
            });
        }
    }

    /// There was no room for it.
    pub(crate) fn turned_away(&mut self, request: RequestId) {
        let is_it = |piece: &&mut Piece| piece.request == Some(request);
        if let Some(piece) = self.waiting.iter_mut().find(is_it) {
            piece.request = None;
        }
    }

    /// The stream has ended: whoever waits for an answer will not get it.
    pub(crate) fn broken(&mut self) {
        for piece in &mut self.waiting {
            piece.request = None;
        }
    }
}

/// Counts all rows of a request.
fn note(
    times: &mut BTreeMap<Vec<u8>, Times>,
    piece: &Piece,
    counts: bool,
    count: impl Fn(&mut Times),
) {
    for line in lines_of(&piece.rows).filter(|_| counts) {
        match times.get_mut(line) {
            Some(times) => count(times),
            None => count(times.entry(line.to_vec()).or_default()),
        }
    }
}

/// The lines of rows.
pub(crate) fn lines_of(rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = rows.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}
