//! A stream under rehearsal: the product's flow, log, snapshots and sinks, without its threads.
//!
//! What sources, log and sinks do on threads of their own in a site is done here when virtual time says so; what is
//! done, and in which order it may be, is decided by `streams/runner` and `streams/once`.

pub(crate) mod afar;
mod closing;
pub(crate) mod deck;
mod figures;
mod followed;
mod judge;
mod play;
mod sender;
mod side;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holm_base::{NodeId, Prng, RequestId, Time, WriteId};
use holm_check::streams::Counts;
use holm_connect::{
    AtEnd, Feed, FileSink, FileSource, Format, Key, KeyspaceSink, Reader, Sink, SinkError, Source,
    Taken, Unfed, fed,
};
use holm_durable::{LogError, Record, inspect};
use holm_machine::{Class, Driven, Effects, Label, Machine, Observe, Order};
use holm_runner::{Arrived, Commit, Ends, Flow, Opened, RunnerError, Settings, open};
use holm_virtual::{Node, Want};

use crate::scenario::{Outlet, Stream, Way};
use afar::Fate;
use deck::{Deck, Done, Lot, SINKS, STREAM, Work};
pub(crate) use figures::StreamFigures;
pub(crate) use play::play;
pub(crate) use sender::UNANSWERED_MAX;

/// What runs are to show, by name.
pub(crate) const EVENTS: [&str; 6] = ["Started", "Ran", "Put", "Saved", "Failed", "Complete"];

/// Bytes that may wait at the way in.
const FEED_BYTES: usize = 16 << 20;
/// How often a file that is followed is looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(10);
/// How many syncs a snapshot and a commit cost.
const SAVE_SYNCS: u32 = 3;
const PUT_SYNCS: u32 = 2;

/// What all starts of a stream have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) stream: Arc<Stream>,
    /// Small limits, so that short runs reach them.
    pub(crate) is_tight: bool,
}

impl Setup {
    pub(crate) fn settings(&self) -> Settings {
        let usual = Settings::default();
        if !self.is_tight {
            return usual;
        }
        Settings {
            credit_bytes: 8 << 10,
            piece_bytes: 2 << 10,
            pending_rows_max: 8,
            snapshot_interval_ms: 20,
            log: holm_durable::Config {
                segment_bytes: 2 << 10,
                ..usual.log
            },
            ..usual
        }
    }
}

/// What somebody outside asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ask {
    /// These rows, perhaps under a name.
    Rows(Arc<Vec<u8>>, Option<u64>),
    /// What waits for a sink has got there.
    Put(usize, Fate),
    /// There are no more rows.
    End,
}

/// What whoever sends hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The rows are durable.
    Durable,
    /// No room: later.
    Later,
}

/// What a stream tells observers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    /// It has come back.
    Started(Started),
    Ran(Ran),
    /// Rows are on their way to a sink that is elsewhere; after so long a rest.
    Sent(usize, Duration),
    /// A sink has so many rows.
    Put(usize, u64),
    Saved,
    /// It was told that it holds what it must not hold, or lacks what it must have.
    Refused(String),
    /// It cannot go on.
    Failed(String),
    Complete,
}

/// How far a stream has come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Started {
    /// The last record, and the watermark behind it.
    pub(crate) last: u64,
    pub(crate) mark: i64,
    /// The records of its log that are starts: nothing ran there.
    pub(crate) opened: Vec<u64>,
}

/// A batch ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ran {
    /// Its record.
    pub(crate) sequence: u64,
    /// Its rows; none at the end.
    pub(crate) rows: Option<Arc<Vec<u8>>>,
    /// The watermark behind it.
    pub(crate) mark: i64,
    /// How many rows of each query have come out.
    pub(crate) outputs: Vec<u64>,
    /// Bytes of rows that were held, and rows that waited for sinks before it ran.
    pub(crate) held: (u64, u64),
}

