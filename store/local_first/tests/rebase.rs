//! Every small world in which a site is left out, writes on and comes back: what it made again
//! must come to what its updates would have, had they counted. Mistakes are planted and found.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use holm_local_first::{
    Absent, Chain, Change, Dot, Exists, Foretold, ForetoldKind, Hlc, Intake, Island, Made, Members,
    Rules, Sealed, Slot, State, Type, Update, Vector, Write, adopted, reissue,
};

#[expect(dead_code, reason = "what is forgotten is for other worlds")]
mod twins;

use twins::{Twin, bodies, rules, slot};

/// Two that stay, and one that is left out and comes back as 4.
const STAYS: [usize; 2] = [0, 1];
const AWAY: usize = 2;
const OLD: u8 = 3;
const HEIR: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// What is made again has the time of now.
    NewTime,
    /// It saw all that its site had.
    NewContext,
    /// It saw nothing.
    NoContext,
    /// It is made a second time.
    Twice,
    /// What its site removed is not.
    NothingRemoved,
    /// Its keys are joined with those of the group.
    Merges,
}

#[derive(Clone, Debug)]
struct Site {
    island: Island,
    state: State,
}

#[derive(Clone)]
struct Place {
    sites: Vec<Site>,
    /// What each made, the one that is left out too.
    made: Vec<Sealed>,
    /// How much of it counts, once that is decided.
    through: Option<u64>,
    /// What it made again, and how much it had made by then.
    again: Vec<Sealed>,
    until: u64,
    is_back: bool,
}

fn key() -> Bytes {
    Bytes::from("k")
}

fn table(through: u64) -> Members {
    let members = Members::new([1, 2, OLD].map(|it| (slot(it), 0)));
    let without = members.let_go(slot(OLD), through, Chain::default());
    let back = without.and_then(|it| it.taken_back(slot(OLD), slot(HEIR), 0));
    back.expect("the slots are new")
}

fn limits(through: u64) -> BTreeMap<Slot, u64> {
    BTreeMap::from([(slot(OLD), through)])
}

/// What a key holds, where some updates have other names than they had: those go without.
fn content_of(state: &State, is_renamed: &dyn Fn(Dot) -> bool) -> Vec<String> {
    let additions = state.deltas().iter();
    let additions = additions.map(|it| (it.dot.slot, it.dot.seq, it.amount));
    let twin = Twin {
        wholes: state.siblings().to_vec(),
        additions: additions.collect(),
        rows: state.rows().to_vec(),
        markers: state.markers().to_vec(),
    };
    content(&twin, is_renamed)
}

fn content(twin: &Twin, is_renamed: &dyn Fn(Dot) -> bool) -> Vec<String> {
    let name = |dot: Dot| {
        if is_renamed(dot) {
            String::new()
        } else {
            dot.to_string()
        }
    };
    let mut all = Vec::new();
    for it in &twin.wholes {
        all.push(format!("{} {} {:?}", name(it.dot), it.hlc, it.value));
    }
    for it in &twin.rows {
        let what = (&it.path, it.node, &it.value);
        all.push(format!("{} {} {what:?}", name(it.dot), it.hlc));
    }
    for it in &twin.markers {
        all.push(format!("marker {} {}", name(it.dot), it.hlc));
    }
    let mut sum = 0;
    for (slot, seq, amount) in &twin.additions {
        let dot = Dot {
            slot: *slot,
            seq: *seq,
        };
        if is_renamed(dot) {
            sum += amount;
        } else {
            all.push(format!("{dot} {amount}"));
        }
    }
    all.push(format!("sum {sum}"));
    all.sort();
    all
}

fn carry_out(sealed: &Sealed, state: &mut State) {
    let changes = sealed.update.changes.iter();
    changes.for_each(|it| it.apply(&sealed.update, state));
}

/// A change that was made again, with a mistake in it.
/// What was known before is all that is made again, but for what only shows beside the group's keys:
/// what was removed.
fn assert_foretold(foretold: &[Foretold], made: &Made) {
    let changes = made.changes.iter().chain(&made.erases).chain(&made.more);
    let written = changes.filter_map(|it| match it {
        Change::Again { hlc, change, .. } => match &**change {
            Change::Delete { .. } => None,
            Change::Paths { writes, .. } if matches!(writes[..], [Write::Remove(_)]) => None,
            _written => Some(*hlc),
        },
        other => panic!("{other:?} is as of now"),
    });
    let told = made.left_out.iter().map(|it| it.hlc);
    let written: BTreeSet<Hlc> = written.chain(told).collect();
    let known: BTreeSet<Hlc> = foretold.iter().map(|it| it.party.hlc).collect();
    assert_eq!(known, written, "{foretold:?} {made:?}");
}

