//! The machine of a stream that runs.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use holm_base::{Time, WriteId};
use holm_machine::{Effects, Machine};

use crate::boundary::{Config, Effect, Found, Input, Outputs, Record, Refusal, Snapshot};
use crate::kept::Kept;
use crate::recovery::Recovery;

/// What it is doing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// It waits for the disk.
    Closed,
    /// It comes back.
    Recovering(Recovery),
    /// It runs.
    Running,
    /// It cannot go on.
    Refused,
}

/// Keeps the order of one stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Once {
    pub(crate) config: Config,
    pub(crate) role: Role,
    /// The last record of the log.
    pub(crate) last: u64,
    /// The last record that was there when it was opened; those have no write of this run.
    pub(crate) found: u64,
    /// The write of record `found + 1` is number 1.
    pub(crate) durable: WriteId,
    /// The last record that ran, and how many outputs there are.
    pub(crate) assembled: Snapshot,
    /// For each sink what it has.
    pub(crate) committed: Vec<u64>,
    /// For each sink what it was handed.
    pub(crate) handed: Vec<u64>,
    pub(crate) kept: Kept,
    /// The snapshot that is being made.
    pub(crate) saving: Option<Snapshot>,
    pub(crate) saved_at: Time,
    truncated: u64,
}

impl Once {
    /// A machine that waits for its disk.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            role: Role::Closed,
            last: 0,
            found: 0,
            durable: WriteId::ZERO,
            assembled: Snapshot {
                through: 0,
                outputs: Outputs::NONE,
            },
            committed: vec![0; config.sinks.len()],
            handed: vec![0; config.sinks.len()],
            kept: Kept::default(),
            saving: None,
            saved_at: Time::ZERO,
            truncated: 0,
            config,
        }
    }

    /// The last record that ran.
    #[must_use]
    pub const fn assembled(&self) -> u64 {
        self.assembled.through
    }

    /// How many outputs there are.
    #[must_use]
    pub const fn outputs(&self) -> Outputs {
        self.assembled.outputs
    }

    /// What the slowest sink of each query has; all of it where there is no sink.
    #[must_use]
    pub fn committed(&self) -> Outputs {
        self.least(self.assembled.outputs)
    }

    /// What the slowest sink of each query has, and where there is none, what is given.
    pub(crate) fn least(&self, otherwise: Outputs) -> Outputs {
        let mut least = otherwise;
        let mut seen = Outputs::NONE;
        for (query, output) in self.config.sinks.iter().zip(&self.committed) {
            let is_first = seen.at(*query) == 0;
            let before = if is_first { u64::MAX } else { least.at(*query) };
            seen.set(*query, 1);
            least.set(*query, before.min(*output));
        }
        least
    }

    /// The last record that a crash would not run again: that of the newest snapshot which is good
    /// and which no sink is behind. 0 if there is none.
    #[must_use]
    pub fn spared(&self) -> u64 {
        let chosen = self.kept.eligible(&self.committed());
        chosen.map_or(0, |it| it.through)
    }

    /// Whether a snapshot is being made.
    #[must_use]
    pub const fn is_saving(&self) -> bool {
        self.saving.is_some()
    }

    /// Whether all that was received is durable, and all that came of it is with the sinks.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.role, Role::Running)
            && self.assembled.through == self.last
            && self.write_of(self.last).is_none()
            && self.assembled.outputs.is_within(&self.committed())
    }

    /// Whether it has been recovered.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.role, Role::Running)
    }

    /// The write that a record waits for, unless it is durable.
    pub(crate) fn write_of(&self, sequence: u64) -> Option<WriteId> {
        let write = WriteId::new(sequence.saturating_sub(self.found));
        (write > self.durable).then_some(write)
    }

    pub(crate) fn persist(&mut self, record: Record, effects: &mut Effects<Effect>) {
        self.last += 1;
        effects.push(Effect::Persist {
            write: WriteId::new(self.last - self.found),
            sequence: self.last,
            record,
        });
    }

    fn received(&mut self, source: usize, effects: &mut Effects<Effect>) {
        assert!(self.is_running(), "I6: a source is open only in a run");
        self.persist(Record::Batch { source }, effects);
        let sequence = self.last;
        effects.push(Effect::Acknowledge {
            source,
            sequence,
            after: self.write_of(sequence),
        });
        effects.push(Effect::Assemble { sequence });
    }

    pub(crate) fn assemble(
        &mut self,
        sequence: u64,
        outputs: Outputs,
        effects: &mut Effects<Effect>,
    ) {
        assert_eq!(sequence, self.assembled.through + 1, "I6: without a gap");
        assert!(
            self.assembled.outputs.is_within(&outputs),
            "outputs only grow"
        );
        self.assembled = Snapshot {
            through: sequence,
            outputs,
        };
        for (sink, query) in self.config.sinks.iter().enumerate() {
            let output = outputs.at(*query);
            let first = self.handed[sink] + 1;
            if first <= output {
                self.handed[sink] = output;
                effects.push(Effect::Commit {
                    sink,
                    first,
                    last: output,
                    after: self.write_of(sequence),
                });
            }
        }
    }

    fn save(&mut self, now: Time, effects: &mut Effects<Effect>) {
        let is_new = self
            .kept
            .newest()
            .is_none_or(|newest| newest.through < self.assembled.through);
        if self.saving.is_some() || !is_new || self.wake_at().is_none_or(|at| now < at) {
            return;
        }
        self.saved_at = now;
        self.saving = Some(self.assembled);
        effects.push(Effect::Snapshot {
            of: self.assembled,
            after: self.write_of(self.assembled.through),
        });
    }

    fn release(&mut self, effects: &mut Effects<Effect>) {
        // The log goes first: a snapshot without its log is of no use, and the other way round
        // is nothing but a longer replay.
        let committed = self.committed();
        let mut gone = self.kept.release(&committed);
        gone.extend(self.kept.thin(&committed));
        if let Some(below) = self.kept.needed(&committed)
            && below > self.truncated
        {
            self.truncated = below;
            effects.push(Effect::Truncate { below });
        }
        for snapshot in gone {
            effects.push(Effect::Forget {
                through: snapshot.through,
            });
        }
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal, effects: &mut Effects<Effect>) {
        self.role = Role::Refused;
        effects.push(Effect::Refuse(refusal));
    }
}

