//! A small gRPC client on a stream in memory.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use holm_etcd::grpc::{Limits, Server};
use holm_etcd::services::Services;
use holm_etcd::web::{NodeVitals, Versions, Web};
use holm_net::Room;
use holm_telemetry::Metrics;
use http::{HeaderMap, Request};
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::node::beside;

/// A server without a port.
pub(crate) struct Front {
    server: Arc<Server>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
}

/// A connection to it.
pub(crate) struct Client {
    calls: SendRequest<Bytes>,
    /// Ends when the client's side of the connection has ended.
    pub(crate) driver: JoinHandle<Result<(), h2::Error>>,
    /// Ends when the server has done with the connection.
    pub(crate) served: JoinHandle<()>,
    /// A server whose stop can never come would take that for one.
    _stop: watch::Sender<bool>,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) request: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    partial: BytesMut,
    status: Option<HeaderMap>,
    head: HeaderMap,
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: u16,
    pub(crate) message: String,
}

impl Front {
    pub(crate) fn new(services: Services) -> Self {
        Self::with_limits(services, Limits::default())
    }

    pub(crate) fn with_limits(services: Services, limits: Limits) -> Self {
        let metrics = Arc::new(Metrics::new("0", "3.6.12"));
        let vitals = NodeVitals::new(services.clone(), Room::new(1));
        let versions = Versions {
            server: "3.6.12".to_owned(),
            cluster: "3.6.0".to_owned(),
            storage: "3.6.0".to_owned(),
        };
        let web = Web::new(Arc::new(vitals), Arc::clone(&metrics), versions);
        Self {
            server: Server::new(services, web, limits, &metrics),
            metrics,
            stop: watch::channel(false).0,
        }
    }

    /// A metric's line, from its name to its end.
    pub(crate) fn metric(&self, name: &str) -> String {
        let all = self.metrics.exposition();
        let line = all.lines().find(|it| it.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    /// The server's side of a connection; the client's side is the caller's.
    pub(crate) fn accept(&self) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (server, stop) = (Arc::clone(&self.server), self.stop.subscribe());
        let served = beside(async move { server.serve(far, None, stop).await });
        (near, served)
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_with_window(1 << 20).await
    }

    pub(crate) async fn connect_with_window(&self, window: u32) -> Client {
        let (near, served) = self.accept();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        builder.data_frame_budget(64 << 20);
        builder.initial_connection_window_size(16 << 20);
        let (calls, connection) = builder
            .handshake::<_, Bytes>(near)
            .await
            .expect("the server speaks HTTP/2");
        let driver = beside(connection);
        Client {
            calls,
            driver,
            served,
            _stop: self.stop.clone(),
        }
    }

    /// Asks all connections to end once their calls are answered.
    pub(crate) fn stop(&self) {
        self.stop.send(true).expect("a connection listens");
    }
}

impl Client {
    /// Asks for a page: its status, and what it says.
    pub(crate) async fn page(&mut self, path: &str) -> (u16, String) {
        let request = Request::get(format!("http://holm{path}"));
        let request = request.body(()).expect("the head is sound");
        let (answer, _) = self.calls.send_request(request, true).expect("it begins");
        let answer = answer.await.expect("there is an answer");
        let status = answer.status().as_u16();
        let (mut body, mut said) = (answer.into_body(), Vec::new());
        while let Some(piece) = body.data().await {
            let piece = piece.expect("the answer is whole");
            body.flow_control()
                .release_capacity(piece.len())
                .expect("it was received");
            said.extend_from_slice(&piece);
        }
        (status, String::from_utf8(said).expect("a page is text"))
    }

