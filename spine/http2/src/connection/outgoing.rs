//! What goes out: heads, data as the windows allow, ends.

use bytes::{Bytes, BytesMut};

use super::{Connection, NOTHING, narrow, wide};
use crate::event::Key;
use crate::frame::{self, PAYLOAD_MAX};
use crate::hpack;
use crate::reason::Reason;
use crate::stream::{Stream, Tail, Wish};

/// The fields of a head or of trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section<'a> {
    /// The favourite: of a head behind status 200, of trailers alone.
    Usual,
    /// Others. Names are in lower case, and neither holds what the rules forbid.
    Fields(&'a [(&'a [u8], &'a [u8])]),
}

impl Connection {
    /// Begins an answer. Nothing happens if the stream is over or begun.
    pub fn head(&mut self, key: Key, status: u16, section: Section<'_>, is_last: bool) {
        let Some(stream) = self.streams.get_mut(key).filter(|it| !it.is_begun) else {
            return;
        };
        stream.is_begun = true;
        stream.is_done = is_last;
        self.has_answered = true;
        self.guard.forward();
        let flags = if is_last { frame::END_STREAM } else { 0 };
        let begun = self.begin_block(key.id, flags);
        match section {
            Section::Usual if status == 200 => self.encoder.usual_head(&mut self.out),
            Section::Usual => hpack::put_status(&mut self.out, status),
            Section::Fields(fields) => {
                hpack::put_status(&mut self.out, status);
                put_fields(&mut self.out, fields);
            }
        }
        self.end_block(begun, key.id);
        self.settle(key);
    }

    /// Answers with the usual head, one message and the usual trailers.
    pub fn answer(&mut self, key: Key, message: &[u8]) {
        self.head(key, 200, Section::Usual, false);
        self.data_of(key, message);
        self.end(key, Section::Usual);
    }

    /// As [`Connection::data`], of bytes that are copied.
    pub fn data_of(&mut self, key: Key, bytes: &[u8]) {
        if !self.put_now(key, bytes) {
            self.data(key, Bytes::copy_from_slice(bytes));
        }
    }

    /// Sends data, as the windows allow; what waits is held. The head must have been sent, and
    /// nothing may wait: see [`Connection::is_drained`]. Nothing happens if the stream is over.
    pub fn data(&mut self, key: Key, bytes: Bytes) {
        if self.put_now(key, &bytes) {
            return;
        }
        let Some(stream) = self.open_stream(key) else {
            return;
        };
        stream.pending = bytes;
        self.enqueue(key);
        self.pump();
    }

