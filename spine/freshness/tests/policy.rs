//! The choice between sending and telling: against the best that could have been done, and
//! against the two plain strategies on traces.

use arbtest::arbtest;
use holm_base::Prng;
use holm_freshness::{Choice, Policy, Prices};

const PRICES: Prices = Prices {
    update: 300,
    invalidate: 40,
    miss: 400,
};

/// What the choices cost, on writes (`true`) and reads of one key.
fn cost(events: &[bool], prices: Prices) -> u64 {
    let mut policy = Policy::new();
    let mut cost = 0;
    for &is_write in events {
        if is_write {
            cost += match policy.write(prices) {
                Choice::Update => prices.update,
                Choice::Invalidate => prices.invalidate,
                Choice::Nothing => 0,
            };
        } else {
            if !policy.is_held() {
                cost += prices.miss;
            }
            policy.read(prices);
            assert!(policy.is_held());
        }
    }
    cost
}

/// What always sending, always telling, and the best in hindsight cost.
fn others(events: &[bool], prices: Prices) -> (u64, u64, u64) {
    let (mut sending, mut telling, mut best, mut writes) = (0, 0, 0, 0);
    for &is_write in events {
        if is_write {
            writes += 1;
            sending += prices.update;
            continue;
        }
        if writes > 0 {
            let absence = prices.invalidate + prices.miss;
            telling += absence;
            best += absence.min(writes * prices.update);
        }
        writes = 0;
    }
    if writes > 0 {
        // Nobody reads any more: telling once is the best.
        telling += prices.invalidate;
        best += prices.invalidate.min(writes * prices.update);
    }
    (sending, telling, best)
}

#[test]
fn it_costs_at_most_twice_the_best_and_a_fetch_or_two() {
    let mut worst = 0;
    arbtest(|choose| {
        let prices = Prices {
            update: choose.int_in_range(1..=2_000)?,
            invalidate: choose.int_in_range(1..=100)?,
            miss: choose.int_in_range(1..=3_000)?,
        };
        let mut events = Vec::new();
        for _ in 0..choose.int_in_range(0..=40)? {
            let (run, is_write) = (choose.int_in_range(1..=20)?, choose.arbitrary::<bool>()?);
            events.extend(std::iter::repeat_n(is_write, run));
        }
        let (_, _, best) = others(&events, prices);
        let most = 2 * best + 4 * (prices.invalidate + prices.miss) + 2 * prices.update;
        let found = cost(&events, prices);
        assert!(found <= most, "{found} of {most}: {prices:?} {events:?}");
        worst = worst.max(found * 100 / most.max(1));
        Ok(())
    })
    .budget_ms(2_000);
    assert!(worst > 50, "the bound is near: {worst} %");
}

/// Costs on many keys: ours, always sending, always telling.
#[derive(Debug, Default)]
struct Sum {
    ours: u64,
    sending: u64,
    telling: u64,
}

impl Sum {
    fn add(&mut self, events: &[bool]) {
        let (sending, telling, _) = others(events, PRICES);
        self.ours += cost(events, PRICES);
        self.sending += sending;
        self.telling += telling;
    }

    /// What it comes to, for whoever reads the output.
    fn check(&self, name: &str) -> String {
        let better = self.sending.min(self.telling);
        assert!(self.ours * 100 <= better * 105, "{name}: {self:?}");
        let hundredths = self.ours * 100 / better;
        let (whole, part) = (hundredths / 100, hundredths % 100);
        format!("{name}: {whole}.{part:02} of the better; {self:?}")
    }
}

/// Events of one key as frames and reports see them: a window has at most one write and one read,
/// each so often in 1,000.
fn windows(prng: &mut Prng, count: usize, (writes, reads): (u64, u64), events: &mut Vec<bool>) {
    for _ in 0..count {
        if prng.below(1_000) < writes {
            events.push(true);
        }
        if prng.below(1_000) < reads {
            events.push(false);
        }
    }
}

#[test]
fn zipf_keys_cost_at_most_a_twentieth_more_than_the_better_strategy() {
    // The longer the bound, the more writes and reads fall into one window.
    for (name, rate) in [("zipf 0.1 s", 20), ("zipf 1 s", 200), ("zipf 10 s", 900)] {
        for (mix, reads_of_10) in [("reads", 9), ("half", 5), ("writes", 1)] {
            let (mut sum, mut prng) = (Sum::default(), Prng::new(7));
            for rank in 1..=200_u64 {
                let all = 4 * rate / rank.isqrt() + 2;
                let reads = (all * reads_of_10 / 10).min(1_000);
                let mut events = Vec::new();
                windows(
                    &mut prng,
                    20_000,
                    ((all - reads.min(all)).clamp(1, 1_000), reads.max(1)),
                    &mut events,
                );
                sum.add(&events);
            }
            println!("{}", sum.check(&format!("{name} {mix}")));
        }
    }
}

#[test]
fn bursts_and_phases_cost_at_most_a_twentieth_more() {
    let (mut bursty, mut phases) = (Sum::default(), Sum::default());
    let mut prng = Prng::new(3);
    for _key in 0..200 {
        let mut events = Vec::new();
        for _ in 0..200 {
            // A burst of writes, a pause, some reads.
            let writes = 1 + usize::try_from(prng.below(12)).expect("small");
            events.extend(std::iter::repeat_n(true, writes));
            windows(&mut prng, 50, (10, 150), &mut events);
        }
        bursty.add(&events);
        let mut events = Vec::new();
        for phase in 0..6 {
            let rates = if phase % 2 == 0 { (50, 500) } else { (500, 50) };
            windows(&mut prng, 4_000, rates, &mut events);
        }
        phases.add(&events);
    }
    println!("{}", bursty.check("bursty"));
    println!("{}", phases.check("phase change"));
}
