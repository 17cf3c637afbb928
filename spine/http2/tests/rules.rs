//! What no good client says, and windows, ends and farewells as the rules have them.

mod common;

use common::*;
use holm_http2::{Config, Connection, Reason, Section};

fn fails(said: &[u8], reason: Reason) {
    let mut connection = greeted(config());
    begin(&mut connection, 5, 0);
    connection.out().clear();
    let came = say(&mut connection, said);
    expect_failure(&mut connection, &came, reason);
}

#[test]
fn what_breaks_a_connection() {
    let protocol = [
        frame(DATA, 0, 0, &[1]),
        frame(DATA, 0, 7, &[1]),
        frame(DATA, 0, 2, &[1]),
        frame(DATA, PADDED, 5, &[]),
        frame(DATA, PADDED, 5, &[4, 0, 0, 0]),
        frame(HEADERS, WHOLE, 0, POST),
        frame(HEADERS, WHOLE, 8, POST),
        frame(HEADERS, WHOLE | PADDED, 7, &[9, 0x83]),
        frame(PRIORITY, 0, 0, &[0; 5]),
        frame(RST_STREAM, 0, 0, &[0; 4]),
        frame(RST_STREAM, 0, 9, &[0; 4]),
        frame(SETTINGS, 0, 1, &[]),
        frame(SETTINGS, 0, 0, &setting(2, 2)),
        frame(SETTINGS, 0, 0, &setting(5, 16_383)),
        frame(SETTINGS, 0, 0, &setting(5, 1 << 24)),
        frame(PUSH_PROMISE, WHOLE, 5, &[0, 0, 0, 2, 0x82]),
        frame(PING, 0, 1, &[0; 8]),
        frame(GO_AWAY, 0, 1, &[0; 8]),
        frame(WINDOW_UPDATE, 0, 0, &number(0)),
        frame(WINDOW_UPDATE, 0, 9, &number(1)),
        frame(CONTINUATION, WHOLE, 5, &[]),
        [frame(HEADERS, 0, 7, POST), frame(DATA, 0, 5, &[1])].concat(),
        [
            frame(HEADERS, 0, 7, POST),
            frame(CONTINUATION, WHOLE, 9, &[]),
        ]
        .concat(),
    ];
    for said in protocol {
        fails(&said, Reason::PROTOCOL_ERROR);
    }
    let sizes = [
        frame(RST_STREAM, 0, 5, &[0; 3]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(SETTINGS, ACK, 0, &[0; 6]),
        frame(PING, 0, 0, &[0; 7]),
        frame(PRIORITY, 0, 5, &[0; 4]),
        frame(GO_AWAY, 0, 0, &[0; 7]),
        frame(WINDOW_UPDATE, 0, 0, &[0; 5]),
        frame(HEADERS, WHOLE | 0x20, 7, &[0; 4]),
        vec![0, 0x40, 1, DATA, 0, 0, 0, 0, 5],
    ];
    for said in sizes {
        fails(&said, Reason::FRAME_SIZE_ERROR);
    }
    let flows = [
        frame(SETTINGS, 0, 0, &setting(4, 1 << 31)),
        frame(WINDOW_UPDATE, 0, 0, &number(0x7fff_ffff)),
    ];
    for said in flows {
        fails(&said, Reason::FLOW_CONTROL_ERROR);
    }
    fails(
        &frame(HEADERS, WHOLE, 7, &[0xff]),
        Reason::COMPRESSION_ERROR,
    );
    fails(
        &frame(HEADERS, WHOLE, 3, &[0x80]),
        Reason::COMPRESSION_ERROR,
    );
}

#[test]
fn a_greeting_is_a_preface_and_settings() {
    for said in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        [PREFACE.to_vec(), frame(PING, 0, 0, &[0; 8])].concat(),
        [PREFACE.to_vec(), frame(SETTINGS, ACK, 0, &[])].concat(),
    ] {
        let mut connection = Connection::new(config());
        let first = heard(&mut connection);
        assert_eq!((first[0].0, first[1].0), (SETTINGS, WINDOW_UPDATE));
        let came = say(&mut connection, &said);
        expect_failure(&mut connection, &came, Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn what_breaks_a_stream_alone() {
    let broken = [
        (frame(DATA, END, 5, &[1, 2]), Reason::PROTOCOL_ERROR),
        (frame(DATA, 0, 5, &[1, 2, 3, 4]), Reason::PROTOCOL_ERROR),
        (frame(HEADERS, WHOLE, 5, &[]), Reason::PROTOCOL_ERROR),
        (frame(HEADERS, WHOLE | END, 5, &[]), Reason::PROTOCOL_ERROR),
        (
            frame(WINDOW_UPDATE, 0, 5, &number(0)),
            Reason::PROTOCOL_ERROR,
        ),
        (
            frame(WINDOW_UPDATE, 0, 5, &number(0x7fff_ffff)),
            Reason::FLOW_CONTROL_ERROR,
        ),
    ];
    for (said, reason) in broken {
        let mut connection = greeted(config());
        let head = [POST, &[0x0f, 0x0d, 1, b'3']].concat();
        say(&mut connection, &frame(HEADERS, WHOLE, 5, &head));
        let came = say(&mut connection, &said);
        assert!(
            matches!(came[..], [Came::Reset(_, it)] if it == reason),
            "{came:?}"
        );
        let said = heard(&mut connection);
        assert_eq!(said, [(RST_STREAM, 0, 5, number(reason.0).to_vec())]);
        begin(&mut connection, 7, 0);
        assert_eq!(connection.streams(), 1);
    }
}

#[test]
fn a_body_has_an_end() {
    let mut connection = greeted(config());
    let key = begin(&mut connection, 1, END);
    let came = say(&mut connection, &frame(DATA, 0, 1, &[1]));
    assert_eq!(came, [Came::Reset(key, Reason::STREAM_CLOSED)]);
    let key = begin(&mut connection, 3, END);
    let came = say(&mut connection, &frame(HEADERS, WHOLE | END, 3, &[]));
    assert_eq!(came, [Came::Reset(key, Reason::STREAM_CLOSED)]);
    let key = begin(&mut connection, 5, 0);
    let came = say(&mut connection, &frame(DATA, END, 5, &[]));
    assert_eq!(came, [Came::Ended(key)]);
    let key = begin(&mut connection, 7, 0);
    let came = say(&mut connection, &frame(HEADERS, WHOLE | END, 7, &[]));
    assert_eq!(came, [Came::Ended(key)]);
}

#[test]
fn a_malformed_request_is_refused_and_the_table_stays_whole() {
    let mut connection = greeted(config());
    let upper = [POST, &[0x40, 1, b'A', 1, b'b']].concat();
    assert_eq!(say(&mut connection, &frame(HEADERS, WHOLE, 1, &upper)), []);
    assert_eq!(
        heard(&mut connection),
        [(RST_STREAM, 0, 1, number(1).to_vec())]
    );
    begin(&mut connection, 3, 0);
}

#[test]
fn windows_hold_for_clients() {
    let mut connection = greeted(Config {
        stream_window: 80_000,
        ..config()
    });
    let key = begin(&mut connection, 1, 0);
    let data = frame(DATA, 0, 1, &[0; 16_000]);
    say(&mut connection, &data.repeat(5));
    // What is not released does not come back.
    assert_eq!(heard(&mut connection), []);
    connection.release(key, 79_000);
    assert_eq!(
        heard(&mut connection),
        [(WINDOW_UPDATE, 0, 1, number(79_000).to_vec())]
    );
    say(&mut connection, &data.repeat(4));
    let came = say(&mut connection, &frame(DATA, 0, 1, &[0; 15_001]));
    assert_eq!(came, [Came::Reset(key, Reason::FLOW_CONTROL_ERROR)]);
    let mut connection = greeted(Config {
        stream_window: 1 << 20,
        connection_window: 65_535,
        ..config()
    });
    begin(&mut connection, 1, 0);
    let data = frame(DATA, 0, 1, &[0; 16_384]);
    say(&mut connection, &data.repeat(3));
    let came = say(&mut connection, &data);
    expect_failure(&mut connection, &came, Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn a_stream_that_ends_gives_its_part_of_the_connection_back() {
    let mut connection = greeted(Config {
        connection_window: 65_535,
        ..config()
    });
    let data = |stream| frame(DATA, 0, stream, &[0; 16_000]);
    for count in 0..20 {
        let stream = 2 * count + 1;
        let key = begin(&mut connection, stream, 0);
        let came = say(&mut connection, &data(stream).repeat(2));
        assert_eq!(came.len(), 2);
        connection.reset(key, Reason::CANCEL);
    }
}

#[test]
fn windows_hold_for_us() {
    let mut connection = greeted(config());
    let first = setting(4, 10);
    say(&mut connection, &frame(SETTINGS, 0, 0, &first));
    let key = begin(&mut connection, 1, END);
    connection.out().clear();
    assert!(!connection.has_room(key) || connection.is_drained(key));
    connection.head(key, 200, Section::Usual, false);
    connection.data(key, vec![b'x'; 25].into());
    connection.end(key, Section::Usual);
    connection.await_drained(key);
    let sizes = |connection: &mut Connection| {
        let said = heard(connection);
        let data = said.iter().filter(|it| it.0 == DATA);
        let ends = said.iter().filter(|it| it.1 & END != 0 && it.0 <= HEADERS);
        (data.map(|it| it.3.len()).collect::<Vec<_>>(), ends.count())
    };
    assert_eq!(sizes(&mut connection), (vec![10], 0));
    assert_eq!(connection.next_opened(), None);
    say(&mut connection, &frame(WINDOW_UPDATE, 0, 1, &number(7)));
    assert_eq!(sizes(&mut connection), (vec![7], 0));
    // A smaller first window takes back what was not used.
    say(&mut connection, &frame(SETTINGS, 0, 0, &setting(4, 5)));
    say(&mut connection, &frame(WINDOW_UPDATE, 0, 1, &number(5)));
    assert_eq!(sizes(&mut connection), (vec![], 0));
    say(&mut connection, &frame(SETTINGS, 0, 0, &setting(4, 100)));
    assert_eq!(sizes(&mut connection), (vec![8], 1));
    assert_eq!((connection.streams(), connection.next_opened()), (0, None));
}

#[test]
fn who_waits_for_room_is_told_when_there_is_some() {
    let mut connection = greeted(config());
    say(&mut connection, &frame(SETTINGS, 0, 0, &setting(4, 10)));
    let key = begin(&mut connection, 1, 0);
    connection.head(key, 200, Section::Usual, false);
    connection.data(key, vec![b'x'; 10].into());
    assert!(connection.is_drained(key) && !connection.has_room(key));
    connection.await_room(key);
    connection.pump();
    assert_eq!(connection.next_opened(), None);
    say(&mut connection, &frame(WINDOW_UPDATE, 0, 1, &number(1)));
    assert_eq!(connection.next_opened(), Some(key));
    assert!(connection.has_room(key));
    connection.await_drained(key);
    connection.pump();
    assert_eq!(connection.next_opened(), Some(key));
    assert_eq!(connection.next_opened(), None);
}

#[test]
fn the_connections_window_is_shared_in_turn() {
    let mut connection = greeted(config());
    say(
        &mut connection,
        &frame(SETTINGS, 0, 0, &setting(4, 1 << 20)),
    );
    let keys = [1, 3].map(|stream| begin(&mut connection, stream, END));
    connection.out().clear();
    for key in keys {
        connection.head(key, 200, Section::Usual, false);
        connection.data(key, vec![b'x'; 60_000].into());
    }
    let data = |said: &[Said], stream| {
        let of = said.iter().filter(|it| it.0 == DATA && it.2 == stream);
        of.map(|it| it.3.len()).sum::<usize>()
    };
    let said = heard(&mut connection);
    assert_eq!((data(&said, 1), data(&said, 3)), (60_000, 5_535));
    say(
        &mut connection,
        &frame(WINDOW_UPDATE, 0, 0, &number(20_000)),
    );
    let said = heard(&mut connection);
    assert_eq!(data(&said, 3), 20_000);
    assert!(!connection.has_room(keys[0]), "the connection has none");
}

#[test]
fn an_answer_before_the_end_of_the_request_stays_until_that() {
    let mut connection = greeted(config());
    let key = begin(&mut connection, 1, 0);
    connection.answer(key, b"early");
    assert_eq!(connection.streams(), 1);
    assert_eq!(say(&mut connection, &frame(DATA, 0, 1, &[1; 100])), []);
    let came = say(&mut connection, &frame(DATA, END, 1, &[1; 100]));
    assert_eq!((came, connection.streams()), (vec![Came::Over(key)], 0));
    // Commands for what is over do nothing.
    connection.out().clear();
    connection.answer(key, b"again");
    connection.data(key, vec![1].into());
    connection.end(key, Section::Usual);
    connection.reset(key, Reason::CANCEL);
    connection.release(key, 1);
    assert!(connection.out().is_empty());
}

#[test]
fn a_farewell_lets_what_was_begun_end() {
    let mut connection = greeted(config());
    let key = begin(&mut connection, 1, END);
    connection.leave();
    let said = heard(&mut connection);
    assert_eq!(
        (said[0].0, &said[0].3[..4]),
        (GO_AWAY, &number(0x7fff_ffff)[..])
    );
    assert_eq!((said[1].0, said[1].1), (PING, 0));
    let late = begin(&mut connection, 3, END);
    let answer = frame(PING, ACK, 0, &said[1].3);
    say(&mut connection, &answer);
    let said = heard(&mut connection);
    assert_eq!((said[0].0, &said[0].3[..4]), (GO_AWAY, &number(3)[..]));
    assert_eq!(say(&mut connection, &frame(HEADERS, WHOLE, 5, POST)), []);
    connection.answer(key, b"one");
    assert!(!connection.is_over());
    connection.answer(late, b"two");
    assert!(connection.is_over());
}

#[test]
fn long_blocks_go_out_in_pieces() {
    let mut connection = greeted(config());
    let key = begin(&mut connection, 1, END);
    connection.out().clear();
    let long = vec![b'x'; 40_000];
    connection.head(key, 200, Section::Fields(&[(b"long", &long)]), true);
    let said = heard(&mut connection);
    let shape: Vec<_> = said.iter().map(|it| (it.0, it.1, it.3.len())).collect();
    let rest = 40_000 + 1 + 1 + 5 + 4 - 2 * 16_384;
    assert_eq!(
        shape,
        [
            (HEADERS, END, 16_384),
            (CONTINUATION, 0, 16_384),
            (CONTINUATION, WHOLE, rest),
        ]
    );
}

#[test]
fn heads_that_are_the_same_bytes_are_the_same() {
    use holm_http2::Event;
    let mut connection = greeted(config());
    let named = [POST, &[0x40, 1, b'n', 1, b'v']].concat();
    let indexed = [POST, &[0xbe]].concat();
    let mut heads = Vec::new();
    for (stream, block) in [
        (1, &named),
        (3, &indexed),
        (5, &indexed),
        (7, &named),
        (9, &indexed),
    ] {
        let said = frame(HEADERS, WHOLE | END, stream, block);
        let Some(Event::Began { head, .. }) = connection.receive(&said).1 else {
            panic!("a request has come");
        };
        assert_eq!(head.get("n").unwrap(), "v");
        heads.push(head);
    }
    let same = |left: usize, right: usize| std::sync::Arc::ptr_eq(&heads[left], &heads[right]);
    assert!(same(1, 2) && !same(0, 1));
    assert!(!same(2, 4), "the table has changed since");
}
