//! Which input is read next: that with the lowest watermark. One that is silent for as long as
//! its table says is asked now and then, and not waited for.

use std::thread;
use std::time::Duration;

use holm_connect::Read;
use holm_engine::Run;

use super::Ended;
use super::input::{Flow, Next};

/// How often those are asked that are not waited for.
const STEP: Duration = Duration::from_millis(20);

/// After how much silence an input is idle, by what its table says in microseconds. One that is
/// there as a whole never is: its reader is slow at most.
pub(super) fn idle_after(micros: Option<i64>, is_whole: bool) -> Option<Duration> {
    let micros = micros.filter(|_| !is_whole)?;
    u64::try_from(micros).ok().map(Duration::from_micros)
}

/// What an input did.
#[derive(Debug)]
pub(super) enum Turn {
    Rows(Read),
    End,
    /// It has been silent for long.
    Idle,
}

/// Inputs that have not ended.
#[derive(Debug)]
pub(super) struct Flows {
    flows: Vec<Option<Flow>>,
    /// After how much silence each is idle.
    after: Vec<Option<Duration>>,
    /// For how long each was waited for.
    waited: Vec<Duration>,
}

impl Flows {
    pub(super) fn new(flows: Vec<Flow>, after: Vec<Option<Duration>>) -> Self {
        Self {
            after,
            waited: vec![Duration::ZERO; flows.len()],
            flows: flows.into_iter().map(Some).collect(),
        }
    }

    /// The next that does anything, and what; `None` when all have ended.
    pub(super) fn next(&mut self, run: &Run) -> Result<Option<(usize, Turn)>, Ended> {
        loop {
            let open = 0..self.flows.len();
            let open: Vec<usize> = open.filter(|it| self.flows[*it].is_some()).collect();
            let (idle, speaking): (Vec<usize>, Vec<usize>) =
                open.into_iter().partition(|source| run.is_idle(*source));
            for source in idle.iter().copied() {
                if let Some(turn) = self.ask(source, Some(Duration::ZERO))? {
                    return Ok(Some((source, turn)));
                }
            }
            let Some(source) = speaking.into_iter().min_by_key(|it| run.mark(*it)) else {
                if idle.is_empty() {
                    return Ok(None);
                }
                thread::sleep(STEP);
                continue;
            };
            let left = self.after[source].map(|after| after.saturating_sub(self.waited[source]));
            let step = (!idle.is_empty()).then_some(STEP);
            let wait = left.into_iter().chain(step).min();
            if let Some(turn) = self.ask(source, wait)? {
                return Ok(Some((source, turn)));
            }
            self.waited[source] += wait.unwrap_or_default();
            if self.after[source].is_some_and(|after| self.waited[source] >= after) {
                self.waited[source] = Duration::ZERO;
                return Ok(Some((source, Turn::Idle)));
            }
        }
    }

    fn ask(&mut self, source: usize, wait: Option<Duration>) -> Result<Option<Turn>, Ended> {
        let flow = self.flows[source].as_mut().expect("it has not ended");
        let turn = match flow.next(wait)? {
            Next::Nothing => return Ok(None),
            Next::Rows(read) => Turn::Rows(read),
            Next::End => {
                self.flows[source] = None;
                Turn::End
            }
        };
        self.waited[source] = Duration::ZERO;
        Ok(Some(turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_as_a_whole_is_never_idle() {
        assert_eq!(idle_after(Some(500_000), true), None);
        let half = Duration::from_millis(500);
        assert_eq!(idle_after(Some(500_000), false), Some(half));
        assert_eq!(idle_after(None, false), None);
    }
}
