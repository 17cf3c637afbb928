//! Rows into a pipe: standard output, or whatever takes bytes and keeps no number.

use std::fmt;
use std::io::Write;

use holm_lanes::{Batch, Field};

use crate::reader::Format;
use crate::sink::{Guarantee, Sink, SinkError};
use crate::writer::{header, write};

/// A pipe as a sink.
pub struct LineSink {
    name: String,
    out: Box<dyn Write + Send>,
    format: Format,
    fields: Vec<Field>,
}

impl fmt::Debug for LineSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("LineSink");
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}

impl LineSink {
    /// A sink into a pipe.
    #[must_use]
    pub fn new(name: &str, out: Box<dyn Write + Send>, format: Format, fields: &[Field]) -> Self {
        Self {
            name: name.to_owned(),
            out,
            format,
            fields: fields.to_vec(),
        }
    }

    fn send(&mut self, text: &str) -> Result<(), SinkError> {
        let sent = self.out.write_all(text.as_bytes());
        sent.and_then(|()| self.out.flush())
            .map_err(|error| SinkError::failed(&self.name, error))
    }
}

impl Sink for LineSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        let head = header(self.format, &self.fields);
        self.send(&head)?;
        Ok(None)
    }

    fn put(&mut self, _first: u64, rows: &Batch) -> Result<(), SinkError> {
        let mut text = String::new();
        write(self.format, &self.fields, rows, &mut text);
        self.send(&text)
    }
}
