//! The recording of a run: everything that Raft is told here, and a hash of what it wanted.
//!
//! What would surprise: only Raft is recorded, not the engine. What the engine does follows from
//! what Raft hands it; what of its doings comes back to Raft is among the inputs.

use std::fmt;

use bytes::Bytes;
use holm_base::Time;
use holm_raft::{Config, Ended, Recorder, Restored};

use crate::replica::{Replica, Sequencer};

/// Takes the bytes of a recording, in order.
pub trait Sink: Send {
    /// Takes a whole frame, or none of it. False if it takes no more: the recording is over.
    fn write(&mut self, frame: &[u8]) -> bool;
}

/// A recording under way.
pub(crate) struct Tape {
    recorder: Recorder,
    /// The beginning, until there is a sink.
    start: Bytes,
    sink: Option<Box<dyn Sink>>,
}

impl Tape {
    pub(crate) fn new(config: &Config, restored: &Restored) -> Self {
        let mut recorder = Recorder::default();
        let start = recorder.start(config, restored);
        Self {
            recorder,
            start,
            sink: None,
        }
    }

    pub(crate) fn before(&mut self, now: Time, inputs: &[holm_raft::Input]) {
        if self.sink.is_some() {
            self.recorder.before(now, inputs);
        }
    }

    pub(crate) fn after(&mut self, effects: &[holm_raft::Effect]) {
        if let Some(sink) = &mut self.sink {
            let frame = self.recorder.after(effects);
            if !sink.write(&frame) {
                self.sink = None;
            }
        }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_on = self.sink.is_some();
        f.debug_struct("Tape")
            .field("is_on", &is_on)
            .finish_non_exhaustive()
    }
}

impl Replica {
    /// Gives the recording that the configuration asked for to `sink`, from the very beginning.
    /// To be called before the first step; false if none was asked for, as for a node alone.
    pub fn record(&mut self, sink: Box<dyn Sink>) -> bool {
        let Sequencer::Raft(group) = &mut self.sequencer else {
            return false;
        };
        let Some(tape) = &mut group.tape else {
            return false;
        };
        let mut sink = sink;
        let start = std::mem::take(&mut tape.start);
        if sink.write(&start) {
            tape.sink = Some(sink);
        }
        true
    }

    /// Ends a recording, if one is under way.
    pub fn end_record(&mut self) {
        if let Sequencer::Raft(group) = &mut self.sequencer
            && let Some(mut tape) = group.tape.take()
            && let Some(mut sink) = tape.sink.take()
        {
            sink.write(&tape.recorder.end(Ended::Stopped));
        }
    }
}
