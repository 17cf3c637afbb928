//! Transactions: is there one order of all of them that explains what each read, and agrees with
//! real time?
//!
//! Versions of a key are the revisions that wrote it, so their order is known. That gives edges
//! between transactions, each of which says "before"; a cycle says that there is no order:
//!
//! ```text
//! writer of a version ──ww─► writer of the next       writer ──wr─► reader of that version
//! reader of a version ──rw─► writer of the next       returned ──time─► asked afterwards
//! ```
//!
//! Real time would have too many edges, so it is a chain of moments: a transaction that returns
//! points into it, and it points at each that is asked later. What was not there may have been
//! removed at several revisions; such a read says something only of a key that was never removed.
//!
//! This is how Elle works, with the order of versions given instead of inferred. Unlike the
//! witness it does not replay a model, and it names the kind of anomaly.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use crate::graph::components;
use crate::verdict::Violation;

const JUDGE: &str = "transactions";

/// A transaction that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction<K> {
    /// When it was asked for.
    pub invoked: u64,
    /// When it was answered, if it was.
    pub returned: Option<u64>,
    /// Which version of which key it saw before it wrote anything; none if the key was not there.
    pub reads: Vec<(K, Option<u64>)>,
    /// The revision that it made, if it wrote.
    pub revision: Option<u64>,
    /// What that revision wrote, and whether it removed it.
    pub writes: Vec<(K, bool)>,
}

/// Why one comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    WriteWrite,
    WriteRead,
    ReadWrite,
    Time,
}

/// A version of a key.
#[derive(Clone, Copy, Debug)]
struct Version {
    revision: u64,
    writer: usize,
}

/// All versions of a key.
#[derive(Clone, Debug, Default)]
struct Versions {
    /// In order of their revisions.
    all: Vec<Version>,
    was_removed: bool,
}

impl Versions {
    /// Where the version stands that a read saw: 0 for nothing, before all.
    fn place(&self, seen: Option<u64>) -> Option<usize> {
        match seen {
            // Which of several times without it was seen, nobody knows.
            None => (!self.was_removed).then_some(0),
            Some(revision) => {
                let found = self.all.binary_search_by_key(&revision, |one| one.revision);
                found.ok().map(|at| at + 1)
            }
        }
    }
}

/// Judges all transactions that have happened: those that were answered, and those whose outcome
/// is known otherwise.
///
/// # Errors
///
/// The first of: two writers of one revision, a read of a version that nobody wrote or that the
/// reader wrote itself, a cycle.
pub fn transactions<K: Ord + Debug>(all: &[Transaction<K>]) -> Result<(), Violation> {
    let versions = versions(all)?;
    let mut graph = Graph::new(all);
    for (reader, one) in all.iter().enumerate() {
        for (key, seen) in &one.reads {
            let empty = Versions::default();
            let known = versions.get(key).unwrap_or(&empty);
            if let Some(revision) = seen
                && known.place(*seen).is_none()
            {
                let place = format!("{key:?} of {revision}, by the one asked at {}", one.invoked);
                return broken("a version that is read was written", place);
            }
            let Some(at) = known.place(*seen) else {
                continue;
            };
            if let Some(version) = at.checked_sub(1).and_then(|at| known.all.get(at)) {
                if version.writer == reader {
                    let place = format!("{key:?} of {}, by who wrote it", version.revision);
                    return broken("nobody reads what it has yet to write", place);
                }
                graph.add(version.writer, reader, Edge::WriteRead);
            }
            if let Some(next) = known.all.get(at) {
                graph.add(reader, next.writer, Edge::ReadWrite);
            }
        }
    }
    for one in versions.values() {
        for pair in one.all.windows(2) {
            graph.add(pair[0].writer, pair[1].writer, Edge::WriteWrite);
        }
    }
    graph.judge(all)
}

fn versions<K: Ord>(all: &[Transaction<K>]) -> Result<BTreeMap<&K, Versions>, Violation> {
    let mut writers: BTreeMap<u64, usize> = BTreeMap::new();
    for (writer, one) in all.iter().enumerate() {
        if let Some(revision) = one.revision
            && let Some(other) = writers.insert(revision, writer)
        {
            let asked = [other, writer].map(|at| all[at].invoked);
            return broken(
                "a revision has one writer",
                format!("{revision}: {asked:?}"),
            );
        }
    }
    let mut versions: BTreeMap<&K, Versions> = BTreeMap::new();
    for (&revision, &writer) in &writers {
        for (key, is_removed) in &all[writer].writes {
            let known = versions.entry(key).or_default();
            // A transaction may write a key twice; only what is left can be seen.
            if known
                .all
                .last()
                .is_none_or(|last| last.revision != revision)
            {
                known.all.push(Version { revision, writer });
            }
            known.was_removed |= is_removed;
        }
    }
    Ok(versions)
}

