//! A keyspace that loses answers, requests and watches: rows out are there once, rows in come
//! once, and who was taken over stops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use holm_base::Prng;
use holm_connect::{
    Change, Keyspace, KeyspaceError, KeyspaceSink, KeyspaceSource, Position, Sink, SinkError,
    Source, Taken,
};
use holm_lanes::{Batch, Field, Kind, Lane, Values};

#[derive(Debug, Default)]
struct Store {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    history: Vec<Change>,
    revision: i64,
    compacted: i64,
}

/// A keyspace in memory. Every few calls fail: before they did anything, or after.
#[derive(Clone, Debug)]
struct Shaky {
    store: Arc<Mutex<Store>>,
    prng: Arc<Mutex<Prng>>,
    watch: Option<(Vec<u8>, i64)>,
    fails: bool,
}

impl Shaky {
    fn new(seed: u64, fails: bool) -> Self {
        Self {
            store: Arc::default(),
            prng: Arc::new(Mutex::new(Prng::new(seed))),
            watch: None,
            fails,
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("nobody panicked")
    }

    fn fail(&self) -> Result<(), KeyspaceError> {
        let mut prng = self.prng.lock().expect("nobody panicked");
        if self.fails && prng.below(4) == 0 {
            return Err(KeyspaceError::Unavailable("cut".into()));
        }
        Ok(())
    }

    fn put(&self, key: &str, value: Option<&str>) {
        let mut store = self.store();
        store.revision += 1;
        let change = Change {
            key: key.into(),
            value: value.map(|value| value.as_bytes().to_vec()),
            revision: store.revision,
        };
        store.history.push(change);
        match value {
            Some(value) => store.values.insert(key.into(), value.into()),
            None => store.values.remove(key.as_bytes()),
        };
    }
}

impl Keyspace for Shaky {
    fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        self.fail()?;
        Ok(self.store().values.get(key).cloned())
    }

