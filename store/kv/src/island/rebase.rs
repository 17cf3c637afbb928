//! A site that was left out comes back, all in one entry of its log: it has what the other side of a session has, goes
//! on under its heir, and what only it had is made again.
//!
//! What would surprise: nothing of this lies beside the log. A crash before the entry leaves the site as it was, one
//! behind it finds it back; so nothing is made twice (I12). What is made again is found by comparing what is here with
//! what was staged, key by key: see `holm_local_first::Absent`.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_local_first::{
    Absent, Applied, Cause, Conflict, Dot, Hlc, Island, Made, Mark, Party, Sealed, Session, Slot,
    Stamp, State, Type, Vector, adopted, conflicts, reissue,
};

use super::expected::Expected;
use super::plain::Written;
use super::streams::Streams;
use super::{Isle, Turn, sent};
use crate::apply::Work;
use crate::layout::count;
use crate::refusal::Refusal;

/// A key as it is here and there.
type Both = BTreeMap<Bytes, (Turn, State)>;

impl Isle {
    /// The slot under which it goes on, if its own does not, it has an heir, and the open session
    /// is whole and has all that counts.
    fn heir_for(&self, is_whole: bool) -> Option<Slot> {
        let session = self.island.session()?;
        let limits = self.limits(&session.vector());
        let may_be =
            is_whole && self.may_take(session) && self.absent(&limits).may_adopt(&session.vector());
        let own = self.island.slot();
        let heir = self.charter.roster()?.members.heir(own)?;
        // Who has something of the heir knows that this site is back, and another told its log so.
        let is_back = session.vector().seq(heir) > 0 || self.charter.stops().contains_key(&heir);
        (may_be && !is_back && heir != own).then_some(heir)
    }

    /// Whether what the other side of a session has may be taken in. Who was left out and is taken in again takes it in
    /// place of its own: up to where it had stopped a slot before is of no account.
    pub(super) fn may_take(&self, session: &Session) -> bool {
        let own = self.island.slot();
        let members = self.charter.roster().map(|it| &it.members);
        let returns = members.filter(|it| it.heir(own).is_some_and(|heir| heir != own));
        match returns {
            Some(members) => members.lets_in_all(&session.vector()),
            None => self.island.may_join(session),
        }
    }

    /// Up to where slots count that do not go on, as far as the other side has them: what was
    /// handed to this site alone counts for nobody.
    fn limits(&self, told: &Vector) -> BTreeMap<Slot, u64> {
        let limits = self.charter.limits().into_iter();
        limits
            .map(|(slot, limit)| (slot, limit.min(told.seq(slot))))
            .collect()
    }

    fn absent<'a>(&'a self, limits: &'a BTreeMap<Slot, u64>) -> Absent<'a> {
        Absent {
            slot: self.island.slot(),
            vector: self.island.vector(),
            limits,
        }
    }

    /// Whether this site came back before, and what it made again then counts: these data are a copy of before that.
    fn was_back(&self, told: &Vector) -> bool {
        let own = self.island.slot();
        let members = self.charter.roster().map(|it| &it.members);
        let mut heirs = members.into_iter().flat_map(|it| it.heirs(own));
        heirs.any(|it| told.seq(it) > 0)
    }

    /// Since when a slot counts.
    fn since(&self, slot: Slot) -> u64 {
        let roster = self.charter.roster();
        let since = roster.and_then(|it| it.members.active().get(&slot));
        since.copied().unwrap_or_default()
    }

    /// What the other side of the open session has, as its own.
    fn adopt(&self, heir: Slot, newest: Hlc) -> Island {
        let roster = self.charter.roster().expect("it has an heir");
        let session = self.island.session().expect("it is open");
        let now = Hlc::of_unix_ms(self.unix_ms);
        let newest = newest.max(self.island.hlc().min(now));
        let mut island = adopted(&roster.members, heir, session.tips.clone(), newest);
        island.follow(roster.members.epoch(), self.charter.limits());
        island
    }

    /// What is made again of all keys, and what of each is not.
    fn made_again(&self, both: &Both) -> (Vec<Made>, Vec<(Bytes, Vec<Party>)>) {
        let session = self.island.session().expect("it is open");
        let limits = self.limits(&session.vector());
        let absent = self.absent(&limits);
        let is_another_story = self.is_another_story(&session.vector(), &absent, both);
        let none = Vector::new();
        let absent = Absent {
            vector: if is_another_story {
                &none
            } else {
                absent.vector
            },
            ..absent
        };
        let was_back = self.was_back(&session.vector());
        let (mut all, mut left_out) = (Vec::new(), Vec::new());
        for (key, (turn, theirs)) in both {
            let mut made = if was_back {
                absent.told((&turn.was, theirs))
            } else {
                absent.made(key, (&turn.was, theirs))
            };
            let mut losers = core::mem::take(&mut made.left_out);
            if is_another_story {
                losers.extend(strays(&absent, (&turn.was, theirs)));
            }
            all.push(made);
            if !losers.is_empty() {
                left_out.push((key.clone(), losers));
            }
        }
        (all, left_out)
    }
}

