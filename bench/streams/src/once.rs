//! What it costs to answer once, and how long it takes to come back.
//!
//! *None*: the engine alone, fed through a channel, its rows written as text and dropped. *Once*:
//! the same columns through the runner, on real files: each batch encoded and logged before it
//! counts, snapshots, and a file that commits its rows. Columns are fed from memory, again and
//! again, with their time moved on.
//!
//! *Back*: a process that takes half of what *once* reached is killed, and the time is taken from
//! the opening of its folder until the stream runs: its state is that of the last record, and its
//! sources are read. *Level* is when the sink has all rows that came of those records, too.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use holm_base::Prng;
use holm_connect::{
    Columns, FileSink, Format, Position, Repeats, Sink, Source, SourceError, Taken,
    write as write_rows,
};
use holm_disk::RealFolder;
use holm_durable::{Data, Record};
use holm_engine::Limits;
use holm_lanes::{Batch, Lane, Narrow, Values};
use holm_runner::{Ends, Handle, Input, Job, Phase, Settings, Spent, start};
use holm_sql::Planned;

use crate::case::{CASES, Case};
use crate::data;
use crate::measure::{Asked, Once, middle, planned, run_of};

/// Records that are made, and fed again and again.
const ROWS: usize = 2_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Columns without an end.
#[derive(Clone, Debug)]
struct Tide {
    batches: Arc<Vec<Batch>>,
    /// How far time goes from round to round, in microseconds.
    span: i64,
    next: usize,
    rows: u64,
    until: Instant,
    /// Records a second, and since when.
    rate: Option<(f64, Instant)>,
    /// Bytes of a record that are read.
    width: usize,
}

impl Tide {
    fn batch(&mut self) -> Option<Batch> {
        if Instant::now() >= self.until {
            return None;
        }
        let round = i64::try_from(self.next / self.batches.len()).expect("small");
        let mut batch = self.batches[self.next % self.batches.len()].clone();
        let times = batch.lanes[0].ints().expect("the first column is a time");
        let times = times.iter().map(|time| time + round * self.span).collect();
        batch.lanes[0] = Arc::new(Lane::dense(Values::Int(times)));
        let first = usize::try_from(self.rows).expect("memory is smaller");
        self.rows += u64::try_from(batch.rows).expect("small");
        self.next += 1;
        Some(data::numbered(batch, first))
    }

    /// Whether it is too early for more.
    fn is_early(&self) -> bool {
        self.rate.is_some_and(|(rate, since)| {
            #[expect(clippy::cast_precision_loss, reason = "it is a rate")]
            let rows = self.rows as f64;
            rows >= rate * since.elapsed().as_secs_f64()
        })
    }
}

impl Source for Tide {
    fn name(&self) -> &str {
        "columns"
    }

    fn header(&self) -> Option<&str> {
        None
    }

    fn take(&mut self, _credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        if self.is_early() {
            thread::sleep(wait.min(Duration::from_micros(200)));
            return Ok(Taken::Nothing);
        }
        let Some(batch) = self.batch() else {
            return Ok(Taken::End);
        };
        Ok(Taken::Columns(Columns {
            bytes: batch.rows * self.width,
            batch,
            position: Position::of(&[self.rows]),
            bad: Vec::new(),
            crc: 0,
        }))
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn seek(&mut self, _position: &Position) -> Result<(), SourceError> {
        Ok(())
    }

    fn replayable(&self) -> bool {
        false
    }

    fn repeats(&self) -> Repeats {
        Repeats::CountOnce
    }

    fn stop(&mut self) {}
}

/// A query with its columns.
pub(crate) struct Bench<'a> {
    case: &'a Case,
    planned: Planned,
    batches: Arc<Vec<Batch>>,
    width: usize,
}

impl<'a> Bench<'a> {
    /// One whose columns come from elsewhere.
    pub(crate) fn of(case: &'a Case) -> Self {
        Self {
            case,
            planned: planned(case),
            batches: Arc::default(),
            width: 0,
        }
    }

    fn new(case: &'a Case) -> Self {
        let planned = planned(case);
        let mut batches = data::columns(case, &data::rows(case, ROWS));
        for batch in &mut batches {
            // As a reader gives them: what nobody reads is not there.
            for (lane, is_needed) in batch.lanes.iter_mut().zip(&planned.needed[0]) {
                if !is_needed {
                    *lane = Arc::new(Lane::narrow(Narrow::Bytes(vec![0; batch.rows])));
                }
            }
        }
        let needed = planned.needed[0].iter().filter(|it| **it).count();
        Self {
            case,
            planned,
            batches: Arc::new(batches),
            width: needed * 8,
        }
    }

