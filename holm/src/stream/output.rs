//! Rows out: standard output or a file, and the rows that were set aside.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use holm_connect::{Format, header, write};
use holm_lanes::{Batch, Field};

use super::Ended;

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Into {
    /// Standard output.
    Stdout,
    /// A file, made anew.
    File(PathBuf),
}

/// Reads `stdout` or `file:PATH`.
pub(crate) fn parse_into(text: &str) -> Result<Into, String> {
    if text == "stdout" {
        return Ok(Into::Stdout);
    }
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Into::File(PathBuf::from(path))),
        Some(("keyspace" | "http" | "https", _)) => Err(format!(
            "{text}: not built yet; rows go to stdout or file:PATH"
        )),
        _ => Err(format!("{text}: rows go to stdout or file:PATH")),
    }
}

/// Writes rows.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    fields: Vec<Field>,
    file: Option<(File, PathBuf)>,
    text: String,
}

impl Output {
    pub(crate) fn open(into: &Into, format: Format, fields: &[Field]) -> Result<Self, Ended> {
        let file = match into {
            Into::Stdout => None,
            Into::File(path) => Some((create(path)?, path.clone())),
        };
        let mut output = Self {
            format,
            fields: fields.to_vec(),
            file,
            text: header(format, fields),
        };
        output.flush()?;
        Ok(output)
    }

    pub(crate) fn rows(&mut self, batch: &Batch) -> Result<(), Ended> {
        write(self.format, &self.fields, batch, &mut self.text);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let bytes = self.text.as_bytes();
        match &mut self.file {
            None => {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(bytes).and_then(|()| out.flush());
                if let Err(error) = written {
                    return Err(if error.kind() == ErrorKind::BrokenPipe {
                        Ended::Unread
                    } else {
                        Ended::failed("write to standard output", error)
                    });
                }
            }
            Some((file, path)) => {
                let written = file.write_all(bytes);
                written
                    .map_err(|error| Ended::failed(format!("write {}", path.display()), error))?;
            }
        }
        self.text.clear();
        Ok(())
    }
}

pub(crate) fn create(path: &Path) -> Result<File, Ended> {
    File::create(path).map_err(|error| Ended::failed(format!("create {}", path.display()), error))
}

/// A number with commas between thousands.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        for (number, text) in [
            (0_u64, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (9_812_004, "9,812,004"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn what_is_not_built_says_so() {
        assert!(
            parse_into("keyspace:dash/cpu/")
                .unwrap_err()
                .contains("not built yet")
        );
        assert_eq!(parse_into("file:out"), Ok(Into::File("out".into())));
    }
}
