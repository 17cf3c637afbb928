//! What the threads of the sites and of the generator spent, by their CPU clocks.

use std::fs;
use std::time::Instant;

use anyhow::{Context, ensure};

use holm_rehearse::Parts;

use super::machine::busy_seconds;
use super::sites::Sites;

/// What the generator's thread is called.
pub(super) const LOAD: &str = "holm-load";

/// What was spent for each answer, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) leader: Parts,
    /// On average of the others.
    pub(super) follower: Parts,
    pub(super) followers: f64,
    pub(super) generator: f64,
}

impl Spent {
    /// By all sites together.
    pub(super) fn sites(&self) -> f64 {
        self.leader.all() + self.followers * self.follower.all()
    }
}

/// One look at all of them.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    at: Instant,
    sites: Vec<Parts>,
    generator: f64,
    own: f64,
    busy: f64,
}

/// What was used between two looks.
#[derive(Clone, Debug)]
pub(super) struct Used {
    seconds: f64,
    sites: Vec<Parts>,
    generator: f64,
    own: f64,
    busy: f64,
}

impl Snapshot {
    pub(super) fn take(sites: &Sites) -> anyhow::Result<Self> {
        let parts = sites
            .all()
            .iter()
            .map(|site| process(&site.id().to_string()));
        let own = process("self")?;
        Ok(Self {
            at: Instant::now(),
            sites: parts
                .map(|one| one.map(|(parts, _)| parts))
                .collect::<anyhow::Result<_>>()?,
            generator: own.1,
            own: own.0.all(),
            busy: busy_seconds()?,
        })
    }

    pub(super) fn since(&self, earlier: &Self) -> Used {
        let sites = self.sites.iter().zip(&earlier.sites);
        Used {
            seconds: (self.at - earlier.at).as_secs_f64(),
            sites: sites.map(|(now, then)| now.plus(*then, -1.0)).collect(),
            generator: self.generator - earlier.generator,
            own: self.own - earlier.own,
            busy: self.busy - earlier.busy,
        }
    }
}

impl Used {
    pub(super) fn spent(&self, leader: usize, answers: u64) -> anyhow::Result<Spent> {
        ensure!(leader < self.sites.len(), "one of the sites leads");
        let each = 1.0 / answers as f64;
        let followers = (self.sites.len() - 1) as f64;
        let others = self
            .sites
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != leader);
        let sum = others.fold(Parts::default(), |sum, (_, more)| sum.plus(*more, 1.0));
        Ok(Spent {
            leader: self.sites[leader].times(each),
            follower: sum.times(each / followers.max(1.0)),
            followers,
            generator: self.generator * each,
        })
    }

    /// How much of all cores others used, as a share. Ticks are coarse, so it may be a little below nothing.
    pub(super) fn foreign(&self) -> f64 {
        let ours = self.sites.iter().map(Parts::all).sum::<f64>() + self.own;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ((self.busy - ours / 1e9) / (self.seconds * cores as f64)).max(0.0)
    }
}

/// What a process has spent, and its generator's thread.
fn process(id: &str) -> anyhow::Result<(Parts, f64)> {
    let folder = format!("/proc/{id}/task");
    let (mut parts, mut generator) = (Parts::default(), 0.0);
    for task in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let task = task?.path();
        // A thread may end while it is looked at.
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let nanos = on_cpu(&text)
            .context("this kernel does not count the CPU of threads: /proc/PID/schedstat")?;
        match name.trim() {
            "holm-front" => parts.front += nanos,
            "holm-engine" => parts.engine += nanos,
            "holm-log" => parts.log += nanos,
            LOAD => {
                generator += nanos;
                parts.other += nanos;
            }
            _ => parts.other += nanos,
        }
    }
    Ok((parts, generator))
}

/// The CPU clock of the calling thread, in nanoseconds.
pub(super) fn own_clock() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .context("read the CPU clock of this thread")?;
    on_cpu(&text).context("this kernel does not count the CPU of threads: /proc/PID/schedstat")
}

fn on_cpu(schedstat: &str) -> Option<f64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to() {
        // The kernel counts a thread that runs on only when its clock ticks.
        let before = own_clock().expect("proc is mounted");
        let mut sum = 0_u64;
        let is_seen = (0..1_000).any(|_| {
            for step in 0..1_000_000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(step));
            }
            own_clock().expect("it was there") > before
        });
        assert!(is_seen, "{sum}");
        let (parts, _) = process("self").expect("proc is mounted");
        assert!(parts.all() > 0.0);
    }

    #[test]
    fn what_is_spent_is_told_apart_by_site() {
        let site = |nanos: f64| Parts {
            front: nanos,
            ..Parts::default()
        };
        let used = Used {
            seconds: 1.0,
            sites: vec![site(4e8), site(9e8), site(2e8)],
            generator: 1e8,
            own: 1e8,
            busy: 1.6,
        };
        let spent = used.spent(1, 1_000_000).expect("there are three");
        assert!((spent.leader.all() - 900.0).abs() < 1e-6);
        assert!((spent.follower.all() - 300.0).abs() < 1e-6);
        assert!((spent.sites() - 1_500.0).abs() < 1e-6);
        assert!(used.foreign().abs() < 1e-9, "all of it was ours");
        assert!(used.spent(3, 1).is_err());
    }
}
