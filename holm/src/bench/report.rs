//! A run's result, for people and as JSON.
//!
//! Field names are an interface: `cargo xtask bench` and others read them.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Used;
use super::options::{KvOptions, Workload};
use super::tally::Tally;
use super::watch::WatchTally;
use crate::quantity;

/// What one run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    workload: &'static str,
    endpoint: String,
    clients: u32,
    connections: u32,
    value_bytes: u32,
    /// `null` is the closed loop.
    rate: Option<f64>,
    seconds: f64,
    /// Operations answered within the measured time; for `watch`, events delivered.
    operations: u64,
    operations_per_second: f64,
    failed: u64,
    unanswered: u64,
    first_failure: Option<String>,
    received_bytes_per_second: f64,
    latency_ns: Latency,
    client_cpu_us_per_operation: f64,
    client_cores: f64,
    server: Option<Server>,
    log_syncs_per_1000: Option<f64>,
    database_syncs_per_1000: Option<f64>,
    watch: Option<Watch>,
}

/// What a histogram says.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    pub(super) max: u64,
}

#[derive(Clone, Debug, Serialize)]
struct Server {
    cpu_us_per_operation: f64,
    cores: f64,
    resident_bytes: u64,
    resident_bytes_peak: u64,
    write_calls_per_operation: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
struct Watch {
    watchers: u32,
    stalled: u32,
    puts: u64,
    puts_per_second: f64,
    put_latency_ns: Latency,
    /// Events that should have come and did not.
    missing: u64,
}

impl Latency {
    /// The quantiles of a histogram of nanoseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        Self {
            mean: histogram.mean(),
            p50,
            p90,
            p99,
            p999,
            max: histogram.max(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("max", self.max),
        ];
        for (at, (name, nanos)) in columns.iter().enumerate() {
            let gap = if at == 0 { "" } else { "   " };
            write!(out, "{gap}{name} {}", quantity::nanos(*nanos as f64))?;
        }
        Ok(())
    }
}

impl Report {
    /// The report of a run of single requests.
    pub(super) fn unary(options: &KvOptions, tally: &Tally, used: &Used) -> Self {
        let seconds = options.duration.as_secs_f64();
        let operations = tally.completed;
        let per_operation = |seconds: f64| seconds * 1e6 / (operations.max(1) as f64);
        let client_cpu = used.client.1.cpu_seconds - used.client.0.cpu_seconds;
        let per_1000 = |count: f64| count * 1000.0 / (operations.max(1) as f64);
        let writes = matches!(
            options.workload,
            Workload::Put | Workload::Txn | Workload::Fill
        );
        let syncs = used.syncs.filter(|_pair| writes);
        Self {
            workload: name(options.workload),
            endpoint: options.endpoint.join(","),
            clients: options.clients,
            connections: options.connections(options.clients),
            value_bytes: options.value_bytes,
            rate: options.rate,
            seconds,
            operations,
            operations_per_second: operations as f64 / seconds,
            failed: tally.failed,
            unanswered: tally.unanswered,
            first_failure: tally.first_failure.as_ref().map(ToString::to_string),
            received_bytes_per_second: tally.bytes as f64 / seconds,
            latency_ns: Latency::of(&tally.latency),
            client_cpu_us_per_operation: per_operation(client_cpu),
            client_cores: client_cpu / seconds,
            server: used.server.map(|(before, after)| {
                let cpu = after.cpu_seconds - before.cpu_seconds;
                let calls = after.write_calls.zip(before.write_calls);
                Server {
                    cpu_us_per_operation: per_operation(cpu),
                    cores: cpu / seconds,
                    resident_bytes: after.resident_bytes,
                    resident_bytes_peak: after.resident_bytes_peak,
                    write_calls_per_operation: calls
                        .map(|(after, before)| (after - before) as f64 / operations.max(1) as f64),
                }
            }),
            log_syncs_per_1000: syncs.map(|(before, after)| per_1000(after.log - before.log)),
            database_syncs_per_1000: syncs
                .map(|(before, after)| per_1000(after.database - before.database)),
            watch: None,
        }
    }

