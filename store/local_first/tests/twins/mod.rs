//! What all types of value are held against: a twin that keeps all updates of a key and says
//! what stands, without merging anything.

use std::collections::BTreeSet;

use bytes::Bytes;
use holm_local_first::{
    Change, Delta, Exists, Mark, Row, Rules, Schema, Sibling, Slot, State, Type, Update, Vector,
    Write,
};

pub(crate) fn rules(kind: Type, exists: Exists) -> Rules {
    let schema = br#"{"properties": {
        "list": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        "set": {"x-kubernetes-list-type": "set"}}}"#;
    let schema = Schema::parse(schema).expect("it is one");
    Rules {
        kind,
        exists,
        schema,
    }
}

pub(crate) fn slot(number: u8) -> Slot {
    Slot::new(number).expect("slots begin at 1")
}

/// What a client may put, by type.
pub(crate) fn bodies(kind: Type) -> &'static [&'static str] {
    match kind {
        Type::Lww | Type::Mv | Type::Set => &["v"],
        Type::Counter => &["+1", "7"],
        Type::Json => &[
            r#"{"a":1,"b":{"c":1}}"#,
            r#"{"a":2,"b":{"c":1}}"#,
            r#"{"a":1,"b":3}"#,
        ],
    }
}

pub(crate) fn touched(change: &Change) -> &Bytes {
    match change {
        Change::Put { key, .. }
        | Change::Delete { key }
        | Change::Add { key, .. }
        | Change::Paths { key, .. }
        | Change::Erase { key } => key,
        Change::DeleteRange { .. } => panic!("nobody deletes ranges here"),
        Change::Again { change, .. } => touched(change),
    }
}

/// What all know of a key where exactly these updates are: written down without merging.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Twin {
    pub(crate) wholes: Vec<Sibling>,
    pub(crate) additions: Vec<(Slot, u64, i64)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) markers: Vec<Mark>,
}

/// Whether an update replaces everything of a key that it saw.
fn replaces_all(change: &Change) -> bool {
    match change {
        Change::Put { .. } | Change::Delete { .. } | Change::Erase { .. } => true,
        Change::Add { .. }
        | Change::Paths { .. }
        | Change::DeleteRange { .. }
        | Change::Again { .. } => false,
    }
}

/// Whether an update removes what another left at a path.
fn replaces_row(change: &Change, path: &Bytes) -> bool {
    let of_path = |write: &Write| match write {
        Write::Remove(top) => path.starts_with(top),
        Write::Set(at, ..) => at == path,
    };
    match change {
        Change::Paths { writes, .. } => writes.iter().any(of_path),
        Change::Put { .. }
        | Change::Delete { .. }
        | Change::Erase { .. }
        | Change::Add { .. }
        | Change::DeleteRange { .. }
        | Change::Again { .. } => replaces_all(change),
    }
}

fn rows_of(update: &Update, change: &Change) -> Vec<Row> {
    let mut alone = State::new();
    change.apply(update, &mut alone);
    // An update that saw it and changes nothing breaks a whole document up.
    let mut deps = update.deps.clone();
    deps.raise(update.dot.slot, update.dot.seq);
    let mark = Mark {
        dot: update.dot,
        hlc: update.hlc,
    };
    alone.write(&deps, 0, mark, &[]);
    alone.rows().to_vec()
}

impl Twin {
    pub(crate) fn new(here: &[&Update], key: &Bytes) -> Self {
        let of_key = |update: &&Update| {
            let change = update.changes.iter().find(|it| touched(it) == key)?;
            Some(((*update).clone(), change.clone()))
        };
        let all: Vec<(Update, Change)> = here.iter().filter_map(of_key).collect();
        let erases: Vec<&Update> = all
            .iter()
            .filter(|(_, change)| matches!(change, Change::Erase { .. }))
            .map(|(update, _)| update)
            .collect();
        let mut twin = Self::default();
        for (update, change) in &all {
            let later = || all.iter().filter(|(it, _)| it.deps.covers(update.dot));
            let mark = Mark {
                dot: update.dot,
                hlc: update.hlc,
            };
            if let Change::Erase { .. } = change {
                if !erases.iter().any(|it| it.deps.covers(update.dot)) {
                    twin.markers.push(mark);
                }
                continue;
            }
            let fell = erases.iter().any(|it| !update.deps.covers(it.dot));
            if fell {
                continue;
            }
            let is_replaced = later().any(|(_, it)| replaces_all(it));
            let is_broken = later().any(|(_, it)| matches!(it, Change::Paths { .. }));
            match change {
                Change::Put { lease, value, .. } if !is_replaced && !is_broken => {
                    twin.wholes.push(Sibling {
                        dot: update.dot,
                        hlc: update.hlc,
                        lease: *lease,
                        value: value.clone(),
                    });
                }
                Change::Add { amount, .. } if !is_replaced => {
                    twin.additions
                        .push((update.dot.slot, update.dot.seq, *amount));
                }
                Change::Put { .. } | Change::Paths { .. } => {
                    let lives = |row: &Row| !later().any(|(_, it)| replaces_row(it, &row.path));
                    twin.rows
                        .extend(rows_of(update, change).into_iter().filter(lives));
                }
                Change::Add { .. }
                | Change::Delete { .. }
                | Change::Erase { .. }
                | Change::DeleteRange { .. }
                | Change::Again { .. } => {}
            }
        }
        twin.wholes.sort_by_key(|it| it.dot);
        twin.markers.sort_by_key(|it| it.dot);
        twin.additions.sort_unstable();
        twin.rows
            .sort_by(|one, other| (&one.path, one.dot).cmp(&(&other.path, other.dot)));
        twin
    }

    /// What is wrong with a state, if something is. `stable` may have been forgotten.
    pub(crate) fn wrong(&self, state: &State, stable: &Vector) -> Option<String> {
        let markers: Vec<Mark> = self.markers.clone();
        let kept: BTreeSet<_> = state.markers().iter().map(|it| it.dot).collect();
        let lacks = |it: &&Mark| !kept.contains(&it.dot) && !stable.covers(it.dot);
        if let Some(marker) = markers.iter().find(lacks) {
            return Some(format!("the marker of {} is gone", marker.dot));
        }
        if self.wholes != state.siblings() {
            return Some(format!("{:?}, not {:?}", state.siblings(), self.wholes));
        }
        if self.rows != state.rows() {
            return Some(format!("{:?}, not {:?}", state.rows(), self.rows));
        }
        let mut alone: Vec<(Slot, u64, i64)> = self.additions.clone();
        for run in state.runs() {
            let is_in =
                |it: &(Slot, u64, i64)| it.0 == run.slot && (run.first..=run.last).contains(&it.1);
            let sum: i128 = alone
                .iter()
                .filter(|it| is_in(it))
                .map(|it| i128::from(it.2))
                .sum();
            if sum != run.sum || !alone.iter().any(|it| is_in(it) && it.1 == run.first) {
                return Some(format!("{run:?} is not of {alone:?}"));
            }
            alone.retain(|it| !is_in(it));
        }
        let found = |it: &Delta| (it.dot.slot, it.dot.seq, it.amount);
        let deltas: Vec<_> = state.deltas().iter().map(found).collect();
        (alone != deltas).then(|| format!("{deltas:?}, not {alone:?} beside {:?}", state.runs()))
    }
}
