//! Which sources have said nothing for as long as their tables allow.
//!
//! Only a source that was asked can be silent: while a stream is paused, or has no room, nobody
//! asks, and nothing is counted.

use std::time::Duration;

use holm_base::Time;

/// For each source since when it has had nothing.
#[derive(Debug)]
pub(crate) struct Silence {
    after: Vec<Option<Duration>>,
    since: Vec<Option<Time>>,
}

impl Silence {
    /// Sources that are silent after so long, or never.
    pub(crate) fn new(after: Vec<Option<Duration>>) -> Self {
        let since = vec![None; after.len()];
        Self { after, since }
    }

    /// A source was asked and has nothing. Whether it has been so for long.
    pub(crate) fn nothing(&mut self, now: Time, source: usize) -> bool {
        let since = *self.since[source].get_or_insert(now);
        self.after[source].is_some_and(|after| now.since(since) >= after)
    }

    /// A source has rows.
    pub(crate) fn rows(&mut self, source: usize) {
        self.since[source] = None;
    }

    /// Nobody asks for now: what was silent so far is counted anew.
    pub(crate) fn forget(&mut self) {
        self.since.fill(None);
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
}
