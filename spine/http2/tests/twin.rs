//! Random conversations with a client that others wrote: each request's body comes back.

mod common;

use std::collections::BTreeMap;
use std::task::Poll;

use arbtest::arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use common::{Came, config};
use h2::client::SendRequest;
use holm_http2::{Config, Connection, Key, Section};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// What one client does.
#[derive(Debug)]
struct Plan {
    /// Bytes of each request's body, and whether the client gives it up half-way.
    requests: Vec<(usize, bool)>,
    stream_window: u32,
    our_window: u32,
    table_bytes: u32,
    pipe_bytes: usize,
    at_once: usize,
}

impl Plan {
    fn arbitrary(source: &mut Unstructured<'_>) -> Result<Self> {
        let mut requests = Vec::new();
        for _ in 0..source.int_in_range(1..=12)? {
            let bytes = match source.int_in_range(0..=3)? {
                0 => 0,
                1 => source.int_in_range(1..=300)?,
                2 => source.int_in_range(1..=20_000)?,
                _ => source.int_in_range(1..=200_000)?,
            };
            requests.push((bytes, source.ratio(1, 6)?));
        }
        Ok(Self {
            requests,
            stream_window: source.int_in_range(1..=100_000)?,
            our_window: source.int_in_range(1..=100_000)?,
            table_bytes: source.int_in_range(0..=8_192)?,
            pipe_bytes: source.int_in_range(1..=40_000)?,
            at_once: source.int_in_range(1..=6)?,
        })
    }
}

/// A request under way at the server.
#[derive(Default)]
struct Echo {
    body: BytesMut,
    answer: Bytes,
    is_said: bool,
}

/// Echoes: short bodies by one command, others piece by piece as there is room.
fn go_on(connection: &mut Connection, key: Key, echo: &mut Echo) {
    while echo.is_said && connection.is_alive(key) {
        if echo.answer.is_empty() {
            connection.end(key, Section::Fields(&[(b"grpc-status", b"7")]));
            return;
        }
        if !connection.has_room(key) {
            connection.await_room(key);
            return;
        }
        let piece = echo.answer.split_to(echo.answer.len().min(30_000));
        connection.data(key, piece);
    }
}

struct Server {
    connection: Connection,
    echoes: BTreeMap<Key, Echo>,
}

impl Server {
    /// Takes all that has come.
    fn take(&mut self, come: &mut BytesMut) {
        loop {
            let (read, event) = self.connection.receive(come);
            let event = event.map(Came::of);
            drop(come.split_to(read));
            match event {
                Some(event) => self.act(event),
                None => return,
            }
        }
    }

    fn act(&mut self, event: Came) {
        match event {
            Came::Began(key, is_whole) => {
                self.echoes.insert(key, Echo::default());
                if is_whole {
                    self.answer(key);
                }
            }
            Came::Data(key, bytes, is_last) => {
                self.connection.release(key, bytes.len());
                let echo = self.echoes.get_mut(&key).expect("both ends play along");
                echo.body.extend_from_slice(&bytes);
                if is_last {
                    self.answer(key);
                }
            }
            Came::Ended(key) => self.answer(key),
            Came::Reset(key, _) | Came::Over(key) => drop(self.echoes.remove(&key)),
            Came::Pinged => {}
            Came::Failed(reason) => panic!("the twin broke a rule: {reason:?}"),
        }
    }

    fn answer(&mut self, key: Key) {
        let echo = self.echoes.get_mut(&key).expect("both ends play along");
        let body = core::mem::take(&mut echo.body).freeze();
        if body.len() < 1_000 {
            self.connection.answer(key, &body);
        } else {
            self.connection.head(key, 200, Section::Usual, false);
            (echo.answer, echo.is_said) = (body, true);
            go_on(&mut self.connection, key, echo);
        }
    }

    /// Makes use of what was written.
    fn pump(&mut self) {
        self.connection.pump();
        while let Some(key) = self.connection.next_opened() {
            if let Some(echo) = self.echoes.get_mut(&key) {
                go_on(&mut self.connection, key, echo);
            }
        }
    }
}

