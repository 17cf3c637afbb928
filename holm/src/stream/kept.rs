//! `holm stream run --state`: a run that goes on where it was, and answers each row once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use holm_connect::{
    AtEnd, FileSink, FileSource, Format, LineSink, ParquetSource, Sink, Source, fed,
};
use holm_disk::{Lock, LockError, RealFolder};
use holm_engine::Limits;
use holm_lanes::{Batch, Field};
use holm_machine::Folder;
use holm_runner::{Aside as SetAside, Ends, Job, Phase, RunnerError, Settings, start};

use super::Ended;
use super::aside::{Aside, say};
use super::flows::idle_after;
use super::input::{Input, Place};
use super::named::Placed;
use super::output::{Into, grouped};
use super::run::{Asked, closing, sink, whole};
use crate::progress::Progress;

/// The kind of the checked files that hold the first rows of undeclared tables.
const SAMPLE_KIND: u32 = 4;
/// Bytes of a pipe that may wait.
const PIPE_BYTES: usize = 4 << 20;

/// Runs the query, from where it was, to the end of its input or until it is told to stop.
pub(super) fn run(asked: &Asked, state: &Path) -> Result<u8, Ended> {
    let begun = Instant::now();
    let lock = lock(state).map_err(|error| Ended::failed("--state", error))?;
    let opened = RealFolder::open(state);
    let folder = opened.map_err(|error| Ended::failed("--state", error))?;
    let sampler = |name: &str, input: Input| sampled(&*folder, name, input);
    let placed = asked.named.place_all(!asked.follow, &sampler)?;
    placed.notes.iter().for_each(|note| say(note));
    let (into, format) = sink(asked, placed.planned.into.as_ref())?;
    let fields = placed.planned.plan.fields.clone();
    let ends = Ends {
        sources: sources(&placed, asked.follow)?,
        sinks: vec![open_sink(&into, format, &fields)?],
    };
    let names: Vec<String> = placed.sources.iter().map(|it| it.0.name()).collect();
    let job = Job {
        inputs: inputs(&placed, asked.follow),
        plans: vec![placed.planned.plan.clone()],
        description: asked.named.description()?,
        limits: Limits::default(),
        turns: None,
    };
    let aside = Aside::open(asked.diverted.as_deref(), asked.on_error, true)?;
    let (stopped, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    listen_for_signals(&stopped)?;
    let tell = teller(names, aside, Arc::clone(&failed));
    let tables = move || tables(&placed);
    let settings = Settings {
        state_bytes_max: holm_serve::state_bytes_max(),
        ..Settings::default()
    };
    let handle = start(folder, job, ends, settings, Box::new(tables), tell);
    let mut progress = Progress::new();
    while !handle.is_over() {
        thread::sleep(Duration::from_millis(5));
        let why = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = why {
            handle.stop();
            return Err(ended);
        }
        if stopped.load(Ordering::SeqCst) {
            handle.stop();
        }
        let rows = handle.status().counts.rows;
        progress.show(&format!("{} rows in", grouped(rows)));
    }
    drop(progress);
    let status = handle.status();
    let phase = handle.join();
    drop(lock);
    let recovered = status.recovered;
    if recovered.records > 1 {
        say(&format!(
            "came back in {:.1?}; {} records of the log ran again",
            recovered.all, recovered.records
        ));
    }
    match phase {
        Phase::Failed(why) => Err(Ended::Failed(why)),
        Phase::Complete
        | Phase::Stopped
        | Phase::Paused
        | Phase::Recovering
        | Phase::Running
        | Phase::Waiting(_) => Ok(closing(asked, status.counts, &status.repeated, begun)),
    }
}

/// Takes the folder. A process that was just killed may hold it until its last write has ended.
fn lock(state: &Path) -> Result<Lock, LockError> {
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        match holm_disk::lock(state) {
            Err(LockError::Held { .. }) if Instant::now() < patience => {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}

/// The first rows of a table as they were when the run began first.
fn sampled(folder: &dyn Folder, name: &str, mut input: Input) -> Result<Vec<u8>, Ended> {
    let failed = |error: &dyn std::fmt::Display| Ended::failed("--state", error);
    let file = format!("sample-{name}");
    let found = holm_durable::fetch(folder, &file, SAMPLE_KIND);
    if let Some(found) = found.map_err(|error| failed(&error))? {
        return Ok(found);
    }
    let sample = input.sample()?;
    let kept = holm_durable::keep(folder, &file, SAMPLE_KIND, &sample);
    kept.map_err(|error| failed(&error))?;
    Ok(sample)
}

/// What is known of each input; of files that are followed more may come, as of pipes.
fn inputs(placed: &Placed, follows: bool) -> Vec<holm_runner::Input> {
    let sources = placed.sources.iter().zip(&placed.planned.plan.sources);
    sources
        .zip(&placed.planned.needed)
        .zip(&placed.keeps_all)
        .zip(placed.planned.idle.iter().zip(&placed.planned.beside))
        .map(|(((((place, format), source), needed), keeps_all), said)| {
            let (idle, beside) = said;
            let is_whole = !follows && place.is_whole();
            holm_runner::Input {
                format: *format,
                fields: source.fields.clone(),
                needed: needed.clone(),
                keeps_all: *keeps_all,
                idle: idle_after(*idle, is_whole),
                beside: beside.clone(),
            }
        })
        .collect()
}

fn sources(placed: &Placed, follows: bool) -> Result<Vec<Box<dyn Source>>, Ended> {
    let at_end = if follows { AtEnd::Follow } else { AtEnd::Stop };
    let sources = placed.sources.iter().zip(&placed.planned.plan.sources);
    let sources = sources.zip(&placed.planned.needed);
    let open = |(((place, format), source), needed): (
        (&(Place, Format), &holm_engine::Source),
        &Vec<bool>,
    )| open_source(place, (*format, at_end), (&source.fields, needed));
    sources.map(open).collect()
}

fn open_source(
    place: &Place,
    (format, at_end): (Format, AtEnd),
    (fields, needed): (&[Field], &[bool]),
) -> Result<Box<dyn Source>, Ended> {
    let name = place.name();
    match place {
        Place::File(path) if format == Format::Parquet => {
            if at_end == AtEnd::Follow {
                return Err(Ended::Refused(format!(
                    "{name}: a Parquet file does not grow; --follow is for lines"
                )));
            }
            let file = File::open(path);
            let file = file.map_err(|error| Ended::failed(format!("open {name}"), error))?;
            let source = ParquetSource::open(&name, file, fields, needed);
            Ok(Box::new(
                source.map_err(|error| Ended::Refused(error.to_string()))?,
            ))
        }
        Place::File(path) => {
            let file = File::open(path);
            let file = file.map_err(|error| Ended::failed(format!("open {name}"), error))?;
            let source = FileSource::new(&name, Box::new(file), format, at_end);
            Ok(Box::new(
                source.map_err(|error| Ended::Failed(error.to_string()))?,
            ))
        }
        Place::Stdin if format != Format::JsonLines => Err(Ended::Refused(
            "standard input that is kept is JSON lines; --input FILE reads CSV and Parquet from a file"
                .to_owned(),
        )),
        Place::Stdin => {
            let (feed, source) = fed(&name, None, PIPE_BYTES);
            thread::spawn(move || feed.pipe(std::io::stdin()));
            Ok(Box::new(source))
        }
    }
}

fn open_sink(into: &Into, format: Format, fields: &[Field]) -> Result<Box<dyn Sink>, Ended> {
    match into {
        Into::Stdout => {
            let out = Box::new(std::io::stdout());
            Ok(Box::new(LineSink::new("stdout", out, format, fields)))
        }
        Into::File(path) => {
            let (folder, name) = split(path)?;
            Ok(Box::new(FileSink::new(folder, &name, format, fields)))
        }
    }
}

/// The folder of a file, made if it is missing, and its name there.
fn split(path: &Path) -> Result<(Arc<dyn Folder>, String), Ended> {
    let named = path.file_name().and_then(|name| name.to_str());
    let name =
        named.ok_or_else(|| Ended::Refused(format!("{} is no name of a file", path.display())))?;
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let folder = RealFolder::open(&parent);
    let folder =
        folder.map_err(|error| Ended::failed(format!("open {}", path.display()), error))?;
    Ok((folder, name.to_owned()))
}

/// All rows of the tables that are looked up.
fn tables(placed: &Placed) -> Result<Vec<Batch>, RunnerError> {
    let refused = |ended: Ended| match ended {
        Ended::Refused(text) | Ended::Failed(text) => RunnerError::Refused(text),
        Ended::Unread => RunnerError::Stopped,
    };
    let mut batches = Vec::new();
    for ((place, format), (_, fields)) in placed.tables.iter().zip(&placed.planned.tables) {
        let input = Input::open(place.clone(), *format).map_err(refused)?;
        let flow = input
            .start(fields, &vec![true; fields.len()])
            .map_err(refused)?;
        let mut aside = Aside::open(None, super::aside::OnError::Divert, true).map_err(refused)?;
        batches.push(whole(flow, &mut aside).map_err(refused)?);
    }
    Ok(batches)
}

type Failed = Arc<Mutex<Option<Ended>>>;

/// Says what was set aside, and ends the run if that is what was asked for.
fn teller(names: Vec<String>, mut aside: Aside, failed: Failed) -> holm_runner::Listener {
    Box::new(move |rows: Vec<SetAside>| {
        for SetAside { row, why } in rows {
            let place = row.map_or("a result", |(source, _)| names[source].as_str());
            let line = row.map(|(_, line)| line);
            let told = match &why {
                Some(why) => aside.divert(place, line, why),
                None => aside.late(place, line),
            };
            if let Err(ended) = told {
                failed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(ended);
            }
        }
    })
}

/// SIGTERM and Ctrl-C end a run when what it took is safe; a second one ends the process.
fn listen_for_signals(stopped: &Arc<AtomicBool>) -> Result<(), Ended> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Ended::failed("listen for signals", error))?;
    let stopped = Arc::clone(stopped);
    thread::spawn(move || {
        runtime.block_on(async {
            let signals = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            );
            let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
                return;
            };
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stopped.swap(true, Ordering::SeqCst) {
                    #[expect(
                        clippy::exit,
                        reason = "who asks a second time does not want to wait"
                    )]
                    std::process::exit(1);
                }
            }
        });
    });
    Ok(())
}
