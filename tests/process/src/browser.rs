//! A real browser without a screen, which is told what to do through a pipe.
//!
//! It is Chromium's DevTools protocol: objects of JSON, each ended by a zero byte. The browser
//! reads them from its file 3 and writes to its file 4; a shell puts our pipes there.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::base64;
use crate::server::installed;

/// What it may take to answer, on a machine that is busy with builds.
const PATIENCE: Duration = Duration::from_secs(120);
/// And until it has ended.
const PARTING: Duration = Duration::from_secs(10);
/// Reports that wait to be looked at; the browser waits behind them.
const REPORTS: usize = 1_024;

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    orders: ChildStdin,
    reports: Receiver<Value>,
    /// Of the page.
    session: Option<String>,
    /// Of the last order.
    number: u64,
    /// What scripts of the page threw.
    thrown: VecDeque<String>,
    _profile: TempDir,
}

/// Where the browser lies, if this machine has it.
#[must_use]
pub fn program() -> Option<PathBuf> {
    installed("chromium")
}

impl Browser {
    /// Starts the browser, with an empty page of this size.
    ///
    /// # Errors
    ///
    /// It is not there, or does not do as it is told.
    pub fn start((width, height): (u32, u32)) -> Result<Self> {
        let program = program().context("chromium is not installed (Debian: chromium)")?;
        let profile = TempDir::with_prefix("holm-browser-")?;
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"]);
        command.arg(program).args([
            "--headless=new",
            "--remote-debugging-pipe",
            "--no-first-run",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
        ]);
        // Its sandbox is not for root.
        if rustix::process::getuid().is_root() {
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let orders = child.stdin.take().context("it is piped")?;
        let output = child.stdout.take().context("it is piped")?;
        let (sender, reports) = sync_channel(REPORTS);
        thread::spawn(move || read(output, &sender));
        let mut browser = Self {
            child,
            orders,
            reports,
            session: None,
            number: 0,
            thrown: VecDeque::new(),
            _profile: profile,
        };
        let page = json!({ "url": "about:blank" });
        let page = browser.order("Target.createTarget", &page)?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.order("Target.attachToTarget", &attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.order("Emulation.setDeviceMetricsOverride", &metrics)?;
        browser.order("Runtime.enable", &json!({}))?;
        Ok(browser)
    }

    /// Goes to a page; it may not be there yet.
    ///
    /// # Errors
    ///
    /// A browser that does not.
    pub fn visit(&mut self, url: &str) -> Result<()> {
        self.order("Page.navigate", &json!({ "url": url }))?;
        Ok(())
    }

    /// What an expression gives on the page; of a promise what it comes to.
    ///
    /// # Errors
    ///
    /// It throws, or takes too long.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let what = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let told = self.order("Runtime.evaluate", &what)?;
        let thrown = &told["exceptionDetails"];
        ensure!(thrown.is_null(), "{expression}: {thrown}");
        Ok(told["result"]["value"].clone())
    }

    /// The page as it is seen, as PNG.
    ///
    /// # Errors
    ///
    /// A browser that does not.
    pub fn picture(&mut self) -> Result<Vec<u8>> {
        let how = json!({ "format": "png" });
        let told = self.order("Page.captureScreenshot", &how)?;
        let data = told["data"].as_str().context("it has data")?;
        base64::decode(data).context("it is base64")
    }

    /// What scripts of the page threw since it was last asked.
    pub fn thrown(&mut self) -> Vec<String> {
        self.thrown.drain(..).collect()
    }

    fn order(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.number += 1;
        let mut order = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = json!(session);
        }
        self.orders.write_all(order.to_string().as_bytes())?;
        self.orders.write_all(&[0])?;
        self.orders.flush()?;
        loop {
            let report = self.reports.recv_timeout(PATIENCE);
            let report = report.with_context(|| format!("{method}: no answer"))?;
            if report["method"] == "Runtime.exceptionThrown" {
                let details = &report["params"]["exceptionDetails"];
                self.thrown.push_back(details.to_string());
            }
            if report["id"] == self.number {
                ensure!(report["error"].is_null(), "{method}: {}", report["error"]);
                return Ok(report["result"].clone());
            }
        }
    }
}

fn read(output: ChildStdout, reports: &SyncSender<Value>) {
    let split = BufReader::new(output).split(0);
    for report in split.map_while(Result::ok) {
        let report = serde_json::from_slice(&report).unwrap_or_default();
        if reports.send(report).is_err() {
            return;
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It takes its own processes along, which else would write to a folder that is gone.
        self.session = None;
        drop(self.order("Browser.close", &json!({})));
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PARTING {
            thread::sleep(Duration::from_millis(10));
        }
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
