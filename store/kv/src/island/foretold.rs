//! What a site that was left out would bring along, were it taken in again: a part of the keys at a time, for whoever
//! asks before.
//!
//! What would surprise: it is the keys that are asked and not the updates, as in a return itself. So each part costs a
//! read for each key that it looks at, and one may have found nothing and not be the last.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use holm_local_first::{Absent, Dot, Foretold, Members, Slot};

use super::gone::removed_by;
use super::members::kept_in;
use super::state_of;
use crate::checkpoint::Fact;
use crate::index::Index;
use crate::refusal::Refusal;
use crate::root::Root;
use crate::store::FactKind;
use crate::view::View;

/// At so many keys one part looks at most.
const KEYS_MAX: usize = 4_096;
/// So many keys are found at a time.
const SLICE: usize = 256;
/// How many writes one part has at most.
const WRITES_MAX: usize = 256;
/// How many bytes of keys and values, but for its last write.
const BYTES_MAX: usize = 1 << 20;

/// Where a part begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForetoldFrom {
    /// With this key, or the one behind it.
    pub key: Bytes,
    /// So many writes of that key were told.
    pub told: usize,
}

/// A part of what a site that was left out would bring along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretelling {
    /// The slot that it had.
    pub slot: Slot,
    /// How many updates it made.
    pub made: u64,
    /// How many of them count.
    pub counted: u64,
    /// Whether it came back before, and these data are a copy of before that.
    pub was_back: bool,
    /// Keys with writes that count for nobody, in order of keys.
    pub writes: Vec<(Bytes, Foretold)>,
    /// Where the next part begins; none behind the last.
    pub next: Option<ForetoldFrom>,
}

impl View {
    /// What this island would bring along that was left out, as its own log knows it; `None` if it
    /// was not. Cost: a read for each of some thousand keys.
    ///
    /// # Errors
    ///
    /// If a record is damaged.
    pub fn foretold(&self, from: &ForetoldFrom) -> Result<Option<Foretelling>, Refusal> {
        let corrupt = |error: holm_local_first::DecodeError| Refusal::Corrupt {
            place: format!("the island's table of sites: {error}"),
        };
        let Some(island) = &self.island else {
            return Ok(None);
        };
        let charter = kept_in(&self.facts).map_err(corrupt)?;
        let members = charter.roster().map(|it| &it.members);
        let own = |it: &'_ Members| it.frozen().get(&island.slot).copied();
        let Some((members, own)) = members.and_then(|it| Some((it, own(it)?))) else {
            return Ok(None);
        };
        let limits = charter.limits();
        let absent = Absent {
            slot: island.slot,
            vector: &island.vector,
            limits: &limits,
        };
        let (writes, next) = part(&absent, (&self.root, &self.facts), from)?;
        let made = island.vector.seq(island.slot);
        Ok(Some(Foretelling {
            slot: island.slot,
            made,
            counted: own.through,
            was_back: members.was_back(island.slot),
            writes,
            next,
        }))
    }
}

type Part = (Vec<(Bytes, Foretold)>, Option<ForetoldFrom>);

fn part(
    absent: &Absent<'_>,
    (root, facts): (&Root, &Index<Fact>),
    from: &ForetoldFrom,
) -> Result<Part, Refusal> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut next = from.key.clone();
    for _ in 0..KEYS_MAX / SLICE {
        let (keys, behind) = some_keys(root, facts, &next);
        for key in keys {
            let told = if key == from.key { from.told } else { 0 };
            let all = foretold_of(absent, (root, facts), &key)?;
            for (at, write) in all.into_iter().enumerate().skip(told) {
                if found.len() >= WRITES_MAX || bytes >= BYTES_MAX {
                    return Ok((found, Some(ForetoldFrom { key, told: at })));
                }
                bytes += key.len() + write.path.len() + write.party.value.len();
                found.push((key.clone(), write));
            }
        }
        match behind {
            Some(behind) => next = behind,
            None => return Ok((found, None)),
        }
    }
    Ok((found, Some(ForetoldFrom { key: next, told: 0 })))
}

/// The next keys that are there, were deleted, or of which something is known; and the one behind them.
fn some_keys(root: &Root, facts: &Index<Fact>, from: &[u8]) -> (BTreeSet<Bytes>, Option<Bytes>) {
    let mut keys = BTreeSet::new();
    let mut some = SLICE + 1;
    let _end = root.index.scan(from, &mut |key, _newest| {
        keys.insert(Bytes::copy_from_slice(key));
        some -= 1;
        go_on(some > 0)
    });
    some = SLICE + 1;
    let _end = facts.scan(&FactKind::State.key(from), &mut |fact, _state| {
        if !FactKind::State.owns(fact) {
            return ControlFlow::Break(());
        }
        keys.insert(Bytes::copy_from_slice(&fact[1..]));
        some -= 1;
        go_on(some > 0)
    });
    let behind = keys.iter().nth(SLICE).cloned();
    if let Some(behind) = &behind {
        drop(keys.split_off(behind));
    }
    (keys, behind)
}

const fn go_on(does: bool) -> ControlFlow<()> {
    if does {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// What of a key counts for nobody.
fn foretold_of(
    absent: &Absent<'_>,
    (root, facts): (&Root, &Index<Fact>),
    key: &Bytes,
) -> Result<Vec<Foretold>, Refusal> {
    let kept = facts.get(&FactKind::State.key(key));
    let (state, _recorded) = state_of(root, key, kept.map(|fact| fact.0.clone()))?;
    let mut all = absent.foretold(&state);
    let removed = if state.is_gone() {
        removed_by(root, key)?
    } else {
        None
    };
    let is_own = |dot: Dot| dot.slot == absent.slot && absent.is_beyond(dot);
    let is_new = |dot: Dot| all.iter().all(|it| it.party.dot != dot);
    let removed = removed.filter(|it| is_own(it.dot) && is_new(it.dot));
    all.extend(removed.map(Foretold::delete));
    Ok(all)
}
