//! Types of value on random histories: three islands that write, exchange updates, hold sessions
//! and forget, against a twin that keeps all updates and knows no vector but what each saw.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use holm_base::Prng;
use holm_local_first::{
    Change, Delta, Exists, Hlc, Intake, Island, Rules, Sealed, Session, Slot, Stability, State,
    Type, Update, Vector,
};

#[expect(dead_code, reason = "what clients may put is for small worlds")]
mod twins;

use twins::{Twin, rules, slot, touched};

type Keys = BTreeMap<Bytes, State>;

/// A mistake of an engine, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// What everybody acknowledged counts as stable, whatever may be under way.
    CutForStability,
    /// A put takes the markers away that it saw.
    PutRemovesMarker,
    /// A site's additions are one total, as the usual counter has it.
    CounterOfTotals,
    /// States are joined by keeping what either side has.
    JoinedWithoutVectors,
    /// Of several changes only the first is carried out.
    HalfTaken,
    /// A site that comes back from an old copy numbers its updates again.
    DotsReused,
}

struct Site {
    island: Island,
    keys: Keys,
    stability: Stability,
    /// What was forgotten as stable.
    settled: Vector,
    pinned: Option<(Slot, Session, Keys)>,
}

struct World {
    rules: Rules,
    mistake: Mistake,
    sites: BTreeMap<Slot, Site>,
    all: Vec<Sealed>,
    /// Who reported what to whom, in order.
    reports: BTreeMap<(Slot, Slot), Vec<Vector>>,
    prng: Prng,
    folds: usize,
    breaks: usize,
    sessions: usize,
}

const SITES: [u8; 3] = [1, 2, 3];

impl World {
    fn new(rules: Rules, seed: u64, mistake: Mistake) -> Self {
        let all = SITES.map(slot);
        let site = |own: Slot| Site {
            island: Island::new(own, 1),
            keys: Keys::new(),
            stability: Stability::new(all.into_iter().filter(|it| *it != own)),
            settled: Vector::new(),
            pinned: None,
        };
        Self {
            rules,
            mistake,
            sites: all.map(|own| (own, site(own))).into(),
            all: Vec::new(),
            reports: BTreeMap::new(),
            prng: Prng::new(seed | 1),
            folds: 0,
            breaks: 0,
            sessions: 0,
        }
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("small");
        usize::try_from(self.prng.below(count)).expect("small")
    }

    fn body(&mut self) -> Bytes {
        let number = self.below(90);
        Bytes::from(match self.rules.kind {
            Type::Lww | Type::Mv | Type::Set => format!("v{number}"),
            Type::Counter => match self.below(6) {
                0 => format!("{number}"),
                1 => format!("-{number}"),
                _ => format!("+{number}"),
            },
            Type::Json => self.document(0),
        })
    }

    fn document(&mut self, depth: usize) -> String {
        let number = self.below(4);
        if depth > 0 && (depth == 3 || self.below(3) == 0) {
            return [
                format!("{number}"),
                format!("\"t{number}\""),
                "[1, 2]".into(),
                "null".into(),
            ][number]
                .clone();
        }
        let mut fields = Vec::new();
        for name in ["a", "b", "list", "set"] {
            let is_there = self.below(2) == 0;
            if is_there {
                let value = match name {
                    "list" => self.items("name"),
                    "set" => self.items(""),
                    _ => self.document(depth + 1),
                };
                fields.push(format!("\"{name}\": {value}"));
            }
        }
        format!("{{{}}}", fields.join(", "))
    }

    fn items(&mut self, key: &str) -> String {
        let mut items = Vec::new();
        for name in ["z", "y", "x"] {
            if self.below(2) == 0 {
                let value = self.below(3);
                items.push(if key.is_empty() {
                    format!("\"{name}\"")
                } else {
                    format!("{{\"{key}\":\"{name}\",\"v\":{value}}}")
                });
            }
        }
        format!("[{}]", items.join(","))
    }

