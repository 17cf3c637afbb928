//! The report for programs. Spans are in nanoseconds, shares between 0 and 1.

use std::fmt::Write;

use super::{Outcome, Report};
use crate::scenario::{Bound, Purpose};
use crate::statistics::{Interval, Verdict};

pub(super) fn write(report: &Report) -> String {
    let mut object = Object::new();
    object.text("scenario", &report.name);
    object.text("why", &report.why);
    object.text(
        "order",
        match report.purpose {
            Purpose::Timed => "timed",
            Purpose::Hunt => "hunt",
        },
    );
    object.raw("exit", &report.exit_code().to_string());
    object.text(
        "outcome",
        match &report.outcome {
            Outcome::Met => "met",
            Outcome::NotMet => "not met",
            Outcome::Failed(_) => "failed",
            Outcome::Uninformative { .. } => "uninformative",
            Outcome::Halted(_) => "halted",
            Outcome::TwoTraces => "two traces",
        },
    );
    object.raw("runs", &report.runs.to_string());
    object.raw("first_seed", &report.first_seed.to_string());
    object.raw("virtual_nanos", &report.virtual_nanos.to_string());
    object.raw("real_nanos", &report.elapsed.as_nanos().to_string());
    object.raw("acknowledged", &report.acknowledged.to_string());
    object.raw("delivered", &report.delivered.to_string());
    object.raw("confidence", &report.confidence.to_string());
    let charged = report.charged.as_ref();
    let is_quotable = charged.is_some_and(|charged| charged.costs.flaw().is_none());
    object.raw("quotable", if is_quotable { "true" } else { "false" });
    if let Some(charged) = &report.charged {
        object.raw("costs", &costs(charged));
    }
    if let Some(found) = &report.ratios {
        object.text("against", &found.against);
        object.raw("ratios", &ratios(found));
    }
    let mut hash = String::new();
    for byte in report.hash {
        put(&mut hash, format_args!("{byte:02x}"));
    }
    object.text("trace", &hash);
    if report.purpose == Purpose::Hunt {
        object.raw("coverage", &report.coverage.json());
    }
    object.raw("figures", &rows(report));
    object.raw("promises", &promises(report));
    let remarks: Vec<String> = report.remarks.iter().map(|it| quoted(it)).collect();
    object.raw("remarks", &format!("[{}]", remarks.join(",")));
    if let Some(failure) = report.failure() {
        let mut found = Object::new();
        found.text("judge", failure.judge);
        found.text("rule", failure.rule);
        found.text("place", &failure.place);
        found.raw("run", &failure.run.to_string());
        found.raw("seed", &failure.seed.to_string());
        found.raw("choices", &failure.choices.to_string());
        if let Some((left, _)) = failure.shrunk {
            found.raw("shrunk_to", &left.to_string());
        }
        found.text("tape", &report.tape_name().unwrap_or_default());
        object.raw("failure", &found.end());
    }
    let mut text = object.end();
    text.push('\n');
    text
}

fn ratios(ratios: &super::Ratios) -> String {
    let lines = ratios.lines.iter().map(|(what, ratio)| {
        let mut one = Object::new();
        one.text("figure", what);
        one.raw("ratio", &ratio.mean.to_string());
        one.raw("low", &ratio.low.to_string());
        one.raw("high", &ratio.high.to_string());
        one.end()
    });
    format!("[{}]", lines.collect::<Vec<_>>().join(","))
}

/// Whose costs, how far the model was off, and who used how much.
fn costs(charged: &super::Charged) -> String {
    let mut object = Object::new();
    object.text("file", &charged.costs.name);
    object.text("machine", &charged.costs.machine.processor);
    let misses = charged.costs.misses();
    let misses = misses.iter().map(|miss| {
        let mut one = Object::new();
        one.text("load", miss.load.name());
        one.raw("clients", &miss.clients.to_string());
        one.text("figure", miss.figure);
        one.raw("error", &miss.error.to_string());
        one.end()
    });
    object.raw(
        "validation",
        &format!("[{}]", misses.collect::<Vec<_>>().join(",")),
    );
    let sites = charged.sites.iter().map(|site| {
        let mut one = Object::new();
        one.text("site", &site.name);
        let parts = [
            ("cores", &site.cores),
            ("front_cores", &site.front),
            ("syncs_per_second", &site.syncs),
            ("messages_per_second", &site.sent),
        ];
        for (name, interval) in parts {
            if let Some(interval) = interval {
                one.raw(name, &interval.mean.to_string());
            }
        }
        one.end()
    });
    object.raw(
        "sites",
        &format!("[{}]", sites.collect::<Vec<_>>().join(",")),
    );
    let hosts = charged.hosts.iter().map(|host| {
        let mut one = Object::new();
        one.text("host", &host.name);
        for (name, interval) in [("cores_busy", &host.busy), ("wait_nanos", &host.wait)] {
            if let Some(interval) = interval {
                one.raw(name, &interval.mean.to_string());
            }
        }
        one.end()
    });
    object.raw(
        "hosts",
        &format!("[{}]", hosts.collect::<Vec<_>>().join(",")),
    );
    object.end()
}

fn rows(report: &Report) -> String {
    let mut all = Vec::new();
    for row in &report.rows {
        for (phase, interval, _) in &row.cells {
            let Some(interval) = interval else { continue };
            let mut one = Object::new();
            one.text("measure", &row.name);
            one.text("site", &row.site);
            one.text("phase", phase);
            numbers(&mut one, interval);
            all.push(one.end());
        }
    }
    format!("[{}]", all.join(","))
}

fn numbers(object: &mut Object, interval: &Interval) {
    object.raw("mean", &interval.mean.to_string());
    object.raw("half_width", &interval.half.to_string());
    object.raw("runs", &interval.runs.to_string());
}

fn promises(report: &Report) -> String {
    let mut all = Vec::new();
    for promise in &report.promises {
        let mut one = Object::new();
        one.text("promise", &promise.text);
        one.text(
            "verdict",
            match promise.verdict {
                Verdict::Kept => "kept",
                Verdict::Broken => "broken",
                Verdict::Undecided => "undecided",
            },
        );
        match promise.bound {
            Some(Bound::AtMost(limit)) => one.raw("at_most", &limit.to_string()),
            Some(Bound::AtLeast(limit)) => one.raw("at_least", &limit.to_string()),
            None => {}
        }
        if let Some(interval) = &promise.interval {
            numbers(&mut one, interval);
        }
        all.push(one.end());
    }
    format!("[{}]", all.join(","))
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("a string takes all that is written to it");
}

/// An object under construction.
struct Object {
    text: String,
}

impl Object {
    const fn new() -> Self {
        Self {
            text: String::new(),
        }
    }

    fn raw(&mut self, key: &str, value: &str) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        put(&mut self.text, format_args!("{}:{value}", quoted(key)));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.raw(key, &quoted(value));
    }

    fn end(self) -> String {
        format!("{{{}}}", self.text)
    }
}

/// A string of JSON, safe within a page too.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' | '>' | '&' => put(&mut out, format_args!("\\u{:04x}", u32::from(one))),
            control if u32::from(control) < 32 => {
                put(&mut out, format_args!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_json_and_for_pages() {
        assert_eq!(quoted("a\"b\\c\n</x>"), r#""a\"b\\c\u000a\u003c/x\u003e""#);
        let mut object = Object::new();
        object.text("a", "b");
        object.raw("c", "1");
        assert_eq!(object.end(), r#"{"a":"b","c":1}"#);
    }
}
