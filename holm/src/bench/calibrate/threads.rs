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

/// What the logs of all sites have done: a sync takes as long as it waits for the disk, and then for a core.
#[derive(Clone, Copy, Debug, Default)]
struct Logs {
    /// How often they synced.
    syncs: f64,
    /// How long those took, in nanoseconds.
    took: f64,
    /// How long their threads waited for a core.
    queued: f64,
}

impl Logs {
    fn plus(self, other: Self, times: f64) -> Self {
        Self {
            syncs: self.syncs + other.syncs * times,
            took: self.took + other.took * times,
            queued: self.queued + other.queued * times,
        }
    }
}

/// One look at all of them.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    at: Instant,
    sites: Vec<Parts>,
    logs: Logs,
    generator: f64,
    own: f64,
    busy: f64,
}

/// What was used between two looks.
#[derive(Clone, Debug)]
pub(super) struct Used {
    seconds: f64,
    sites: Vec<Parts>,
    logs: Logs,
    generator: f64,
    own: f64,
    busy: f64,
}

impl Snapshot {
    pub(super) fn take(sites: &Sites) -> anyhow::Result<Self> {
        let all = sites.all().iter();
        let tasks: anyhow::Result<Vec<Tasks>> =
            all.map(|site| process(&site.id().to_string())).collect();
        let (tasks, own) = (tasks?, process("self")?);
        let (at, busy) = (Instant::now(), busy_seconds()?);
        // A site that has much to do is not quick to answer: asked last.
        let mut logs = Logs::default();
        for (site, task) in sites.all().iter().zip(&tasks) {
            let (syncs, seconds) = site.syncs().context("a site says nothing of its syncs")?;
            let own = Logs {
                syncs,
                took: seconds * 1e9,
                queued: task.log_queued,
            };
            logs = logs.plus(own, 1.0);
        }
        Ok(Self {
            at,
            sites: tasks.iter().map(|one| one.parts).collect(),
            logs,
            generator: own.generator,
            own: own.parts.all(),
            busy,
        })
    }

    pub(super) fn since(&self, earlier: &Self) -> Used {
        let sites = self.sites.iter().zip(&earlier.sites);
        Used {
            seconds: (self.at - earlier.at).as_secs_f64(),
            logs: self.logs.plus(earlier.logs, -1.0),
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

    /// How long a sync waited for the disk, beyond what it used of a core and waited for one: of its thread's two waits
    /// for a core one is before it writes. Nothing if there were none.
    pub(super) fn sync_waits(&self) -> f64 {
        let Logs {
            syncs,
            took,
            queued,
        } = self.logs;
        let cpu: f64 = self.sites.iter().map(|site| site.log).sum();
        if syncs < 1.0 {
            return 0.0;
        }
        ((took - cpu - queued / 2.0) / syncs).max(0.0)
    }

    /// How much of all cores others used, as a share. Ticks are coarse, so it may be a little below nothing.
    pub(super) fn foreign(&self) -> f64 {
        let ours = self.sites.iter().map(Parts::all).sum::<f64>() + self.own;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ((self.busy - ours / 1e9) / (self.seconds * cores as f64)).max(0.0)
    }
}

/// What the threads of a process have spent.
#[derive(Clone, Copy, Debug, Default)]
struct Tasks {
    parts: Parts,
    /// Its generator's thread, which is among the others, too.
    generator: f64,
    /// How long its log's thread waited for a core.
    log_queued: f64,
}

fn process(id: &str) -> anyhow::Result<Tasks> {
    let folder = format!("/proc/{id}/task");
    let mut tasks = Tasks::default();
    let parts = &mut tasks.parts;
    for task in fs::read_dir(&folder).with_context(|| format!("read {folder}"))? {
        let task = task?.path();
        // A thread may end while it is looked at.
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        let Ok(text) = fs::read_to_string(task.join("schedstat")) else {
            continue;
        };
        let nanos = clock_of(&text, 0)
            .context("this kernel does not count the CPU of threads: /proc/PID/schedstat")?;
        match name.trim() {
            "holm-front" => parts.front += nanos,
            "holm-engine" => parts.engine += nanos,
            "holm-log" => {
                parts.log += nanos;
                tasks.log_queued += clock_of(&text, 1).unwrap_or(0.0);
            }
            LOAD => {
                tasks.generator += nanos;
                parts.other += nanos;
            }
            _ => parts.other += nanos,
        }
    }
    Ok(tasks)
}

/// The CPU clock of the calling thread, in nanoseconds.
pub(super) fn own_clock() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")
        .context("read the CPU clock of this thread")?;
    clock_of(&text, 0).context("this kernel does not count the CPU of threads: /proc/PID/schedstat")
}

/// Of a thread's clocks that on a core, or that in the queue for one.
fn clock_of(schedstat: &str, at: usize) -> Option<f64> {
    schedstat.split_whitespace().nth(at)?.parse().ok()
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
        let tasks = process("self").expect("proc is mounted");
        assert!(tasks.parts.all() > 0.0);
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
            logs: Logs {
                syncs: 1_000.0,
                took: 5e8,
                queued: 2e8,
            },
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
        assert!((used.sync_waits() - 400_000.0).abs() < 1e-6);
        let mut with_logs = used;
        with_logs.sites[1].log = 1e8;
        assert!((with_logs.sync_waits() - 300_000.0).abs() < 1e-6);
    }
}
