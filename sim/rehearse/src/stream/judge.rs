//! Holds what a stream did against an undisturbed run over the rows of its log.
//!
//! The oracle is the engine itself, without faults, log, snapshots and threads: rows are read from their text again, record
//! by record, in the order of the log, and pushed through. So what the engine computes is not judged here, but by the tests
//! of the plane; what is judged is that nothing that happened shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use holm_check::Violation;
use holm_check::streams::{Counts, Mark, Times, bounded, counted, logged, once, watermark};
use holm_connect::{Format, Reader, write};
use holm_engine::{Plan, Several};
use holm_lanes::Batch;

use super::afar::Puts;
use super::closing::closing;
use super::deck::{Deck, SINKS};
use super::sender::{ROWS_MOST, Sender, lines_of};
use super::{Ran, Setup, Started, file_of};
use crate::scenario::{Outlet, Stream};

/// What was seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What ran of the log as it is now, by record.
    pub(crate) log: BTreeMap<u64, Ran>,
    /// Watermarks after restarts, with the record that each stood behind.
    pub(crate) restarts: Vec<(u64, i64)>,
    /// The most bytes and rows that were held.
    pub(crate) held: (u64, u64),
    pub(crate) found: Vec<Violation>,
}

impl Seen {
    /// A batch ran.
    pub(crate) fn ran(&mut self, ran: Ran) {
        self.held = (self.held.0.max(ran.held.0), self.held.1.max(ran.held.1));
        self.log.insert(ran.sequence, ran);
    }

    /// How many bytes of rows the log holds.
    pub(crate) fn bytes(&self) -> u64 {
        let rows = self.log.values().filter_map(|ran| ran.rows.as_ref());
        rows.map(|rows| wide(rows.len())).sum()
    }

    /// The stream came back to a record: what ran behind it is gone, and what ran where starts are now.
    pub(crate) fn started(&mut self, started: &Started) {
        self.log
            .retain(|record, _| *record <= started.last && !started.opened.contains(record));
        self.restarts.push((started.last, started.mark));
    }
}

/// An undisturbed run.
struct Oracle<'a> {
    stream: &'a Stream,
    run: Several,
    reader: Reader,
    line: u64,
    /// Lines that were no rows.
    bad: u64,
    /// For each query which of its columns tells the end of a window, and how far behind that is.
    closings: Vec<Option<(usize, i64)>>,
    /// What came out, by query.
    out: Vec<String>,
    /// The largest time so far less the bound.
    mark: Option<i64>,
}

impl<'a> Oracle<'a> {
    fn new(stream: &'a Stream) -> Self {
        let none: &[Batch] = &[];
        let queries: Vec<(&Plan, &[Batch])> =
            stream.job.plans.iter().map(|plan| (plan, none)).collect();
        let input = &stream.job.inputs[0];
        let reader = Reader::new(
            input.format,
            input.fields.clone(),
            input.needed.clone(),
            None,
        );
        Self {
            run: Several::new(&queries, stream.job.limits),
            reader: reader.expect("lines of JSON need no header"),
            stream,
            line: 1,
            bad: 0,
            closings: stream.job.plans.iter().map(closing).collect(),
            out: vec![String::new(); queries.len()],
            mark: None,
        }
    }

    /// Runs a record's rows, or the end; the last end of a window that came out.
    fn push(&mut self, rows: Option<&[u8]>) -> Option<i64> {
        let outs = match rows {
            None => {
                self.mark = None;
                self.run.end(0)
            }
            Some(rows) => {
                let read = self.reader.read(rows, self.line);
                self.line += read.lines;
                self.bad += wide(read.bad.len());
                self.pass(&read.batch);
                self.run.push(0, read.batch)
            }
        };
        let outs = outs.expect("what the stream held, the oracle may hold");
        let mut closed = None;
        for (query, out) in outs.iter().enumerate() {
            let fields = &self.stream.fields[query];
            write(Format::JsonLines, fields, out, &mut self.out[query]);
            let latest = self.closings[query].and_then(|(lane, behind)| {
                let latest = out.lanes.get(lane)?.ints()?.iter().max()?;
                Some(latest.saturating_add(behind))
            });
            closed = closed.max(latest);
        }
        closed
    }

