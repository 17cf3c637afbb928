//! One request and its answer, and the writing of keys before a run reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::connection::Connection;
use super::frame::flag;
use super::keys::Keys;
use super::load::{self, Naming, Plan};
use super::message::{Template, number_field};
use super::options::{KvOptions, Order, Workload};
use super::poller::Poller;
use super::session::{Failure, Route, Sink};
use super::tally::{Clock, Tally, in_nanos};
use crate::progress::Progress;
use crate::quantity;

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
    let route = Route::new(
        options.first(),
        "/etcdserverpb.KV/Range",
        options.token.as_deref(),
    );
    let answer = call(options.first(), route, &Template::count())
        .context("count the keys of earlier runs")?;
    if number_field(&answer, 4) >= keys {
        return Ok(());
    }
    let plan = Plan {
        template: Template::put(usize::try_from(options.value_bytes)?),
        naming: Naming::Following,
        keys: Keys::new(Order::Sequential, keys, 0),
        limit: Some(keys),
        ..writing(options, "/etcdserverpb.KV/Put")?
    };
    write(&plan, 1, keys)?;
    Ok(())
}

/// Writes every key in blocks, one transaction each, then all of them so often again as asked; counts keys.
pub(crate) fn passes(options: &KvOptions) -> anyhow::Result<Tally> {
    let size = u64::from(options.txn_puts);
    ensure!(
        options.keys.is_multiple_of(size),
        "fill writes blocks of {size} keys (--txn-puts): --keys must be a multiple of that, {} is not",
        options.keys
    );
    let blocks = options.keys / size;
    let puts = usize::try_from(options.txn_puts)?;
    let first = Plan {
        template: Template::txn(puts, usize::try_from(options.value_bytes)?),
        naming: Naming::Blocks,
        keys: Keys::new(Order::Sequential, blocks, 0),
        limit: Some(blocks),
        ..writing(options, "/etcdserverpb.KV/Txn")?
    };
    let mut tally = write(&first, size, options.keys)?;
    if options.passes > 1 {
        let again = blocks * u64::from(options.passes - 1);
        let plan = Plan {
            keys: Keys::new(options.order, blocks, 1),
            limit: Some(again),
            ..first
        };
        tally.merge(write(&plan, size, again * size)?);
    }
    tally.completed *= size;
    Ok(tally)
}

/// Writes as fast as answers come, until the limit that the caller sets.
fn writing(options: &KvOptions, path: &str) -> anyhow::Result<Plan> {
    Ok(Plan {
        endpoints: vec![options.first().to_owned()],
        route: Route::new(options.first(), path, options.token.as_deref()),
        template: Template::put(usize::try_from(options.value_bytes)?),
        naming: Naming::Following,
        keys: Keys::new(Order::Sequential, 1, 0),
        clients: if options.workload == Workload::Fill {
            options.clients
        } else {
            256
        },
        connections: 8,
        interval: None,
        stop: Arc::new(AtomicU64::new(u64::MAX)),
        window: (0, u64::MAX),
        limit: Some(0),
    })
}

/// Runs a plan of writes of `size` keys each and shows how far it has come of `keys`.
fn write(plan: &Plan, size: u64, keys: u64) -> anyhow::Result<Tally> {
    let written = AtomicU64::new(0);
    let tally = thread::scope(|scope| {
        let fill = scope.spawn(|| load::run(plan, Clock::start(), &written));
        let mut progress = Progress::new();
        while !fill.is_finished() {
            thread::sleep(Duration::from_millis(100));
            progress.show(&format!(
                "writing keys: {} of {}",
                quantity::count(written.load(Ordering::Relaxed) * size),
                quantity::count(keys)
            ));
        }
        fill.join()
            .map_err(|_panic| anyhow::anyhow!("the filling thread panicked"))?
    })?;
    match tally.first_failure {
        Some(failure) => Err(failure).context("write keys"),
        None => Ok(tally),
    }
}
