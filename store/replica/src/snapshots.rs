//! Snapshots given to replicas that lag, and taken from those that lead.
//!
//! ```text
//! gives   Raft: SnapshotMissing, or Load of one that is gone ─► pin ─► Export.. ─► Saved
//!         Raft: Load ─► Loaded
//! takes   Raft: Receive ─► Survey.. ─► Lacking ─► Store ─► Keep ─► Stored ─┐
//!         the last chunk's Stored waits for ◄─ Build.. (beside the engine) ◄┘
//!         Raft: Install ─► its record is durable ─► Place ─► Keyspace::replace ─► Tidy
//! ```
//!
//! What would surprise: one is made when somebody needs it, and not written anywhere. And Raft
//! believes the last chunk to be on its way to the disk for as long as the store is built, so
//! that what it then wants installed is ready. From there until the swap Raft stands still, for
//! the time of two syncs; what it wanted behind the swap waits for it.
//!
//! One task is under way at a time. Chunks in memory: four that came in (Raft's limit) and one
//! that goes out; requests for more than 64 are dropped, and come again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holm_base::{NodeId, Op, Time, WriteId};
use holm_kv::snapshot::{Build, BuildError, ChunkId, Done, Export, Pin, Places, Ready, Task};
use holm_kv::{StoreConfig, StoreError, snapshot::Survey};
use holm_raft::{Checkpoint, Manifest};

/// The shortest time between two that are made.
const MAKE_PAUSE: Duration = Duration::from_secs(5);
/// How long one is held for others after it was last asked for.
const HELD_FOR: Duration = Duration::from_secs(60);
/// The pause before another try when the disk was full.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// How many chunks may be asked for at a time.
const LOADS_MAX: usize = 64;

/// A piece of work and for whom it is.
#[derive(Debug)]
enum Errand {
    Export,
    Load { peer: NodeId, op: Op, index: u32 },
    Survey { serial: u64 },
    Keep { serial: u64, chunk: Chunk },
    Build { serial: u64 },
    Place,
    Tidy,
}

/// A chunk that came in.
#[derive(Clone, Debug)]
struct Chunk {
    op: Op,
    index: u32,
    id: ChunkId,
    bytes: Bytes,
}

/// One that is on its way in.
#[derive(Debug)]
struct Taking {
    serial: u64,
    manifest: Arc<Manifest>,
    ids: Arc<[ChunkId]>,
    /// Chunks that are not here yet, once that is known.
    missing: Option<BTreeSet<u32>>,
    /// The chunk whose [`holm_raft::Input::Stored`] waits for the store to be built.
    last: Option<u32>,
    survey: Option<Box<Survey>>,
    build: Option<Box<Build>>,
    ready: Option<Ready>,
}

/// One that waits to become the engine's state.
#[derive(Debug)]
struct Installing {
    op: Op,
    after: WriteId,
    /// What Raft wants once that is done.
    held: VecDeque<holm_raft::Effect>,
    is_asked: bool,
}

/// One that is given.
#[derive(Debug)]
struct Made {
    export: Arc<Export>,
    manifest: Arc<Manifest>,
    /// Whether Raft knows of it.
    is_told: bool,
    used: Time,
}