    fn write(&mut self, own: Slot) {
        let count = 1 + self.below(2);
        let first = self.below(2);
        let mut changes = Vec::new();
        for at in 0..count {
            let key = Bytes::from(format!("k{}", (first + at) % 2));
            let body = self.body();
            let is_delete = self.below(5) == 0;
            let none = State::new();
            let state = self.sites[&own].keys.get(&key).unwrap_or(&none);
            changes.push(if is_delete {
                self.rules.delete(key)
            } else {
                let put = self.rules.put(state, (key, 0, body.clone()));
                let change = put.unwrap_or_else(|unfit| panic!("{body:?}: {unfit}"));
                if self.rules.kind != Type::Counter {
                    shows(&self.rules, state, &change, &body);
                }
                change
            });
        }
        self.breaks += changes
            .iter()
            .filter(|it| matches!(it, Change::Paths { .. }))
            .count();
        // The second site's clock is a year ahead, which its updates may not be held back for.
        let hour = u64::try_from(self.all.len()).expect("small");
        let ahead = if own == slot(2) { 31_536_000_000 } else { 0 };
        let site = self.sites.get_mut(&own).expect("it is there");
        let sealed = site.island.originate(changes, 1_000 + hour + ahead);
        self.all.push(sealed.clone());
        self.carry_out(own, &sealed.update);
    }

    fn carry_out(&mut self, own: Slot, update: &Update) {
        let mistake = self.mistake;
        let site = self.sites.get_mut(&own).expect("it is there");
        for change in &update.changes {
            let state = site.keys.entry(touched(change).clone()).or_default();
            change.apply(update, state);
            if mistake == Mistake::PutRemovesMarker && !state.is_gone() {
                state.settle(&update.deps);
            }
            if mistake == Mistake::CounterOfTotals
                && let Change::Add { amount, .. } = change
            {
                // The newest addition carries what its site added before, dropped or not.
                let all = self.all.iter().flat_map(|it| {
                    let of_key = it
                        .update
                        .changes
                        .iter()
                        .find(|it| touched(it) == touched(change));
                    of_key.map(|change| (it.update.dot, change.clone()))
                });
                let earlier = all.filter_map(|(dot, it)| match it {
                    Change::Add { amount, .. }
                        if dot.slot == update.dot.slot && dot.seq < update.dot.seq =>
                    {
                        Some(amount)
                    }
                    _other => None,
                });
                let total: i64 = earlier.sum::<i64>() + amount;
                let mut covered = Vector::new();
                covered.raise(update.dot.slot, update.dot.seq);
                let bases = state.siblings().to_vec();
                state.delete(&covered);
                bases
                    .into_iter()
                    .for_each(|it| state.put(&Vector::new(), it));
                let (dot, hlc, amount) = (update.dot, update.hlc, total);
                state.add(&update.deps, Delta { dot, hlc, amount });
            }
            if mistake == Mistake::HalfTaken {
                break;
            }
        }
        site.keys.retain(|_, state| !state.is_empty());
    }

    /// A site takes in the next update of another, if it can.
    fn take(&mut self, own: Slot, of: Slot) {
        let site = self.sites.get_mut(&own).expect("it is there");
        let seq = site.island.vector().seq(of) + 1;
        let found = |it: &&Sealed| it.update.dot.slot == of && it.update.dot.seq == seq;
        let Some(bytes) = self.all.iter().find(found).map(|it| it.bytes.clone()) else {
            return;
        };
        if let Intake::Next(sealed) = site.island.judge(&bytes, u64::MAX / 2) {
            site.island.take(&sealed);
            site.stability.advance(site.island.vector());
            self.carry_out(own, &sealed.update);
        }
    }

    /// The other side pins, and from here on nothing of others is taken in.
    fn pin(&mut self, own: Slot, of: Slot) {
        let other = &self.sites[&of];
        let session = Session {
            id: 1,
            tips: other.island.tips().clone(),
        };
        let keys = other.keys.clone();
        let site = self.sites.get_mut(&own).expect("it is there");
        if site.pinned.is_none() {
            site.island.begin(session.clone());
            site.pinned = Some((of, session, keys));
        }
    }

    fn install(&mut self, own: Slot) -> Result<(), String> {
        let mistake = self.mistake;
        let site = self.sites.get_mut(&own).expect("it is there");
        let Some((_, session, theirs)) = site.pinned.take() else {
            return Ok(());
        };
        let (seen, told) = (site.island.vector().clone(), session.vector());
        let nothing = Vector::new();
        let none = State::new();
        let all: BTreeSet<Bytes> = site.keys.keys().chain(theirs.keys()).cloned().collect();
        for key in all {
            let ours = site.keys.get(&key).cloned().unwrap_or_default();
            let other = theirs.get(&key).unwrap_or(&none);
            let other =
                State::decode(other.encode()).map_err(|error| format!("{error}: {other:?}"))?;
            let joined = if mistake == Mistake::JoinedWithoutVectors {
                State::joined((&ours, &nothing), (&other, &nothing))
            } else {
                State::joined((&ours, &seen), (&other, &told))
            };
            site.keys.insert(key, joined);
        }
        site.keys.retain(|_, state| !state.is_empty());
        site.island.install(session.id, Hlc::default());
        site.stability.advance(site.island.vector());
        self.sessions += 1;
        Ok(())
    }