    fn tables(&self) -> Vec<Batch> {
        let has = self.case.has_table;
        has.then(data::table).into_iter().collect()
    }

    fn tide(&self, until: Instant, rate: Option<f64>) -> Tide {
        let span = u64::try_from(ROWS).expect("small") * 1_000_000 / self.case.rate;
        Tide {
            batches: Arc::clone(&self.batches),
            span: span.cast_signed(),
            next: 0,
            rows: 0,
            until,
            rate: rate.map(|rate| (rate, Instant::now())),
            width: self.width,
        }
    }

    /// Records a second without a log.
    fn none(&self, time: Duration) -> f64 {
        let mut run = run_of(self.case, &self.planned);
        let mut tide = self.tide(Instant::now() + time, None);
        let (to, from) = sync_channel(64);
        let begun = Instant::now();
        let feeder = thread::spawn(move || {
            while let Some(batch) = tide.batch() {
                if to.send(batch).is_err() {
                    return;
                }
            }
        });
        let mut text = String::new();
        let mut put = |rows: &Batch| {
            text.clear();
            write_rows(
                Format::JsonLines,
                &self.planned.plan.fields,
                rows,
                &mut text,
            );
        };
        for batch in from {
            put(&run.push(0, batch).expect("it holds what it must"));
        }
        put(&run.end(0).expect("it holds what it must"));
        let seconds = begun.elapsed().as_secs_f64();
        feeder.join().expect("it has ended");
        real(run.counts().rows) / seconds
    }

    /// Starts it in a folder.
    pub(crate) fn start(&self, folder: &Path, from: Box<dyn Source>, keeps_all: bool) -> Handle {
        let fields = self.planned.plan.fields.clone();
        let state = RealFolder::open(&folder.join("state")).expect("a folder of ours");
        let out = RealFolder::open(&folder.join("out")).expect("a folder of ours");
        let sink: Box<dyn Sink> = Box::new(FileSink::new(out, "rows", Format::JsonLines, &fields));
        let source = &self.planned.plan.sources[0];
        let job = Job {
            inputs: vec![Input {
                format: Format::JsonLines,
                fields: source.fields.clone(),
                needed: self.planned.needed[0].clone(),
                keeps_all,
                idle: None,
                beside: Vec::new(),
            }],
            plans: vec![self.planned.plan.clone()],
            description: self.case.name.as_bytes().to_vec(),
            limits: Limits::default(),
            turns: None,
        };
        let ends = Ends {
            sources: vec![from],
            sinks: vec![sink],
        };
        let tables = self.tables();
        let rows = move || Ok(tables.clone());
        let listener = Box::new(|_asides| {});
        start(
            state,
            job,
            ends,
            Settings::default(),
            Box::new(rows),
            listener,
        )
    }

    /// Records a second with all of it, bytes of the last snapshot, and bytes of the log for each
    /// record that came.
    fn once(&self, time: Duration, keeps_all: bool) -> (f64, u64, f64) {
        let folder = tempfile::tempdir().expect("a folder of ours");
        let begun = Instant::now();
        let handle = self.start(
            folder.path(),
            Box::new(self.tide(begun + time, None)),
            keeps_all,
        );
        while !handle.is_over() {
            thread::sleep(Duration::from_millis(2));
        }
        let seconds = begun.elapsed().as_secs_f64();
        let status = handle.status();
        assert_eq!(
            handle.join(),
            Phase::Complete,
            "it ends when its source does"
        );
        let (bytes, rows) = status.logged;
        let width = real(bytes) / real(rows);
        (real(status.counts.rows) / seconds, status.snapshot.1, width)
    }

    /// Bytes of a record in the log, and how many records a second are encoded.
    fn encoded(&self) -> (f64, f64) {
        let (mut bytes, mut rows) = (0, 0);
        let begun = Instant::now();
        for batch in self.batches.iter() {
            rows += batch.rows;
            let record = Record::Data(Box::new(Data {
                source: 0,
                position: vec![0; 8],
                lines: 0,
                bad: 0,
                key: None,
                batch: batch.clone(),
                behind: None,
            }));
            bytes += record.entry(1, 1).body.len();
        }
        let wide = |count: usize| u64::try_from(count).expect("small");
        let rate = real(wide(rows)) / begun.elapsed().as_secs_f64();
        (real(wide(bytes)) / real(wide(rows)), rate)
    }

