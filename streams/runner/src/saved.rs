//! What a snapshot holds, as bytes.
//!
//! ```text
//! u32 version   u32 digest of the plan   u64 through   u64 output   u64 rows that were none
//! sources x { bytes position, u64 lines, u8 ended }
//! sinks x { u64 rows that it had }
//! since version 2: sources x keys x { bytes name, u64 digest }
//! version 3, of several queries: u32 queries, for each but the first u64 output
//! the engine's state
//! ```

use holm_connect::{Key, KeyRing, Position};
use holm_engine::Several;
use holm_lanes::{LoadError, Loader, Saver};
use holm_once::{Outputs, QUERIES_MAX, Snapshot};

pub(crate) const KIND: u32 = 1;
const VERSION: u32 = 2;
/// The layout without keys, which is read too.
const WITHOUT_KEYS: u32 = 1;
/// The layout of several queries.
const OF_SEVERAL: u32 = 3;
const PREFIX: &str = "snapshot-";

/// How far a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) position: Position,
    pub(crate) lines: u64,
    pub(crate) is_over: bool,
}

/// What is saved beside the engine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Of the plan: state of another one, of another build's planner say, is not read.
    pub(crate) plan: u32,
    pub(crate) of: Snapshot,
    pub(crate) queries: usize,
    pub(crate) bad: u64,
    pub(crate) reached: Vec<Reached>,
    pub(crate) committed: Vec<u64>,
    /// For each source the names under which rows were sent last.
    pub(crate) keys: Vec<KeyRing>,
}

/// State that no longer changes.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub(crate) saved: Saved,
    pub(crate) run: Several,
}

impl Frozen {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.saved.bytes(&self.run)
    }
}

/// The name of a file: the record, and the outputs of each query by then.
pub(crate) fn name(of: Snapshot, queries: usize) -> String {
    let (through, first) = (of.through, of.outputs.at(0));
    let mut name = format!("{PREFIX}{through:020}-{first:020}");
    for query in 1..queries {
        name += &format!("-{}", of.outputs.at(query));
    }
    name
}

/// The snapshot that a file is, by its name.
pub(crate) fn named(name: &str) -> Option<Snapshot> {
    let mut numbers = name.strip_prefix(PREFIX)?.split('-').map(str::parse);
    let through = numbers.next()?.ok()?;
    let outputs: Result<Vec<u64>, _> = numbers.collect();
    let outputs = outputs.ok()?;
    (1..=QUERIES_MAX)
        .contains(&outputs.len())
        .then(|| Snapshot {
            through,
            outputs: Outputs::of(outputs),
        })
}

impl Saved {
    pub(crate) fn bytes(&self, run: &Several) -> Vec<u8> {
        let mut to = Saver::new();
        self.head(&mut to);
        run.save(&mut to);
        to.finish()
    }

    /// What stands before the engine's state.
    fn head(&self, to: &mut Saver) {
        let is_one = self.queries == 1;
        to.small(if is_one { VERSION } else { OF_SEVERAL });
        to.small(self.plan);
        to.word(self.of.through);
        to.word(self.of.outputs.at(0));
        to.word(self.bad);
        to.count(self.reached.len());
        for reached in &self.reached {
            to.bytes(reached.position.as_bytes());
            to.word(reached.lines);
            to.truth(reached.is_over);
        }
        to.count(self.committed.len());
        self.committed.iter().for_each(|output| to.word(*output));
        for ring in &self.keys {
            to.count(ring.len());
            for key in ring.iter() {
                to.bytes(key.name.as_bytes());
                to.word(key.digest);
            }
        }
        if !is_one {
            to.small(holm_lanes::number(self.queries));
            (1..self.queries).for_each(|query| to.word(self.of.outputs.at(query)));
        }
    }

