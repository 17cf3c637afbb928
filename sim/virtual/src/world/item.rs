//! What the agenda of a world holds.

use holm_base::WriteId;

use crate::node::Node;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Item<N: Node> {
    Deliver {
        source: usize,
        target: usize,
        input: N::Input,
        /// What the sender had heard of; empty if nobody asks.
        sent: Box<[u64]>,
    },
    Synced {
        node: usize,
        run: u64,
        through: WriteId,
    },
    /// A piece of work on a host is done.
    Ran {
        host: usize,
        serial: u64,
    },
    Awake {
        node: usize,
        run: u64,
    },
    WriterAwake {
        node: usize,
        run: u64,
    },
    WorkerAwake {
        node: usize,
        worker: usize,
    },
    GoesOn {
        node: usize,
        worker: usize,
    },
    /// The caller's own thread is.
    OwnAwake {
        node: usize,
        token: u64,
    },
    Alarm(u64),
    Restart(usize),
    Resume(usize),
    Thaw(usize),
    Empty(usize),
    Mend {
        source: usize,
        target: usize,
    },
    Hasten {
        source: usize,
        target: usize,
    },
}

impl<N: Node> Clone for Item<N> {
    fn clone(&self) -> Self {
        match self {
            Self::Deliver {
                source,
                target,
                input,
                sent,
            } => Self::Deliver {
                source: *source,
                target: *target,
                input: input.clone(),
                sent: sent.clone(),
            },
            Self::Synced { node, run, through } => Self::Synced {
                node: *node,
                run: *run,
                through: *through,
            },
            Self::Ran { host, serial } => Self::Ran {
                host: *host,
                serial: *serial,
            },
            Self::Awake { node, run } => Self::Awake {
                node: *node,
                run: *run,
            },
            Self::WriterAwake { node, run } => Self::WriterAwake {
                node: *node,
                run: *run,
            },
            Self::WorkerAwake { node, worker } => Self::WorkerAwake {
                node: *node,
                worker: *worker,
            },
            Self::GoesOn { node, worker } => Self::GoesOn {
                node: *node,
                worker: *worker,
            },
            Self::OwnAwake { node, token } => Self::OwnAwake {
                node: *node,
                token: *token,
            },
            Self::Alarm(token) => Self::Alarm(*token),
            Self::Restart(node) => Self::Restart(*node),
            Self::Resume(node) => Self::Resume(*node),
            Self::Thaw(node) => Self::Thaw(*node),
            Self::Empty(node) => Self::Empty(*node),
            Self::Mend { source, target } => Self::Mend {
                source: *source,
                target: *target,
            },
            Self::Hasten { source, target } => Self::Hasten {
                source: *source,
                target: *target,
            },
        }
    }
}
