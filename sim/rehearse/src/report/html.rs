//! The report as one page: no network, no scripts, drawings inline.

mod costs;

use std::fmt::Write;

use super::{Outcome, Report, json, text, with_interval};
use crate::run::{Figures, Second};
use crate::scenario::{Purpose, Unit};
use crate::statistics::Verdict;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#1d2733}\
h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}\
table{border-collapse:collapse}td,th{padding:.2em .9em .2em 0;text-align:left;\
border-bottom:1px solid #d8dee6;font-variant-numeric:tabular-nums}\
pre{background:#f4f6f9;padding:1em;overflow:auto;font-size:13px}\
.kept{color:#1a7f4b}.broken{color:#b3261e;font-weight:600}.open{color:#8a6100}\
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:#51606f}";

const COLOURS: [&str; 6] = [
    "#2563a8", "#c2571a", "#3a8a4d", "#8250a8", "#b08a10", "#4a5568",
];
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 170.0;
/// How many points a line has at most.
const POINTS_MAX: usize = 1_000;

pub(super) fn write(report: &Report) -> String {
    let mut page = String::new();
    put(
        &mut page,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
             <style>{STYLE}</style></head><body>",
            escaped(&report.name)
        ),
    );
    put(
        &mut page,
        format_args!(
            "<h1>{}</h1><p>{}</p><p>{}</p>",
            escaped(&report.name),
            escaped(&report.why),
            escaped(&text::effort(report))
        ),
    );
    verdicts(&mut page, report);
    figures(&mut page, report);
    ratios(&mut page, report);
    costs::write(&mut page, report);
    if let Some(first) = &report.first {
        over_time(&mut page, report, first);
    }
    failure(&mut page, report);
    put(
        &mut page,
        format_args!(
            "<h2>The scenario</h2><pre>{}</pre>",
            escaped(&report.scenario)
        ),
    );
    put(
        &mut page,
        format_args!(
            "<script type=\"application/json\" id=\"report\">{}</script></body></html>\n",
            json::write(report).trim_end()
        ),
    );
    page
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what)
        .expect("a string takes all that is written to it");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn verdicts(page: &mut String, report: &Report) {
    page.push_str("<h2>Promises</h2><table>");
    for promise in &report.promises {
        let (class, word) = match promise.verdict {
            Verdict::Kept => ("kept", "kept"),
            Verdict::Broken => ("broken", "broken"),
            Verdict::Undecided => ("open", "undecided"),
        };
        put(
            page,
            format_args!(
                "<tr><td class=\"{class}\">{word}</td><td>{}</td></tr>",
                escaped(&text::promise(promise))
            ),
        );
    }
    page.push_str("</table>");
    if report.purpose == Purpose::Timed {
        put(page, format_args!("<p>{}</p>", escaped(&report.standing())));
    }
}

fn ratios(page: &mut String, report: &Report) {
    let Some(ratios) = &report.ratios else { return };
    let against = escaped(&ratios.against);
    put(
        page,
        format_args!("<h2>Over {against}, seed by seed</h2><ul>"),
    );
    for words in ratios.words() {
        put(page, format_args!("<li>{}</li>", escaped(&words)));
    }
    page.push_str("</ul>");
}

fn figures(page: &mut String, report: &Report) {
    if report.rows.is_empty() {
        return;
    }
    page.push_str("<h2>Figures by phase</h2><table><tr><th></th><th></th>");
    for phase in &report.phases {
        put(page, format_args!("<th>{}</th>", escaped(phase)));
    }
    page.push_str("<th>whole run</th></tr>");
    for row in &report.rows {
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td>",
                escaped(&row.name),
                escaped(&row.site)
            ),
        );
        let whole = String::new();
        for phase in report.phases.iter().chain([&whole]) {
            let found = row.cells.iter().find(|(name, _, _)| name == phase);
            let said = match found {
                Some((_, Some(one), true)) => format!("({})", with_interval(one, row.unit)),
                Some((_, Some(one), false)) => with_interval(one, row.unit),
                Some((_, None, _)) | None => String::new(),
            };
            put(page, format_args!("<td>{}</td>", escaped(&said)));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
    if report.has_rare() {
        put(page, format_args!("<p>{}</p>", escaped(super::RARE)));
    }
    latencies(page, report);
}

/// Medians with their intervals, by phase and site.
fn latencies(page: &mut String, report: &Report) {
    let rows: Vec<_> = report
        .rows
        .iter()
        .filter(|row| row.unit == Unit::Nanos && row.name.ends_with(".p50"))
        .collect();
    let tallest = rows.iter().flat_map(|row| &row.cells);
    let tallest = tallest.filter_map(|(_, interval, _)| interval.as_ref());
    let tallest = tallest
        .map(|one| one.mean + one.half)
        .fold(0.0_f64, f64::max);
    if rows.is_empty() || tallest <= 0.0 {
        return;
    }
    page.push_str("<h2>Medians by site and phase</h2>");
    let bars: usize = rows.iter().map(|row| row.cells.len()).sum();
    let bars = f64::from(u32::try_from(bars).unwrap_or(u32::MAX));
    let step = (WIDTH / (bars + f64::from(u32::try_from(rows.len()).unwrap_or(1)))).min(48.0);
    put(
        page,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">",
            HEIGHT + 40.0
        ),
    );
    let mut x = 0.0;
    for (number, row) in rows.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        // The words of the last ones would go beyond the edge.
        let (anchor, at) = if x > WIDTH * 0.85 {
            ("end", WIDTH)
        } else {
            ("start", x)
        };
        put(
            page,
            format_args!(
                "<text x=\"{at:.0}\" y=\"{}\" text-anchor=\"{anchor}\">{} {}</text>",
                HEIGHT + 14.0 + if number % 2 == 0 { 0.0 } else { 14.0 },
                escaped(row.name.trim_end_matches(".p50")),
                escaped(&row.site)
            ),
        );
        for (phase, interval, _) in &row.cells {
            if let Some(interval) = interval {
                let scale = |value: f64| HEIGHT - value / tallest * (HEIGHT - 20.0);
                let (top, low, high) = (
                    scale(interval.mean),
                    scale(interval.mean - interval.half),
                    scale(interval.mean + interval.half),
                );
                put(
                    page,
                    format_args!(
                        "<g><title>{} {}: {}</title><rect x=\"{x:.1}\" y=\"{top:.1}\" \
                         width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\" opacity=\"0.75\"/>\
                         <path d=\"M{middle:.1} {low:.1}V{high:.1}\" stroke=\"#1d2733\"/></g>",
                        escaped(&row.site),
                        escaped(phase),
                        escaped(&with_interval(interval, row.unit)),
                        step * 0.8,
                        HEIGHT - top,
                        middle = x + step * 0.4,
                    ),
                );
            }
            x += step;
        }
        x += step;
    }
    page.push_str("</svg>");
}

