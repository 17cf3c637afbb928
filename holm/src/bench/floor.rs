//! `holm bench floor`: what the disk takes for one durable write, which no server on it can beat.
//!
//! The file is written in full and synced before the clock starts: a sync then moves one write and no metadata, which
//! is how the log's segments are kept. Each round writes one block behind the last and syncs it.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::report::Latency;
use super::tally::{Clock, Tally, in_nanos};
use super::timetable::Timetable;
use crate::progress::Progress;
use crate::quantity::{self, parse_bytes, parse_duration, parse_rate};

/// Flags of `holm bench floor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloorOptions {
    /// A folder on the disk to measure
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    data_dir: PathBuf,

    /// How long to measure each size
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    duration: Duration,

    /// Bytes of each write [default: 4 KiB, then 64 KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    bytes: Option<u64>,

    /// Write so often per second instead of as fast as the disk takes it
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    rate: Option<f64>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  holm bench floor --data-dir /var/lib/holm    one durable write on that disk
  holm bench floor --bytes 4KiB --rate 500 --duration 20s    how slow the slowest of 10,000 is
  holm bench kv echo                           one request that does nothing, through the same front

A put through one client cannot be faster than the sum of both.";

/// What was found for one size of write.
#[derive(Clone, Debug, Serialize)]
struct Row {
    bytes: usize,
    syncs_per_second: f64,
    latency_ns: Latency,
}

/// All sizes.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Floor {
    data_dir: PathBuf,
    writes: Vec<Row>,
}

/// Room that the rounds write through, over and over.
const FILE_BYTES: usize = 64 << 20;
/// One block, and a batch of some two hundred small puts.
const WRITE_BYTES: [usize; 2] = [4 << 10, 64 << 10];

/// Measures.
pub(super) fn run(options: &FloorOptions) -> anyhow::Result<Floor> {
    let name = format!("holm-floor-{}", std::process::id());
    let path = options.data_dir.join(name);
    let measured = measure(options, &path);
    // A file that never came into being cannot be removed; the measurement says why.
    drop(std::fs::remove_file(&path));
    let data_dir = options.data_dir.clone();
    Ok(Floor {
        data_dir,
        writes: measured?,
    })
}

fn measure(options: &FloorOptions, path: &Path) -> anyhow::Result<Vec<Row>> {
    let failed = || format!("write {}", path.display());
    let file = File::create_new(path).with_context(failed)?;
    let mut progress = Progress::new();
    progress.show("writing the file in full");
    let block = vec![0x5a; 1 << 20];
    for at in (0..FILE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, u64::try_from(at)?)
            .with_context(failed)?;
    }
    file.sync_all().with_context(failed)?;
    let sizes = match options.bytes {
        Some(bytes) => vec![usize::try_from(bytes)?],
        None => WRITE_BYTES.to_vec(),
    };
    for bytes in &sizes {
        ensure!(
            (1..=FILE_BYTES).contains(bytes),
            "--bytes must lie between 1 and 64MiB"
        );
    }
    let mut rows = Vec::new();
    for bytes in sizes {
        progress.show(&format!("syncing writes of {bytes} bytes"));
        let latency = rounds(&file, bytes, options).with_context(failed)?;
        rows.push(Row {
            bytes,
            syncs_per_second: latency.len() as f64 / options.duration.as_secs_f64(),
            latency_ns: Latency::of(&latency),
        });
    }
    Ok(rows)
}

fn rounds(file: &File, bytes: usize, options: &FloorOptions) -> anyhow::Result<Histogram<u64>> {
    let mut tally = Tally::new();
    let mut block = vec![0x5a_u8; bytes];
    let (clock, mut at) = (Clock::start(), 0);
    let end = in_nanos(options.duration);
    let mut timetable = options
        .rate
        .map(|rate| Timetable::new(1e9 / rate, clock.now(), end));
    let mut began = clock.now();
    while began < end {
        if let Some(timetable) = &mut timetable {
            // The time of the sync itself is wanted, so a late one counts from its own start.
            std::thread::sleep(Duration::from_secs_f64(timetable.wait(began) / 1e9));
            timetable.take();
            began = clock.now();
        }
        block[0] = block[0].wrapping_add(1);
        file.write_all_at(&block, u64::try_from(at)?)?;
        file.sync_data()?;
        let now = clock.now();
        tally.record(now - began);
        began = now;
        at = (at + bytes) % (FILE_BYTES - bytes + 1);
    }
    Ok(tally.latency)
}

impl fmt::Display for Floor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "write and fdatasync in {}", self.data_dir.display())?;
        for row in &self.writes {
            let size = quantity::bytes(u64::try_from(row.bytes).unwrap_or(u64::MAX));
            let rate = quantity::rate(row.syncs_per_second);
            write!(out, "\n  {size:8}  {rate} /s   {}", row.latency_ns)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_is_measured_and_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().to_owned();
        let options = FloorOptions {
            data_dir,
            duration: Duration::from_millis(5),
            bytes: None,
            rate: None,
            json: false,
        };
        let floor = run(&options).unwrap();
        assert!(floor.writes.iter().all(|row| row.latency_ns.max > 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_size_alone_can_be_measured() {
        let folder = tempfile::tempdir().unwrap();
        let options = FloorOptions {
            data_dir: folder.path().to_owned(),
            duration: Duration::from_millis(5),
            bytes: Some(512),
            rate: None,
            json: false,
        };
        let floor = run(&options).unwrap();
        assert_eq!(floor.writes.len(), 1);
        assert_eq!(floor.writes[0].bytes, 512);
    }

    #[test]
    fn folder_that_is_not_there_is_named() {
        let data_dir = PathBuf::from("/nowhere/at/all");
        let options = FloorOptions {
            data_dir,
            duration: Duration::from_millis(1),
            bytes: None,
            rate: None,
            json: false,
        };
        let error = run(&options).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("write /nowhere/at/all/holm-floor-"),
            "{error}"
        );
    }
}
