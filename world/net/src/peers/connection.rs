//! One connection as its tasks share it: the link's machine and its own frames that wait.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use holm_base::Time;
use holm_link::{Binding, CHANNEL, Effect, Event, Input, Link, Reason};
use holm_machine::{Effects, Machine};
use holm_wire::Frame;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::peers::outbox::Outbox;
use crate::peers::pen::Pen;
use crate::peers::table::Node;
use crate::peers::{Class, Shared};

/// Bytes of frames in one write, unless one frame is longer.
pub(crate) const WRITE: usize = 256 << 10;

/// One connection.
pub(crate) struct Connection {
    talk: Mutex<Talk>,
    /// `None` before the conversation begins, and once it has ended.
    pen: Mutex<Option<Pen>>,
    carried: OnceLock<(Arc<Node>, Class)>,
    /// Reads that brought bytes.
    heard: AtomicU64,
    writer: Notify,
    timer: Notify,
    /// Told when the other end sends no more frames of planes here.
    silenced: Notify,
    handshake: Mutex<Option<OwnedSemaphorePermit>>,
    predecessor: Mutex<Option<Arc<Self>>>,
}

struct Talk {
    link: Link,
    outbox: Outbox,
    closed: Option<Reason>,
}

impl Connection {
    /// A connection that TLS has secured just now. `handshake` is given back once it is bound.
    pub(crate) fn new(link: Link, handshake: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        let talk = Talk {
            link,
            outbox: Outbox::default(),
            closed: None,
        };
        Arc::new(Self {
            talk: Mutex::new(talk),
            pen: Mutex::new(None),
            carried: OnceLock::new(),
            heard: AtomicU64::new(0),
            writer: Notify::new(),
            timer: Notify::new(),
            silenced: Notify::new(),
            handshake: Mutex::new(handshake),
            predecessor: Mutex::new(None),
        })
    }

    pub(crate) fn wake_writer(&self) {
        self.writer.notify_one();
    }

    /// Gives it what it writes with.
    pub(crate) fn begin(&self, pen: Pen) {
        *lock(&self.pen) = Some(pen);
    }

