//! Random bodies at the gateway: whatever comes, it is answered, and never by a panic.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod patient;

use std::sync::Arc;
use std::time::Duration;

use arbtest::arbitrary::{Result as Drawn, Unstructured};
use bytes::Bytes;
use holm_etcd::proto::etcdserverpb::{TxnRequest, WatchRequest};
use holm_etcd::status::Status;
use holm_etcd::web::{Credentials, Exchange, Gateway, Web};
use http_body_util::{BodyExt as _, Full};
use patient::{Patient, web};
use tokio::runtime::Runtime;

/// Sound requests, to be spoilt.
const SOUND: &[&str] = &[
    "{\"compare\":[{\"key\":\"Zm9v\",\"result\":\"GREATER\",\"target\":\"MOD\",\"mod_revision\":\"7\"}],\
     \"success\":[{\"request_put\":{\"key\":\"YQ==\",\"lease\":9}},{\"request_txn\":{\"failure\":\
     [{\"request_delete_range\":{\"prevKv\":true}}]}}]}",
    "{\"create_request\":{\"key\":\"Zm9v\",\"start_revision\":\"1\",\"filters\":[\"NOPUT\"]}}\
     {\"cancel_request\":{\"watch_id\":\"5\"}}",
    "{\"progress_request\":{}} null [1e999,\"\\ud800\"]",
];

async fn txn(_: Credentials, request: TxnRequest) -> Result<TxnRequest, Status> {
    Ok(request)
}

async fn watch(
    _: Credentials,
    exchange: Exchange<WatchRequest, WatchRequest>,
) -> Result<(), Status> {
    let Exchange {
        mut requests,
        answers,
    } = exchange;
    while let Some(request) = requests.recv().await {
        answers.send(request).await.unwrap();
    }
    Ok(())
}

/// A sound request with bytes changed, cut, doubled and put in, or nothing but noise.
fn body(draw: &mut Unstructured<'_>) -> Drawn<Vec<u8>> {
    if draw.ratio(1, 4)? {
        return draw.arbitrary();
    }
    let mut body = draw.choose(SOUND)?.as_bytes().to_vec();
    for _ in 0..draw.int_in_range(0..=6)? {
        let at = draw.choose_index(body.len().max(1))?.min(body.len());
        match draw.int_in_range(0..=3)? {
            0 => body.insert(at, draw.arbitrary()?),
            1 => body.truncate(at),
            2 => body.extend_from_within(at..),
            _ => body.insert(at, *draw.choose(b"{}[]\",:\\n0")?),
        }
        body.truncate(4_096);
    }
    Ok(body)
}

fn answered(runtime: &Runtime, web: &Web, path: &str, body: Vec<u8>) -> (u16, Bytes) {
    let request = http::Request::post(path)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    runtime.block_on(async {
        let answer = web.answer(request).await;
        let status = answer.status().as_u16();
        (
            status,
            answer.into_body().collect().await.unwrap().to_bytes(),
        )
    })
}

#[test]
fn random_bodies_are_answered_or_refused() {
    let mut gateway = Gateway::new(1_024);
    gateway.unary("/kv/txn", txn);
    gateway.stream("/watch", watch);
    let web = web(Patient::default()).with_gateway(Arc::new(gateway));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (mut good, mut bad) = (0_u32, 0_u32);
    let property = |draw: &mut Unstructured<'_>| {
        let body = body(draw)?;
        for path in ["/v3/kv/txn", "/v3/watch"] {
            let (status, answer) = answered(&runtime, &web, path, body.clone());
            match status {
                200 => good += 1,
                400 => {
                    bad += 1;
                    assert!(
                        answer.ends_with(b"\"code\":3}") || answer.ends_with(b"\"code\":3}}\n")
                    );
                }
                other => panic!("{path} answered {other}: {answer:?}"),
            }
            if status == 200 && path == "/v3/kv/txn" {
                // What was understood is understood again.
                let again = answered(&runtime, &web, path, answer.to_vec());
                assert_eq!(again, (200, answer));
            }
        }
        Ok(())
    };
    arbtest::arbtest(property).budget(budget()).run();
    assert!(
        good > 0 && bad > 0,
        "{good} good and {bad} bad: the bodies are all of a kind"
    );
}

/// A second, or what `cargo xtask fuzz` allows.
fn budget() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "the budget of random tests is set outside"
    )]
    let asked = std::env::var("HOLM_FUZZ_MS").ok();
    Duration::from_millis(asked.and_then(|text| text.parse().ok()).unwrap_or(1_000))
}
