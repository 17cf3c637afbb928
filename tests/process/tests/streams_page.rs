//! The page of a site in a real browser: what stands on it after an event, how long that took, and that it comes back
//! when the site does.
//!
//! By hand: `HOLM_EVENTS=200 HOLM_PICTURE=page.png cargo test -p holm-process-tests --test streams_page -- --nocapture`
//! says how long events took to the screen, and keeps a picture of the page.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use holm_process_tests::browser::{self, Browser};
use holm_process_tests::http::Connection;
use holm_process_tests::ports::Ports;
use holm_process_tests::{Program, Server, Setup, not_tested};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const WIDE: (u32, u32) = (1_280, 900);
const PHONE: (u32, u32) = (390, 844);

/// On the page: a promise of the time, in milliseconds since 1970, at which what is asked for had been drawn. A frame
/// begins once the one before is done.
const DRAWN: &str = "
window.drawn = (holds) => new Promise((done) => {
  const frames = () => requestAnimationFrame(() => requestAnimationFrame(() => done(Date.now())));
  const watcher = new MutationObserver(() => look());
  const look = () => {
    if (!holds()) return;
    watcher.disconnect();
    frames();
  };
  watcher.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
});
window.text = (at) => (document.querySelector(at) || { textContent: '' }).textContent;
window.figure = (name) => {
  const found = [...document.querySelectorAll('dl div')].find((it) => it.firstChild.textContent === name);
  return found ? found.lastChild : { textContent: '', className: '' };
};
window.rows = () => [...document.querySelectorAll('tbody tr')].map((row) => row.innerText.replaceAll('\\t', '|'));
undefined";

/// A site whose streams stay at one address.
fn site(port: u16) -> Result<Server> {
    Server::start(Setup::new(Program::Holm).with(&format!("--streams-listen=127.0.0.1:{port}")))
}

fn create(at: SocketAddr, into: &str) -> Result<()> {
    let sql = format!(
        "CREATE TABLE till (ts TIMESTAMP(3), shop INT, cents BIGINT, WATERMARK FOR ts AS ts) WITH ('connector'='http'); \
         CREATE TABLE taken (window_start TIMESTAMP(3), shop INT, cents BIGINT) WITH ('connector'='file', 'path'='{into}'); \
         INSERT INTO taken SELECT window_start, shop, SUM(cents) AS cents \
         FROM TUMBLE(TABLE till, DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, shop"
    );
    let body = json!({ "name": "taken", "sql": sql }).to_string();
    let made = Connection::open(at)?.ask("POST", "/streams", &[], body.as_bytes())?;
    ensure!(made.status == 201, "{}", made.text());
    Ok(())
}

fn second(of: u64) -> String {
    format!("2026-01-05T10:{:02}:{:02}.000", of / 60 % 60, of % 60)
}

/// What three shops took in a second.
fn rows(of: u64) -> String {
    let mut rows = String::new();
    for shop in 1..=3 {
        let cents = 1_000 * shop + (of * (shop + 3)) % 700;
        writeln!(
            rows,
            "{{\"ts\":\"{}\",\"shop\":{shop},\"cents\":{cents}}}",
            second(of)
        )
        .expect("a string takes all");
    }
    rows
}

/// Sends rows until they are taken: a site that has just begun may still bring its streams up.
fn post(at: SocketAddr, rows: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let reply =
            Connection::open(at)?.ask("POST", "/streams/taken/events", &[], rows.as_bytes())?;
        if reply.status == 200 {
            return Ok(());
        }
        let is_early = [404, 503].contains(&reply.status) && begun.elapsed() < PATIENCE;
        ensure!(is_early, "{}: {}", reply.status, reply.text());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3)
}

fn until(browser: &mut Browser, holds: &str) -> Result<Value> {
    let found = browser.evaluate(&format!("drawn(() => {holds})"));
    found.with_context(|| format!("in vain: {holds}"))
}

