//! Intervals over independent runs: Student's, and what a promise makes of one.

use crate::scenario::Bound;

/// A mean over runs, and how far the truth may lie from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half the interval's width.
    pub half: f64,
    /// Over how many runs; runs without the figure do not count.
    pub runs: usize,
}

impl Interval {
    /// The interval of these values; `None` of fewer than two.
    pub(crate) fn of(values: &[f64], confidence: f64) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        let count = float(values.len());
        let mean = values.iter().sum::<f64>() / count;
        let square = |value: &f64| (value - mean) * (value - mean);
        let variance = values.iter().map(square).sum::<f64>() / (count - 1.0);
        let quantile = student(f64::midpoint(1.0, confidence), count - 1.0);
        Some(Self {
            mean,
            half: quantile * libm::sqrt(variance / count),
            runs: values.len(),
        })
    }

    /// Half width over mean; 0 if nothing varies.
    #[must_use]
    pub fn relative(&self) -> f64 {
        if self.half == 0.0 {
            0.0
        } else {
            (self.half / self.mean).abs()
        }
    }
}

/// How many times as large a figure is as another of the same seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The geometric mean.
    pub mean: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// Over how many pairs.
    pub runs: usize,
}

impl Ratio {
    /// Of pairs, the first over the second; runs that lack one do not count, nor does what has
    /// no logarithm. `None` of fewer than two.
    pub(crate) fn of(pairs: &[(Option<f64>, Option<f64>)], confidence: f64) -> Option<Self> {
        let log = |pair: &(Option<f64>, Option<f64>)| match pair {
            (Some(one), Some(other)) if *one > 0.0 && *other > 0.0 => Some(libm::log(one / other)),
            (_, _) => None,
        };
        let logs: Vec<f64> = pairs.iter().filter_map(log).collect();
        let interval = Interval::of(&logs, confidence)?;
        Some(Self {
            mean: libm::exp(interval.mean),
            low: libm::exp(interval.mean - interval.half),
            high: libm::exp(interval.mean + interval.half),
            runs: interval.runs,
        })
    }

    /// Half the width of the interval over the mean.
    #[must_use]
    pub fn relative(&self) -> f64 {
        (self.high - self.low) / (2.0 * self.mean)
    }

    /// Whether the two are told apart.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// Three over the runs, in percent; of one or two runs, nothing follows.
pub(crate) fn unseen_percent(runs: u64) -> f64 {
    let runs = usize::try_from(runs.max(1)).unwrap_or(usize::MAX);
    (300.0 / float(runs)).min(100.0)
}

/// What can be said, at 95 %, of something that no run of so many showed: never that it never
/// happens.
pub(crate) fn unseen(runs: u64) -> String {
    let percent = unseen_percent(runs);
    let digits = if percent >= 10.0 { 0 } else { 2 };
    format!("in under {percent:.digits$} % of runs, at 95 % (none of {runs})")
}

/// What is known of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies inside the bound.
    Kept,
    /// The whole interval lies outside.
    Broken,
    /// The bound lies within it.
    Undecided,
}

impl Bound {
    pub(crate) fn judge(self, interval: &Interval) -> Verdict {
        let (low, high) = (interval.mean - interval.half, interval.mean + interval.half);
        let (good, bad) = match self {
            Self::AtMost(limit) => (low <= limit, high <= limit),
            Self::AtLeast(limit) => (high >= limit, low >= limit),
        };
        match (good, bad) {
            (_, true) => Verdict::Kept,
            (true, false) => Verdict::Undecided,
            (false, false) => Verdict::Broken,
        }
    }
}

pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The value below which Student's variable lies with this probability, above one half.
pub(crate) fn student(probability: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while below(high, freedom) < probability && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if below(middle, freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The probability that Student's variable lies below `value`, which is not negative.
fn below(value: f64, freedom: f64) -> f64 {
    let x = freedom / (freedom + value * value);
    1.0 - 0.5 * beta(x, freedom * 0.5, 0.5)
}

/// The regularised incomplete beta function, by its continued fraction.
fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges quickly on one side of the mean; the other is its mirror.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    let log = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
        + a * libm::log(x)
        + b * libm::log1p(-x);
    let (mut fraction, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 0..200_u32 {
        let m = f64::from(step / 2);
        let numerator = if step == 0 {
            1.0
        } else if step % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / not_zero(1.0 + numerator * d);
        c = not_zero(1.0 + numerator / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    libm::exp(log) * (fraction - 1.0) / a
}

fn not_zero(value: f64) -> f64 {
    if value.abs() < 1e-300 { 1e-300 } else { value }
}

/// How many runs there are when intervals are looked at: rarely, to limit the luck of looking.
pub(crate) fn looks(least: u64) -> impl Iterator<Item = u64> {
    // Half as many again each time; the third look comes early, for most need no more.
    let (mut count, mut next) = (0_u32, least);
    std::iter::from_fn(move || {
        let now = next;
        count += 1;
        next = match count {
            1 => least * 3 / 2,
            2 => least * 2,
            _ => (now * 3).div_ceil(2),
        };
        Some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holm_base::Prng;

    #[test]
    fn students_quantiles_are_those_of_the_tables() {
        let table = [
            (1.0, 12.7062),
            (4.0, 2.7764),
            (9.0, 2.2622),
            (30.0, 2.0423),
            (999.0, 1.9623),
        ];
        for (freedom, expected) in table {
            let found = student(0.975, freedom);
            assert!((found - expected).abs() < 1e-3, "{freedom}: {found}");
        }
    }

    #[test]
    fn of_one_or_two_runs_nothing_follows() {
        let found = [0, 1, 2, 3, 30].map(|runs| format!("{:.0}", unseen_percent(runs)));
        assert_eq!(found, ["100", "100", "100", "100", "10"]);
    }

    #[test]
    fn intervals_are_looked_at_when_the_design_says() {
        let looks: Vec<u64> = looks(10).take(6).collect();
        assert_eq!(looks, [10, 15, 20, 30, 45, 68]);
    }

    #[test]
    fn a_promise_is_kept_or_broken_only_by_a_whole_interval() {
        let interval = |mean| Interval {
            mean,
            half: 1.0,
            runs: 10,
        };
        let bound = Bound::AtMost(10.0);
        assert_eq!(bound.judge(&interval(8.0)), Verdict::Kept);
        assert_eq!(bound.judge(&interval(10.5)), Verdict::Undecided);
        assert_eq!(bound.judge(&interval(11.5)), Verdict::Broken);
        assert_eq!(Bound::AtLeast(10.0).judge(&interval(8.0)), Verdict::Broken);
    }

    /// The mean wait of 4,000 customers of a queue whose true mean wait is known: with arrivals
    /// at half the rate of service, a customer waits as long as one service takes.
    fn mean_wait(seed: u64) -> f64 {
        let mut prng = Prng::new(seed);
        let mut exponential = |mean: f64| {
            let share = (float(usize::try_from(prng.below(1 << 24)).unwrap()) + 0.5) / 16_777_216.0;
            -mean * libm::log(share)
        };
        let (mut wait, mut sum) = (0.0_f64, 0.0);
        for _ in 0..500 {
            wait = (wait + exponential(1.0) - exponential(2.0)).max(0.0);
        }
        for _ in 0..4_000 {
            wait = (wait + exponential(1.0) - exponential(2.0)).max(0.0);
            sum += wait;
        }
        sum / 4_000.0
    }

    #[test]
    fn a_ratio_of_pairs_is_narrow_where_both_vary_together() {
        let mut prng = Prng::new(3);
        let mut noise = || float(usize::try_from(prng.below(1_000)).unwrap()) / 1_000.0 + 0.5;
        let pairs: Vec<_> = (0..20)
            .map(|_| {
                let luck = noise();
                (Some(2.0 * luck * (0.99 + noise() / 50.0)), Some(luck))
            })
            .collect();
        let ratio = Ratio::of(&pairs, 0.95).unwrap();
        assert!((ratio.mean - 2.02).abs() < 0.02, "{ratio:?}");
        assert!(ratio.relative() < 0.01 && ratio.differs(), "{ratio:?}");
        let own: Vec<f64> = pairs.iter().filter_map(|pair| pair.0).collect();
        assert!(
            Interval::of(&own, 0.95).unwrap().relative() > 0.08,
            "alone they vary"
        );
        let lacking = [(None, Some(1.0)), (Some(1.0), None), (Some(0.0), Some(1.0))];
        assert_eq!(Ratio::of(&lacking, 0.95), None);
    }

    #[test]
    fn what_no_run_showed_is_never_said_not_to_happen() {
        assert_eq!(unseen(10), "in under 30 % of runs, at 95 % (none of 10)");
        assert_eq!(
            unseen(600),
            "in under 0.50 % of runs, at 95 % (none of 600)"
        );
    }

    #[test]
    fn about_95_of_100_intervals_cover_the_truth_of_a_queue() {
        let covers = |first: u64| {
            let waits: Vec<f64> = (0..10).map(|run| mean_wait(first * 100 + run)).collect();
            let interval = Interval::of(&waits, 0.95).unwrap();
            (interval.mean - 1.0).abs() <= interval.half
        };
        let covered = (0..200).filter(|&first| covers(first)).count();
        assert!((180..=199).contains(&covered), "{covered} of 200");
    }
}
