//! Frames about streams and the connection: resets, settings, pings, windows.

use alloc::vec::Vec;

use bytes::Buf as _;

use super::incoming::Taken;
use super::{Connection, FAREWELL, Farewell};
use crate::event::{Event, Key};
use crate::frame::{self, FrameHead, MAX_31};
use crate::reason::Reason;
use crate::stream::Wish;

/// For how many frames that say nothing one of settings counts.
const SETTINGS_WEIGHT: u32 = 10;

impl Connection {
    pub(super) fn take_reset<'a>(&mut self, head: FrameHead, mut payload: &[u8]) -> Taken<'a> {
        if head.length != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if head.stream == 0 || head.stream > self.newest {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let reason = Reason(payload.get_u32());
        let Some(key) = self.streams.find(head.stream) else {
            return self.idle().map(|()| None);
        };
        let was_answered = self.streams.get(key).is_some_and(|it| it.is_done);
        self.forget(key);
        // Who resets a stream that was answered did not end it in time, and cost nothing.
        if was_answered {
            self.guard.finished();
        } else if self.guard.reset() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(Some(Event::Reset { key, reason }))
    }

    pub(super) fn take_settings<'a>(&mut self, head: FrameHead, mut payload: &[u8]) -> Taken<'a> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        // They make more work than other frames that say nothing.
        for _ in 0..SETTINGS_WEIGHT {
            self.idle()?;
        }
        if head.has(frame::ACK) {
            return match head.length {
                0 => Ok(None),
                _ => Err(Reason::FRAME_SIZE_ERROR),
            };
        }
        if !head.length.is_multiple_of(6) {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let before = self.first_credit;
        while payload.has_remaining() {
            let (name, value) = (payload.get_u16(), payload.get_u32());
            self.apply(name, value)?;
        }
        if self.first_credit > before {
            self.reconsider();
        }
        frame::put_head(&mut self.out, 0, (frame::SETTINGS, frame::ACK), 0);
        Ok(None)
    }

    fn apply(&mut self, name: u16, value: u32) -> Result<(), Reason> {
        const SMALLEST_FRAME: u32 = 16_384;
        const LARGEST_FRAME: u32 = 0xff_ffff;
        match name {
            frame::HEADER_TABLE_SIZE => self.encoder.allow(value),
            frame::ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
            frame::INITIAL_WINDOW if value > MAX_31 => return Err(Reason::FLOW_CONTROL_ERROR),
            frame::INITIAL_WINDOW => self.first_credit = i64::from(value),
            frame::FRAME_SIZE_MAX if !(SMALLEST_FRAME..=LARGEST_FRAME).contains(&value) => {
                return Err(Reason::PROTOCOL_ERROR);
            }
            _ => {}
        }
        Ok(())
    }

    /// All streams may send more than before.
    fn reconsider(&mut self) {
        let waiting = |key: &Key| {
            let stream = self.streams.get(*key);
            stream.is_some_and(|it| !it.pending.is_empty() || it.wish != Wish::None)
        };
        let keys: Vec<Key> = self.streams.keys().filter(waiting).collect();
        for key in keys {
            self.enqueue(key);
        }
        self.pump();
    }

    pub(super) fn take_ping<'a>(&mut self, head: FrameHead, payload: &[u8]) -> Taken<'a> {
        if head.stream != 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let Ok(opaque) = <[u8; 8]>::try_from(payload) else {
            return Err(Reason::FRAME_SIZE_ERROR);
        };
        self.idle()?;
        if !head.has(frame::ACK) {
            self.put_ping(frame::ACK, opaque);
            return Ok(Some(Event::Pinged));
        }
        if opaque == FAREWELL && self.farewell == Farewell::Told {
            self.farewell = Farewell::Final(self.newest);
            self.put_go_away(self.newest, Reason::NO_ERROR, &[]);
        }
        Ok(None)
    }

    pub(super) fn take_priority<'a>(&mut self, head: FrameHead, payload: &[u8]) -> Taken<'a> {
        if head.stream == 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if payload.len() != 5 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.idle().map(|()| None)
    }

    pub(super) fn take_window<'a>(&mut self, head: FrameHead, mut payload: &[u8]) -> Taken<'a> {
        if payload.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.idle()?;
        let more = payload.get_u32() & MAX_31;
        if head.stream == 0 {
            self.credit += i64::from(more);
            if more == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if self.credit > i64::from(MAX_31) {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.pump();
            return Ok(None);
        }
        if head.stream > self.newest {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let Some(key) = self.streams.find(head.stream) else {
            return Ok(None);
        };
        let first_credit = self.first_credit;
        let stream = self.streams.get_mut(key).expect("it was found");
        stream.sent -= i64::from(more);
        let is_beyond = first_credit - stream.sent > i64::from(MAX_31);
        if more == 0 || is_beyond {
            let reason = if more == 0 {
                Reason::PROTOCOL_ERROR
            } else {
                Reason::FLOW_CONTROL_ERROR
            };
            return self.break_off(key, reason);
        }
        self.enqueue(key);
        self.pump();
        Ok(None)
    }
}
