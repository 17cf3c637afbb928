//! Rows that are set aside: named on standard error, counted, and kept in a file if one is asked for.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::json;

use super::Ended;

/// What becomes of a row without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnError {
    /// It is set aside and counted
    Divert,
    /// The run ends
    Stop,
}

/// How many diverted rows are named on standard error; the others are counted.
const NAMED_MAX: u64 = 10;

/// Rows that are set aside.
#[derive(Debug)]
pub(crate) struct Aside {
    file: Option<(File, PathBuf)>,
    on_error: OnError,
    named: u64,
    /// Rows that never reached the engine.
    pub(crate) bad: u64,
}

impl Aside {
    /// Opens the file for rows that are set aside, if there is to be one: anew, or to go on.
    pub(crate) fn open(
        path: Option<&Path>,
        on_error: OnError,
        goes_on: bool,
    ) -> Result<Self, Ended> {
        let open = |path: &Path| {
            let mut options = File::options();
            options.create(true).write(true).append(goes_on);
            let file = options.truncate(!goes_on).open(path);
            file.map(|file| (file, path.to_owned()))
                .map_err(|error| Ended::failed(format!("create {}", path.display()), error))
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            on_error,
            named: 0,
            bad: 0,
        })
    }

    pub(crate) fn divert(
        &mut self,
        place: &str,
        line: Option<u64>,
        why: &str,
    ) -> Result<(), Ended> {
        let at = line.map_or_else(|| place.to_owned(), |line| format!("{place}:{line}"));
        if self.on_error == OnError::Stop {
            return Err(Ended::Failed(format!("{at}: {why}")));
        }
        self.named += 1;
        if self.named <= NAMED_MAX {
            say(&format!("{at}: {why}; row diverted"));
        } else if self.named == NAMED_MAX + 1 {
            say("more rows are diverted; --diverted FILE names all");
        }
        self.keep(&json!({ "table": "run$errors", "place": place, "line": line, "reason": why }))
    }

    /// Keeps a row that came too late; it is counted elsewhere.
    pub(crate) fn late(&mut self, place: &str, line: Option<u64>) -> Result<(), Ended> {
        self.keep(&json!({ "table": format!("{place}$late"), "place": place, "line": line }))
    }

    pub(crate) fn keep(&mut self, row: &serde_json::Value) -> Result<(), Ended> {
        let Some((file, path)) = &mut self.file else {
            return Ok(());
        };
        writeln!(file, "{row}")
            .map_err(|error| Ended::failed(format!("write {}", path.display()), error))
    }
}

pub(crate) fn say(text: &str) {
    // With standard error gone there is nobody left to tell.
    drop(writeln!(std::io::stderr(), "{text}"));
}
