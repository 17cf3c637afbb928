//! The queue of one class to one node, and the connection that carries it now.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use holm_wire::Frame;
use tokio::sync::Notify;

use crate::peers::connection::Connection;

/// One class to one node.
#[derive(Debug)]
pub(crate) struct Lane {
    bytes_max: usize,
    queue: Mutex<Queue>,
    /// Asks whoever dials for a new connection beside the old one.
    pub(crate) renew: Notify,
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    carrier: Option<Arc<Connection>>,
    rtt: Option<Duration>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) dropped: u64,
}

impl Lane {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            queue: Mutex::default(),
            renew: Notify::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Queues a frame, or drops it where there is no room or no connection. Gives the connection
    /// that is to be told, if it has to be: its writer goes on until the queue is empty.
    pub(crate) fn push(&self, frame: Frame) -> Option<Arc<Connection>> {
        let mut queue = self.lock();
        let size = frame.size();
        // A frame beyond the limit passes an empty queue, or it would never pass.
        let fits = queue.frames.is_empty() || queue.bytes + size <= self.bytes_max;
        let Some(carrier) = queue.carrier.as_ref().filter(|_| fits) else {
            drop(queue);
            self.count_dropped();
            return None;
        };
        let to_tell = queue.frames.is_empty().then(|| Arc::clone(carrier));
        queue.frames.push_back(frame);
        queue.bytes += size;
        to_tell
    }

    /// Appends queued frames to `out`, up to `bytes_max` of them but at least one, if
    /// `connection` is the one that carries this lane.
    pub(crate) fn take(&self, connection: &Connection, bytes_max: usize, out: &mut BytesMut) {
        let mut queue = self.lock();
        let carrier = queue.carrier.as_deref();
        if !carrier.is_some_and(|it| std::ptr::eq(it, connection)) {
            return;
        }
        let begin = out.len();
        let mut count = 0;
        while let Some(frame) = queue.frames.front() {
            if count > 0 && out.len() - begin + frame.size() > bytes_max {
                break;
            }
            frame.encode(out);
            queue.bytes -= frame.size();
            queue.frames.pop_front();
            count += 1;
        }
        drop(queue);
        self.sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Makes `connection` carry this lane, and gives back what carried it before.
    pub(crate) fn install(&self, connection: &Arc<Connection>) -> Option<Arc<Connection>> {
        let mut queue = self.lock();
        let before = queue.carrier.replace(Arc::clone(connection));
        let has_work = !queue.frames.is_empty();
        drop(queue);
        if has_work {
            connection.wake_writer();
        }
        before
    }

    /// Takes `connection` away, if it carries this lane. What waits is dropped and counted: it
    /// would be stale when a new connection comes.
    pub(crate) fn remove(&self, connection: &Connection) {
        let mut queue = self.lock();
        let carrier = queue.carrier.as_deref();
        if !carrier.is_some_and(|it| std::ptr::eq(it, connection)) {
            return;
        }
        queue.carrier = None;
        queue.rtt = None;
        queue.bytes = 0;
        let stale = std::mem::take(&mut queue.frames);
        drop(queue);
        let count = u64::try_from(stale.len()).unwrap_or(u64::MAX);
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    /// What carries this lane now.
    pub(crate) fn carrier(&self) -> Option<Arc<Connection>> {
        self.lock().carrier.clone()
    }

    pub(crate) fn set_rtt(&self, rtt: Duration) {
        self.lock().rtt = Some(rtt);
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.lock().rtt
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, frames: usize) {
        let frames = u64::try_from(frames).unwrap_or(u64::MAX);
        self.received.fetch_add(frames, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
