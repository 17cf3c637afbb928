//! Bad input and bad surroundings: each gets a clear answer that says what to do, and what was
//! acknowledged before is there afterwards.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::base64::encode;
use holm_process_tests::foreign::Certificates;
use holm_process_tests::ports::Ports;
use holm_process_tests::{Gateway, Program, Server, Setup, server};
use serde_json::json;

/// A server of ours with one acknowledged key, which must outlive everything that follows.
struct Witness {
    server: Server,
}

impl Witness {
    fn start(setup: Setup) -> Result<Self> {
        let server = Server::start(setup)?;
        Gateway::new(server.address()).put("witness", "here")?;
        Ok(Self { server })
    }

    fn gateway(&self) -> Gateway {
        Gateway::new(self.server.address())
    }

    fn still_there(&self) -> Result<()> {
        let value = self.gateway().value("witness")?;
        ensure!(
            value.as_deref() == Some("here"),
            "the acknowledged key is {value:?}"
        );
        Ok(())
    }
}

fn ours() -> Setup {
    Setup::new(Program::Holm).in_memory()
}

/// Starts and expects a refusal; gives what was said.
fn refused(setup: Setup, prepare: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let mut server = Server::prepare(setup)?;
    prepare(&server.data())?;
    server.begin()?;
    refusal(&mut server)
}

fn refusal(server: &mut Server) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = server.ended()? {
            ensure!(
                !status.success(),
                "it ended as if all were well:\n{}",
                server.log()
            );
            return Ok(server.log());
        }
        sleep(Duration::from_millis(10));
    }
    anyhow::bail!("it was not refused:\n{}", server.log())
}

#[test]
fn an_oversized_request_is_refused_in_etcds_words() {
    let witness = Witness::start(ours()).unwrap();
    let value = "x".repeat(2 << 20);
    let body = json!({"key": encode(b"big"), "value": encode(value.as_bytes())});
    let answer = witness.gateway().post("kv/put", &body).unwrap();
    assert!(!answer.is_ok(), "two mebibytes were taken");
    assert_eq!(answer.message(), "etcdserver: request is too large");
    witness.still_there().unwrap();
}

#[test]
fn malformed_requests_are_refused_and_the_node_goes_on() {
    let witness = Witness::start(ours()).unwrap();
    for body in [
        "",
        "{",
        "[]",
        "{\"key\": 7}",
        "{\"key\": \"%%%\"}",
        "\u{0}\u{0}",
    ] {
        let answer = witness
            .gateway()
            .ask("POST", "/v3/kv/put", body.as_bytes())
            .unwrap();
        assert!((400..500).contains(&answer.status), "{body:?}: {answer:?}");
    }
    for noise in [
        &b"\x00\x01\x02\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage garbage",
    ] {
        let mut stream = TcpStream::connect(witness.server.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(8)))
            .unwrap();
        stream.write_all(noise).unwrap();
        let mut answer = Vec::new();
        // Whether it answers or only closes, the connection must come to an end or stay idle.
        stream.read_to_end(&mut answer).ok();
    }
    witness.still_there().unwrap();
}

#[test]
fn half_open_connections_keep_nobody_out() {
    let witness = Witness::start(ours()).unwrap();
    let mut idle = Vec::new();
    for count in 0..200 {
        let mut stream = TcpStream::connect(witness.server.address()).unwrap();
        if count % 2 == 0 {
            stream
                .write_all(b"POST /v3/kv/put HTTP/1.1\r\nContent-Le")
                .unwrap();
        }
        idle.push(stream);
    }
    witness.still_there().unwrap();
    drop(idle);
    witness.still_there().unwrap();
}

fn enable_auth(gateway: &mut Gateway) -> Result<()> {
    let calls = [
        ("auth/user/add", json!({"name": "root", "password": "pw"})),
        ("auth/user/grant", json!({"user": "root", "role": "root"})),
        ("auth/enable", json!({})),
    ];
    // The role root exists by itself, or is made here.
    gateway.post("auth/role/add", &json!({"name": "root"}))?;
    for (path, body) in calls {
        let answer = gateway.post(path, &body)?;
        ensure!(answer.is_ok(), "{path}: {}", answer.body);
    }
    Ok(())
}

