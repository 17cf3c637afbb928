//! Input that ends: whole lines in pieces, read on one thread and understood on others, handed
//! out in order.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use holm_connect::{
    Format, Guess, HeaderError, ParquetSource, Read, Reader, Source as _, SourceError, Taken,
    infer, infer_parquet,
};
use holm_lanes::Field;

use super::Ended;

/// A piece is about so long: half of a core's second cache.
const PIECE: usize = 256 << 10;
/// What is looked at to find the columns.
const SAMPLE: usize = 1 << 20;
/// Or so many rows, where they trickle in.
const SAMPLE_ROWS: usize = 1_000;
/// A line that is longer is no line.
const LINE_MAX: usize = 16 << 20;
/// Pieces that wait between two threads.
const WAITING: usize = 2;
/// The most threads that understand rows.
const WORKERS_MAX: usize = 4;

/// Where rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Standard input.
    Stdin,
    /// A file.
    File(std::path::PathBuf),
}

impl Place {
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdin
        } else {
            Self::File(path.to_owned())
        }
    }

    /// How its rows are written, by its suffix.
    pub(crate) fn format(&self) -> Format {
        let Self::File(path) = self else {
            return Format::JsonLines;
        };
        let suffix = path.extension().and_then(|suffix| suffix.to_str());
        match suffix.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Format::Csv,
            Some("parquet") => Format::Parquet,
            Some(_) | None => Format::JsonLines,
        }
    }

    /// Whether all of it is there: a plain file, which is slow at most.
    pub(crate) fn is_whole(&self) -> bool {
        let path = match self {
            Self::Stdin => Path::new("/dev/stdin"),
            Self::File(path) => path,
        };
        std::fs::metadata(path).is_ok_and(|found| found.is_file())
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "stdin".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Lines of a place.
#[derive(Debug)]
struct Lines {
    file: Source,
    name: String,
    /// Read and not yet handed out.
    held: Vec<u8>,
    is_over: bool,
}

#[derive(Debug)]
enum Source {
    Stdin(std::io::Stdin),
    File(File),
}

impl Lines {
    /// Reads until so much is held, or so many lines of what only trickles in: rows that came are
    /// not kept waiting for others.
    fn fill(&mut self, wanted: usize, enough: usize) -> Result<(), Ended> {
        let mut piece = vec![0; PIECE];
        let mut is_trickle = false;
        while self.held.len() < wanted && !self.is_over {
            if is_trickle && count_lines(&self.held) >= enough {
                return Ok(());
            }
            let read = match &mut self.file {
                Source::Stdin(stdin) => stdin.read(&mut piece),
                Source::File(file) => file.read(&mut piece),
            };
            match read {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    is_trickle = count < piece.len();
                    self.held.extend_from_slice(&piece[..count]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::failed(format!("read {}", self.name), error)),
            }
        }
        Ok(())
    }

    /// The next whole lines, about so many bytes of them.
    fn piece(&mut self, wanted: usize, enough: usize) -> Result<Option<Vec<u8>>, Ended> {
        let mut wanted = wanted;
        loop {
            self.fill(wanted, enough)?;
            if self.is_over {
                let rest = std::mem::take(&mut self.held);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if let Some(end) = self.held.iter().rposition(|byte| *byte == b'\n') {
                let rest = self.held.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.held, rest)));
            }
            if self.held.len() > LINE_MAX {
                let text = format!("{}: a line of more than {} MiB", self.name, LINE_MAX >> 20);
                return Err(Ended::Failed(text));
            }
            wanted = self.held.len() * 2;
        }
    }
}

/// Opened input.
#[derive(Debug)]
pub(crate) enum Input {
    /// Of lines.
    Lines(LineInput),
    /// A Parquet file, and its name.
    Columns(File, String),
}