    fn report(&mut self, from: Slot) {
        let vector = self.sites[&from].island.vector().clone();
        for to in SITES.map(slot) {
            if to != from {
                self.reports
                    .entry((from, to))
                    .or_default()
                    .push(vector.clone());
            }
        }
    }

    fn hear(&mut self, from: Slot, to: Slot) {
        let waiting = self.reports.entry((from, to)).or_default();
        if waiting.is_empty() {
            return;
        }
        let vector = waiting.remove(0);
        let site = self.sites.get_mut(&to).expect("it is there");
        site.stability
            .report(from, &vector, site.island.vector(), 0);
    }

    fn settle(&mut self, own: Slot) {
        let mistake = self.mistake;
        let site = self.sites.get_mut(&own).expect("it is there");
        let ours = site.island.vector();
        let stable = if mistake == Mistake::CutForStability {
            let mut cut = site.stability.cut(0, u64::MAX);
            cut.meet(ours);
            cut
        } else {
            site.stability.stable(ours)
        };
        site.settled.join(&stable);
        let runs = |site: &Site| site.keys.values().map(|it| it.runs().len()).sum::<usize>();
        let before = runs(site);
        site.keys
            .values_mut()
            .for_each(|state| state.settle(&stable));
        site.keys.retain(|_, state| !state.is_empty());
        self.folds += runs(site).saturating_sub(before);
    }

    /// A site ends and starts with what it kept.
    fn restart(&mut self, own: Slot) {
        let site = self.sites.get_mut(&own).expect("it is there");
        let kept = site.island.encode();
        site.island = Island::decode(&kept).expect("what was written can be read");
        assert_eq!(site.island.encode(), kept);
    }

    /// A site starts from an old copy and goes on as if it were the newest.
    fn forget_last(&mut self, own: Slot) {
        let last = self.all.iter().rposition(|it| it.update.dot.slot == own);
        let site = self.sites.get_mut(&own).expect("it is there");
        let Some(last) = last.filter(|_| site.pinned.is_none()) else {
            return;
        };
        let dot = self.all[last].update.dot;
        let mut fresh = Island::new(own, 1);
        let mut keys = Keys::new();
        let here = site.island.vector().clone();
        for it in self.all.iter().filter(|it| it.update.dot != dot) {
            if here.covers(it.update.dot) && fresh.vector().is_at_least(&it.update.deps) {
                fresh.take(it);
                for change in &it.update.changes {
                    change.apply(&it.update, keys.entry(touched(change).clone()).or_default());
                }
            }
        }
        (site.island, site.keys) = (fresh, keys);
    }

    fn wrong(&self, own: Slot) -> Option<String> {
        let site = &self.sites[&own];
        let vector = site.island.vector();
        let covered = self.all.iter().filter(|it| vector.covers(it.update.dot));
        let here: Vec<&Update> = covered.map(|it| &it.update).collect();
        let none = State::new();
        ["k0", "k1"].into_iter().find_map(|name| {
            let key = Bytes::from(name);
            let state = site.keys.get(&key).unwrap_or(&none);
            let wrong = Twin::new(&here, &key).wrong(state, &site.settled)?;
            Some(format!("site {own} at {vector}, {name}: {wrong}"))
        })
    }

    fn are_equal(&self) -> Result<(), String> {
        let digest = |site: &Site, name: &str| {
            let mut state = site.keys.get(name.as_bytes()).cloned().unwrap_or_default();
            if self.rules.exists == Exists::DeleteWins {
                // I5: equal but for unstable markers.
                state.settle(site.island.vector());
            }
            (state.digest(name.as_bytes()), self.rules.kind.shown(&state))
        };
        let first = &self.sites[&slot(1)];
        for site in self.sites.values() {
            for name in ["k0", "k1"] {
                if digest(site, name) != digest(first, name) {
                    let (one, other) = (
                        site.keys.get(name.as_bytes()),
                        first.keys.get(name.as_bytes()),
                    );
                    return Err(format!("{name}: {one:?} and {other:?}"));
                }
            }
        }
        Ok(())
    }
}

