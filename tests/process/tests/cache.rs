//! `holm cache` before a real site: what it answers is never older than its bound, whatever
//! becomes of the site and of the way there, and all that it does not answer goes home.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use holm_etcd::proto::etcdserverpb::{RangeRequest, RangeResponse};
use holm_net::{Cable, Direction, Way};
use holm_process_tests::base64::encode;
use holm_process_tests::http::Connection;
use holm_process_tests::ports::Ports;
use holm_process_tests::sites::{signal_process, until};
use holm_process_tests::{Gateway, Grpc, Program, Server, Setup, server};
use prost::Message as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

const BOUND: Duration = Duration::from_millis(400);
/// How long a machine that is busy may take for what takes no time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running cache.
struct Cache {
    child: Child,
    ports: Ports,
}

impl Cache {
    fn start(home: SocketAddr, arguments: &[&str]) -> Result<Self> {
        let ports = Ports::hold(&[0])?;
        let address = ports.address(0);
        let child = Command::new(server::locate(Program::Holm)?)
            .args(["cache", "--from", &format!("http://{home}")])
            .args(["--listen", &address.to_string(), "--staleness", "400ms"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let cache = Self { child, ports };
        until("the cache is fresh", || {
            Ok(cache.status().is_ok_and(|it| it["mode"] == "fresh"))
        })?;
        Ok(cache)
    }

    fn address(&self) -> SocketAddr {
        self.ports.address(0)
    }

    fn page(&self, path: &str) -> Result<String> {
        let mut connection = Connection::open(self.address())?;
        let reply = connection.ask("GET", path, &[], b"")?;
        ensure!(reply.status == 200, "{path}: {}", reply.status);
        Ok(String::from_utf8_lossy(&reply.body).into_owned())
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.page("/status")?)?)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // The test is over, well or not; an error here would hide its own.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A client that reads one key, content with what is at hand.
struct Reader {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

/// What a read was answered with.
#[derive(Debug)]
struct Read {
    /// The value as a number; none if there is no such key.
    value: Option<u64>,
    /// What the answer says of its age.
    age: Option<Duration>,
    revision: i64,
}

impl Reader {
    fn open(address: SocketAddr) -> Result<Self> {
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
        Ok(Self { runtime, sender })
    }

    /// The answer, or why there is none.
    fn read(&self, key: &str) -> Result<Result<Read, String>> {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, self.ask(key)).await? })
    }

    async fn ask(&self, key: &str) -> Result<Result<Read, String>> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            serializable: true,
            ..RangeRequest::default()
        };
        let head = http::Request::post("http://localhost/etcdserverpb.KV/Range")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut ready = self.sender.clone().ready().await?;
        let (answer, mut body) = ready.send_request(head, false)?;
        let message = request.encode_to_vec();
        let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len())?];
        frame.extend(message);
        body.send_data(frame.into(), true)?;
        let answer = answer.await?;
        let text = |name| answer.headers().get(name).and_then(|it| it.to_str().ok());
        if let Some(code) = text("grpc-status") {
            let why = text("grpc-message").unwrap_or_default();
            return Ok(Err(format!("{code} {why}")));
        }
        let age = text("holm-age-ms").map(str::parse).transpose()?;
        let mut body = answer.into_body();
        let mut come = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            come.extend_from_slice(&piece);
        }
        let trailers = body.trailers().await?.context("trailers end an answer")?;
        ensure!(trailers["grpc-status"] == "0", "{trailers:?}");
        let found = RangeResponse::decode(come.freeze().slice(5..))?;
        let value = found
            .kvs
            .first()
            .map(|kv| String::from_utf8(kv.value.to_vec()));
        Ok(Ok(Read {
            value: value.transpose()?.map(|it| it.parse()).transpose()?,
            age: age.map(Duration::from_millis),
            revision: found.header.context("a header")?.revision,
        }))
    }
}

fn put(home: &mut Grpc, key: &str, value: u64) -> Result<()> {
    let body =
        json!({ "key": encode(key.as_bytes()), "value": encode(value.to_string().as_bytes()) });
    let answer = home.post("kv/put", &body)?;
    ensure!(answer.is_ok(), "{answer:?}");
    Ok(())
}

