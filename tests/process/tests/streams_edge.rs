//! What goes in and what is seen of streams: events by HTTP and from a real MQTT broker, the page's events, `top`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use holm_process_tests::http::Connection;
use holm_process_tests::server::{installed, locate};
use holm_process_tests::{Program, Server, Setup};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

fn until(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A site that runs streams, and where they are served.
fn site() -> Result<Server> {
    Server::start(Setup::new(Program::Holm).with("--streams-listen=127.0.0.1:0"))
}

fn create(at: SocketAddr, name: &str, (options, into): (&str, &Path)) -> Result<()> {
    let into = into.display();
    let sql = format!(
        "CREATE TABLE ev (ts TIMESTAMP(3), k INT NOT NULL, WATERMARK FOR ts AS ts) WITH ({options}, 'format'='json'); \
         CREATE TABLE rows_out (window_start TIMESTAMP(3), k INT, n BIGINT) WITH ('connector'='file', 'path'='{into}'); \
         INSERT INTO rows_out SELECT window_start, k, COUNT(*) AS n \
         FROM TUMBLE(TABLE ev, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, k"
    );
    let mut command = Command::new(locate(Program::Holm)?);
    command.args([
        "stream",
        "create",
        name,
        "--sql",
        &sql,
        "--at",
        &at.to_string(),
    ]);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn row(second: u32, k: u32) -> String {
    format!("{{\"ts\":\"2026-01-05T10:00:{second:02}\",\"k\":{k}}}\n")
}

#[test]
fn events_by_http_are_answered_for_what_they_are() -> Result<()> {
    let folder = TempDir::with_prefix("holm-edge-")?;
    let into = folder.path().join("out.jsonl");
    let server = site()?;
    let at = server.streams()?;
    create(at, "push", ("'connector'='http'", &into))?;
    let mut client = Connection::open(at)?;
    let list = format!("[{},{}]", row(0, 1).trim(), row(2, 1).trim());
    let bad = row(3, 1) + "{\"ts\":\"2026-01-05T10:00:03\",\"k\":\"x\"}\n";
    let path = "/streams/push/events";
    for (headers, body, status, word) in [
        (vec![], list.as_str(), 200, "durable"),
        (vec![], bad.as_str(), 400, "line 2, k: \"x\" is not INT"),
        (
            vec![("idempotency-key", "")],
            list.as_str(),
            400,
            "1 to 256 bytes",
        ),
        (
            vec![("origin", "http://elsewhere")],
            list.as_str(),
            403,
            "another origin",
        ),
    ] {
        let reply = client.ask("POST", path, &headers, body.as_bytes())?;
        ensure!(
            reply.status == status && reply.text().contains(word),
            "{}",
            reply.text()
        );
    }
    let missing = client.ask("POST", "/streams/other/events", &[], b"")?;
    ensure!(missing.status == 404, "{}", missing.text());
    until("the window of what was taken is out", || {
        let found = std::fs::read_to_string(&into).unwrap_or_default();
        Ok(found == "{\"window_start\":\"2026-01-05T10:00:00.000\",\"k\":1,\"n\":1}\n")
    })
}

/// A client that heard nothing sends again, before and after a crash: its rows count once.
#[test]
fn a_post_that_is_sent_again_counts_once() -> Result<()> {
    let folder = TempDir::with_prefix("holm-edge-")?;
    let into = folder.path().join("out.jsonl");
    let mut server = site()?;
    create(server.streams()?, "push", ("'connector'='http'", &into))?;
    let post = |server: &Server, key: &str, body: &str| {
        let mut client = Connection::open(server.streams()?)?;
        let headers = [("idempotency-key", key)];
        client.ask("POST", "/streams/push/events", &headers, body.as_bytes())
    };
    let same = row(0, 1) + &row(0, 1);
    let mut first = None;
    until("the stream has come up", || {
        let reply = post(&server, "a", &same)?;
        let is_up = reply.status != 503;
        first = is_up.then_some(reply);
        Ok(is_up)
    })?;
    let first = first.context("it was answered")?;
    ensure!(first.text() == "durable\n", "{}", first.text());
    let second = post(&server, "a", &same)?;
    ensure!(second.status == 200 && second.text().contains("sent before"));
    let other = post(&server, "a", &row(0, 1))?;
    ensure!(other.status == 422 && other.text().contains("other rows"));
    server.kill()?;
    server.again()?;
    let mut third = None;
    until("the stream has come back", || {
        let reply = post(&server, "a", &same)?;
        // Whoever comes too early is told when to come again.
        let is_back = reply.status != 503 && reply.status != 404;
        third = is_back.then_some(reply);
        Ok(is_back)
    })?;
    let third = third.context("it was answered")?;
    ensure!(
        third.status == 200 && third.text().contains("sent before"),
        "{}",
        third.text()
    );
    let other = post(&server, "a", &row(0, 1))?;
    ensure!(other.status == 422, "{}", other.text());
    ensure!(post(&server, "b", &row(2, 1))?.text() == "durable\n");
    until("the first window is out", || {
        let found = std::fs::read_to_string(&into).unwrap_or_default();
        Ok(found == "{\"window_start\":\"2026-01-05T10:00:00.000\",\"k\":1,\"n\":2}\n")
    })?;
    let long = vec![b' '; (8 << 20) + 1];
    let mut client = Connection::open(server.streams()?)?;
    let reply = client.ask("POST", "/streams/push/events", &[], &long)?;
    ensure!(reply.status == 413, "{}", reply.text());
    until("top shows what is kept", || {
        let top = Command::new(locate(Program::Holm)?)
            .args(["stream", "top", "--once", "--json", "--at"])
            .arg(server.streams()?.to_string())
            .output()?;
        let top: Value = serde_json::from_slice(&top.stdout)?;
        let figures = &top["views"][0]["figures"];
        let is_true = figures["panes"] == 1 && figures["keys"] == 1 && figures["logged_rows"] == 1;
        Ok(is_true && figures["busy_ns"].as_u64() > Some(0))
    })
}

#[test]
fn a_post_as_long_as_may_be_counts_once_through_a_kill() -> Result<()> {
    let folder = TempDir::with_prefix("holm-edge-")?;
    let into = folder.path().join("out.jsonl");
    let mut server = site()?;
    create(server.streams()?, "push", ("'connector'='http'", &into))?;
    let post = |server: &Server, body: &str| {
        let mut client = Connection::open(server.streams()?)?;
        client.ask("POST", "/streams/push/events", &[], body.as_bytes())
    };
    let count = (8 << 20) / row(0, 1).len();
    let long = row(0, 1).repeat(count);
    until("the stream has come up", || {
        Ok(post(&server, &long)?.text() == "durable\n")
    })?;
    server.kill()?;
    server.again()?;
    until("the stream has come back", || {
        Ok(post(&server, &row(2, 1))?.text() == "durable\n")
    })?;
    let expected =
        format!("{{\"window_start\":\"2026-01-05T10:00:00.000\",\"k\":1,\"n\":{count}}}\n");
    until("the first window is out", || {
        Ok(std::fs::read_to_string(&into).unwrap_or_default() == expected)
    })
}

/// A broker of Debian's, on a port of its own, on loopback alone.
struct Broker {
    child: Child,
    port: String,
    /// What a client says besides.
    proof: Vec<String>,
}

impl Broker {
    fn start() -> Result<Self> {
        let port = free_port()?;
        Self::run(&["-p", &port], &port, Vec::new())
    }

    /// One that speaks TLS alone, with a certificate that was made for it, and knows one user.
    fn secure(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let file = |name: &str| folder.join(name).display().to_string();
        let mut of = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        of.subject_alt_names
            .push(rcgen::SanType::IpAddress("127.0.0.1".parse()?));
        let key = rcgen::KeyPair::generate()?;
        let certificate = of.self_signed(&key)?.pem();
        let other = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        let other = other.self_signed(&rcgen::KeyPair::generate()?)?.pem();
        std::fs::write(file("broker.pem"), certificate)?;
        std::fs::write(file("broker.key"), key.serialize_pem())?;
        std::fs::write(file("other.pem"), other)?;
        std::fs::write(file("secret"), "s3cret word\n")?;
        let made = Command::new(installed("mosquitto_passwd").context("it comes with mosquitto")?)
            .args(["-c", "-b", &file("users"), "plant", "s3cret word"])
            .output()?;
        ensure!(made.status.success(), "the user is made");
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\ncertfile {}\nkeyfile {}\nallow_anonymous false\npassword_file {}\n",
            file("broker.pem"),
            file("broker.key"),
            file("users")
        );
        std::fs::write(file("mosquitto.conf"), text)?;
        let words = [
            "-h",
            "127.0.0.1",
            "--cafile",
            &file("broker.pem"),
            "-u",
            "plant",
            "-P",
            "s3cret word",
        ];
        let proof = words.map(str::to_owned).into();
        Self::run(&["-c", &file("mosquitto.conf")], &port, proof)
    }

    fn run(words: &[&str], port: &str, proof: Vec<String>) -> Result<Self> {
        let program =
            installed("mosquitto").context("mosquitto is not installed (Debian: mosquitto)")?;
        let mut command = Command::new(program);
        let child = command
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let broker = Self {
            child,
            port: port.to_owned(),
            proof,
        };
        let address = format!("127.0.0.1:{}", broker.port).parse()?;
        until("the broker listens", || {
            Ok(Connection::open(address).is_ok())
        })?;
        Ok(broker)
    }

    fn publish(&self, lines: &str) -> Result<()> {
        let program = installed("mosquitto_pub")
            .context("mosquitto_pub is not installed (Debian: mosquitto-clients)")?;
        let mut command = Command::new(program);
        command.args(["-p", &self.port, "-q", "1", "-t", "plant/a/task", "-l"]);
        command.args(&self.proof);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        child
            .stdin
            .take()
            .context("it is piped")?
            .write_all(lines.as_bytes())?;
        ensure!(child.wait()?.success(), "the broker takes messages");
        Ok(())
    }
}

fn free_port() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn messages_of_a_broker_count_through_a_kill() -> Result<()> {
    let broker = Broker::start()?;
    let folder = TempDir::with_prefix("holm-edge-")?;
    let into = folder.path().join("out.jsonl");
    let mut server = site()?;
    let options = format!(
        "'connector'='mqtt', 'url'='mqtt://127.0.0.1:{}', 'topic'='plant/+/task'",
        broker.port
    );
    create(server.streams()?, "mq", (&options, &into))?;
    let count = || {
        std::fs::read_to_string(&into)
            .unwrap_or_default()
            .lines()
            .count()
    };
    // A message before anybody subscribed is nobody's: the first is sent until it shows.
    until("the stream is subscribed", || {
        broker.publish(&(row(0, 1) + &row(1, 1)))?;
        Ok(count() > 0)
    })?;
    let messages: String = (2..12)
        .flat_map(|second| [row(second, 1), row(second, 2)])
        .collect();
    broker.publish(&messages)?;
    server.kill()?;
    // The broker keeps these for us.
    broker.publish(&(12..20).map(|second| row(second, 1)).collect::<String>())?;
    server.again()?;
    until("all windows but the last are out", || {
        let found = std::fs::read_to_string(&into).unwrap_or_default();
        let seconds = |k: u32| {
            let of = format!(",\"k\":{k},");
            found.lines().filter(|line| line.contains(&of)).count()
        };
        Ok(seconds(1) == 19 && seconds(2) == 10)
    })
}

#[test]
fn a_run_is_seen_on_its_page_and_by_top() -> Result<()> {
    let program = locate(Program::Holm)?;
    let sql = "CREATE TABLE stdin (ts TIMESTAMP(3), k INT, WATERMARK FOR ts AS ts) WITH ('connector'='stdin'); \
               SELECT window_start, k, COUNT(*) AS n FROM TUMBLE(TABLE stdin, DESCRIPTOR(ts), INTERVAL '1' SECOND) \
               GROUP BY window_start, window_end, k";
    let mut command = Command::new(&program);
    command.args(["stream", "run", "--sql", sql, "--page", "127.0.0.1:0"]);
    let mut run = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = run.stdin.take().context("it is piped")?;
    let told = BufReader::new(run.stderr.take().context("it is piped")?);
    let mut lines = told.lines();
    let line = lines.next().context("it says where its page is")??;
    let at = line
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .context("an address")?
        .to_owned();
    let address: SocketAddr = at.parse()?;
    let page = Connection::open(address)?.ask("GET", "/", &[], b"")?;
    ensure!(page.status == 200 && page.text().contains("<title>Holm streams</title>"));
    ensure!(
        !page.text().contains("://"),
        "the page needs nothing from elsewhere"
    );
    let mut events = TcpStream::connect(address)?;
    events.set_read_timeout(Some(PATIENCE))?;
    write!(events, "GET /events HTTP/1.1\r\nHost: {at}\r\n\r\n")?;
    let mut events = BufReader::new(events).lines();
    input.write_all((row(0, 1) + &row(2, 7)).as_bytes())?;
    let mut seen = String::new();
    let begun = Instant::now();
    // A window that is out, and one that is open.
    while !(seen.contains("\"n\":1}")
        && seen.contains("event: windows")
        && seen.contains("\"k\":7"))
    {
        ensure!(begun.elapsed() < PATIENCE, "{seen}");
        seen += &events.next().context("it goes on")??;
        seen.push('\n');
    }
    let mut top = Command::new(&program);
    let shown = top
        .args(["stream", "top", "--once", "--json", "--at", &at])
        .output()?;
    let shown: Value = serde_json::from_slice(&shown.stdout)?;
    ensure!(shown["views"][0]["figures"]["rows"] == 2, "{shown}");
    drop(input);
    ensure!(run.wait()?.success(), "the run ends with its input");
    let mut gone = Command::new(&program);
    let gone = gone
        .args(["stream", "top", "--once", "--at", &at])
        .output()?;
    ensure!(gone.status.code() == Some(1), "nobody answers there");
    let mut open = Command::new(&program);
    let refused = open
        .args(["stream", "run", "--sql", sql, "--page", "0.0.0.0:0"])
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        refused.status.code() == Some(2),
        "off loopback it is refused"
    );
    Ok(())
}