/// Everything that can happen to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Start,
    Wake,
    Durable(WriteId),
    Request(RequestId, Ask),
}

/// Everything it can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Persist(WriteId, Lot),
    Answer(RequestId, Answer),
    Note(Event),
}

/// Where rows come in.
type Incoming = (Option<Feed>, Box<dyn Source>);

/// A stream's process.
#[derive(Debug)]
pub(crate) struct Mill {
    setup: Setup,
    deck: Deck,
    prng: Prng,
    state: Result<Box<Turning>, Event>,
}

/// A stream that runs.
#[derive(Debug)]
struct Turning {
    flow: Flow,
    /// Where requests come in; none, if it follows a file.
    feed: Option<Feed>,
    source: Box<dyn Source>,
    reader: Reader,
    settings: Settings,
    /// Requests whose rows are durable.
    told: Arc<Mutex<Vec<RequestId>>>,
    /// Rows that were taken from the source, and have not run.
    taken: VecDeque<Option<Arc<Vec<u8>>>>,
    held_bytes: usize,
    /// The file that it follows will not grow any more.
    is_whole: bool,
    is_over: bool,
    write: WriteId,
    /// The write of the runner that is being flushed.
    flushing: Option<WriteId>,
    /// What is on its way to sinks that are elsewhere.
    underway: Vec<Option<Commit>>,
    look_at: Time,
    is_complete: bool,
    /// The records of the log that are starts.
    opened: Vec<u64>,
}

impl Mill {
    /// Whether all that came is with the sinks, and nothing more will.
    pub(crate) fn is_complete(&self) -> bool {
        self.state.as_ref().is_ok_and(|it| it.is_complete)
    }

    pub(crate) fn mark(&self) -> Option<i64> {
        self.state.as_ref().ok().map(|it| it.flow.keeper().mark(0))
    }

