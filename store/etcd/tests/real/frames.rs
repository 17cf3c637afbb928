//! HTTP/2 as bytes: what no well-behaved client would send, or leave unsaid.

use std::time::Duration;

use holm_etcd::grpc::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::node::with_node;
use crate::wire::Front;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;

#[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("it is short")
        .to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head, &stream.to_be_bytes()[..], payload].concat()
}

/// Kind, flags, payload.
type Frame = (u8, u8, Vec<u8>);

/// The whole frames in what a server said.
#[expect(clippy::big_endian_bytes, reason = "the order of HTTP/2")]
fn frames(mut said: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = said.split_at_checked(9) {
        let bytes = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let whole = usize::try_from(bytes).expect("24 bits fit");
        let Some((payload, rest)) = rest.split_at_checked(whole) else {
            break;
        };
        frames.push((head[3], head[4], payload.to_vec()));
        said = rest;
    }
    frames
}

/// The head of a call of a method, each field written out.
fn call_of(path: &str) -> Vec<u8> {
    let field = |index: &[u8], text: &str| {
        let length = u8::try_from(text.len()).expect("it is short");
        [index, &[length], text.as_bytes()].concat()
    };
    [
        vec![0x83, 0x86],
        field(&[0x04], path),
        field(&[0x0f, 0x10], "application/grpc"),
    ]
    .concat()
}

/// Says these bytes and gives all that comes back until the server ends the connection, or
/// until so many frames of a kind have come.
async fn exchange(front: &Front, said: &[u8], (kind, count): (u8, usize)) -> Vec<Frame> {
    let (mut near, served) = front.accept();
    near.write_all(said).await.expect("the other end is there");
    let mut come = Vec::new();
    loop {
        let read = near
            .read_buf(&mut come)
            .await
            .expect("the other end is there");
        let frames = frames(&come);
        let found = frames.iter().filter(|it| it.0 == kind).count();
        if read == 0 || found == count {
            drop(near);
            served.await.expect("the other end is there");
            return frames;
        }
    }
}

#[test]
fn a_url_as_authority_is_taken_as_etcd_takes_it() {
    with_node(|services| async move {
        let field = |index: &[u8], text: &str| {
            let length = u8::try_from(text.len()).expect("the other end is there");
            [index, &[length], text.as_bytes()].concat()
        };
        let head = [
            vec![0x83, 0x86],
            field(&[0x04], "/grpc.health.v1.Health/Check"),
            field(&[0x41], "http://127.0.0.1:2379"),
            field(&[0x0f, 0x10], "application/grpc"),
        ]
        .concat();
        // The second call names what the first put into the header table.
        let again = [
            vec![0x83, 0x86, 0xbe],
            field(&[0x04], "/grpc.health.v1.Health/Check"),
            field(&[0x0f, 0x10], "application/grpc"),
        ]
        .concat();
        let said = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 0, &[]),
            frame(HEADERS, 4, 1, &head),
            frame(DATA, 1, 1, &[0; 5]),
            frame(HEADERS, 4, 3, &again),
            frame(DATA, 1, 3, &[0; 5]),
        ]
        .concat();
        let answers = exchange(&Front::new(services), &said, (DATA, 2)).await;
        let data = answers.iter().filter(|it| it.0 == DATA);
        let serving = [0, 0, 0, 0, 2, 8, 1];
        assert_eq!(data.map(|it| &it.2[..]).collect::<Vec<_>>(), [serving; 2]);
    });
}

#[test]
fn a_client_that_pings_too_often_is_told_so_and_left() {
    with_node(|services| async move {
        let ping = |count| frame(PING, 0, 0, &[0; 8]).repeat(count);
        let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        let said = [hello, ping(4)].concat();
        let answers = exchange(&Front::new(services), &said, (GO_AWAY, 1)).await;
        let (_, _, last) = answers.last().expect("the other end is there");
        assert_eq!(last[4..8], [0, 0, 0, 11]);
        assert_eq!(&last[8..], b"too_many_pings");
    });
}

#[test]
fn a_silent_client_is_asked_and_then_left() {
    with_node(|services| async move {
        let limits = Limits {
            keepalive_interval: Duration::from_millis(1),
            keepalive_timeout: Duration::from_millis(1),
            ..Limits::default()
        };
        let front = Front::with_limits(services, limits);
        let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        // No answer comes: the server ends the connection.
        let answers = exchange(&front, &hello, (DATA, 1)).await;
        let asked = answers.iter().filter(|it| it.0 == PING && it.1 == 0);
        assert_eq!(asked.count(), 1);
    });
}

/// Says this to a node, which must end the connection and go on.
fn is_too_much(said: Vec<u8>) {
    with_node(|services| async move {
        let front = Front::new(services);
        let hello = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        let answers = exchange(&front, &[hello, said].concat(), (GO_AWAY, 1)).await;
        let (_, _, last) = answers.last().expect("it says why");
        assert_eq!(last[4..8], [0, 0, 0, 11]);
        let mut client = front.connect().await;
        assert_eq!(client.page("/livez").await.0, 200);
    });
}

#[test]
fn calls_that_are_taken_back_as_soon_as_they_are_made_end_the_connection() {
    let call = call_of("/v3lockpb.Lock/Lock");
    let calls = (0..=1_000).map(|count| {
        let stream = 2 * count + 1;
        let begun = frame(HEADERS, 4, stream, &call);
        [begun, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    });
    is_too_much(calls.collect::<Vec<_>>().concat());
}

#[test]
fn a_head_that_never_ends_ends_the_connection() {
    let begun = frame(HEADERS, 0, 1, &call_of("/v3lockpb.Lock/Lock"));
    is_too_much([begun, frame(CONTINUATION, 0, 1, &[]).repeat(40)].concat());
}

#[test]
fn frames_that_say_nothing_end_the_connection() {
    is_too_much(frame(SETTINGS, 0, 0, &[]).repeat(1_001));
    let begun = frame(HEADERS, 4, 1, &call_of("/v3lockpb.Lock/Lock"));
    is_too_much([begun, frame(DATA, 0, 1, &[]).repeat(10_001)].concat());
}