impl Machine for Once {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Time, input: Input, effects: &mut Effects<Effect>) {
        match input {
            Input::Opened(found) => self.open(found, effects),
            Input::Answered { sink, output } => self.answered(sink, output, effects),
            Input::Loaded => self.loaded(effects),
            Input::Damaged => self.damaged(effects),
            Input::Received { source } => self.received(source, effects),
            Input::Assembled { sequence, outputs } => {
                self.assemble(sequence, outputs, effects);
                self.replay_on(effects);
            }
            Input::Durable { write } => self.durable = self.durable.max(write),
            Input::Committed { sink, output } => {
                assert!(
                    output <= self.handed[sink],
                    "I2: a sink has what it was given"
                );
                self.committed[sink] = self.committed[sink].max(output);
                self.release(effects);
            }
            Input::Snapshotted { through } => {
                let saved = self.saving.take().filter(|it| it.through == through);
                let saved = saved.expect("a snapshot is reported as it was wanted");
                self.kept.add(saved);
                self.release(effects);
            }
            Input::Wake => self.save(now, effects),
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let interval = Duration::from_millis(self.config.snapshot_interval_ms);
        self.is_running().then(|| self.saved_at + interval)
    }
}

impl Once {
    pub(crate) fn open(&mut self, found: Found, effects: &mut Effects<Effect>) {
        assert_eq!(self.role, Role::Closed, "it is opened once");
        (self.last, self.found) = (found.last, found.last);
        self.kept = Kept::new(found.snapshots);
        let sinks = self.config.sinks.len();
        self.role = Role::Recovering(Recovery::new(found.first, sinks));
        let epoch = found.epoch + 1;
        self.persist(Record::Open { epoch }, effects);
        let after = self.write_of(self.last);
        (0..sinks).for_each(|sink| effects.push(Effect::Ask { sink, after }));
        if sinks == 0 {
            self.choose(effects);
        }
    }
}
