//! A keyspace over a virtual disk, with a log to start again from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holm_base::{ByteCount, GroupId, Op, Term, Time};
use holm_kv::command::{Command, DeleteRange, Proposal, Put, Range};
use holm_kv::outcome::{Applied, Outcome};
use holm_kv::record::Parts;
use holm_kv::snapshot::{Build, ChunkId, Done, Export, Places, Task};
use holm_kv::{
    Config, Job, KeyRange, Keyspace, Record, StoreConfig, StreamId, View, WatchAnswer, WatchRequest,
};
use holm_virtual::Storage;

pub(crate) struct World {
    storage: Storage,
    config: Config,
    pub(crate) keyspace: Keyspace,
    log: Vec<(Term, Bytes)>,
    pub(crate) term: Term,
    pub(crate) now: Time,
    pub(crate) wakes: Arc<AtomicU64>,
    /// Where the keyspace lies since a snapshot took its place.
    places: Option<Places>,
}

impl World {
    pub(crate) fn new(mut config: Config) -> Self {
        // Small files: the virtual disk fills each with zeros.
        config.store.segment_bytes = ByteCount::new(1 << 20);
        let storage = Storage::new();
        let keyspace = Keyspace::open(storage.root(), config.clone()).expect("an empty disk");
        let mut world = Self {
            storage,
            config,
            keyspace,
            log: Vec::new(),
            term: Term::new(1),
            now: Time::ZERO,
            wakes: Arc::default(),
            places: None,
        };
        world.keyspace.lead(world.now, world.term);
        world
    }

    /// All commands so far.
    pub(crate) fn log(&self) -> &[(Term, Bytes)] {
        &self.log
    }

    /// Applies what another has applied, without publishing.
    pub(crate) fn again(&mut self, term: Term, body: &Bytes) {
        self.log.push((term, body.clone()));
        let op = Op::new(u64::try_from(self.log.len()).unwrap());
        let _known = self.keyspace.apply(self.now, op, term, body);
    }

    /// Applies without publishing.
    pub(crate) fn apply_only(&mut self, proposal: &Proposal) -> Applied {
        let body = proposal.encode();
        self.log.push((self.term, body.clone()));
        let op = Op::new(u64::try_from(self.log.len()).unwrap());
        self.keyspace.apply(self.now, op, self.term, &body)
    }

    pub(crate) fn command(&mut self, command: Command) -> Applied {
        let applied = self.apply_only(&Proposal {
            caller: None,
            command,
        });
        self.publish();
        applied
    }

    /// Applies and expects that it is done.
    pub(crate) fn done(&mut self, command: Command) -> Outcome {
        self.command(command).result.expect("nothing forbids it")
    }

    pub(crate) fn put(&mut self, key: &str, value: &str) -> i64 {
        self.command(put(key, value)).revision.value()
    }

    pub(crate) fn publish(&mut self) {
        let mut wake = Vec::new();
        self.keyspace.publish(&mut wake);
        self.keyspace.hub().wake(&wake);
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.keyspace.reader().view()
    }

    /// Lets time pass and everything that is due happen.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        while let Some(command) = self.keyspace.due(self.now) {
            self.command(command);
        }
        self.work();
    }

    pub(crate) fn work(&mut self) {
        while self.keyspace.sweep() {}
        while let Some(job) = self.keyspace.next_job(self.now) {
            self.keyspace.finish(job.run()).expect("the disk is well");
        }
    }

    /// Lets things happen elsewhere that nobody here is told of, then takes a snapshot of them.
    pub(crate) fn jump(&mut self, act: impl FnOnce(&mut Self)) {
        let mut other = Self::new(self.config.clone());
        for (term, body) in &self.log {
            other.again(*term, body);
        }
        other.term = self.term;
        act(&mut other);
        other.publish();
        let places = self.places.clone().unwrap_or_else(|| {
            Places::open(self.storage.root(), GROUP, None).expect("the disk is well")
        });
        let config = self.config.store.clone();
        let (_, chunks) = export(&other.keyspace, 512);
        let (places, ready) = import(&places, config, &other.keyspace, &chunks);
        self.places = Some(places);
        self.log = other.log;
        self.keyspace.follow();
        let replaced = self.keyspace.replace(ready);
        replaced.expect("it is no island");
        self.publish();
        self.keyspace.lead(self.now, self.term);
    }

    /// Starts again: what the files hold, then the log beyond it, in the next term.
    pub(crate) fn reopen(&mut self) {
        let folder = match &self.places {
            Some(places) => places.engine().expect("the disk is well"),
            None => self.storage.root(),
        };
        self.keyspace = Keyspace::open(folder, self.config.clone()).expect("its own");
        let applied = usize::try_from(self.keyspace.applied().value()).unwrap();
        for (at, (term, body)) in self.log.iter().enumerate().skip(applied) {
            let op = Op::new(u64::try_from(at + 1).unwrap());
            let _replayed = self.keyspace.apply(Time::ZERO, op, *term, body);
        }
        self.term = self.term.next();
        self.now = Time::ZERO;
        self.keyspace.lead(self.now, self.term);
        self.publish();
    }

    pub(crate) fn stream(&self) -> StreamId {
        let wakes = Arc::clone(&self.wakes);
        let wake = move || {
            wakes.fetch_add(1, Ordering::Relaxed);
        };
        self.keyspace.hub().open_stream(Arc::new(wake))
    }

    pub(crate) fn watch(&self, stream: StreamId, request: WatchRequest) {
        let view = self.view();
        self.keyspace.hub().create(stream, request, self.now, &view);
    }

    pub(crate) fn poll(&self, stream: StreamId, bytes_max: usize) -> Vec<WatchAnswer> {
        let view = self.view();
        self.keyspace.hub().poll(stream, self.now, &view, bytes_max)
    }

    /// Everything that the stream has to say.
    pub(crate) fn drain(&self, stream: StreamId) -> Vec<WatchAnswer> {
        let mut all = Vec::new();
        loop {
            let before = self.wakes.load(Ordering::Relaxed);
            let answers = self.poll(stream, 1 << 20);
            if answers.is_empty() && self.wakes.load(Ordering::Relaxed) == before {
                return all;
            }
            all.extend(answers);
        }
    }
}

