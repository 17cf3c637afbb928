//! The watermark of a source: the largest time seen less the bound on disorder, exclusive.

use holm_lanes::Marks;

/// A watermark that only rises (I2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    bound: i64,
    now: i64,
}

impl Watermark {
    /// The watermark of a stream whose rows are at most so many microseconds out of order.
    #[must_use]
    pub const fn new(bound: i64) -> Self {
        Self {
            bound,
            now: Marks::START,
        }
    }

    /// As it stands.
    #[must_use]
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// Passes over the times of a batch, and says how it stood before each row if one is not above.
    pub fn pass(&mut self, times: &[i64]) -> Marks {
        const BLOCK: usize = 512;
        let before = self.now;
        let mut now = before;
        let mut is_any_below = false;
        for block in times.chunks(BLOCK) {
            let (first, last) = (block[0], block[block.len() - 1]);
            if first > now && self.rises(block) {
                now = now.max(last.saturating_sub(self.bound));
                continue;
            }
            for time in block {
                // A row at the watermark counts: a session that ends there has closed before it.
                is_any_below |= *time <= now;
                now = now.max(time.saturating_sub(self.bound));
            }
            if is_any_below {
                break;
            }
        }
        let rows = is_any_below.then(|| {
            now = before;
            let stood = times.iter().map(|time| {
                let stood = now;
                now = now.max(time.saturating_sub(self.bound));
                stood
            });
            stood.collect()
        });
        self.now = now;
        Marks {
            after: self.now,
            rows,
        }
    }

    /// Whether times rise, so that none is at or below the watermark that those before it made.
    fn rises(&self, times: &[i64]) -> bool {
        // Differences of such times do not wrap.
        const FAR: i64 = 1 << 61;
        let least = i64::from(self.bound == 0);
        let far = |time: &i64| time.wrapping_add(FAR) & !(2 * FAR - 1);
        let is_far = times.iter().fold(0, |any, time| any | far(time)) != 0;
        let steps = times.iter().zip(&times[1..]);
        let falls = steps.fold(0, |any, (from, to)| {
            any | to.wrapping_sub(*from).wrapping_sub(least)
        });
        !is_far && falls >= 0
    }
}

impl Watermark {
    /// Takes over where it stood.
    pub const fn resume(&mut self, now: i64) {
        self.now = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_the_largest_time_and_never_falls() {
        let mut mark = Watermark::new(5);
        assert_eq!(mark.pass(&[10, 7, 8]).rows, None);
        assert_eq!(mark.now(), 5);
        let marks = mark.pass(&[20, 3, 16]);
        assert_eq!(marks.rows, Some(vec![5, 15, 15]));
        assert_eq!(marks.after, 15);
    }

    #[test]
    fn batches_do_not_show() {
        let times = [10, 2, 30, 24, 25, 26, 9, 100];
        let mut whole = Watermark::new(5);
        let rows = whole.pass(&times).rows.unwrap();
        let mut single = Watermark::new(5);
        for (time, stood) in times.iter().zip(rows) {
            let before = single.now();
            assert_eq!(before, stood);
            single.pass(&[*time]);
        }
        assert_eq!(single.now(), whole.now());
    }
}