impl Work<'_> {
    pub(super) fn rebase(&mut self, id: u64, keys: u64) -> Result<(), Refusal> {
        if !self.is_open(id) {
            return Ok(());
        }
        let staged = self.staged();
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let Some(heir) = isle.heir_for(count(staged.len()) == keys) else {
            self.give_up(id);
            return Ok(());
        };
        let (both, newest) = self.both(staged)?;
        if newest.is_too_far_ahead(self.isle().unix_ms) {
            self.give_up(id);
            return Ok(());
        }
        self.clear_staged();
        let isle = self.isle.as_deref_mut().expect("it was asked for");
        let unix_ms = isle.unix_ms;
        let (made, left_out) = isle.made_again(&both);
        let session = isle.island.session().expect("it is open");
        isle.charter.adopt(&session.vector());
        isle.keep_charter(self.store);
        let adopted = isle.adopt(heir, newest);
        let mut island = adopted.clone();
        let reissued = reissue(&mut island, made, Hlc::of_unix_ms(unix_ms));
        let stamp = Stamp::of(self.store.root().revision());
        let stamp = stamp.expect("I1: an island's revisions are stamps");
        self.store.begin_at(stamp.moved(heir, isle.since(heir)));
        let kind = isle.config.rules.kind;
        let (turns, met) = changed(kind, both, (&reissued, left_out));
        isle.streams = Streams::new(isle.config.updates_bytes_max, adopted.vector());
        isle.expected = Expected::default();
        isle.island = island;
        isle.applied.push(Applied::Rebased(Box::new(adopted)));
        for sealed in reissued {
            isle.keep(sealed);
        }
        self.show(turns, unix_ms);
        let revision = self.store.root().revision();
        let isle = self.isle();
        isle.written = Written::new(revision, isle.island.vector());
        self.remember_met(met, unix_ms);
        Ok(())
    }

    /// The keys that differ, and the latest time of what the other side has.
    fn both(&mut self, staged: BTreeMap<Bytes, Bytes>) -> Result<(Both, Hlc), Refusal> {
        let (mut both, mut newest) = (Both::new(), Hlc::default());
        for (key, state) in staged {
            let theirs = sent(state)?;
            newest = theirs.newest().map_or(newest, |it| it.hlc.max(newest));
            let turn = self.turn(&key)?;
            both.insert(key, (turn, theirs));
        }
        Ok((both, newest))
    }
}

/// What keys become: what the other side has, and on top of it what is made again. And what met there.
fn changed(
    kind: Type,
    both: Both,
    (reissued, left_out): (&[Sealed], Vec<(Bytes, Vec<Party>)>),
) -> (BTreeMap<Bytes, Turn>, Vec<Conflict>) {
    let (mut turns, mut met) = (BTreeMap::new(), Vec::new());
    for (key, (mut turn, theirs)) in both {
        turn.is = theirs;
        turns.insert(key, turn);
    }
    for sealed in reissued {
        for change in &sealed.update.changes {
            let key = change.key().expect("it is made again of one key");
            let turn: &mut Turn = turns.get_mut(key).expect("it differs");
            let before = turn.is.clone();
            change.apply(&sealed.update, &mut turn.is);
            let cause = Cause::Update(&sealed.update, change);
            met.extend(conflicts(kind, key, (&before, &turn.is), cause, None));
        }
    }
    for (key, losers) in left_out {
        let after = turns.get(&key).map(|it| it.is.clone());
        let after = after.unwrap_or_default();
        met.push(Conflict::left_out(kind, &key, &after, losers));
    }
    turns.retain(|_, turn| turn.is != turn.was);
    (turns, met)
}

/// The slot's own numbers with their times, as far as both sides may have them.
fn own_times<'a>(absent: &'a Absent<'_>, state: &'a State) -> impl Iterator<Item = (u64, Hlc)> {
    let own = state.siblings().iter();
    let own = own.filter(|it| it.dot.slot == absent.slot && !absent.is_beyond(it.dot));
    own.map(|it| (it.dot.seq, it.hlc))
}

/// Writes of another story under names that count for others. They are told.
fn strays(absent: &Absent<'_>, (ours, theirs): (&State, &State)) -> Vec<Party> {
    let is_there = |dot: Dot, hlc| {
        let mut all = theirs.siblings().iter();
        all.any(|it| it.dot == dot && it.hlc == hlc)
    };
    let own = ours.siblings().iter();
    let own = own.filter(|it| it.dot.slot == absent.slot && !absent.is_beyond(it.dot));
    let own = own.filter(|it| !is_there(it.dot, it.hlc));
    own.map(|it| {
        let (dot, hlc) = (it.dot, it.hlc);
        Party::new(Mark { dot, hlc }, &it.value)
    })
    .collect()
}

impl Isle {
    /// Whether this site has another story of its slot than the one that counts: its data was set
    /// back to an older copy. Then its numbers up to F say nothing about what it has seen.
    fn is_another_story(&self, told: &Vector, absent: &Absent<'_>, both: &Both) -> bool {
        let own = self.island.slot();
        let roster = self.charter.roster();
        let frozen = roster.and_then(|it| it.members.frozen().get(&own));
        let tip = self.island.tips().get(&own).cloned().unwrap_or_default();
        let is_short = tip.seq < told.seq(own);
        let is_other = frozen.is_some_and(|it| it.through == tip.seq && it.chain != tip.chain);
        // In one story a later number has a later time.
        let ours = both
            .values()
            .flat_map(|(turn, _)| own_times(absent, &turn.was));
        let theirs = both
            .values()
            .flat_map(|(_, theirs)| own_times(absent, theirs));
        let mut times: Vec<(u64, Hlc)> = ours.chain(theirs).collect();
        times.sort_unstable();
        times.dedup();
        let falls = times
            .windows(2)
            .any(|it| it[0].0 == it[1].0 || it[0].1 >= it[1].1);
        is_short || is_other || falls
    }
}
