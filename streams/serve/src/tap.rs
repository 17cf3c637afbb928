//! Shows what a sink takes.

use holm_connect::{Guarantee, Sink, SinkError, View};
use holm_lanes::Batch;

/// A sink whose rows are seen once it has them.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) view: View,
}

impl Sink for Tap {
    fn name(&self) -> &str {
        self.sink.name()
    }

    fn guarantee(&self) -> Guarantee {
        self.sink.guarantee()
    }

    fn begin(&mut self) -> Result<Option<u64>, SinkError> {
        self.sink.begin()
    }

    fn put(&mut self, first: u64, rows: &Batch) -> Result<(), SinkError> {
        self.sink.put(first, rows)?;
        self.view.rows(rows);
        Ok(())
    }
}
