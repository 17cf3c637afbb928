//! Progress of long work, on standard error and only where a person looks.

use std::io::{IsTerminal, Write};

/// A line on the terminal that is written over and over; silent where there is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    /// A line that shows nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Replaces the line.
    pub(crate) fn show(&mut self, text: &str) {
        if self.terminal {
            self.shown = true;
            // Progress that cannot be shown is no reason to stop the work it describes.
            drop(write!(std::io::stderr(), "\r\x1b[2K{text}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            drop(write!(std::io::stderr(), "\r\x1b[2K"));
        }
    }
}