    /// Follows the times of a batch, where they are columns that come.
    fn pass(&mut self, batch: &Batch) {
        let source = &self.run.sources()[0];
        let lane = source.time.and_then(|lane| batch.lanes.get(lane)?.ints());
        let Some(latest) = lane.and_then(|times| times.iter().max()) else {
            return;
        };
        let mark = latest.saturating_sub(source.bound);
        self.mark = Some(self.mark.map_or(mark, |before| before.max(mark)));
    }

    /// What it counted, lines that were no rows among the diverted.
    fn counts(&self) -> Counts {
        let mut all = Counts {
            rows: self.run.rows() + self.bad,
            diverted: self.bad,
            ..Counts::default()
        };
        for query in 0..self.run.queries() {
            let own = self.run.counts(query);
            all.late += own.late;
            all.diverted += own.diverted;
        }
        all
    }

    /// The watermark that the rows so far make.
    fn mark(&self) -> i64 {
        self.mark.unwrap_or_else(|| self.run.mark(0))
    }
}

/// Judges a stream at the end of a run.
pub(crate) fn judge(
    setup: &Setup,
    (seen, told): (&Seen, Counts),
    sender: &Sender,
    deck: &Deck,
) -> Vec<Violation> {
    let stream = &*setup.stream;
    let name = &stream.name;
    let mut oracle = Oracle::new(stream);
    let mut marks = Vec::new();
    let mut times: BTreeMap<&[u8], Times> = BTreeMap::new();
    for (line, seen) in &sender.times {
        times.insert(line, *seen);
    }
    for (record, ran) in &seen.log {
        let rows = ran.rows.as_ref().map(|rows| rows.as_slice());
        for line in rows.into_iter().flat_map(lines_of) {
            times.entry(line).or_default().logged += 1;
        }
        let closed = oracle.push(rows);
        marks.push(Mark {
            record: *record,
            told: ran.mark,
            wanted: oracle.mark(),
            // At the end all windows close, whatever the watermark is.
            closed: closed.filter(|_| rows.is_some()),
        });
    }
    let mut found: Vec<Violation> = seen.found.clone();
    found.extend(logged(name, &times).err());
    found.extend(sinks(stream, &oracle.out, deck));
    found.extend(counted(name, told, oracle.counts()).err());
    found.extend(watermark(name, &marks).err());
    found.extend(restarts(name, seen, &marks).err());
    let settings = setup.settings();
    let longest = sender.lines.iter().map(Vec::len).max().unwrap_or(0);
    let bytes = wide(settings.credit_bytes) + wide(longest) * ROWS_MOST;
    found.extend(bounded(name, "bytes of rows", (seen.held.0, bytes)).err());
    let rows = wide(settings.pending_rows_max);
    found.extend(bounded(name, "rows before another batch", (seen.held.1, rows)).err());
    found
}

/// Watermarks as they stood after restarts.
fn restarts(name: &str, seen: &Seen, marks: &[Mark]) -> Result<(), Violation> {
    for (last, told) in &seen.restarts {
        let until = marks.partition_point(|mark| mark.record <= *last);
        let Some(before) = until.checked_sub(1).map(|at| marks[at]) else {
            continue;
        };
        let closed = None;
        let came_back = Mark {
            record: *last,
            told: *told,
            closed,
            ..before
        };
        watermark(name, &[came_back])?;
    }
    Ok(())
}

fn sinks(stream: &Stream, wanted: &[String], deck: &Deck) -> Option<Violation> {
    for (query, wanted) in wanted.iter().enumerate() {
        let name = match stream.job.plans.len() {
            1 => stream.name.clone(),
            _ => format!("{}.{query}", stream.name),
        };
        let judged = match &stream.sink {
            Outlet::File => once(&name, &file(deck, query), wanted.as_bytes()),
            Outlet::Keyspace { .. } => afar(&name, (query, wanted), deck),
        };
        if let Err(violation) = judged {
            return Some(violation);
        }
    }
    None
}

