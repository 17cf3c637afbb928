//! Restart: the durable mark, the newest checkpoint that is whole, the frames behind it.
//!
//! ```text
//!  checkpoint ─► frames ─► ... ✗ damage ... ─► durable mark
//!                         └─ the log holds every op from here to the mark? go on from here
//! ```
//!
//! Frames below the mark that are damaged can be made again by applying the log's entries
//! (I9), if the log still has all of them; else opening is refused (I7).
//!
//! What would surprise: above the durable mark the first frame that is not whole, or does not
//! fit the one before, ends the line, and that is no damage (I6). Below it, it is (I7).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use holm_base::{ByteCount, Op, Term};
use holm_machine::{DiskError, Folder};

use crate::checkpoint::{self, Fact, Loaded, remove_if_there, versions};
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::flush::{CLEAN_SPARE, SPARE, Writer};
use crate::frame::{RecordKind, Stored, chain_of, digest};
use crate::head::{self, HeadFile, Owner, Position};
use crate::history::{History, Place, Slot};
use crate::index::Index;
use crate::layout::narrow;
use crate::record::Record;
use crate::root::Root;
use crate::scan::{Item, Scanner};
use crate::segment::{Pending, SEGMENT_HEAD, Segment, SegmentHead, SegmentKind, Table};
use crate::store::{Store, stored_bytes};
use crate::tail::Tail;
use crate::upkeep::{Checkpoints, Retired, Upkeep};

/// What the folder holds.
struct Files {
    all: Vec<String>,
    /// Segments of the tail kind, by the number of their first frame. Several may claim the
    /// same one after a crash; the chain decides.
    tails: BTreeMap<(u64, u32), SegmentHead>,
    checkpoints: Vec<u64>,
}

/// Opens; `held` are the first and the last op of what the caller can apply again.
pub(crate) fn open(
    folder: Arc<dyn Folder>,
    config: StoreConfig,
    held: Option<(Op, Op)>,
) -> Result<Store, StoreError> {
    let owner = config.owner();
    let files = list(folder.as_ref(), owner)?;
    let has_head = files.all.iter().any(|name| name == head::NAME);
    let (head, durable) = if has_head {
        HeadFile::open(folder.as_ref(), owner)?
    } else {
        refuse_strangers(&files)?;
        let head = HeadFile::create(folder.as_ref(), owner).map_err(failed("create the store"))?;
        (head, Position::START)
    };
    let Restored { state, bad, healed } =
        restore(folder.as_ref(), owner, &files, (&durable, held))?;
    let mut store = finish(folder, config, head, &files, state, bad)?;
    store.healed = healed;
    Ok(store)
}

fn failed(attempted: &'static str) -> impl Fn(DiskError) -> StoreError {
    move |source| StoreError::Disk {
        attempted: attempted.to_owned(),
        source,
    }
}

fn list(folder: &dyn Folder, owner: Owner) -> Result<Files, StoreError> {
    let all = folder.list().map_err(failed("list the store's files"))?;
    let mut tails = BTreeMap::new();
    for name in &all {
        let Some(number) = Segment::number_of(name) else {
            continue;
        };
        let Some(head) = segment_head(folder, name)? else {
            continue;
        };
        let theirs = Owner {
            cluster: head.cluster,
            group: head.group,
        };
        if theirs != owner || head.number != number {
            return Err(StoreError::Foreign {
                file: name.clone(),
                found: format!(
                    "it is segment {} of cluster {}, group {}",
                    head.number, head.cluster, head.group
                ),
            });
        }
        if head.kind == SegmentKind::Tail {
            tails.insert((head.first_frame, number), head);
        }
    }
    let mut checkpoints: Vec<_> = all
        .iter()
        .filter_map(|name| checkpoint::number_of(name))
        .collect();
    checkpoints.sort_unstable();
    Ok(Files {
        all,
        tails,
        checkpoints,
    })
}

/// A segment's header, if it is whole. It is not, if a crash came before it was durable; what
/// should have been there is missed by whoever needs it.
fn segment_head(folder: &dyn Folder, name: &str) -> Result<Option<SegmentHead>, StoreError> {
    let disk = folder
        .open_read_only(name)
        .map_err(failed("open a segment"))?;
    let mut bytes = vec![0; 4096];
    match disk.read(ByteCount::ZERO, &mut bytes) {
        Ok(()) => Ok(SegmentHead::decode(&bytes).ok()),
        Err(DiskError::Short { .. }) => Ok(None),
        Err(error) => Err(failed("read a segment's header")(error)),
    }
}

