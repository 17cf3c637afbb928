//! The queries: their text, how a record lies in memory, how fast its time goes, and what
//! LightSaber reached.

/// What a column holds, and where it stands in a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) at: usize,
    pub(crate) wire: Wire,
    pub(crate) made: Made,
}

/// How a value is written in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Long,
    Int,
    F32,
}

/// How values are made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// Time, in microseconds, in order.
    Time,
    /// The same, but that one in ten comes later than it should, by up to 90 seconds.
    LateTime,
    /// Whole numbers below a bound.
    Below(u64),
    /// A part of these are zero, the others one: filters look at it.
    Kind(u64),
    /// Reals from 0 to this, with three decimals.
    Real(u64),
    /// A car: fifty thousand report in turn.
    Car,
    /// Its highway, of ten.
    Highway,
    /// Its direction.
    Direction,
    /// Where it is: it goes 300 feet from report to report.
    Position,
}

/// A query.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) row: usize,
    /// Records a second of event time.
    pub(crate) rate: u64,
    pub(crate) columns: &'static [Column],
    pub(crate) sql: &'static str,
    /// M records a second, the best of one and two workers, where LightSaber was measured.
    pub(crate) lightsaber: Option<f64>,
    /// Whether rows are looked up in a table of ads.
    pub(crate) has_table: bool,
    /// Whether its rows come when its input ends, so that the end is part of what is measured.
    pub(crate) ends: bool,
}

const fn column(at: usize, wire: Wire, made: Made) -> Column {
    Column { at, wire, made }
}

const TIME: Column = column(0, Wire::Long, Made::Time);

/// Tasks of a cluster, of so many jobs.
const fn tasks(time: Made, jobs: u64) -> [Column; 5] {
    [
        column(0, Wire::Long, time),
        column(8, Wire::Long, Made::Below(jobs)),
        column(32, Wire::Int, Made::Kind(3)),
        column(40, Wire::Int, Made::Below(4)),
        column(48, Wire::F32, Made::Real(1_000)),
    ]
}

const CLUSTER: &[Column] = &tasks(Made::Time, 8_192);
const LATE: &[Column] = &tasks(Made::LateTime, 8_192);
const MANY_KEYS: &[Column] = &tasks(Made::Time, 1_000_000);
const GRID: &[Column] = &[
    TIME,
    column(8, Wire::F32, Made::Real(100_000)),
    column(16, Wire::Int, Made::Below(4)),
    column(20, Wire::Int, Made::Below(14)),
    column(24, Wire::Int, Made::Below(40)),
];
const ROAD: &[Column] = &[
    TIME,
    column(8, Wire::Int, Made::Car),
    column(12, Wire::F32, Made::Real(100_000)),
    column(16, Wire::Int, Made::Highway),
    column(24, Wire::Int, Made::Direction),
    column(28, Wire::Int, Made::Position),
];
const ADS: &[Column] = &[
    TIME,
    column(40, Wire::Long, Made::Below(1_000)),
    column(56, Wire::Long, Made::Kind(3)),
];
const BIDS: &[Column] = &[
    TIME,
    column(16, Wire::Long, Made::Below(1_000)),
    column(24, Wire::Long, Made::Below(10_000)),
    column(32, Wire::Long, Made::Below(100_000)),
];
const MACHINES: &[Column] = &[
    TIME,
    column(16, Wire::F32, Made::Real(20_000)),
    column(20, Wire::F32, Made::Real(20_000)),
    column(24, Wire::F32, Made::Real(20_000)),
];