/// Transactions first, then moments.
struct Graph {
    edges: Vec<Vec<(usize, Edge)>>,
    count: usize,
}

impl Graph {
    fn new<K>(all: &[Transaction<K>]) -> Self {
        let mut graph = Self {
            edges: vec![Vec::new(); all.len()],
            count: all.len(),
        };
        graph.add_time(all);
        graph
    }

    /// An edge; what a transaction has to do with itself says nothing.
    fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges[from].push((to, edge));
        }
    }

    fn add_time<K>(&mut self, all: &[Transaction<K>]) {
        // Who asks at the very moment of another's answer need not have seen it: asking comes first.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, one) in all.iter().enumerate() {
            moments.push((one.invoked, false, at));
            moments.extend(one.returned.map(|returned| (returned, true, at)));
        }
        moments.sort_unstable();
        let mut newest = None;
        for (_, is_return, at) in moments {
            if is_return {
                let moment = self.edges.len();
                self.edges.push(Vec::new());
                self.add(at, moment, Edge::Time);
                if let Some(before) = newest.replace(moment) {
                    self.add(before, moment, Edge::Time);
                }
            } else if let Some(moment) = newest {
                self.add(moment, at, Edge::Time);
            }
        }
    }

    fn judge<K: Debug>(&self, all: &[Transaction<K>]) -> Result<(), Violation> {
        let component = components(self.edges.len(), &|node| {
            self.edges[node].iter().map(|(to, _)| *to)
        });
        // Moments alone make no cycle, so one that there is passes through a transaction.
        for from in 0..self.count {
            let within = |node: usize| component[node] == component[from];
            if let Some(cycle) = self.shortest(from, &within) {
                return broken(rule(&cycle), self.tell(from, &cycle, all));
            }
        }
        Ok(())
    }

    /// The shortest way back to where it begins, within a component.
    fn shortest(&self, from: usize, within: &dyn Fn(usize) -> bool) -> Option<Vec<(usize, Edge)>> {
        let mut came: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
        let mut next = VecDeque::from([from]);
        while let Some(node) = next.pop_front() {
            for &(to, edge) in self.edges[node].iter().filter(|(to, _)| within(*to)) {
                if came.contains_key(&to) {
                    continue;
                }
                came.insert(to, (node, edge));
                if to == from {
                    return Some(walk(&came, from));
                }
                next.push_back(to);
            }
        }
        None
    }

    fn tell<K: Debug>(
        &self,
        from: usize,
        cycle: &[(usize, Edge)],
        all: &[Transaction<K>],
    ) -> String {
        let mut text = format!("{:?}", all[from]);
        for &(to, edge) in cycle {
            let word = match edge {
                Edge::WriteWrite => "ww",
                Edge::WriteRead => "wr",
                Edge::ReadWrite => "rw",
                Edge::Time => "time",
            };
            match all.get(to) {
                Some(one) if to != from => text.push_str(&format!(" -{word}-> {one:?}")),
                Some(_) => text.push_str(&format!(" -{word}-> the first")),
                // A moment on the way: the edge that leaves the chain says that it was time.
                None => {}
            }
        }
        text
    }
}

/// The way that ends at `end`, from its beginning.
fn walk(came: &BTreeMap<usize, (usize, Edge)>, end: usize) -> Vec<(usize, Edge)> {
    let mut way = Vec::new();
    let mut at = end;
    while let Some(&(before, edge)) = came.get(&at) {
        way.push((at, edge));
        at = before;
        if at == end {
            break;
        }
    }
    way.reverse();
    way
}

/// What is wrong, by the kinds of edges in the cycle.
fn rule(cycle: &[(usize, Edge)]) -> &'static str {
    let has = |wanted| cycle.iter().any(|(_, edge)| *edge == wanted);
    match (has(Edge::ReadWrite), has(Edge::WriteRead), has(Edge::Time)) {
        (_, _, true) => "transactions agree with real time",
        (true, _, false) => "nothing that was read is overwritten in between",
        (false, true, false) => "information flows one way",
        (false, false, false) => "writes of one do not lie between those of another",
    }
}

fn broken<T>(rule: &'static str, place: String) -> Result<T, Violation> {
    Err(Violation::new(JUDGE, rule, place))
}