/// Without a head the folder must be fresh.
fn refuse_strangers(files: &Files) -> Result<(), StoreError> {
    let stranger = files.all.iter().find(|name| *name != head::NEW_NAME);
    stranger.map_or(Ok(()), |name| {
        let ours = Segment::number_of(name).is_some() || checkpoint::number_of(name).is_some();
        Err(if ours {
            StoreError::Damaged {
                file: head::NAME.to_owned(),
                at: ByteCount::ZERO,
                found: format!("it is missing, but {name} is there"),
            }
        } else {
            StoreError::Foreign {
                file: name.clone(),
                found: "the directory holds no kv store, and is not empty".to_owned(),
            }
        })
    })
}

/// The state at the end of the last whole batch.
struct State {
    root: Root,
    facts: Index<Fact>,
    position: Position,
    checkpoint: Option<(u64, u64)>,
    /// Bytes of the frames behind the checkpoint.
    replayed: u64,
}

/// What opening found to go on from.
struct Restored {
    state: State,
    /// Checkpoints that were of no use.
    bad: Vec<u64>,
    /// The damage that what is held makes good.
    healed: Option<StoreError>,
}

/// Loads the newest checkpoint that leads to the durable mark, or else what leads so far that
/// the rest is held elsewhere.
fn restore(
    folder: &dyn Folder,
    owner: Owner,
    files: &Files,
    (durable, held): (&Position, Option<(Op, Op)>),
) -> Result<Restored, StoreError> {
    let mut bad = Vec::new();
    let mut first = None;
    let mut partial: Option<Restored> = None;
    let starts = files.checkpoints.iter().rev().copied().map(Some);
    // Until the second checkpoint all frames are there.
    for start in starts.chain([None]) {
        let state = match start {
            Some(number) => {
                checkpoint::load(folder, number, owner).and_then(|it| State::of(it, folder))
            }
            None => Ok(State::fresh()),
        };
        let problem = match state.and_then(|it| it.replay(folder, files, durable)) {
            Ok((state, None)) => {
                return Ok(Restored {
                    state,
                    bad,
                    healed: None,
                });
            }
            Ok((state, Some(problem))) => {
                let best = partial.as_ref().map(|it| it.state.position.op);
                let is_held = can_go_on(&state.position, durable, held);
                if is_held && best.is_none_or(|best| best < state.position.op) {
                    partial = Some(Restored {
                        state,
                        bad: bad.clone(),
                        healed: Some(problem.clone()),
                    });
                }
                problem
            }
            Err(error @ StoreError::Damaged { .. }) => error,
            Err(error) => return Err(error),
        };
        bad.extend(start);
        first.get_or_insert(problem);
    }
    partial.ok_or_else(|| first.expect("a start from nothing was tried at least"))
}

/// Whether everything from a position to the durable mark can be applied again.
fn can_go_on(position: &Position, durable: &Position, held: Option<(Op, Op)>) -> bool {
    held.is_some_and(|(first, last)| first.value() <= position.op + 1 && last.value() >= durable.op)
}

impl State {
    fn fresh() -> Self {
        Self {
            root: Root {
                index: Index::new(),
                history: History::starting_at(1),
                table: Arc::default(),
                pending: Arc::default(),
                revision: 1,
                compacted: 0,
                since: None,
            },
            facts: Index::new(),
            position: Position::START,
            checkpoint: None,
            replayed: 0,
        }
    }

    fn of(loaded: Loaded, folder: &dyn Folder) -> Result<Self, StoreError> {
        let mut table = Table::default();
        for segment in loaded.segments {
            give_file(folder, &segment)?;
            if segment.number == loaded.position.segment {
                segment.cut(loaded.position.end);
            }
            table.insert(segment);
        }
        Ok(Self {
            root: Root {
                index: loaded.index,
                history: loaded.history,
                table: Arc::new(table),
                pending: Arc::new(Pending::default()),
                revision: loaded.position.revision,
                compacted: loaded.compacted,
                since: None,
            },
            facts: loaded.facts,
            position: loaded.position,
            checkpoint: Some((loaded.number, loaded.bytes)),
            replayed: 0,
        })
    }

