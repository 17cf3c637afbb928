//! What the log keeps for sites that lag; who lags further gets a snapshot.

use super::count;
use super::tree::Table;
use crate::refusal::Refusal;
use crate::site::Engine;

const KEPT_MAX: u64 = 1_000_000;

/// How many operations the log keeps: `kept` in the keyspace. Without it, as many as a node of
/// `holm up` does.
pub(crate) fn read(table: &mut Table, engine: Engine) -> Result<Option<u64>, Refusal> {
    let Some(value) = table.take("kept") else {
        return Ok(None);
    };
    if engine == Engine::Table {
        let what = "kept: a table's log is short by itself: leave it out, or write \
                    engine = \"store\"";
        return Err(table.refuse(value.line, what));
    }
    count(table, &value, "kept", KEPT_MAX).map(Some)
}
