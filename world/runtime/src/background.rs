//! The background worker: runs the engine's jobs off its path and reports them.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use holm_kv::{Job, JobKind};
use holm_telemetry::Metrics;

use crate::inbox::{Inbox, Letter};

/// How many jobs may wait: one of each kind, and one to spare.
pub(crate) const JOBS_MAX: usize = 8;

/// Runs jobs until the engine is gone.
pub(crate) fn run(jobs: &Receiver<Job>, inbox: &Arc<Inbox>, metrics: &Arc<Metrics>) {
    while let Ok(job) = jobs.recv() {
        let (kind, started) = (job.kind(), Instant::now());
        let done = job.run();
        if kind == JobKind::Flush {
            metrics
                .disk
                .backend_commit_duration
                .observe(started.elapsed());
        }
        inbox.tell(Letter::WorkDone(done));
    }
}