/// What the work on snapshots has come to.
#[derive(Debug)]
pub(crate) enum News {
    /// For Raft.
    Input(holm_raft::Input),
    /// The engine goes on with this state from here on.
    Swap(Box<Ready>),
    /// A person must look.
    Broken(&'static str),
    /// One is complete: its bytes, and how many chunks that is.
    Made { op: Op, bytes: u64, chunks: u32 },
}

/// Snapshots of one replica.
#[derive(Debug)]
pub(crate) struct Snapshots {
    places: Places,
    config: StoreConfig,
    chunk_bytes: u32,
    queue: VecDeque<Errand>,
    out: Option<Errand>,
    retry_at: Option<Time>,
    is_stopping: bool,
    serial: u64,
    is_wanted: bool,
    made_at: Option<Time>,
    making: Option<(Checkpoint, Option<Box<Export>>)>,
    made: Option<Made>,
    taking: Option<Taking>,
    installing: Option<Installing>,
    /// Whether files of an earlier engine are still there.
    is_untidy: bool,
}

impl Snapshots {
    pub(crate) const fn new(places: Places, config: StoreConfig, chunk_bytes: u32) -> Self {
        Self {
            places,
            config,
            chunk_bytes,
            queue: VecDeque::new(),
            out: None,
            retry_at: None,
            is_stopping: false,
            serial: 0,
            is_wanted: false,
            made_at: None,
            making: None,
            made: None,
            taking: None,
            installing: None,
            is_untidy: false,
        }
    }

    /// Begins nothing more, but ends what must be ended.
    pub(crate) const fn stop(&mut self) {
        self.is_stopping = true;
    }

    /// Somebody needs one that is not there. One that is on its way to be offered is as good.
    pub(crate) fn want(&mut self) {
        let is_coming = self.made.as_ref().is_some_and(|it| !it.is_told);
        self.is_wanted |= self.making.is_none() && !is_coming;
    }

    /// Nobody is to get one from here; who needs one asks again.
    pub(crate) const fn forget_want(&mut self) {
        self.is_wanted = false;
    }

    /// Whether one is wanted and nothing but time is in its way.
    const fn may_make(&self) -> bool {
        self.is_wanted && self.making.is_none() && self.installing.is_none() && !self.is_stopping
    }

    /// Whether one is to be made of the state as it is now.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.may_make() && self.made_at.is_none_or(|at| at + MAKE_PAUSE <= now)
    }

    /// Makes one of this state.
    pub(crate) fn make(&mut self, now: Time, checkpoint: Checkpoint, pin: Pin) {
        assert!(
            checkpoint.at.op == pin.applied(),
            "I7: Raft and the engine have applied the same"
        );
        self.is_wanted = false;
        self.made_at = Some(now);
        let export = Box::new(Export::new(pin, self.chunk_bytes));
        self.making = Some((checkpoint, Some(export)));
        self.queue.push_back(Errand::Export);
    }

    /// A peer wants a chunk.
    pub(crate) fn load(&mut self, now: Time, peer: NodeId, (op, index): (Op, u32)) {
        let held = self
            .made
            .as_mut()
            .filter(|it| it.export.pin().applied() == op);
        match held {
            Some(made) if index < made.export.chunk_count() => {
                made.used = now;
                let waiting = |it: &&Errand| matches!(it, Errand::Load { .. });
                if self.queue.iter().filter(waiting).count() < LOADS_MAX {
                    self.queue.push_back(Errand::Load { peer, op, index });
                }
            }
            // It has let go of that one: the peer asks again, and is offered the next.
            Some(_) | None => self.want(),
        }
    }

    /// One is on offer.
    pub(crate) fn receive(&mut self, manifest: Arc<Manifest>) {
        self.serial += 1;
        let serial = self.serial;
        let ids: Arc<[ChunkId]> = manifest.chunks.iter().map(|id| id.0).collect();
        let survey = Survey::new(self.places.clone(), Arc::clone(&ids));
        self.taking = Some(Taking {
            serial,
            manifest,
            ids,
            missing: None,
            last: None,
            survey: Some(Box::new(survey)),
            build: None,
            ready: None,
        });
        self.queue.push_back(Errand::Survey { serial });
    }

    /// A chunk came in.
    pub(crate) fn store(&mut self, op: Op, index: u32, id: ChunkId, bytes: Bytes) {
        let serial = self.serial;
        let chunk = Chunk {
            op,
            index,
            id,
            bytes,
        };
        self.queue.push_back(Errand::Keep { serial, chunk });
    }