/// Which value of each key was acknowledged when.
type Acknowledged = BTreeMap<String, Vec<(Instant, u64)>>;

/// A read with when it was begun.
type Reads = Vec<(String, Instant, Read)>;

/// The oldest read beyond the bound, if there is one: it shows less than was acknowledged so
/// long before it was begun.
fn too_old(reads: &Reads, writes: &Acknowledged, bound: Duration) -> Option<String> {
    reads.iter().find_map(|(key, begun, read)| {
        let writes = writes.get(key)?;
        let before = writes.iter().rev();
        let mut before = before.skip_while(|(at, _)| *at + bound >= *begun);
        let (at, least) = before.next()?;
        let shown = read.value.unwrap_or_default();
        let late = begun.duration_since(*at);
        (shown < *least).then(|| format!("{key} was {least} for {late:?} when {read:?} was read"))
    })
}

/// Writes rising values to the home until told to stop, at different paces for different keys.
fn write_on(home: SocketAddr, keys: &[&str], is_over: &AtomicBool) -> Result<Acknowledged> {
    let mut client = Grpc::open(home)?;
    let mut written = Acknowledged::new();
    for value in 1_u64.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        for (at, key) in keys.iter().enumerate() {
            if value % (1 << (2 * at)) == 0 {
                put(&mut client, key, value)?;
                let writes = written.entry((*key).to_owned()).or_default();
                writes.push((Instant::now(), value));
            }
        }
        sleep(Duration::from_millis(5));
    }
    Ok(written)
}

/// Reads keys in turn; what was refused, as text.
fn read_on(reader: &Reader, keys: &[&str], time: Duration) -> Result<(Reads, Vec<String>)> {
    let (mut reads, mut refused) = (Reads::new(), Vec::new());
    let end = Instant::now() + time;
    for key in keys.iter().cycle() {
        if Instant::now() > end {
            break;
        }
        let begun = Instant::now();
        match reader.read(key)? {
            Ok(read) => reads.push(((*key).to_owned(), begun, read)),
            Err(why) => refused.push(why),
        }
        sleep(Duration::from_millis(2));
    }
    Ok((reads, refused))
}

fn signal(server: &Server, signal: Signal) -> Result<()> {
    signal_process(u64::from(server.id().context("it runs")?), signal)
}

#[test]
fn the_judge_of_ages_finds_a_read_that_is_too_old() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let writes = BTreeMap::from([("a".to_owned(), vec![(at(0), 1), (at(100), 2)])]);
    let read = |millis, value| {
        let read = Read {
            value,
            age: None,
            revision: 1,
        };
        vec![("a".to_owned(), at(millis), read)]
    };
    assert_eq!(too_old(&read(450, Some(1)), &writes, BOUND), None);
    assert!(too_old(&read(501, Some(1)), &writes, BOUND).is_some());
    assert!(too_old(&read(401, None), &writes, BOUND).is_some());
    assert_eq!(too_old(&read(399, None), &writes, BOUND), None);
}

