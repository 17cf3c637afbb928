//! The way back: epoch, sinks, snapshot, replay, sources. In this order and no other.

use alloc::vec;
use alloc::vec::Vec;

use holm_machine::Effects;

use crate::boundary::{Effect, Outputs, QUERIES_MAX, Refusal, Snapshot};
use crate::once::{Once, Role};

/// How far it has come back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recovery {
    /// The first record that is there.
    first: u64,
    /// For each sink whether it has answered.
    answered: Vec<bool>,
    /// The snapshot that is being loaded.
    loading: Option<Snapshot>,
    is_replaying: bool,
}

impl Recovery {
    pub(crate) fn new(first: u64, sinks: usize) -> Self {
        Self {
            first,
            answered: vec![false; sinks],
            loading: None,
            is_replaying: false,
        }
    }
}

impl Once {
    fn recovery(&mut self) -> &mut Recovery {
        match &mut self.role {
            Role::Recovering(recovery) => recovery,
            role @ (Role::Closed | Role::Running | Role::Refused) => {
                panic!("only a stream that comes back takes this: {role:?}")
            }
        }
    }

    pub(crate) fn answered(&mut self, sink: usize, output: u64, effects: &mut Effects<Effect>) {
        self.committed[sink] = output;
        self.handed[sink] = output;
        let recovery = self.recovery();
        recovery.answered[sink] = true;
        if recovery.answered.iter().all(|answered| *answered) {
            self.choose(effects);
        }
    }

    /// Loads the newest snapshot that no sink is behind (I3), or begins where the log does.
    pub(crate) fn choose(&mut self, effects: &mut Effects<Effect>) {
        if let Some(newest) = self.kept.newest()
            && newest.through > self.found
        {
            let (through, last) = (newest.through, self.found);
            return self.refuse(Refusal::LogLost { through, last }, effects);
        }
        let least = self.least(Outputs::of([u64::MAX; QUERIES_MAX]));
        let chosen = self.kept.eligible(&least);
        let first = self.recovery().first;
        let start = chosen.map_or(1, |it| it.through + 1);
        // A log without records goes back to its beginning, and so does one that has the first.
        if first > start {
            let behind = self.kept.oldest().and_then(|oldest| {
                let mut sinks = self.config.sinks.iter().zip(&self.committed);
                sinks.position(|(query, has)| *has < oldest.outputs.at(*query))
            });
            let refusal = match behind {
                Some(sink) => Refusal::SinkBehind {
                    sink,
                    output: self.committed[sink],
                },
                None => Refusal::NoSnapshot { first },
            };
            return self.refuse(refusal, effects);
        }
        self.recovery().loading = chosen;
        effects.push(Effect::Load {
            through: chosen.map(|it| it.through),
        });
    }

    pub(crate) fn damaged(&mut self, effects: &mut Effects<Effect>) {
        let loading = self.recovery().loading.take();
        let damaged = loading.expect("only a snapshot that was wanted is damaged");
        self.kept.remove(damaged.through);
        effects.push(Effect::Forget {
            through: damaged.through,
        });
        self.choose(effects);
    }

    pub(crate) fn loaded(&mut self, effects: &mut Effects<Effect>) {
        let recovery = self.recovery();
        recovery.is_replaying = true;
        if let Some(snapshot) = recovery.loading.take() {
            self.assembled = snapshot;
        }
        self.replay_on(effects);
    }

    /// The next record, or the sources when there is none.
    pub(crate) fn replay_on(&mut self, effects: &mut Effects<Effect>) {
        let Role::Recovering(recovery) = &self.role else {
            return;
        };
        assert!(recovery.is_replaying, "I6: a snapshot comes before records");
        if self.assembled.through < self.last {
            let sequence = self.assembled.through + 1;
            return effects.push(Effect::Assemble { sequence });
        }
        let outputs = self.assembled.outputs;
        let mut sinks = self.config.sinks.iter().zip(&self.committed);
        let ahead = sinks.position(|(query, has)| *has > outputs.at(*query));
        if let Some(sink) = ahead {
            let (output, known) = (self.committed[sink], outputs.at(self.config.sinks[sink]));
            let refusal = Refusal::SinkAhead {
                sink,
                output,
                known,
            };
            return self.refuse(refusal, effects);
        }
        self.role = Role::Running;
        effects.push(Effect::Open);
    }
}
