//! A site and its broker that are killed again and again while rows are published.
//!
//! What is promised: a row that the broker has counts, whoever is killed, and it counts no more often than the broker
//! sent it. A broker keeps sessions on its disk, and this one, mosquitto, acknowledges a message before it writes it
//! down: what it had acknowledged and not written when it was killed is gone, and nobody's promise. What it had sent
//! and not heard of when somebody was killed it sends again. Each row has a topic of its own, so that the broker's log
//! says how often that was.
//!
//! By hand, for longer: `HOLM_KILLS=200 cargo test -p holm-process-tests --test streams_broker -- --nocapture`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use holm_base::Prng;
use holm_process_tests::http::Connection;
use holm_process_tests::ports::Ports;
use holm_process_tests::server::installed;
use holm_process_tests::{Program, Server, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);
/// A row that is none of those that are counted.
const EARLY: u64 = u64::MAX >> 1;
/// Rows that are published before their acknowledgements are awaited.
const BURST: u64 = 8;

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A broker that writes down what it holds whenever that changes.
struct Broker {
    child: Option<Child>,
    folder: TempDir,
    ports: Ports,
}

impl Broker {
    fn start() -> Result<Self> {
        let mut broker = Self {
            child: None,
            folder: TempDir::with_prefix("holm-broker-")?,
            ports: Ports::hold(&[0])?,
        };
        let folder = broker.folder.path().display();
        let port = broker.at().port();
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n\
             autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 0\n\
             log_type debug\nlog_dest file {folder}/mosquitto.log\n"
        );
        fs::write(broker.file("mosquitto.conf"), text)?;
        broker.again()?;
        Ok(broker)
    }

    fn at(&self) -> SocketAddr {
        self.ports.address(0)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn again(&mut self) -> Result<()> {
        let program =
            installed("mosquitto").context("mosquitto is not installed (Debian: mosquitto)")?;
        let child = Command::new(program)
            .arg("-c")
            .arg(self.file("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        let at = self.at();
        until("the broker listens", || Ok(TcpStream::connect(at).is_ok()))
    }

    fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// When it wrote down last what it holds. It does one thing at a time: what it had acknowledged before is in that.
    fn saved(&self) -> Result<SystemTime> {
        Ok(fs::metadata(self.file("mosquitto.db"))?.modified()?)
    }
}

impl Broker {
    /// How often it sent each row.
    fn sent(&self) -> Result<BTreeMap<u64, u64>> {
        let mut sent = BTreeMap::new();
        let log = fs::read_to_string(self.file("mosquitto.log"))?;
        for line in log
            .lines()
            .filter(|line| line.contains("Sending PUBLISH to "))
        {
            let topic = line.split_once("'plant/").context("a topic")?.1;
            let n = topic.split('/').next().unwrap_or_default().parse()?;
            *sent.entry(n).or_default() += 1;
        }
        Ok(sent)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.child.is_some() {
            // It may have ended.
            drop(self.kill());
        }
    }
}

/// What is known of the rows that were published.
#[derive(Default)]
struct Ledger {
    /// Rows that were begun.
    begun: u64,
    /// In which of its lives the broker acknowledged a row, and when that was heard.
    heard: BTreeMap<u64, (usize, SystemTime)>,
    /// For each life of the broker that is over when it wrote last.
    saved: Vec<SystemTime>,
}

impl Ledger {
    /// Whether a row is the broker's, once it was killed or never was.
    fn is_owed(&self, (life, heard): (usize, SystemTime)) -> bool {
        self.saved.get(life).is_none_or(|saved| heard < *saved)
    }
}

/// Publishes rows for as long as nobody ends it, each once.
struct Publisher {
    ledger: Arc<Mutex<Ledger>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Publisher {
    fn start(at: SocketAddr) -> Self {
        let ledger = Arc::<Mutex<Ledger>>::default();
        let is_over = Arc::<AtomicBool>::default();
        let (told, over) = (Arc::clone(&ledger), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                // It ends with the broker.
                drop(publish_for_a_while(at, &told, &over));
                sleep(Duration::from_millis(5));
            }
        });
        Self {
            ledger,
            is_over,
            thread,
        }
    }

    fn end(self) -> Arc<Mutex<Ledger>> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("it does not panic");
        self.ledger
    }
}

