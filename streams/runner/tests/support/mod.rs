//! A stream on a virtual disk: its source, its sink and whoever empties its queues, in any order.

use std::sync::Arc;
use std::time::Duration;

use holm_base::{ByteCount, Prng, Time};
use holm_connect::{
    Format, Generator, Guarantee, Position, Recipe, Repeats, Sink, SinkError, Source, SourceError,
    Taken, write,
};
use holm_durable::{Config, Entry, fetch, keep};
use holm_engine::Limits;
use holm_lanes::{Batch, Field};
use holm_machine::{Disk, DiskError, Folder};
use holm_runner::{
    Arrived, Ends, Input, Job, Keeper, LogPoint, Opened, RunnerError, Settings, open,
};
use holm_sql::{Known, Planned, parse, plan};
use holm_virtual::{Storage, Survival};

const TABLES: &str = include_str!("../../../connect/tests/queries/tables.txt");
pub(crate) const QUERIES: [(&str, &str, Recipe); 5] = [
    (
        "cm1",
        include_str!("../../../connect/tests/queries/cm1.sql"),
        Recipe::Cluster,
    ),
    (
        "ysb",
        include_str!("../../../connect/tests/queries/ysb.sql"),
        Recipe::Ads,
    ),
    (
        "sg3",
        include_str!("../../../connect/tests/queries/sg3.sql"),
        Recipe::Grid,
    ),
    (
        "q11",
        include_str!("../../../connect/tests/queries/q11.sql"),
        Recipe::Auction,
    ),
    (
        "q5",
        include_str!("../../../connect/tests/queries/q5.sql"),
        Recipe::Auction,
    ),
];

/// Queries over one stream: two share panes, one adds floats, one reads other rows.
pub(crate) const SHARED: (&str, &[&str], Recipe) = (
    "shared",
    &[
        include_str!("../../../connect/tests/queries/cm1.sql"),
        "SELECT window_start, category, COUNT(*) AS n, MAX(job) AS job \
         FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '2' SECOND) \
         GROUP BY window_start, window_end, category",
        "SELECT window_start, category, SUM(job) AS jobs \
         FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND) \
         GROUP BY window_start, window_end, category",
        "SELECT ts, job FROM task WHERE event_type = 1",
    ],
    Recipe::Cluster,
);

/// Rows and results of windows in one order.
pub(crate) const UNION: (&str, &str, Recipe) = (
    "union",
    "CREATE VIEW few AS SELECT ts, category, n FROM task WHERE event_type < 3; \
     SELECT ts, category, n FROM few UNION ALL \
     SELECT window_end, category, COUNT(*) AS n FROM TUMBLE(TABLE few, DESCRIPTOR(ts), INTERVAL '1' SECOND) \
     GROUP BY window_start, window_end, category UNION ALL SELECT ts, 0 - category, n FROM task WHERE n = 2",
    Recipe::Cluster,
);

/// Rows of which each device's first counts: a filter behind that drops what must be remembered.
pub(crate) const REPEATS: (&str, &str, Recipe) = (
    "repeats",
    "CREATE TABLE again (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE, device STRING, n BIGINT, \
     WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='mqtt', 'dedup'='device'); \
     SELECT ts, device, n FROM again WHERE event_type < 6",
    Recipe::Cluster,
);

/// Queries whose rows pass filters, lookups and expressions first.
pub(crate) const BEHIND: [(&str, &str, Recipe); 4] = [
    (
        "cm2",
        include_str!("../../../connect/tests/queries/cm2.sql"),
        Recipe::Cluster,
    ),
    QUERIES[1],
    (
        "firsts",
        "SELECT window_start, category, FIRST_VALUE(n) AS first, LAST_VALUE(job) AS job, COUNT(*) AS n \
         FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND) \
         WHERE 100 / (category - n) < 100 AND event_type < 5 GROUP BY window_start, window_end, category",
        Recipe::Cluster,
    ),
    (
        "passed on",
        "SELECT ts, job + category AS place, 1000 / (n - 1) AS part FROM task WHERE event_type < 4",
        Recipe::Cluster,
    ),
];

fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("what is in memory is counted in 64 bits")
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("it is small")
}