/// How long rows took from the POST to the screen, in milliseconds, least first.
fn measure(browser: &mut Browser, at: SocketAddr, events: u64) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for event in 1..=events {
        // It closes the window of the second before.
        let row = format!("final|{}|1|", second(event - 1).replace('T', " "));
        let look =
            format!("window.seen = drawn(() => rows().some((row) => row.startsWith('{row}')))");
        browser.evaluate(&format!("{look}; undefined"))?;
        let begun = now()?;
        post(at, &rows(event))?;
        let seen = browser.evaluate("window.seen")?;
        took.push(seen.as_f64().context("it is a time")? - begun);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn keep_picture(browser: &mut Browser, of: &str) -> Result<()> {
    let picture = browser.picture()?;
    ensure!(picture.starts_with(b"\x89PNG"), "it is a picture");
    if let Some(path) = std::env::var_os("HOLM_PICTURE") {
        let path = std::path::PathBuf::from(path);
        let name = format!("{of}-{}", path.file_name().unwrap_or_default().display());
        std::fs::write(path.with_file_name(name), picture)?;
    }
    Ok(())
}

fn start(size: (u32, u32), at: SocketAddr) -> Result<Browser> {
    let mut browser = Browser::start(size)?;
    browser.visit(&format!("http://{at}/"))?;
    let begun = Instant::now();
    while browser.evaluate("document.readyState")? != "complete"
        || browser.evaluate("location.protocol")? != "http:"
    {
        ensure!(begun.elapsed() < PATIENCE, "the page does not load");
    }
    browser.evaluate(DRAWN)?;
    Ok(browser)
}

/// Rows that are too late, and nothing behind them; also on a phone.
fn late_rows(browser: &mut Browser, at: SocketAddr) -> Result<()> {
    post(
        at,
        &(rows(0).lines().take(2).collect::<Vec<_>>().join("\n") + "\n"),
    )?;
    until(
        browser,
        "figure('late').textContent === '2' && figure('late').className === 'warn'",
    )?;
    until(
        browser,
        "document.querySelectorAll('.small rect.bar').length > 0",
    )?;
    keep_picture(browser, "wide")?;
    let mut phone = start(PHONE, at)?;
    until(&mut phone, "figure('late').textContent === '2'")?;
    let overflow = "document.documentElement.scrollWidth - innerWidth";
    let overflow = phone.evaluate(overflow)?.as_f64().context("a number")?;
    ensure!(overflow <= 0.0, "a phone shows all of its width");
    keep_picture(&mut phone, "phone")?;
    drop(phone);
    Ok(())
}

/// What is seen once the site is back, and once the stream is dropped.
fn again(browser: &mut Browser, at: SocketAddr, events: u64) -> Result<()> {
    until(browser, "text('#link') === '● live'")?;
    post(at, &rows(events + 1))?;
    let row = second(events).replace('T', " ");
    until(
        browser,
        &format!("rows().some((row) => row.startsWith('final|{row}|3|'))"),
    )?;
    let gone = Connection::open(at)?.ask("DELETE", "/streams/taken", &[], b"")?;
    ensure!(gone.status == 200, "{}: {}", gone.status, gone.text());
    until(browser, "!document.querySelector('#query-taken')")?;
    until(browser, "!document.querySelector('#none').hidden")?;
    Ok(())
}

#[test]
fn an_event_is_seen_in_a_browser() -> Result<()> {
    if browser::program().is_none() {
        not_tested("the page in a browser: chromium is not installed");
        return Ok(());
    }
    let events = match std::env::var("HOLM_EVENTS") {
        Ok(said) => said.parse().context("HOLM_EVENTS")?,
        Err(_unset) => 20,
    };
    let ports = Ports::hold(&[0])?;
    let at = ports.address(0);
    let mut server = site(at.port())?;
    let mut browser = start(WIDE, at)?;
    until(&mut browser, "text('#link') === '● live'")?;
    until(&mut browser, "!document.querySelector('#none').hidden")?;
    let folder = TempDir::with_prefix("holm-page-")?;
    create(at, &folder.path().join("out.jsonl").display().to_string())?;
    // It appears by itself.
    until(&mut browser, "text('#query-taken h2') === 'taken'")?;
    post(at, &rows(0))?;
    let took = measure(&mut browser, at, events)?;
    let (least, median, most) = (took[0], took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{events} events, from the POST to the screen: least {least:.0} ms, median {median:.0}, most {most:.0}"
    );
    let count = 3 * (events + 1);
    until(
        &mut browser,
        &format!("figure('rows in').textContent === '{count}'"),
    )?;
    until(&mut browser, "figure('late').textContent === '0'")?;
    let last = second(events - 1).replace('T', " ");
    let cents = 1_000 + ((events - 1) * 4) % 700;
    until(
        &mut browser,
        &format!("rows().includes('final|{last}|1|{cents}')"),
    )?;
    until(
        &mut browser,
        "document.querySelectorAll('.charts > section svg path.line').length >= 3",
    )?;
    late_rows(&mut browser, at)?;
    server.kill()?;
    until(
        &mut browser,
        "document.querySelector('#link').className === 'lost'",
    )?;
    server.again()?;
    again(&mut browser, at, events)?;
    let thrown = browser.thrown();
    ensure!(thrown.is_empty(), "scripts of the page throw: {thrown:?}");
    Ok(())
}