    /// Applies all whole batches behind the position. Gives what ended them too early, if they
    /// do not reach the durable mark: the state is then that of an earlier op.
    fn replay(
        mut self,
        folder: &dyn Folder,
        files: &Files,
        durable: &Position,
    ) -> Result<(Self, Option<StoreError>), StoreError> {
        let mut batch = Vec::new();
        // Where the next frame is looked for; beyond the position only within a batch.
        let mut at = self.position;
        let mut problem = None;
        loop {
            let ended = match self.root.table.find(at.segment).map(Arc::clone) {
                Some(segment) => self.replay_segment(&segment, &mut at, &mut batch)?,
                None => None,
            };
            problem = ended.or(problem);
            let next = files.tails.range((at.frame, 0)..=(at.frame, u32::MAX));
            // A segment that is left over from before a crash does not fit the chain.
            let mut next = next.filter(|(key, _)| key.1 > at.segment || at.frame == 0);
            let found = next.find(|(key, _)| {
                self.root.table.find(key.1).is_none() && fits(folder, key.1, at.chain)
            });
            let Some((_, head)) = found else {
                break;
            };
            let bytes = file_len(folder, &Segment::name(head.number))?;
            let segment = Arc::new(Segment::new(head, bytes));
            give_file(folder, &segment)?;
            at.segment = head.number;
            at.end = SEGMENT_HEAD;
            Arc::make_mut(&mut self.root.table).insert(segment);
        }
        let is_short = self.position.frame < durable.frame;
        let shortfall = is_short.then(|| {
            problem.unwrap_or_else(|| StoreError::Damaged {
                file: Segment::name(at.segment),
                at: ByteCount::new(at.end),
                found: format!(
                    "frames {} to {} are missing",
                    self.position.frame, durable.frame
                ),
            })
        });
        self.drop_behind(at.segment);
        Ok((self, shortfall))
    }

    /// Applies what one segment holds from `at` on. Gives what ended it, if not its end.
    fn replay_segment(
        &mut self,
        segment: &Arc<Segment>,
        at: &mut Position,
        batch: &mut Vec<(Place, Stored)>,
    ) -> Result<Option<StoreError>, StoreError> {
        loop {
            let start = at.end;
            let mut scanner = Scanner::new(segment, start, segment.bytes);
            let frame = match next_frame(&mut scanner, at, batch) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(None),
                Err(error @ StoreError::Damaged { .. }) => return Ok(Some(error)),
                Err(error) => return Err(error),
            };
            let main = frame.first_main.unwrap_or(frame.position.revision);
            segment.mark(main, start);
            self.replayed += frame.position.end - start;
            *at = frame.position;
            // If the batch turns out to have no end, `drop_behind` takes this back.
            segment.set_written(at.end);
            if !frame.continues {
                for (place, stored) in batch.drain(..) {
                    self.apply(place, &stored).ok_or_else(|| {
                        segment.damaged(place.offset(), "a record makes no sense")
                    })?;
                }
                self.root.revision = at.revision;
                self.position = *at;
            }
        }
    }

    /// Segments that only hold a batch without an end are none of this store.
    fn drop_behind(&mut self, last: u32) {
        let table = Arc::make_mut(&mut self.root.table);
        if last != self.position.segment {
            let behind: Vec<_> = table
                .in_order()
                .iter()
                .filter(|it| it.kind == SegmentKind::Tail && it.number > self.position.segment)
                .map(Arc::clone)
                .collect();
            table.replace(&behind, None);
        }
        if let Some(segment) = table.find(self.position.segment) {
            segment.cut(self.position.end);
        }
    }

    fn apply(&mut self, place: Place, stored: &Stored) -> Option<()> {
        let head = stored.head;
        match head.kind {
            RecordKind::Put | RecordKind::Delete => {
                let parts = Record::from_bytes(stored.body.clone()).decode()?;
                let newest = self.root.index.get(&parts.key).copied();
                let newest = newest.filter(|newest| !self.root.is_past(newest));
                let older = newest.map_or(0, |slot| self.root.history.push(slot, head.main));
                let slot = Slot {
                    modified: head.main,
                    create: parts.create,
                    version: parts.version,
                    lease: parts.lease,
                    older,
                    sub: head.sub,
                    place,
                    bytes: narrow(stored.body.len()),
                };
                self.root.index.insert(&parts.key, slot);
            }
            RecordKind::Fact => {
                let key = usize::try_from(head.key_bytes).ok()?;
                let value = Bytes::copy_from_slice(&stored.body[key..]);
                self.facts.insert(&stored.body[..key], Fact(value));
            }
            RecordKind::FactRemoved => {
                self.facts.remove(&stored.body);
            }
            RecordKind::Compacted => self.root.compacted = head.main,
        }
        Some(())
    }
}

struct NextFrame {
    position: Position,
    continues: bool,
    first_main: Option<i64>,
}

/// Reads one frame that follows `at`, and adds its records to the batch.
fn next_frame(
    scanner: &mut Scanner<'_>,
    at: &Position,
    batch: &mut Vec<(Place, Stored)>,
) -> Result<Option<NextFrame>, StoreError> {
    let kept = batch.len();
    let read = read_frame(scanner, at, batch);
    if !matches!(read, Ok(Some(_))) {
        batch.truncate(kept);
    }
    read
}