/// Windows over two tables, of which each is silent for long now and then.
pub(crate) const MEETING: &str = "
CREATE TABLE a (ts TIMESTAMP(3), k BIGINT, n DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='mqtt');
CREATE TABLE b (ts TIMESTAMP(3), k BIGINT, n DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('connector'='mqtt');
CREATE VIEW both_ AS SELECT ts, k, n FROM a UNION ALL SELECT ts, k, n FROM b WHERE k < 3;
SELECT window_start, k, COUNT(*) AS c, SUM(n) AS n FROM HOP(TABLE both_, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '6' SECOND)
GROUP BY window_start, window_end, k";

/// What a source does: it has so many lines, or says nothing for long.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Lines(usize, u64),
    Idle(usize),
}

/// A query with its events.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) job: Job,
    /// For each source its lines.
    pub(crate) texts: Vec<Arc<Vec<u8>>>,
    /// What sources do in turn; without it there is one, which has all of its lines.
    pub(crate) script: Vec<Step>,
    tables: Vec<Batch>,
    pub(crate) is_replayable: bool,
    pub(crate) guarantee: Guarantee,
    /// Rows without a value.
    pub(crate) diverted: u64,
}

impl Case {
    /// A query over so many rows with two seconds of disorder, ten of them a second.
    pub(crate) fn new((name, query, recipe): (&str, &str, Recipe), rows: u64) -> Self {
        Self::of((name, &[query], recipe), rows)
    }

    /// Several queries over the same rows.
    pub(crate) fn of((name, queries, recipe): (&str, &[&str], Recipe), rows: u64) -> Self {
        let of = |query: &&str| {
            let script = parse(&format!("{TABLES}{query}")).expect("it is there");
            plan(&script, &Known::default()).expect("it is there")
        };
        let planned: Vec<Planned> = queries.iter().map(of).collect();
        let needed = |column: usize| planned.iter().any(|it| it.needed[0][column]);
        let fields = planned[0].plan.sources[0].fields.clone();
        let input = Input {
            format: Format::JsonLines,
            needed: (0..fields.len()).map(needed).collect(),
            fields,
            keeps_all: false,
            idle: None,
            beside: Vec::new(),
        };
        let mut generator = Generator::new(recipe, 7, rows, (10_000, 2_000_000));
        let mut text = String::new();
        while let Some(batch) = generator.batch(1_000) {
            write(Format::JsonLines, &recipe.fields(), &batch, &mut text);
        }
        // A line that is no row, and one that is late: they are counted once, whatever happens.
        text.insert_str(text.find('\n').expect("it is there") + 1, "not a row\n");
        let mut tables = Vec::new();
        for _ in planned.iter().flat_map(|it| &it.tables) {
            let mut campaigns = Generator::new(Recipe::Campaigns, 7, 1_000, (10_000, 0));
            tables.push(campaigns.batch(1_000).expect("it is there"));
        }
        Self {
            job: Job {
                plans: planned.into_iter().map(|it| it.plan).collect(),
                inputs: vec![input],
                description: name.as_bytes().to_vec(),
                limits: Limits::default(),
                turns: None,
            },
            texts: vec![Arc::new(text.into_bytes())],
            script: Vec::new(),
            tables,
            is_replayable: true,
            guarantee: Guarantee::ExactlyOnce,
            diverted: 1,
        }
    }

    /// Two sources that do in turn what a script says.
    pub(crate) fn meeting(script: &[Step]) -> Self {
        let planned = plan(&parse(MEETING).expect("it is there"), &Known::default());
        let planned = planned.expect("it is there");
        let sources = planned.plan.sources.iter().zip(&planned.needed);
        let input = |(source, needed): (&holm_engine::Source, &Vec<bool>)| Input {
            format: Format::JsonLines,
            needed: needed.clone(),
            fields: source.fields.clone(),
            keeps_all: false,
            idle: None,
            beside: Vec::new(),
        };
        let lines = |source: usize| {
            let mine = script.iter().map(|step| match step {
                Step::Lines(own, lines) if *own == source => *lines,
                Step::Lines(..) | Step::Idle(_) => 0,
            });
            let mut prng = Prng::new(wide(source));
            let line = |at: u64| {
                let second = 20 + at - prng.below(4);
                let (k, n) = (prng.below(4), prng.below(1_000));
                let time = format!("2026-01-05T10:{:02}:{:02}", second / 60, second % 60);
                format!("{{\"ts\":\"{time}\",\"k\":{k},\"n\":0.{n:03}}}\n")
            };
            (0..mine.sum()).map(line).collect::<String>()
        };
        Self {
            job: Job {
                inputs: sources.map(input).collect(),
                plans: vec![planned.plan],
                description: b"meeting".to_vec(),
                limits: Limits::default(),
                turns: None,
            },
            texts: (0..2).map(|it| Arc::new(lines(it).into_bytes())).collect(),
            script: script.to_vec(),
            tables: Vec::new(),
            is_replayable: true,
            guarantee: Guarantee::ExactlyOnce,
            diverted: 0,
        }
    }