/// Without concurrent writes a site shows what was put, field by field.
fn shows(rules: &Rules, state: &State, change: &Change, body: &Bytes) {
    let mut island = Island::new(slot(9), 1);
    let mut covers = Vector::new();
    SITES
        .into_iter()
        .for_each(|it| covers.raise(slot(it), u64::MAX / 4));
    let mut update = island.originate(vec![change.clone()], 1 << 40).update;
    update.deps = covers;
    let mut after = state.clone();
    if !after.markers().is_empty() {
        return;
    }
    change.apply(&update, &mut after);
    let shown = rules.kind.shown(&after).expect("it was put").value;
    let alone = Rules::default();
    let parts = |bytes: &Bytes| {
        let rules = Rules {
            kind: rules.kind,
            schema: rules.schema.clone(),
            ..alone.clone()
        };
        rules
            .put(&State::new(), (Bytes::new(), 0, bytes.clone()))
            .map(|it| match it {
                Change::Paths { writes, .. } => {
                    writes.into_iter().map(|it| format!("{it:?}")).collect()
                }
                other => vec![format!("{other:?}").replace(' ', "")],
            })
    };
    let (one, other): (Vec<String>, Vec<String>) = (
        parts(&shown).expect("it fits"),
        parts(body).expect("it fits"),
    );
    // Places of items may differ; what there is may not.
    let names = |all: &[String]| -> BTreeSet<String> {
        all.iter()
            .map(|it| it.split(", b\"").next().unwrap_or(it).to_owned())
            .collect()
    };
    assert_eq!(names(&one), names(&other), "{shown:?} for {body:?}");
}

fn run(rules: &Rules, seed: u64, mistake: Mistake) -> Result<World, String> {
    let mut world = World::new(rules.clone(), seed, mistake);
    for _ in 0..160 {
        let own = slot(u8::try_from(1 + world.below(3)).expect("small"));
        let other = slot(u8::try_from(1 + world.below(3)).expect("small"));
        match world.below(28) {
            0..=4 => world.write(own),
            5..=11 if own != other => world.take(own, other),
            12 if own != other => world.pin(own, other),
            13 | 14 => world.install(own)?,
            15 | 20 | 21 => world.report(own),
            16 | 17 | 22..=25 if own != other => world.hear(own, other),
            26 => world.restart(own),
            18 if mistake == Mistake::DotsReused => world.forget_last(own),
            _ => world.settle(own),
        }
        for site in SITES.map(slot) {
            world.wrong(site).map_or(Ok(()), Err)?;
        }
    }
    for _ in 0..80 {
        for own in SITES.map(slot) {
            world.install(own)?;
            for other in SITES.map(slot) {
                world.take(own, other);
            }
        }
    }
    for site in SITES.map(slot) {
        let vector = world.sites[&site].island.vector();
        if !world.all.iter().all(|it| vector.covers(it.update.dot)) {
            return Err(format!("site {site} lacks something at {vector}"));
        }
        world.wrong(site).map_or(Ok(()), Err)?;
    }
    world.are_equal()?;
    Ok(world)
}

/// Every type, where writes or deletes win.
fn check_all(exists: Exists) {
    for kind in Type::ALL {
        let (mut folds, mut breaks, mut sessions) = (0, 0, 0);
        for seed in 0..60 {
            let world = run(&rules(kind, exists), seed, Mistake::None)
                .unwrap_or_else(|wrong| panic!("{kind}, seed {seed}: {wrong}"));
            folds += world.folds;
            breaks += world.breaks;
            sessions += world.sessions;
        }
        assert!(sessions > 100, "{kind}: {sessions}");
        assert!(kind != Type::Counter || folds > 5, "{folds} runs");
        assert!(
            kind != Type::Json || breaks > 200,
            "{breaks} documents in parts"
        );
    }
}

#[test]
fn random_histories_of_each_type_give_what_the_twin_gives() {
    check_all(Exists::AddWins);
}

#[test]
fn random_histories_give_what_the_twin_gives_where_deletes_win() {
    check_all(Exists::DeleteWins);
}

#[test]
fn each_mistake_with_a_type_is_found() {
    let counter = rules(Type::Counter, Exists::AddWins);
    let erasing = rules(Type::Lww, Exists::DeleteWins);
    let json = rules(Type::Json, Exists::AddWins);
    for (rules, mistake) in [
        (&counter, Mistake::CutForStability),
        (&erasing, Mistake::CutForStability),
        (&erasing, Mistake::PutRemovesMarker),
        (&counter, Mistake::CounterOfTotals),
        (&counter, Mistake::JoinedWithoutVectors),
        (&json, Mistake::JoinedWithoutVectors),
        (&json, Mistake::HalfTaken),
        (&counter, Mistake::DotsReused),
    ] {
        let found = (0..2_000).find(|seed| run(rules, *seed, mistake).is_err());
        assert!(
            found.is_some(),
            "{mistake:?} of {} is not found",
            rules.kind
        );
    }
}