impl Input {
    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.is_whole,
            Self::Columns(..) => true,
        }
    }

    pub(crate) fn open(place: Place, format: Format) -> Result<Self, Ended> {
        let name = place.name();
        match (format, &place) {
            (Format::Parquet, Place::Stdin) => Err(Ended::Refused(
                "Parquet is read from a file, for its schema lies at its end; --input FILE"
                    .to_owned(),
            )),
            (Format::Parquet, Place::File(path)) => {
                let file = File::open(path);
                let file = file.map_err(|error| Ended::failed(format!("open {name}"), error))?;
                Ok(Self::Columns(file, name))
            }
            (Format::JsonLines | Format::Csv, _) => LineInput::open(place, format).map(Self::Lines),
        }
    }

    /// Finds the columns, from the first rows where nothing else says them; they are read again
    /// afterwards.
    pub(crate) fn guess(&mut self, time: Option<&str>) -> Result<Guess, Ended> {
        match self {
            Self::Lines(lines) => lines.guess(time),
            Self::Columns(file, name) => {
                let file = file.try_clone();
                let file = file.map_err(|error| Ended::failed(format!("open {name}"), error))?;
                infer_parquet(name, file, time).map_err(|error| ended(&error))
            }
        }
    }

    /// The first rows as text, behind the header if there is one; they are read again afterwards.
    pub(crate) fn sample(&mut self) -> Result<Vec<u8>, Ended> {
        match self {
            Self::Lines(lines) => lines.sample(),
            Self::Columns(..) => Ok(Vec::new()),
        }
    }

    /// Starts reading: threads of its own read and understand, and wait when nobody takes.
    pub(crate) fn start(self, fields: &[Field], needed: &[bool]) -> Result<Flow, Ended> {
        match self {
            Self::Lines(lines) => lines.start(fields, needed),
            Self::Columns(file, name) => {
                let source = ParquetSource::open(&name, file, fields, needed);
                let source = source.map_err(|error| ended(&error))?;
                let (read_in, read_out) = sync_channel(WAITING);
                let (failed_in, failed) = sync_channel(1);
                thread::spawn(move || {
                    if let Err(error) = columns(source, &read_in) {
                        // Whoever waited for rows has gone; then nobody wants to know.
                        failed_in.send(ended(&error)).ok();
                    }
                });
                Ok(Flow {
                    name,
                    from: vec![read_out],
                    next: 0,
                    failed,
                })
            }
        }
    }
}

fn ended(error: &SourceError) -> Ended {
    match error {
        SourceError::Refused { .. } => Ended::Refused(error.to_string()),
        SourceError::Unavailable { .. } | SourceError::Failed { .. } => {
            Ended::Failed(error.to_string())
        }
    }
}