fn file(deck: &Deck, query: usize) -> Vec<u8> {
    let path = format!("{SINKS}/{}", file_of(query));
    deck.storage().bytes(&path).unwrap_or_default()
}

/// The rows that were put into a keyspace, in the order of transactions and, within one, of lines.
fn put(query: usize, deck: &Deck) -> Vec<Vec<Vec<u8>>> {
    let prefix = format!("{query}/");
    let own = |puts: Puts| {
        let rows = puts
            .into_iter()
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let mut rows: Vec<Vec<u8>> = rows.map(|(_, value)| value).collect();
        rows.sort_unstable();
        rows
    };
    let done = deck.afar().done().into_iter().map(own);
    done.filter(|rows| !rows.is_empty()).collect()
}

/// Holds transactions against lines: of those that one put, a key's last counts.
fn afar(name: &str, (query, wanted): (usize, &str), deck: &Deck) -> Result<(), Violation> {
    let lines: Vec<&[u8]> = lines_of(wanted.as_bytes()).collect();
    let (mut at, mut found, mut sorted) = (0, Vec::new(), Vec::new());
    for rows in put(query, deck) {
        let end = lines.len().min(at + rows.len());
        let mut part = lines[at..end].to_vec();
        part.sort_unstable();
        at = end;
        for row in rows {
            found.extend_from_slice(&row);
            found.push(b'\n');
        }
        for row in part {
            sorted.extend_from_slice(row);
            sorted.push(b'\n');
        }
    }
    for row in &lines[at..] {
        sorted.extend_from_slice(row);
        sorted.push(b'\n');
    }
    once(name, &found, &sorted)
}

/// How many results there would be had all rows come once and in time, and how many of them are there.
///
/// Rows of one time count in the order in which they came first, as they do in the stream.
pub(crate) fn complete(
    stream: &Arc<Stream>,
    (seen, sender): (&Seen, &Sender),
    deck: &Deck,
) -> (u64, u64) {
    const BATCH: usize = 4_096;
    let logged = seen.log.values().filter_map(|ran| ran.rows.as_ref());
    let logged = logged.flat_map(|rows| lines_of(rows));
    let mut places: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (place, line) in logged.enumerate() {
        places.entry(line).or_insert(place);
    }
    let mut rows: Vec<&[u8]> = sender.lines.iter().map(Vec::as_slice).collect();
    // The time stands first in each line, and its text sorts as it does.
    rows.sort_by_cached_key(|line| {
        let place = places.get(line).copied();
        (
            line.split(|byte| *byte == b',').next(),
            place.unwrap_or(usize::MAX),
        )
    });
    let mut oracle = Oracle::new(stream);
    for part in rows.chunks(BATCH) {
        let mut text = part.join(&b'\n');
        text.push(b'\n');
        oracle.push(Some(&text));
    }
    oracle.push(None);
    let (mut all, mut there) = (0, 0);
    for (query, wanted) in oracle.out.iter().enumerate() {
        let mut has: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let lines = match &stream.sink {
            Outlet::File => lines_of(&file(deck, query)).map(<[u8]>::to_vec).collect(),
            Outlet::Keyspace { .. } => put(query, deck).concat(),
        };
        for line in lines {
            *has.entry(rounded(&line)).or_default() += 1;
        }
        for line in lines_of(wanted.as_bytes()) {
            all += 1;
            if let Some(count) = has.get_mut(&rounded(line)).filter(|count| **count > 0) {
                *count -= 1;
                there += 1;
            }
        }
    }
    (all, there)
}

/// A line whose floats have nine digits: their last ones depend on the order in which they were added.
fn rounded(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut parts = Vec::new();
    for part in text.split_inclusive([',', '}']) {
        let (value, end) = part.split_at(part.len() - 1);
        let (name, number) = value.rsplit_once(':').unwrap_or(("", value));
        let float = number
            .parse::<f64>()
            .ok()
            .filter(|_| number.contains(['.', 'e']));
        parts.push(float.map_or_else(
            || part.to_owned(),
            |float| format!("{name}:{float:.8e}{end}"),
        ));
    }
    parts.concat().into_bytes()
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("memory is smaller")
}