    /// Takes rows at a rate until it is killed.
    fn child(&self, folder: &str, rate: f64) {
        let tide = self.tide(Instant::now() + PATIENCE, Some(rate));
        let handle = self.start(Path::new(folder), Box::new(tide), false);
        while !handle.is_over() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it takes to come back after each kill, and how long until the sink has all of it; in
    /// the order of the first.
    fn back(&self, rate: f64, kills: u64) -> Vec<(Spent, Duration)> {
        let mut prng = Prng::new(5);
        let mut times = Vec::new();
        for _ in 0..kills {
            let folder = tempfile::tempdir().expect("a folder of ours");
            let program = std::env::current_exe().expect("it runs");
            let mut command = Command::new(program);
            command.args(["--once", self.case.name, "--in"]);
            command.arg(folder.path()).arg(format!("{rate:.0}"));
            let spawned = command.stdout(Stdio::null()).spawn();
            let mut child = spawned.expect("we can be started");
            thread::sleep(Duration::from_millis(1_500 + prng.below(1_000)));
            child.kill().expect("it runs");
            child.wait().expect("it was killed");
            let begun = Instant::now();
            // Nothing comes: what is measured is what was there.
            let still = self.tide(begun + PATIENCE, Some(0.0));
            let handle = self.start(folder.path(), Box::new(still), false);
            let spent = loop {
                let status = handle.status();
                if let Phase::Failed(why) = status.phase {
                    panic!("it does not come back: {why}");
                }
                let is_shown = status.records > 0 && status.outputs == status.committed;
                if is_shown || begun.elapsed() > PATIENCE {
                    break status.recovered;
                }
                thread::sleep(Duration::from_millis(1));
            };
            times.push((spent, begun.elapsed()));
            handle.stop();
            assert_ne!(handle.join(), Phase::Recovering, "it has come back");
        }
        times.sort_unstable_by_key(|(spent, _)| spent.all);
        times
    }

    fn line(&self, asked: &Asked, once: &Once) -> String {
        let time = Duration::from_secs(once.seconds);
        let kills = once.kills;
        let (mut none, mut with, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let (mut state, mut width) = (0, 0.0);
        for _ in 0..asked.rounds {
            none.push(self.none(time));
            let rate;
            (rate, state, width) = self.once(time, false);
            with.push(rate);
            all.push(self.once(time, true).0);
        }
        let (none, rate) = (middle(none, false), middle(with, false));
        let all = middle(all, false);
        let (whole, encoded) = self.encoded();
        let times = self.back(rate / 2.0, kills);
        let level = times.iter().map(|(_, level)| *level).max();
        let at = |hundredths: usize| {
            let last = times.len().checked_sub(1)?;
            times.get(last * hundredths / 100).map(|it| it.0.all)
        };
        format!(
            "|{}|{:.1}|{:.1}|{:.1}|{:.2}|{width:.2}|{whole:.2}|{:.0}|{:.0}|{}|{}|{}|{}|{}",
            self.case.name,
            none / 1e6,
            rate / 1e6,
            all / 1e6,
            rate / none,
            encoded / 1e6,
            real(state) / 1e3,
            millis(at(50)),
            millis(at(99)),
            millis(at(100)),
            millis(level),
            all_of(&times),
        )
    }
}

fn millis(time: Option<Duration>) -> String {
    let millis = time.map(|time| format!("{:.0}", time.as_secs_f64() * 1e3));
    millis.unwrap_or_default()
}

/// All times, for whoever puts several readings together, and where the longest went.
fn all_of(times: &[(Spent, Duration)]) -> String {
    let Some((longest, _)) = times.last() else {
        return String::new();
    };
    let each: Vec<String> = times.iter().map(|it| millis(Some(it.0.all))).collect();
    format!(
        "\n\nback, ms: {}; the longest: {longest:.0?}\n",
        each.join(" ")
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures have three digits")]
const fn real(count: u64) -> f64 {
    count as f64
}

/// Prints the table.
pub(crate) fn main(asked: &Asked, once: &Once) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let is_asked = |case: &&Case| asked.names.iter().any(|name| name == case.name);
    let cases: Vec<&Case> = if asked.names.is_empty() {
        CASES.iter().collect()
    } else {
        crate::case::all().filter(is_asked).collect()
    };
    if let Some((folder, rate)) = &once.child {
        Bench::new(cases[0]).child(folder, *rate);
        return ExitCode::SUCCESS;
    }
    let head = format!(
        "columns in; medians of {} rounds of {} s that take turns; {} kills at half load\n\n\
         |query|none, M/s|once, M/s|all logged, M/s|once / none|log, B a record|as it came|encoding, M/s|state, kB|back, ms: median|p99|most|level: most|\n\
         |--|--|--|--|--|--|--|--|--|--|--|--|--|",
        asked.rounds, once.seconds, once.kills
    );
    if writeln!(out, "{head}").is_err() {
        return ExitCode::SUCCESS;
    }
    for case in cases {
        if writeln!(out, "{}", Bench::new(case).line(asked, once)).is_err() {
            return ExitCode::SUCCESS;
        }
    }
    ExitCode::SUCCESS
}