/// A broker behind TLS is proved by the authority that the table names, and no other will do.
#[test]
fn messages_of_a_broker_come_by_tls() -> Result<()> {
    let folder = TempDir::with_prefix("holm-edge-")?;
    let broker = Broker::secure(folder.path())?;
    let file = |name: &str| folder.path().join(name);
    let server = site()?;
    let at = server.streams()?;
    let options = |authority: &str| {
        format!(
            "'connector'='mqtt', 'url'='mqtts://127.0.0.1:{}', 'topic'='plant/+/task', 'ca'='{}', \
             'user'='plant', 'password-file'='{}'",
            broker.port,
            file(authority).display(),
            file("secret").display()
        )
    };
    create(
        at,
        "proved",
        (&options("broker.pem"), &file("proved.jsonl")),
    )?;
    create(at, "other", (&options("other.pem"), &file("other.jsonl")))?;
    let rows = |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default();
    until("the stream is subscribed", || {
        broker.publish(&(row(0, 1) + &row(1, 1)))?;
        Ok(!rows("proved.jsonl").is_empty())
    })?;
    until("the other stream says why it has nothing", || {
        let log = server.log();
        let mut lost = log.lines().filter(|line| line.contains("broker lost"));
        Ok(lost.any(|line| line.contains("other") && line.contains("certificate")))
    })?;
    ensure!(rows("other.jsonl").is_empty(), "nothing comes unproved");
    Ok(())
}

