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
        core: usize,
    },
    WriterAwake {
        node: usize,
        run: u64,
        core: usize,
    },
    WorkerAwake {
        node: usize,
        worker: usize,
        core: usize,
    },
    GoesOn {
        node: usize,
        worker: usize,
    },
    /// The caller's own thread is.
    OwnAwake {
        node: usize,
        core: usize,
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
            Self::Awake { node, run, core } => Self::Awake {
                node: *node,
                run: *run,
                core: *core,
            },
            Self::WriterAwake { node, run, core } => Self::WriterAwake {
                node: *node,
                run: *run,
                core: *core,
            },
            Self::WorkerAwake { node, worker, core } => Self::WorkerAwake {
                node: *node,
                worker: *worker,
                core: *core,
            },
            Self::GoesOn { node, worker } => Self::GoesOn {
                node: *node,
                worker: *worker,
            },
            Self::OwnAwake { node, core, token } => Self::OwnAwake {
                node: *node,
                core: *core,
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
