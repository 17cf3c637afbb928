//! When the faults stop, things must go well again, and soon.

use std::fmt::Debug;
use std::time::Duration;

use holm_base::{NodeId, Time};

use crate::verdict::Violation;

const JUDGE: &str = "heals";

/// What was seen after the last fault had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healing<D> {
    /// When it ended.
    pub stopped: Time,
    /// How long recovery may take.
    pub within: Duration,
    /// When a request that was made after the end was first answered.
    pub progressed: Option<Time>,
    /// When all nodes had the same state.
    pub converged: Option<Time>,
    /// What each node holds in the end, as a digest or in full.
    pub states: Vec<(NodeId, D)>,
}

/// Demands progress, then convergence, both in time.
///
/// # Errors
///
/// Which of the two is missing or late.
pub fn heals<D: PartialEq + Debug>(healing: &Healing<D>) -> Result<(), Violation> {
    let in_time =
        |at: Option<Time>| at.is_some_and(|at| at.since(healing.stopped) <= healing.within);
    if !in_time(healing.progressed) {
        let place = format!(
            "stopped {:?}, answered {:?}",
            healing.stopped, healing.progressed
        );
        return Err(Violation::new(JUDGE, "requests are answered again", place));
    }
    let mut states = healing.states.iter();
    if let Some((first, expected)) = states.next()
        && let Some((other, found)) = states.find(|(_, state)| state != expected)
    {
        let place = format!("node {first} has {expected:?}, node {other} {found:?}");
        return Err(Violation::new(JUDGE, "all nodes come to one state", place));
    }
    if !in_time(healing.converged) {
        let place = format!(
            "stopped {:?}, equal {:?}",
            healing.stopped, healing.converged
        );
        return Err(Violation::new(JUDGE, "all nodes come to one state", place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healing() -> Healing<u8> {
        let at = |seconds| Some(Time::ZERO + Duration::from_secs(seconds));
        Healing {
            stopped: Time::ZERO,
            within: Duration::from_secs(5),
            progressed: at(1),
            converged: at(2),
            states: vec![(NodeId::new(1), 7), (NodeId::new(2), 7)],
        }
    }

    #[test]
    fn progress_and_one_state_pass() {
        assert_eq!(heals(&healing()), Ok(()));
    }

    #[test]
    fn no_progress_late_progress_and_two_states_are_violations() {
        let late = Some(Time::ZERO + Duration::from_secs(6));
        for progressed in [None, late] {
            let healing = Healing {
                progressed,
                ..healing()
            };
            let rule = heals(&healing).unwrap_err().rule;
            assert_eq!(rule, "requests are answered again");
        }
        let converged = None;
        let states = vec![(NodeId::new(1), 7), (NodeId::new(2), 8)];
        for healing in [
            Healing {
                converged,
                ..healing()
            },
            Healing {
                states,
                ..healing()
            },
        ] {
            let rule = heals(&healing).unwrap_err().rule;
            assert_eq!(rule, "all nodes come to one state");
        }
    }
}
