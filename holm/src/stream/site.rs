//! Streams of a site: made, shown, paused, dropped at the address where the site serves them.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Ended;
use super::output::grouped;
use crate::screen::{Screen, Table};

pub(crate) const EXAMPLES: &str = "\
Examples:
  holm up --streams-listen 127.0.0.1:2385         a site that runs streams
  holm stream create cm --file cm.sql             keeps running, whatever ends the site in between
  holm stream list
  holm stream show cm --json
  holm stream pause cm && holm stream resume cm
  holm stream verify cm                           reads its log and snapshots from the disk
  holm stream drop cm --drain                     its windows close first, then it is gone

The query declares its tables and says where rows go: CREATE TABLE ... WITH ('connector'='file', 'path'='...'),
INSERT INTO ... Several INSERTs in one text, ten at most, are one stream: one reading, one log, and common panes
where results allow it. Exit codes: 0 done; 1 it failed or is not there; 2 refused.";

/// How long an answer may take; draining takes its time.
const PATIENCE: Duration = Duration::from_secs(90);
const ANSWER_MAX: u64 = 16 << 20;

/// Where the site's streams are.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Where the site serves its streams, as its --streams-listen says
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:2385",
        env = "HOLM_STREAMS",
        hide_env_values = true
    )]
    at: String,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A stream by its name.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The stream
    name: String,
    #[command(flatten)]
    at: At,
}

/// A stream that is to be made.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What it is to be called
    name: String,
    /// The query, a file of SQL
    #[arg(long, value_name = "FILE", required_unless_present = "sql")]
    file: Option<PathBuf>,
    /// The query itself
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    sql: Option<String>,
    #[command(flatten)]
    at: At,
}

/// A stream that is to go.
#[derive(Debug, Args)]
pub(crate) struct Drop {
    /// The stream
    name: String,
    /// End its sources first, so that its windows close and their rows go to the sink
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    at: At,
}

pub(crate) fn create(asked: &Create) -> Result<u8, Ended> {
    let sql = match (&asked.sql, &asked.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| Ended::failed(format!("read {}", file.display()), error))?,
        (None, None) => String::new(),
    };
    let body = json!({ "name": asked.name, "sql": sql });
    let made = asked.at.ask("POST", "/streams", Some(&body))?;
    let promise = made["promise"].as_str().unwrap_or_default();
    let mut text = format!("{}: {promise}", asked.name);
    for line in shared(&made) {
        text += "\n";
        text += &line;
    }
    asked.at.show(&text, &made)
}

pub(crate) fn list(at: &At) -> Result<u8, Ended> {
    let answer = at.ask("GET", "/streams", None)?;
    let titles = [
        "STREAM",
        "PHASE",
        "ROWS IN",
        "LATE",
        "DIVERTED",
        "ROWS OUT",
        "WATERMARK",
    ];
    let mut table = Table::titled(&titles);
    for stream in list_of(&answer["streams"]) {
        table.row(listed(stream, stream["watermarks"][0].as_str()));
        let queries = list_of(&stream["queries"]);
        for query in queries.iter().filter(|_| queries.len() > 1) {
            table.row(listed(query, None));
        }
    }
    at.show(&table.text(), &answer)
}

