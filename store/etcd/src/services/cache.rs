//! The home of a cache: a call that stays open, over which a place far away is told what happens
//! to the keys that it keeps, and how sure it can be of that.
//!
//! ```text
//!  cache ── Report, Fetch ─► Home ── Confirm, Read ─► read index ─► events up to it ─┐
//!        ◄─ Frame, Value ──    ▲                                                     │
//!                              └────────────── Confirmed, Read ◄─────────────────────┘
//! ```
//!
//! The rules are `spine/freshness`'s; here it is given what it asks for. The index is the one that
//! any linearizable read takes. What lies between the state that may be read and the events that
//! were told is closed by the hub: it tells a revision only behind all events up to it.
//!
//! What would surprise: one watch over the whole keyspace stands for all keys of a cache. A cache
//! keeps many of few keys or few of many; a watch for each would cost the hub more.
//!
//! |limit|answer|
//! |--|--|
//! |10 s for the first message|`DeadlineExceeded`|
//! |1 M keys|one of which the cache has nothing, else the one known longest, is forgotten, and the cache is told|
//! |4,096 keys that are being read|nothing more is heard from the cache meanwhile|
//! |16 MiB of changes|a frame leaves before its time|
//! |a cache that does not read what it is told|nothing is gathered for it: the hub keeps a cursor|

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holm_base::{Revision, Time};
use holm_freshness::{Found, Home, HomeConfig, HomeEffect, HomeInput, ToHome};
use holm_kv::command::Range;
use holm_kv::{KeyRange, WatchAnswer, WatchRequest};
use holm_machine::{Effects, Machine as _};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Services;
use crate::grpc::wire::Cord;
use crate::holm::cache::{Ask, BOUNDS, CacheAsk, CacheTell, Open, Opened, Tell};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::mvccpb::{Event, event::EventType};
use crate::seat::Seat;
use crate::status::{Code, Status};
use crate::{convert, errors};

/// How long a cache may take to say what it wants.
const GREETING: Duration = Duration::from_secs(10);
/// What is asked of the hub at once.
const BATCH_BYTES: usize = 256 << 10;
/// Keys that are being read for a cache.
const READS_MAX: usize = 4_096;
/// How long after a read index that could not be had the next is asked for.
const INDEX_AGAIN: Duration = Duration::from_millis(100);
const KEYS_MAX: usize = 1_000_000;
const ITEMS_MAX: usize = 1_000;
const CHANGES_BYTES_MAX: usize = 16 << 20;

type Index = std::pin::Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

impl Services {
    /// Tells a cache what happens, until it leaves.
    ///
    /// # Errors
    ///
    /// A cache that is for another keyspace, or whose bound cannot be kept; users that are
    /// enforced, for a cache answers whoever reaches it; what is no message of a cache.
    pub(crate) async fn follow(
        &self,
        cord: &Cord,
        tells: mpsc::Sender<CacheTell>,
    ) -> Result<(), Status> {
        let greeted = tokio::time::timeout(GREETING, next(cord)).await;
        let late = |_elapsed| Status::new(Code::DeadlineExceeded, "a cache said nothing");
        let Some(first) = greeted.map_err(late)?? else {
            return Ok(());
        };
        let bound = self.bound_of(first)?;
        self.check_no_users()?;
        let opened = self.opened();
        let tell = Some(Tell::Opened(opened));
        if tells.send(CacheTell { tell }).await.is_err() {
            return Ok(());
        }
        Session::begin(self, bound, tells).run(cord).await
    }

    fn bound_of(&self, first: CacheAsk) -> Result<Duration, Status> {
        let refused = |text: String| Err(Status::new(Code::InvalidArgument, text));
        let Some(Ask::Open(Open { keyspace, bound_us })) = first.ask else {
            return refused("a cache begins by saying what it is for".to_owned());
        };
        let here = self.handle().keyspace();
        if keyspace != here {
            return refused(format!(
                "this is keyspace {here}, and the cache is for {keyspace}"
            ));
        }
        let bound = Duration::from_micros(bound_us);
        if BOUNDS.contains(&bound) {
            return Ok(bound);
        }
        refused(format!(
            "a bound of {bound:?} cannot be kept: from 20 ms to an hour can"
        ))
    }

    fn opened(&self) -> Opened {
        let (handle, view) = (self.handle(), self.handle().view());
        let identity = handle.identity();
        Opened {
            cluster: identity.cluster.value(),
            member: identity.node.value(),
            term: self.term_of(&view),
        }
    }

