//! What a client may do that brings nothing forward.
//!
//! Two counts, each of something that costs the client nothing and us something: frames that
//! say nothing, and streams that are begun to be broken off ("rapid reset", CVE-2023-44487).

/// Counts what brings nothing forward.
#[derive(Debug)]
pub(crate) struct Guard {
    idle_frames: u32,
    idle_frames_max: u32,
    resets: u32,
    resets_max: u32,
}

impl Guard {
    pub(crate) const fn new(idle_frames_max: u32, resets_max: u32) -> Self {
        Self {
            idle_frames: 0,
            idle_frames_max,
            resets: 0,
            resets_max,
        }
    }

    /// Something came or went that matters.
    pub(crate) const fn forward(&mut self) {
        self.idle_frames = 0;
    }

    /// A frame that says nothing; whether it was one too many.
    pub(crate) const fn idle(&mut self) -> bool {
        self.idle_frames += 1;
        self.idle_frames > self.idle_frames_max
    }

    /// A stream ended well.
    pub(crate) const fn finished(&mut self) {
        self.resets = self.resets.saturating_sub(1);
    }

    /// A stream was broken off; whether it was one too many.
    pub(crate) const fn reset(&mut self) -> bool {
        self.resets += 1;
        self.resets > self.resets_max
    }
}
