//! What the choices cost on traces: against always sending, always telling, and hindsight.
//!
//! `cargo test -p holm-freshness --test traces -- --nocapture` prints the table. A trace is writes
//! and reads at random times; frames and reports come four times a bound, so that a key's writes
//! within a quarter are one, and its reads are. The longer the bound, the less is left to choose.

use holm_base::Prng;
use holm_freshness::{Choice, Policy, Prices};

/// A value of about 300 bytes.
const PRICES: Prices = Prices {
    update: 316,
    invalidate: 8,
    miss: 380,
};
const KEYS: u32 = 300;

/// A key's writes (`true`) and reads, by time.
type Events = Vec<(f64, bool)>;

/// Makes a key's events.
type Trace = fn(&mut Prng, u32) -> Events;

/// Times at random, so many a second, within a span.
fn times(prng: &mut Prng, rate: f64, span: (f64, f64), is_write: bool, events: &mut Events) {
    let mut at = span.0;
    loop {
        let even = f64::from(u32::try_from(prng.below(1 << 30)).expect("it is below"));
        at -= (1.0 - even / f64::from(1_u32 << 30)).ln() / rate;
        if at >= span.1 {
            return;
        }
        events.push((at, is_write));
    }
}

/// Few keys are read often, few are written often, and they are not the same.
fn zipf(prng: &mut Prng, key: u32) -> Events {
    let mut events = Events::new();
    let share = |rank: u32| 1.0 / f64::from(rank + 1);
    let written = (key * 7 + 3) % KEYS;
    times(prng, 40.0 * share(key), (0.0, 2_000.0), false, &mut events);
    times(
        prng,
        20.0 * share(written),
        (0.0, 2_000.0),
        true,
        &mut events,
    );
    events
}

/// Quiet, then many writes within seconds, then many reads.
fn bursty(prng: &mut Prng, _key: u32) -> Events {
    let (mut events, mut at) = (Events::new(), 0.0);
    let seconds =
        |prng: &mut Prng, most| f64::from(u32::try_from(1 + prng.below(most)).expect("small"));
    while at < 2_000.0 {
        let (writing, quiet) = (seconds(prng, 6), seconds(prng, 60));
        times(prng, 10.0, (at, at + writing), true, &mut events);
        times(
            prng,
            0.3,
            (at + writing, at + writing + quiet),
            false,
            &mut events,
        );
        at += writing + quiet;
    }
    events
}

/// What is read becomes what is written, and back.
fn phases(prng: &mut Prng, _key: u32) -> Events {
    let mut events = Events::new();
    for phase in 0..6_u32 {
        let span = (f64::from(phase) * 1_000.0, f64::from(phase + 1) * 1_000.0);
        let (reads, writes) = if phase % 2 == 0 {
            (4.0, 0.2)
        } else {
            (0.1, 3.0)
        };
        times(prng, reads, span, false, &mut events);
        times(prng, writes, span, true, &mut events);
    }
    events
}

/// Costs in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Costs {
    ours: u64,
    sending: u64,
    telling: u64,
    best: u64,
}

impl Costs {
    fn add(&mut self, other: Self) {
        self.ours += other.ours;
        self.sending += other.sending;
        self.telling += other.telling;
        self.best += other.best;
    }
}

/// What a key's events cost if frames and reports come every `quarter` seconds.
fn costs(mut events: Events, quarter: f64) -> Costs {
    events.sort_by(|left, right| left.0.total_cmp(&right.0));
    let mut windows: Vec<(f64, [bool; 2])> = Vec::new();
    for (at, is_write) in events {
        let window = (at / quarter).floor();
        let is_new = windows.last().is_none_or(|(last, _)| *last < window);
        if is_new {
            windows.push((window, [false; 2]));
        }
        let (_, has) = windows.last_mut().expect("it was pushed");
        has[usize::from(!is_write)] = true;
    }
    let (mut costs, mut policy, mut gap) = (Costs::default(), Policy::new(), 0);
    let absence = PRICES.invalidate + PRICES.miss;
    for (_, [is_written, is_read]) in windows {
        if is_written {
            costs.ours += match policy.write(PRICES) {
                Choice::Update => PRICES.update,
                Choice::Invalidate => PRICES.invalidate,
                Choice::Nothing => 0,
            };
            costs.sending += PRICES.update;
            gap += PRICES.update;
        }
        if is_read {
            costs.ours += if policy.is_held() { 0 } else { PRICES.miss };
            policy.read(PRICES);
            if gap > 0 {
                costs.telling += absence;
                costs.best += absence.min(gap);
            }
            gap = 0;
        }
    }
    if gap > 0 {
        costs.telling += PRICES.invalidate;
        costs.best += PRICES.invalidate.min(gap);
    }
    costs
}

/// So many thousandths of the other.
fn share(of: u64, other: u64) -> String {
    let thousandths = of * 1_000 / other.max(1);
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

#[test]
fn on_each_trace_it_costs_a_twentieth_more_than_the_better_at_most_and_twice_hindsight() {
    let traces: [(&str, Trace); 3] = [("zipf", zipf), ("bursty", bursty), ("phase change", phases)];
    println!(
        "trace         bound   always send  always tell     ours  of the better  of hindsight"
    );
    for (name, trace) in traces {
        for bound in [0.1, 1.0, 10.0] {
            let (mut sum, mut prng) = (Costs::default(), Prng::new(11));
            for key in 0..KEYS {
                let one = costs(trace(&mut prng, key), bound / 4.0);
                // What is begun and cannot be known to be over yet.
                let slack = 4 * (PRICES.invalidate + PRICES.miss) + 2 * PRICES.update;
                assert!(
                    one.ours <= 2 * one.best + slack,
                    "{name} {bound} s {key}: {one:?}"
                );
                sum.add(one);
            }
            let better = sum.sending.min(sum.telling);
            println!(
                "{name:<13} {bound:>4} s {:>9} KB {:>9} KB {:>5} KB {:>14} {:>13}",
                sum.sending / 1_000,
                sum.telling / 1_000,
                sum.ours / 1_000,
                share(sum.ours, better),
                share(sum.ours, sum.best),
            );
            assert!(sum.ours * 100 <= better * 105, "{name} {bound} s: {sum:?}");
            assert!(sum.ours <= 2 * sum.best, "{name} {bound} s: {sum:?}");
        }
    }
}
