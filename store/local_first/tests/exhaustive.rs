//! Every small world: three islands, two keys, each order of making and taking in.

use std::collections::BTreeSet;

use bytes::Bytes;
use holm_local_first::{Change, Intake, Island, Sealed, Update};

#[expect(
    dead_code,
    reason = "the network and the logs are for the random worlds"
)]
mod world;

use world::{Keys, carry_out, slot, twin};

/// All that the islands have, and what was made.
#[derive(Clone)]
struct Place {
    sites: Vec<(Island, Keys)>,
    made: Vec<Sealed>,
}

fn changes(kind: usize, number: usize) -> Vec<Change> {
    let key = |name: &'static str| Bytes::from(name);
    let put = |name| Change::Put {
        key: key(name),
        lease: 0,
        value: Bytes::from(format!("{number}")),
    };
    match kind {
        0 => vec![put("a")],
        1 => vec![put("a"), put("b")],
        2 => vec![Change::Delete { key: key("a") }],
        _ => vec![Change::DeleteRange {
            key: key("a"),
            end: key("c"),
        }],
    }
}

impl Place {
    fn make(&self, at: usize, kind: usize) -> Self {
        let mut next = self.clone();
        let (island, keys) = &mut next.sites[at];
        // The second site's clock is behind.
        let unix_ms = if at == 1 { 5 } else { 1_000 };
        let sealed = island.originate(changes(kind, self.made.len()), unix_ms);
        carry_out(&sealed.update, keys);
        next.made.push(sealed);
        next
    }

    /// The place after a site has taken an update in, if it can.
    fn take(&self, at: usize, sealed: &Sealed) -> Option<Self> {
        let mut next = self.clone();
        let (island, keys) = &mut next.sites[at];
        match island.judge(&sealed.bytes, 1_000) {
            Intake::Next(found) => {
                island.take(&found);
                carry_out(&found.update, keys);
                Some(next)
            }
            Intake::Known | Intake::Waits(_) => None,
            other => panic!("nobody lies here: {other:?}"),
        }
    }

    fn check(&self) {
        let all: Vec<Update> = self.made.iter().map(|it| it.update.clone()).collect();
        for (island, keys) in &self.sites {
            assert_eq!(*keys, twin(&all, island.vector()), "at {}", island.vector());
        }
    }

    fn name(&self) -> Vec<u8> {
        let mut name = Vec::new();
        for (island, _) in &self.sites {
            name.extend_from_slice(island.vector().to_string().as_bytes());
            name.push(b'|');
        }
        self.made
            .iter()
            .for_each(|it| name.extend_from_slice(&it.chain.0));
        name
    }
}

fn explore(place: Place, most: usize, seen: &mut BTreeSet<Vec<u8>>) {
    if !seen.insert(place.name()) {
        return;
    }
    place.check();
    if place.made.len() < most {
        for at in 0..3 {
            for kind in 0..4 {
                explore(place.make(at, kind), most, seen);
            }
        }
    }
    for at in 0..3 {
        for sealed in &place.made {
            if let Some(next) = place.take(at, sealed) {
                explore(next, most, seen);
            }
        }
    }
}

#[test]
fn every_order_of_three_updates_gives_what_the_twin_gives() {
    let sites = (1..=3).map(|number| (Island::new(slot(number), 1), Keys::new()));
    let place = Place {
        sites: sites.collect(),
        made: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    explore(place, 3, &mut seen);
    assert!(seen.len() > 20_000, "{} places", seen.len());
}