fn login(gateway: &mut Gateway, password: &str) -> Result<holm_process_tests::Answer> {
    gateway.post(
        "auth/authenticate",
        &json!({"name": "root", "password": password}),
    )
}

#[test]
fn wrong_passwords_and_expired_tokens_are_told_apart() {
    let witness = Witness::start(ours().with("--auth-token-ttl=1")).unwrap();
    let mut gateway = witness.gateway();
    enable_auth(&mut gateway).unwrap();
    let wrong = login(&mut gateway, "guess").unwrap();
    assert_eq!(
        wrong.message(),
        "etcdserver: authentication failed, invalid user ID or password"
    );
    let token = login(&mut gateway, "pw").unwrap().body["token"]
        .as_str()
        .unwrap()
        .to_owned();
    gateway.authorize(Some(token));
    assert_eq!(gateway.value("witness").unwrap().as_deref(), Some("here"));
    let range = json!({"key": encode(b"witness")});
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut expired = gateway.post("kv/range", &range).unwrap();
    while expired.is_ok() && Instant::now() < deadline {
        // Each use lengthens the token's life, so that it must be left alone for longer than that.
        sleep(Duration::from_millis(3_500));
        expired = gateway.post("kv/range", &range).unwrap();
    }
    assert_eq!(expired.message(), "etcdserver: invalid auth token");
    gateway.authorize(None);
    let token = login(&mut gateway, "pw").unwrap().body["token"]
        .as_str()
        .unwrap()
        .to_owned();
    gateway.authorize(Some(token));
    assert_eq!(gateway.value("witness").unwrap().as_deref(), Some("here"));
}

#[test]
fn bad_certificates_are_named() {
    let good = Certificates::make("localhost").unwrap();
    let other = Certificates::make("localhost").unwrap();
    let with = |certificate: &Path, key: &Path| {
        let mut setup = ours();
        setup.tls = Some((certificate.to_owned(), key.to_owned()));
        refused(setup, |_| Ok(())).unwrap()
    };
    let missing = with(&good.folder().join("gone.crt"), &good.key);
    assert!(missing.contains("gone.crt"), "{missing}");
    let swapped = with(&good.key, &good.certificate);
    assert!(
        swapped.contains("node.key") || swapped.contains("node.crt"),
        "{swapped}"
    );
    let mismatched = with(&good.certificate, &other.key);
    assert!(
        mismatched.contains("node.crt") || mismatched.contains("node.key"),
        "{mismatched}"
    );
}

#[test]
fn a_listener_off_loopback_demands_tls() {
    let said = refused(ours().with("--listen=0.0.0.0:0"), |_| Ok(())).unwrap();
    assert!(said.contains("--cert-file"), "{said}");
}

/// etcd's own files lie beside ours in a data directory and mean nothing to us.
#[test]
fn a_directory_of_another_program_is_refused_and_left_alone() {
    let said = refused(ours(), |data| {
        fs::create_dir_all(data.join("member/wal"))?;
        Ok(fs::write(data.join("member/wal/0.wal"), b"etcd's own")?)
    })
    .unwrap();
    assert!(
        said.contains("member") && said.contains("empty directory"),
        "{said}"
    );
}

#[test]
fn a_directory_that_is_a_file_is_refused() {
    let said = refused(ours(), |data| Ok(fs::write(data, b"a file")?)).unwrap();
    assert!(said.contains("is not a directory"), "{said}");
}

#[test]
fn two_nodes_on_one_directory_are_told_so() {
    let witness = Witness::start(ours()).unwrap();
    let mut second = Command::new(server::locate(Program::Holm).expect("holm is built"));
    let data = witness.server.data();
    second
        .arg("up")
        .arg(format!("--data-dir={}", data.display()));
    second.args([
        "--listen=127.0.0.1:0",
        "--peer=127.0.0.1:0",
        "--console=127.0.0.1:0",
    ]);
    let output = second.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    let id = witness.server.id().unwrap().to_string();
    assert!(!output.status.success() && said.contains(&id), "{said}");
    witness.still_there().unwrap();
}

