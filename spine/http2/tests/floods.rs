//! What costs a client nothing and would cost us something: each has a bound and an answer.

mod common;

use common::*;
use holm_http2::{Config, Reason, Section};

#[test]
fn rapid_resets_end_the_connection() {
    let mut connection = greeted(config());
    let reset = number(Reason::CANCEL.0);
    for count in 0..=100 {
        let stream = 2 * count + 1;
        begin(&mut connection, stream, 0);
        let came = say(&mut connection, &frame(RST_STREAM, 0, stream, &reset));
        if count < 100 {
            assert!(matches!(came[..], [Came::Reset(..)]), "{count}: {came:?}");
            assert_eq!(connection.streams(), 0);
        } else {
            expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
        }
    }
}

#[test]
fn a_client_that_also_waits_for_answers_may_cancel_as_often() {
    let mut connection = greeted(config());
    for count in 0..1_000 {
        let stream = 4 * count + 1;
        begin(&mut connection, stream, END);
        say(&mut connection, &frame(RST_STREAM, 0, stream, &number(8)));
        let key = begin(&mut connection, stream + 2, END);
        connection.answer(key, b"well");
        connection.out().clear();
    }
    assert!(!connection.is_over());
}

#[test]
fn streams_beyond_the_limit_are_refused_and_then_too_many() {
    let mut connection = greeted(config());
    for count in 0..100 {
        begin(&mut connection, 2 * count + 1, 0);
    }
    for count in 100..=200 {
        let came = say(&mut connection, &frame(HEADERS, WHOLE, 2 * count + 1, POST));
        if count == 200 {
            expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
            return;
        }
        assert_eq!(came, []);
        let refused = (RST_STREAM, 0, 2 * count + 1, number(7).to_vec());
        assert_eq!(heard(&mut connection), [refused]);
        assert_eq!(connection.streams(), 100);
    }
}

/// Says frames one by one until the connection fails; how many were taken.
fn taken(said: &[u8], begin_first: bool) -> usize {
    let mut connection = greeted(config());
    if begin_first {
        begin(&mut connection, 1, 0);
    }
    for count in 0..2_000 {
        let came = say(&mut connection, said);
        if came.iter().any(|it| matches!(it, Came::Failed(_))) {
            expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
            return count;
        }
        let answer = connection.out().len();
        assert!(answer <= 17, "an answer of {answer} bytes");
        connection.out().clear();
    }
    2_000
}

#[test]
fn frames_that_say_nothing_are_counted() {
    // The settings of the greeting count too.
    assert_eq!(taken(&frame(PING, 0, 0, &[0; 8]), false), 990);
    assert_eq!(taken(&frame(PING, ACK, 0, &[0; 8]), false), 990);
    assert_eq!(taken(&frame(SETTINGS, 0, 0, &[]), false), 99);
    assert_eq!(taken(&frame(SETTINGS, ACK, 0, &[]), false), 99);
    assert_eq!(taken(&frame(0x42, 0, 0, b"unknown"), false), 990);
    assert_eq!(taken(&frame(GO_AWAY, 0, 0, &[0; 8]), false), 990);
    assert_eq!(taken(&frame(WINDOW_UPDATE, 0, 0, &number(1)), false), 990);
    // A request was a step forward.
    assert_eq!(taken(&frame(DATA, 0, 1, &[]), true), 1_000);
    assert_eq!(taken(&frame(DATA, PADDED, 1, &[3, 0, 0, 0]), true), 1_000);
    assert_eq!(taken(&frame(PRIORITY, 0, 1, &[0; 5]), true), 1_000);
    assert_eq!(taken(&frame(WINDOW_UPDATE, 0, 1, &number(1)), true), 1_000);
}

#[test]
fn data_for_a_stream_that_is_over_is_counted_and_gives_its_window_back() {
    let mut connection = greeted(Config {
        connection_window: 1 << 16,
        ..config()
    });
    let key = begin(&mut connection, 1, 0);
    connection.reset(key, Reason::CANCEL);
    let data = frame(DATA, 0, 1, &[7; 16_000]);
    for count in 0..1_000 {
        assert_eq!(say(&mut connection, &data), [], "{count}");
        assert!(connection.out().len() < 100);
        connection.out().clear();
    }
    let came = say(&mut connection, &data);
    expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn a_header_block_comes_in_a_few_pieces_or_not_at_all() {
    let mut connection = greeted(config());
    let mut said = frame(HEADERS, 0, 1, POST);
    said.extend(frame(CONTINUATION, 0, 1, &[]).repeat(14));
    assert_eq!(say(&mut connection, &said), []);
    let came = say(&mut connection, &frame(CONTINUATION, WHOLE, 1, &[]));
    assert!(matches!(came[..], [Came::Began(..)]));
    let mut connection = greeted(config());
    said.extend(frame(CONTINUATION, 0, 1, &[]).repeat(2));
    let came = say(&mut connection, &said);
    expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn a_header_block_has_a_length() {
    let mut connection = greeted(config());
    let mut said = frame(HEADERS, 0, 1, &[0x82; 16_384]);
    said.extend(frame(CONTINUATION, 0, 1, &[0x82; 16_384]).repeat(4));
    let came = say(&mut connection, &said);
    expect_failure(&mut connection, &came, Reason::ENHANCE_YOUR_CALM);
}

#[test]
fn a_list_that_unfolds_is_answered_and_the_table_stays_whole() {
    let mut connection = greeted(config());
    let long = [&[0x40, 1, b'n', 0x7f, 0x81, 0x1e][..], &[b'v'; 3_968]].concat();
    let bomb = [POST.to_vec(), long, vec![0xbe; 12_000]].concat();
    let came = say(&mut connection, &frame(HEADERS, WHOLE, 1, &bomb));
    assert_eq!((came, connection.streams()), (vec![], 0));
    let said = heard(&mut connection);
    assert_eq!((said[0].0, &said[0].3[..]), (HEADERS, &b"\x08\x03431"[..]));
    assert_eq!(said[1], (RST_STREAM, 0, 1, number(8).to_vec()));
    // What the block left in the table is known.
    let again = [POST, &[0xbe]].concat();
    let came = say(&mut connection, &frame(HEADERS, WHOLE | END, 3, &again));
    assert!(matches!(came[..], [Came::Began(_, true)]));
}

#[test]
fn a_client_that_reads_nothing_makes_the_output_full_and_no_fuller() {
    let mut connection = greeted(config());
    let mut said = setting(4, 1 << 30);
    said = frame(SETTINGS, 0, 0, &said);
    said.extend(frame(WINDOW_UPDATE, 0, 0, &number(1 << 30)));
    say(&mut connection, &said);
    for count in 0..100 {
        let key = begin(&mut connection, 2 * count + 1, END);
        connection.head(key, 200, Section::Usual, false);
        connection.data(key, vec![1; 1 << 20].into());
    }
    assert!(connection.is_full());
    let length = connection.out().len();
    assert!(length < (64 << 10) + (16 << 10) + 100 * 40, "{length}");
    let mut sent = 0;
    while !connection.out().is_empty() {
        sent += connection.out().split().len();
        connection.pump();
    }
    assert!(sent > 100 << 20);
}
