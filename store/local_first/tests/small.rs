//! Every small world of each type: three islands and a key, each order of making, taking in,
//! joining and forgetting; what is not taken in was dropped.

use std::collections::BTreeSet;

use bytes::Bytes;
use holm_local_first::{
    Change, Exists, Hlc, Intake, Island, Rules, Sealed, Session, Stability, State, Type, Update,
    Vector,
};

mod twins;

use twins::{Twin, bodies, rules, slot};

#[derive(Clone, Debug)]
struct Site {
    island: Island,
    state: State,
    stability: Stability,
    settled: Vector,
}

#[derive(Clone)]
struct Place {
    sites: Vec<Site>,
    made: Vec<Sealed>,
    reports: usize,
}

/// Which steps there are.
#[derive(Clone, Copy, Debug)]
struct Steps {
    made_max: usize,
    /// How often the first site hears how far the others are; then it forgets, too.
    reports_max: usize,
}

fn key() -> Bytes {
    Bytes::from("k")
}

impl Place {
    fn new() -> Self {
        let all = [1, 2, 3].map(slot);
        let site = |own| Site {
            island: Island::new(own, 1),
            state: State::new(),
            stability: Stability::new(all.into_iter().filter(|it| *it != own)),
            settled: Vector::new(),
        };
        Self {
            sites: all.map(site).into(),
            made: Vec::new(),
            reports: 0,
        }
    }

    fn make(&self, at: usize, change: Change) -> Self {
        let mut next = self.clone();
        let site = &mut next.sites[at];
        // The second site's clock is behind.
        let unix_ms = if at == 1 { 5 } else { 1_000 };
        let sealed = site.island.originate(vec![change], unix_ms);
        sealed.update.changes[0].apply(&sealed.update, &mut site.state);
        next.made.push(sealed);
        next
    }

    fn take(&self, at: usize, sealed: &Sealed) -> Option<Self> {
        let mut next = self.clone();
        let site = &mut next.sites[at];
        let Intake::Next(found) = site.island.judge(&sealed.bytes, 1_000) else {
            return None;
        };
        site.island.take(&found);
        site.stability.advance(site.island.vector());
        found.update.changes[0].apply(&found.update, &mut site.state);
        Some(next)
    }

    fn join(&self, at: usize, from: usize) -> Self {
        let mut next = self.clone();
        let other = self.sites[from].clone();
        let session = Session {
            id: 1,
            tips: other.island.tips().clone(),
        };
        let site = &mut next.sites[at];
        let (seen, told) = (site.island.vector().clone(), session.vector());
        site.state = State::joined((&site.state, &seen), (&other.state, &told));
        site.island.begin(session);
        site.island.install(1, Hlc::default());
        site.stability.advance(site.island.vector());
        next
    }

    /// A site hears how far another is.
    fn report(&self, at: usize, from: usize) -> Self {
        let mut next = self.clone();
        next.reports += 1;
        let island = &self.sites[from].island;
        let site = &mut next.sites[at];
        site.stability
            .report(island.slot(), island.vector(), site.island.vector(), 0);
        next
    }

    fn settle(&self, at: usize) -> Self {
        let mut next = self.clone();
        let site = &mut next.sites[at];
        let stable = site.stability.stable(site.island.vector());
        site.state.settle(&stable);
        site.settled.join(&stable);
        next
    }

    fn check(&self) {
        for site in &self.sites {
            let vector = site.island.vector();
            let here = self.made.iter().filter(|it| vector.covers(it.update.dot));
            let here: Vec<&Update> = here.map(|it| &it.update).collect();
            let wrong = Twin::new(&here, &key()).wrong(&site.state, &site.settled);
            assert_eq!(wrong, None, "at {vector}");
            let bytes = site.state.encode();
            assert_eq!(State::decode(bytes).as_ref(), Ok(&site.state));
        }
    }

    fn name(&self) -> String {
        let chains: Vec<_> = self.made.iter().map(|it| it.chain.0[0]).collect();
        let site = |it: &Site| {
            let vector = it.island.vector();
            let heard = (self.reports > 0).then_some(&it.stability);
            format!("{vector}|{:?}|{heard:?}", it.state.encode())
        };
        let sites: Vec<String> = self.sites.iter().map(site).collect();
        format!("{chains:?} {} {}", self.reports, sites.join(" "))
    }

    /// All places that are one step from here.
    fn next(&self, rules: &Rules, steps: Steps) -> Vec<Self> {
        let mut next = Vec::new();
        for at in 0..3 {
            if self.made.len() < steps.made_max {
                for body in bodies(rules.kind) {
                    let put = (key(), 0, Bytes::from_static(body.as_bytes()));
                    let change = rules.put(&self.sites[at].state, put).expect("it fits");
                    next.push(self.make(at, change));
                }
                next.push(self.make(at, rules.delete(key())));
            }
            next.extend(self.made.iter().filter_map(|it| self.take(at, it)));
            for from in (0..3).filter(|from| *from != at) {
                next.push(self.join(at, from));
                if at == 0 && self.reports < steps.reports_max {
                    next.push(self.report(at, from));
                }
            }
            if at == 0 && self.reports > 0 {
                next.push(self.settle(at));
            }
        }
        next
    }
}

fn explore(kind: Type, exists: Exists, steps: Steps) -> usize {
    let rules = rules(kind, exists);
    let mut seen = BTreeSet::new();
    let mut waiting = vec![Place::new()];
    while let Some(place) = waiting.pop() {
        for next in place.next(&rules, steps) {
            if seen.insert(next.name()) {
                next.check();
                waiting.push(next);
            }
        }
    }
    seen.len()
}

const THREE: Steps = Steps {
    made_max: 3,
    reports_max: 0,
};
const TWO: Steps = Steps {
    made_max: 2,
    reports_max: 0,
};
const FORGETS: Steps = Steps {
    made_max: 2,
    reports_max: 2,
};

#[test]
fn every_order_of_three_changes_of_a_plain_value_gives_what_the_twin_gives() {
    let places = explore(Type::Lww, Exists::AddWins, THREE);
    assert!(places > 19_000, "{places}");
}

#[test]
fn every_order_of_two_changes_of_a_counter_gives_what_the_twin_gives() {
    let places = explore(Type::Counter, Exists::AddWins, FORGETS);
    assert!(places > 26_000, "{places}");
}

#[test]
fn every_order_of_two_changes_of_a_document_gives_what_the_twin_gives() {
    let places = explore(Type::Json, Exists::AddWins, TWO);
    assert!(places > 2_500, "{places}");
}

#[test]
fn every_order_of_two_changes_where_deletes_win_gives_what_the_twin_gives() {
    let places = explore(Type::Lww, Exists::DeleteWins, FORGETS);
    assert!(places > 12_000, "{places}");
}
