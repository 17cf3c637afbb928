//! How long a record takes when ten million come each second and wait 50 us for company, at most.
//!
//! Records are due at their times, whether or not the engine is ready: 500 each 50 us. A delay is from when the first
//! of them was due until their rows are out, so that a stall counts for all that should have come meanwhile. *No log*:
//! the engine on one thread. *Logged*: through the runner, until their source hears that they are durable. *One sync*:
//! a file that is appended to and synced, by itself, for comparison.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use holm_connect::{Columns, Position, Repeats, Source, SourceError, Taken};
use holm_lanes::Batch;

use crate::case::CASES;
use crate::data;
use crate::measure::{Asked, planned, push, run_of};
use crate::once::Bench;

const LINGER: Duration = Duration::from_micros(50);
/// Records of a linger: ten million a second.
const EACH: usize = 500;
const LASTS: Duration = Duration::from_secs(3);

fn ticks() -> u32 {
    let ticks = LASTS.as_nanos() / LINGER.as_nanos();
    u32::try_from(ticks).expect("some ten thousand")
}

fn batches() -> Vec<Batch> {
    let case = CASES.first().expect("there are queries");
    let count = usize::try_from(ticks()).expect("some ten thousand");
    let needed = &planned(case).needed[0];
    let rows = data::rows(case, count * EACH);
    let pieces = rows.bytes.chunks(case.row * EACH).enumerate();
    let piece = |(at, piece)| data::numbered(data::lanes(case, needed, piece), at * EACH);
    pieces.map(piece).collect()
}

fn alone() -> Vec<Duration> {
    let case = CASES.first().expect("there are queries");
    let (mut run, batches) = (run_of(case, &planned(case)), batches());
    let mut delays = Vec::with_capacity(batches.len());
    let begun = Instant::now();
    for (tick, batch) in (1..).zip(batches) {
        let due = LINGER * tick;
        while begun.elapsed() < due {
            std::hint::spin_loop();
        }
        push(&mut run, batch);
        delays.push(begun.elapsed().saturating_sub(due - LINGER));
    }
    delays
}

/// Records at their times, and when the source heard of each.
#[derive(Debug)]
struct Paced {
    batches: VecDeque<Batch>,
    begun: Option<Instant>,
    tick: u32,
    /// Ticks that were given and not acknowledged.
    open: VecDeque<u32>,
    delays: Arc<Mutex<Vec<Duration>>>,
}

impl Source for Paced {
    fn name(&self) -> &str {
        "paced"
    }

    fn header(&self) -> Option<&str> {
        None
    }

    fn take(&mut self, _credit: usize, wait: Duration) -> Result<Taken, SourceError> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let now = begun.elapsed();
        let due = LINGER * (self.tick + 1);
        if self.batches.is_empty() && self.open.is_empty() {
            return Ok(Taken::End);
        }
        if now < due || self.batches.is_empty() {
            thread::sleep(
                due.saturating_sub(now)
                    .min(wait)
                    .max(Duration::from_micros(5)),
            );
            return Ok(Taken::Nothing);
        }
        let mut parts = Vec::new();
        while begun.elapsed() >= LINGER * (self.tick + 1)
            && let Some(batch) = self.batches.pop_front()
        {
            parts.push(batch);
            self.open.push_back(self.tick);
            self.tick += 1;
        }
        let batch = match parts.as_slice() {
            [one] => one.clone(),
            several => {
                let mut all = Batch::together(several);
                all.origin = several[0].origin.clone();
                all
            }
        };
        Ok(Taken::Columns(Columns {
            bytes: batch.rows * 20,
            batch,
            position: Position::of(&[u64::from(self.tick)]),
            bad: Vec::new(),
            crc: 0,
        }))
    }

    fn acknowledge(&mut self, through: &Position) {
        let through = through
            .numbers()
            .and_then(|numbers| numbers.first().copied());
        let now = self.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let mut delays = self.delays.lock().expect("nobody panics here");
        let is_heard = |tick: &mut u32| Some(u64::from(*tick)) < through;
        while let Some(tick) = self.open.pop_front_if(is_heard) {
            delays.push(now.saturating_sub(LINGER * tick));
        }
    }

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

fn logged() -> Vec<Duration> {
    let case = CASES.first().expect("there are queries");
    let delays = Arc::new(Mutex::new(Vec::new()));
    let source = Paced {
        batches: batches().into(),
        begun: None,
        tick: 0,
        open: VecDeque::new(),
        delays: Arc::clone(&delays),
    };
    let folder = tempfile::tempdir().expect("a folder of ours");
    let handle = Bench::of(case).start(folder.path(), Box::new(source), false);
    while !handle.is_over() {
        thread::sleep(Duration::from_millis(2));
    }
    drop(handle);
    let heard = std::mem::take(&mut *delays.lock().expect("nobody panics here"));
    assert!(!heard.is_empty(), "something was acknowledged");
    heard
}

fn synced() -> Vec<Duration> {
    let folder = tempfile::tempdir().expect("a folder of ours");
    let mut file = File::create(folder.path().join("log")).expect("a file of ours");
    file.write_all(&vec![0; 4 << 20]).expect("there is room");
    file.sync_all().expect("a file of ours");
    let mut delays = Vec::new();
    for at in 0..1_000 {
        let begun = Instant::now();
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 1_024], at * 1_024)
            .expect("there is room");
        file.sync_data().expect("a file of ours");
        delays.push(begun.elapsed());
    }
    delays
}

/// Prints the table.
pub(crate) fn measure(asked: &Asked) -> String {
    let mut text = String::from("|way|p50, us|p99, us|most, us|\n|--|--|--|--|\n");
    type Way = fn() -> Vec<Duration>;
    let ways: [(&str, Way); 3] = [("no log", alone), ("logged", logged), ("one sync", synced)];
    for (name, way) in ways {
        let mut rounds: Vec<[u128; 3]> = (0..asked.rounds)
            .map(|_| {
                let mut delays = way();
                delays.sort_unstable();
                [50, 99, 100].map(|it| delays[(delays.len() - 1) * it / 100].as_micros())
            })
            .collect();
        // The round in the middle by its p99.
        rounds.sort_unstable_by_key(|round| round[1]);
        let [half, most_of, most] = rounds[rounds.len() / 2];
        writeln!(text, "|{name}|{half}|{most_of}|{most}|").expect("a string takes all");
    }
    text
}