    /// What is next by what was taken: a source, and its bytes that are there; or that it is idle.
    fn next(&self, keeper: &Keeper) -> Option<(usize, Option<usize>)> {
        let open = |source: &usize| !keeper.is_over(*source);
        let numbers = |source: usize| {
            let numbers = keeper.position(source).numbers().expect("it is there");
            (numbers.first().copied(), numbers.get(1).copied())
        };
        let mut until = vec![0; self.texts.len()];
        for step in &self.script {
            match *step {
                Step::Lines(source, lines) => {
                    until[source] += lines;
                    let (at, line) = numbers(source);
                    let missing = until[source].saturating_sub(line.unwrap_or(0));
                    if missing > 0 {
                        let rest = &self.texts[source][index(at.unwrap_or(0))..];
                        let mut lines = rest.split_inclusive(|byte| *byte == b'\n');
                        let lines = lines.by_ref().take(index(missing));
                        return Some((source, Some(lines.map(<[u8]>::len).sum())));
                    }
                }
                Step::Idle(source) => {
                    let is_later = numbers(source).1.unwrap_or(0) > until[source];
                    let is_told = keeper.is_idle(source) || keeper.is_over(source);
                    if !is_later && !is_told {
                        return Some((source, None));
                    }
                }
            }
        }
        let mut sources = 0..self.texts.len();
        sources.find(open).map(|source| (source, Some(usize::MAX)))
    }
}

/// Lines from memory, which outlives the process.
#[derive(Debug)]
struct Lines {
    text: Arc<Vec<u8>>,
    at: usize,
    line: u64,
    is_replayable: bool,
}

impl Source for Lines {
    fn name(&self) -> &str {
        "lines"
    }

    fn header(&self) -> Option<&str> {
        None
    }

    fn take(&mut self, credit: usize, _wait: Duration) -> Result<Taken, SourceError> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return Ok(Taken::End);
        }
        let piece = &rest[..credit.min(rest.len())];
        let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Taken::Nothing);
        };
        let rows = piece[..=end].to_vec();
        let first_row = self.line + 1;
        self.line += wide(rows.iter().filter(|byte| **byte == b'\n').count());
        self.at += rows.len();
        Ok(Taken::Rows(holm_connect::Piece {
            rows,
            first_row,
            position: Position::of(&[wide(self.at), self.line]),
            key: None,
        }))
    }

    fn acknowledge(&mut self, _through: &Position) {}

    fn seek(&mut self, position: &Position) -> Result<(), SourceError> {
        let numbers = position.numbers().expect("it is there");
        self.at = index(numbers[0]);
        self.line = numbers[1];
        Ok(())
    }

    fn replayable(&self) -> bool {
        self.is_replayable
    }

    fn repeats(&self) -> Repeats {
        Repeats::CountOnce
    }

    /// Whoever sends knows what was acknowledged, and the rest by its place.
    fn go_on(&mut self, position: &Position) -> Result<(), SourceError> {
        self.seek(position)
    }

    fn stop(&mut self) {}
}

const ROWS: &str = "rows";
const COMMITTED: &str = "committed";

/// Lines on the virtual disk: appended, synced, and then their number and length kept.
#[derive(Debug)]
struct Shelf {
    folder: Arc<dyn Folder>,
    fields: Vec<Field>,
    disk: Option<Box<dyn Disk>>,
    length: u64,
    next: u64,
    guarantee: Guarantee,
}

fn failed(error: impl std::fmt::Display) -> SinkError {
    SinkError::failed("shelf", error)
}