    /// Whoever reaches a cache is answered, so there must be nobody who may not know.
    fn check_no_users(&self) -> Result<(), Status> {
        if self.handle().view().auth.enabled() {
            let text = "users are enforced in this keyspace, and a cache would answer whoever reaches it: all reads go \
                        home";
            return Err(Status::new(Code::FailedPrecondition, text));
        }
        Ok(())
    }

    /// Waits for a read index, and as long as there is no leader to give one.
    async fn index(self) -> Result<(), Status> {
        loop {
            match self.catch_up().await {
                Err(status) if status.code() == Code::Unavailable => {
                    tokio::time::sleep(INDEX_AGAIN).await;
                }
                done => return done,
            }
        }
    }
}

/// The next message of a cache; `None` at its end.
async fn next(cord: &Cord) -> Result<Option<CacheAsk>, Status> {
    let Some(message) = cord.message().await? else {
        return Ok(None);
    };
    let unread = |error| Status::new(Code::Internal, format!("read a cache's message: {error}"));
    CacheAsk::decode(message).map(Some).map_err(unread)
}

/// What was asked of the state, and must be answered from behind a read index.
#[derive(Debug, Default)]
struct Wanted {
    confirm: Option<u64>,
    reads: Vec<(u64, Bytes)>,
}

impl Wanted {
    const fn is_empty(&self) -> bool {
        self.confirm.is_none() && self.reads.is_empty()
    }
}

/// Where what is wanted stands.
enum Stage {
    Idle,
    /// An index is being taken for these.
    Asking(Index, Wanted),
    /// All up to the index can be read; events up to there are still to come.
    Behind(Revision, Wanted),
}

/// A cache that is connected.
struct Session<'a> {
    services: &'a Services,
    seat: Seat,
    bell: Arc<Notify>,
    home: Home,
    effects: Effects<HomeEffect>,
    tells: mpsc::Sender<CacheTell>,
    stage: Stage,
    /// What waits for the next index.
    wanted: Wanted,
    /// Between the machine's clock and that of waiting.
    start: (Time, Instant),
    is_left: bool,
}

impl<'a> Session<'a> {
    fn begin(services: &'a Services, bound: Duration, tells: mpsc::Sender<CacheTell>) -> Self {
        let handle = services.handle();
        let bell = Arc::new(Notify::new());
        let rung = Arc::clone(&bell);
        let seat = Seat::open(handle.hub(), Arc::new(move || rung.notify_one()));
        let now = handle.now();
        seat.hub
            .create(seat.stream, everything(), now, &handle.view());
        let config = HomeConfig {
            bound,
            keys_max: KEYS_MAX,
            items_max: ITEMS_MAX,
            bytes_max: CHANGES_BYTES_MAX,
        };
        Self {
            services,
            seat,
            bell,
            home: Home::new(config, now),
            effects: Effects::new(),
            tells,
            stage: Stage::Idle,
            wanted: Wanted::default(),
            start: (now, Instant::now()),
            is_left: false,
        }
    }

    async fn run(mut self, cord: &Cord) -> Result<(), Status> {
        while !self.is_left {
            self.take_events().await?;
            self.ask_index();
            let wake = self.home.wake_at().unwrap_or(self.start.0);
            let wake = self.start.1 + wake.since(self.start.0);
            let has_room = self.wanted.reads.len() < READS_MAX;
            tokio::select! {
                message = next(cord), if has_room => match message? {
                    Some(message) => {
                        let message = ToHome::try_from(message)?;
                        self.step(HomeInput::Message(message)).await;
                    }
                    None => return Ok(()),
                },
                indexed = indexed(&mut self.stage) => {
                    let wanted = indexed?;
                    self.services.check_no_users()?;
                    let view = self.services.handle().view();
                    self.stage = Stage::Behind(view.revision(), wanted);
                    self.seat.hub.request_progress(self.seat.stream);
                }
                () = self.bell.notified() => {}
                () = tokio::time::sleep_until(wake) => self.step(HomeInput::Wake).await,
            }
        }
        Ok(())
    }

