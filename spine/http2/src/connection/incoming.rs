//! What comes in: cutting frames, and data.

use super::{Connection, FIRST_WINDOW, Phase, narrow};
use crate::event::{Event, Key};
use crate::frame::{self, FrameHead, HEAD_BYTES, PAYLOAD_MAX, PREFACE};
use crate::reason::Reason;

/// What a frame came to: an event, nothing to tell, or the end of the connection.
pub(super) type Taken<'a> = Result<Option<Event<'a>>, Reason>;

impl Connection {
    /// Reads what has come until something is to be told: how many bytes were read, and what
    /// it is. Bytes that were not read are to be given again, with more behind them; without
    /// an event, more must come first. No more than one frame stays unread.
    pub fn receive<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Event<'a>>) {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let (read, taken) = match self.phase {
                Phase::Closed => return (input.len(), None),
                Phase::Preface => self.take_preface(rest),
                Phase::Settings | Phase::Open => self.take_frame(rest),
            };
            at += read;
            match taken {
                Ok(Some(event)) => return (at, Some(event)),
                Ok(None) if read == 0 => return (at, None),
                Ok(None) => {}
                Err(reason) => {
                    self.fail(reason, &[]);
                    return (at, Some(Event::Failed { reason }));
                }
            }
        }
    }

    fn take_preface<'a>(&mut self, input: &[u8]) -> (usize, Taken<'a>) {
        let come = input.len().min(PREFACE.len());
        if input[..come] != PREFACE[..come] {
            return (0, Err(Reason::PROTOCOL_ERROR));
        }
        if come < PREFACE.len() {
            return (0, Ok(None));
        }
        self.phase = Phase::Settings;
        (come, Ok(None))
    }

    fn take_frame<'a>(&mut self, input: &'a [u8]) -> (usize, Taken<'a>) {
        let Some(head) = FrameHead::read(input) else {
            return (0, Ok(None));
        };
        if head.length > PAYLOAD_MAX {
            return (0, Err(Reason::FRAME_SIZE_ERROR));
        }
        let end = HEAD_BYTES + head.length;
        match input.get(HEAD_BYTES..end) {
            Some(payload) => (end, self.take(head, payload)),
            None => (0, Ok(None)),
        }
    }

    fn take<'a>(&mut self, head: FrameHead, payload: &'a [u8]) -> Taken<'a> {
        if self.phase == Phase::Settings {
            if head.kind != frame::SETTINGS || head.has(frame::ACK) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.phase = Phase::Open;
        }
        if self.open.is_some() && head.kind != frame::CONTINUATION {
            return Err(Reason::PROTOCOL_ERROR);
        }
        match head.kind {
            frame::DATA => self.take_data(head, payload),
            frame::HEADERS => self.take_headers(head, payload),
            frame::CONTINUATION => self.take_continuation(head, payload),
            frame::RST_STREAM => self.take_reset(head, payload),
            frame::SETTINGS => self.take_settings(head, payload),
            frame::PING => self.take_ping(head, payload),
            frame::WINDOW_UPDATE => self.take_window(head, payload),
            frame::PRIORITY => self.take_priority(head, payload),
            frame::PUSH_PROMISE => Err(Reason::PROTOCOL_ERROR),
            frame::GO_AWAY if head.stream != 0 => Err(Reason::PROTOCOL_ERROR),
            frame::GO_AWAY if head.length < 8 => Err(Reason::FRAME_SIZE_ERROR),
            // A farewell, or what nobody knows.
            _ => self.idle().map(|()| None),
        }
    }

    /// A frame that says nothing.
    pub(super) const fn idle(&mut self) -> Result<(), Reason> {
        if self.guard.idle() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(())
    }

    fn take_data<'a>(&mut self, head: FrameHead, payload: &'a [u8]) -> Taken<'a> {
        if head.stream == 0 || head.stream > self.newest || head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let length = narrow(payload.len());
        self.held += length;
        if self.held > self.config.connection_window.max(FIRST_WINDOW) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let data = frame::unpadded(head, payload).ok_or(Reason::PROTOCOL_ERROR)?;
        let is_last = head.has(frame::END_STREAM);
        let Some(key) = self.streams.find(head.stream) else {
            // It was under way when the stream ended.
            self.release_connection(length);
            return self.idle().map(|()| None);
        };
        self.release_connection(length - narrow(data.len()));
        match self.fits(key, length, (data.len(), is_last)) {
            Ok(is_wanted) if is_wanted && (is_last || !data.is_empty()) => {
                if data.is_empty() {
                    return Ok(Some(Event::Ended { key }));
                }
                self.guard.forward();
                Ok(Some(Event::Data {
                    key,
                    bytes: data,
                    is_last,
                }))
            }
            Ok(_) => {
                self.release_connection(narrow(data.len()));
                if self.settle(key) {
                    return Ok(Some(Event::Over { key }));
                }
                self.idle().map(|()| None)
            }
            Err(reason) => {
                self.release_connection(narrow(data.len()));
                self.break_off(key, reason)
            }
        }
    }

    /// Takes note of data on a stream: whether anybody wants it, or what it breaks.
    fn fits(
        &mut self,
        key: Key,
        length: u32,
        (bytes, is_last): (usize, bool),
    ) -> Result<bool, Reason> {
        // A client may send as much before it has heard of our settings.
        let window = self.config.stream_window.max(FIRST_WINDOW);
        let stream = self.streams.get_mut(key).expect("it was found");
        if stream.has_ended {
            return Err(Reason::STREAM_CLOSED);
        }
        stream.has_ended = is_last;
        if stream.is_done {
            return Ok(false);
        }
        if stream.held + stream.released + length > window {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        let data = narrow(bytes);
        if let Some(left) = &mut stream.left {
            *left = left
                .checked_sub(u64::from(data))
                .filter(|left| !is_last || *left == 0)
                .ok_or(Reason::PROTOCOL_ERROR)?;
        }
        stream.held += data;
        stream.released += length - data;
        Ok(true)
    }

    /// Breaks a stream off for what the client did on it.
    pub(super) fn break_off<'a>(&mut self, key: Key, reason: Reason) -> Taken<'a> {
        self.put_reset(key.id, reason);
        self.forget(key);
        if self.guard.reset() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(Some(Event::Reset { key, reason }))
    }

    /// Drops a stream and all it holds.
    pub(super) fn forget(&mut self, key: Key) {
        let held = self.streams.get(key).map_or(0, |it| it.held);
        self.release_connection(held);
        self.streams.remove(key);
    }

    /// Drops a stream that both sides have ended; whether it was one.
    pub(super) fn settle(&mut self, key: Key) -> bool {
        let stream = self.streams.get(key);
        let is_over = stream.is_some_and(|it| it.has_ended && it.is_done);
        if is_over {
            self.guard.finished();
            self.forget(key);
        }
        is_over
    }

    /// Gives the client room for bytes that came on a stream.
    pub fn release(&mut self, key: Key, bytes: usize) {
        let half = self.config.stream_window / 2;
        let bytes = narrow(bytes);
        let Some(stream) = self.streams.get_mut(key) else {
            // What it held was released when it ended.
            return;
        };
        assert!(stream.held >= bytes, "only what has come is released");
        stream.held -= bytes;
        stream.released += bytes;
        let mut told = 0;
        if stream.released >= half && !stream.has_ended {
            told = core::mem::take(&mut stream.released);
        }
        if told > 0 {
            self.put_window(key.id, told);
        }
        self.release_connection(bytes);
    }

    fn release_connection(&mut self, bytes: u32) {
        self.released += bytes;
        if self.released >= self.config.connection_window.max(FIRST_WINDOW) / 2 {
            let told = core::mem::take(&mut self.released);
            self.held -= told;
            self.put_window(0, told);
        }
    }
}