/// A page that is asked for counts once, whatever ends the site: unchanged, grown, another one.
#[test]
fn a_page_that_is_pulled_counts_once() -> Result<()> {
    let folder = TempDir::with_prefix("holm-edge-")?;
    let into = folder.path().join("out.jsonl");
    let page = Pages::serve()?;
    page.show(&(row(0, 1) + &row(0, 1)));
    let mut server = site()?;
    let options = format!(
        "'connector'='http', 'url'='http://{}/rows', 'interval'='100 ms'",
        page.at
    );
    create(server.streams()?, "pull", (&options, &into))?;
    let asked = page.asked();
    until("the page was asked for again", || {
        Ok(page.asked() > asked + 2)
    })?;
    server.kill()?;
    server.again()?;
    let asked = page.asked();
    until("the page was asked for again", || {
        Ok(page.asked() > asked + 2)
    })?;
    page.show(&(row(0, 1) + &row(0, 1) + &row(0, 1)));
    let asked = page.asked();
    until("the page was asked for again", || {
        Ok(page.asked() > asked + 2)
    })?;
    page.show(&row(5, 2));
    let expected = "{\"window_start\":\"2026-01-05T10:00:00.000\",\"k\":1,\"n\":3}\n";
    until("the first window is out", || {
        Ok(std::fs::read_to_string(&into).unwrap_or_default() == expected)
    })
}

/// A page over HTTP, and how often it was asked for.
struct Pages {
    at: SocketAddr,
    shown: std::sync::Arc<std::sync::Mutex<(String, usize)>>,
}

impl Pages {
    fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        let shown = std::sync::Arc::new(std::sync::Mutex::new((String::new(), 0)));
        let page = std::sync::Arc::clone(&shown);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut head = BufReader::new(&client);
                let mut line = String::new();
                while head.read_line(&mut line).is_ok_and(|count| count > 2) {
                    line.clear();
                }
                let body = {
                    let mut page = page.lock().expect("nobody panics here");
                    page.1 += 1;
                    page.0.clone()
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                // Whoever was killed meanwhile does not want it.
                drop(client.write_all(answer.as_bytes()));
            }
        });
        Ok(Self { at, shown })
    }

    fn show(&self, body: &str) {
        body.clone_into(&mut self.shown.lock().expect("nobody panics here").0);
    }

    fn asked(&self) -> usize {
        self.shown.lock().expect("nobody panics here").1
    }
}
