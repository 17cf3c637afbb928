//! `holm stream run --live` and `--page`: what a run has so far, while it runs.
//!
//! Four times a second the rows are found that would come out if the input ended now. They are
//! drawn dimmed below those that have come out, on standard error, and shown on a page of this
//! process's own. A query whose state is large is looked at less often, so that looking costs a
//! twentieth of the time at most.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use holm_connect::{Figures, View};
use holm_engine::Run;
use holm_lanes::Batch;
use holm_serve::Front;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::Ended;
use super::draw::Block;

/// How often a person is shown something new.
const OFTEN: Duration = Duration::from_millis(250);
/// Looking at open windows takes this part of the time at most.
const PART: u32 = 20;

/// What a run is watched with.
#[derive(Debug)]
pub(crate) struct Live {
    view: View,
    block: Option<Block>,
    page: Option<Page>,
    due: Instant,
    busy: Duration,
    bytes: u64,
}

/// A page of this process's own; it goes when this is dropped.
#[derive(Debug)]
struct Page {
    runtime: Option<Runtime>,
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Page {
    fn open(address: SocketAddr, view: &View) -> Result<(Self, SocketAddr), Ended> {
        if !address.ip().is_loopback() {
            return Err(Ended::Refused(format!(
                "--page {address}: only a loopback address; others can read what is shown there"
            )));
        }
        let failed = |error| Ended::failed(format!("listen on {address}"), error);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let front = Front::new("one run");
        front.show(view);
        runtime.spawn(serve(listener, front));
        let runtime = Some(runtime);
        Ok((Self { runtime }, bound))
    }
}

/// Serves clients until the process ends. The front bounds them.
async fn serve(listener: TcpListener, front: Front) {
    const CLIENTS_MAX: usize = 256;
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = std::sync::Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it a small event may wait for an acknowledgement.
                stream.set_nodelay(true).ok();
                let front = front.clone();
                tokio::spawn(async move {
                    front.serve(stream, std::future::pending()).await;
                    drop(permit);
                });
            }
            // Out of descriptors, say: it passes.
            Err(_error) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Live {
    /// What is asked for; nothing, if neither is.
    pub(crate) fn open(
        is_drawn: bool,
        page: Option<SocketAddr>,
        view: View,
    ) -> Result<Option<Self>, Ended> {
        if !is_drawn && page.is_none() {
            return Ok(None);
        }
        let page = match page {
            Some(address) => {
                let (page, bound) = Page::open(address, &view)?;
                super::aside::say(&format!("live page at http://{bound}/"));
                Some(page)
            }
            None => None,
        };
        Ok(Some(Self {
            block: is_drawn.then(|| Block::new(view.fields())),
            view,
            page,
            due: Instant::now(),
            busy: Duration::ZERO,
            bytes: 0,
        }))
    }

    /// Whether rows are drawn, so that they need not be printed too.
    pub(crate) const fn is_drawn(&self) -> bool {
        self.block.is_some()
    }

    /// A piece was worked off, which took so long, and these rows came out.
    pub(crate) fn step(&mut self, run: &Run, rows: &Batch, (bad, took): (u64, Duration)) {
        self.view.rows(rows);
        if let Some(block) = &mut self.block {
            block.rows(rows);
        }
        self.busy += took;
        let begun = Instant::now();
        if begun < self.due {
            return;
        }
        let figures = self.figures(run, bad, false);
        self.view.figures(figures);
        // A join or an order that is nearly full may not fit twice; then nothing is foreseen.
        if let Ok(open) = run.foresee() {
            self.view.open(&open);
            if let Some(block) = &mut self.block {
                block.draw(&figures, Some(&open));
            }
        } else if let Some(block) = &mut self.block {
            block.draw(&figures, None);
        }
        self.due = Instant::now() + OFTEN.max(begun.elapsed() * PART);
    }

    /// The input has ended.
    pub(crate) fn end(&mut self, run: &Run, bad: u64) {
        let figures = self.figures(run, bad, true);
        self.view
            .open(&Batch::of(run_out(&self.view).into_iter().collect()));
        self.view.figures(figures);
        if let Some(block) = &mut self.block {
            block.draw(&figures, None);
        }
        // The last frame is on its way to whoever watches the page.
        if self.page.is_some() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn figures(&self, run: &Run, bad: u64, is_ended: bool) -> Figures {
        let counts = run.counts();
        let gauge = run.gauge();
        let long = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let clock = clock.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(0));
        let mark = run.mark(0);
        Figures {
            rows: counts.rows + bad,
            out: counts.out,
            late: counts.late,
            diverted: counts.diverted + bad,
            passed_over: 0,
            bytes: self.bytes,
            log_bytes: 0,
            logged: (0, 0),
            state_bytes: long(gauge.bytes),
            panes: long(gauge.panes),
            keys: long(gauge.keys),
            busy_ns: u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX),
            watermark: (mark != i64::MIN && mark != i64::MAX).then_some(mark),
            clock,
            is_ended,
            together: 1,
        }
    }
}

/// Empty columns, for no windows.
fn run_out(view: &View) -> Vec<holm_lanes::Lane> {
    let fields = view.fields().iter();
    let lane = |field: &holm_lanes::Field| {
        holm_lanes::Lane::dense(holm_lanes::Values::empty(field.kind.shape()))
    };
    fields.map(lane).collect()
}
