//! Health, readiness, metrics and version, over HTTP/1 in memory, of a node as ill as needed.

mod client;
mod patient;

use client::{ask, exchange};
use holm_etcd::web::ReadFailure;
use holm_kv::command::AlarmKind;
use patient::{Patient, web};

fn failure(why: &str) -> Result<(), ReadFailure> {
    Err(ReadFailure {
        why: why.to_owned(),
    })
}

#[tokio::test]
async fn healthy_node_says_so_in_etcds_words() {
    let web = web(Patient::default());
    for (path, body) in [
        ("/health", "{\"health\":\"true\",\"reason\":\"\"}"),
        (
            "/health?serializable=true",
            "{\"health\":\"true\",\"reason\":\"\"}",
        ),
        ("/livez", "ok\n"),
        ("/readyz", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        (
            "/readyz?verbose",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
             [+]non_learner ok\nok\n",
        ),
        (
            "/readyz/linearizable_read?verbose",
            "[+]linearizable_read ok\nok\n",
        ),
        (
            "/version",
            "{\"etcdserver\":\"3.6.12\",\"etcdcluster\":\"3.6.0\",\"storage\":\"3.6.0\"}",
        ),
    ] {
        assert_eq!(
            ask(&web, "GET", path).await,
            (200, body.to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn alarm_makes_the_node_unhealthy_unless_it_is_excluded() {
    let web = web(Patient {
        alarms: vec![AlarmKind::NoSpace],
        ..Patient::default()
    });
    let bad = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n".to_owned();
    assert_eq!(ask(&web, "GET", "/health").await, (503, bad.clone()));
    assert_eq!(
        ask(&web, "GET", "/health?exclude=CORRUPT").await,
        (503, bad)
    );
    assert_eq!(ask(&web, "GET", "/health?exclude=NOSPACE").await.0, 200);
    assert_eq!(ask(&web, "GET", "/readyz").await.0, 200);
}

#[tokio::test]
async fn damage_makes_the_node_unready_and_the_check_is_named() {
    let web = web(Patient {
        alarms: vec![AlarmKind::Corrupt],
        ..Patient::default()
    });
    let (status, body) = ask(&web, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        body.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"),
        "{body}"
    );
    assert!(body.contains("[+]linearizable_read ok\n"), "{body}");
    assert_eq!(
        ask(&web, "GET", "/readyz?exclude=data_corruption&exclude=none")
            .await
            .0,
        200
    );
    assert_eq!(ask(&web, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn node_without_leader_lives_but_is_not_ready() {
    let web = web(Patient {
        has_leader: false,
        current: failure("etcdserver: request timed out"),
        ..Patient::default()
    });
    let (status, body) = ask(&web, "GET", "/health").await;
    assert_eq!((status, body.contains("RAFT NO LEADER")), (503, true));
    assert_eq!(ask(&web, "GET", "/health?serializable=true").await.0, 200);
    assert_eq!(ask(&web, "GET", "/livez").await.0, 200);
    let (status, body) = ask(&web, "GET", "/readyz").await;
    assert_eq!((status, body.contains("request timed out")), (503, true));
}

#[tokio::test]
async fn read_that_fails_is_told_with_its_reason() {
    let dead = web(Patient {
        here: failure("etcdserver: \"x\""),
        ..Patient::default()
    });
    assert_eq!(ask(&dead, "GET", "/livez").await.0, 503);
    let (_, body) = ask(&dead, "GET", "/health?serializable=true").await;
    assert_eq!(
        body,
        "{\"health\":\"false\",\"reason\":\"RANGE ERROR:etcdserver: \\\"x\\\"\"}\n"
    );
    let stuck = web(Patient {
        current: failure("timed out"),
        ..Patient::default()
    });
    let (status, body) = ask(&stuck, "GET", "/readyz/linearizable_read").await;
    assert_eq!(
        (status, body.as_str()),
        (503, "[-]linearizable_read failed: timed out\n\n")
    );
}

#[tokio::test]
async fn metrics_show_the_state_and_count_what_was_asked() {
    let web = web(Patient::default());
    ask(&web, "GET", "/health").await;
    ask(&web, "GET", "/livez").await;
    let (status, body) = ask(&web, "GET", "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "etcd_debugging_mvcc_current_revision 7",
        "etcd_server_has_leader 1",
        "etcd_server_health_success 1",
        "etcd_server_healthcheck{type=\"livez\",name=\"serializable_read\"} 1",
    ] {
        assert!(body.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused() {
    let web = web(Patient::default());
    for path in ["/", "/nope", "/readyz/nope", "/health/", "/v2/keys"] {
        assert_eq!(
            ask(&web, "GET", path).await,
            (404, "404 page not found\n".to_owned())
        );
    }
    for path in [
        "/health",
        "/livez",
        "/readyz/non_learner",
        "/metrics",
        "/version",
    ] {
        let wrong = (405, "Method Not Allowed\n".to_owned());
        assert_eq!(ask(&web, "POST", path).await, wrong, "{path}");
    }
    assert_eq!(ask(&web, "OPTIONS", "/health").await, (200, String::new()));
}

#[tokio::test]
async fn several_requests_share_a_connection() {
    let web = web(Patient::default());
    let twice = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n\
                  GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = exchange(&web, twice).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[tokio::test]
async fn noise_and_an_endless_head_are_answered_and_closed() {
    let web = web(Patient::default());
    let text = exchange(&web, b"\x16\x03\x01 what is this\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    let mut long = b"GET /health HTTP/1.1\r\nX: ".to_vec();
    long.resize(100 * 1024, b'a');
    let text = exchange(&web, &long).await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn client_that_never_finishes_its_head_is_closed() {
    let web = web(Patient::default());
    let text = exchange(&web, b"GET /health HT").await;
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 408"),
        "{text}"
    );
}

#[tokio::test]
async fn stop_ends_an_idle_connection() {
    let (_near, far) = tokio::io::duplex(1024);
    web(Patient::default())
        .serve(far, std::future::ready(()))
        .await;
}
