//! A small etcd client: one HTTP/2 connection, unary calls and streams of messages.
//!
//! It is for people at a terminal: it connects to the first endpoint that answers, logs in if a user is given, and
//! turns every failure into a sentence that says what to do. It does not retry: a write that may have happened must be
//! looked at, not repeated.

mod error;
mod seen;
mod stream;
mod tls;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::Args;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use seen::Seen;

pub(crate) use error::ClientError;
pub(crate) use stream::Stream;

use crate::quantity::parse_duration;
use crate::wire::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};

/// Flags of every client command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// Nodes to talk to, host:port or URL, commas between; the first that answers is used
    #[arg(
        long,
        global = true,
        value_name = "ADDRESSES",
        value_delimiter = ',',
        env = "HOLM_ENDPOINTS",
        hide_env_values = true,
        alias = "endpoint",
        default_value = "127.0.0.1:2379"
    )]
    pub(crate) endpoints: Vec<String>,

    /// Talk to this keyspace: the nodes are asked where it is
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "HOLM_KEYSPACE",
        hide_env_values = true
    )]
    pub(crate) keyspace: Option<String>,

    /// Log in as this user; without :PASSWORD it is taken from HOLM_PASSWORD
    #[arg(
        long,
        global = true,
        value_name = "NAME[:PASSWORD]",
        env = "HOLM_USER",
        hide_env_values = true
    )]
    pub(crate) user: Option<String>,

    /// Whom to trust for the node's certificate, PEM; makes the connection TLS
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOLM_CACERT",
        hide_env_values = true
    )]
    pub(crate) cacert: Option<std::path::PathBuf>,

    /// Our certificate, PEM, where nodes ask for one
    #[arg(
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "HOLM_CERT",
        hide_env_values = true,
        requires = "tls_key"
    )]
    pub(crate) tls_cert: Option<std::path::PathBuf>,

    /// Our certificate's private key, PEM
    #[arg(
        long = "key",
        global = true,
        value_name = "FILE",
        env = "HOLM_KEY",
        hide_env_values = true,
        requires = "tls_cert"
    )]
    pub(crate) tls_key: Option<std::path::PathBuf>,

    /// Carry what was seen in this file: at any site of a local-first keyspace, reads, writes and watches wait for it
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "HOLM_CONTEXT",
        hide_env_values = true
    )]
    pub(crate) context: Option<std::path::PathBuf>,

    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

/// Windows for answers: room for a large list without a round trip for each 64 KiB.
const WINDOW_BYTES: u32 = 8 << 20;
/// The largest answer taken; etcd's own clients stop at 2 GiB.
const ANSWER_BYTES_MAX: usize = 1 << 31;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection to a node, logged in if a user was given.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    endpoint: String,
    scheme: &'static str,
    token: Option<HeaderValue>,
    timeout: Duration,
    seen: Option<Seen>,
}