    pub(crate) async fn open(&mut self, path: &str, head: &[(&str, &str)]) -> Call {
        let mut request = Request::post(format!("http://holm{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("the head is sound");
        std::future::poll_fn(|cx| self.calls.poll_ready(cx))
            .await
            .expect("the connection takes calls");
        let (response, request) = self
            .calls
            .send_request(request, false)
            .expect("the call begins");
        Call {
            request,
            response: Some(response),
            body: None,
            partial: BytesMut::new(),
            status: None,
            head: HeaderMap::new(),
        }
    }

    /// A call of one message and at most one answer.
    pub(crate) async fn ask<A: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<A, End> {
        self.ask_with(path, &[], request).await
    }

    pub(crate) async fn ask_with<A: Message + Default>(
        &mut self,
        path: &str,
        head: &[(&str, &str)],
        request: &impl Message,
    ) -> Result<A, End> {
        let mut call = self.open(path, head).await;
        call.send(framed(request), true);
        let answer = call.next::<A>().await;
        let end = call.end().await;
        if end.code == 0 {
            Ok(answer.expect("a call that went well has an answer"))
        } else {
            assert!(answer.is_none(), "a refusal has no answer");
            Err(end)
        }
    }

    /// What a call with this body comes to.
    pub(crate) async fn ask_raw(&mut self, path: &str, body: Bytes) -> End {
        let mut call = self.open(path, &[]).await;
        // The server may have refused the head already.
        call.request.send_data(body, true).ok();
        call.end().await
    }
}

impl Call {
    pub(crate) fn send(&mut self, bytes: Bytes, is_last: bool) {
        self.request
            .send_data(bytes, is_last)
            .expect("the server listens");
    }

    /// The next answer; `None` at the end.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> Option<A> {
        let message = self.message().await?;
        Some(A::decode(message).expect("an answer is a message"))
    }

    /// The bytes of the next answer, their room given back as they come.
    pub(crate) async fn message(&mut self) -> Option<Bytes> {
        loop {
            if self.partial.len() >= 5 {
                let length = (&self.partial[1..5]).get_u32();
                let whole = 5 + usize::try_from(length).expect("it fits");
                if self.partial.len() >= whole {
                    return Some(self.partial.split_to(whole).freeze().slice(5..));
                }
            }
            let body = self.body().await?;
            let piece = body.data().await?.expect("the server answers to the end");
            body.flow_control()
                .release_capacity(piece.len())
                .expect("it was taken");
            self.partial.extend_from_slice(&piece);
        }
    }

    async fn body(&mut self) -> Option<&mut RecvStream> {
        if let Some(response) = self.response.take() {
            let response = response.await.expect("the server answers");
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            self.head = response.headers().clone();
            if response.headers().contains_key("grpc-status") {
                self.status = Some(response.headers().clone());
            }
            self.body = Some(response.into_body());
        }
        if self.status.is_some() {
            return None;
        }
        self.body.as_mut()
    }

    /// What the head of the answer says, once it has come.
    pub(crate) fn head(&self, name: &str) -> Option<String> {
        let value = self.head.get(name)?;
        Some(value.to_str().expect("it is a text").to_owned())
    }

    /// Whether the call was refused before it began to answer, in one frame.
    pub(crate) const fn is_refused_at_once(&self) -> bool {
        self.status.is_some()
    }

    /// How the call ended, once all answers have been taken.
    pub(crate) async fn end(&mut self) -> End {
        while self.message().await.is_some() {}
        let trailers = match self.status.take() {
            Some(head) => head,
            None => {
                let body = self.body.as_mut().expect("it was answered");
                let trailers = body.trailers().await.expect("the server ends calls");
                trailers.expect("a call ends with its status")
            }
        };
        let text = |name: &str| trailers.get(name).and_then(|it| it.to_str().ok());
        End {
            code: text("grpc-status")
                .and_then(|it| it.parse().ok())
                .expect("each call has a status"),
            message: text("grpc-message").unwrap_or_default().to_owned(),
        }
    }
}

/// A message in its frame.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    frame(0, &message.encode_to_vec())
}

/// Bytes in a frame, with a flag.
pub(crate) fn frame(flag: u8, bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(flag);
    out.put_u32(u32::try_from(bytes.len()).expect("it fits"));
    out.put_slice(bytes);
    out.freeze()
}

pub(crate) fn end(code: u16, message: &str) -> End {
    End {
        code,
        message: message.to_owned(),
    }
}
