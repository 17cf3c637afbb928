//! The text that a scrape gets: Prometheus text format 0.0.4, as etcd's.
//!
//! The library writes `OpenMetrics`, where a counter's type line lacks `_total` and the text ends
//! with `# EOF`. Old scrapers and plain eyes want the older form, so lines are changed here.

use prometheus_client::registry::Registry;

/// The content type of an exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of the registry, in the old form.
pub(crate) fn classic(registry: &Registry) -> String {
    let mut text = String::with_capacity(64 * 1024);
    let written = prometheus_client::encoding::text::encode(&mut text, registry);
    debug_assert!(written.is_ok(), "a string grows as needed");
    let mut classic = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if line == "# EOF" {
            continue;
        }
        if line.starts_with("# HELP ") {
            help = Some(line);
            continue;
        }
        describe(&mut classic, &mut help, line);
    }
    classic
}

/// Appends a line, and before it the help that belongs to it, both under a counter's full name.
fn describe(classic: &mut String, help: &mut Option<&str>, line: &str) {
    let described = line
        .strip_prefix("# TYPE ")
        .and_then(|rest| rest.split_once(' '));
    let total = match described {
        Some((_, "counter")) => "_total",
        _ => "",
    };
    for line in help.take().into_iter().chain([line]) {
        match described {
            Some((name, _)) => {
                let end = "# HELP ".len() + name.len();
                classic.push_str(&line[..end]);
                classic.push_str(total);
                classic.push_str(&line[end..]);
            }
            None => classic.push_str(line),
        }
        classic.push('\n');
    }
}
