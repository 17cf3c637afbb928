//! Runs `holm bench`, alone or several at once, and reads its reports.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::figure::Sample;
use crate::bench::server::Server;

/// One run of the load generator, under way.
pub(crate) struct Load {
    child: Child,
    what: String,
}

impl Load {
    /// Starts one against a server.
    pub(crate) fn start(server: &Server, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(server.holm());
        command.stdin(Stdio::null());
        Self::with(command, server, words)
    }

    /// Starts one against one of its islands.
    pub(crate) fn start_at(server: &Server, island: &str, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(server.holm());
        command.stdin(Stdio::null());
        Self::at(command, (server, island), words)
    }

    /// Starts one that ends when [`Load::finish`] is called, at its `--duration` at the latest.
    pub(crate) fn start_ended(server: &Server, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(server.holm());
        command.stdin(Stdio::piped());
        Self::with(command, server, &[words, &["--until-eof"]].concat())
    }

    /// Starts one that yields the processor to everybody else.
    pub(crate) fn start_humble(server: &Server, words: &[&str]) -> Result<Self> {
        let mut command = Command::new("nice");
        command
            .args(["-n", "19", server.holm()])
            .stdin(Stdio::null());
        Self::with(command, server, words)
    }

    fn with(command: Command, server: &Server, words: &[&str]) -> Result<Self> {
        Self::at(command, (server, &server.endpoint()), words)
    }

    fn at(
        mut command: Command,
        (server, endpoint): (&Server, &str),
        words: &[&str],
    ) -> Result<Self> {
        let what = format!("`holm bench kv {}` at {}", words.join(" "), server.name());
        command.args(["bench", "kv"]).args(words);
        command.args(["--endpoint", endpoint, "--metrics", &server.metrics()]);
        command.args(["--pid", &server.ids(), "--json"]);
        // Its progress and its complaints are for whoever looks.
        command.stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("start {what}"))?;
        Ok(Self { child, what })
    }

    /// Ends one that can be ended, and waits for the end; a report with failures is an error.
    pub(crate) fn finish(self) -> Result<Value> {
        let what = self.what;
        // Waiting closes its input first.
        let output = self
            .child
            .wait_with_output()
            .with_context(|| format!("wait for {what}"))?;
        ensure!(output.status.success(), "{what} failed ({})", output.status);
        let report: Value = serde_json::from_slice(&output.stdout).context("the report is JSON")?;
        sound(&report).with_context(|| what.clone())?;
        Ok(report)
    }
}

/// A report in which everything was answered, and well.
fn sound(report: &Value) -> Result<()> {
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    let (failed, unanswered) = (count("failed"), count("unanswered"));
    let first = &report["first_failure"];
    ensure!(failed == 0, "{failed} operations failed: {first}");
    ensure!(unanswered == 0, "{unanswered} operations had no answer");
    let missing = report["watch"]["missing"].as_u64().unwrap_or(0);
    ensure!(missing == 0, "{missing} events never came");
    Ok(())
}

/// One run to its end.
pub(crate) fn load(server: &Server, words: &[&str]) -> Result<Value> {
    Load::start(server, words)?.finish()
}

/// A number of a report, in another unit.
pub(crate) fn number(report: &Value, place: &str, scale: f64) -> Option<f64> {
    report
        .pointer(place)
        .and_then(Value::as_f64)
        .map(|value| value / scale)
}

/// A number that every report has.
pub(crate) fn required(report: &Value, place: &str, scale: f64) -> Result<f64> {
    number(report, place, scale).with_context(|| format!("the report has no {place}"))
}

/// The figures of one unary or watch run, as far as the report has them.
pub(crate) fn figures(report: &Value) -> Sample {
    let places = [
        ("operations/s", "/operations_per_second", 1.0),
        ("p50 ms", "/latency_ns/p50", 1e6),
        ("p99 ms", "/latency_ns/p99", 1e6),
        ("max ms", "/latency_ns/max", 1e6),
        ("CPU us/operation", "/server/cpu_us_per_operation", 1.0),
        ("log syncs/1,000", "/log_syncs_per_1000", 1.0),
        ("peak MiB", "/server/resident_bytes_peak", 1_048_576.0),
        (
            "generator CPU us/operation",
            "/client_cpu_us_per_operation",
            1.0,
        ),
    ];
    let found = places
        .iter()
        .map(|(name, place, scale)| (*name, number(report, place, *scale)));
    found
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
}

/// The figures of the echoes beneath a run.
pub(crate) fn floor(report: &Value, sync_ms: Option<f64>) -> Sample {
    let mut sample = Vec::new();
    let mut add = |name, value: Option<f64>| sample.extend(value.map(|value| (name, value)));
    add(
        "floor: echoes/s",
        number(report, "/operations_per_second", 1.0),
    );
    let echo = number(report, "/latency_ns/p50", 1e6);
    add(
        "floor: p50 ms",
        echo.map(|echo| echo + sync_ms.unwrap_or(0.0)),
    );
    add(
        "floor: CPU us/echo",
        number(report, "/server/cpu_us_per_operation", 1.0),
    );
    sample
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_with_failures_is_no_figure() {
        assert!(sound(&json!({"failed": 0, "unanswered": 0})).is_ok());
        let error = sound(&json!({"failed": 2, "first_failure": "no"})).unwrap_err();
        assert_eq!(error.to_string(), "2 operations failed: \"no\"");
        assert!(sound(&json!({"failed": 0, "unanswered": 1})).is_err());
        assert!(sound(&json!({"watch": {"missing": 3}})).is_err());
    }

    #[test]
    fn only_what_a_report_has_becomes_a_figure() {
        let report = json!({"operations_per_second": 7.0, "latency_ns": {"p99": 2_000_000}});
        assert_eq!(figures(&report), [("operations/s", 7.0), ("p99 ms", 2.0)]);
        assert!(required(&report, "/server/cores", 1.0).is_err());
    }

    #[test]
    fn the_floor_of_a_write_is_an_echo_and_a_sync() {
        let report = json!({"operations_per_second": 7.0, "latency_ns": {"p50": 500_000}});
        let floor = floor(&report, Some(0.25));
        assert_eq!(floor, [("floor: echoes/s", 7.0), ("floor: p50 ms", 0.75)]);
    }
}
