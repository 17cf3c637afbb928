//! Log lines: for people, or one JSON object a line with the keys that etcd's collectors read.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line: `level`, `ts`, `caller`, `msg`, then the event's fields.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// etcd's level names (`debug info warn error dpanic panic fatal`), or a filter such as
    /// `info,holm_net=debug`. Empty is `info`.
    pub level: String,
}

/// Why logging does not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(
        "log level {level:?} is not one of debug, info, warn, error, dpanic, panic, fatal and no \
         filter"
    )]
    Level {
        /// What was asked for.
        level: String,
        /// What is wrong with it as a filter.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("begin to log: this process logs already")]
    Twice {
        /// What the library says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Sends the process's log to standard error from now on. Call it once.
///
/// # Errors
///
/// [`LogError`] if the level makes no sense or the process logs already.
pub fn log_to_stderr(config: &LogConfig) -> Result<(), LogError> {
    let filter = filter(&config.level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let begun = match config.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.with_ansi(false).event_format(JsonLine).try_init(),
    };
    begun.map_err(|source| LogError::Twice { source })
}

/// The filter that a level name or directive means.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let directive = match level {
        "" => "info",
        "dpanic" | "panic" | "fatal" => "error",
        other => other,
    };
    EnvFilter::builder()
        .parse(directive)
        .map_err(|source| LogError::Level {
            level: level.to_owned(),
            source,
        })
}

/// Writes an event as zap does for etcd.
#[derive(Debug)]
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        writeln!(writer, "{}", line(event, &time))
    }
}

/// One line, without its end.
fn line(event: &Event<'_>, time: &str) -> String {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let caller = caller(
        metadata.file().unwrap_or_default(),
        metadata.line().unwrap_or_default(),
    );
    let mut text = format!(
        "{{\"level\":\"{}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}",
        level_name(*metadata.level()),
        Value::from(caller),
        Value::from(fields.message),
    );
    for (name, value) in &fields.others {
        text.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
    }
    text.push('}');
    text
}

/// Zap's names; it has no trace.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The last folder and file, and the line.
fn caller(file: &str, line: u32) -> String {
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    format!("{}:{line}", &file[start..])
}

/// Collects an event's fields.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn note(&mut self, field: &Field, value: Value) {
        // A field may not take the place of one of the line's own keys.
        let name = match field.name() {
            own @ ("level" | "ts" | "caller" | "msg") => format!("{own}_"),
            other => other.to_owned(),
        };
        self.others.insert(name, value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.note(field, Value::from(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.note(field, Value::from(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.note(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .event_format(JsonLine)
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_line_has_etcds_keys_in_etcds_order() {
        let text = logged(|| {
            tracing::info!(
                address = "127.0.0.1:2379",
                count = 3,
                "ready to serve client requests"
            );
        });
        assert!(
            text.starts_with("{\"level\":\"info\",\"ts\":\"20"),
            "{text}"
        );
        let at = |key: &str| text.find(key).unwrap_or_else(|| panic!("{key} in {text}"));
        assert!(at("\"ts\":") < at("\"caller\":\"src/log.rs:"));
        assert!(at("\"caller\":") < at(",\"msg\":\"ready to serve client requests\""));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["count"], &line["address"]),
            (&3.into(), &"127.0.0.1:2379".into())
        );
    }

    #[test]
    fn json_line_survives_hostile_text_and_clashing_names() {
        let text = logged(|| tracing::warn!(msg = "b", level = 1, "a \"quote\"\nand a line"));
        assert_eq!(text.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["msg"], "a \"quote\"\nand a line");
        assert_eq!(
            (&line["msg_"], &line["level"]),
            (&"b".into(), &"warn".into())
        );
    }

    #[test]
    fn etcds_level_names_are_understood_and_nonsense_is_refused() {
        for level in [
            "", "debug", "info", "warn", "error", "dpanic", "panic", "fatal",
        ] {
            assert!(filter(level).is_ok(), "{level}");
        }
        let error = filter("info=nonsense=").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("log level \"info=nonsense=\""),
            "{error}"
        );
    }
}
