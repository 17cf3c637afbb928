//! Requests: header blocks, whole or in pieces, and what they begin.

use alloc::sync::Arc;

use super::incoming::Taken;
use super::{Block, Connection, Farewell};
use crate::event::{Event, Key};
use crate::frame::{self, FrameHead};
use crate::head::{Builder, Head};
use crate::hpack::Outcome;
use crate::reason::Reason;
use crate::stream::Stream;

/// What a block came to.
enum Read {
    Head(Arc<Head>),
    TooLarge,
    Malformed,
}

impl Connection {
    pub(super) fn take_headers<'a>(&mut self, head: FrameHead, payload: &[u8]) -> Taken<'a> {
        if head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let mut block = frame::unpadded(head, payload).ok_or(Reason::PROTOCOL_ERROR)?;
        if head.has(frame::HAS_PRIORITY) {
            block = block.get(5..).ok_or(Reason::FRAME_SIZE_ERROR)?;
        }
        let is_last = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.take_block(head.stream, block, is_last);
        }
        self.open = Some(Block {
            stream: head.stream,
            is_last,
            pieces: 1,
            bytes: block.to_vec(),
        });
        Ok(None)
    }

    pub(super) fn take_continuation<'a>(&mut self, head: FrameHead, payload: &[u8]) -> Taken<'a> {
        let bytes_max = usize::try_from(self.config.head_bytes_max).unwrap_or(usize::MAX);
        let pieces_max = self.config.pieces_max;
        let open = self.open.as_mut();
        let open = open.filter(|it| it.stream == head.stream);
        let open = open.ok_or(Reason::PROTOCOL_ERROR)?;
        open.pieces += 1;
        // Not even the rest of it is read, so the table is lost, and the connection with it.
        if open.pieces > pieces_max || open.bytes.len() + payload.len() > bytes_max {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        open.bytes.extend_from_slice(payload);
        if !head.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let whole = self.open.take().expect("it was looked at");
        self.take_block(whole.stream, &whole.bytes, whole.is_last)
    }

    fn take_block<'a>(&mut self, id: u32, block: &[u8], is_last: bool) -> Taken<'a> {
        if id <= self.newest {
            return self.take_trailers(id, block, is_last);
        }
        self.newest = id;
        let read = self.read_block(block)?;
        if let Farewell::Final(last) = self.farewell
            && id > last
        {
            return self.idle().map(|()| None);
        }
        match read {
            Read::Head(head) if self.streams.len() < self.room() => {
                self.guard.forward();
                let key = self.streams.insert(Stream {
                    id,
                    has_ended: is_last,
                    left: head.length,
                    ..Stream::default()
                });
                if is_last && head.length.is_some_and(|it| it > 0) {
                    return self.refuse(key, Reason::PROTOCOL_ERROR);
                }
                Ok(Some(Event::Began {
                    key,
                    head,
                    is_whole: is_last,
                }))
            }
            Read::Head(_) => self.turn_away(id, Reason::REFUSED_STREAM),
            Read::Malformed => self.turn_away(id, Reason::PROTOCOL_ERROR),
            Read::TooLarge => {
                self.put_too_large(id);
                let reason = if is_last {
                    Reason::NO_ERROR
                } else {
                    Reason::CANCEL
                };
                self.turn_away(id, reason)
            }
        }
    }

    fn room(&self) -> usize {
        usize::try_from(self.config.streams_max).unwrap_or(usize::MAX)
    }

    /// Resets a stream of which nobody was told yet.
    fn refuse<'a>(&mut self, key: Key, reason: Reason) -> Taken<'a> {
        self.break_off(key, reason).map(|_nobody_knew| None)
    }

    /// Resets a stream that was not begun.
    fn turn_away<'a>(&mut self, id: u32, reason: Reason) -> Taken<'a> {
        self.put_reset(id, reason);
        if self.guard.reset() {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(None)
    }

    /// A second block of a stream: its trailers, of which nothing is kept.
    fn take_trailers<'a>(&mut self, id: u32, block: &[u8], is_last: bool) -> Taken<'a> {
        let list_max = self.list_max();
        let read = self.decoder.decode(block, list_max, drop);
        read.map_err(|_unreadable| Reason::COMPRESSION_ERROR)?;
        let Some(key) = self.streams.find(id) else {
            // It was under way when the stream ended.
            return self.idle().map(|()| None);
        };
        let stream = self.streams.get_mut(key).expect("it was found");
        if stream.has_ended {
            return self.break_off(key, Reason::STREAM_CLOSED);
        }
        if !is_last || stream.left.is_some_and(|it| it > 0) {
            return self.break_off(key, Reason::PROTOCOL_ERROR);
        }
        stream.has_ended = true;
        if self.settle(key) {
            return Ok(Some(Event::Over { key }));
        }
        Ok(Some(Event::Ended { key }))
    }

    fn list_max(&self) -> usize {
        usize::try_from(self.config.head_bytes_max).unwrap_or(usize::MAX)
    }

    fn read_block(&mut self, block: &[u8]) -> Result<Read, Reason> {
        if let Some(head) = self.recall(block) {
            return Ok(Read::Head(head));
        }
        let generation = self.decoder.generation();
        let (list_max, mut builder) = (self.list_max(), Builder::default());
        let read = self
            .decoder
            .decode(block, list_max, |field| builder.add(field));
        match read.map_err(|_unreadable| Reason::COMPRESSION_ERROR)? {
            Outcome::TooLarge => Ok(Read::TooLarge),
            Outcome::Whole => Ok(match builder.finish() {
                Some(head) => {
                    let head = Arc::new(head);
                    self.remember(block, generation, &head);
                    Read::Head(head)
                }
                None => Read::Malformed,
            }),
        }
    }
}