    /// Takes what the hub has: each change, and behind them how far they go.
    async fn take_events(&mut self) -> Result<(), Status> {
        loop {
            let handle = self.services.handle();
            let view = handle.view();
            let answers = self
                .seat
                .hub
                .poll(self.seat.stream, handle.now(), &view, BATCH_BYTES);
            if answers.is_empty() {
                return Ok(());
            }
            for answer in answers {
                if answer.canceled {
                    return Err(lost(&answer));
                }
                let is_progress = answer.watch_id == -1 && answer.events.is_empty();
                if is_progress && !answer.created {
                    self.settle(Revision::new(answer.revision)).await?;
                }
                for event in answer.events {
                    let (key, found) = change(event)?;
                    self.step(HomeInput::Written { key, found }).await;
                }
            }
        }
    }

    /// All changes up to `revision` were told: what waited for that is answered.
    async fn settle(&mut self, revision: Revision) -> Result<(), Status> {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Behind(index, wanted) if revision >= index => {
                for (number, key) in wanted.reads {
                    let found = self.read(&key)?;
                    self.step(HomeInput::Read { number, key, found }).await;
                }
                if let Some(number) = wanted.confirm {
                    self.step(HomeInput::Confirmed { number, revision }).await;
                }
            }
            Stage::Behind(index, wanted) => {
                self.stage = Stage::Behind(index, wanted);
                self.seat.hub.request_progress(self.seat.stream);
            }
            stage @ (Stage::Idle | Stage::Asking(..)) => self.stage = stage,
        }
        Ok(())
    }

    /// What a key holds now.
    fn read(&self, key: &Bytes) -> Result<Found, Status> {
        let view = self.services.handle().view();
        let request = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        self.services.count_range();
        let range: Range = convert::range(request);
        let found = view.read(&range)?;
        let Some(record) = found.records.into_iter().next() else {
            return Ok(Found {
                value: None,
                revision: view.revision(),
            });
        };
        let parts = record.decode().ok_or_else(damaged)?;
        Ok(Found {
            value: Some(record.bytes().clone()),
            revision: Revision::new(parts.modified),
        })
    }

    /// Takes an index for what is wanted, unless one is being taken.
    fn ask_index(&mut self) {
        if matches!(self.stage, Stage::Idle) && !self.wanted.is_empty() {
            let wanted = std::mem::take(&mut self.wanted);
            let index = Box::pin(self.services.clone().index());
            self.stage = Stage::Asking(index, wanted);
        }
    }

    async fn step(&mut self, input: HomeInput) {
        let now = self.services.handle().now();
        self.home.step(now, input, &mut self.effects);
        let effects: Vec<HomeEffect> = self.effects.drain().collect();
        for effect in effects {
            match effect {
                HomeEffect::Send(message) => {
                    let message = CacheTell::from(message);
                    self.is_left |= self.tells.send(message).await.is_err();
                }
                HomeEffect::Confirm { number } => self.wanted.confirm = Some(number),
                HomeEffect::Read { number, key } => self.wanted.reads.push((number, key)),
            }
        }
    }
}

/// Resolves when an index that is being taken is there.
async fn indexed(stage: &mut Stage) -> Result<Wanted, Status> {
    match stage {
        Stage::Asking(index, wanted) => {
            index.await?;
            Ok(std::mem::take(wanted))
        }
        Stage::Idle | Stage::Behind(..) => std::future::pending().await,
    }
}

/// A watch over all keys.
fn everything() -> WatchRequest {
    let (first, end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    WatchRequest::new(KeyRange::new(first, end), 0)
}

/// What an event says: which key holds what now.
fn change(event: Bytes) -> Result<(Bytes, Found), Status> {
    let event = Event::decode(event).map_err(|_unread| damaged())?;
    let is_delete = event.r#type() == EventType::Delete;
    let kv = event.kv.ok_or_else(damaged)?;
    let revision = Revision::new(kv.mod_revision);
    let key = kv.key.clone();
    let value = (!is_delete).then(|| Bytes::from(kv.encode_to_vec()));
    Ok((key, Found { value, revision }))
}

fn lost(answer: &WatchAnswer) -> Status {
    if answer.compact_revision > 0 {
        let text = "the cache fell so far behind that changes were compacted: it begins anew";
        return Status::new(Code::Aborted, text);
    }
    match answer.cancel_reason.as_str() {
        "" => errors::stopped(),
        reason => Status::new(Code::Unavailable, reason.to_owned()),
    }
}

fn damaged() -> Status {
    Status::new(
        Code::DataLoss,
        "a record whose checksum holds cannot be read",
    )
}
