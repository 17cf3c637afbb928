//! Whether what a node counts as committed is durable at a quorum (raft I3).
//!
//! A count that is wrong loses nothing by itself: that takes an election in the one moment in
//! which too few hold the entry. So the count is judged when it is made, and not what follows.

use holm_base::{NodeId, Op};
use holm_raft::Configuration;

use super::Run;

impl Run<'_> {
    /// A node told that it counted the entries through an op as committed.
    ///
    /// Who is down, or was damaged, may hold them: it is only said what is certain. A quorum of
    /// a later configuration than that in force there will do: it stands in a log only once all
    /// who may be elected need that quorum too. Nobody who
    /// acknowledged an entry in its term votes for a leader without it as long as that term
    /// lasts, so what was counted rightly is still there when the count is told.
    pub(super) fn judge_count(&mut self, node: NodeId, commit: Op) {
        let Some(site) = self.world.node(node) else {
            return;
        };
        let Some((term, configurations)) = site.decided_by(commit) else {
            return;
        };
        let may_keep = |voter: NodeId| {
            let is_damaged = self.ledger.is_damaged(voter);
            let site = self.world.node(voter);
            is_damaged || site.is_none_or(|site| site.keeps(commit, term))
        };
        let lacks = |one: &&Configuration| one.voters().agreed(may_keep) == Some(false);
        if configurations.iter().all(lacks) {
            let place = format!(
                "{node} counted through {commit} of term {term}, which no quorum has durably"
            );
            let rule = "I3: what counts as committed is durable at a quorum";
            self.ledger.violate("invariants", rule, place);
        }
    }
}
