//! A listener on real sockets: the port that is taken, the room that is full, the stop.

use std::time::Duration;

use holm_net::{Connection, Limits, ListenConfig, Listener, NetError, Room};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Long enough that a busy machine has done what it was to do.
const SOON: Duration = Duration::from_secs(60);

/// Long enough to see that nothing happens.
const QUIET: Duration = Duration::from_millis(200);

fn config(room: Room) -> ListenConfig {
    ListenConfig {
        address: "127.0.0.1:0".parse().expect("an address"),
        certificates: None,
        room,
        limits: Limits::default(),
    }
}

/// Answers each connection with what it sent, until it ends.
async fn echo(mut connection: Connection) {
    let mut bytes = [0; 64];
    while let Ok(count) = connection.stream.read(&mut bytes).await {
        if count == 0 || connection.stream.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}

/// Says something and waits for the answer.
async fn said(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<bool> {
    stream.write_all(text).await?;
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).await?;
    Ok(heard == text)
}

#[tokio::test]
async fn port_in_use_is_told_with_what_to_do() {
    let first = Listener::bind(config(Room::new(1))).expect("a free port");
    let address = first.address();
    let config = ListenConfig {
        address,
        ..config(Room::new(1))
    };
    let error = Listener::bind(config).expect_err("the port is taken");
    assert!(matches!(error, NetError::InUse { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("listen on {address}: the port is in use;")),
        "{text}"
    );
}

#[tokio::test]
async fn full_room_pauses_accepting_and_disturbs_nobody() {
    let room = Room::new(2);
    let listener = Listener::bind(config(room.clone())).expect("a free port");
    let address = listener.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(listener.serve(async { drop(stopped.await) }, echo));

    let mut first = TcpStream::connect(address).await.expect("room for one");
    let mut second = TcpStream::connect(address).await.expect("room for two");
    assert!(said(&mut first, b"one").await.expect("an answer"));
    assert!(said(&mut second, b"two").await.expect("an answer"));
    assert_eq!((room.open(), room.size()), (2, 2));

    let mut third = TcpStream::connect(address)
        .await
        .expect("the system holds it");
    third
        .write_all(b"three")
        .await
        .expect("the system takes it");
    let mut heard = [0; 5];
    let waiting = tokio::time::timeout(QUIET, third.read_exact(&mut heard)).await;
    assert!(waiting.is_err(), "the third was served beyond the room");
    assert!(said(&mut first, b"still").await.expect("an answer"));

    drop(second);
    let served = tokio::time::timeout(SOON, third.read_exact(&mut heard)).await;
    served.expect("in time").expect("an answer");
    assert_eq!(&heard, b"three");

    drop((first, third));
    stop.send(()).expect("the server runs");
    tokio::time::timeout(SOON, server)
        .await
        .expect("in time")
        .expect("no panic");
    assert_eq!(room.open(), 0);
}

#[tokio::test]
async fn silent_connection_is_closed_and_gives_its_place_back() {
    let limits = Limits {
        // The one that speaks must have done so within it.
        handshake_timeout: 10 * QUIET,
        ..Limits::default()
    };
    let config = ListenConfig {
        limits,
        ..config(Room::new(1))
    };
    let listener = Listener::bind(config).expect("a free port");
    let address = listener.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(listener.serve(async { drop(stopped.await) }, echo));

    let mut silent = TcpStream::connect(address).await.expect("room for one");
    let mut nothing = [0; 1];
    let closed = tokio::time::timeout(SOON, silent.read(&mut nothing)).await;
    assert_eq!(closed.expect("in time").expect("an orderly end"), 0);
    let mut other = TcpStream::connect(address).await.expect("room again");
    assert!(said(&mut other, b"hello").await.expect("an answer"));

    drop(other);
    stop.send(()).expect("the server runs");
    tokio::time::timeout(SOON, server)
        .await
        .expect("in time")
        .expect("no panic");
}