async fn serve(stream: DuplexStream, our_window: u32) {
    let mut server = Server {
        connection: Connection::new(Config {
            stream_window: our_window,
            ..config()
        }),
        echoes: BTreeMap::new(),
    };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut come = BytesMut::new();
    loop {
        let reads = !server.connection.is_clogged();
        let writes = !server.connection.out().is_empty();
        tokio::select! {
            read = reader.read_buf(&mut come), if reads => match read {
                Ok(1..) => server.take(&mut come),
                Ok(0) | Err(_) => return,
            },
            written = writer.write_buf(server.connection.out()), if writes => {
                if written.is_err() {
                    return;
                }
            }
        }
        server.pump();
    }
}

fn beside<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(work)
}

fn body(number: usize, bytes: usize) -> Bytes {
    let byte =
        |place: usize| u8::try_from((place * 7 + number) % 251).expect("both ends play along");
    (0..bytes).map(byte).collect::<Vec<_>>().into()
}

async fn ask(mut calls: SendRequest<Bytes>, number: usize, (bytes, gives_up): (usize, bool)) {
    let request = Request::post("http://twin/echo")
        .body(())
        .expect("both ends play along");
    let all = body(number, bytes);
    std::future::poll_fn(|cx| calls.poll_ready(cx))
        .await
        .expect("both ends play along");
    let (response, mut sender) = calls
        .send_request(request, false)
        .expect("both ends play along");
    if gives_up {
        sender
            .send_data(all.slice(..bytes / 2), false)
            .expect("both ends play along");
        sender.send_reset(h2::Reason::CANCEL);
        return;
    }
    sender
        .send_data(all.clone(), true)
        .expect("both ends play along");
    let response = response.await.expect("both ends play along");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let mut back = response.into_body();
    let mut come = BytesMut::new();
    while let Some(piece) = back.data().await {
        let piece = piece.expect("both ends play along");
        back.flow_control()
            .release_capacity(piece.len())
            .expect("both ends play along");
        come.extend_from_slice(&piece);
    }
    assert!(
        come == all,
        "{number}: {} of {bytes} bytes came back",
        come.len()
    );
    let trailers = back
        .trailers()
        .await
        .expect("both ends play along")
        .expect("both ends play along");
    let status = if bytes < 1_000 { "0" } else { "7" };
    assert_eq!(trailers["grpc-status"], status);
}

async fn converse(plan: Plan) {
    let (near, far) = tokio::io::duplex(plan.pipe_bytes);
    let served = beside(serve(far, plan.our_window));
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(plan.stream_window);
    builder.header_table_size(plan.table_bytes);
    let (calls, connection) = builder
        .handshake::<_, Bytes>(near)
        .await
        .expect("both ends play along");
    let driver = beside(connection);
    let mut requests = plan.requests.into_iter().enumerate();
    let mut under_way = tokio::task::JoinSet::new();
    loop {
        while under_way.len() < plan.at_once {
            let Some((number, request)) = requests.next() else {
                break;
            };
            under_way.spawn(ask(calls.clone(), number, request));
        }
        match under_way.join_next().await {
            Some(asked) => asked.expect("both ends play along"),
            None => break,
        }
    }
    drop(calls);
    driver
        .await
        .expect("both ends play along")
        .expect("both ends play along");
    served.await.expect("both ends play along");
}

#[test]
fn what_a_client_of_others_sends_comes_back() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("both ends play along");
    arbtest::arbtest(|source| {
        runtime.block_on(converse(Plan::arbitrary(source)?));
        Ok(())
    });
}

#[test]
fn a_farewell_is_understood() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("both ends play along");
    runtime.block_on(async {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let served = beside(async move {
            let mut connection = Connection::new(config());
            connection.leave();
            let mut come = BytesMut::new();
            while !connection.is_over() {
                far.write_all(&connection.out().split())
                    .await
                    .expect("both ends play along");
                if far.read_buf(&mut come).await.expect("both ends play along") == 0 {
                    // With nothing under way the client leaves at the first word.
                    return;
                }
                let (read, event) = connection.receive(&come);
                assert_eq!(event, None);
                drop(come.split_to(read));
            }
        });
        let (calls, connection) = h2::client::handshake(near)
            .await
            .expect("both ends play along");
        connection.await.expect("both ends play along");
        served.await.expect("both ends play along");
        let mut calls: SendRequest<Bytes> = calls;
        let ready = std::future::poll_fn(|cx| match calls.poll_ready(cx) {
            Poll::Ready(ready) => Poll::Ready(ready.is_err()),
            Poll::Pending => Poll::Pending,
        });
        assert!(ready.await, "no more calls are taken");
    });
}
