//! Frames as bytes, and a connection to say them to.
#![allow(dead_code, reason = "each test uses a part of it")]

use holm_http2::{Config, Connection, Event, Favourites, Key, Reason};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GO_AWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const WHOLE: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// `POST /` over http.
pub(crate) const POST: &[u8] = &[0x83, 0x84, 0x86];

pub(crate) fn config() -> Config {
    let usual = |name: &'static str, value: &'static str| (name.into(), value.into());
    Config {
        streams_max: 100,
        stream_window: 1 << 20,
        connection_window: 4 << 20,
        head_bytes_max: 64 << 10,
        out_bytes_max: 64 << 10,
        idle_frames_max: 1_000,
        resets_max: 100,
        pieces_max: 16,
        favourites: Favourites {
            head: usual("content-type", "application/grpc"),
            tail: usual("grpc-status", "0"),
        },
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let byte = |value: u32| u8::try_from(value & 0xff).expect("a test says what is right");
    let length = u32::try_from(payload.len()).expect("a test says what is right");
    let head = [
        byte(length >> 16),
        byte(length >> 8),
        byte(length),
        kind,
        flags,
        byte(stream >> 24),
        byte(stream >> 16),
        byte(stream >> 8),
        byte(stream),
    ];
    [&head, payload].concat()
}

pub(crate) fn number(value: u32) -> [u8; 4] {
    [24, 16, 8, 0]
        .map(|shift| u8::try_from(value >> shift & 0xff).expect("a test says what is right"))
}

pub(crate) fn setting(name: u8, value: u32) -> Vec<u8> {
    [&[0, name][..], &number(value)].concat()
}

/// A frame that was said: kind, flags, stream, payload.
pub(crate) type Said = (u8, u8, u32, Vec<u8>);

pub(crate) fn frames(mut said: &[u8]) -> Vec<Said> {
    let mut frames = Vec::new();
    while !said.is_empty() {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, it| sum << 8 | u32::from(*it));
        let length = usize::try_from(number(&said[..3])).expect("a test says what is right");
        let payload = said[9..9 + length].to_vec();
        frames.push((said[3], said[4], number(&said[5..9]), payload));
        said = &said[9 + length..];
    }
    frames
}

/// What came, without its bytes' lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Began(Key, bool),
    Data(Key, Vec<u8>, bool),
    Ended(Key),
    Reset(Key, Reason),
    Over(Key),
    Pinged,
    Failed(Reason),
}

impl Came {
    pub(crate) fn of(event: Event<'_>) -> Self {
        match event {
            Event::Began { key, is_whole, .. } => Self::Began(key, is_whole),
            Event::Data {
                key,
                bytes,
                is_last,
            } => Self::Data(key, bytes.to_vec(), is_last),
            Event::Ended { key } => Self::Ended(key),
            Event::Reset { key, reason } => Self::Reset(key, reason),
            Event::Over { key } => Self::Over(key),
            Event::Pinged => Self::Pinged,
            Event::Failed { reason } => Self::Failed(reason),
        }
    }
}

/// A connection that has been greeted; its first words are taken.
pub(crate) fn greeted(config: Config) -> Connection {
    let mut connection = Connection::new(config);
    let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    assert_eq!(say(&mut connection, &hello), []);
    connection.out().clear();
    connection
}

/// Says bytes and gives all that comes of them; all must be read.
pub(crate) fn say(connection: &mut Connection, mut said: &[u8]) -> Vec<Came> {
    let mut came = Vec::new();
    loop {
        let (read, event) = connection.receive(said);
        said = &said[read..];
        match event {
            Some(event) => came.push(Came::of(event)),
            None => break,
        }
    }
    came
}

/// What the connection says, which is taken.
pub(crate) fn heard(connection: &mut Connection) -> Vec<Said> {
    frames(&connection.out().split())
}

/// Begins a request; its key.
pub(crate) fn begin(connection: &mut Connection, stream: u32, flags: u8) -> Key {
    let came = say(connection, &frame(HEADERS, WHOLE | flags, stream, POST));
    match came[..] {
        [Came::Began(key, _)] => key,
        _ => panic!("no request: {came:?}"),
    }
}

/// Asserts that the connection ended for a reason.
pub(crate) fn expect_failure(connection: &mut Connection, came: &[Came], reason: Reason) {
    assert_eq!(came.last(), Some(&Came::Failed(reason)));
    let said = heard(connection);
    let (kind, _, _, payload) = said.last().expect("a test says what is right");
    assert_eq!((*kind, &payload[4..8]), (GO_AWAY, &number(reason.0)[..]));
    assert!(connection.is_over());
    assert_eq!(say(connection, &frame(PING, 0, 0, &[0; 8])), []);
}
