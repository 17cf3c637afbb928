//! A live query on a thread that a batch query would like to have, too.
//!
//! Every millisecond 64 records come for the live query (CM1); from when they are due until their
//! stint is over is their delay, also where the thread was late to look. The batch query (CM2) has
//! all of its records from the beginning. The ways: the live query *solo*; *stints*, as
//! `holm_engine::Stints` gives them; *first come*: the batch query runs batches of 16,384 records,
//! each of which was there before the live query's next ones; and *whole*, where it is not cut at
//! all, as a query is that somebody just runs.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use holm_engine::{Class, Run, Stints};
use holm_lanes::Batch;

use crate::case::{CASES, Case};
use crate::data::{self, BATCH};
use crate::measure::{Asked, planned, push, run_of};

const LIVE: usize = 64;
const EVERY: Duration = Duration::from_millis(1);
const LASTS: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Solo,
    Stints,
    FirstCome,
    Whole,
}

/// Records that come at their time, and delays of those that went.
struct Live {
    run: Run,
    batches: Vec<Batch>,
    begun: Instant,
    next: usize,
    delays: Vec<Duration>,
}

impl Live {
    fn due(&self) -> Duration {
        EVERY * u32::try_from(self.next).expect("a few thousand")
    }

    fn has_rows(&self) -> bool {
        self.next < self.batches.len() && self.begun.elapsed() >= self.due()
    }

    fn is_over(&self) -> bool {
        self.next == self.batches.len()
    }

    fn stint(&mut self) {
        push(&mut self.run, self.batches[self.next].clone());
        self.delays
            .push(self.begun.elapsed().saturating_sub(self.due()));
        self.next += 1;
    }
}

/// Records that are there, over and over.
struct Greedy {
    run: Run,
    records: Batch,
    at: usize,
    taken: usize,
}

impl Greedy {
    /// Runs so many records, and says how many there were.
    fn stint(&mut self, rows: usize) -> usize {
        let end = self.records.rows.min(self.at + rows);
        let piece = self.records.slice(self.at..end);
        let rows = piece.rows;
        push(&mut self.run, piece);
        self.at = if end == self.records.rows { 0 } else { end };
        self.taken += rows;
        rows
    }
}

fn case(name: &str) -> &'static Case {
    let case = CASES.iter().find(|case| case.name == name);
    case.expect("it is one of them")
}

fn live() -> Live {
    let case = case("CM1");
    let count = usize::try_from(LASTS.as_millis() / EVERY.as_millis()).expect("a few thousand");
    let rows = data::rows(case, count * LIVE);
    let needed = vec![true; case.columns.len()];
    let whole = data::lanes(case, &needed, &rows.bytes);
    let pieces = (0..count).map(|at| whole.slice(at * LIVE..(at + 1) * LIVE));
    Live {
        run: run_of(case, &planned(case)),
        batches: pieces.collect(),
        begun: Instant::now(),
        next: 0,
        delays: Vec::new(),
    }
}

fn greedy(rows: usize) -> Greedy {
    let case = case("CM2");
    let rows = data::rows(case, rows);
    let needed = vec![true; case.columns.len()];
    Greedy {
        run: run_of(case, &planned(case)),
        records: data::lanes(case, &needed, &rows.bytes),
        at: 0,
        taken: 0,
    }
}

/// Runs both until all live records went.
fn together(way: Way, rows: usize) -> (Live, Greedy) {
    let (mut live, mut greedy) = (live(), greedy(rows));
    let mut stints = Stints::new();
    let (batch, first) = (stints.add(Class::Batch), stints.add(Class::Live));
    live.begun = Instant::now();
    while !live.is_over() {
        let wants = way != Way::Solo;
        let has_rows = |query| {
            if query == first {
                live.has_rows()
            } else {
                wants
            }
        };
        let chosen = match way {
            Way::Solo | Way::Stints => stints.next(has_rows),
            Way::FirstCome | Way::Whole => Some(batch),
        };
        let Some(query) = chosen else {
            std::hint::spin_loop();
            continue;
        };
        let begun = Instant::now();
        let took = if query == first {
            live.stint();
            LIVE
        } else {
            greedy.stint(match way {
                Way::Stints => stints.rows(query),
                Way::Whole => rows,
                Way::Solo | Way::FirstCome => BATCH,
            })
        };
        let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).expect("it took no centuries");
        stints.took(query, took, nanoseconds);
        // Who came while that ran goes in the order of coming: before the next batch.
        while matches!(way, Way::FirstCome | Way::Whole) && live.has_rows() {
            live.stint();
        }
    }
    (live, greedy)
}

pub(crate) fn measure(asked: &Asked) -> String {
    let mut text =
        String::from("|way|p50, us|p99, us|most, us|batch, M records/s|\n|--|--|--|--|--|\n");
    for way in [Way::Solo, Way::Stints, Way::FirstCome, Way::Whole] {
        let (mut live, greedy) = together(way, asked.rows);
        let lasted = live.begun.elapsed().as_secs_f64();
        live.delays.sort_unstable();
        let at = |hundredths: usize| {
            let place = (live.delays.len() - 1) * hundredths / 100;
            live.delays[place].as_micros()
        };
        let rate = crate::measure::real(greedy.taken) / lasted / 1e6;
        let name = match way {
            Way::Solo => "solo",
            Way::Stints => "stints",
            Way::FirstCome => "first come",
            Way::Whole => "whole",
        };
        writeln!(text, "|{name}|{}|{}|{}|{rate:.1}|", at(50), at(99), at(100))
            .expect("a string takes all");
    }
    text
}
