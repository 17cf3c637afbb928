//! What a keeper says of itself to whoever looks.

use holm_engine::{Counts, Gauge, Repeated};

use crate::cut::LogPoint;
use crate::keeper::Keeper;

impl Keeper {
    /// What was counted of all queries, lines that were no rows among the diverted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            rows: self.run.rows() + self.bad,
            diverted: self.bad,
            ..Counts::default()
        };
        for query in 0..self.run.queries() {
            let own = self.run.counts(query);
            counts.late += own.late;
            counts.diverted += own.diverted;
            counts.out += own.out;
        }
        counts
    }

    /// What was counted of each query, without lines that were no rows.
    #[must_use]
    pub fn counts_of_each(&self) -> Vec<Counts> {
        let queries = 0..self.run.queries();
        queries.map(|query| self.run.counts(query)).collect()
    }

    /// How much its windows keep.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        self.run.gauge()
    }

    /// Where the rows of each source are logged; of one that gives them again nothing is.
    #[must_use]
    pub fn log_points(&self) -> Vec<Option<LogPoint>> {
        let sources = self.cuts.iter().zip(&self.is_replayable);
        let points = sources.map(|(cut, is_replayable)| (!is_replayable).then(|| cut.log_point()));
        points.collect()
    }

    /// Rows of sources that came again, where tables say what tells them apart.
    #[must_use]
    pub fn repeated(&self) -> Vec<Repeated> {
        self.run.repeated()
    }

    /// Whether a source is left out of watermarks.
    #[must_use]
    pub fn is_idle(&self, source: usize) -> bool {
        self.run.is_idle(source)
    }
}
