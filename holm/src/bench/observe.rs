//! What the measured server used: processor time, memory, system calls, disk syncs.
//!
//! The first three come from `/proc`, so the server must run on this machine; syncs come from its metrics, under the
//! name that etcd and Holm share. Whatever cannot be read is `None` and stays out of the report.

use std::fs;

use crate::probe;

/// One look at a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessSample {
    /// Processor time used so far, user and system.
    pub(crate) cpu_seconds: f64,
    /// Memory resident now.
    pub(crate) resident_bytes: u64,
    /// The most memory that was ever resident.
    pub(crate) resident_bytes_peak: u64,
    /// Write system calls so far, sockets included; absent without the right to read it.
    pub(crate) write_calls: Option<u64>,
}

/// Looks at process `id`, or at this one (`None`).
pub(crate) fn process(id: Option<u32>) -> Option<ProcessSample> {
    let folder = id.map_or_else(|| "/proc/self".to_owned(), |id| format!("/proc/{id}"));
    let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let status = fs::read_to_string(format!("{folder}/status")).ok()?;
    let io = fs::read_to_string(format!("{folder}/io")).ok();
    Some(ProcessSample {
        cpu_seconds: cpu_ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64,
        resident_bytes: named(&status, "VmRSS:")? * 1024,
        resident_bytes_peak: named(&status, "VmHWM:")? * 1024,
        write_calls: io.and_then(|text| named(&text, "syscw:")),
    })
}

/// Looks at several, which are one server together; `None` if there are none or one cannot be looked at.
pub(crate) fn processes(ids: &[u32]) -> Option<ProcessSample> {
    let samples: Option<Vec<ProcessSample>> = ids.iter().map(|id| process(Some(*id))).collect();
    samples?.into_iter().reduce(|sum, more| ProcessSample {
        cpu_seconds: sum.cpu_seconds + more.cpu_seconds,
        resident_bytes: sum.resident_bytes + more.resident_bytes,
        resident_bytes_peak: sum.resident_bytes_peak + more.resident_bytes_peak,
        write_calls: sum
            .write_calls
            .zip(more.write_calls)
            .map(|(sum, more)| sum + more),
    })
}

/// User and system ticks in `/proc/ID/stat`. The process's name may hold blanks, so counting starts behind it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_name, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn named(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How often the server has synced its write-ahead log and its database.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SyncSample {
    /// Syncs of the log.
    pub(crate) log: f64,
    /// Commits of the database, each of which syncs.
    pub(crate) database: f64,
}

/// The sync counts of several, which are one server together.
pub(crate) fn syncs_of(addresses: &[String]) -> Option<SyncSample> {
    let samples: Option<Vec<SyncSample>> = addresses.iter().map(|it| syncs(it)).collect();
    samples?.into_iter().reduce(|sum, more| SyncSample {
        log: sum.log + more.log,
        database: sum.database + more.database,
    })
}

/// Reads the sync counts from `http://ADDRESS/metrics`.
pub(crate) fn syncs(address: &str) -> Option<SyncSample> {
    let text = probe::fetch(address, "/metrics")?;
    Some(SyncSample {
        log: probe::metric(&text, "etcd_disk_wal_fsync_duration_seconds_count")?,
        database: probe::metric(&text, "etcd_disk_backend_commit_duration_seconds_count")
            .unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_behind_a_name_with_blanks() {
        let stat = "7 (a ) b) S 1 1 1 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 5 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn this_process_can_be_looked_at_and_several_are_summed() {
        let sample = process(None).expect("proc is mounted");
        assert!(sample.resident_bytes > 0);
        let own = std::process::id();
        let twice = processes(&[own, own]).expect("proc is mounted");
        assert!(twice.resident_bytes_peak >= 2 * sample.resident_bytes);
        assert!(processes(&[]).is_none() && processes(&[own, u32::MAX]).is_none());
    }
}
