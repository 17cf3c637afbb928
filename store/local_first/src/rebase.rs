//! How a site comes back that was left out: it takes the group's keys as they are, and makes
//! again what the group never got.
//!
//! ```text
//! own updates      old.1 .. old.F | old.F+1  old.F+2 ..
//! what counts      old.1 .. old.F | heir.1   heir.2  ..    body, time and context as they were
//! ```
//!
//! What would surprise: nothing is merged. A merge would keep removals of which the group knows
//! nothing: those that another site made which was left out as well. And nothing is made as if
//! it were new: a value of a month ago would replace everything written since. It stands beside
//! what it did not see, and loses to what is later.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::island::{Island, Tip};
use crate::members::Members;
use crate::update::{Change, Sealed, Update};
use crate::vector::{Dot, Slot, Vector};

/// A site that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebase {
    /// What it makes again, in order; the site's log takes all of it in at once.
    pub reissued: Vec<Sealed>,
    /// What another site that was left out must make again first. Until then nothing new may be
    /// made under the heir: the numbers are taken.
    pub waits: Option<Dot>,
    /// Changes that were left out because deletes win, and of what.
    pub reported: Vec<(Dot, Bytes)>,
}

/// Whether a site may be taken over from another: that one has all that it has of active slots,
/// and of its own all that counts.
#[must_use]
pub fn may_adopt(members: &Members, ours: &Vector, theirs: &Vector) -> bool {
    let counted = members
        .active()
        .keys()
        .all(|it| theirs.seq(*it) >= ours.seq(*it));
    let frozen = members.frozen().iter();
    let mut frozen = frozen.map(|(slot, it)| theirs.seq(*slot) >= it.through);
    counted && frozen.all(|is_there| is_there)
}

/// The island of a site that takes another's keys and tips as they are, and goes on under its
/// heir. `newest` is the latest time in them.
#[must_use]
pub fn adopted(members: &Members, heir: Slot, tips: BTreeMap<Slot, Tip>, newest: Hlc) -> Island {
    Island::again((heir, members.epoch()), newest, tips, None)
}

/// Makes again what counts under the heir of a site's old slot, on top of what was adopted, and
/// takes it in.
///
/// `own` are the old slot's updates behind F, in order; what was made again before is passed
/// over, so this may be repeated. No time is later than it was, nor than `latest` (a site whose
/// clock was ahead lowers it so). `is_deleted` says of a key that it was here at F and is gone in
/// what was adopted: where deletes win, a put of it is only reported.
pub fn rebase(
    members: &Members,
    island: &mut Island,
    own: &[Sealed],
    latest: Hlc,
    is_deleted: &dyn Fn(&Bytes) -> bool,
) -> Rebase {
    let mut rebase = Rebase {
        reissued: Vec::new(),
        waits: None,
        reported: Vec::new(),
    };
    for old in own {
        let Some(dot) = members.renamed(old.update.dot) else {
            continue;
        };
        if dot == old.update.dot || island.vector().covers(dot) {
            continue;
        }
        let deps = members.renamed_all(&old.update.deps);
        let lacks = |(slot, seq): &(Slot, u64)| *seq > island.vector().seq(*slot);
        if let Some((slot, _)) = deps.iter().find(lacks) {
            let seq = island.vector().seq(slot) + 1;
            rebase.waits = Some(Dot { slot, seq });
            break;
        }
        let falls = |change: &Change| match change {
            Change::Put { key, .. } | Change::Add { key, .. } | Change::Paths { key, .. } => {
                is_deleted(key).then(|| key.clone())
            }
            Change::Delete { .. } | Change::DeleteRange { .. } | Change::Erase { .. } => None,
        };
        let mut changes = old.update.changes.clone();
        rebase
            .reported
            .extend(changes.iter().filter_map(falls).map(|key| (dot, key)));
        changes.retain(|change| falls(change).is_none());
        let before = island.tips().get(&dot.slot).cloned().unwrap_or_default();
        let update = Update {
            dot,
            epoch: members.epoch(),
            hlc: old.update.hlc.min(latest),
            deps,
            prev: before.chain,
            is_reissued: true,
            changes,
        };
        let sealed = Sealed::new(update, &before.deps);
        island.take(&sealed);
        rebase.reissued.push(sealed);
    }
    rebase
}