#[test]
fn a_port_in_use_is_named() {
    let witness = Witness::start(ours()).unwrap();
    let address = witness.server.address().to_string();
    let said = refused(ours().with(&format!("--listen={address}")), |_| Ok(())).unwrap();
    assert!(said.contains(&address), "{said}");
    witness.still_there().unwrap();
}

#[test]
fn few_file_descriptors_pause_accepting_and_lose_nothing() {
    let mut setup = ours();
    let limit = ["sh", "-c", "ulimit -n 96; exec \"$@\"", "sh"];
    setup.wrapper = limit.map(str::to_owned).to_vec();
    let witness = Witness::start(setup).unwrap();
    let address = witness.server.address();
    let crowd: Vec<_> = (0..150)
        .map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(2)))
        .collect();
    sleep(Duration::from_millis(300));
    drop(crowd);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut answered = witness.still_there();
    while answered.is_err() && Instant::now() < deadline {
        sleep(Duration::from_millis(200));
        answered = witness.still_there();
    }
    answered.context("after the crowd had gone").unwrap();
}

/// The clock cannot be set back here without setting it back for everybody. What the wall
/// clock could reach is on disk: files from the future. A restart must not mind them.
#[test]
fn files_from_the_future_do_not_matter() {
    let mut witness = Witness::start(ours()).unwrap();
    witness.server.stop().unwrap();
    let data = witness.server.data();
    let status = Command::new("find")
        .arg(&data)
        .args(["-exec", "touch", "-d", "2099-01-01", "{}", "+"])
        .status();
    assert!(status.unwrap().success());
    witness.server.again().unwrap();
    witness.still_there().unwrap();
    witness.gateway().put("after", "1").unwrap();
}

#[test]
fn a_polite_stop_is_quick_and_a_restart_finds_everything() {
    let mut witness = Witness::start(Setup::new(Program::Holm)).unwrap();
    for count in 0..200 {
        witness.gateway().put(&format!("k{count}"), "v").unwrap();
    }
    let start = Instant::now();
    let status = witness.server.stop().unwrap();
    assert!(status.success(), "{status}");
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    witness.server.again().unwrap();
    witness.still_there().unwrap();
    assert_eq!(
        witness.gateway().value("k199").unwrap().as_deref(),
        Some("v")
    );
}

/// What `holm` says to these words; it must end with exit code 1.
fn client_error(words: &[&str]) -> String {
    let mut command = Command::new(server::locate(Program::Holm).expect("holm is built"));
    let output = command.args(words).output().expect("holm starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
    said
}

#[test]
fn clients_are_told_what_to_do() {
    // Nobody else can have a port that is held, and nobody listens there.
    let held = Ports::hold(&[0]).unwrap();
    let nobody = held.address(0).to_string();
    for (words, parts) in [
        (
            vec!["get", "a", "--endpoints", &nobody],
            vec!["cannot reach", "`holm up`"],
        ),
        (
            vec!["status", "--endpoint", &nobody],
            vec!["cannot reach", &nobody],
        ),
        (
            vec!["get", "a", "--endpoints", "nonsense"],
            vec!["nonsense", "host:port"],
        ),
        (
            vec!["get", "a", "--endpoints", "127.0.0.1:x"],
            vec!["host:port"],
        ),
    ] {
        let said = client_error(&words);
        assert!(
            parts.iter().all(|it| said.contains(it)),
            "{words:?}: {said}"
        );
    }
    let witness = Witness::start(ours()).unwrap();
    let here = witness.server.address().to_string();
    let said = client_error(&["get", "witness", "--revision", "99", "--endpoints", &here]);
    assert!(
        said.contains("get: ") && said.contains("`holm status` shows"),
        "{said}"
    );
    let big = "x".repeat(100_000);
    let many: Vec<&str> = ["put", "a", &big, "--endpoints", &here].to_vec();
    assert!(
        Command::new(server::locate(Program::Holm).unwrap())
            .args(many)
            .status()
            .unwrap()
            .success()
    );
    witness.still_there().unwrap();
}

/// Somebody answers at the port, and is no node.
#[test]
fn a_port_of_another_program_is_recognised() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            .unwrap();
        // It reads until the client leaves, so that nothing is reset under the answer.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    let said = client_error(&["get", "a", "--endpoints", &address]);
    assert!(said.contains("HTTP/2"), "{said}");
    other.join().unwrap();
}