/// Hands out the rows of a file of columns, until there are no more or nobody takes them.
fn columns(mut source: ParquetSource, out: &SyncSender<Read>) -> Result<(), SourceError> {
    while let Taken::Columns(columns) = source.take(usize::MAX, Duration::ZERO)? {
        let rows = columns.batch.rows + columns.bad.len();
        let read = Read {
            batch: columns.batch,
            bad: columns.bad,
            lines: u64::try_from(rows).unwrap_or(0),
        };
        if out.send(read).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Lines of a file or of standard input.
#[derive(Debug)]
pub(crate) struct LineInput {
    name: String,
    lines: Lines,
    format: Format,
    /// The first line, of CSV.
    header: Option<String>,
    /// What was looked at already.
    sample: Option<Vec<u8>>,
    is_whole: bool,
}

impl LineInput {
    fn open(place: Place, format: Format) -> Result<Self, Ended> {
        let name = place.name();
        let file = match &place {
            Place::Stdin => Source::Stdin(std::io::stdin()),
            Place::File(path) => Source::File(
                File::open(path).map_err(|error| Ended::failed(format!("open {name}"), error))?,
            ),
        };
        let mut lines = Lines {
            file,
            name: name.clone(),
            held: Vec::new(),
            is_over: false,
        };
        let mut header = None;
        if format == Format::Csv {
            header = Some(first_line(&mut lines)?);
        }
        Ok(Self {
            name,
            lines,
            format,
            header,
            sample: None,
            is_whole: place.is_whole(),
        })
    }

    fn guess(&mut self, time: Option<&str>) -> Result<Guess, Ended> {
        let text = self.sample()?;
        Ok(infer(self.format, &text, time))
    }

    fn sample(&mut self) -> Result<Vec<u8>, Ended> {
        let sample = self.lines.piece(SAMPLE, SAMPLE_ROWS)?.unwrap_or_default();
        let mut text = self.header.clone().unwrap_or_default().into_bytes();
        if self.header.is_some() {
            text.push(b'\n');
        }
        text.extend_from_slice(&sample);
        self.sample = Some(sample);
        Ok(text)
    }

    fn start(self, fields: &[Field], needed: &[bool]) -> Result<Flow, Ended> {
        let reader = Reader::new(
            self.format,
            fields.to_vec(),
            needed.to_vec(),
            self.header.as_deref(),
        );
        let reader = reader
            .map_err(|error: HeaderError| Ended::Refused(format!("{}: {error}", self.name)))?;
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let workers = cores.min(WORKERS_MAX);
        let (mut to, mut from) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (piece_in, piece_out) = sync_channel::<(Vec<u8>, u64)>(WAITING);
            let (read_in, read_out) = sync_channel(WAITING);
            let reader = reader.clone();
            thread::spawn(move || understand(&reader, &piece_out, &read_in));
            to.push(piece_in);
            from.push(read_out);
        }
        let (failed_in, failed) = sync_channel(1);
        let first_line = if self.header.is_some() { 2 } else { 1 };
        let mut lines = self.lines;
        let sample = self.sample;
        thread::spawn(move || {
            if let Err(ended) = hand_out(&mut lines, sample, first_line, &to) {
                // Whoever waited for rows has gone; then nobody wants to know.
                failed_in.send(ended).ok();
            }
        });
        Ok(Flow {
            name: self.name,
            from,
            next: 0,
            failed,
        })
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn first_line(lines: &mut Lines) -> Result<String, Ended> {
    let mut wanted = 1 << 16;
    loop {
        lines.fill(wanted, 1)?;
        if let Some(end) = lines.held.iter().position(|byte| *byte == b'\n') {
            let rest = lines.held.split_off(end + 1);
            let line = std::mem::replace(&mut lines.held, rest);
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        if lines.is_over || lines.held.len() > LINE_MAX {
            let line = std::mem::take(&mut lines.held);
            return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        wanted *= 2;
    }
}

fn understand(reader: &Reader, pieces: &Receiver<(Vec<u8>, u64)>, out: &SyncSender<Read>) {
    while let Ok((piece, first)) = pieces.recv() {
        if out.send(reader.read(&piece, first)).is_err() {
            return;
        }
    }
}

/// Hands pieces to the workers in turn, until there are no more or nobody takes them.
fn hand_out(
    lines: &mut Lines,
    sample: Option<Vec<u8>>,
    first: u64,
    to: &[SyncSender<(Vec<u8>, u64)>],
) -> Result<(), Ended> {
    let mut line = first;
    let mut turn = 0;
    let mut next = sample.filter(|sample| !sample.is_empty());
    loop {
        let piece = match next.take() {
            Some(piece) => piece,
            None => match lines.piece(PIECE, 1)? {
                Some(piece) => piece,
                None => return Ok(()),
            },
        };
        let count = piece.iter().filter(|byte| **byte == b'\n').count();
        let at = line;
        line += u64::try_from(count).unwrap_or(0);
        if to[turn].send((piece, at)).is_err() {
            return Ok(());
        }
        turn = (turn + 1) % to.len();
    }
}

/// Rows that come, in order.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) name: String,
    from: Vec<Receiver<Read>>,
    next: usize,
    failed: Receiver<Ended>,
}

/// What there is of an input.
#[derive(Debug)]
pub(super) enum Next {
    Rows(Read),
    /// Nothing, for as long as it was waited for.
    Nothing,
    End,
}

impl Flow {
    /// The next rows; `None` when there are no more.
    pub(crate) fn read(&mut self) -> Result<Option<Read>, Ended> {
        match self.next(None)? {
            Next::Rows(read) => Ok(Some(read)),
            Next::Nothing | Next::End => Ok(None),
        }
    }

    /// What there is next, for which it is waited so long, or as long as it takes.
    pub(super) fn next(&mut self, wait: Option<Duration>) -> Result<Next, Ended> {
        let from = &self.from[self.next];
        let read = match wait {
            Some(wait) => from.recv_timeout(wait),
            None => from.recv().map_err(|_ended| RecvTimeoutError::Disconnected),
        };
        match read {
            Ok(read) => {
                self.next = (self.next + 1) % self.from.len();
                Ok(Next::Rows(read))
            }
            Err(RecvTimeoutError::Timeout) => Ok(Next::Nothing),
            // The worker whose turn it is has ended: so has the input, or it failed.
            Err(RecvTimeoutError::Disconnected) => self.failed.recv().map_or(Ok(Next::End), Err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_whole_and_a_device_is_not() {
        let file = tempfile::NamedTempFile::new().expect("a file of ours");
        let place = Place::of(file.path());
        assert!(place.is_whole());
        let input = Input::open(place, Format::JsonLines);
        assert!(input.expect("it is there").is_whole());
        assert!(!Place::of(Path::new("/dev/null")).is_whole());
        assert!(!Place::of(Path::new("/nowhere")).is_whole());
    }
}
