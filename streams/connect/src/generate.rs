//! Events of our own for every example: the same ones for the same seed, on every machine.
//!
//! Row i of a recipe is a pure function of the seed and i, so that any part can be made apart.
//! Rows are so many to a second of event time from 2026-01-05T10:00:00 on; with disorder each lies
//! up to so much before its place. The distributions are made up, and said here:
//!
//! | recipe | columns | how |
//! |--|--|--|
//! | cluster | ts, job, event_type, category, cpu, device, n | 1,000 jobs, few of them busy; types 0 to 8; 4 categories as 8:4:2:1; cpu 0 to 1 with 3 digits; 50 devices that count their events |
//! | grid | ts, watts, plug, household, house | 40 houses of 4 households of 3 plugs; each plug has its level and noise of 10 % |
//! | road | ts, vehicle, speed, highway, direction, pos | 500 vehicles on 3 highways of 528,000 feet, slow ones among them |
//! | ads | ts, ad, `event_type` | 1,000 ads; view, click, purchase as 6:3:1 |
//! | campaigns | ad, campaign | the table for ads: 10 ads to a campaign |
//! | auction | ts, auction, bidder, price | 100 auctions, few of them hot; 50 bidders who come and go |
//! | manufacturing | ts, mf1, mf2, mf3 | three slow waves with noise |

use std::sync::Arc;

use holm_base::Prng;
use holm_lanes::{Batch, Field, Kind, Lane, LaneBuilder, Marks, Origin};

/// 2026-01-05T10:00:00, in microseconds.
const START: i64 = 1_767_607_200_000_000;

/// How many numbers a row may draw.
const DRAWS: u64 = 16;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Tasks of a computing cluster.
    Cluster,
    /// Loads of plugs in houses.
    Grid,
    /// Cars on highways.
    Road,
    /// Views and clicks of advertisements.
    Ads,
    /// Which advertisement belongs to which campaign.
    Campaigns,
    /// Bids in auctions.
    Auction,
    /// Sensors of a machine.
    Manufacturing,
}

impl Recipe {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("cluster", Self::Cluster),
        ("grid", Self::Grid),
        ("road", Self::Road),
        ("ads", Self::Ads),
        ("campaigns", Self::Campaigns),
        ("auction", Self::Auction),
        ("manufacturing", Self::Manufacturing),
    ];

    /// The columns of its rows.
    #[must_use]
    pub fn fields(self) -> Vec<Field> {
        let ts = ("ts", Kind::Timestamp { digits: 3 });
        let (big, int, double, text) = (Kind::BigInt, Kind::Int, Kind::Double, Kind::String);
        let columns: Vec<(&str, Kind)> = match self {
            Self::Cluster => vec![
                ts,
                ("job", big),
                ("event_type", int),
                ("category", int),
                ("cpu", double),
                ("device", text),
                ("n", big),
            ],
            Self::Grid => vec![
                ts,
                ("watts", double),
                ("plug", int),
                ("household", int),
                ("house", int),
            ],
            Self::Road => vec![
                ts,
                ("vehicle", int),
                ("speed", double),
                ("highway", int),
                ("direction", int),
                ("pos", int),
            ],
            Self::Ads => vec![ts, ("ad", big), ("event_type", text)],
            Self::Campaigns => vec![("ad", big), ("campaign", big)],
            Self::Auction => vec![ts, ("auction", big), ("bidder", big), ("price", big)],
            Self::Manufacturing => vec![ts, ("mf1", double), ("mf2", double), ("mf3", double)],
        };
        columns
            .into_iter()
            .map(|(name, kind)| Field {
                name: name.to_owned(),
                kind,
                nullable: false,
            })
            .collect()
    }
}

/// Makes rows of a recipe.
#[derive(Clone, Debug)]
pub struct Generator {
    recipe: Recipe,
    seed: u64,
    rate_milli: i64,
    disorder: i64,
    next: u64,
    rows: u64,
}

impl Generator {
    /// So many rows, `rate_milli` to a thousand seconds of event time, up to `disorder` microseconds
    /// out of place.
    ///
    /// # Panics
    ///
    /// If the rate is not positive or the disorder is negative.
    #[must_use]
    pub fn new(recipe: Recipe, seed: u64, rows: u64, (rate_milli, disorder): (i64, i64)) -> Self {
        assert!(rate_milli > 0 && disorder >= 0, "rows come forward in time");
        Self {
            recipe,
            seed,
            rate_milli,
            disorder,
            next: 0,
            rows,
        }
    }

    /// The next rows, at most so many; `None` when there are no more.
    ///
    /// # Panics
    ///
    /// Never: a row has as many values as its recipe has columns.
    pub fn batch(&mut self, rows: u64) -> Option<Batch> {
        let first = self.next;
        let end = first.saturating_add(rows).min(self.rows);
        if first >= end {
            return None;
        }
        let fields = self.recipe.fields();
        let mut lanes: Vec<LaneBuilder> = fields
            .iter()
            .map(|field| LaneBuilder::new(field.kind.shape()))
            .collect();
        for row in first..end {
            self.row(row, &mut lanes);
        }
        self.next = end;
        let lanes: Vec<Arc<Lane>> = lanes
            .into_iter()
            .map(|lane| Arc::new(lane.finish()))
            .collect();
        Some(Batch {
            rows: lanes.first().map_or(0, |lane| lane.len()),
            lanes,
            origin: Origin::Run(first + 1),
            marks: Marks {
                after: Marks::START,
                rows: None,
            },
        })
    }

