//! Scenarios of streams: what is written, what of it arrives, what the reader makes of it.
//!
//! `frame KIND BODY` appends a frame to the stream, `arrive COUNT|all` lets bytes of it arrive,
//! `flip AT` changes a byte that has not arrived yet, `end` ends it.

#![expect(clippy::unwrap_used, reason = "a script that cannot be read fails")]

use std::fmt::Write;

use bytes::{Buf, Bytes, BytesMut};
use holm_wire::{Decoder, Frame};

#[derive(Default)]
struct Stage {
    sent: BytesMut,
    input: BytesMut,
    decoder: Decoder,
}

impl Stage {
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["frame", kind, body] => self.write(kind, body),
            ["arrive", "all"] => return self.arrive(self.sent.len()),
            ["arrive", count] => return self.arrive(count.parse().unwrap()),
            ["flip", at] => self.sent[at.parse::<usize>().unwrap()] ^= 1,
            ["end"] => return format!("  {}\n", said(self.decoder.end(&self.input))),
            _ => panic!("no such command: {line}"),
        }
        String::new()
    }

    fn write(&mut self, kind: &str, body: &str) {
        let frame = Frame {
            kind: kind.parse().unwrap(),
            plane: 1,
            version: 1,
            group: 0,
            body: Bytes::from(body.to_owned()),
        };
        frame.encode(&mut self.sent);
    }

    fn arrive(&mut self, count: usize) -> String {
        self.input.extend_from_slice(&self.sent[..count]);
        self.sent.advance(count);
        let mut out = String::new();
        loop {
            match self.decoder.next(&mut self.input) {
                Ok(None) => return out + "  waits\n",
                Ok(Some(frame)) => {
                    let body = String::from_utf8_lossy(&frame.body);
                    writeln!(out, "  frame {} {body}", frame.kind).unwrap();
                }
                Err(error) => return out + &format!("  {error}\n"),
            }
        }
    }
}

fn said<E: std::fmt::Display>(outcome: Result<(), E>) -> String {
    outcome.map_or_else(|error| error.to_string(), |()| "ends well".to_owned())
}

#[test]
fn scenarios_happen_as_recorded() {
    datadriven::walk("tests/script", |file| {
        let mut stage = Stage::default();
        file.run(|case| {
            let mut out = String::new();
            for line in case.input.lines() {
                let said = stage.run(line);
                write!(out, "{line}\n{said}").unwrap();
            }
            out
        });
    });
}