fn mistaken(mistake: Mistake, all: &Vector, change: Change) -> Change {
    let Change::Again { seen, hlc, change } = change else {
        return change;
    };
    let (mut seen, mut hlc) = (seen, hlc);
    match mistake {
        Mistake::NewTime => hlc = Hlc::of_unix_ms(5_000),
        Mistake::NewContext => seen = all.clone(),
        Mistake::NoContext => seen = Vector::new(),
        Mistake::None | Mistake::Twice | Mistake::NothingRemoved | Mistake::Merges => {}
    }
    Change::Again { seen, hlc, change }
}

impl Place {
    fn new() -> Self {
        let site = |own| Site {
            island: Island::new(slot(own), 1),
            state: State::new(),
        };
        Self {
            sites: [1, 2, OLD].map(site).into(),
            made: Vec::new(),
            through: None,
            again: Vec::new(),
            until: 0,
            is_back: false,
        }
    }

    fn make(&self, at: usize, change: Change) -> Self {
        let mut next = self.clone();
        let site = &mut next.sites[at];
        // The second site's clock is behind.
        let unix_ms = if at == 1 { 5 } else { 1_000 };
        let sealed = site.island.originate(vec![change], unix_ms);
        carry_out(&sealed, &mut site.state);
        next.made.push(sealed);
        next
    }

    fn take(&self, at: usize, sealed: &Sealed) -> Option<Self> {
        let Intake::Next(found) = self.sites[at].island.judge(&sealed.bytes, 9_000) else {
            return None;
        };
        let mut next = self.clone();
        let site = &mut next.sites[at];
        site.island.take(&found);
        carry_out(&found, &mut site.state);
        Some(next)
    }

    /// It is decided how much of the third counts: the most that one of the others has.
    fn leave_out(&self) -> Self {
        let mut next = self.clone();
        let seq = |at: usize| self.sites[at].island.vector().seq(slot(OLD));
        let through = seq(0).max(seq(1));
        next.through = Some(through);
        for at in STAYS {
            let island = &mut next.sites[at].island;
            island.follow(table(through).epoch(), limits(through));
        }
        next
    }

    fn come_back(&self, from: usize, mistake: Mistake) -> Option<Self> {
        let limits = limits(self.through?);
        let (old, group) = (&self.sites[AWAY], &self.sites[from]);
        let absent = Absent {
            slot: old.island.slot(),
            vector: old.island.vector(),
            limits: &limits,
        };
        if self.is_back || !absent.may_adopt(group.island.vector()) {
            return None;
        }
        let made = absent.made(&key(), (&old.state, &group.state));
        assert_foretold(&absent.foretold(&old.state), &made);
        let members = table(self.through?);
        let (tips, newest) = (group.island.tips().clone(), group.island.hlc());
        let mut island = adopted(&members, slot(HEIR), tips, newest);
        island.follow(members.epoch(), limits.clone());
        let mut state = group.state.clone();
        if mistake == Mistake::Merges {
            let (ours, theirs) = (old.island.vector(), group.island.vector());
            state = State::joined((&old.state, ours), (&group.state, theirs));
        }
        let keep = |it: Change| {
            let is_removal = matches!(&it, Change::Again { change, .. }
                if matches!(**change, Change::Delete { .. }));
            let is_left = mistake == Mistake::NothingRemoved && is_removal;
            (!is_left).then(|| mistaken(mistake, island.vector(), it))
        };
        let made = Made {
            changes: made.changes.into_iter().filter_map(keep).collect(),
            erases: made.erases,
            ..Made::default()
        };
        let times = if mistake == Mistake::Twice { 2 } else { 1 };
        let mut next = self.clone();
        for _ in 0..times {
            let again = reissue(&mut island, vec![made.clone()], Hlc::new(u64::MAX));
            again.iter().for_each(|it| carry_out(it, &mut state));
            next.again.extend(again);
        }
        next.until = old.island.vector().seq(slot(OLD));
        next.is_back = true;
        next.sites[AWAY] = Site { island, state };
        Some(next)
    }