    fn row(&self, row: u64, lanes: &mut [LaneBuilder]) {
        let mut draw = Prng::at(self.seed, row.wrapping_mul(DRAWS));
        let place = i64::try_from(row).unwrap_or(i64::MAX);
        let back = if self.disorder > 0 {
            below(&mut draw, self.disorder + 1)
        } else {
            0
        };
        let whole = i128::from(place) * 1_000_000_000 / i128::from(self.rate_milli);
        let micros = START + i64::try_from(whole).unwrap_or(0) - back;
        let time = micros.div_euclid(1_000) * 1_000;
        match self.recipe {
            Recipe::Cluster => cluster(row, time, &mut draw, lanes),
            Recipe::Grid => grid(time, &mut draw, lanes),
            Recipe::Road => road((row, self.rate_milli), time, &mut draw, lanes),
            Recipe::Ads => ads(time, &mut draw, lanes),
            Recipe::Campaigns => {
                lanes[0].push_int(place);
                lanes[1].push_int(place / 10);
            }
            Recipe::Auction => auction(time, &mut draw, lanes),
            Recipe::Manufacturing => manufacturing(time, &mut draw, lanes),
        }
    }
}

fn below(draw: &mut Prng, bound: i64) -> i64 {
    let bound = u64::try_from(bound.max(1)).expect("it is positive");
    i64::try_from(draw.below(bound)).expect("it is below a positive number")
}

/// Small numbers more often than large ones: the smaller of three.
fn skewed(draw: &mut Prng, bound: i64) -> i64 {
    let (a, b, c) = (below(draw, bound), below(draw, bound), below(draw, bound));
    a.min(b).min(c)
}

/// A number of thousandths as a float.
fn thousandths(count: i64) -> f64 {
    count as f64 / 1_000.0
}

fn cluster(row: u64, time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    const DEVICES: u64 = 50;
    lanes[0].push_int(time);
    lanes[1].push_int(skewed(draw, 1_000));
    lanes[2].push_int(below(draw, 9));
    lanes[3].push_int(match below(draw, 15) {
        0..8 => 0,
        8..12 => 1,
        12..14 => 2,
        _ => 3,
    });
    lanes[4].push_real(thousandths(below(draw, 1_000)));
    lanes[5].push_text(&format!("device-{}", row % DEVICES));
    lanes[6].push_int(i64::try_from(row / DEVICES).unwrap_or(0));
}

fn grid(time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    let (house, household, plug) = (below(draw, 40), below(draw, 4), below(draw, 3));
    let level = 20 + (house * 131 + household * 37 + plug * 17) % 180;
    let noise = below(draw, level * 200 + 1) - level * 100;
    lanes[0].push_int(time);
    lanes[1].push_real(thousandths(level * 1_000 + noise));
    lanes[2].push_int(plug);
    lanes[3].push_int(household);
    lanes[4].push_int(house);
}

fn road((row, rate_milli): (u64, i64), time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    const LENGTH: i64 = 528_000;
    let vehicle = below(draw, 500);
    let (highway, direction) = (vehicle % 3, vehicle / 3 % 2);
    let is_slow = vehicle % 7 == 0;
    let speed = if is_slow { 20 } else { 55 } * 1_000 + below(draw, 15_000);
    // Feet since the start at the vehicle's usual speed, from its own place on.
    let seconds = i128::from(row) * 1_000 / i128::from(rate_milli);
    let seconds = i64::try_from(seconds).unwrap_or(0);
    let feet = vehicle * 1_056 + seconds * if is_slow { 37 } else { 88 };
    lanes[0].push_int(time);
    lanes[1].push_int(vehicle);
    lanes[2].push_real(thousandths(speed));
    lanes[3].push_int(highway);
    lanes[4].push_int(direction);
    lanes[5].push_int(feet.rem_euclid(LENGTH));
}

fn ads(time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    lanes[0].push_int(time);
    lanes[1].push_int(below(draw, 1_000));
    lanes[2].push_text(match below(draw, 10) {
        0..6 => "view",
        6..9 => "click",
        _ => "purchase",
    });
}

fn auction(time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    lanes[0].push_int(time);
    lanes[1].push_int(skewed(draw, 100));
    // Who bids changes every half minute: sessions end.
    let shift = time.div_euclid(30_000_000) * 7;
    lanes[2].push_int((below(draw, 12) + shift).rem_euclid(50));
    lanes[3].push_int(100 + below(draw, 10_000));
}

fn manufacturing(time: i64, draw: &mut Prng, lanes: &mut [LaneBuilder]) {
    lanes[0].push_int(time);
    for (at, period) in [(1, 20_000_i64), (2, 45_000), (3, 90_000)] {
        let phase = time.div_euclid(1_000).rem_euclid(period);
        // A triangle between 0 and 10,000.
        let wave = (phase * 20_000 / period - 10_000).abs();
        lanes[at].push_real(thousandths(wave + below(draw, 501)));
    }
}
