//! A scenario whose work costs something.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{OP_NAMES, Purpose, Scenario};
use crate::costs::Costs;
use crate::site::Engine;

/// Operations of a mix that have a price.
const PRICED: [usize; 2] = [0, 3];
/// Of so few keys a range reads all, and that has no price.
const WHOLE_MAX: u32 = 16;

impl Scenario {
    /// The file of costs that its sites name, if they do.
    ///
    /// # Errors
    ///
    /// If they name several, or only some name one.
    pub fn costs_wanted(&self) -> Result<Option<&str>, String> {
        let named: BTreeSet<Option<&str>> = self
            .sites
            .iter()
            .map(|site| site.costs.as_deref())
            .collect();
        let mut named = named.into_iter();
        match (named.next(), named.next()) {
            (Some(first), None) => Ok(first),
            (_, _) => Err(format!(
                "{}: all sites name one file of costs, or none does: work that is free beside work that \
                 costs something gives no figures",
                self.file
            )),
        }
    }

    /// Lets work cost what the file says.
    ///
    /// # Errors
    ///
    /// If the scenario does something that has no price.
    pub fn charge(&mut self, costs: Costs) -> Result<(), String> {
        if self.purpose == Purpose::Hunt {
            return Err(format!(
                "{}: a hunt has no figures, so its work costs nothing: leave the costs out",
                self.file
            ));
        }
        if self.has_streams() {
            return Err(self.unpriced(&costs, "streams"));
        }
        if self.has_name {
            return Err(format!(
                "{}: {} has prices of one keyspace alone: leave the costs out, or the other keyspaces",
                self.file, costs.name
            ));
        }
        if self.keyspace.engine == Engine::Table {
            return Err(format!(
                "{}: {} has no measure of engine = \"table\", which only rehearsals have",
                self.file, costs.name
            ));
        }
        for clients in &self.clients {
            let wanted = clients.mix.0.iter().enumerate();
            let mut unpriced = wanted.filter(|(op, weight)| **weight > 0 && !PRICED.contains(op));
            if let Some((op, _)) = unpriced.next() {
                return Err(self.unpriced(&costs, OP_NAMES[op]));
            }
            if clients.watches {
                return Err(self.unpriced(&costs, "watch"));
            }
            if clients.mix.0[3] > 0 && clients.keys.count <= WHOLE_MAX {
                return Err(self.unpriced(&costs, "ranges of several keys (16 keys or fewer)"));
            }
            if clients.value > costs.value_bytes {
                let what = format!("values of {} bytes", clients.value);
                return Err(self.unpriced(&costs, &what));
            }
        }
        self.costs = Some(Arc::new(costs));
        Ok(())
    }

    fn unpriced(&self, costs: &Costs, what: &str) -> String {
        format!(
            "{}: {} has no measure of {what}, and work is never taken as free: leave it out, or leave the \
             costs out",
            self.file, costs.name
        )
    }
}