/// Answers and failures a second, faults shaded, and who led.
fn over_time(page: &mut String, report: &Report, first: &Figures) {
    let length = first.seconds.iter().map(Vec::len).max().unwrap_or(0);
    if length < 2 {
        return;
    }
    let length = f64::from(u32::try_from(length).unwrap_or(u32::MAX));
    let x = |seconds: f64| seconds / length * WIDTH;
    let mut shades = String::new();
    for &(phase, begin, end) in &first.spans {
        let (begin, end) = (seconds(begin), seconds(end).min(length));
        put(
            &mut shades,
            format_args!(
                "<g><title>{}</title><rect x=\"{:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\" \
                 fill=\"#b3261e\" opacity=\"0.10\"/></g>",
                escaped(&first.phases[phase]),
                x(begin),
                (x(end) - x(begin)).max(1.0)
            ),
        );
    }
    let answered = |second: &Second| f64::from(second.answered);
    let failed = |second: &Second| f64::from(second.failed);
    lines(
        page,
        "Answers a second, first run",
        report,
        first,
        &shades,
        &answered,
    );
    lines(
        page,
        "Failures a second, first run",
        report,
        first,
        &shades,
        &failed,
    );
    page.push_str("<h2>Who led, first run</h2>");
    put(
        page,
        format_args!("<svg viewBox=\"0 0 {WIDTH} 30\" role=\"img\">"),
    );
    for (at, &(begin, leader)) in first.led.iter().enumerate() {
        let end = first.led.get(at + 1).map_or(length, |next| seconds(next.0));
        let Some(leader) = leader else { continue };
        let colour = usize::try_from(leader.value()).unwrap_or(0) % COLOURS.len();
        let begin = seconds(begin).min(length);
        put(
            page,
            format_args!(
                "<g><title>node {leader}</title><rect x=\"{:.1}\" y=\"0\" width=\"{:.1}\" \
                 height=\"16\" fill=\"{}\"/></g><text x=\"{:.1}\" y=\"28\">node {leader}</text>",
                x(begin),
                (x(end.min(length)) - x(begin)).max(1.0),
                COLOURS[colour],
                x(begin),
            ),
        );
    }
    page.push_str("</svg>");
}

fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

fn lines(
    page: &mut String,
    title: &str,
    report: &Report,
    first: &Figures,
    shades: &str,
    of: &dyn Fn(&Second) -> f64,
) {
    let all = first.seconds.iter().flatten();
    let tallest = all.map(of).fold(0.0_f64, f64::max);
    if tallest <= 0.0 {
        return;
    }
    put(
        page,
        format_args!(
            "<h2>{title}</h2><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">{shades}",
            HEIGHT + 20.0
        ),
    );
    let mut legend = 0.0;
    for (site, seconds) in first
        .seconds
        .iter()
        .enumerate()
        .filter(|(_, all)| !all.is_empty())
    {
        let colour = COLOURS[site % COLOURS.len()];
        let step = seconds.len().div_ceil(POINTS_MAX);
        let mut path = String::new();
        let length = f64::from(u32::try_from(seconds.len()).unwrap_or(u32::MAX));
        for (at, part) in seconds.chunks(step).enumerate() {
            // Of several seconds in one point the largest is drawn, so that no peak is lost.
            let height = part.iter().map(of).fold(0.0_f64, f64::max);
            let from = f64::from(u32::try_from(at * step).unwrap_or(u32::MAX));
            put(
                &mut path,
                format_args!(
                    "{}{:.1} {:.1}",
                    if at == 0 { 'M' } else { 'L' },
                    from / length * WIDTH,
                    HEIGHT - height / tallest * (HEIGHT - 10.0)
                ),
            );
        }
        let name = report.sites.get(site).map_or("", String::as_str);
        put(
            page,
            format_args!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/>\
                 <text x=\"{legend:.0}\" y=\"{}\" style=\"fill:{colour}\">{}</text>",
                HEIGHT + 16.0,
                escaped(name)
            ),
        );
        legend += 120.0;
    }
    put(
        page,
        format_args!("<text x=\"0\" y=\"10\">{tallest:.0}/s</text></svg>"),
    );
}

fn failure(page: &mut String, report: &Report) {
    let Outcome::Failed(failure) = &report.outcome else {
        return;
    };
    put(
        page,
        format_args!(
            "<h2 class=\"broken\">Broken: {}</h2><p>{}</p><pre>{}</pre><p>Replay: \
             <code>holm rehearse {} --tape {}</code></p>",
            escaped(failure.judge),
            escaped(failure.rule),
            escaped(&failure.place),
            escaped(&report.asked),
            escaped(&report.tape_name().unwrap_or_default())
        ),
    );
    if !failure.lines.is_empty() {
        let last = failure.lines.len().saturating_sub(POINTS_MAX);
        put(
            page,
            format_args!(
                "<h2>The steps that led there</h2><pre>{}</pre>",
                escaped(&failure.lines[last..].join("\n"))
            ),
        );
    }
}
