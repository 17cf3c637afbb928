//! Generated watches on two servers among generated writes, their event streams compared.
//!
//! One gRPC stream carries all watches of a run: spans, starts in the past and the future and
//! in what was compacted, previous values, filters, ids that collide, cancellation, progress
//! asked for. `HOLM_SEED` fixes the first seed, `HOLM_SEEDS` their number and `HOLM_ACTS` the
//! acts per seed.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use holm_process_tests::gateway::number;
use holm_process_tests::generate::watches::{Act, Watches};
use holm_process_tests::grpc::WatchStream;
use holm_process_tests::peer::{self, older};
use holm_process_tests::told::Told;
use holm_process_tests::{Grpc, Program, Server, Setup, difference};
use serde_json::{Value, json};

/// So long nothing came from either side: etcd looks for watches that lag ten times a second.
const QUIET: Duration = Duration::from_millis(250);
/// A difference that stays so long while nothing comes is one.
const PATIENCE: Duration = Duration::from_secs(40);

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a test does to the responses of one side before they are looked at.
type Spoil = fn(&mut Value, u64);

fn nothing(_response: &mut Value, _count: u64) {}

/// One server, a client, and all that its watches told.
struct Side {
    client: Grpc,
    stream: WatchStream,
    told: Told,
    responses: u64,
    created: u64,
    /// The store's revision, and the latest start of a watch.
    revision: i64,
    start: i64,
    spoil: Spoil,
    _server: Server,
}

impl Side {
    fn start(program: Program, spoil: Spoil) -> Result<Self> {
        let server = Server::start(Setup::new(program).in_memory())?;
        let client = Grpc::open(server.address())?;
        let stream = client.watch()?;
        Ok(Self {
            client,
            stream,
            told: Told::default(),
            responses: 0,
            created: 0,
            revision: 1,
            start: 0,
            spoil,
            _server: server,
        })
    }

    /// Takes one response if there is one; whether there was.
    fn take(&mut self, patience: Duration) -> Result<bool> {
        let Some(mut response) = self.stream.next(patience)? else {
            return Ok(false);
        };
        (self.spoil)(&mut response, self.responses);
        self.responses += 1;
        self.created += u64::from(response["created"] == true);
        self.told.take(&response).map_err(|text| anyhow!(text))?;
        Ok(true)
    }

    /// Sends a request; one that creates a watch is answered before anything else is done.
    fn watch(&mut self, body: &Value) -> Result<()> {
        self.start = self
            .start
            .max(number(&body["create_request"]["start_revision"]));
        let awaited = self.created + u64::from(body.get("create_request").is_some());
        self.stream.send(body)?;
        while self.created < awaited {
            ensure!(self.take(PATIENCE)?, "no answer to {body}");
        }
        Ok(())
    }
}

struct Run {
    etcd: Program,
    other: Program,
    seed: u64,
    acts: u64,
}

impl Run {
    /// Compares; gives the number of events that both told.
    fn compare(&self, spoil: Spoil) -> Result<u64> {
        let mut sides = [
            Side::start(self.etcd, nothing)?,
            Side::start(self.other, spoil)?,
        ];
        let mut source = Watches::new(self.seed);
        let mut recent = Vec::new();
        for count in 0..self.acts {
            let act = source.act();
            let found = self.act(&mut sides, &mut source, &act);
            if !matches!(act, Act::Settle) {
                recent.push(format!("{count}: {}", shown(&act)));
            }
            found.map_err(|error| self.report(&recent, &error))?;
        }
        settle(&mut sides).map_err(|error| self.report(&recent, &error))?;
        Ok(sides[0].told.events())
    }

    fn act(&self, sides: &mut [Side; 2], source: &mut Watches, act: &Act) -> Result<()> {
        match act {
            Act::Settle => settle(sides),
            Act::Watch(body) if is_unasked(&sides[0], body) => Ok(()),
            Act::Watch(body) => sides.iter_mut().try_for_each(|it| it.watch(body)),
            Act::Ask(request) => {
                if older::unasked(peer::version(self.etcd)?, request).is_some() {
                    return Ok(());
                }
                let [left, right] = sides;
                let expected = left.client.post(request.path, &request.body)?;
                let answer = right.client.post(request.path, &request.body)?;
                let found = difference::between(&expected, &answer);
                ensure!(found.is_empty(), "{}", found.join("\n  "));
                left.revision = left.revision.max(expected.revision());
                source.learn(&expected);
                Ok(())
            }
        }
    }

    fn report(&self, recent: &[String], error: &anyhow::Error) -> anyhow::Error {
        let seed = self.seed;
        let recent = &recent[recent.len().saturating_sub(25)..];
        anyhow!(
            "seed {seed}: {error}\nafter\n  {}\nreplay: HOLM_SEED={seed} cargo test -p holm-process-tests --test watches",
            recent.join("\n  ")
        )
    }
}

