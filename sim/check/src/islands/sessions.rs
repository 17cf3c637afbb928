//! Within an island there is one order, and clients see it: what was answered before a request
//! was made is in its answer. Reading one's own writes and never reading backwards follow.

use crate::verdict::Violation;

const JUDGE: &str = "sessions";

/// A request that was answered at one island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Who asked.
    pub client: u64,
    /// When it was asked, in the order of everything that was asked and answered.
    pub invoked: u64,
    /// When it was answered, in the same order.
    pub returned: u64,
    /// The revision that the answer quotes.
    pub revision: u64,
    /// Whether it made that revision.
    pub wrote: bool,
}

/// Holds the revisions of an island's answers against the order in which they came.
///
/// # Errors
///
/// The first answer that is older than what its client, or another, had been told.
pub fn sessions(mut answered: Vec<Answered>) -> Result<(), Violation> {
    answered.sort_by_key(|one| one.invoked);
    let mut returns: Vec<(u64, u64, u64)> = answered
        .iter()
        .map(|one| (one.returned, one.revision, one.client))
        .collect();
    returns.sort_unstable();
    let mut returns = returns.into_iter().peekable();
    // The newest revision that was told, and to whom.
    let mut newest = (0, 0);
    for one in &answered {
        while let Some((_, revision, client)) = returns.next_if(|it| it.0 < one.invoked) {
            newest = newest.max((revision, client));
        }
        let (revision, client) = newest;
        let is_new = if one.wrote {
            one.revision > revision
        } else {
            one.revision >= revision
        };
        if !is_new {
            let rule = match (one.client == client, one.wrote) {
                (true, false) => "a client sees its own writes, and reads no older state",
                (false, false) => "a read shows what was answered before it",
                (_, true) => "a write comes behind what was answered before it",
            };
            let place = format!(
                "client {} was answered revision {}, after client {client} was told {revision}",
                one.client, one.revision
            );
            return Err(Violation::new(JUDGE, rule, place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(client: u64, (invoked, returned): (u64, u64), revision: u64, wrote: bool) -> Answered {
        Answered {
            client,
            invoked,
            returned,
            revision,
            wrote,
        }
    }

    fn judged(second: Answered) -> Result<(), &'static str> {
        let all = vec![one(1, (1, 2), 50, true), second];
        sessions(all).map_err(|violation| violation.rule)
    }

    #[test]
    fn later_answers_and_those_under_way_together_pass() {
        assert_eq!(judged(one(1, (3, 4), 50, false)), Ok(()));
        assert_eq!(judged(one(2, (3, 4), 51, true)), Ok(()));
        assert_eq!(judged(one(2, (1, 4), 40, false)), Ok(()), "asked before");
    }

    #[test]
    fn older_answers_are_violations() {
        let own = "a client sees its own writes, and reads no older state";
        assert_eq!(judged(one(1, (3, 4), 49, false)), Err(own));
        let others = "a read shows what was answered before it";
        assert_eq!(judged(one(2, (3, 4), 49, false)), Err(others));
        let write = "a write comes behind what was answered before it";
        assert_eq!(judged(one(2, (3, 4), 50, true)), Err(write));
    }
}
