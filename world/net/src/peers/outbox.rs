//! The link's own frames that wait to be written.

use std::collections::VecDeque;

use bytes::BytesMut;
use holm_wire::Frame;

/// So many may wait. A peer that asks for more answers than this without reading them loses the
/// oldest; greeting and Bind leave before anything is asked, and a Mark or Close is the newest.
const FRAMES_MAX: usize = 64;

/// A short queue.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
}

impl Outbox {
    /// Puts a frame behind the others; if that is one too many, the oldest goes.
    pub(crate) fn push(&mut self, frame: Frame) {
        if self.frames.len() == FRAMES_MAX {
            self.frames.pop_front();
        }
        self.frames.push_back(frame);
    }

    /// Appends all of them to `out`, and is empty then.
    pub(crate) fn empty_into(&mut self, out: &mut BytesMut) {
        for frame in self.frames.drain(..) {
            frame.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use holm_wire::Decoder;

    #[test]
    fn the_oldest_of_too_many_goes_and_the_newest_stays() {
        let mut outbox = Outbox::default();
        for group in 0..100 {
            outbox.push(Frame {
                kind: 4,
                plane: 0,
                version: 1,
                group,
                body: Bytes::new(),
            });
        }
        let mut out = BytesMut::new();
        outbox.empty_into(&mut out);
        let mut decoder = Decoder::new();
        let mut groups = Vec::new();
        while let Ok(Some(frame)) = decoder.next(&mut out) {
            groups.push(frame.group);
        }
        assert_eq!(groups, (36..100).collect::<Vec<_>>());
        outbox.empty_into(&mut out);
        assert!(out.is_empty());
    }
}