/// etcd drops a question about progress on a stream where compaction has ended a watch, until the
/// client cancels that watch too, and where a watch starts in the future. Holm answers the first
/// at once and the second in time (docs/etcd-differences.md).
fn is_unasked(etcd: &Side, body: &Value) -> bool {
    let waits = !etcd.told.compacted().is_empty() || etcd.revision < etcd.start;
    body.get("progress_request").is_some() && waits
}

fn shown(act: &Act) -> String {
    match act {
        Act::Ask(request) => format!("{} {}", request.path, request.body),
        Act::Watch(body) => body.to_string(),
        Act::Settle => "settle".to_owned(),
    }
}

/// Waits until both have told the same and nothing more comes.
fn settle(sides: &mut [Side; 2]) -> Result<()> {
    let mut last = Instant::now();
    loop {
        for side in &mut *sides {
            while side.take(Duration::from_millis(20))? {
                last = Instant::now();
            }
        }
        let quiet = last.elapsed();
        let [left, right] = &mut *sides;
        let found = left.told.difference(&right.told);
        if found.is_empty() && quiet > QUIET {
            left.told.clear();
            right.told.clear();
            return Ok(());
        }
        if quiet > PATIENCE {
            bail!("the watches were told\n  {}", found.join("\n  "));
        }
    }
}

#[test]
fn etcd_tells_what_etcd_tells() {
    for etcd in peer::all() {
        let run = Run {
            etcd,
            other: etcd,
            seed: 1,
            acts: 250,
        };
        let events = run.compare(nothing).expect("both tell the same");
        assert!(events > 100, "{events} events show little");
    }
}

/// Each must be found: an event that is missing, and one without its previous value.
#[test]
fn a_dropped_event_and_a_dropped_previous_value_are_found() {
    fn events(response: &mut Value) -> Option<&mut Vec<Value>> {
        response.get_mut("events")?.as_array_mut()
    }
    let drop_event: Spoil = |response, count| {
        if let Some(events) = events(response).filter(|_| count > 20) {
            events.pop();
        }
    };
    let drop_previous: Spoil = |response, _count| {
        for event in events(response).into_iter().flatten() {
            event
                .as_object_mut()
                .and_then(|event| event.remove("prev_kv"));
        }
    };
    for (spoil, word) in [(drop_event, "were told"), (drop_previous, ".prev_kv")] {
        let run = Run {
            etcd: Program::Etcd,
            other: Program::Etcd,
            seed: 2,
            acts: 250,
        };
        let error = run.compare(spoil).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// Whether a stream with a live watch, and one that compaction has ended, answers about progress.
fn answers_about_progress(program: Program, cancels: bool, patience: Duration) -> Result<bool> {
    let mut side = Side::start(program, nothing)?;
    for value in ["MQ==", "Mg==", "Mw=="] {
        side.client
            .post("kv/put", &json!({"key": "YQ==", "value": value}))?;
    }
    side.client.post("kv/compaction", &json!({"revision": 4}))?;
    side.watch(&json!({"create_request": {"key": "YQ=="}}))?;
    side.watch(&json!({"create_request": {"key": "YQ==", "start_revision": 2}}))?;
    while side.told.compacted().is_empty() {
        ensure!(side.take(PATIENCE)?, "compaction ended no watch");
    }
    if cancels {
        side.watch(&json!({"cancel_request": {"watch_id": 1}}))?;
        ensure!(side.take(PATIENCE)?, "the cancel was not answered");
    }
    side.watch(&json!({"progress_request": {}}))?;
    side.take(patience)
}

#[test]
fn holm_answers_about_progress_where_compaction_ended_a_watch() {
    for cancels in [false, true] {
        assert!(answers_about_progress(Program::Holm, cancels, PATIENCE).unwrap());
    }
    if peer::version(Program::Etcd).unwrap() >= older::CHECKS_PROGRESS {
        let second = Duration::from_secs(1);
        assert!(!answers_about_progress(Program::Etcd, false, second).unwrap());
        assert!(answers_about_progress(Program::Etcd, true, PATIENCE).unwrap());
    }
}

#[test]
fn holm_tells_what_etcd_tells() {
    let first = setting("HOLM_SEED", 1);
    for etcd in peer::all() {
        for seed in first..first + setting("HOLM_SEEDS", 2) {
            let run = Run {
                etcd,
                other: Program::Holm,
                seed,
                acts: setting("HOLM_ACTS", 400),
            };
            match run.compare(nothing) {
                Ok(events) => assert!(events > 50, "{events} events show little"),
                Err(error) => panic!("{etcd:?} {:?}: {error:#}", peer::version(etcd)),
            }
        }
    }
}
