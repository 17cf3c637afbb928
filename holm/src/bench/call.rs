//! One request and its answer, and the writing of keys before a run reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use super::connection::Connection;
use super::frame::flag;
use super::keys::Keys;
use super::load::{self, Naming, Plan};
use super::message::{Template, number_field};
use super::options::{KvOptions, Order};
use super::poller::Poller;
use super::session::{Failure, Route, Sink};
use super::tally::{Clock, in_nanos};
use crate::progress::Progress;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct One {
    body: Vec<u8>,
    outcome: Option<Result<(), Failure>>,
}

impl Sink for One {
    fn data(&mut self, _tag: u32, payload: &[u8]) {
        self.body.extend_from_slice(payload);
    }

    fn end(&mut self, _tag: u32, outcome: Result<(), Failure>) {
        self.outcome = Some(outcome);
    }
}

/// Sends one request on a connection of its own and returns the answer's message.
pub(crate) fn call(endpoint: &str, route: Route, template: &Template) -> anyhow::Result<Vec<u8>> {
    let mut connection = Connection::open(endpoint, route)?;
    let mut poller = Poller::new()?;
    poller.add(connection.socket(), 0)?;
    let (clock, mut one, mut sent, mut ready) = (Clock::start(), One::default(), false, Vec::new());
    connection.flush()?;
    while one.outcome.is_none() {
        if clock.now() > in_nanos(TIMEOUT) {
            bail!("{endpoint} did not answer within {} s", TIMEOUT.as_secs());
        }
        poller.wait(Duration::from_millis(100), &mut ready)?;
        if !ready.is_empty() {
            ready.clear();
            connection.receive(&mut one)?;
        }
        if !sent && connection.can_begin(template.len()) {
            connection.begin(0, template.bytes(), flag::END_STREAM);
            sent = true;
        }
        connection.flush()?;
    }
    one.outcome.context("the loop ends with an outcome")??;
    Ok(one.body.split_off(one.body.len().min(5)))
}

/// Writes the keys 0 to `keys` where the server has fewer, so that reads find what they ask for.
pub(crate) fn fill(options: &KvOptions, keys: u64) -> anyhow::Result<()> {
    let route = |path| Route::new(&options.endpoint, path, options.token.as_deref());
    let answer = call(
        &options.endpoint,
        route("/etcdserverpb.KV/Range"),
        &Template::count(),
    )
    .context("count the keys of earlier runs")?;
    if number_field(&answer, 4) >= keys {
        return Ok(());
    }
    let plan = Plan {
        endpoint: options.endpoint.clone(),
        route: route("/etcdserverpb.KV/Put"),
        template: Template::put(usize::try_from(options.value_bytes)?),
        naming: Naming::Following,
        keys: Keys::new(Order::Sequential, keys, 0),
        clients: 256,
        connections: 8,
        interval: None,
        window: (u64::MAX - 1, u64::MAX),
        limit: Some(keys),
    };
    let written = AtomicU64::new(0);
    let tally = thread::scope(|scope| {
        let fill = scope.spawn(|| load::run(&plan, Clock::start(), &written));
        let mut progress = Progress::new();
        while !fill.is_finished() {
            thread::sleep(Duration::from_millis(100));
            progress.show(&format!(
                "writing keys: {} of {keys}",
                written.load(Ordering::Relaxed)
            ));
        }
        fill.join()
            .map_err(|_panic| anyhow::anyhow!("the filling thread panicked"))?
    })?;
    match tally.first_failure {
        Some(failure) => Err(failure).context("write keys before reading them"),
        None => Ok(()),
    }
}