/// A connection of a client that only publishes.
struct Line(TcpStream);

impl Line {
    fn open(at: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01p")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        ensure!(answer == [0x20, 2, 0, 0], "the broker says {answer:?}");
        Ok(Self(stream))
    }

    fn publish(&mut self, id: u8, n: u64, row: &str) -> Result<()> {
        let topic = format!("plant/{n}/task");
        let mut body = vec![0, u8::try_from(topic.len())?];
        body.extend_from_slice(topic.as_bytes());
        body.extend_from_slice(&[0, id]);
        body.extend_from_slice(row.as_bytes());
        let mut packet = vec![0x32, u8::try_from(body.len())?];
        ensure!(body.len() < 128, "its length has one byte");
        packet.append(&mut body);
        Ok(self.0.write_all(&packet)?)
    }

    fn heard(&mut self) -> Result<u8> {
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer)?;
        ensure!(answer[..3] == [0x40, 2, 0], "the broker says {answer:?}");
        Ok(answer[3])
    }
}

fn publish_for_a_while(at: SocketAddr, ledger: &Mutex<Ledger>, is_over: &AtomicBool) -> Result<()> {
    let life = hold(ledger).saved.len();
    let mut line = Line::open(at)?;
    ensure!(hold(ledger).saved.len() == life, "it is another one by now");
    while !is_over.load(Ordering::SeqCst) {
        let first = {
            let mut ledger = hold(ledger);
            ledger.begun += BURST;
            ledger.begun - BURST
        };
        for nth in 0..BURST {
            let id = u8::try_from(nth + 1)?;
            line.publish(id, first + nth, &row("10:00:00", first + nth))?;
        }
        for _ in 0..BURST {
            let nth = u64::from(line.heard()?) - 1;
            let now = SystemTime::now();
            hold(ledger).heard.insert(first + nth, (life, now));
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn row(time: &str, n: u64) -> String {
    format!("{{\"ts\":\"2026-01-05T{time}\",\"n\":{n}}}")
}

fn create(site: &Server, broker: &Broker, into: &Path) -> Result<()> {
    let (broker, into) = (broker.at(), into.display());
    let sql = format!(
        "CREATE TABLE task (ts TIMESTAMP(3), n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' HOUR) \
         WITH ('connector'='mqtt', 'url'='mqtt://{broker}', 'topic'='plant/+/task', 'format'='json'); \
         CREATE TABLE seen (n BIGINT, times BIGINT) WITH ('connector'='file', 'path'='{into}'); \
         INSERT INTO seen SELECT n, COUNT(*) AS times \
         FROM TUMBLE(TABLE task, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end, n"
    );
    let body = json!({ "name": "mq", "sql": sql }).to_string();
    let made = Connection::open(site.streams()?)?.ask("POST", "/streams", &[], body.as_bytes())?;
    ensure!(made.status == 201, "{}", made.text());
    Ok(())
}

/// Rows that the stream took, by what it says.
fn taken(site: &Server) -> Result<u64> {
    let told = Connection::open(site.streams()?)?.ask("GET", "/views", &[], b"")?;
    let told: Value = serde_json::from_slice(&told.body)?;
    Ok(told["views"][0]["figures"]["rows"].as_u64().unwrap_or(0))
}

/// How often each row counted.
fn counted(into: &Path) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(into).unwrap_or_default().lines() {
        let row: Value = serde_json::from_str(line)?;
        let of = |name: &str| row[name].as_u64().context("a row of the query");
        ensure!(
            found.insert(of("n")?, of("times")?).is_none(),
            "a result comes once: {row}"
        );
    }
    Ok(found)
}

/// Waits until the site has subscribed, and the broker will know it when it comes back.
fn subscribed(site: &Server, broker: &Broker) -> Result<()> {
    // What is published before anybody subscribed is nobody's.
    let mut first = Line::open(broker.at())?;
    until("the stream is subscribed", || {
        first.publish(1, EARLY, &row("10:00:00", EARLY))?;
        first.heard()?;
        Ok(taken(site)? > 0)
    })?;
    let subscribed = SystemTime::now();
    until("the broker has written it down", || {
        first.publish(1, EARLY, &row("10:00:00", EARLY))?;
        first.heard()?;
        Ok(broker.saved().is_ok_and(|saved| saved > subscribed))
    })?;
    Ok(())
}

/// Kills under publishing: the site, or one of both, or both at once. No row that the broker has is lost.
#[expect(
    clippy::print_stdout,
    reason = "how many rows there were is worth a line in a log"
)]
fn killed(is_broker_safe: bool) -> Result<()> {
    let said = std::env::var("HOLM_KILLS").unwrap_or_else(|_unset| "10".to_owned());
    let kills: u64 = said.parse().context("HOLM_KILLS")?;
    let folder = TempDir::with_prefix("holm-broker-rows-")?;
    let into = folder.path().join("seen.jsonl");
    let mut broker = Broker::start()?;
    let mut site = Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))?;
    create(&site, &broker, &into)?;
    subscribed(&site, &broker)?;
    let publisher = Publisher::start(broker.at());
    let mut prng = Prng::new(7);
    for _ in 0..kills {
        sleep(Duration::from_millis(50 + prng.below(900)));
        let who = if is_broker_safe { 0 } else { prng.below(3) };
        if who != 0 {
            broker.kill()?;
            let saved = broker.saved()?;
            hold(&publisher.ledger).saved.push(saved);
        }
        if who != 1 {
            site.kill()?;
        }
        sleep(Duration::from_millis(prng.below(100)));
        if who != 0 {
            broker.again()?;
        }
        if who != 1 {
            site.again()?;
        }
    }
    let ledger = publisher.end();
    let ledger = hold(&ledger);
    // It comes behind all others, and closes their window.
    let mut last = Line::open(broker.at())?;
    last.publish(1, EARLY, &row("13:00:00", EARLY))?;
    last.heard()?;
    let mut found = BTreeMap::new();
    let owed = |(_, heard): &(&u64, &(usize, SystemTime))| ledger.is_owed(**heard);
    let owed: Vec<u64> = ledger.heard.iter().filter(owed).map(|(n, _)| *n).collect();
    let mut missing = None;
    let counted = until("each row counts", || {
        found = counted(&into)?;
        missing = owed.iter().find(|n| !found.contains_key(n)).copied();
        Ok(missing.is_none())
    });
    counted.with_context(|| format!("row {missing:?} is lost\n{}", site.log()))?;
    found.remove(&EARLY);
    let strange = found.keys().find(|n| **n >= ledger.begun);
    ensure!(strange.is_none(), "nobody sent row {strange:?}");
    let twice: u64 = found.values().map(|times| times - 1).sum();
    println!(
        "{kills} kills: {} rows begun, {} acknowledged, {} of them the broker's, {} counted, {twice} again",
        ledger.begun,
        ledger.heard.len(),
        owed.len(),
        found.len(),
    );
    let sent = broker.sent()?;
    for (n, times) in &found {
        let sent = sent.get(n).copied().unwrap_or_default();
        ensure!(*times <= sent, "row {n} counts {times} times, sent {sent}");
    }
    ensure!(owed.len() > 100, "{} rows show little", owed.len());
    Ok(())
}

#[test]
fn rows_of_a_broker_survive_kills_of_the_site() -> Result<()> {
    killed(true)
}

#[test]
fn rows_of_a_broker_survive_kills_of_both() -> Result<()> {
    killed(false)
}
