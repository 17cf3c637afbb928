//! Who asked what when, and what came back.
//!
//! Moments are places in the one sequence of all invocations and returns: they order events as
//! an onlooker with a perfect clock would, and never tie.

/// What a request should do and answer.
pub trait Model {
    /// A request.
    type Call;
    /// Its answer.
    type Reply: PartialEq;
    /// What the answers depend on.
    type State: Clone + Ord;

    /// The state before the first request.
    fn start(&self) -> Self::State;

    /// Carries out a request.
    fn apply(&self, state: &mut Self::State, call: &Self::Call) -> Self::Reply;

    /// What a request would answer, the state staying as it is. Worth a hand-written one where
    /// states are large.
    fn peek(&self, state: &Self::State, call: &Self::Call) -> Self::Reply {
        self.apply(&mut state.clone(), call)
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// It was answered.
    Returned {
        /// When.
        at: u64,
        /// With what.
        reply: R,
    },
    /// Nobody knows: it may have happened, may happen yet, or never.
    Unknown,
    /// It was refused, and changed nothing.
    Refused,
}

/// A request and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// Who asked.
    pub client: u64,
    /// What.
    pub call: C,
    /// When.
    pub invoked: u64,
    /// How it ended.
    pub outcome: Outcome<R>,
}

impl<C, R> Operation<C, R> {
    /// When it returned; never, as far as is known, if it did not.
    #[must_use]
    pub const fn returned_at(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Returned { at, .. } => Some(at),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }

    /// What it returned.
    #[must_use]
    pub const fn reply(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Returned { reply, .. } => Some(reply),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }
}

/// How many operations a history holds.
const OPERATIONS_MAX: usize = 10_000_000;

/// All operations of a run, in the order of their invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<C, R> {
    operations: Vec<Operation<C, R>>,
    moment: u64,
}

impl<C, R> History<C, R> {
    /// One without operations.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            operations: Vec::new(),
            moment: 0,
        }
    }

    /// A client asks. The number names the operation until its end is known.
    ///
    /// # Panics
    ///
    /// Beyond 10^7 operations.
    pub fn invoke(&mut self, client: u64, call: C) -> usize {
        assert!(
            self.operations.len() < OPERATIONS_MAX,
            "a history is bounded"
        );
        let invoked = self.tick();
        self.operations.push(Operation {
            client,
            call,
            invoked,
            outcome: Outcome::Unknown,
        });
        self.operations.len() - 1
    }

    /// It was answered.
    pub fn returned(&mut self, operation: usize, reply: R) {
        let at = self.tick();
        self.end(operation, Outcome::Returned { at, reply });
    }

    /// It was refused, and changed nothing.
    pub fn refused(&mut self, operation: usize) {
        self.tick();
        self.end(operation, Outcome::Refused);
    }

    fn end(&mut self, operation: usize, outcome: Outcome<R>) {
        let known = &mut self.operations[operation].outcome;
        assert!(matches!(known, Outcome::Unknown), "an operation ends once");
        *known = outcome;
    }

    const fn tick(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// All of them, in the order of their invocation.
    #[must_use]
    pub fn operations(&self) -> &[Operation<C, R>] {
        &self.operations
    }

    /// How many were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        let replies = self.operations.iter().filter_map(Operation::reply);
        replies.count()
    }
}

impl<C: Clone, R: Clone> History<C, R> {
    /// The history of each key on its own, for models whose keys do not touch.
    #[must_use]
    pub fn split<K: Ord>(&self, key: impl Fn(&C) -> K) -> Vec<Self> {
        let mut parts: std::collections::BTreeMap<K, Self> = std::collections::BTreeMap::new();
        for operation in &self.operations {
            let part = parts.entry(key(&operation.call)).or_default();
            part.operations.push(operation.clone());
            part.moment = self.moment;
        }
        parts.into_values().collect()
    }
}

impl<C, R> Default for History<C, R> {
    fn default() -> Self {
        Self::new()
    }
}