#[test]
fn clients_are_told_what_is_wrong_with_a_certificate() {
    let good = Certificates::make("localhost").unwrap();
    let expired = Certificates::with("localhost", &["localhost", "127.0.0.1"], 2020).unwrap();
    let elsewhere = Certificates::with("elsewhere", &["node.example"], 4096).unwrap();
    for (certificates, authority, part) in [
        (&expired, Some(&expired.authority), "has expired"),
        (&elsewhere, Some(&elsewhere.authority), "for another name"),
        (&good, Some(&expired.authority), "not the authority"),
        (&good, None, "--cacert"),
    ] {
        let mut setup = ours();
        setup.tls = Some((certificates.certificate.clone(), certificates.key.clone()));
        let server = Server::start(setup).unwrap();
        let url = format!("https://{}", server.address());
        let mut words = vec!["get", "a", "--endpoints", &url];
        let authority = authority.map(|it| it.display().to_string());
        if let Some(authority) = &authority {
            words.extend(["--cacert", authority]);
        }
        let said = client_error(&words);
        assert!(said.contains(part), "{part}: {said}");
        let log = server.log();
        assert_eq!(log.contains("renew it"), part == "has expired", "{log}");
    }
}

/// A node that was stopped, and what is done to its directory before it is started again.
fn spoiled(spoil: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let mut witness = Witness::start(ours())?;
    witness.server.stop()?;
    spoil(&witness.server.data())?;
    witness.server.begin()?;
    refusal(&mut witness.server)
}

#[test]
fn a_directory_of_another_release_is_named() {
    let said = spoiled(|data| {
        let mut bytes = fs::read(data.join("identity"))?;
        bytes[8] = 2;
        Ok(fs::write(data.join("identity"), bytes)?)
    })
    .unwrap();
    assert!(
        said.contains("format 2") && said.contains("reads 1"),
        "{said}"
    );
}

#[test]
fn a_directory_without_its_identity_is_told_from_a_foreign_one() {
    let said = spoiled(|data| Ok(fs::remove_file(data.join("identity"))?)).unwrap();
    assert!(said.contains("`identity` is missing"), "{said}");
}

#[test]
fn a_log_that_is_gone_is_missed_before_anything_is_served() {
    let said = spoiled(|data| {
        fs::remove_dir_all(data.join("log"))?;
        Ok(fs::create_dir(data.join("log"))?)
    })
    .unwrap();
    assert!(said.contains("folder `log` are missing"), "{said}");
}

#[test]
fn too_few_file_descriptors_are_refused_with_what_to_do() {
    let mut setup = ours();
    let limit = ["sh", "-c", "ulimit -n 40; exec \"$@\"", "sh"];
    setup.wrapper = limit.map(str::to_owned).to_vec();
    let said = refused(setup, |_| Ok(())).unwrap();
    assert!(
        said.contains("ulimit -n") && said.contains("LimitNOFILE"),
        "{said}"
    );
}

/// As root no permission is refused, so root becomes somebody else first.
#[test]
fn a_directory_that_may_not_be_used_is_named_with_who_may_not() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), open_to_all).unwrap();
    let binary = folder.path().join("holm");
    fs::copy(server::locate(Program::Holm).unwrap(), &binary).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    let words = [
        "up",
        "--listen=127.0.0.1:0",
        "--peer=127.0.0.1:0",
        "--console=none",
    ];
    let output = command
        .args(words)
        .arg(format!("--data-dir={}", data.display()))
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let name = data.display().to_string();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains(&name) && said.contains("own the directory"),
        "{said}"
    );
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}