impl Shelf {
    fn open(&mut self) -> Result<(), DiskError> {
        let disk = match self.folder.open(ROWS) {
            Err(DiskError::NotFound { .. }) => {
                let disk = self.folder.create(ROWS, ByteCount::ZERO)?;
                self.folder.sync()?;
                disk
            }
            other => other?,
        };
        self.disk = Some(disk);
        Ok(())
    }

    fn append(&mut self, text: &[u8]) -> Result<(), DiskError> {
        let disk = self.disk.as_mut().expect("it is there");
        disk.write(ByteCount::new(self.length), text)?;
        disk.sync()?;
        self.length += wide(text.len());
        let kept = [self.next.to_le_bytes(), self.length.to_le_bytes()].concat();
        if self.guarantee == Guarantee::ExactlyOnce {
            keep(&*self.folder, COMMITTED, 9, &kept)?;
        }
        Ok(())
    }
}

impl Sink for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        self.open().map_err(failed)?;
        if self.guarantee == Guarantee::AtLeastOnce {
            self.length = self
                .disk
                .as_ref()
                .expect("it is there")
                .len()
                .map_err(failed)?
                .value();
            return Ok(None);
        }
        let kept = fetch(&*self.folder, COMMITTED, 9).map_err(failed)?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("it is there"));
        if let Some(kept) = &kept {
            (self.next, self.length) = (word(&kept[..8]), word(&kept[8..]));
        }
        let disk = self.disk.as_mut().expect("it is there");
        disk.set_len(ByteCount::new(self.length)).map_err(failed)?;
        disk.sync().map_err(failed)?;
        Ok(self.next.checked_sub(1))
    }

    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError> {
        if self.guarantee == Guarantee::ExactlyOnce {
            assert_eq!(first, self.next, "rows are numbered densely");
        }
        let mut text = String::new();
        write(Format::JsonLines, &self.fields, rows, &mut text);
        self.next = first + wide(rows.rows);
        self.append(text.as_bytes()).map_err(failed)
    }
}

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mischief {
    #[default]
    None,
    /// Records count as durable before they are written.
    AcknowledgesFirst,
}

pub(crate) fn settings() -> Settings {
    Settings {
        snapshot_interval_ms: 1,
        log: Config {
            segment_bytes: 1 << 8,
            ..Config::default()
        },
        ..Settings::default()
    }
}

pub(crate) fn reopen(storage: &Storage, case: &Case) -> Result<Opened, RunnerError> {
    let root = storage.root();
    let folder = root.folder("stream")?;
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    for (query, plan) in case.job.plans.iter().enumerate() {
        sinks.push(Box::new(Shelf {
            folder: root.folder(&shelf(query))?,
            fields: plan.fields.clone(),
            disk: None,
            length: 0,
            next: 0,
            guarantee: case.guarantee,
        }));
    }
    let source = |text: &Arc<Vec<u8>>| -> Box<dyn Source> {
        Box::new(Lines {
            text: Arc::clone(text),
            at: 0,
            line: 0,
            is_replayable: case.is_replayable,
        })
    };
    let ends = Ends {
        sources: case.texts.iter().map(source).collect(),
        sinks,
    };
    let mut tables = || Ok(case.tables.clone());
    open(
        &folder,
        &case.job,
        ends,
        &settings(),
        (&mut tables, &|| false),
    )
}

/// Runs a stream to its end, or to the crash that the storage was told of: its queues are emptied
/// in an order that the seed gives.
pub(crate) fn work(
    storage: &Storage,
    case: &Case,
    seed: u64,
    mischief: Mischief,
) -> Result<Opened, RunnerError> {
    let mut opened = reopen(storage, case)?;
    let folder = storage.root().folder("stream")?;
    let mut prng = Prng::new(seed);
    let mut now = 0;
    loop {
        now += 100_000;
        let at = Time::from_nanos(now);
        match prng.below(8) {
            0..3 => {
                let credit = 200 + usize::try_from(prng.below(1_500)).expect("it is there");
                feed(&mut opened, case, at, credit)?;
            }
            3 | 4 => flush(&mut opened, at, mischief)?,
            5 => {
                let sink = match case.job.plans.len() {
                    1 => 0,
                    queries => usize::try_from(prng.below(wide(queries))).expect("it is there"),
                };
                if let Some(commit) = opened.keeper.take_commit(sink) {
                    opened.ends.sinks[sink].put(commit.first, &commit.rows)?;
                    opened.keeper.committed(at, sink, commit.output());
                }
            }
            6 => {
                now += 2_000_000;
                opened.keeper.wake(Time::from_nanos(now));
                if let Some(save) = opened.keeper.take_save() {
                    keep(&*folder, &save.name(), 1, &save.body())?;
                    opened.keeper.saved(at, save.through(), save.committed());
                }
            }
            _ => {
                let (names, below) = opened.keeper.take_tidying();
                if let Some(below) = below {
                    opened.log.truncate(below)?;
                }
                for name in names {
                    folder.remove(&name)?;
                }
            }
        }
        opened.keeper.take_acknowledged();
        if case.next(&opened.keeper).is_none() && opened.keeper.is_settled() {
            return Ok(opened);
        }
    }
}

