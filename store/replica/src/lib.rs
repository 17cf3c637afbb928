//! binds a sequencer to the log and the engine
