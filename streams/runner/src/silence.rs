//! Which sources have said nothing for as long as their tables allow.
//!
//! Only a source that was asked can be silent: while a stream is paused, nobody asks, and nothing
//! is counted. Where it has no room, or a sink is slow, sources are asked again later: between two
//! answers no more than a small span counts.

use std::time::Duration;

use holm_base::Time;

/// What counts of the time between two answers: a source that is asked answers far sooner.
const SPAN: Duration = Duration::from_secs(2);

/// For each source for how long it has had nothing, and when it was asked last.
#[derive(Debug)]
pub(crate) struct Silence {
    after: Vec<Option<Duration>>,
    silent: Vec<Option<(Duration, Time)>>,
}

impl Silence {
    /// Sources that are silent after so long, or never.
    pub(crate) fn new(after: Vec<Option<Duration>>) -> Self {
        let silent = vec![None; after.len()];
        Self { after, silent }
    }

    /// A source was asked and has nothing. Whether it has been so for long.
    pub(crate) fn nothing(&mut self, now: Time, source: usize) -> bool {
        let (silent, last) = self.silent[source].unwrap_or((Duration::ZERO, now));
        let silent = silent + now.since(last).min(SPAN);
        self.silent[source] = Some((silent, now));
        self.after[source].is_some_and(|after| silent >= after)
    }

    /// A source has rows.
    pub(crate) fn rows(&mut self, source: usize) {
        self.silent[source] = None;
    }

    /// Nobody asks for now: what was silent so far is counted anew.
    pub(crate) fn forget(&mut self) {
        self.silent.fill(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_all_the_time_is_silent() {
        let after = vec![Some(Duration::from_secs(2)), None];
        let mut silence = Silence::new(after);
        let mut said = |at: u64, source: usize| {
            let now = Time::from_nanos(at * 1_000_000_000);
            silence.nothing(now, source)
        };
        assert!(!said(5, 0), "since now");
        assert!(!said(6, 0));
        assert!(said(7, 0));
        assert!(said(8, 0), "and still");
        assert!(!said(100, 1) && !said(200, 1), "it may be silent for ever");
        silence.rows(0);
        let at = |seconds: u64| Time::from_nanos(seconds * 1_000_000_000);
        assert!(!silence.nothing(at(9), 0));
        assert!(silence.nothing(at(11), 0));
        silence.forget();
        assert!(!silence.nothing(at(60), 0), "nobody asked in between");
        assert!(silence.nothing(at(62), 0));
    }

    /// It waited for room in between, or a sink was slow.
    #[test]
    fn who_was_not_asked_for_long_is_not_taken_for_silent() {
        let mut silence = Silence::new(vec![Some(Duration::from_secs(5))]);
        let mut nothing_at = |seconds: u64| {
            let now = Time::from_nanos(seconds * 1_000_000_000);
            silence.nothing(now, 0)
        };
        assert!(!nothing_at(0));
        assert!(!nothing_at(60), "of the minute 2 s count");
        assert!(!nothing_at(120));
        assert!(!nothing_at(120));
        assert!(nothing_at(121), "5 s by now");
    }
}