    /// All of one is here and built: it becomes the state once `after` is durable.
    pub(crate) fn install(&mut self, op: Op, after: WriteId) {
        let ready = self.taking.as_ref().and_then(|it| it.ready.as_ref());
        assert!(
            ready.is_some_and(|ready| ready.applied() == op),
            "raft I11: only what was received whole is installed"
        );
        self.installing = Some(Installing {
            op,
            after,
            held: VecDeque::new(),
            is_asked: false,
        });
    }

    pub(crate) const fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Where Raft's effects go while the state is about to be another.
    pub(crate) const fn held(&mut self) -> Option<&mut VecDeque<holm_raft::Effect>> {
        match &mut self.installing {
            Some(installing) => Some(&mut installing.held),
            None => None,
        }
    }

    /// Writes are durable.
    pub(crate) fn durable(&mut self, through: WriteId) {
        if let Some(installing) = &mut self.installing
            && installing.after <= through
            && !std::mem::replace(&mut installing.is_asked, true)
        {
            self.queue.push_front(Errand::Place);
        }
    }

    /// The swap is done: its op, and what waited for it.
    pub(crate) fn installed(&mut self) -> (Op, VecDeque<holm_raft::Effect>) {
        let installing = self.installing.take();
        let installing = installing.expect("a swap was under way");
        self.taking = None;
        self.made = None;
        self.is_untidy = true;
        (installing.op, installing.held)
    }

    /// Looks at what time and the engine's files have brought.
    pub(crate) fn tend(
        &mut self,
        now: Time,
        durable: Op,
        has_old_jobs: bool,
    ) -> Option<holm_raft::Input> {
        if self.is_untidy && !has_old_jobs && self.taking.is_none() {
            self.is_untidy = false;
            self.queue.push_back(Errand::Tidy);
        }
        let made = self.made.as_mut()?;
        if !made.is_told && durable >= made.export.pin().applied() {
            // The log may be cut below it, so the engine's files must hold as much.
            made.is_told = true;
            made.used = now;
            let manifest = Arc::clone(&made.manifest);
            return Some(holm_raft::Input::Saved { manifest });
        }
        if made.is_told && made.used + HELD_FOR <= now {
            self.made = None;
        }
        None
    }