    /// What it counted of rows.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.state.as_ref().map(|it| it.flow.keeper().counts());
        counts.map_or_else(
            |_failed| Counts::default(),
            |counts| Counts {
                rows: counts.rows,
                late: counts.late,
                diverted: counts.diverted,
            },
        )
    }

    /// How it stands, in words.
    pub(crate) fn words(&self) -> String {
        match &self.state {
            Err(Event::Failed(why) | Event::Refused(why)) => format!("failed: {why}"),
            Err(_) => "failed".to_owned(),
            Ok(turning) => {
                let keeper = turning.flow.keeper();
                let (outputs, has) = keeper.outputs();
                format!(
                    "records {}, watermark {}, rows {}, out {outputs:?}, sinks have {has:?}, held {} bytes",
                    keeper.records(),
                    keeper.mark(0),
                    keeper.counts().rows,
                    turning.held_bytes
                )
            }
        }
    }

    fn sinks(setup: &Setup, deck: &Deck) -> Result<Vec<Box<dyn Sink>>, RunnerError> {
        let folder = deck.storage().root().folder(SINKS)?;
        let stream = &setup.stream;
        let sinks = stream.fields.iter().enumerate().map(|(query, fields)| {
            let sink: Box<dyn Sink> = match &stream.sink {
                Outlet::File => {
                    let name = file_of(query);
                    Box::new(FileSink::new(
                        Arc::clone(&folder),
                        &name,
                        Format::JsonLines,
                        fields,
                    ))
                }
                Outlet::Keyspace { .. } => {
                    let (prefix, marker) = (format!("{query}/"), format!("holm.streams/{query}"));
                    let keyspace = Box::new(deck.afar());
                    let keys = &stream.keys[query];
                    Box::new(KeyspaceSink::new(keyspace, &prefix, &marker, fields, keys))
                }
            };
            sink
        });
        Ok(sinks.collect())
    }

    fn source(stream: &Stream, deck: &Deck) -> Result<Incoming, RunnerError> {
        match stream.source.way {
            Way::Sent => {
                let (feed, source) = fed(&stream.name, None, FEED_BYTES);
                Ok((Some(feed), Box::new(source)))
            }
            Way::File => {
                let file = Box::new(deck.followed()?);
                let (format, at_end) = (Format::JsonLines, AtEnd::Follow);
                let source = FileSource::new(&stream.name, file, format, at_end)?;
                Ok((None, Box::new(source)))
            }
        }
    }

    fn start(setup: &Setup, deck: &Deck) -> Result<Turning, RunnerError> {
        let stream = &setup.stream;
        let settings = setup.settings();
        let folder = deck.storage().root().folder(STREAM)?;
        let (feed, source) = Self::source(stream, deck)?;
        let ends = Ends {
            sources: vec![source],
            sinks: Self::sinks(setup, deck)?,
        };
        // Whoever would have to wait for a sink begins anew instead.
        let is_stopped = || true;
        let opened = open(
            &folder,
            &stream.job,
            ends,
            &settings,
            (&mut || Ok(Vec::new()), &is_stopped),
        )?;
        let Opened {
            keeper,
            log,
            mut ends,
            mut readers,
            ..
        } = opened;
        let sinks = ends.sinks.len();
        let (Some(source), Some(reader)) = (ends.sources.pop(), readers.pop()) else {
            return Err(RunnerError::Refused("it has no source".to_owned()));
        };
        let is_over = keeper.is_over(0);
        let flow = Flow::new(keeper, settings, log.used(), Duration::ZERO);
        deck.hold(log, ends.sinks);
        let mut opened = Vec::new();
        inspect(&*folder, &mut |entry| {
            if matches!(Record::read(entry), Ok(Record::Opened)) {
                opened.push(entry.sequence);
            }
        })?;
        Ok(Turning {
            flow,
            feed,
            source,
            reader,
            settings,
            told: Arc::default(),
            taken: VecDeque::new(),
            held_bytes: 0,
            is_whole: false,
            is_over,
            write: WriteId::ZERO,
            flushing: None,
            underway: vec![None; sinks],
            look_at: Time::ZERO,
            is_complete: false,
            opened,
        })
    }

    fn job_takes(&mut self, syncs: u32) -> Duration {
        let sync = self.deck.sync_takes() * syncs;
        // A job begins before it ends.
        let sync = sync.max(Duration::from_nanos(1));
        if !self.setup.is_tight {
            return sync;
        }
        let nanos = u64::try_from(sync.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos + self.prng.below(8 * nanos.max(1)))
    }

    fn take(
        &mut self,
        now: Time,
        input: Input,
        effects: &mut Effects<Effect>,
    ) -> Result<(), RunnerError> {
        let Ok(turning) = &mut self.state else {
            return Ok(());
        };
        match input {
            Input::Start => {
                let keeper = turning.flow.keeper();
                effects.push(Effect::Note(Event::Started(Started {
                    last: keeper.records(),
                    mark: keeper.mark(0),
                    opened: std::mem::take(&mut turning.opened),
                })));
            }
            Input::Wake => {
                while let Some(done) = self.deck.run(now) {
                    self.done(now, done, effects)?;
                }
                let Ok(turning) = &mut self.state else {
                    return Ok(());
                };
                if turning.look_at <= now {
                    turning.look_at = now + turning.rest();
                    turning.flow.save_if_due(now, &|| now);
                }
            }
            Input::Durable(_) => {
                let write = turning.flushing.take().expect("one flush is under way");
                let log_bytes = self.deck.log_bytes();
                turning.held_bytes -= turning.flow.flushed(now, write, log_bytes);
            }
            Input::Request(request, ask) => self.asked(now, (request, ask), effects)?,
        }
        self.turn(now, effects)
    }

    fn asked(
        &mut self,
        now: Time,
        (request, ask): (RequestId, Ask),
        effects: &mut Effects<Effect>,
    ) -> Result<(), RunnerError> {
        let Ok(turning) = &mut self.state else {
            return Ok(());
        };
        match ask {
            Ask::Rows(rows, number) => {
                let told = Arc::clone(&turning.told);
                let tell = Box::new(move || {
                    told.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(request);
                });
                let key = number.map(|number| Key::of(&number.to_string(), &rows));
                let offered = match &turning.feed {
                    Some(feed) => feed.offer(rows.to_vec(), key, tell).map(drop),
                    None => Err(Unfed::Other),
                };
                match offered {
                    Ok(()) => {}
                    Err(
                        Unfed::Full
                        | Unfed::Recovering
                        | Unfed::Stopped
                        | Unfed::TooLong { .. }
                        | Unfed::Other,
                    ) => {
                        effects.push(Effect::Answer(request, Answer::Later));
                    }
                }
            }
            Ask::End => match &turning.feed {
                Some(feed) => feed.end(),
                None => turning.is_whole = true,
            },
            Ask::Put(sink, fate) => {
                if let Some(commit) = turning.underway[sink].take() {
                    self.deck.afar().set_fate(fate);
                    let done = self.deck.put(sink, commit);
                    self.done(now, done, effects)?;
                }
            }
        }
        Ok(())
    }

    /// What was begun is done.
    fn done(
        &mut self,
        now: Time,
        done: Done,
        effects: &mut Effects<Effect>,
    ) -> Result<(), RunnerError> {
        let Ok(turning) = &mut self.state else {
            return Ok(());
        };
        match done {
            Done::Tidied => {}
            Done::Failed(why) => return Err(RunnerError::Log(LogError::Disk(failed(why)))),
            Done::Saved { through, committed } => {
                turning.flow.saved(now, through, &committed, Duration::ZERO);
                effects.push(Effect::Note(Event::Saved));
            }
            Done::Put {
                sink,
                commit,
                ended,
            } => match ended {
                Ok(()) | Err(SinkError::Rejected { .. }) => {
                    turning.flow.put(now, sink, commit.output());
                    effects.push(Effect::Note(Event::Put(sink, commit.output())));
                }
                Err(SinkError::Unavailable { retry, .. }) => {
                    if matches!(self.setup.stream.sink, Outlet::Keyspace { .. }) {
                        turning.underway[sink] = Some(commit);
                        effects.push(Effect::Note(Event::Sent(sink, retry)));
                    } else {
                        self.deck.begin(now + retry, Work::Put { sink, commit });
                    }
                }
                Err(error) => return Err(error.into()),
            },
        }
        Ok(())
    }

    /// Takes what the source has, runs it, and hands out what there is to do, until there is nothing.
    fn turn(&mut self, now: Time, effects: &mut Effects<Effect>) -> Result<(), RunnerError> {
        loop {
            let Ok(turning) = &mut self.state else {
                return Ok(());
            };
            let has_taken = turning.fill()?;
            let has_run = turning.run(now, effects)?;
            self.hand_out(now, effects);
            if !has_taken && !has_run {
                break;
            }
        }
        if let Ok(turning) = &mut self.state {
            let told =
                std::mem::take(&mut *turning.told.lock().unwrap_or_else(PoisonError::into_inner));
            for request in told {
                effects.push(Effect::Answer(request, Answer::Durable));
            }
            if turning.flow.is_complete() && !turning.is_complete {
                turning.is_complete = true;
                effects.push(Effect::Note(Event::Complete));
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let Ok(turning) = &mut self.state else {
            return;
        };
        let given = turning.flow.hand_out(now);
        if let Some((records, write)) = given.append {
            turning.write = turning.write.next();
            turning.flushing = Some(write);
            effects.push(Effect::Persist(turning.write, Lot(records)));
        }
        for (_source, position) in given.acknowledged {
            turning.source.acknowledge(&position);
        }
        for (sink, commit) in given.commits {
            if matches!(self.setup.stream.sink, Outlet::Keyspace { .. }) {
                if let Ok(turning) = &mut self.state {
                    turning.underway[sink] = Some(commit);
                }
                effects.push(Effect::Note(Event::Sent(sink, Duration::ZERO)));
            } else {
                let ends = now + self.job_takes(PUT_SYNCS);
                self.deck.begin(ends, Work::Put { sink, commit });
            }
        }
        if let Some(save) = given.save {
            let ends = now + self.job_takes(SAVE_SYNCS);
            self.deck.begin(ends, Work::Save(save));
        }
        if given.truncate.is_some() || !given.forget.is_empty() {
            let work = Work::Tidy {
                forget: given.forget,
                truncate: given.truncate,
            };
            let ends = now + self.job_takes(1);
            self.deck.begin(ends, work);
        }
    }
}

impl Turning {
    /// How long it rests before it looks whether there is something to save or to read.
    fn rest(&self) -> Duration {
        let save = Duration::from_millis(self.settings.snapshot_interval_ms);
        if self.feed.is_some() || self.is_over {
            save
        } else {
            save.min(FOLLOW_EVERY)
        }
    }

    /// Takes rows while there is credit for them; whether there were any.
    fn fill(&mut self) -> Result<bool, RunnerError> {
        let mut has_taken = false;
        while !self.is_over {
            let free = self.settings.credit_bytes.saturating_sub(self.held_bytes);
            if free == 0 {
                break;
            }
            match self
                .source
                .take(self.settings.piece_bytes.min(free), Duration::ZERO)?
            {
                Taken::Rows(piece) => {
                    let bytes = piece.rows.len();
                    let length = u64::try_from(bytes).expect("memory is smaller");
                    self.held_bytes += bytes;
                    let arrived = Arrived::Rows {
                        read: self.reader.read(&piece.rows, piece.first_row),
                        position: piece.position,
                        bytes: (length, crc32c::crc32c(&piece.rows)),
                        key: piece.key,
                    };
                    self.taken.push_back(Some(Arc::new(piece.rows)));
                    self.flow.arrived(0, arrived, bytes, Duration::ZERO);
                }
                Taken::Columns(columns) => {
                    self.flow
                        .arrived(0, Arrived::of_columns(columns), 0, Duration::ZERO);
                }
                // A row may be longer than the credit that is left.
                Taken::Nothing if self.is_whole && self.held_bytes == 0 => self.source.stop(),
                Taken::Nothing => {
                    self.flow.idle(0);
                    break;
                }
                Taken::End => {
                    self.is_over = true;
                    self.taken.push_back(None);
                    self.flow.arrived(0, Arrived::End, 0, Duration::ZERO);
                }
            }
            has_taken = true;
        }
        Ok(has_taken)
    }

    /// Runs what was taken; whether there was anything.
    fn run(&mut self, now: Time, effects: &mut Effects<Effect>) -> Result<bool, RunnerError> {
        let mut has_run = false;
        loop {
            let held = u64::try_from(self.held_bytes).expect("memory is smaller");
            let pending = self.flow.keeper().pending();
            if self.flow.run_next(now)?.is_none() {
                return Ok(has_run);
            }
            has_run = true;
            let keeper = self.flow.keeper();
            effects.push(Effect::Note(Event::Ran(Ran {
                sequence: keeper.records(),
                rows: self.taken.pop_front().flatten(),
                mark: keeper.mark(0),
                outputs: keeper.outputs().0,
                held: (held, pending),
            })));
        }
    }
}

/// The file that a query's rows go into.
pub(crate) fn file_of(query: usize) -> String {
    format!("rows-{query}")
}

fn failed(reason: String) -> holm_machine::DiskError {
    holm_machine::DiskError::Failed {
        attempted: "work beside the log".to_owned(),
        reason,
    }
}

/// Whether an error says that something is wrong with what the stream holds, not with its surroundings.
fn event_of(error: &RunnerError) -> Event {
    let is_refused = match error {
        RunnerError::Refused(_)
        | RunnerError::Record { .. }
        | RunnerError::State { .. }
        | RunnerError::Header { .. }
        | RunnerError::Source(_)
        | RunnerError::Full(_) => true,
        RunnerError::Log(error) => {
            matches!(error, LogError::Damaged { .. } | LogError::Version { .. })
        }
        RunnerError::Checked(error) => !matches!(error, holm_durable::CheckedError::Disk(_)),
        RunnerError::Disk(_) | RunnerError::Sink(_) | RunnerError::Stopped => false,
    };
    if is_refused {
        Event::Refused(error.to_string())
    } else {
        Event::Failed(error.to_string())
    }
}

impl Machine for Mill {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        if let Err(event) = &self.state {
            if input == Input::Start {
                effects.push(Effect::Note(event.clone()));
            }
            return;
        }
        if let Err(error) = self.take(now, input, effects) {
            let event = event_of(&error);
            effects.push(Effect::Note(event.clone()));
            self.state = Err(event);
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let turning = self.state.as_ref().ok()?;
        let look = Some(turning.look_at).filter(|_| !turning.is_complete);
        let ends = self.deck.job_ends();
        look.into_iter().chain(ends).min()
    }
}

impl Driven for Mill {
    fn order(effect: &Effect) -> Order {
        match effect {
            Effect::Persist(write, _) => Order::Persist { write: *write },
            Effect::Answer(..) | Effect::Note(_) => Order::Leave { after: None },
        }
    }

    fn class(input: &Input) -> Class {
        match input {
            Input::Start | Input::Wake | Input::Durable(_) => Class::Own,
            Input::Request(..) => Class::Request,
        }
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn durable(through: WriteId) -> Input {
        Input::Durable(through)
    }

    fn start() -> Option<Input> {
        Some(Input::Start)
    }
}

impl Observe for Mill {
    fn label(&self, input: &Input) -> Label {
        let kind = match input {
            Input::Start => "start",
            Input::Wake => "wake",
            Input::Durable(_) => "durable",
            Input::Request(_, Ask::Rows(..)) => "rows",
            Input::Request(_, Ask::Put(_, Fate::Works)) => "put",
            Input::Request(_, Ask::Put(..)) => "lost put",
            Input::Request(_, Ask::End) => "end",
        };
        let role = match &self.state {
            Err(_) => "failed",
            Ok(turning) => match (
                turning.flushing.is_some(),
                turning.flow.keeper().pending() > 0,
            ) {
                (false, false) => "calm",
                (true, false) => "flushing",
                (false, true) => "putting",
                (true, true) => "busy",
            },
        };
        Label::plain(kind, role)
    }
}

impl Node for Mill {
    type Setup = Setup;
    type Message = ();
    type Request = Ask;
    type Answer = Answer;
    type Event = Event;
    type Record = Lot;
    type Shelf = Deck;

    fn boot(setup: &Setup, _id: NodeId, seed: u64, deck: &Deck) -> Self {
        let started = Self::start(setup, deck);
        Self {
            setup: setup.clone(),
            deck: deck.clone(),
            prng: Prng::new(seed),
            state: started.map(Box::new).map_err(|error| event_of(&error)),
        }
    }

    fn message(_from: NodeId, (): ()) -> Input {
        Input::Wake
    }

    fn request(request: RequestId, body: Ask) -> Input {
        Input::Request(request, body)
    }

    fn want(effect: Effect) -> Want<Self> {
        match effect {
            Effect::Persist(write, record) => Want::Persist { write, record },
            Effect::Answer(request, answer) => Want::Answer { request, answer },
            Effect::Note(event) => Want::Note(event),
        }
    }

    fn unavailable() -> Answer {
        Answer::Later
    }

    fn has_failed(&self) -> bool {
        self.state.is_err()
    }
}