fn read_frame(
    scanner: &mut Scanner<'_>,
    at: &Position,
    batch: &mut Vec<(Place, Stored)>,
) -> Result<Option<NextFrame>, StoreError> {
    let Some(Item::Frame(head, bytes)) = scanner.next()? else {
        return Ok(None);
    };
    let segment = at.segment;
    let wrong = |scanner: &Scanner<'_>, found| scanner.bad(crate::layout::Bad(found));
    let Some(chain) = chain_of(&bytes, at.chain).filter(|_| head.number == at.frame) else {
        return Err(wrong(scanner, "a frame does not follow the one before"));
    };
    let (mut sum, mut records, mut first_main) = (0, 0, None);
    while !scanner.between_frames() {
        if let Some(Item::Record(place, stored)) = scanner.next()? {
            sum = digest(sum, stored.checksum);
            records += 1;
            if matches!(stored.head.kind, RecordKind::Put | RecordKind::Delete) {
                first_main.get_or_insert(stored.head.main);
            }
            batch.push((place, stored));
        }
    }
    if sum != head.digest || records != head.records {
        return Err(wrong(
            scanner,
            "a frame's records are not those it was made of",
        ));
    }
    Ok(Some(NextFrame {
        position: Position {
            segment,
            end: scanner.at(),
            frame: at.frame + 1,
            chain,
            op: head.op,
            term: head.term,
            revision: head.revision,
        },
        continues: head.continues,
        first_main,
    }))
}

/// Whether a segment's first frame follows a frame with this chain.
fn fits(folder: &dyn Folder, number: u32, chain: u64) -> bool {
    let mut bytes = [0; 64];
    let Ok(disk) = folder.open_read_only(&Segment::name(number)) else {
        return false;
    };
    let read = disk.read(ByteCount::new(SEGMENT_HEAD), &mut bytes);
    read.is_ok() && chain_of(&bytes, chain).is_some()
}

fn file_len(folder: &dyn Folder, name: &str) -> Result<u64, StoreError> {
    let disk = folder.open_read_only(name);
    let len = disk.and_then(|disk| disk.len());
    Ok(len.map_err(failed("measure a file"))?.value())
}

fn give_file(folder: &dyn Folder, segment: &Segment) -> Result<(), StoreError> {
    match folder.open_read_only(&Segment::name(segment.number)) {
        Ok(disk) => {
            segment.set_file(disk);
            Ok(())
        }
        Err(DiskError::NotFound { .. }) => Err(segment.damaged(0, "the file is missing")),
        Err(error) => Err(failed("open a segment")(error)),
    }
}

/// Removes what is not needed, counts what is, and makes the store.
fn finish(
    folder: Arc<dyn Folder>,
    config: StoreConfig,
    head: HeadFile,
    files: &Files,
    mut state: State,
    bad: Vec<u64>,
) -> Result<Store, StoreError> {
    let owner = config.owner();
    let mut next_segment = files
        .all
        .iter()
        .filter_map(|name| Segment::number_of(name))
        .max();
    next_segment = Some(next_segment.unwrap_or(0) + 1);
    let mut next_segment = next_segment.expect("it was just set");
    let checkpoints = checkpoints(folder.as_ref(), owner, files, &state, &bad)?;
    remove_others(folder.as_ref(), &config, files, &state, &checkpoints)
        .map_err(failed("remove files that are not needed"))?;

    let number = state.position.segment;
    let (segment, file) = if let Some(segment) = state.root.table.find(number) {
        let disk = folder.open(&Segment::name(number));
        let disk = disk.map_err(failed("open the newest segment"))?;
        (Arc::clone(segment), Some((number, disk)))
    } else {
        let head = SegmentHead {
            cluster: owner.cluster,
            group: owner.group,
            kind: SegmentKind::Tail,
            number: next_segment,
            first: (state.root.revision + 1, 0),
            first_frame: state.position.frame,
        };
        next_segment += 1;
        state.position.segment = head.number;
        let segment = Arc::new(Segment::new(&head, config.segment_bytes.value()));
        Arc::make_mut(&mut state.root.table).insert(Arc::clone(&segment));
        (segment, None)
    };
    let writer = Writer {
        folder: Arc::clone(&folder),
        owner,
        head,
        file,
        segment_bytes: config.segment_bytes.value(),
        spares: false,
        buffer: Vec::new(),
    };
    let pending = Arc::clone(&state.root.pending);
    let mut store = Store {
        tail: Tail::new(segment, pending, state.position),
        uses: BTreeMap::new(),
        dead: VecDeque::new(),
        key_bytes: 0,
        fact_bytes: 0,
        subs: 0,
        main: None,
        dirty: false,
        applied: Op::new(state.position.op),
        term: Term::new(state.position.term),
        sequenced: None,
        next_segment,
        upkeep: Upkeep::new(writer, state.position, checkpoints),
        root: state.root,
        facts: state.facts,
        config,
        folder,
        healed: None,
    };
    recount(&mut store);
    store.sequenced = store.sequencer().map(|_found| store.applied);
    Ok(store)
}

