//! The process as the system sees it, under the names that Prometheus clients share.
//!
//! Read from `/proc` at each scrape; where there is none, the metrics are absent.

use std::fmt::Write as _;

/// One metric: name, type, help, value.
type Sample = (&'static str, &'static str, &'static str, f64);

/// Appends what is known of the process.
pub(crate) fn append(text: &mut String) {
    for (name, kind, help, value) in samples().unwrap_or_default() {
        // Writing to a string cannot fail; if it did, a line would be missing, no more.
        let written = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
        debug_assert!(written.is_ok(), "a string grows as needed");
    }
}

/// What `/proc` says; `None` where it says nothing.
fn samples() -> Option<Vec<Sample>> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields = fields_after_name(&stat)?;
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = ticks_per_second();
    let page = rustix::param::page_size();
    let page = f64::from(u32::try_from(page).unwrap_or(4_096));
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let open = f64::from(u32::try_from(open).unwrap_or(u32::MAX));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit
        .and_then(|files| u32::try_from(files).ok())
        .map_or(f64::INFINITY, f64::from);
    let cpu = (field(14)? + field(15)?) / ticks;
    let start = boot_time()? + field(22)? / ticks;
    Some(vec![
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time used, in seconds.",
            cpu,
        ),
        (
            "process_max_fds",
            "gauge",
            "Files that may be open at once.",
            limit,
        ),
        ("process_open_fds", "gauge", "Files that are open.", open),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            field(24)? * page,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process began, since 1970.",
            start,
        ),
        ("process_threads", "gauge", "Threads.", field(20)?),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory.",
            field(23)?,
        ),
        (
            "os_fd_limit",
            "gauge",
            "Files that may be open at once, as etcd calls it.",
            limit,
        ),
        (
            "os_fd_used",
            "gauge",
            "Files that are open, as etcd calls it.",
            open,
        ),
    ])
}

/// The fields of `/proc/self/stat` from the third on: the second, a name in parentheses, may
/// hold anything, parentheses too.
fn fields_after_name(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

/// When the system started, in seconds since 1970.
fn boot_time() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// In what unit the system counts processor time.
fn ticks_per_second() -> f64 {
    let ticks = rustix::param::clock_ticks_per_second();
    f64::from(u32::try_from(ticks).unwrap_or(100).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_name_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(
            fields_after_name("1 (a) b) (c) S 4 5").unwrap(),
            ["S", "4", "5"]
        );
    }

    #[test]
    fn this_process_uses_memory_and_started_after_1970() {
        let mut text = String::new();
        append(&mut text);
        for name in [
            "process_resident_memory_bytes",
            "process_start_time_seconds",
        ] {
            let start = text
                .find(&format!("\n{name} "))
                .unwrap_or_else(|| panic!("{name}"));
            let value = text[start + 1..]
                .lines()
                .next()
                .and_then(|line| line.split(' ').nth(1));
            assert!(value.unwrap().parse::<f64>().unwrap() > 1.0, "{name}");
        }
    }
}