#[test]
fn no_read_is_older_than_the_bound_though_the_home_stops_for_a_while() -> Result<()> {
    let keys = ["often", "seldom", "rarely"];
    let home = Server::start(Setup::new(Program::Holm).in_memory())?;
    let cache = Cache::start(home.address(), &[])?;
    let (is_over, address) = (AtomicBool::new(false), home.address());
    thread::scope(|scope| {
        let writer = scope.spawn(|| write_on(address, &keys, &is_over));
        let played = || {
            let reader = Reader::open(cache.address())?;
            let (mut reads, refused) = read_on(&reader, &keys, BOUND * 8)?;
            ensure!(refused.is_empty(), "the home is there: {refused:?}");
            signal(&home, Signal::STOP)?;
            let (while_young, _) = read_on(&reader, &keys, BOUND)?;
            reads.extend(while_young);
            // For a second of silence it may be a hiccup: reads go home, and wait there.
            sleep(BOUND * 3);
            let (none, refused) = read_on(&reader, &keys, BOUND)?;
            signal(&home, Signal::CONT)?;
            ensure!(none.is_empty(), "the home has stopped: {none:?}");
            let is_said =
                |it: &String| it.starts_with("14 cache is ") && it.ends_with("bound is 400 ms");
            ensure!(
                refused.len() > 3 && refused.iter().all(is_said),
                "{refused:?}"
            );
            until("it is fresh again", || {
                Ok(cache.status()?["mode"] == "fresh")
            })?;
            let (again, _) = read_on(&reader, &keys, BOUND * 4)?;
            ensure!(again.len() > 50, "it answers again: {}", again.len());
            reads.extend(again);
            anyhow::Ok(reads)
        };
        let reads = played();
        is_over.store(true, Ordering::Relaxed);
        // Also if the play failed, or the writer would wait for ever.
        signal(&home, Signal::CONT)?;
        let writes = writer.join().expect("the writer does not panic")?;
        let reads = reads?;
        ensure!(
            too_old(&reads, &writes, BOUND).is_none(),
            "{:?}",
            too_old(&reads, &writes, BOUND)
        );
        let cached = reads.iter().filter(|(_, _, read)| read.age.is_some());
        let (cached, all) = (cached.count(), reads.len());
        ensure!(
            cached * 10 > all * 9,
            "{cached} of {all} reads were answered there"
        );
        ensure!(
            reads
                .iter()
                .all(|(_, _, read)| read.age.is_none_or(|age| age <= BOUND))
        );
        let status = cache.status()?;
        ensure!(
            status["hits"].as_u64() > Some(100) && status["gaps"] == 0,
            "{status}"
        );
        ensure!(status["updates"].as_u64() > Some(10), "{status}");
        Ok(())
    })
}

#[test]
fn a_cut_link_is_answered_with_an_age_where_that_is_wanted() -> Result<()> {
    let home = Server::start(Setup::new(Program::Holm).in_memory())?;
    let runtime = Runtime::new()?;
    let cable = runtime.block_on(Cable::lay([home.address(), home.address()]))?;
    let cache = Cache::start(cable.door(Direction::There), &["--on-cut", "serve"])?;
    let mut writer = Grpc::open(home.address())?;
    put(&mut writer, "a", 7)?;
    let reader = Reader::open(cache.address())?;
    let read = reader.read("a")?.map_err(anyhow::Error::msg)?;
    ensure!(read.value == Some(7) && read.revision == 2, "{read:?}");
    for direction in [Direction::There, Direction::Back] {
        cable.set(direction, Way::Cut);
    }
    put(&mut writer, "a", 8)?;
    sleep(BOUND * 3);
    let read = reader.read("a")?.map_err(anyhow::Error::msg)?;
    ensure!(
        read.value == Some(7),
        "it is the newest that is known: {read:?}"
    );
    ensure!(
        read.age.is_some_and(|age| age > BOUND),
        "and says so: {read:?}"
    );
    let unknown = reader.read("never read")?;
    ensure!(
        unknown
            .as_ref()
            .is_err_and(|it| it.starts_with("14 cache is ")),
        "{unknown:?}"
    );
    for direction in [Direction::There, Direction::Back] {
        cable.set(direction, Way::Open);
    }
    until("the new value is there", || {
        Ok(matches!(reader.read("a")?, Ok(Read { value: Some(8), .. })))
    })?;
    Ok(())
}