macro_rules! over {
    ($table:literal, $query:literal) => {
        concat!(
            "CREATE TABLE ",
            $table,
            ", WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); ",
            $query
        )
    };
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "CM1",
        row: 64,
        rate: 40_000,
        columns: CLUSTER,
        sql: over!(
            "task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE",
            "SELECT window_start, category, SUM(cpu) AS cpu \
             FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
             GROUP BY window_start, window_end, category"
        ),
        lightsaber: Some(171.0),
        has_table: false,
        ends: false,
    },
    Case {
        name: "CM2",
        row: 64,
        rate: 40_000,
        columns: CLUSTER,
        sql: over!(
            "task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE",
            "SELECT window_start, job, SUM(cpu) AS cpu \
             FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
             WHERE event_type = 1 GROUP BY window_start, window_end, job"
        ),
        lightsaber: Some(257.0),
        has_table: false,
        ends: false,
    },
    Case {
        name: "SG1",
        row: 32,
        rate: 1_000,
        columns: GRID,
        sql: over!(
            "plug (ts TIMESTAMP(3), watts DOUBLE, plug INT, household INT, house INT",
            "SELECT window_start, AVG(watts) AS watts \
             FROM HOP(TABLE plug, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' HOUR) \
             GROUP BY window_start, window_end"
        ),
        lightsaber: Some(291.0),
        has_table: false,
        ends: false,
    },
    Case {
        name: "SG2",
        row: 32,
        rate: 16_000,
        columns: GRID,
        sql: over!(
            "plug (ts TIMESTAMP(3), watts DOUBLE, plug INT, household INT, house INT",
            "SELECT window_start, plug, household, house, AVG(watts) AS watts \
             FROM HOP(TABLE plug, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '128' SECOND) \
             GROUP BY window_start, window_end, plug, household, house"
        ),
        lightsaber: Some(32.0),
        has_table: false,
        ends: false,
    },
    Case {
        name: "LRB1",
        row: 32,
        rate: 8_000,
        columns: ROAD,
        sql: over!(
            "car (ts TIMESTAMP(3), vehicle INT, speed DOUBLE, highway INT, direction INT, pos INT",
            "CREATE VIEW seg AS SELECT ts, vehicle, highway, direction, pos / 5280 AS segment, speed FROM car; \
             SELECT window_start, highway, direction, segment, AVG(speed) AS speed \
             FROM HOP(TABLE seg, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '5' MINUTE) \
             GROUP BY window_start, window_end, highway, direction, segment HAVING AVG(speed) < 40"
        ),
        lightsaber: Some(8.9),
        has_table: false,
        ends: false,
    },
    Case {
        name: "LRB2",
        row: 32,
        rate: 8_000,
        columns: ROAD,
        sql: over!(
            "car (ts TIMESTAMP(3), vehicle INT, speed DOUBLE, highway INT, direction INT, pos INT",
            "CREATE VIEW seg AS SELECT ts, vehicle, highway, direction, pos / 5280 AS segment, speed FROM car; \
             SELECT window_start, highway, direction, segment, COUNT(*) AS vehicles \
             FROM (SELECT window_start, window_end, vehicle, highway, direction, segment \
                   FROM HOP(TABLE seg, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '30' SECOND) \
                   GROUP BY window_start, window_end, vehicle, highway, direction, segment) \
             GROUP BY window_start, window_end, highway, direction, segment"
        ),
        lightsaber: Some(4.7),
        has_table: false,
        ends: false,
    },
    Case {
        name: "YSB",
        row: 128,
        rate: 40_000,
        columns: ADS,
        sql: "CREATE TABLE ad_event (ts TIMESTAMP(3), ad BIGINT, event_type BIGINT, WATERMARK FOR ts AS ts) \
              WITH ('connector'='stdin'); \
              CREATE TABLE campaign (ad BIGINT, campaign BIGINT, PRIMARY KEY (ad) NOT ENFORCED) \
              WITH ('connector'='file'); \
              CREATE VIEW viewed AS SELECT e.ts, c.campaign FROM ad_event AS e \
              JOIN campaign FOR SYSTEM_TIME AS OF e.ts AS c ON e.ad = c.ad WHERE e.event_type = 1; \
              SELECT window_start, campaign, COUNT(*) AS views \
              FROM TUMBLE(TABLE viewed, DESCRIPTOR(ts), INTERVAL '10' SECOND) \
              GROUP BY window_start, window_end, campaign",
        lightsaber: Some(201.0),
        has_table: true,
        ends: false,
    },
    Case {
        name: "NBQ5",
        row: 128,
        rate: 40_000,
        columns: BIDS,
        sql: over!(
            "bid (ts TIMESTAMP(3), auction BIGINT, bidder BIGINT, price BIGINT",
            "SELECT window_start, auction, bids FROM ( \
               SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY bids DESC, auction) AS place FROM ( \
                 SELECT window_start, window_end, auction, COUNT(*) AS bids \
                 FROM HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
                 GROUP BY window_start, window_end, auction)) WHERE place <= 1"
        ),
        lightsaber: Some(46.0),
        has_table: false,
        ends: false,
    },
    Case {
        name: "ME1",
        row: 64,
        rate: 40_000,
        columns: MACHINES,
        sql: over!(
            "machine (ts TIMESTAMP(3), mf1 DOUBLE, mf2 DOUBLE, mf3 DOUBLE",
            "SELECT window_start, AVG(mf1) AS a1, AVG(mf2) AS a2, AVG(mf3) AS a3 \
             FROM HOP(TABLE machine, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
             GROUP BY window_start, window_end"
        ),
        lightsaber: Some(303.0),
        has_table: false,
        ends: false,
    },
];

/// Queries that LightSaber's paper does not have.
pub(crate) const MORE: &[Case] = &[
    Case {
        name: "KEYS",
        row: 64,
        rate: 40_000,
        columns: MANY_KEYS,
        sql: over!(
            "task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE",
            "SELECT job, COUNT(*) AS n, SUM(cpu) AS cpu FROM task GROUP BY job"
        ),
        lightsaber: None,
        has_table: false,
        ends: true,
    },
    Case {
        name: "LATE",
        row: 64,
        rate: 40_000,
        columns: LATE,
        sql: over!(
            "task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE",
            "SELECT window_start, category, SUM(cpu) AS cpu \
             FROM HOP(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '60' SECOND) \
             GROUP BY window_start, window_end, category"
        ),
        lightsaber: None,
        has_table: false,
        ends: false,
    },
    Case {
        name: "SUMS",
        row: 64,
        rate: 40_000,
        columns: CLUSTER,
        sql: over!(
            "task (ts TIMESTAMP(3), job BIGINT, event_type INT, category INT, cpu DOUBLE",
            "SELECT window_start, category, SUM(cpu) AS cpu \
             FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' SECOND) \
             GROUP BY window_start, window_end, category"
        ),
        lightsaber: None,
        has_table: false,
        ends: false,
    },
];

/// All queries.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(MORE)
}