    /// The report of a watch run; its operations are delivered events.
    pub(super) fn watch(options: &KvOptions, tally: &WatchTally, used: &Used) -> Self {
        let mut report = Self::unary(options, &tally.delivered, used);
        let puts = &tally.puts;
        report.failed += puts.failed;
        report.clients = 1;
        report.connections = options.connections(options.watchers) + 1 + options.stalled;
        if let Some(failure) = &puts.first_failure {
            report.first_failure = Some(failure.to_string());
        }
        report.watch = Some(Watch {
            watchers: options.watchers,
            stalled: options.stalled,
            puts: puts.completed,
            puts_per_second: puts.completed as f64 / report.seconds,
            put_latency_ns: Latency::of(&puts.latency),
            missing: tally.missing,
        });
        report
    }

    fn write_headline(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}  {}  ", self.workload, self.endpoint)?;
        match &self.watch {
            Some(watch) => {
                write!(
                    out,
                    "1 writer, {} watchers",
                    quantity::count(watch.watchers.into())
                )?;
                if watch.stalled > 0 {
                    write!(out, " and {} that never read", watch.stalled)?;
                }
            }
            None => write!(out, "{} clients", quantity::count(self.clients.into()))?,
        }
        write!(
            out,
            ", {} connections, {}-byte values, ",
            self.connections, self.value_bytes
        )?;
        match self.rate {
            Some(rate) => write!(out, "{} per second", quantity::rate(rate))?,
            None => write!(out, "closed loop")?,
        }
        writeln!(out, ", {:.1} s", self.seconds)
    }

    /// Why there is nothing to measure, if no request succeeded.
    pub(crate) fn failure(&self) -> Option<String> {
        let first = self.first_failure.as_deref()?;
        let is_vain = self.operations == 0 && self.failed > 0;
        is_vain.then(|| {
            format!(
                "each of {} requests failed: {first}",
                quantity::count(self.failed)
            )
        })
    }

    fn write_failures(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.failed > 0 {
            let first = self.first_failure.as_deref().unwrap_or_default();
            writeln!(
                out,
                "  FAILED      {}, the first: {first}",
                quantity::count(self.failed)
            )?;
        }
        if self.unanswered > 0 {
            writeln!(out, "  UNANSWERED  {}", quantity::count(self.unanswered))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_headline(out)?;
        let unit = if self.watch.is_some() {
            "events"
        } else {
            "operations"
        };
        let received = quantity::bytes(quantity::rounded(self.received_bytes_per_second));
        let rate = quantity::rate(self.operations_per_second);
        writeln!(out, "  throughput  {rate} {unit}/s, {received}/s received")?;
        writeln!(out, "  latency     {}", self.latency_ns)?;
        if let Some(watch) = &self.watch {
            let rate = quantity::rate(watch.puts_per_second);
            writeln!(out, "  puts        {rate} /s   {}", watch.put_latency_ns)?;
            if watch.missing > 0 {
                writeln!(
                    out,
                    "  MISSING     {} events",
                    quantity::count(watch.missing)
                )?;
            }
        }
        let unit = unit.trim_end_matches('s');
        if let Some(server) = &self.server {
            let (cpu, cores) = (server.cpu_us_per_operation, server.cores);
            write!(
                out,
                "  server      {cpu:.1} us CPU per {unit} ({cores:.2} cores)"
            )?;
            let resident = quantity::bytes(server.resident_bytes);
            let peak = quantity::bytes(server.resident_bytes_peak);
            write!(out, ", {resident} resident (peak {peak})")?;
            if let Some(calls) = server.write_calls_per_operation {
                write!(out, ", {calls:.2} write calls per {unit}")?;
            }
            writeln!(out)?;
        }
        if let (Some(log), Some(database)) = (self.log_syncs_per_1000, self.database_syncs_per_1000)
        {
            writeln!(
                out,
                "  disk        {log:.1} log syncs and {database:.1} database syncs per 1,000 writes"
            )?;
        }
        let (cpu, cores) = (self.client_cpu_us_per_operation, self.client_cores);
        write!(
            out,
            "  generator   {cpu:.1} us CPU per {unit} ({cores:.2} cores)"
        )?;
        if self.failed > 0 || self.unanswered > 0 {
            writeln!(out)?;
            self.write_failures(out)?;
        }
        Ok(())
    }
}

fn name(workload: Workload) -> &'static str {
    match workload {
        Workload::Put => "put",
        Workload::Get => "get",
        Workload::List => "list",
        Workload::Txn => "txn",
        Workload::Watch => "watch",
        Workload::Echo => "echo",
        Workload::Fill => "fill",
    }
}
