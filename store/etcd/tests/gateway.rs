//! The gateway's manners, with calls that are doubles: what it takes, refuses, streams.

mod client;
mod patient;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{ask, exchange, split};
use holm_etcd::status::{Code, Status};
use holm_etcd::web::{Credentials, Exchange, Gateway, Web};
use patient::{Patient, web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A message that any JSON object of numbers is.
type Message = BTreeMap<String, i64>;

async fn echo(_: Credentials, request: Message) -> Result<Message, Status> {
    if request.contains_key("refuse") {
        return Err(Status::new(
            Code::NotFound,
            "etcdserver: requested lease not found",
        ));
    }
    Ok(request)
}

async fn whoami(credentials: Credentials, _: Message) -> Result<Vec<String>, Status> {
    Ok(credentials.token.into_iter().collect())
}

/// Answers each request, then refuses if it was told to, and ends.
async fn each(_: Credentials, exchange: Exchange<Message, Message>) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    while let Some(request) = requests.recv().await {
        if request.contains_key("refuse") {
            return Err(Status::new(
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ));
        }
        if answers.send(request).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Answers the first request with many lines, whether or not the client asks more.
async fn flood(_: Credentials, exchange: Exchange<Message, Message>) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    while requests.recv().await.is_some() {}
    for count in 0..1_000 {
        let answer = BTreeMap::from([("count".to_owned(), count)]);
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Answers once and then waits until the client leaves.
async fn forever(_: Credentials, exchange: Exchange<Message, Message>) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    while requests.recv().await.is_some() {}
    if answers.send(Message::new()).await.is_ok() {
        answers.closed().await;
    }
    Ok(())
}

fn gateway() -> Web {
    let mut gateway = Gateway::new(512);
    gateway.unary("/kv/echo", echo);
    gateway.unary("/whoami", whoami);
    gateway.stream("/each", each);
    gateway.stream("/flood", flood);
    gateway.stream("/forever", forever);
    web(Patient::default()).with_gateway(Arc::new(gateway))
}

/// The status and body of one POST.
async fn post(path: &str, body: &str) -> (u16, String) {
    let sent = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    split(&exchange(&gateway(), sent.as_bytes()).await)
}

#[tokio::test]
async fn request_is_answered_at_both_prefixes() {
    for path in ["/v3/kv/echo", "/v3beta/kv/echo"] {
        assert_eq!(post(path, "{\"a\":1}").await, (200, "{\"a\":1}".to_owned()));
    }
}

#[tokio::test]
async fn nothing_is_the_empty_request() {
    for body in ["", "null", "{}", " \n"] {
        assert_eq!(
            post("/v3/kv/echo", body).await,
            (200, "{}".to_owned()),
            "{body:?}"
        );
    }
}

#[tokio::test]
async fn refusal_of_the_call_has_its_status_and_every_key() {
    let text = "etcdserver: requested lease not found";
    assert_eq!(
        post("/v3/kv/echo", "{\"refuse\":1}").await,
        (
            404,
            format!("{{\"error\":\"{text}\",\"message\":\"{text}\",\"code\":5}}")
        )
    );
}

#[tokio::test]
async fn malformed_and_oversized_bodies_are_refused() {
    for body in ["{", "[]", "{\"a\":\"text\"}", "\u{7f}", "{\"a\":1e400}"] {
        let (status, answer) = post("/v3/kv/echo", body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer.ends_with("\"code\":3}"), "{answer}");
    }
    let large = format!("{{\"a\":{}1}}", " ".repeat(2_000));
    let (status, answer) = post("/v3/kv/echo", &large).await;
    assert_eq!(status, 400);
    assert!(
        answer.contains("etcdserver: request is too large"),
        "{answer}"
    );
    let (status, answer) = post("/v3/each", &large).await;
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer.contains("etcdserver: request is too large"),
        "{answer}"
    );
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused_as_json() {
    for path in ["/v3/nope", "/v3/", "/v3beta/kv/echo/", "/v3/kv/ECHO"] {
        let (status, answer) = post(path, "{}").await;
        assert_eq!(
            (status, answer.contains("\"Not Found\"")),
            (404, true),
            "{path}"
        );
    }
    assert_eq!(post("/v3alpha/kv/echo", "{}").await.0, 404);
    assert_eq!(post("/v3", "{}").await.0, 404);
    for method in ["GET", "PUT", "DELETE"] {
        let (status, answer) = ask(&gateway(), method, "/v3/kv/echo").await;
        assert_eq!(
            (status, answer.contains("\"code\":12")),
            (405, true),
            "{method}"
        );
    }
}

#[tokio::test]
async fn node_without_a_gateway_has_no_such_path() {
    let web = web(Patient::default());
    assert_eq!(ask(&web, "POST", "/v3/kv/echo").await.0, 404);
}

#[tokio::test]
async fn token_comes_from_either_header_and_from_nowhere_else() {
    for (header, token) in [
        ("Authorization: abc.7", "[\"abc.7\"]"),
        ("Authorization: Bearer abc.7", "[\"abc.7\"]"),
        ("Grpc-Metadata-Token: abc.7", "[\"abc.7\"]"),
        ("Token: abc.7", "[]"),
    ] {
        let sent = format!(
            "POST /v3/whoami HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let answer = split(&exchange(&gateway(), sent.as_bytes()).await);
        assert_eq!(answer, (200, token.to_owned()), "{header}");
    }
}

#[tokio::test(start_paused = true)]
async fn body_that_never_comes_is_refused_in_the_end() {
    let sent = b"POST /v3/kv/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{";
    let (status, answer) = split(&exchange(&gateway(), sent).await);
    assert_eq!(
        (status, answer.contains("did not arrive")),
        (504, true),
        "{answer}"
    );
}

#[tokio::test]
async fn stream_answers_each_request_with_a_line() {
    let (status, body) = post("/v3/each", "{\"a\":1}{\"b\":2}\n").await;
    assert_eq!(
        (status, lines(&body)),
        (
            200,
            "{\"result\":{\"a\":1}}\n{\"result\":{\"b\":2}}\n".into()
        )
    );
}

#[tokio::test]
async fn stream_refused_at_once_has_the_refusals_status() {
    let (status, body) = post("/v3/each", "{\"refuse\":1}").await;
    assert_eq!(status, 400);
    assert!(
        body.starts_with("{\"error\":{\"grpc_code\":11,\"http_code\":400,"),
        "{body}"
    );
    let (status, body) = post("/v3/each", "null").await;
    assert_eq!(
        (status, body.contains("\"grpc_code\":3")),
        (400, true),
        "{body}"
    );
}

#[tokio::test]
async fn stream_refused_later_ends_with_the_refusal() {
    for last in ["{\"refuse\":1}", "{\"cut", "[]"] {
        let (status, body) = post("/v3/each", &format!("{{\"a\":1}}{last}")).await;
        let body = lines(&body);
        assert_eq!(status, 200);
        assert!(
            body.starts_with("{\"result\":{\"a\":1}}\n{\"error\":{"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn long_stream_comes_whole_and_in_order() {
    let (status, body) = post("/v3/flood", "{}").await;
    let body = lines(&body);
    assert_eq!((status, body.lines().count()), (200, 1_000));
    assert!(body.ends_with("{\"result\":{\"count\":999}}\n"));
}

#[tokio::test]
async fn client_may_ask_more_after_an_answer() {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let web = gateway();
    let client = async {
        let head = b"POST /v3/each HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        near.write_all(head).await.unwrap();
        let mut text = String::new();
        for count in 1..=3 {
            let body = format!("{{\"a\":{count}}}");
            let chunk = format!("{:x}\r\n{body}\r\n", body.len());
            near.write_all(chunk.as_bytes()).await.unwrap();
            while !text.contains(&format!("{{\"result\":{body}}}\n")) {
                let mut piece = [0; 1024];
                let count = near.read(&mut piece).await.unwrap();
                text.push_str(std::str::from_utf8(&piece[..count]).unwrap());
            }
        }
        drop(near);
        text
    };
    let (text, ()) = tokio::join!(client, web.serve(far, std::future::pending()));
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

#[tokio::test]
async fn call_ends_when_its_client_leaves() {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let web = gateway();
    let client = async {
        let sent = b"POST /v3/forever HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
        near.write_all(sent).await.unwrap();
        let mut piece = [0; 1024];
        assert!(near.read(&mut piece).await.unwrap() > 0);
        drop(near);
    };
    tokio::join!(client, web.serve(far, std::future::pending()));
}

/// The lines in a body that came in chunks.
fn lines(body: &str) -> String {
    body.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| format!("{line}\n"))
        .collect()
}