    /// A stream that may be given data, if it is not over.
    fn open_stream(&mut self, key: Key) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(key).filter(|it| !it.is_done)?;
        assert!(stream.is_begun, "data come behind a head");
        let is_free = stream.pending.is_empty() && stream.tail == Tail::Open;
        assert!(is_free, "one piece waits at a time");
        Some(stream)
    }

    /// Writes one frame of data at once, if nothing stands in its way; whether it did.
    fn put_now(&mut self, key: Key, bytes: &[u8]) -> bool {
        if bytes.len() > PAYLOAD_MAX || self.is_full() {
            return false;
        }
        let (length, credit, first_credit) = (wide(bytes.len()), self.credit, self.first_credit);
        let Some(stream) = self.open_stream(key) else {
            return true;
        };
        if length > credit || length > first_credit - stream.sent {
            return false;
        }
        stream.sent += length;
        self.credit -= length;
        self.has_answered = true;
        self.guard.forward();
        frame::put_head(&mut self.out, bytes.len(), (frame::DATA, 0), key.id);
        self.out.extend_from_slice(bytes);
        true
    }

    /// Ends an answer with trailers, behind all data. Nothing happens if the stream is over.
    pub fn end(&mut self, key: Key, section: Section<'_>) {
        let tail = match section {
            Section::Usual => Tail::Usual,
            Section::Fields(fields) => {
                let mut block = BytesMut::new();
                put_fields(&mut block, fields);
                Tail::Block(block.freeze())
            }
        };
        self.close(key, tail);
    }

    /// Ends an answer without trailers, behind all data.
    pub fn end_plain(&mut self, key: Key) {
        self.close(key, Tail::Data);
    }

    fn close(&mut self, key: Key, tail: Tail) {
        let Some(stream) = self.streams.get_mut(key).filter(|it| !it.is_done) else {
            return;
        };
        assert!(stream.is_begun, "an end comes behind a head");
        stream.tail = tail;
        if stream.pending.is_empty() {
            self.put_tail(key);
        } else {
            self.enqueue(key);
            self.pump();
        }
    }

    /// Breaks a stream off. Nothing happens if it is over.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        if self.is_alive(key) {
            self.put_reset(key.id, reason);
            self.forget(key);
        }
    }

    /// Whether a stream's head was sent.
    #[must_use]
    pub fn is_begun(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_some_and(|it| it.is_begun)
    }

    /// Whether a stream's end was sent.
    #[must_use]
    pub fn is_answered(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_none_or(|it| it.is_done)
    }

    /// Whether nothing waits in a stream.
    #[must_use]
    pub fn is_drained(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_some_and(|it| it.pending.is_empty())
    }

    /// Whether data would go out at once, some of it at least.
    #[must_use]
    pub fn has_room(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        let is_open = stream
            .is_some_and(|it| it.pending.is_empty() && !it.is_done && it.sent < self.first_credit);
        is_open && self.credit > 0 && !self.is_full()
    }

    /// Tells once, by [`Connection::next_opened`], that nothing waits in a stream any more.
    pub fn await_drained(&mut self, key: Key) {
        self.wish(key, Wish::Drained);
    }

    /// Tells once, by [`Connection::next_opened`], that a stream has room.
    pub fn await_room(&mut self, key: Key) {
        self.wish(key, Wish::Room);
    }

    fn wish(&mut self, key: Key, wish: Wish) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.wish = wish;
            self.enqueue(key);
        }
    }

    /// A stream whose owner waited, and need not wait any more.
    pub fn next_opened(&mut self) -> Option<Key> {
        self.opened.pop_front()
    }

    /// Puts a stream in line, if its own window lets it send.
    pub(super) fn enqueue(&mut self, key: Key) {
        let first_credit = self.first_credit;
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let has_work = !stream.pending.is_empty() || stream.wish != Wish::None;
        let is_drained = stream.pending.is_empty() && stream.wish == Wish::Drained;
        let has_credit = stream.sent < first_credit || is_drained;
        if has_work && has_credit && !stream.is_queued {
            stream.is_queued = true;
            self.queue.push_back(key);
        }
    }

    /// Sends what waits, a frame of each stream in turn, until a window or the output is full.
    /// To be called whenever output was written.
    pub fn pump(&mut self) {
        while !self.is_full() {
            let Some(key) = self.queue.pop_front() else {
                return;
            };
            let (credit, first_credit) = (self.credit, self.first_credit);
            let Some(stream) = self.streams.get_mut(key) else {
                continue;
            };
            let is_drained = stream.pending.is_empty();
            if credit <= 0 && !(is_drained && stream.wish == Wish::Drained) {
                self.queue.push_front(key);
                return;
            }
            stream.is_queued = false;
            if is_drained {
                self.grant(key);
                continue;
            }
            let own = first_credit - stream.sent;
            if own <= 0 {
                continue;
            }
            let room = usize::try_from(own.min(credit)).unwrap_or(PAYLOAD_MAX);
            let length = stream.pending.len().min(room).min(PAYLOAD_MAX);
            self.put_piece(key, length);
        }
    }

    /// Nothing waits in a stream: its owner is told, if it asked.
    fn grant(&mut self, key: Key) {
        let first_credit = self.first_credit;
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let is_granted = match stream.wish {
            Wish::None => false,
            Wish::Room => stream.sent < first_credit,
            Wish::Drained => true,
        };
        if is_granted {
            stream.wish = Wish::None;
            self.opened.push_back(key);
        }
    }

    fn put_piece(&mut self, key: Key, length: usize) {
        let stream = self.streams.get_mut(key).expect("it was found");
        let piece = stream.pending.split_to(length);
        let is_drained = stream.pending.is_empty();
        if is_drained {
            stream.pending = NOTHING;
        }
        let is_end = is_drained && stream.tail == Tail::Data;
        stream.is_done = is_end;
        let has_tail = is_drained && stream.tail != Tail::Open && !is_end;
        stream.sent += wide(length);
        self.credit -= wide(length);
        self.has_answered = true;
        self.guard.forward();
        let flags = if is_end { frame::END_STREAM } else { 0 };
        frame::put_head(&mut self.out, length, (frame::DATA, flags), key.id);
        self.out.extend_from_slice(&piece);
        if has_tail {
            self.put_tail(key);
        } else if !self.settle(key) {
            self.enqueue(key);
        }
    }

    fn put_tail(&mut self, key: Key) {
        let stream = self.streams.get_mut(key).expect("it was found");
        stream.is_done = true;
        let tail = core::mem::take(&mut stream.tail);
        match tail {
            Tail::Open => unreachable!("an end was given"),
            Tail::Data => {
                frame::put_head(&mut self.out, 0, (frame::DATA, frame::END_STREAM), key.id);
            }
            Tail::Usual => {
                let begun = self.begin_block(key.id, frame::END_STREAM);
                self.encoder.usual_tail(&mut self.out);
                self.end_block(begun, key.id);
            }
            Tail::Block(block) => {
                let begun = self.begin_block(key.id, frame::END_STREAM);
                self.out.extend_from_slice(&block);
                self.end_block(begun, key.id);
            }
        }
        self.settle(key);
    }

    /// Tells a client that its head is too large.
    pub(super) fn put_too_large(&mut self, id: u32) {
        let begun = self.begin_block(id, frame::END_STREAM);
        hpack::put_status(&mut self.out, 431);
        self.end_block(begun, id);
    }

    /// Begins a frame of headers whose length is not known yet; where it begins.
    fn begin_block(&mut self, id: u32, flags: u8) -> usize {
        let begun = self.out.len();
        let flags = flags | frame::END_HEADERS;
        frame::put_head(&mut self.out, 0, (frame::HEADERS, flags), id);
        self.encoder.begin(&mut self.out);
        begun
    }

    /// Writes the length of a block, and cuts it if it is more than a frame.
    fn end_block(&mut self, begun: usize, id: u32) {
        let block = begun + frame::HEAD_BYTES;
        let length = self.out.len() - block;
        if length <= PAYLOAD_MAX {
            self.put_length(begun, length);
            return;
        }
        let rest = self.out.split_off(block + PAYLOAD_MAX);
        self.put_length(begun, PAYLOAD_MAX);
        self.out[begun + 4] &= !frame::END_HEADERS;
        let pieces = rest.len().div_ceil(PAYLOAD_MAX);
        for (place, piece) in rest.chunks(PAYLOAD_MAX).enumerate() {
            let flags = if place + 1 == pieces {
                frame::END_HEADERS
            } else {
                0
            };
            frame::put_head(&mut self.out, piece.len(), (frame::CONTINUATION, flags), id);
            self.out.extend_from_slice(piece);
        }
    }

    fn put_length(&mut self, begun: usize, length: usize) {
        let length = narrow(length);
        for (place, shift) in [16, 8, 0].into_iter().enumerate() {
            let byte = u8::try_from(length >> shift & 0xff).expect("it was cut to eight bits");
            self.out[begun + place] = byte;
        }
    }
}

fn put_fields(out: &mut BytesMut, fields: &[(&[u8], &[u8])]) {
    for (name, value) in fields {
        hpack::put_literal(out, name, value);
    }
}