/// Which checkpoints are kept, and what the older one needs beyond the newer one.
fn checkpoints(
    folder: &dyn Folder,
    owner: Owner,
    files: &Files,
    state: &State,
    bad: &[u64],
) -> Result<Checkpoints, StoreError> {
    let next = files.checkpoints.last().map_or(1, |last| last + 1);
    let mut found = Checkpoints::new(Vec::new(), next, state.replayed);
    for number in bad {
        let bytes = file_len(folder, &checkpoint::name(*number))?;
        found.bad.push((*number, bytes));
    }
    let Some(newest) = state.checkpoint else {
        return Ok(found);
    };
    let older = files.checkpoints.iter().rev().find(|it| **it < newest.0);
    if let Some(older) = older {
        match checkpoint::outline(folder, *older, owner) {
            Ok((position, bytes, segments)) => {
                found.kept.push((*older, bytes));
                let named = segments.iter().map(|segment| segment.number);
                let behind = files.tails.iter().filter(|it| it.0.0 >= position.frame);
                let behind = behind.filter(|it| it.0.0 <= state.position.frame);
                let needed: BTreeSet<_> = named.chain(behind.map(|it| it.0.1)).collect();
                for number in needed {
                    let name = Segment::name(number);
                    if state.root.table.find(number).is_none() && files.all.contains(&name) {
                        found.retired.push(Retired {
                            number,
                            bytes: file_len(folder, &name)?,
                            segment: None,
                            checkpoints: 1,
                        });
                    }
                }
            }
            Err(StoreError::Damaged { .. }) => {
                let bytes = file_len(folder, &checkpoint::name(*older))?;
                found.bad.push((*older, bytes));
            }
            Err(error) => return Err(error),
        }
    }
    found.kept.push(newest);
    let waits = !found.retired.is_empty();
    found.retired_since = waits.then_some(holm_base::Time::ZERO);
    Ok(found)
}

/// Removes what a crash left behind. Whatever a checkpoint needs stays.
fn remove_others(
    folder: &dyn Folder,
    config: &StoreConfig,
    files: &Files,
    state: &State,
    checkpoints: &Checkpoints,
) -> Result<(), DiskError> {
    for name in &files.all {
        let segment = Segment::number_of(name).is_some_and(|number| {
            let named = state.root.table.find(number).is_some();
            !named && checkpoints.retired.iter().all(|it| it.number != number)
        });
        let checkpoint = checkpoint::number_of(name).is_some_and(|number| {
            let kept = checkpoints.kept.iter().any(|it| it.0 == number);
            !kept && checkpoints.bad.iter().all(|it| it.0 != number)
        });
        let spare = (name == SPARE || name == CLEAN_SPARE)
            && folder.open_read_only(name)?.len()? != config.segment_bytes;
        if segment || checkpoint || spare || name.ends_with(".new") {
            remove_if_there(folder, name)?;
        }
    }
    Ok(())
}

/// Counts what is not stored: the use of each segment, the deleted keys, the lengths.
fn recount(store: &mut Store) {
    for segment in store.root.table.in_order() {
        store.uses.insert(segment.number, 0);
    }
    let uses = &mut store.uses;
    versions(&store.root, &mut |slot| {
        *uses.entry(slot.place.segment).or_default() += stored_bytes(slot);
    });
    let mut dead = Vec::new();
    let mut key_bytes = 0;
    let _end = store.root.index.scan(b"", &mut |key, slot| {
        key_bytes += crate::layout::count(key.len());
        if slot.version == 0 {
            dead.push((slot.modified, Bytes::copy_from_slice(key)));
        }
        ControlFlow::Continue(())
    });
    dead.sort_unstable();
    store.dead = dead.into();
    store.key_bytes = key_bytes;
    let mut fact_bytes = 0;
    let _end = store.facts.scan(b"", &mut |key, fact| {
        fact_bytes += crate::layout::count(key.len() + fact.0.len());
        ControlFlow::Continue(())
    });
    store.fact_bytes = fact_bytes;
}