    /// Reads what stands before the engine's state.
    pub(crate) fn read(from: &mut Loader<'_>) -> Result<Self, LoadError> {
        let version = from.small()?;
        if ![VERSION, WITHOUT_KEYS, OF_SEVERAL].contains(&version) {
            return Err(LoadError::Invalid { what: "version" });
        }
        let plan = from.small()?;
        let mut of = Snapshot {
            through: from.word()?,
            outputs: Outputs::of([from.word()?]),
        };
        let bad = from.word()?;
        let sources = from.count(17)?;
        let reached = from.many(sources, |from| {
            Ok(Reached {
                position: Position::new(from.bytes()?)
                    .ok_or(LoadError::Invalid { what: "position" })?,
                lines: from.word()?,
                is_over: from.truth()?,
            })
        })?;
        let sinks = from.count(8)?;
        let committed = from.many(sinks, |from| from.word())?;
        let mut keys = vec![KeyRing::default(); sources];
        if version != WITHOUT_KEYS {
            for ring in &mut keys {
                for _ in 0..from.count(16)? {
                    ring.add(key(from.bytes()?, from)?);
                }
            }
        }
        let mut queries = 1;
        if version == OF_SEVERAL {
            queries = holm_lanes::index(from.small()?);
            if !(2..=QUERIES_MAX).contains(&queries) {
                return Err(LoadError::Invalid { what: "queries" });
            }
            for query in 1..queries {
                of.outputs.set(query, from.word()?);
            }
        }
        Ok(Self {
            plan,
            of,
            queries,
            bad,
            reached,
            committed,
            keys,
        })
    }
}

fn key(name: &[u8], from: &mut Loader<'_>) -> Result<Key, LoadError> {
    let name = std::str::from_utf8(name).map_err(|_wrong| LoadError::Invalid { what: "key" })?;
    Ok(Key {
        name: name.into(),
        digest: from.word()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let mut keys = KeyRing::default();
        keys.add(Key {
            name: "a key".into(),
            digest: 77,
        });
        Saved {
            plan: 9,
            of: Snapshot {
                through: 12,
                outputs: Outputs::of([34]),
            },
            queries: 1,
            bad: 2,
            reached: vec![Reached {
                position: Position::of(&[5, 6]),
                lines: 7,
                is_over: false,
            }],
            committed: vec![30],
            keys: vec![keys],
        }
    }

    /// What stands before the engine's state, of both versions.
    #[test]
    fn snapshots_of_both_versions_are_read() {
        let one = &include_bytes!("../tests/compat/v1-snapshot")[..];
        let two = &include_bytes!("../tests/compat/v2-snapshot")[..];
        let mut without = saved();
        without.keys = vec![KeyRing::default()];
        for (bytes, wanted) in [(one, without), (two, saved())] {
            let mut from = Loader::new(bytes);
            assert_eq!(Saved::read(&mut from), Ok(wanted));
            assert!(from.is_done());
            for end in 0..bytes.len() {
                Saved::read(&mut Loader::new(&bytes[..end])).expect_err("it is cut");
            }
        }
        let mut to = Saver::new();
        saved().head(&mut to);
        assert_eq!(to.finish(), two, "and it is still written so");
    }

    #[test]
    fn several_queries_have_outputs_of_their_own() {
        let mut wanted = saved();
        wanted.queries = 3;
        wanted.of.outputs = Outputs::of([34, 0, 7]);
        let mut to = Saver::new();
        wanted.head(&mut to);
        let bytes = to.finish();
        assert_eq!(Saved::read(&mut Loader::new(&bytes)), Ok(wanted.clone()));
        for end in 0..bytes.len() {
            Saved::read(&mut Loader::new(&bytes[..end])).expect_err("it is cut");
        }
        assert_eq!(named(&name(wanted.of, 3)), Some(wanted.of));
        let most = Outputs::of([u64::MAX; QUERIES_MAX]);
        let longest = Snapshot {
            through: u64::MAX,
            outputs: most,
        };
        let longest = name(longest, QUERIES_MAX);
        assert!(
            longest.len() + ".new".len() <= 255,
            "a file may be called so"
        );
        assert_eq!(named("snapshot-1"), None);
        assert_eq!(named("snapshot-1-2-x"), None);
    }

    #[test]
    fn another_version_is_refused() {
        let bytes = [4, 0, 0, 0, 9, 0, 0, 0];
        let wanted = Err(LoadError::Invalid { what: "version" });
        assert_eq!(Saved::read(&mut Loader::new(&bytes)), wanted);
    }
}
