//! Asks a server over gRPC, with the same requests and answers as JSON values.
//!
//! The differential test runs over both doors: what the gateway gets right may be wrong on
//! the path that builds replies by hand. HTTP/2 is the `h2` crate's; the rest is five bytes.

mod watch;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use holm_etcd::proto::etcdserverpb as pb;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::gateway::Answer;

pub use watch::WatchStream;

/// One connection.
pub struct Grpc {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
    token: Option<String>,
}

impl std::fmt::Debug for Grpc {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Grpc")
    }
}

/// What came back: the message's bytes, or a code and a text.
type Raw = Result<Bytes, (i64, String)>;

impl Grpc {
    /// Connects without TLS.
    ///
    /// # Errors
    ///
    /// Nobody listens, or they speak no HTTP/2.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(async move {
                // Its end shows as an error of whatever is asked next.
                connection.await.ok();
            });
            anyhow::Ok(sender)
        })?;
        Ok(Self {
            runtime,
            sender,
            token: None,
        })
    }

    /// Sends `token` with each request from now on, or none.
    pub fn authorize(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Sends a request that the gateway has at `/v3/` and `path`.
    ///
    /// # Errors
    ///
    /// A broken connection, a path that this client does not know, or bytes that are no answer.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Answer> {
        match path {
            "kv/put" => self.call::<pb::PutRequest, pb::PutResponse>("KV/Put", body),
            "kv/range" => self.call::<pb::RangeRequest, pb::RangeResponse>("KV/Range", body),
            "kv/deleterange" => {
                self.call::<pb::DeleteRangeRequest, pb::DeleteRangeResponse>("KV/DeleteRange", body)
            }
            "kv/txn" => self.call::<pb::TxnRequest, pb::TxnResponse>("KV/Txn", body),
            "kv/compaction" => {
                self.call::<pb::CompactionRequest, pb::CompactionResponse>("KV/Compact", body)
            }
            "lease/grant" => {
                self.call::<pb::LeaseGrantRequest, pb::LeaseGrantResponse>("Lease/LeaseGrant", body)
            }
            "lease/revoke" => self
                .call::<pb::LeaseRevokeRequest, pb::LeaseRevokeResponse>("Lease/LeaseRevoke", body),
            "lease/timetolive" => self
                .call::<pb::LeaseTimeToLiveRequest, pb::LeaseTimeToLiveResponse>(
                    "Lease/LeaseTimeToLive",
                    body,
                ),
            "lease/leases" => self
                .call::<pb::LeaseLeasesRequest, pb::LeaseLeasesResponse>("Lease/LeaseLeases", body),
            "lease/keepalive" => self.renew(body),
            path if path.starts_with("auth/") => self.users(path, body),
            other => bail!("this client has no gRPC method for {other}"),
        }
    }

    fn users(&mut self, path: &str, body: &Value) -> Result<Answer> {
        macro_rules! one_of {
            ($($name:literal $method:ident $request:ident $response:ident)*) => {
                match path {
                    $($name => self.call::<pb::$request, pb::$response>(
                        concat!("Auth/", stringify!($method)), body,
                    ),)*
                    other => bail!("this client has no gRPC method for {other}"),
                }
            };
        }
        one_of! {
            "auth/enable" AuthEnable AuthEnableRequest AuthEnableResponse
            "auth/disable" AuthDisable AuthDisableRequest AuthDisableResponse
            "auth/status" AuthStatus AuthStatusRequest AuthStatusResponse
            "auth/authenticate" Authenticate AuthenticateRequest AuthenticateResponse
            "auth/user/add" UserAdd AuthUserAddRequest AuthUserAddResponse
            "auth/user/get" UserGet AuthUserGetRequest AuthUserGetResponse
            "auth/user/list" UserList AuthUserListRequest AuthUserListResponse
            "auth/user/delete" UserDelete AuthUserDeleteRequest AuthUserDeleteResponse
            "auth/user/changepw" UserChangePassword AuthUserChangePasswordRequest AuthUserChangePasswordResponse
            "auth/user/grant" UserGrantRole AuthUserGrantRoleRequest AuthUserGrantRoleResponse
            "auth/user/revoke" UserRevokeRole AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse
            "auth/role/add" RoleAdd AuthRoleAddRequest AuthRoleAddResponse
            "auth/role/get" RoleGet AuthRoleGetRequest AuthRoleGetResponse
            "auth/role/list" RoleList AuthRoleListRequest AuthRoleListResponse
            "auth/role/delete" RoleDelete AuthRoleDeleteRequest AuthRoleDeleteResponse
            "auth/role/grant" RoleGrantPermission AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse
            "auth/role/revoke" RoleRevokePermission AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse
        }
    }

    /// One message on a stream that then ends; the answer as the gateway wraps it.
    fn renew(&mut self, body: &Value) -> Result<Answer> {
        type Request = pb::LeaseKeepAliveRequest;
        type Response = pb::LeaseKeepAliveResponse;
        let mut answer = self.call::<Request, Response>("Lease/LeaseKeepAlive", body)?;
        if answer.is_ok() {
            answer.body = json!({"result": answer.body});
        }
        Ok(answer)
    }

    fn call<Q, A>(&mut self, method: &str, body: &Value) -> Result<Answer>
    where
        Q: Message + DeserializeOwned,
        A: Message + Default + Serialize,
    {
        let request: Q =
            serde_json::from_value(body.clone()).with_context(|| format!("{method}: {body}"))?;
        let raw = self.runtime.block_on(exchange(
            &self.sender,
            method,
            self.token.as_deref(),
            &request.encode_to_vec(),
        ))?;
        Ok(match raw {
            Ok(bytes) => Answer {
                status: 200,
                body: serde_json::to_value(A::decode(bytes)?)?,
            },
            Err((code, message)) => Answer {
                status: 500,
                body: json!({"code": code, "message": message}),
            },
        })
    }
}