    /// What the updates behind a vector come to, had all of the third counted.
    fn expected(&self, at: usize) -> Twin {
        let vector = self.sites[at].island.vector();
        let again = u64::try_from(self.again.len()).expect("it is small");
        let is_told = again > 0 && vector.seq(slot(HEIR)) >= again;
        let has_again = is_told || (self.is_back && at == AWAY);
        let is_here = |update: &&Update| {
            let dot = update.dot;
            let was_away = has_again && dot.slot == slot(OLD);
            vector.covers(dot) || (was_away && dot.seq <= self.until)
        };
        let as_it_was = |update: &Update| {
            let mut update = update.clone();
            if again > 0 && update.deps.seq(slot(HEIR)) >= again {
                update.deps.raise(slot(OLD), self.until);
            }
            update
        };
        let all = self.made.iter().map(|it| &it.update).filter(is_here);
        let all: Vec<Update> = all.map(as_it_was).collect();
        Twin::new(&all.iter().collect::<Vec<_>>(), &key())
    }

    fn wrong(&self) -> Option<String> {
        let again = u64::try_from(self.again.len()).expect("it is small");
        let has_part = |it: &Vector| (1..again).contains(&it.seq(slot(HEIR)));
        if self.made.iter().any(|it| has_part(&it.update.deps)) {
            // It saw a part of what were several updates and are two: there is no twin of that.
            return None;
        }
        for (at, site) in self.sites.iter().enumerate() {
            let vector = site.island.vector();
            if has_part(vector) {
                continue;
            }
            let through = self.through.unwrap_or(u64::MAX);
            let is_renamed = |dot: Dot| {
                let was = dot.slot == slot(OLD) && dot.seq > through;
                was || (dot.slot == slot(HEIR) && dot.seq <= again)
            };
            let expected = content(&self.expected(at), &is_renamed);
            let found = content_of(&site.state, &is_renamed);
            if expected != found {
                let all = self.made.iter().chain(&self.again).map(|it| &it.update);
                let all = all.map(|it| format!("{} saw {}: {:?}", it.dot, it.deps, it.changes));
                return Some(format!(
                    "site {at} at {vector}, of 3 {through}: {found:?}, not {expected:?}\n{}",
                    all.collect::<Vec<_>>().join("\n")
                ));
            }
            let bytes = site.state.encode();
            assert_eq!(State::decode(bytes).as_ref(), Ok(&site.state));
        }
        None
    }

    fn name(&self) -> u64 {
        let chains: Vec<_> = self.made.iter().map(|it| it.chain.0[0]).collect();
        let site = |it: &Site| format!("{}|{:?}", it.island.vector(), it.state.encode());
        let sites: Vec<String> = self.sites.iter().map(site).collect();
        let mut hasher = DefaultHasher::new();
        (chains, self.through, self.is_back, sites).hash(&mut hasher);
        hasher.finish()
    }

    fn next(&self, rules: &Rules, most: usize, mistake: Mistake) -> Vec<Self> {
        let mut next = Vec::new();
        for at in 0..3 {
            // Of those that stay one writes; the other hears of all in any order.
            if self.made.len() < most && at != 1 {
                let kinds = bodies(rules.kind);
                for body in &kinds[usize::from(at == 0 && kinds.len() > 2)..] {
                    let put = (key(), 0, Bytes::from_static(body.as_bytes()));
                    let change = rules.put(&self.sites[at].state, put).expect("it fits");
                    next.push(self.make(at, change));
                }
                next.push(self.make(at, rules.delete(key())));
            }
            let all = self.made.iter().chain(&self.again);
            next.extend(all.filter_map(|it| self.take(at, it)));
        }
        if self.through.is_none() {
            next.push(self.leave_out());
        } else {
            next.extend(STAYS.iter().filter_map(|at| self.come_back(*at, mistake)));
        }
        next
    }
}

fn explore(
    (kind, exists): (Type, Exists),
    most: usize,
    mistake: Mistake,
) -> Result<(usize, usize), String> {
    let rules = rules(kind, exists);
    let (mut seen, mut backs) = (BTreeSet::new(), 0);
    let mut waiting = vec![Place::new()];
    while let Some(place) = waiting.pop() {
        for next in place.next(&rules, most, mistake) {
            if seen.insert(next.name()) {
                if let Some(wrong) = next.wrong() {
                    return Err(wrong);
                }
                backs += usize::from(next.is_back && !next.again.is_empty());
                waiting.push(next);
            }
        }
    }
    Ok((seen.len(), backs))
}

