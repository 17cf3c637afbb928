//! The cases of `bench kv`: what the load generator is told for each.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::server::Server;
use crate::process::output;

/// One case: a workload and its size.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    arguments: &'static [&'static str],
}

/// The figures that PROMISES.md holds.
pub(crate) const CASES: &[Case] = &[
    Case {
        name: "put-1",
        arguments: &["put", "--clients", "1"],
    },
    Case {
        name: "put-64",
        arguments: &["put", "--clients", "64"],
    },
    Case {
        name: "put-1000",
        arguments: &["put", "--clients", "1000"],
    },
    Case {
        name: "txn-64",
        arguments: &["txn", "--clients", "64"],
    },
    Case {
        name: "get-64",
        arguments: &["get", "--clients", "64"],
    },
    Case {
        name: "get-64-serializable",
        arguments: &["get", "--clients", "64", "--serializable"],
    },
    Case {
        name: "list-10000",
        arguments: &[
            "list",
            "--clients",
            "2",
            "--keys",
            "20000",
            "--range-keys",
            "10000",
            "--value-bytes",
            "1024",
        ],
    },
    Case {
        name: "watch-1000",
        arguments: &["watch", "--clients", "1", "--watchers", "1000"],
    },
    Case {
        name: "watch-1000-stalled",
        arguments: &[
            "watch",
            "--clients",
            "1",
            "--watchers",
            "1000",
            "--stalled",
            "1",
        ],
    },
];

impl Case {
    /// Loads a server once; gives the generator's report.
    pub(crate) fn run(&self, holm: &str, server: &Server, duration: &str) -> Result<Value> {
        let mut command = Command::new(holm);
        command.args(["bench", "kv"]).args(self.arguments);
        command.args([
            "--endpoint",
            &server.address(),
            "--pid",
            &server.id().to_string(),
        ]);
        command.args(["--duration", duration, "--json"]);
        let text = output(&mut command)
            .with_context(|| format!("case {} against {}", self.name, server.name()))?;
        let report: Value = serde_json::from_str(&text).context("the report is JSON")?;
        let failed = report["failed"].as_u64().unwrap_or(0);
        ensure!(
            failed == 0,
            "case {}: {failed} operations failed at {}: {}",
            self.name,
            server.name(),
            report["first_failure"]
        );
        Ok(report)
    }
}
