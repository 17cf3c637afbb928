//! The open loop's timetable: when each request is due, whether or not anybody is free to send it.
//!
//! A generator that waits for answers before it sends again leaves out the very requests that a stall would have
//! delayed. Here the times stand fixed beforehand, a late request keeps the time at which it was due, and those still
//! waiting when the measured time ends are sent and counted all the same.

/// Requests due at a fixed rate until an end.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    interval: f64,
    due: f64,
    until: f64,
}

impl Timetable {
    /// One request each `interval` nanoseconds from `from` on, the last before `until`.
    pub(crate) fn new(interval: f64, from: u64, until: u64) -> Self {
        Self {
            interval,
            due: from as f64,
            until: until as f64,
        }
    }

    /// The time of the earliest request that is due by `now` and not yet taken.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        (self.due <= now as f64 && !self.is_over()).then(|| crate::quantity::rounded(self.due))
    }

    /// Goes on to the next request.
    pub(crate) fn take(&mut self) {
        self.due += self.interval;
    }

    /// No request is due from `until` on.
    pub(crate) fn end(&mut self, until: u64) {
        self.until = self.until.min(until as f64);
    }

    /// Whether every request of the timetable has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.due >= self.until
    }

    /// Nanoseconds until the next request is due.
    pub(crate) fn wait(&self, now: u64) -> f64 {
        (self.due - now as f64).max(0.0)
    }

    /// Requests that nobody has taken.
    pub(crate) fn left(&self) -> u64 {
        crate::quantity::rounded(((self.until - self.due) / self.interval).ceil().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;

    const MS: u64 = 1_000_000;

    /// When an answer to a request sent at `time` comes from a server that takes `service` for each, all at once, and
    /// answers nobody within `stall`.
    fn answer(time: u64, service: u64, stall: (u64, u64)) -> u64 {
        let done = time + service;
        if (stall.0..stall.1).contains(&done) || (stall.0..stall.1).contains(&time) {
            stall.1 + service
        } else {
            done
        }
    }

    /// Runs `clients` against that server for five seconds in steps of 0.1 ms; `rate` 0 is the closed loop.
    fn drive(clients: usize, rate: f64, stall: (u64, u64)) -> Tally {
        let until = 5_000 * MS;
        let mut tally = Tally::new();
        let mut free_at = vec![0_u64; clients];
        let mut timetable = Timetable::new(1e9 / rate, 0, until);
        let mut now = 0;
        while now < until || !timetable.is_over() {
            for free in free_at.iter_mut().filter(|free| **free <= now) {
                let Some(started) = timetable.due(now) else {
                    break;
                };
                timetable.take();
                *free = answer(now, MS, stall);
                tally.record(*free - started);
            }
            now += MS / 10;
        }
        tally
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
        // 500 ms of 5 s: a tenth of the requests wait, on average half of the stall.
        let tally = drive(64, 1000.0, (2_000 * MS, 2_500 * MS));
        assert_eq!(tally.latency.len(), 5_000);
        let p50 = tally.latency.value_at_quantile(0.5);
        assert!(p50 < 2 * MS, "most were answered at once: {p50}");
        let p95 = tally.latency.value_at_quantile(0.95);
        assert!((230 * MS..280 * MS).contains(&p95), "p95 {p95}");
        let p99 = tally.latency.value_at_quantile(0.99);
        assert!((430 * MS..480 * MS).contains(&p99), "p99 {p99}");
    }

    #[test]
    fn a_stall_at_the_end_is_charged_as_well() {
        // The server answers nothing in the last half second: all that was due is sent and counted.
        let tally = drive(16, 1000.0, (4_500 * MS, 5_200 * MS));
        assert_eq!(tally.latency.len(), 5_000);
        let late = tally.latency.len() - tally.latency.count_between(0, 150 * MS);
        assert!((480..=520).contains(&late), "{late} waited");
    }

    #[test]
    fn an_earlier_end_takes_what_was_due_later_off() {
        let mut timetable = Timetable::new(1e6, 0, 10 * MS);
        for _ in 0..4 {
            assert!(timetable.due(20 * MS).is_some());
            timetable.take();
        }
        timetable.end(6 * MS);
        assert_eq!(timetable.left(), 2);
        timetable.end(9 * MS);
        assert_eq!(timetable.left(), 2, "a later end changes nothing");
        timetable.end(MS);
        assert!(timetable.is_over() && timetable.left() == 0);
    }

    #[test]
    fn what_nobody_took_is_told() {
        let mut timetable = Timetable::new(1e6, 0, 10 * MS);
        for _ in 0..4 {
            assert!(timetable.due(20 * MS).is_some());
            timetable.take();
        }
        assert_eq!(timetable.left(), 6);
        assert_eq!(timetable.due(3 * MS), None);
        assert!((timetable.wait(3 * MS) - 1e6).abs() < 1.0);
    }
}
