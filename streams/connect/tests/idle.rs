//! Sources that fall silent: left out of the lowest watermark until they speak again. Against a
//! dumb twin, and against itself with input that is cut in other places and state that is read back.

use std::collections::BTreeMap;

use holm_base::Prng;
use holm_connect::{Format, write};
use holm_engine::{Limits, Run};
use holm_lanes::{Batch, Lane, Loader, Origin, Saver, Values};
use holm_sql::{Known, Planned, parse, plan};

const TABLES: &str = "
CREATE TABLE a (ts TIMESTAMP(3), k BIGINT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('late'='side');
CREATE TABLE b (ts TIMESTAMP(3), k BIGINT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND) WITH ('late'='side');
CREATE TABLE c (ts TIMESTAMP(3), k BIGINT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('late'='side');
CREATE VIEW both_ AS SELECT ts, k, n FROM a UNION ALL SELECT ts, k, n FROM b;
CREATE VIEW few AS SELECT ts, k, n FROM both_ WHERE n < 70 UNION ALL SELECT ts, k, 0 - n FROM b;
CREATE VIEW of_a AS SELECT window_start, window_end, k, COUNT(*) AS c, SUM(n) AS s
  FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k;
CREATE VIEW of_b AS SELECT window_start, window_end, k, COUNT(*) AS c, SUM(n) AS s
  FROM TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k;
CREATE VIEW sums AS SELECT window_start, window_end, k, c FROM of_a UNION ALL SELECT window_start, window_end, k, c FROM of_b;
CREATE VIEW ends AS SELECT ts, n FROM a UNION ALL SELECT window_time, c FROM
  (SELECT window_time, COUNT(*) AS c FROM TUMBLE(TABLE b, DESCRIPTOR(ts), INTERVAL '1' SECOND)
   GROUP BY window_start, window_end, window_time);
CREATE VIEW of_both AS SELECT window_start, window_end, k, COUNT(*) AS c, SUM(n) AS s
  FROM TUMBLE(TABLE both_, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k;
CREATE VIEW of_c AS SELECT window_start, window_end, k, COUNT(*) AS c, SUM(n) AS s
  FROM TUMBLE(TABLE c, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k;
CREATE VIEW sums_of_all AS SELECT * FROM of_both UNION ALL SELECT * FROM of_c;
";

const WINDOWS: &str = "SELECT window_start, k, COUNT(*) AS c, SUM(n) AS s
  FROM TUMBLE(TABLE both_, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end, k";
const GROUPS: &str = "SELECT window_start, window_end, k, SUM(c) AS c FROM sums GROUP BY window_start, window_end, k";
const JOIN: &str =
    "SELECT l.window_start, l.k, l.c, r.c AS other FROM of_a AS l LEFT JOIN of_b AS r
  ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k";

const QUERIES: [&str; 8] = [
    WINDOWS,
    GROUPS,
    JOIN,
    "SELECT k, n FROM both_",
    "SELECT window_start, k, SUM(n) AS n, FIRST_VALUE(n) AS f
     FROM HOP(TABLE few, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '3' SECOND) GROUP BY window_start, window_end, k",
    "SELECT k, window_start, window_end, COUNT(*) AS c
     FROM SESSION(TABLE both_ PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY k, window_start, window_end",
    "SELECT window_start, k, c FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, k)
     AS place FROM sums) WHERE place <= 2",
    "SELECT window_start, window_end, COUNT(*) AS c, SUM(n) AS n
     FROM TUMBLE(TABLE ends, DESCRIPTOR(ts), INTERVAL '2' SECOND) GROUP BY window_start, window_end",
];

/// Over three tables, of which two meet before they meet the third.
const OF_THREE: [&str; 3] = [
    "SELECT window_start, window_end, k, SUM(c) AS c, SUM(s) AS s FROM sums_of_all GROUP BY window_start, window_end, k",
    "SELECT l.window_start, l.k, l.c, r.c AS other FROM of_c AS l LEFT JOIN of_both AS r
     ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k",
    "SELECT window_start, window_end, k, c, place FROM
     (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY s DESC, k) AS place FROM sums_of_all)
     WHERE place <= 2",
];

fn planned(query: &str) -> Planned {
    let script = parse(&format!("{TABLES}{query}")).unwrap_or_else(|refusal| panic!("{refusal}"));
    plan(&script, &Known::default()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// A row of a table, or that it is idle, or has ended.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Table, time, key, number.
    Row(usize, i64, i64, i64),
    Idle(usize),
    End(usize),
}

impl Event {
    const fn table(self) -> usize {
        let (Self::Row(table, ..) | Self::Idle(table) | Self::End(table)) = self;
        table
    }

    /// Whether this and the next one may come as one batch.
    const fn goes_with(&self, next: &Self) -> bool {
        let are_rows = matches!((self, next), (Self::Row(..), Self::Row(..)));
        are_rows && self.table() == next.table()
    }
}

/// Rows of two tables or three that rise to 200 s. Each is silent now and then, is told idle in
/// most of these times, and comes back with what it had, or with what it has now.
fn events(seed: u64, tables: u64) -> Vec<Event> {
    let mut prng = Prng::new(seed);
    let mut below = |bound: u64| i64::try_from(prng.below(bound)).expect("small");
    let (mut events, mut at, mut speaks) = (Vec::new(), [10_000_000; 3], [true; 3]);
    for _ in 0..tables * 600 {
        let table = usize::try_from(below(tables)).expect("small");
        if below(60) == 0 {
            speaks[table] = !speaks[table];
            if !speaks[table] && below(4) > 0 {
                events.push(Event::Idle(table));
            } else if speaks[table] && below(2) == 0 {
                at[table] = at.into_iter().max().expect("three");
            }
        }
        if speaks[table] {
            at[table] += below(400_000);
            let most = if below(8) == 0 { 6_000_000 } else { 900_000 };
            let behind = below(most);
            let time = (at[table] - behind) / 1_000 * 1_000;
            events.push(Event::Row(table, time, below(3), below(100)));
        }
    }
    events
}

/// The same of three tables, of which one ends after a third of it.
fn events_of_which_one_ends(seed: u64, table: usize) -> Vec<Event> {
    let mut events = events(seed, 3);
    let rest = events.split_off(events.len() / 3);
    events.push(Event::End(table));
    events.extend(rest.into_iter().filter(|event| event.table() != table));
    events
}

fn batch(rows: &[Event], first: u64) -> Batch {
    let mut lanes: [Vec<i64>; 3] = Default::default();
    for row in rows {
        let Event::Row(_, time, key, number) = row else {
            panic!("it is a row");
        };
        for (lane, value) in lanes.iter_mut().zip([time, key, number]) {
            lane.push(*value);
        }
    }
    let mut batch = Batch::of(lanes.map(|lane| Lane::dense(Values::Int(lane))).into());
    batch.origin = Origin::Run(first);
    batch
}

/// When the state is written and read back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Restart {
    Never,
    Always,
    /// After so many batches.
    After(usize),
}

fn read_back(run: &Run, fresh: Run) -> Run {
    let mut to = Saver::new();
    run.save(&mut to);
    let bytes = to.finish();
    let mut again = fresh;
    again
        .load(&mut Loader::new(&bytes))
        .expect("what was written");
    let mut to = Saver::new();
    again.save(&mut to);
    assert!(to.finish() == bytes, "it is what it was");
    again
}

/// All that comes out of events in batches of so many rows at most.
fn answer(planned: &Planned, events: &[Event], size: usize, restart: Restart) -> String {
    let plan = &planned.plan;
    let place = |table: usize| {
        let name = ["a", "b", "c"][table];
        let mut sources = plan.sources.iter();
        sources.position(|source| source.name == name)
    };
    let fresh = || Run::new(plan, Limits::default(), vec![]);
    let mut run = fresh();
    let (mut out, mut late, mut lines) = (String::new(), Vec::new(), [1; 3]);
    let mut has_ended = vec![false; plan.sources.len()];
    let stretches = events.chunk_by(Event::goes_with);
    for (number, part) in stretches.flat_map(|it| it.chunks(size)).enumerate() {
        let table = part[0].table();
        let Some(source) = place(table) else { continue };
        let rows = match part[0] {
            Event::Row(..) => {
                let rows = batch(part, lines[table]);
                lines[table] += u64::try_from(part.len()).expect("small");
                run.push(source, rows)
            }
            Event::Idle(_) => run.idle(source),
            Event::End(_) => {
                has_ended[source] = true;
                run.end(source)
            }
        };
        let rows = rows.expect("room");
        let is_idle = matches!(part[0], Event::Idle(_));
        assert_eq!(run.is_idle(source), is_idle);
        write(Format::JsonLines, &plan.fields, &rows, &mut out);
        let report = run.report();
        assert!(report.diverted.is_empty());
        late.extend(report.late.iter().map(|late| (late.source, late.line)));
        if restart == Restart::Always || restart == Restart::After(number) {
            run = read_back(&run, fresh());
        }
    }
    for source in (0..plan.sources.len()).filter(|source| !has_ended[*source]) {
        let rows = run.end(source).expect("room");
        write(Format::JsonLines, &plan.fields, &rows, &mut out);
    }
    // What several nodes find late of one batch they say one after the other.
    late.sort_unstable();
    format!("{out}{late:?}{:?}", run.counts())
}

#[test]
fn cuts_of_the_input_do_not_show() {
    for (number, query) in QUERIES.iter().enumerate() {
        let planned = planned(query);
        for seed in 1..6 {
            let events = events(seed, 2);
            let whole = answer(&planned, &events, 10_000, Restart::Never);
            assert!(whole.lines().count() > 20, "{number}: {whole}");
            for size in [1, 3] {
                let cut = answer(&planned, &events, size, Restart::Never);
                assert_eq!(
                    cut, whole,
                    "query {number}, seed {seed}, {size} rows a batch"
                );
            }
            let saved = answer(&planned, &events, 4, Restart::Always);
            assert_eq!(saved, whole, "query {number}, seed {seed}, read back");
        }
    }
}

#[test]
fn a_table_that_ended_has_ended_after_a_restart() {
    for (number, query) in OF_THREE.iter().enumerate() {
        let planned = planned(query);
        for (seed, table) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
            let events = events_of_which_one_ends(seed, table);
            let whole = answer(&planned, &events, 10_000, Restart::Never);
            assert!(whole.lines().count() > 20, "{number}: {whole}");
            for (size, restart) in [
                (1, Restart::Never),
                (1, Restart::Always),
                (7, Restart::Always),
            ] {
                let cut = answer(&planned, &events, size, restart);
                assert_eq!(
                    cut, whole,
                    "query {number}, seed {seed}, {size} rows a batch"
                );
            }
        }
        let events = events_of_which_one_ends(5, 0);
        let events = &events[events.len() / 3 - 20..][..400];
        let whole = answer(&planned, events, 3, Restart::Never);
        for point in 0..200 {
            let again = answer(&planned, events, 3, Restart::After(point));
            assert_eq!(again, whole, "query {number}, restart after {point}");
        }
    }
}

/// State is laid out as it was before sources could be idle, unless there is more to say.
#[test]
fn what_has_ended_is_saved_only_of_several() {
    let version = |run: &Run| {
        let mut to = Saver::new();
        run.save(&mut to);
        to.finish()[0]
    };
    let of = |query: &str| Run::new(&planned(query).plan, Limits::default(), vec![]);
    let mut one = of("SELECT k, n FROM a");
    one.end(0).expect("room");
    assert_eq!(version(&one), 1);
    let mut two = of("SELECT k, n FROM both_");
    assert_eq!(version(&two), 1);
    two.end(1).expect("room");
    assert_eq!(version(&two), 2);
}

/// How far both tables are, who is idle, and what was given out.
#[derive(Default)]
struct Marks {
    own: [Option<i64>; 2],
    is_idle: [bool; 2],
    given: Option<i64>,
}

impl Marks {
    fn look(&mut self) {
        let speaking = (0..2).filter(|table| !self.is_idle[*table]);
        let lowest = speaking.map(|table| self.own[table]).min();
        let mark = lowest.unwrap_or_else(|| self.own[0].max(self.own[1]));
        self.given = self.given.max(mark);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Row(table, time, ..) => {
                self.is_idle[table] = false;
                let bound = [1_000_000, 2_000_000][table];
                self.own[table] = self.own[table].max(Some(time - bound));
            }
            Event::Idle(table) => self.is_idle[table] = true,
            Event::End(table) => panic!("table {table} goes on"),
        }
        self.look();
    }
}

/// Count and sum by the start of a window and its key.
type Sums = BTreeMap<(i64, i64), (i64, i64)>;

#[test]
fn windows_over_two_tables_wait_for_those_that_speak() {
    let planned = planned(WINDOWS);
    let mut waited = 0;
    for seed in 1..40 {
        let events = events(seed, 2);
        let (mut marks, mut windows, mut late) = (Marks::default(), Sums::new(), 0);
        let mut without = Marks::default();
        for event in &events {
            if let Event::Row(_, time, key, number) = event {
                let start = time.div_euclid(2_000_000) * 2_000_000;
                // A row is judged by what was given out before it.
                if marks.given.is_some_and(|mark| start + 2_000_000 <= mark) {
                    late += 1;
                } else {
                    let slot = windows.entry((start, *key)).or_insert((0, 0));
                    *slot = (slot.0 + 1, slot.1 + number);
                }
                without.event(*event);
            }
            marks.event(*event);
            waited += usize::from(marks.given > without.given);
        }
        let said = answer(&planned, &events, 50, Restart::Never);
        assert!(
            said.contains(&format!("late: {late}, diverted: 0")),
            "seed {seed}: {late} {said}"
        );
        let mut found = said.lines().filter(|line| line.starts_with('{'));
        for ((start, key), (count, sum)) in &windows {
            let seconds = start / 1_000_000;
            let time = format!("1970-01-01T00:{:02}:{:02}.000", seconds / 60, seconds % 60);
            let wanted =
                format!("{{\"window_start\":\"{time}\",\"k\":{key},\"c\":{count},\"s\":{sum}}}");
            assert!(
                said.lines().any(|line| line == wanted),
                "{wanted} of seed {seed}: {said}"
            );
            found.next();
        }
        assert_eq!(found.next(), None, "no other window");
    }
    assert!(waited > 5_000, "being idle showed at {waited} events");
}

/// A run of two tables whose rows are 1 s apart.
struct Two(Run);

impl Two {
    fn new(query: &str) -> Self {
        Self(Run::new(&planned(query).plan, Limits::default(), vec![]))
    }

    /// Rows of a table at these seconds; how many rows come out.
    fn rows(&mut self, table: usize, seconds: std::ops::Range<i64>) -> usize {
        let rows: Vec<Event> = seconds
            .map(|at| Event::Row(table, at * 1_000_000, 0, 1))
            .collect();
        self.0.push(table, batch(&rows, 1)).expect("room").rows
    }

    fn idle(&mut self, table: usize) -> usize {
        self.0.idle(table).expect("room").rows
    }

    fn late(&self) -> u64 {
        self.0.counts().late
    }
}

#[test]
fn a_table_that_is_idle_holds_nothing_until_it_speaks_again() {
    let mut two = Two::new(WINDOWS);
    assert_eq!(two.rows(0, 0..101), 0, "the second has said nothing");
    assert_eq!(two.idle(1), 49, "to 99 s");
    assert_eq!(two.rows(0, 101..111), 5);
    assert_eq!(two.rows(1, 20..30), 0, "all are behind 109 s");
    assert_eq!(two.late(), 10, "and counted");
    assert_eq!(two.rows(0, 111..151), 0, "it is waited for again");
    assert_eq!(two.rows(1, 30..116), 2, "to 113 s");
    assert_eq!(
        two.late(),
        88,
        "rows of 108 and 109 s are in a window that is open"
    );
}

#[test]
fn who_is_idle_and_ahead_held_nothing() {
    let mut two = Two::new(WINDOWS);
    assert_eq!(two.rows(1, 0..101), 0);
    assert_eq!(two.rows(0, 0..11), 4);
    assert_eq!(two.idle(1), 0, "the other one is the lowest");
    assert_eq!(two.rows(0, 11..31), 10);
    assert_eq!(two.late(), 0);
}

#[test]
fn if_both_are_idle_the_one_that_is_ahead_counts() {
    let mut two = Two::new(WINDOWS);
    two.rows(0, 0..51);
    two.rows(1, 0..21);
    assert_eq!(two.idle(0), 0, "the second is the lowest");
    assert_eq!(two.idle(1), 15, "from 18 s to 49 s");
    assert_eq!(two.idle(1), 0, "it is said once");
    assert_eq!(
        two.rows(1, 21..51),
        0,
        "48 s are below the 49 that were given out"
    );
    assert_eq!(two.late(), 27, "rows below 48 s");
    assert_eq!(two.rows(1, 51..61), 5, "alone, to 58 s");
}

/// One that ended is not waited for, and does not end the others.
#[test]
fn a_table_that_ended_moves_no_window_of_one_that_is_idle() {
    let mut two = Two::new(WINDOWS);
    two.rows(0, 0..51);
    two.rows(1, 0..21);
    assert_eq!(
        two.0.end(0).expect("room").rows,
        0,
        "the second is the lowest"
    );
    assert_eq!(two.idle(1), 0, "nothing else moves time");
    assert_eq!(two.rows(1, 21..31), 5);
    assert_eq!(two.0.end(1).expect("room").rows, 12, "from 28 s to 50 s");
    assert_eq!(two.late(), 0);
}

/// Windows of a table that was idle wait for its own time; results that come when their join has
/// let the window go are late, and counted.
#[test]
fn windows_that_meet_without_one_are_not_made_twice() {
    let mut join = Two::new(JOIN);
    assert_eq!(join.rows(0, 0..51), 0);
    assert_eq!(join.idle(1), 24, "beside NULLs, to 49 s");
    join.rows(1, 0..50);
    assert_eq!(join.late(), 23, "windows of the second, to 46 s");
    assert_eq!(join.rows(1, 50..61), 0, "the first is the lowest");
    assert_eq!(join.late(), 24, "and to 48 s");
    assert_eq!(join.rows(0, 51..71), 5, "from 48 s to 58 s");
    let mut groups = Two::new(GROUPS);
    groups.rows(0, 0..51);
    assert_eq!(groups.idle(1), 24);
    assert_eq!(groups.rows(1, 0..50), 0, "each of them was let go");
    assert_eq!(groups.late(), 23);
    assert_eq!(groups.rows(1, 50..61), 0);
    assert_eq!(groups.late(), 24);
}