impl Client {
    /// Connects to the first endpoint that answers.
    ///
    /// # Errors
    ///
    /// Why the last endpoint could not be reached, or why the login failed.
    pub(crate) async fn connect(options: &ConnectionOptions) -> Result<Self, ClientError> {
        let mut failure = ClientError::NoEndpoint;
        for endpoint in &options.endpoints {
            match Self::reach(options, endpoint).await {
                Ok(mut client) => {
                    client.log_in(options).await?;
                    return Ok(client);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn reach(options: &ConnectionOptions, endpoint: &str) -> Result<Self, ClientError> {
        let (is_tls, authority) = match endpoint.split_once("://") {
            Some(("https", place)) => (true, place),
            Some((_, place)) => (false, place),
            None => (
                options.cacert.is_some() || options.tls_cert.is_some(),
                endpoint,
            ),
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let port = authority
            .rsplit_once(':')
            .map(|(_host, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) || authority.contains(char::is_whitespace) {
            return Err(ClientError::NoAddress {
                endpoint: endpoint.to_owned(),
            });
        }
        let failed = |source| ClientError::Connect {
            endpoint: authority.clone(),
            source,
        };
        let socket = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&authority))
            .await
            .map_err(|_elapsed| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let (requests, scheme) = if is_tls {
            let secured = tls::secure(socket, &authority, options).await?;
            (shake_hands(secured, &authority).await?, "https")
        } else {
            (shake_hands(socket, &authority).await?, "http")
        };
        let timeout = options.timeout;
        Ok(Self {
            requests,
            endpoint: authority,
            scheme,
            token: None,
            timeout,
            seen: options.context.clone().map(Seen::load).transpose()?,
        })
    }

    async fn log_in(&mut self, options: &ConnectionOptions) -> Result<(), ClientError> {
        let Some(user) = &options.user else {
            return Ok(());
        };
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name.to_owned(), password.to_owned()),
            None => {
                let password = std::env::var("HOLM_PASSWORD");
                let unknown = || ClientError::NoPassword { user: user.clone() };
                (user.clone(), password.map_err(|_not_set| unknown())?)
            }
        };
        let answer: AuthenticateResponse = self
            .call(
                "/etcdserverpb.Auth/Authenticate",
                &AuthenticateRequest { name, password },
            )
            .await?;
        self.token = HeaderValue::from_str(&answer.token).ok();
        Ok(())
    }

    /// The login's token, for other programs.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().and_then(|token| token.to_str().ok())
    }

    /// Whether the connection is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == "https"
    }

    /// Where the connection goes.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The connection itself, for calls that are carried unread, and what their URLs begin with.
    pub(crate) fn bare(&self) -> (SendRequest<Bytes>, String) {
        let base = format!("{}://{}", self.scheme, self.endpoint);
        (self.requests.clone(), base)
    }

    /// One request, one answer.
    ///
    /// # Errors
    ///
    /// The node's refusal with its gRPC code, or how the connection failed. After a timeout a write may have happened.
    pub(crate) async fn call<A: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, ClientError> {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.ask(path, request)).await {
            Ok(done) => done,
            Err(_elapsed) => Err(ClientError::Timeout { path, timeout }),
        }
    }

    /// As [`Client::call`], for work that takes what it takes: calls `waiting` each second.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], but for the time.
    pub(crate) async fn call_patiently<A: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<A, ClientError> {
        let begun = tokio::time::Instant::now();
        let mut work = std::pin::pin!(self.ask(path, request));
        loop {
            match tokio::time::timeout(Duration::from_secs(1), &mut work).await {
                Ok(done) => return done,
                Err(_elapsed) => waiting(begun.elapsed()),
            }
        }
    }

    async fn ask<A: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, ClientError> {
        let mut stream = self.open(path, request, true).await?;
        let answer = stream.next().await?;
        if stream.next::<A>().await?.is_some() {
            return Err(ClientError::Protocol {
                what: "a second answer to one request",
            });
        }
        if let Some(seen) = &mut self.seen {
            seen.keep(stream.trailers())?;
        }
        answer.ok_or(ClientError::Protocol {
            what: "no answer, and no error either",
        })
    }

    /// Begins a stream with a first message; `is_last` says that no other will follow.
    pub(crate) async fn open(
        &mut self,
        path: &'static str,
        first: &impl Message,
        is_last: bool,
    ) -> Result<Stream, ClientError> {
        let failed = |source| ClientError::Transport { path, source };
        std::future::poll_fn(|cx| self.requests.poll_ready(cx))
            .await
            .map_err(failed)?;
        let (answer, mut body) = self
            .requests
            .send_request(self.request(path), false)
            .map_err(failed)?;
        body.send_data(framed(first), is_last).map_err(failed)?;
        Ok(Stream::new(path, answer, body))
    }

    fn request(&self, path: &str) -> Request<()> {
        let mut headers = HeaderMap::new();
        headers.insert("te", HeaderValue::from_static("trailers"));
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert(
            "user-agent",
            HeaderValue::from_static(concat!("holm/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(token) = &self.token {
            headers.insert("token", token.clone());
        }
        if let Some(seen) = &self.seen {
            seen.present(path, &mut headers);
        }
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = format!("{}://{}{path}", self.scheme, self.endpoint)
            .parse()
            .expect("the endpoint was connected to, so it is an authority");
        *request.headers_mut() = headers;
        request
    }
}

/// Says hello on a fresh connection and keeps it running in the background.
async fn shake_hands<T>(socket: T, endpoint: &str) -> Result<SendRequest<Bytes>, ClientError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source| ClientError::Handshake {
        endpoint: endpoint.to_owned(),
        source,
    };
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(socket)
        .await
        .map_err(failed)?;
    tokio::spawn(async move {
        // How the connection ends is seen by the request that waits on it.
        drop(connection.await);
    });
    Ok(requests)
}

/// A message with gRPC's five bytes before it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a command line is shorter than 4 GiB"));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}
