//! Sessions that look for differences, between islands that go on writing: whoever installs what
//! was found shows what the twin shows. And the two orders that would be wrong are found.

use std::collections::BTreeMap;

use bytes::Bytes;
use holm_base::Prng;
use holm_local_first::{
    Change, Hlc, Index, Intake, Island, Sealed, Seek, Session, State, Tree, Update, tell,
};

#[expect(
    dead_code,
    reason = "the network and the logs are for the random worlds"
)]
mod world;

use world::{Keys, carry_out, slot, twin};

/// What an engine could do in the wrong order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The asker pins before the other side does.
    AskerFirst,
    /// Updates of others are taken in between pin and installation.
    TakenBetween,
}

struct Site {
    island: Island,
    keys: Keys,
    tree: Tree,
}

impl Site {
    /// Brings the index up to the keys that an update may have changed.
    fn index(&mut self, before: &Keys) {
        for key in before.keys().chain(self.keys.keys()) {
            let digest = self.keys.get(key).map(|it| it.digest(key));
            self.tree.set(key, digest);
        }
    }

    fn change(&mut self, changes: Vec<Change>, unix_ms: u64) -> Sealed {
        let before = self.keys.clone();
        let sealed = self.island.originate(changes, unix_ms);
        carry_out(&sealed.update, &mut self.keys);
        self.index(&before);
        sealed
    }

    fn take(&mut self, bytes: &Bytes) {
        if let Intake::Next(found) = self.island.judge(bytes, u64::MAX >> 20) {
            let before = self.keys.clone();
            self.island.take(&found);
            carry_out(&found.update, &mut self.keys);
            self.index(&before);
        }
    }
}

struct World {
    sites: Vec<Site>,
    all: Vec<Sealed>,
    prng: Prng,
}

impl World {
    fn new(seed: u64) -> Self {
        let site = |number| Site {
            island: Island::new(slot(number), 1),
            keys: Keys::new(),
            tree: Tree::new(),
        };
        Self {
            sites: (1..=3).map(site).collect(),
            all: Vec::new(),
            prng: Prng::new(seed),
        }
    }

    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("small");
        usize::try_from(self.prng.below(count)).expect("small")
    }

    fn write(&mut self, at: usize) {
        let key = Bytes::from(format!("k{:02}", self.below(60)));
        let change = if self.below(3) == 0 {
            Change::Delete { key }
        } else {
            let value = Bytes::from(format!("{}", self.all.len()));
            let lease = 0;
            Change::Put { key, lease, value }
        };
        let unix_ms = 1_000 + self.prng.below(50);
        let sealed = self.sites[at].change(vec![change], unix_ms);
        self.all.push(sealed);
    }

    /// A site takes in what it can of the first of all updates.
    fn exchange(&mut self, at: usize, count: usize) {
        for sealed in self.all.iter().take(count) {
            self.sites[at].take(&sealed.bytes);
        }
    }

    fn someone_goes_on(&mut self, asker: usize, mistake: Mistake) {
        for _ in 0..self.below(4) {
            let at = self.below(3);
            self.write(at);
            let (other, count) = (self.below(3), self.below(self.all.len()) + 1);
            if other != asker || mistake == Mistake::TakenBetween {
                self.exchange(other, count);
            }
        }
    }

    fn session(&mut self, asker: usize, other: usize, mistake: Mistake) -> usize {
        let early = self.sites[asker].tree.clone();
        if mistake == Mistake::AskerFirst {
            self.write(asker);
            let all = self.all.len();
            self.exchange(other, all);
            self.someone_goes_on(asker, Mistake::None);
        }
        let theirs = &self.sites[other];
        let (tree, keys) = (theirs.tree.clone(), theirs.keys.clone());
        let session = Session {
            id: 9,
            tips: theirs.island.tips().clone(),
        };
        let ours = match mistake {
            Mistake::AskerFirst => early,
            Mistake::None | Mistake::TakenBetween => self.sites[asker].tree.clone(),
        };
        let mut seek = Seek::new(9, ours, &tree.sum(b"", b"").short());
        let mut staged = BTreeMap::new();
        while let Some(ask) = seek.ask() {
            self.someone_goes_on(asker, mistake);
            let answer = tell(&ask, &tree, 40, |name| {
                let state = keys.get(name)?;
                Some((name.clone(), state.encode()))
            });
            for named in seek.told(answer) {
                let state = named.found.map_or_else(State::new, |(_, state)| {
                    State::decode(state).expect("it was encoded")
                });
                staged.insert(named.name, state);
            }
        }
        self.someone_goes_on(asker, mistake);
        let count = staged.len();
        let site = &mut self.sites[asker];
        let (before, seen, told) = (
            site.keys.clone(),
            site.island.vector().clone(),
            session.vector(),
        );
        for (key, theirs) in staged {
            let ours = site.keys.remove(&key).unwrap_or_default();
            let joined = State::joined((&ours, &seen), (&theirs, &told));
            if !joined.is_empty() {
                site.keys.insert(key, joined);
            }
        }
        site.island.begin(session);
        site.island.install(9, Hlc::default());
        site.index(&before);
        count
    }

    fn wrong(&self) -> Option<String> {
        let all: Vec<Update> = self.all.iter().map(|it| it.update.clone()).collect();
        let wrong = self
            .sites
            .iter()
            .find(|site| site.keys != twin(&all, site.island.vector()));
        wrong.map(|site| format!("{} at {}", site.island.slot(), site.island.vector()))
    }
}

fn run(seed: u64, mistake: Mistake) -> Result<usize, String> {
    let mut world = World::new(seed);
    let mut staged = 0;
    for _ in 0..12 {
        for _ in 0..world.below(12) {
            let at = world.below(3);
            world.write(at);
            if world.below(3) == 0 {
                let (at, count) = (world.below(3), world.below(world.all.len()) + 1);
                world.exchange(at, count);
            }
        }
        let asker = world.below(3);
        let other = (asker + 1 + world.below(2)) % 3;
        staged += world.session(asker, other, mistake);
        world.wrong().map_or(Ok(()), Err)?;
    }
    Ok(staged)
}

#[test]
fn sessions_between_islands_that_write_on_show_what_the_twin_shows() {
    let mut staged = 0;
    for seed in 0..80 {
        staged += run(seed, Mistake::None).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    }
    assert!(staged > 2_000, "{staged}");
}

#[test]
fn an_asker_that_pins_first_or_takes_in_between_is_found() {
    for mistake in [Mistake::AskerFirst, Mistake::TakenBetween] {
        let found = (0..600).find(|seed| run(*seed, mistake).is_err());
        assert!(found.is_some(), "{mistake:?} is not found");
    }
}
