//! The part of the page about costs: who used how much, who waited, and how far the model was off.

use super::{escaped, put, with_interval};
use crate::costs::TOLERANCE;
use crate::report::{Charged, Report, digits, value};
use crate::scenario::Unit;
use crate::statistics::Interval;

pub(super) fn write(page: &mut String, report: &Report) {
    let Some(charged) = &report.charged else {
        return;
    };
    sites(page, charged);
    hosts(page, charged);
    validation(page, charged);
}

fn plain(interval: Option<&Interval>) -> String {
    interval.map_or_else(
        || "-".to_owned(),
        |one| {
            format!(
                "{} \u{b1}{:.0}%",
                digits(one.mean),
                (one.relative() * 100.0).ceil()
            )
        },
    )
}

fn sites(page: &mut String, charged: &Charged) {
    page.push_str(
        "<h2>CPU and syncs by site</h2><table><tr><th>site</th><th>cores in use</th>\
         <th>of them in the front</th><th>syncs</th><th>messages sent</th></tr>",
    );
    for site in &charged.sites {
        let rate = |interval: Option<&Interval>| {
            interval.map_or_else(|| "-".to_owned(), |one| with_interval(one, Unit::PerSecond))
        };
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&site.name),
                plain(site.cores.as_ref()),
                plain(site.front.as_ref()),
                rate(site.syncs.as_ref()),
                rate(site.sent.as_ref())
            ),
        );
    }
    page.push_str("</table>");
}

fn hosts(page: &mut String, charged: &Charged) {
    page.push_str(
        "<h2>Queueing</h2><table><tr><th>host</th><th>cores in use</th>\
         <th>work waits for one, on average</th></tr>",
    );
    for host in &charged.hosts {
        let wait = host.wait.as_ref();
        let wait = wait.map_or_else(|| "-".to_owned(), |one| value(one.mean, Unit::Nanos));
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{wait}</td></tr>",
                escaped(&host.name),
                plain(host.busy.as_ref())
            ),
        );
    }
    page.push_str("</table>");
}

/// Model over real, less one, for each cell.
fn validation(page: &mut String, charged: &Charged) {
    let costs = &charged.costs;
    put(
        page,
        format_args!(
            "<h2>The costs: {}</h2><p>{}, {} cores, kernel {}; holm {}, {}. How far the model was \
             from what was real there; p99 is not judged.</p><table><tr><th>load</th>\
             <th>clients</th><th>throughput</th><th>p50</th><th>CPU</th><th>p99</th></tr>",
            escaped(&costs.name),
            escaped(&costs.machine.processor),
            costs.machine.cores,
            escaped(&costs.machine.kernel),
            escaped(&costs.machine.release),
            escaped(&costs.date)
        ),
    );
    let misses = costs.misses();
    for cell in misses.chunks(4) {
        let Some(first) = cell.first() else { continue };
        put(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td>",
                first.load.name(),
                first.clients
            ),
        );
        for miss in cell {
            let is_off = miss.is_judged() && miss.error.abs() > TOLERANCE;
            let class = if is_off { "broken" } else { "" };
            let percent = miss.error * 100.0;
            put(
                page,
                format_args!("<td class=\"{class}\">{percent:+.0} %</td>"),
            );
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
}