/// One unary call: five bytes of prefix before the message, the status in the trailers.
async fn exchange(
    sender: &SendRequest<Bytes>,
    method: &str,
    token: Option<&str>,
    message: &[u8],
) -> Result<Raw> {
    let mut request = http::Request::post(format!("http://localhost/etcdserverpb.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("token", token);
    }
    let mut ready = sender.clone().ready().await?;
    let (response, mut body) = ready.send_request(request.body(())?, false)?;
    body.send_data(framed(message)?, true)?;
    let response = response.await?;
    if let Some(failure) = failure(response.headers())? {
        return Ok(Err(failure));
    }
    let mut stream = response.into_body();
    let mut received = BytesMut::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        received.extend_from_slice(&piece);
    }
    let trailers = stream
        .trailers()
        .await?
        .context("an answer ends with trailers")?;
    if let Some(failure) = failure(&trailers)? {
        return Ok(Err(failure));
    }
    anyhow::ensure!(received.len() >= 5, "an answer has a prefix of five bytes");
    Ok(Ok(received.freeze().slice(5..)))
}

#[expect(
    clippy::big_endian_bytes,
    reason = "gRPC states lengths in network order"
)]
fn framed(message: &[u8]) -> Result<Bytes> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len())?.to_be_bytes());
    frame.extend_from_slice(message);
    Ok(frame.into())
}

/// Code and text, if headers or trailers state a failure.
fn failure(headers: &http::HeaderMap) -> Result<Option<(i64, String)>> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let code: i64 = status.to_str()?.parse()?;
    let message = headers
        .get("grpc-message")
        .map_or("", |text| text.to_str().unwrap_or_default());
    Ok((code != 0).then(|| (code, unescaped(message))))
}

/// `grpc-message` is percent-encoded.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_undone_and_others_stay() {
        assert_eq!(unescaped("etcdserver: a%2C b%"), "etcdserver: a, b%");
    }

    #[test]
    fn a_frame_states_its_length() {
        assert_eq!(&framed(b"abc").unwrap()[..], b"\0\0\0\0\x03abc");
    }
}