fn all_is_well(kind: Type, exists: Exists, most: usize, least: usize) {
    let found = explore((kind, exists), most, Mistake::None);
    let (places, backs) = found.unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(backs > least, "{backs} of {places}");
}

#[test]
fn what_was_put_and_deleted_comes_to_what_it_would_have() {
    all_is_well(Type::Lww, Exists::AddWins, 3, 1_000);
}

#[test]
fn what_was_added_comes_to_what_it_would_have() {
    all_is_well(Type::Counter, Exists::AddWins, 3, 1_000);
}

#[test]
fn what_was_changed_of_a_document_comes_to_what_it_would_have() {
    all_is_well(Type::Json, Exists::AddWins, 3, 1_000);
}

#[test]
fn where_deletes_win_it_comes_to_what_it_would_have() {
    all_is_well(Type::Lww, Exists::DeleteWins, 3, 1_000);
}

#[test]
fn each_mistake_of_a_site_that_comes_back_is_found() {
    for mistake in [
        Mistake::NewTime,
        Mistake::NewContext,
        Mistake::NoContext,
        Mistake::Twice,
        Mistake::NothingRemoved,
        Mistake::Merges,
    ] {
        let found = explore((Type::Lww, Exists::AddWins), 3, mistake);
        assert!(found.is_err(), "{mistake:?} is not found");
    }
}

fn vector(all: &[(u8, u64)]) -> Vector {
    let mut vector = Vector::new();
    all.iter()
        .for_each(|(of, seq)| vector.raise(slot(*of), *seq));
    vector
}

fn numbered(changes: &[Change]) -> Vec<(u64, Change)> {
    let of = |change: &Change| match change {
        Change::Again { hlc, change, .. } => (hlc.unix_ms(), (**change).clone()),
        other => panic!("{other:?} is as of now"),
    };
    changes.iter().map(of).collect()
}

#[test]
fn a_base_that_saw_a_part_of_what_was_added_up_since_is_told_and_not_made() {
    let (mut one, mut away) = (Island::new(slot(1), 1), Island::new(slot(OLD), 1));
    let add = |amount| Change::Add { key: key(), amount };
    let (mut group, mut ours) = (State::new(), State::new());
    let added = [5, 6].map(|amount| one.originate(vec![add(amount)], 7));
    added.iter().for_each(|it| carry_out(it, &mut group));
    away.take(&added[0]);
    carry_out(&added[0], &mut ours);
    let put = Change::Put {
        key: key(),
        lease: 0,
        value: Bytes::from("100"),
    };
    for change in [put, add(1)] {
        carry_out(&away.originate(vec![change], 9), &mut ours);
    }
    let limits = limits(0);
    let absent = Absent {
        slot: slot(OLD),
        vector: away.vector(),
        limits: &limits,
    };
    let whole = absent.made(&key(), (&ours, &group));
    assert_eq!(
        numbered(&whole.changes).len(),
        2,
        "the base and the addition"
    );
    assert_eq!(whole.left_out, []);
    // The group has folded what it has.
    group.settle(&vector(&[(1, 2)]));
    let part = absent.made(&key(), (&ours, &group));
    assert_eq!(numbered(&part.changes), [(9, add(1))]);
    assert_eq!(part.left_out[0].value, Bytes::from("100"));
}

#[test]
fn additions_become_as_few_as_hold_their_sum() {
    let (mut away, mut ours) = (Island::new(slot(OLD), 1), State::new());
    for amount in [1, i64::MAX - 3, 1, 5, -2] {
        let add = Change::Add { key: key(), amount };
        carry_out(&away.originate(vec![add], 9), &mut ours);
    }
    let limits = limits(0);
    let absent = Absent {
        slot: slot(OLD),
        vector: away.vector(),
        limits: &limits,
    };
    let made = absent.made(&key(), (&ours, &State::new()));
    assert_eq!((made.changes.len(), made.more.len()), (1, 1));
    let mut island = adopted(&table(0), slot(HEIR), BTreeMap::new(), Hlc::default());
    let mut state = State::new();
    let again = reissue(&mut island, vec![made], Hlc::new(u64::MAX));
    again.iter().for_each(|it| carry_out(it, &mut state));
    assert_eq!(
        Type::Counter.shown(&ours),
        Type::Counter.shown(&state).map(|mut it| {
            it.mark = Type::Counter.shown(&ours).expect("it counts").mark;
            it
        })
    );
    assert_eq!(again.len(), 2);
}