    /// Writes what there is on the calling thread, as far as the system takes it at once; the
    /// connection's task does the rest. Never blocks.
    pub(crate) fn write_here(&self) {
        let pen = match self.pen.try_lock() {
            Ok(pen) => Some(pen),
            Err(TryLockError::Poisoned(pen)) => Some(pen.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        // What the task has begun it finishes, and what came meanwhile with it: it waits for the
        // stream, which wakes whoever asked it last.
        let pen = pen.filter(|pen| pen.as_ref().is_some_and(Pen::is_idle));
        let mut cx = Context::from_waker(Waker::noop());
        let written = pen.map(|mut pen| self.poll_pen(&mut pen, &mut cx));
        if !matches!(written, Some(Poll::Ready(Ok(false)))) {
            self.wake_writer();
        }
    }

    /// Writes what there is. Ready when all has left, and says whether nothing may follow.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.poll_pen(&mut lock(&self.pen), cx)
    }

    fn poll_pen(&self, pen: &mut Option<Pen>, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match pen {
            Some(pen) => pen.poll_write(cx, |out| self.collect(WRITE, out)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Says that nothing follows. Ready when that has left.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match lock(&self.pen).as_mut() {
            Some(pen) => pen.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Lets something happen to the link, and does what it asks for.
    pub(crate) fn step(self: &Arc<Self>, shared: &Shared, input: Input) {
        let (mut effects, mut mail) = (Effects::new(), Vec::new());
        self.step_with(shared, input, &mut effects, &mut mail);
        self.hand_over(shared, &mut mail);
    }

    /// As [`Connection::step`], with buffers that are kept between calls. What is to be
    /// delivered goes to `mail`, for [`Connection::hand_over`].
    pub(crate) fn step_with(
        self: &Arc<Self>,
        shared: &Shared,
        input: Input,
        effects: &mut Effects<Effect>,
        mail: &mut Vec<Frame>,
    ) {
        let mut talk = self.lock();
        let before = talk.link.wake_at();
        talk.link.step(shared.now(), input, effects);
        let after = talk.link.wake_at();
        let (mut has_sent, mut rest) = (false, Vec::new());
        for effect in effects.drain() {
            match effect {
                Effect::Send(frame) => {
                    has_sent = true;
                    talk.outbox.push(frame);
                }
                Effect::Close(reason) => {
                    has_sent = true;
                    talk.closed = Some(reason);
                }
                Effect::Bind(_) | Effect::Deliver(_) | Effect::Renew | Effect::Note(_) => {
                    rest.push(effect);
                }
            }
        }
        let is_silenced = talk.link.is_marked();
        // Nothing below runs under the lock: what it calls may step another connection.
        drop(talk);
        if has_sent {
            self.writer.notify_one();
        }
        if after != before && (after.is_none() || before.is_none_or(|at| after < Some(at))) {
            self.timer.notify_one();
        }
        if is_silenced {
            self.silenced.notify_one();
        }
        for effect in rest {
            match effect {
                Effect::Deliver(frame) => mail.push(frame),
                other => self.act(shared, other),
            }
        }
    }

    /// Delivers what has gathered.
    pub(crate) fn hand_over(&self, shared: &Shared, mail: &mut Vec<Frame>) {
        if mail.is_empty() {
            return;
        }
        if let Some((node, class)) = self.carried.get() {
            node.lane(*class).count_received(mail.len());
            shared.deliver.deliver(node.id, mail);
        }
        mail.clear();
    }

    fn act(self: &Arc<Self>, shared: &Shared, effect: Effect) {
        match effect {
            Effect::Bind(binding) => self.bound(shared, &binding),
            Effect::Renew => {
                if let Some((node, class)) = self.carried.get() {
                    node.lane(*class).renew.notify_one();
                }
            }
            Effect::Note(event) => self.note(&event),
            Effect::Send(_) | Effect::Close(_) | Effect::Deliver(_) => {}
        }
    }

    /// The ends know each other: this connection carries its lane from now on.
    fn bound(self: &Arc<Self>, shared: &Shared, binding: &Binding) {
        drop(lock(&self.handshake).take());
        let class = binding.choice(CHANNEL).and_then(Class::of_choice);
        let node = shared.table.node(binding.node);
        let (Some(class), Some(node)) = (class, node) else {
            // It was a member when the link was configured and is none now.
            let node = binding.node;
            let certificate = binding.identity.to_string();
            self.lock().closed = Some(Reason::NotMember { node, certificate });
            self.timer.notify_one();
            return self.writer.notify_one();
        };
        let first = self.carried.set((Arc::clone(&node), class));
        assert!(first.is_ok(), "a link binds once");
        let Some((connections, newest)) = node.enter(self, (binding.boot, binding.run)) else {
            let (node, boot) = (binding.node, binding.boot);
            self.lock().closed = Some(Reason::Cloned { node, boot });
            self.timer.notify_one();
            return self.writer.notify_one();
        };
        for connection in connections {
            connection.step(shared, Input::Fence { boot: newest });
        }
        if self.lock().closed.is_none() {
            let before = node.lane(class).install(self);
            node.refresh();
            if let Some(before) = &before {
                before.step(shared, Input::Drain);
            }
            *lock(&self.predecessor) = before;
        }
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Returned { after: _, smooth } => {
                if let Some((node, class)) = self.carried.get() {
                    node.lane(*class).set_rtt(*smooth);
                }
            }
            Event::PolicyDiffers => tracing::warn!("the ends of a link follow different policies"),
            Event::LayerUnused { layer } => {
                let layer = layer.value();
                tracing::info!(layer, "nothing in common in a layer that is not required");
            }
            Event::FrameDropped {
                plane,
                kind,
                version,
            } => tracing::debug!(plane, kind, version, "frame that was not agreed on dropped"),
        }
    }

    /// Bytes came.
    pub(crate) fn count_read(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// Whom it belongs to, once it is bound.
    pub(crate) fn carried(&self) -> Option<&(Arc<Node>, Class)> {
        self.carried.get()
    }

    /// Why it is closed, once it is.
    pub(crate) fn closed(&self) -> Option<Reason> {
        self.lock().closed.clone()
    }

    /// When its machine wants to be woken.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.lock().link.wake_at()
    }

    /// Comes when the machine's deadline has moved closer, or gone.
    pub(crate) async fn deadline_moved(&self) {
        self.timer.notified().await;
    }

    /// Comes when there may be something to write.
    pub(crate) async fn work(&self) {
        self.writer.notified().await;
    }

    /// What it replaced, the first time this is asked.
    pub(crate) fn predecessor(&self) -> Option<Arc<Self>> {
        lock(&self.predecessor).take()
    }

    /// Comes when the other end has ended its direction here, or has been silent for `pause`.
    pub(crate) async fn run_dry(&self, pause: std::time::Duration) {
        loop {
            let before = self.heard.load(Ordering::Relaxed);
            if self.lock().link.is_marked() {
                return;
            }
            let silenced = tokio::time::timeout(pause, self.silenced.notified()).await;
            if silenced.is_ok() || self.heard.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// Appends what there is to write: the link's own frames, then frames of its lane up to
    /// `bytes_max`. Whether it is closed, so that nothing comes after this.
    fn collect(&self, bytes_max: usize, out: &mut BytesMut) -> bool {
        let mut talk = self.lock();
        talk.outbox.empty_into(out);
        let is_closed = talk.closed.is_some();
        drop(talk);
        // A Mark goes into the outbox only after the lane has another carrier, so no frame of
        // the lane can follow one.
        if !is_closed && let Some((node, class)) = self.carried.get() {
            node.lane(*class).take(self, bytes_max, out);
        }
        is_closed
    }

    /// Takes it out of the table, and off its lane if it carries that.
    pub(crate) fn retire(self: &Arc<Self>) {
        if let Some((node, class)) = self.carried.get() {
            node.lane(*class).remove(self);
            node.leave(self);
            node.refresh();
        }
        // Its end of the stream is closed with it, whoever else still knows of it.
        drop(lock(&self.pen).take());
        self.silenced.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Talk> {
        lock(&self.talk)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