    fn all(&mut self, prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError> {
        self.fail()?;
        let store = self.store();
        let found = store.values.iter();
        let found = found.filter(|(key, _)| key.starts_with(prefix));
        let change = |(key, value): (&Vec<u8>, &Vec<u8>)| Change {
            key: key.clone(),
            value: Some(value.clone()),
            revision: 1,
        };
        Ok((found.map(change).collect(), store.revision))
    }

    fn all_at(&mut self, prefix: &[u8], revision: i64) -> Result<Vec<Change>, KeyspaceError> {
        self.fail()?;
        let mut values = BTreeMap::new();
        for change in &self.store().history {
            if change.revision <= revision && change.key.starts_with(prefix) {
                values.insert(change.key.clone(), change.clone());
            }
        }
        let there = values.into_values().filter(|it| it.value.is_some());
        Ok(there.collect())
    }

    fn watch(&mut self, prefix: &[u8], from: i64) -> Result<(), KeyspaceError> {
        self.fail()?;
        let to = self.store().compacted;
        if from < to {
            return Err(KeyspaceError::Compacted { to });
        }
        self.watch = Some((prefix.to_vec(), from));
        Ok(())
    }

    fn changes(&mut self, _wait: Duration) -> Result<Vec<Change>, KeyspaceError> {
        self.fail()?;
        let (prefix, from) = self.watch.clone().expect("it is watched");
        let found: Vec<Change> = {
            let store = self.store();
            let found = store.history.iter();
            found
                .filter(|change| change.revision >= from && change.key.starts_with(&prefix))
                .take(3)
                .cloned()
                .collect()
        };
        let next = found.last().map_or(from, |change| change.revision + 1);
        self.watch = Some((prefix, next));
        Ok(found)
    }

    fn put_if(
        &mut self,
        (key, wanted): (&[u8], Option<&[u8]>),
        puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError> {
        self.fail()?;
        assert!(puts.len() <= 128, "etcd takes 128 operations");
        let names: std::collections::BTreeSet<_> = puts.iter().map(|(key, _)| key).collect();
        assert_eq!(names.len(), puts.len(), "etcd takes a key once");
        let mut store = self.store();
        if store.values.get(key).map(Vec::as_slice) != wanted {
            return Ok(false);
        }
        store.values.extend(puts.iter().cloned());
        drop(store);
        // Done, and the answer may be lost.
        self.fail()?;
        Ok(true)
    }
}

fn field(name: &str) -> Field {
    Field {
        name: name.into(),
        kind: Kind::BigInt,
        nullable: false,
    }
}

fn rows(from: i64, to: i64) -> Batch {
    let lane = |by: i64| Lane::dense(Values::Int((from..to).map(|n| n % by).collect()));
    Batch::of(vec![lane(50), lane(1_000_000)])
}

fn sink(store: &Shaky) -> KeyspaceSink {
    let fields = [field("k"), field("n")];
    KeyspaceSink::new(Box::new(store.clone()), "out/", "at", &fields, &[0])
}

/// Does it until it is done.
fn again<T: std::fmt::Debug>(
    mut call: impl FnMut() -> Result<T, SinkError>,
) -> Result<T, SinkError> {
    loop {
        match call() {
            Err(SinkError::Unavailable { .. }) => {}
            other => return other,
        }
    }
}

#[test]
fn rows_are_there_once_whatever_was_lost() {
    for seed in 0..50 {
        let store = Shaky::new(seed, true);
        let mut at = 0;
        while at < 1_000 {
            // A new process each time: it asks how far the rows are.
            let mut sink = sink(&store);
            let committed = again(|| sink.begin()).unwrap();
            let next = committed.map_or(0, |last| i64::try_from(last).unwrap() + 1);
            assert_eq!(next, at, "seed {seed}");
            for size in [1, 200, 30] {
                let to = (at + size).min(1_000);
                let first = u64::try_from(at).unwrap();
                again(|| sink.put(first, &rows(at, to))).unwrap();
                at = to;
            }
        }
        let held = store.store();
        assert_eq!(held.values.len(), 51);
        for k in 0..50 {
            let value = &held.values[format!("out/{k}").as_bytes()];
            let expected = format!("{{\"k\":{k},\"n\":{}}}", 950 + k);
            assert_eq!(String::from_utf8_lossy(value), expected, "seed {seed}");
        }
    }
}

#[test]
fn who_was_taken_over_stops() {
    let store = Shaky::new(1, false);
    let mut old = sink(&store);
    old.begin().unwrap();
    old.put(0, &rows(0, 3)).unwrap();
    let mut new = sink(&store);
    assert_eq!(new.begin(), Ok(Some(2)));
    let stopped = old.put(3, &rows(3, 5)).unwrap_err().to_string();
    assert!(stopped.contains("another process"), "{stopped}");
    new.put(3, &rows(3, 5)).unwrap();
    store.put("at", Some("mine"));
    let refused = sink(&store).begin().unwrap_err().to_string();
    assert!(refused.contains("no marker of ours"), "{refused}");
}

/// A keyspace that carries out a put when it has answered the next question.
#[derive(Debug)]
struct Tardy {
    store: Shaky,
    is_late: bool,
    late: Option<Late>,
}

type Late = (Vec<u8>, Option<Vec<u8>>, Vec<(Vec<u8>, Vec<u8>)>);

impl Keyspace for Tardy {
    fn value(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, KeyspaceError> {
        let value = self.store.value(key);
        if let Some((key, guard, puts)) = self.late.take() {
            self.store.put_if((&key, guard.as_deref()), &puts)?;
        }
        value
    }

    fn all(&mut self, prefix: &[u8]) -> Result<(Vec<Change>, i64), KeyspaceError> {
        self.store.all(prefix)
    }

    fn all_at(&mut self, prefix: &[u8], revision: i64) -> Result<Vec<Change>, KeyspaceError> {
        self.store.all_at(prefix, revision)
    }

    fn watch(&mut self, prefix: &[u8], from: i64) -> Result<(), KeyspaceError> {
        self.store.watch(prefix, from)
    }

    fn changes(&mut self, wait: Duration) -> Result<Vec<Change>, KeyspaceError> {
        self.store.changes(wait)
    }

    fn put_if(
        &mut self,
        (key, guard): (&[u8], Option<&[u8]>),
        puts: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<bool, KeyspaceError> {
        self.is_late = !self.is_late;
        if self.is_late {
            return self.store.put_if((key, guard), puts);
        }
        self.late = Some((key.to_vec(), guard.map(<[u8]>::to_vec), puts.to_vec()));
        Err(KeyspaceError::Unavailable("deadline exceeded".into()))
    }
}

#[test]
fn a_put_that_is_carried_out_late_stops_nothing() {
    let store = Shaky::new(1, false);
    let tardy = Tardy {
        store: store.clone(),
        is_late: false,
        late: None,
    };
    let fields = [field("k"), field("n")];
    let mut sink = KeyspaceSink::new(Box::new(tardy), "out/", "at", &fields, &[0]);
    assert_eq!(again(|| sink.begin()), Ok(None));
    for at in 0..10 {
        let first = u64::try_from(at).unwrap();
        again(|| sink.put(first, &rows(at, at + 1))).unwrap();
    }
    assert_eq!(store.store().values[&b"at"[..]], b"1 10");
    assert_eq!(store.store().values.len(), 11);
}

/// All rows from here on.
fn read(source: &mut KeyspaceSource, credit: usize) -> Vec<(String, Position)> {
    let mut found = Vec::new();
    let mut idle = 0;
    while idle < 50 {
        match source.take(credit, Duration::ZERO) {
            Ok(Taken::Rows(piece)) => {
                idle = 0;
                found.push((String::from_utf8(piece.rows).expect("text"), piece.position));
            }
            Ok(Taken::Nothing) | Err(holm_connect::SourceError::Unavailable { .. }) => idle += 1,
            other => panic!("neither end nor failure: {other:?}"),
        }
    }
    found
}

/// So many bytes, no more of which there is credit for.
fn given(source: &mut KeyspaceSource, bytes: usize) -> (String, Position) {
    let mut found = (String::new(), Position::START);
    for _ in 0..200 {
        if found.0.len() == bytes {
            break;
        }
        match source.take(bytes - found.0.len(), Duration::ZERO) {
            Ok(Taken::Rows(piece)) => {
                found.0 += std::str::from_utf8(&piece.rows).expect("text");
                found.1 = piece.position;
            }
            Ok(Taken::Nothing) | Err(holm_connect::SourceError::Unavailable { .. }) => {}
            other => panic!("neither end nor failure: {other:?}"),
        }
    }
    found
}

fn text(pieces: &[(String, Position)]) -> String {
    pieces.iter().map(|(text, _)| text.as_str()).collect()
}

#[test]
fn rows_come_once_and_from_any_position() {
    for seed in 0..30 {
        let store = Shaky::new(seed, true);
        store.put("in/a", Some("{\"n\":\n1}"));
        store.put("in/b", Some("2"));
        store.put("other", Some("3"));
        let source = || KeyspaceSource::new("orders", Box::new(store.clone()), "in/");
        let mut first = source();
        let mut begun = read(&mut first, 150);
        assert_eq!(text(&begun), "{\"n\": 1}\n2\n");
        for n in 4..20 {
            store.put("in/a", (n % 5 > 0).then(|| n.to_string()).as_deref());
            store.put("other", Some("x"));
        }
        let live = read(&mut first, 150);
        let expected: String = (4..20)
            .filter(|n| n % 5 > 0)
            .map(|n| format!("{n}\n"))
            .collect();
        assert_eq!(text(&live), expected, "seed {seed}");
        for (at, (_, position)) in live.iter().enumerate() {
            let mut again = source();
            again.seek(position).unwrap();
            assert_eq!(text(&read(&mut again, 150)), text(&live[at + 1..]));
        }
        begun.extend(live);
        let mut before = Position::START;
        for (rows, position) in begun {
            let mut again = source();
            again.seek(&before).unwrap();
            again.again(&position);
            assert_eq!(given(&mut again, rows.len()), (rows, position.clone()));
            before = position;
        }
    }
}

#[test]
fn a_gap_is_named() {
    let store = Shaky::new(1, false);
    store.put("in/a", Some("1"));
    let mut source = KeyspaceSource::new("orders", Box::new(store.clone()), "in/");
    read(&mut source, 1_000);
    let position = Position::of(&[1, 1]);
    store.store().compacted = 41;
    source.seek(&position).unwrap();
    let refused = source.take(1_000, Duration::ZERO).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "orders: keyspace compacted to 41, read to 1; accept the gap with resume --from 41"
    );
}