pub(crate) const GROUP: GroupId = GroupId::ZERO;

/// Does a piece of a snapshot's work.
pub(crate) fn run(task: Task) -> Done {
    let done = Job::snapshot(task).run();
    done.snapshot().expect("it was a snapshot's")
}

/// Names all chunks of the state as it is now.
pub(crate) fn name_all(keyspace: &Keyspace, chunk_bytes: u32) -> Arc<Export> {
    let mut export = Box::new(Export::new(keyspace.pin(), chunk_bytes));
    loop {
        match run(Task::Export(export)) {
            Done::Export(named, Ok(true)) => return Arc::new(*named),
            Done::Export(more, Ok(false)) => export = more,
            other => panic!("{other:?}"),
        }
    }
}

/// The bytes of a chunk.
pub(crate) fn load(export: &Arc<Export>, index: u32) -> Bytes {
    let export = Arc::clone(export);
    match run(Task::Load { export, index }) {
        Done::Load(Ok(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

/// A snapshot of the state as it is now: its chunks' names and bytes.
pub(crate) fn export(keyspace: &Keyspace, chunk_bytes: u32) -> (Arc<Export>, Vec<Bytes>) {
    let export = name_all(keyspace, chunk_bytes);
    let indexes = 0..export.chunk_count();
    let chunks = indexes.map(|index| load(&export, index)).collect();
    (export, chunks)
}

/// Keeps chunks, builds the store, and puts it in the engine's place.
pub(crate) fn import(
    places: &Places,
    config: StoreConfig,
    of: &Keyspace,
    chunks: &[Bytes],
) -> (Places, holm_kv::snapshot::Ready) {
    let (export, _) = export(of, 512);
    for (id, bytes) in export.ids().iter().zip(chunks) {
        let (places, id, bytes) = (places.clone(), *id, bytes.clone());
        let kept = run(Task::Keep { places, id, bytes });
        assert!(matches!(kept, Done::Keep(Ok(true))), "{kept:?}");
    }
    let ids: Arc<[ChunkId]> = export.ids().into();
    let at = (of.applied(), of.term());
    let sequencer = of.sequencer().unwrap_or_default();
    let mut build = Box::new(Build::new(places.clone(), config, ids, at, sequencer));
    let built = loop {
        match run(Task::Build(build)) {
            Done::Build(built, Ok(true)) => break built,
            Done::Build(more, Ok(false)) => build = more,
            other => panic!("{other:?}"),
        }
    };
    let ready = built.into_ready().expect("it is complete");
    match run(Task::Place(places.clone())) {
        Done::Place(Ok(places)) => (places, ready),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::Put(Put {
        key: bytes(key),
        value: bytes(value),
        ..Put::default()
    })
}

pub(crate) fn leased(key: &str, lease: i64) -> Command {
    Command::Put(Put {
        key: bytes(key),
        lease,
        ..Put::default()
    })
}

pub(crate) fn delete(key: &str, range_end: &str) -> Command {
    Command::DeleteRange(DeleteRange {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    })
}

pub(crate) fn all() -> Range {
    Range {
        key: bytes("\0"),
        range_end: bytes("\0"),
        ..Range::default()
    }
}

pub(crate) fn request(range: KeyRange, start: i64) -> WatchRequest {
    WatchRequest::new(range, start)
}

pub(crate) fn keys(key: &str, range_end: &str) -> KeyRange {
    KeyRange::new(bytes(key), bytes(range_end))
}

/// An event, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) is_delete: bool,
    pub(crate) parts: Parts,
    pub(crate) previous: Option<Parts>,
}

pub(crate) fn event(bytes: &Bytes) -> Seen {
    let (mut at, mut is_delete, mut messages) = (0, false, Vec::new());
    while at < bytes.len() {
        let tag = bytes[at];
        at += 1;
        let (mut number, mut shift) = (0_usize, 0);
        loop {
            number |= usize::from(bytes[at] & 0x7f) << shift;
            at += 1;
            shift += 7;
            if bytes[at - 1] < 0x80 {
                break;
            }
        }
        if tag == 0x08 {
            is_delete = number == 1;
        } else {
            let record = Record::from_bytes(bytes.slice(at..at + number));
            messages.push((tag, record.decode().expect("a message")));
            at += number;
        }
    }
    let find = |tag| {
        messages
            .iter()
            .find(|it| it.0 == tag)
            .map(|it| it.1.clone())
    };
    Seen {
        is_delete,
        parts: find(0x12).expect("each event has a message"),
        previous: find(0x1a),
    }
}
