//! Which machine this is, and whether it does anything else.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use holm_rehearse::Machine;
use sha2::{Digest, Sha256};

/// How long the machine is watched before anything is measured.
const LOOK: Duration = Duration::from_secs(1);

/// This machine and this release.
pub(crate) fn this_machine() -> anyhow::Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
    let processors = read("/proc/cpuinfo")?;
    let named = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let is_name = ["model name", "Hardware", "CPU implementer"].contains(&key.trim());
        is_name.then(|| value.trim().to_owned())
    };
    Ok(Machine {
        processor: processors
            .lines()
            .find_map(named)
            .unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism()
            .context("count the cores")?
            .get(),
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// SHA-256 of this program.
pub(super) fn build() -> anyhow::Result<String> {
    let program = std::env::current_exe().context("find this program")?;
    let bytes = fs::read(&program).context("read this program")?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The day, as `2026-11-27`.
pub(super) fn today() -> anyhow::Result<String> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let days = since.context("the clock stands before 1970")?.as_secs() / 86_400;
    Ok(date(days))
}

/// The day so many days after the first of 1970.
fn date(days: u64) -> String {
    // Years begin in March here, so that the odd day is the last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + later)
}

/// All cores' work so far, in seconds.
pub(super) fn busy_seconds() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|it| it.parse().ok())
        .collect();
    ensure!(
        fields.len() >= 8,
        "/proc/stat does not say what the cores did"
    );
    // User, nice, system, interrupts, soft ones, and what the host took; not idle, not waiting.
    let ticks: u64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .map(|&at: &usize| fields[at])
        .sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// How much of the machine is used while we do nothing, as a share.
pub(super) fn foreign_at_rest() -> anyhow::Result<f64> {
    let before = busy_seconds()?;
    std::thread::sleep(LOOK);
    let used = busy_seconds()? - before;
    let cores = std::thread::available_parallelism()
        .context("count the cores")?
        .get();
    Ok(used / (LOOK.as_secs_f64() * cores as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_the_calendar_counts_them() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_784), "2026-11-27");
    }

    #[test]
    fn this_machine_has_a_name_and_cores() {
        let here = this_machine().expect("proc is mounted");
        assert!(here.cores > 0 && !here.kernel.is_empty() && !here.processor.is_empty());
    }
}