    /// When time alone brings something.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let made_at = self.made_at.filter(|_| self.may_make());
        let make = made_at.map(|at| at + MAKE_PAUSE);
        let told = self.made.as_ref().filter(|it| it.is_told);
        let drop = told.map(|it| it.used + HELD_FOR);
        [make, drop, self.retry_at].into_iter().flatten().min()
    }

    /// The next piece of work, unless one is under way.
    pub(crate) fn next_task(&mut self, now: Time) -> Option<Task> {
        if self.out.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        while let Some(errand) = self.queue.pop_front() {
            if self.is_stopping && !matches!(errand, Errand::Place) {
                continue;
            }
            if let Some(task) = self.task(&errand) {
                self.out = Some(errand);
                return Some(task);
            }
        }
        None
    }

    /// What an errand needs; `None` if nobody wants it any more.
    fn task(&mut self, errand: &Errand) -> Option<Task> {
        match errand {
            Errand::Export => {
                let (_, export) = self.making.as_mut()?;
                export.take().map(Task::Export)
            }
            Errand::Load { op, index, .. } => {
                let made = self.made.as_ref();
                let made = made.filter(|it| it.export.pin().applied() == *op)?;
                Some(Task::Load {
                    export: Arc::clone(&made.export),
                    index: *index,
                })
            }
            Errand::Survey { serial } => self.taking(*serial)?.survey.take().map(Task::Survey),
            Errand::Keep { serial, chunk } => {
                self.taking(*serial)?;
                Some(Task::Keep {
                    places: self.places.clone(),
                    id: chunk.id,
                    bytes: chunk.bytes.clone(),
                })
            }
            Errand::Build { serial } => self.taking(*serial)?.build.take().map(Task::Build),
            Errand::Place => Some(Task::Place(self.places.clone())),
            Errand::Tidy => Some(Task::Tidy(self.places.clone())),
        }
    }

    fn taking(&mut self, serial: u64) -> Option<&mut Taking> {
        self.taking.as_mut().filter(|it| it.serial == serial)
    }

    /// A task is done.
    ///
    /// # Errors
    ///
    /// If the disk failed in a way that only ending the process can answer.
    pub(crate) fn done(&mut self, now: Time, done: Done) -> Result<Vec<News>, StoreError> {
        let errand = self.out.take().expect("one task is under way");
        match (errand, done) {
            (Errand::Export, Done::Export(export, named)) => self.exported(now, export, named),
            (Errand::Load { peer, op, index }, Done::Load(bytes)) => {
                loaded(peer, (op, index), bytes)
            }
            (Errand::Survey { serial }, Done::Survey(survey, looked)) => {
                if !looked? {
                    if let Some(taking) = self.taking(serial) {
                        taking.survey = Some(survey);
                        self.queue.push_front(Errand::Survey { serial });
                    }
                    return Ok(Vec::new());
                }
                Ok(self.surveyed(serial, survey.missing()))
            }
            (Errand::Keep { serial, chunk }, Done::Keep(kept)) => {
                self.kept(now, serial, chunk, kept)
            }
            (Errand::Build { serial }, Done::Build(build, built)) => {
                self.built(now, serial, build, built)
            }
            (Errand::Place, Done::Place(places)) => {
                self.places = places?;
                let ready = self.taking.as_mut().and_then(|it| it.ready.take());
                let ready = ready.expect("what is placed is ready");
                Ok(vec![News::Swap(Box::new(ready))])
            }
            (Errand::Tidy, Done::Tidy(tidied)) => tidied.map(|()| Vec::new()),
            (errand, _) => unreachable!("{errand:?} was answered with something else"),
        }
    }

    fn exported(
        &mut self,
        now: Time,
        export: Box<Export>,
        named: Result<bool, StoreError>,
    ) -> Result<Vec<News>, StoreError> {
        let Some((checkpoint, place)) = &mut self.making else {
            return Ok(Vec::new());
        };
        match named {
            Ok(false) => {
                *place = Some(export);
                self.queue.push_back(Errand::Export);
                return Ok(Vec::new());
            }
            Ok(true) => {}
            Err(StoreError::Damaged { .. }) => {
                self.making = None;
                let what = "no snapshot can be made: a record here is damaged";
                return Ok(vec![News::Broken(what)]);
            }
            Err(error) => return Err(error),
        }
        let manifest = Arc::new(Manifest {
            checkpoint: checkpoint.clone(),
            chunk_bytes: self.chunk_bytes,
            chunks: export
                .ids()
                .iter()
                .copied()
                .map(holm_raft::ChunkId)
                .collect(),
            context: Bytes::new(),
        });
        self.making = None;
        let news = News::Made {
            op: export.pin().applied(),
            bytes: export.bytes().value(),
            chunks: export.chunk_count(),
        };
        self.made = Some(Made {
            export: Arc::new(*export),
            manifest,
            is_told: false,
            used: now,
        });
        Ok(vec![news])
    }

    fn surveyed(&mut self, serial: u64, missing: &[u32]) -> Vec<News> {
        let Some(taking) = self.taking(serial) else {
            return Vec::new();
        };
        taking.missing = Some(missing.iter().copied().collect());
        if missing.is_empty() {
            self.begin_build();
            return Vec::new();
        }
        let op = taking.manifest.checkpoint.at.op;
        let chunks = missing.to_vec();
        let mut news = vec![News::Input(holm_raft::Input::Lacking { op, chunks })];
        // A chunk that was kept was lost again: the one that waited for the store waits no more.
        if let Some(index) = taking.last.take() {
            news.push(stored(op, index, true));
        }
        news
    }

    fn kept(
        &mut self,
        now: Time,
        serial: u64,
        chunk: Chunk,
        kept: Result<bool, StoreError>,
    ) -> Result<Vec<News>, StoreError> {
        let is_good = match kept {
            Ok(is_good) => is_good,
            Err(error) if error.is_full() => {
                self.retry_at = Some(now + FULL_PAUSE);
                self.queue.push_front(Errand::Keep { serial, chunk });
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let Some(taking) = self.taking(serial) else {
            return Ok(Vec::new());
        };
        let (op, index) = (chunk.op, chunk.index);
        let missing = taking.missing.get_or_insert_default();
        if is_good && missing.remove(&index) && missing.is_empty() {
            taking.last = Some(index);
            self.begin_build();
            return Ok(Vec::new());
        }
        Ok(vec![stored(op, index, is_good)])
    }

    fn begin_build(&mut self) {
        let (places, config) = (self.places.clone(), self.config.clone());
        let Some(taking) = &mut self.taking else {
            return;
        };
        let checkpoint = &taking.manifest.checkpoint;
        let mut sequencer = BytesMut::new();
        checkpoint.encode(&mut sequencer);
        let at = (checkpoint.at.op, checkpoint.at.term);
        let ids = Arc::clone(&taking.ids);
        let build = Build::new(places, config, ids, at, sequencer.freeze());
        taking.build = Some(Box::new(build));
        let serial = taking.serial;
        self.queue.push_back(Errand::Build { serial });
    }

    fn built(
        &mut self,
        now: Time,
        serial: u64,
        mut build: Box<Build>,
        built: Result<bool, BuildError>,
    ) -> Result<Vec<News>, StoreError> {
        let places = self.places.clone();
        let Some(taking) = self.taking.as_mut().filter(|it| it.serial == serial) else {
            return Ok(Vec::new());
        };
        match built {
            Ok(true) => {}
            Ok(false) => {
                taking.build = Some(build);
                self.queue.push_back(Errand::Build { serial });
                return Ok(Vec::new());
            }
            Err(BuildError::Spoiled { .. }) => {
                let survey = Survey::new(places, Arc::clone(&taking.ids));
                taking.survey = Some(Box::new(survey));
                self.queue.push_back(Errand::Survey { serial });
                return Ok(Vec::new());
            }
            Err(BuildError::Nonsense { .. }) => {
                // Raft waits for the last chunk, and takes the next snapshot that is offered.
                let what = "a snapshot that was received whole holds no state";
                return Ok(vec![News::Broken(what)]);
            }
            Err(BuildError::Store(error)) if error.is_full() => {
                build.restart();
                taking.build = Some(build);
                self.retry_at = Some(now + FULL_PAUSE);
                self.queue.push_front(Errand::Build { serial });
                return Ok(Vec::new());
            }
            Err(BuildError::Store(error)) => return Err(error),
        }
        taking.ready = build.into_ready();
        let op = taking.manifest.checkpoint.at.op;
        let chunks = Vec::new();
        Ok(vec![match taking.last.take() {
            Some(index) => stored(op, index, true),
            None => News::Input(holm_raft::Input::Lacking { op, chunks }),
        }])
    }
}

const fn stored(op: Op, index: u32, is_good: bool) -> News {
    News::Input(holm_raft::Input::Stored { op, index, is_good })
}

fn loaded(
    peer: NodeId,
    (op, index): (Op, u32),
    bytes: Result<Bytes, StoreError>,
) -> Result<Vec<News>, StoreError> {
    match bytes {
        Ok(bytes) => {
            let bytes = Some(bytes);
            let input = holm_raft::Input::Loaded {
                peer,
                op,
                index,
                bytes,
            };
            Ok(vec![News::Input(input)])
        }
        Err(StoreError::Damaged { .. }) => {
            let what = "a chunk cannot be made: a record here is damaged";
            Ok(vec![News::Broken(what)])
        }
        Err(error) => Err(error),
    }
}