#[test]
fn what_was_one_update_mostly_stays_one_and_no_time_is_later_than_allowed() {
    let put = |key: &str, value: &str| Change::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        lease: 0,
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    let mut away = Island::new(slot(OLD), 1);
    let mut keys: BTreeMap<Bytes, State> = BTreeMap::new();
    let long = "x".repeat(1 << 20);
    let all = [("a", "c", &*long), ("b", "d", &*long), ("e", "f", &*long)];
    for (at, (one, other, value)) in all.into_iter().enumerate() {
        let unix_ms = 10 - u64::try_from(at).expect("small");
        let sealed = away.originate(vec![put(one, value), put(other, value)], unix_ms);
        for change in &sealed.update.changes {
            let (key, ..) = change.put().expect("it is a put");
            change.apply(&sealed.update, keys.entry(key.clone()).or_default());
        }
    }
    let limits = limits(0);
    let absent = Absent {
        slot: slot(OLD),
        vector: away.vector(),
        limits: &limits,
    };
    let none = State::new();
    let made = keys.iter().map(|(key, it)| absent.made(key, (it, &none)));
    let mut island = adopted(&table(0), slot(HEIR), BTreeMap::new(), Hlc::default());
    let again = reissue(&mut island, made.collect(), Hlc::of_unix_ms(9));
    let keys = |it: &Sealed| -> Vec<String> {
        let changes = it.update.changes.iter();
        let named = changes.filter_map(|it| match it {
            Change::Again { change, .. } => change.put().map(|it| it.0.clone()),
            other => panic!("{other:?} is as of now"),
        });
        named
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .collect()
    };
    let found: Vec<Vec<String>> = again.iter().map(keys).collect();
    assert_eq!(found.concat().len(), 6, "{found:?}");
    assert!(
        again.len() > 1 && found.iter().all(|it| it.len() <= 3),
        "{found:?}"
    );
    assert!(again.iter().all(|it| it.update.is_reissued));
    let latest = Hlc::of_unix_ms(9);
    assert!(again.iter().all(|it| it.update.hlc <= latest));
    for sealed in &again {
        assert!(sealed.bytes.len() <= holm_local_first::UPDATE_MAX);
    }
}

#[test]
fn what_is_foretold_is_what_counts_for_nobody_and_additions_are_one() {
    let (mut away, mut other) = (Island::new(slot(OLD), 1), Island::new(slot(2), 1));
    let mut state = State::new();
    let add = |amount| Change::Add { key: key(), amount };
    let put = Change::Put {
        key: key(),
        lease: 0,
        value: Bytes::from("100"),
    };
    for change in [put, add(4), add(7), add(-1)] {
        carry_out(&away.originate(vec![change], 9), &mut state);
    }
    for amount in [20, 1] {
        let sealed = other.originate(vec![add(amount)], 9);
        away.take(&sealed);
        carry_out(&sealed, &mut state);
    }
    let limits = BTreeMap::from([(slot(OLD), 2), (slot(2), 0)]);
    let absent = Absent {
        slot: slot(OLD),
        vector: away.vector(),
        limits: &limits,
    };
    let found = absent.foretold(&state);
    let found = found.iter().map(|it| {
        assert_eq!(it.kind, ForetoldKind::Add);
        (it.party.dot.to_string(), it.party.value.clone())
    });
    let of = |slot: u8, seq: u64| {
        Dot {
            slot: self::slot(slot),
            seq,
        }
        .to_string()
    };
    let expected = [(of(2, 2), "+21"), (of(OLD, 4), "+6")];
    let expected = expected.map(|(dot, sum)| (dot, Bytes::from(sum)));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn that_a_site_was_back_is_known_by_what_counts_of_a_later_slot() {
    let chain = Chain::default();
    let back = table(1);
    assert!(!back.was_back(slot(OLD)), "that is not known");
    for (through, is_known) in [(0, false), (3, true)] {
        let gone = back.let_go(slot(HEIR), through, chain).expect("two stay");
        assert_eq!(gone.was_back(slot(OLD)), is_known);
        assert!(!gone.was_back(slot(HEIR)), "these are its newest data");
        let again = gone.taken_back(slot(OLD), slot(9), 0).expect("9 is new");
        assert_eq!(again.was_back(slot(OLD)), is_known);
    }
}
