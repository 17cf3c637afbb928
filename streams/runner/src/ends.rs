//! The threads at a stream's ends: its log, its snapshots, its sources and sinks.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use holm_connect::{Piece, Position, Reader, Sink, SinkError, Source, SourceError, Taken};
use holm_durable::{Entry, Log};
use holm_machine::Folder;

use crate::keeper::{Arrived, Commit, Filed, wide};
use crate::mail::{FileWork, LogWork, Mail};
use crate::turns::Turn;
use crate::waiting::{Credit, Post};

/// Encodes records ahead of the log, which takes part in it when it waits for them.
pub(crate) fn serve_encoding(post: &Post<Arc<Filed>>) {
    while let Some(filed) = post.pop() {
        filed.encode();
    }
}

/// Makes records durable, and encodes those that nobody has encoded.
pub(crate) fn serve_log(mut log: Log, post: &Post<LogWork>, mail: &Post<Mail>) {
    while let Some(work) = post.pop() {
        match work {
            LogWork::Append(records, write) => {
                let entries: Vec<&Entry> = records.iter().map(|filed| filed.entry()).collect();
                let bodies: usize = entries.iter().map(|entry| entry.body.len()).sum();
                let ended = log.append(&entries).map(|()| (log.used(), wide(bodies)));
                mail.push(Mail::Flushed {
                    records,
                    write,
                    ended,
                });
            }
            LogWork::Truncate(below) => mail.push(Mail::Truncated(log.truncate(below))),
        }
    }
}

/// Writes what was frozen, and removes what is not needed.
pub(crate) fn serve_files(folder: &dyn Folder, post: &Post<FileWork>, mail: &Post<Mail>) {
    while let Some(work) = post.pop() {
        match work {
            FileWork::Save(save) => {
                let begun = Instant::now();
                let ended = save.keep(folder);
                mail.push(Mail::Saved {
                    through: save.through(),
                    committed: save.committed().to_vec(),
                    took: begun.elapsed(),
                    ended,
                });
            }
            // One that is left behind is found and let go another time.
            FileWork::Forget(name) => drop(folder.remove(&name)),
        }
    }
}

pub(crate) fn serve_sink(
    mut sink: Box<dyn Sink>,
    number: usize,
    post: &Post<Commit>,
    mail: &Post<Mail>,
) {
    while let Some(commit) = post.pop() {
        let ended = loop {
            match sink.put(commit.first, &commit.rows) {
                Err(SinkError::Unavailable { retry, reason, .. }) => {
                    mail.push(Mail::SinkWaits {
                        sink: number,
                        why: reason,
                    });
                    if post.is_closed() {
                        return;
                    }
                    thread::sleep(retry.min(Duration::from_secs(1)));
                }
                ended => break ended,
            }
        };
        mail.push(Mail::Put {
            sink: number,
            output: commit.output(),
            ended,
        });
    }
}

pub(crate) fn serve_source(
    (mut source, reader, turn): (Box<dyn Source>, Reader, Turn),
    (number, piece_bytes): (usize, usize),
    heard: &Post<Position>,
    mail: &Post<Mail>,
    credit: &Credit,
) {
    // A row may be longer than a piece; the source waits for more credit then.
    const ROW: usize = 1 << 20;
    // What is understood in one turn of those who are in no hurry.
    const TURN_BYTES: usize = 16 << 10;
    let piece_bytes = if turn.is_batch() {
        piece_bytes.min(TURN_BYTES)
    } else {
        piece_bytes
    };
    let mut wanted = piece_bytes;
    let mut unheard = 0_usize;
    while !credit.is_over() {
        for position in heard.drain(Duration::ZERO) {
            source.acknowledge(&position);
            unheard = unheard.saturating_sub(1);
        }
        let free = credit.wait(Duration::from_millis(5));
        if free == 0 {
            continue;
        }
        // Whoever waits for an acknowledgement shall not wait for the next row.
        let wait = Duration::from_millis(if unheard > 0 { 1 } else { 50 });
        match source.take(wanted.min(free), wait) {
            Ok(Taken::Rows(piece)) => {
                wanted = piece_bytes;
                credit.charge(piece.rows.len());
                unheard += 1;
                mail.push(understood(number, piece, (&reader, &turn)));
            }
            Ok(Taken::Columns(columns)) => {
                let bytes = columns.bytes;
                credit.charge(bytes);
                unheard += 1;
                mail.push(Mail::Taken {
                    source: number,
                    arrived: Arrived::of_columns(columns),
                    bytes,
                    took: Duration::ZERO,
                });
            }
            Ok(Taken::Nothing) => {
                wanted = piece_bytes.max(ROW);
                mail.push(Mail::Idle { source: number });
            }
            Ok(Taken::End) => {
                mail.push(Mail::Taken {
                    source: number,
                    arrived: Arrived::End,
                    bytes: 0,
                    took: Duration::ZERO,
                });
                break;
            }
            Err(SourceError::Unavailable { retry, reason, .. }) => {
                mail.push(Mail::SourceWaits {
                    source: number,
                    why: reason,
                });
                thread::sleep(retry.min(Duration::from_millis(500)));
            }
            Err(error) => {
                mail.push(Mail::SourceFailed(error));
                break;
            }
        }
    }
    source.stop();
    mail.push(Mail::Gone { source: number });
    while let Some(position) = heard.pop() {
        source.acknowledge(&position);
    }
}

/// Rows as the keeper takes them.
fn understood(source: usize, piece: Piece, (reader, turn): (&Reader, &Turn)) -> Mail {
    let mut stint = turn.wait();
    let begun = Instant::now();
    let bytes = piece.rows.len();
    let read = reader.read(&piece.rows, piece.first_row);
    stint.rows = read.batch.rows;
    drop(stint);
    let arrived = Arrived::Rows {
        read,
        position: piece.position,
        bytes: (wide(bytes), crc32c::crc32c(&piece.rows)),
        key: piece.key,
    };
    Mail::Taken {
        source,
        arrived,
        bytes,
        took: begun.elapsed(),
    }
}