#[test]
fn all_that_a_cache_does_not_answer_goes_home() -> Result<()> {
    let home = Server::start(Setup::new(Program::Holm).in_memory())?;
    let cache = Cache::start(home.address(), &[])?;
    let mut here = Grpc::open(cache.address())?;
    put(&mut here, "a", 1)?;
    put(&mut here, "b", 2)?;
    let range = json!({ "key": encode(b"a"), "range_end": encode(b"c"), "serializable": true });
    let both = here.post("kv/range", &range)?;
    ensure!(both.body["count"] == "2", "{both:?}");
    let compare = json!([{ "key": encode(b"a"), "target": "VERSION", "version": "1" }]);
    let success = json!([{ "request_put": { "key": encode(b"a"), "value": encode(b"3") } }]);
    let txn = here.post("kv/txn", &json!({ "compare": compare, "success": success }))?;
    ensure!(txn.body["succeeded"] == true, "{txn:?}");
    let lease = here.post("lease/grant", &json!({ "TTL": "60" }))?;
    let renewed = here.post("lease/keepalive", &json!({ "ID": lease.body["ID"] }))?;
    ensure!(renewed.body["result"]["TTL"] == "60", "{renewed:?}");
    let deleted = here.post("kv/deleterange", &json!({ "key": encode(b"b") }))?;
    ensure!(deleted.body["deleted"] == "1", "{deleted:?}");
    // What it wrote itself it need not see at once; what it read before is over in time.
    until("the delete is seen", || {
        let read = here.post(
            "kv/range",
            &json!({ "key": encode(b"b"), "serializable": true }),
        )?;
        Ok(read.body.get("kvs").is_none_or(|it| it == &json!([])))
    })?;
    let fresh = here.post("kv/range", &json!({ "key": encode(b"a") }))?;
    ensure!(fresh.body["kvs"][0]["value"] == encode(b"3"), "{fresh:?}");
    let metrics = cache.page("/metrics")?;
    ensure!(metrics.contains("\nholm_cache_connected 1\n"), "{metrics}");
    Ok(())
}

/// Starts a cache of a keyspace that nobody has.
fn of_nothing(home: SocketAddr) -> Result<(Child, Ports)> {
    let ports = Ports::hold(&[0])?;
    let child = Command::new(server::locate(Program::Holm)?)
        .args(["cache", "nothing", "--from", &home.to_string()])
        .args(["--listen", &ports.address(0).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok((child, ports))
}

#[test]
fn a_cache_of_a_keyspace_that_is_not_there_ends_once_the_home_says_so() -> Result<()> {
    let mut home = Server::start(Setup::new(Program::Holm).in_memory())?;
    let address = home.address();
    let said = |child: Child| {
        let output = child.wait_with_output()?;
        ensure!(!output.status.success(), "it failed");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (child, _ports) = of_nothing(address)?;
    let why = said(child)?;
    let advice = format!("`holm keyspace list --endpoints {address}` shows all");
    ensure!(why.contains("there is no such keyspace"), "{why}");
    ensure!(why.contains(&advice), "{why}");

    // Nobody says anything: it goes on until somebody does.
    home.kill()?;
    let (mut child, ports) = of_nothing(address)?;
    until("it listens", || {
        Ok(Connection::open(ports.address(0)).is_ok())
    })?;
    sleep(BOUND * 3);
    ensure!(child.try_wait()?.is_none(), "it goes on");
    home.again()?;
    ensure!(said(child)?.contains("there is no such keyspace"));
    Ok(())
}

#[test]
fn users_are_never_passed_by() -> Result<()> {
    let home = Server::start(Setup::new(Program::Holm).in_memory())?;
    let cache = Cache::start(home.address(), &[])?;
    let mut gateway = Gateway::new(home.address());
    gateway.put("a", "1")?;
    let reader = Reader::open(cache.address())?;
    ensure!(reader.read("a")?.is_ok());
    for (path, body) in [
        ("auth/user/add", json!({ "name": "root", "password": "x" })),
        ("auth/role/add", json!({ "name": "root" })),
        ("auth/user/grant", json!({ "user": "root", "role": "root" })),
        ("auth/enable", json!({})),
    ] {
        let answer = gateway.post(path, &body)?;
        ensure!(answer.is_ok(), "{path}: {answer:?}");
    }
    let enabled = Instant::now();
    until("nobody is answered without a login", || {
        Ok(reader.read("a")?.is_err())
    })?;
    ensure!(
        enabled.elapsed() < BOUND + PATIENCE / 10,
        "{:?}",
        enabled.elapsed()
    );
    until("the cache says why", || {
        let status = cache.status()?;
        let why = status["refusal"].as_str().unwrap_or_default();
        Ok(status["is_pass_through"] == true && why.starts_with("users are enforced"))
    })?;
    let refused = reader.read("a")?;
    ensure!(
        refused
            .as_ref()
            .is_err_and(|it| it.starts_with("3 etcdserver: user name is empty")),
        "{refused:?}"
    );
    Ok(())
}