fn flush(opened: &mut Opened, at: Time, mischief: Mischief) -> Result<(), RunnerError> {
    if let Some((records, write)) = opened.keeper.take_records() {
        let entries: Vec<&Entry> = records.iter().map(|filed| filed.entry()).collect();
        if mischief == Mischief::AcknowledgesFirst {
            opened.keeper.flushed(at, write);
            // The sink hears of it before the disk does.
            while let Some(commit) = opened.keeper.take_commit(0) {
                opened.ends.sinks[0].put(commit.first, &commit.rows)?;
                opened.keeper.committed(at, 0, commit.output());
            }
            return Ok(opened.log.append(&entries)?);
        }
        opened.log.append(&entries)?;
        opened.keeper.flushed(at, write);
    }
    Ok(())
}

fn feed(opened: &mut Opened, case: &Case, at: Time, credit: usize) -> Result<(), RunnerError> {
    let Some((source, there)) = case.next(&opened.keeper) else {
        return Ok(());
    };
    let Some(there) = there else {
        return opened.keeper.take(at, source, Arrived::Idle);
    };
    let taken = opened.ends.sources[source].take(credit.min(there), Duration::ZERO)?;
    let arrived = match taken {
        Taken::Rows(piece) => Arrived::Rows {
            read: opened.readers[source].read(&piece.rows, piece.first_row),
            bytes: (wide(piece.rows.len()), crc32c::crc32c(&piece.rows)),
            position: piece.position,
            key: piece.key,
        },
        Taken::Columns(columns) => Arrived::of_columns(columns),
        Taken::End => Arrived::End,
        Taken::Nothing => return Ok(()),
    };
    opened.keeper.take(at, source, arrived)
}

fn shelf(query: usize) -> String {
    format!("sink{query}")
}

/// The rows that the sink of a query holds.
pub(crate) fn rows_of(storage: &Storage, query: usize) -> String {
    let bytes = storage.bytes(&format!("{}/rows", shelf(query)));
    String::from_utf8(bytes.unwrap_or_default()).expect("it is there")
}

/// The rows that all sinks hold, one after the other.
pub(crate) fn rows(storage: &Storage) -> String {
    let queries = 0..holm_once::QUERIES_MAX;
    queries.map(|query| rows_of(storage, query)).collect()
}

/// The state at the end of a run, as it came to be and as the log alone gives it again, and where rows were logged.
pub(crate) fn state_of(case: &Case) -> (Vec<u8>, Vec<u8>, Option<LogPoint>) {
    let storage = Storage::new();
    let mut opened = reopen(&storage, case).expect("it is there");
    let at = Time::from_nanos(1);
    while !opened.keeper.is_over(0) {
        feed(&mut opened, case, at, 20_000).expect("it is there");
        flush(&mut opened, at, Mischief::None).expect("it is there");
    }
    let point = opened.keeper.log_points()[0];
    let came = body(&mut opened);
    drop(opened);
    let mut again = reopen(&storage.reopen(Survival::Keep), case).expect("it is there");
    (came, body(&mut again), point)
}

/// What a snapshot would hold, but for the number of its record.
fn body(opened: &mut Opened) -> Vec<u8> {
    opened.keeper.wake(Time::from_nanos(1_000_000_000));
    let save = opened.keeper.take_save().expect("there is state to save");
    save.body()[16..].to_vec()
}