fn list_of(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A line of a list: a stream, or one of several queries that share one.
fn listed(of: &Value, mark: Option<&str>) -> Vec<String> {
    let text = |name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| of[name].as_u64().map_or_else(String::new, grouped);
    vec![
        text("name"),
        text("phase"),
        number("rows_in"),
        number("late"),
        number("diverted"),
        number("rows_out"),
        mark.unwrap_or_default().to_owned(),
    ]
}

/// What the queries of a stream share, a line each.
fn shared(stream: &Value) -> Vec<String> {
    let queries = list_of(&stream["queries"]).len();
    let mut lines = Vec::new();
    if queries > 1 {
        lines.push(format!(
            "{queries} queries share one reading, one log and its snapshots"
        ));
    }
    let shares = list_of(&stream["shares"]).iter().filter_map(Value::as_str);
    lines.extend(shares.map(str::to_owned));
    lines
}

pub(crate) fn show(asked: &One) -> Result<u8, Ended> {
    let answer = asked.at.ask("GET", &asked.path(""), None)?;
    asked.at.show(&described(&answer), &answer)
}

pub(crate) fn pause(asked: &One) -> Result<u8, Ended> {
    let answer = asked.at.ask("POST", &asked.path("/pause"), None)?;
    asked
        .at
        .show(&format!("{} rests; nothing is lost", asked.name), &answer)
}

pub(crate) fn resume(asked: &One) -> Result<u8, Ended> {
    let answer = asked.at.ask("POST", &asked.path("/resume"), None)?;
    asked.at.show(&format!("{} goes on", asked.name), &answer)
}

pub(crate) fn verify(asked: &One) -> Result<u8, Ended> {
    let answer = asked.at.ask("POST", &asked.path("/verify"), None)?;
    let number = |name: &str| answer[name].as_u64().map_or_else(String::new, grouped);
    let text = format!(
        "{}: records {} to {}, {} batches, {} bytes, {} snapshots; all whole",
        asked.name,
        number("first"),
        number("last"),
        number("batches"),
        number("log_bytes"),
        number("snapshots")
    );
    asked.at.show(&text, &answer)
}

pub(crate) fn drop(asked: &Drop) -> Result<u8, Ended> {
    let query = if asked.drain { "?drain" } else { "" };
    let path = format!("/streams/{}{query}", asked.name);
    let answer = asked.at.ask("DELETE", &path, None)?;
    asked
        .at
        .show(&format!("{} is dropped", asked.name), &answer)
}

impl One {
    fn path(&self, verb: &str) -> String {
        format!("/streams/{}{verb}", self.name)
    }
}

fn described(stream: &Value) -> String {
    let text = |name: &str| stream[name].as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().map_or_else(String::new, grouped);
    let mut lines = vec![format!("{}: {}", text("name"), text("phase"))];
    if let Some(why) = stream["why"].as_str() {
        lines.push(format!("why          {why}"));
    }
    if let Some(promise) = stream["promise"].as_str() {
        let snapshot = &stream["snapshot"];
        lines.push(format!("promise      {promise}"));
        if stream["class"] == "batch" {
            lines.push("turns        batch: it yields to streams that read what comes".to_owned());
        }
        let mut title = "shared";
        for line in shared(stream) {
            lines.push(format!("{title:<12} {line}"));
            title = "";
        }
        let queries = list_of(&stream["queries"]);
        for query in queries.iter().filter(|_| queries.len() > 1) {
            lines.push(format!(
                "{:<12} {} in, {} late, {} diverted; {} out, {} with its sink",
                query["into"].as_str().unwrap_or_default(),
                number(&query["rows_in"]),
                number(&query["late"]),
                number(&query["diverted"]),
                number(&query["rows_out"]),
                number(&query["committed"])
            ));
        }
        lines.push(format!(
            "rows         {} in, {} late, {} diverted; {} out",
            number(&stream["rows_in"]),
            number(&stream["late"]),
            number(&stream["diverted"]),
            number(&stream["rows_out"])
        ));
        lines.extend(list_of(&stream["repeated"]).iter().map(repeats));
        lines.extend(list_of(&stream["passed_over"]).iter().map(passed_over));
        lines.extend(times(stream));
        lines.push(format!(
            "log          {} records, {} bytes; snapshot at {}, {} bytes",
            number(&stream["records"]),
            number(&stream["log_bytes"]),
            number(&snapshot["record"]),
            number(&snapshot["bytes"])
        ));
        lines.extend(list_of(&stream["log_points"]).iter().filter_map(logged));
        lines.push(format!(
            "came back    in {:.1} ms, {} records ran again",
            stream["recovered_ms"].as_f64().unwrap_or_default(),
            number(&stream["replayed"])
        ));
    }
    lines.push(format!(
        "query        {}",
        text("sql").trim().replace('\n', "\n             ")
    ));
    lines.join("\n")
}

/// Rows of a table that came again.
fn repeats(of: &Value) -> String {
    let number = |value: &Value| value.as_u64().map_or_else(String::new, grouped);
    format!(
        "repeats      {} of {} came again; {} are remembered, {} forgotten",
        number(&of["dropped"]),
        of["table"].as_str().unwrap_or_default(),
        number(&of["known"]),
        number(&of["forgotten"])
    )
}

/// Messages of a broker that can never be rows.
fn passed_over(of: &Value) -> String {
    format!(
        "passed over  {} of {} since it was started; the last: {}",
        of["messages"].as_u64().map_or_else(String::new, grouped),
        of["table"].as_str().unwrap_or_default(),
        of["why"].as_str().unwrap_or_default()
    )
}

/// How far it is, and who is left out of that.
fn times(stream: &Value) -> Vec<String> {
    let mark = stream["watermarks"][0].as_str().unwrap_or("none");
    let mut lines = vec![format!("watermark    {mark}")];
    let idle = list_of(&stream["idle"]).iter();
    let idle: Vec<&str> = idle.filter_map(Value::as_str).collect();
    if !idle.is_empty() {
        let idle = idle.join(", ");
        lines.push(format!(
            "idle         {idle}: left out of it until there are rows again"
        ));
    }
    lines
}

/// Where the rows of a table are logged, once that was measured.
fn logged(point: &Value) -> Option<String> {
    let bytes = point["row_bytes"].as_f64()?;
    let table = point["table"].as_str().unwrap_or_default();
    let place = match (point["behind"].as_str(), point["row_bytes_whole"].as_f64()) {
        (Some(node), Some(whole)) => {
            format!("behind its {node}: {bytes:.1} bytes a row that comes, not {whole:.1}")
        }
        _ => format!("as they came: {bytes:.1} bytes a row"),
    };
    Some(format!("LOG HERE     {table} {place}"))
}

impl At {
    fn show(&self, text: &str, json: &Value) -> Result<u8, Ended> {
        let shown = Screen::new(self.json).show(text, json);
        shown.map_err(|error| Ended::failed("write to standard output", error))?;
        Ok(0)
    }

    /// One request, one answer of JSON.
    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Ended> {
        let (status, answer) = self.exchange(method, path, body)?;
        let value: Value = serde_json::from_str(&answer).map_err(|_json| {
            let at = &self.at;
            Ended::Failed(format!(
                "{method} {path} at {at}: no streams of a site are served there"
            ))
        })?;
        match status {
            200..300 => Ok(value),
            _ => {
                let why = value["error"]
                    .as_str()
                    .unwrap_or("no reason is given")
                    .to_owned();
                Err(if status == 400 {
                    Ended::Refused(why)
                } else {
                    Ended::Failed(why)
                })
            }
        }
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String), Ended> {
        let at = &self.at;
        let failed = |error: std::io::Error| {
            Ended::Failed(format!(
                "reach the streams at {at}: {error}; start the site with `holm up --streams-listen {at}`, or name \
                 another address with --at"
            ))
        };
        let address = at.to_socket_addrs().map_err(failed)?.next();
        let address =
            address.ok_or_else(|| Ended::Refused(format!("--at {at}: it has no address")))?;
        let mut stream =
            TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        let body = body.map(ToString::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all((head + &body).as_bytes())
            .map_err(failed)?;
        let mut bytes = Vec::new();
        stream
            .take(ANSWER_MAX)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.unwrap_or(0), body.to_owned()))
    }
}
