//! Figures of both sides, their medians, and what the targets say of them.

use serde_json::{Value, json};

use crate::bench::case::{Bound, Case, Of, Target};

/// What one round found at one server, in the order of the table.
pub(crate) type Sample = Vec<(&'static str, f64)>;

/// One line of the table.
#[derive(Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) figure: &'static str,
    pub(crate) holm: Option<f64>,
    pub(crate) etcd: Option<f64>,
    pub(crate) target: Option<String>,
    pub(crate) held: Option<bool>,
    /// The floor beneath Holm's figure.
    pub(crate) floor: Option<f64>,
}

/// Which figure is the floor of which: no server on this machine can be beyond it.
const FLOORS: &[(&str, &str)] = &[
    ("operations/s", "floor: echoes/s"),
    ("CPU us/operation", "floor: CPU us/echo"),
    ("p50 ms", "floor: p50 ms"),
    ("put max ms", "floor: fdatasync max ms"),
    ("put p50 ms", "floor: fdatasync p50 ms"),
];

/// The rows of a case from the rounds of both sides.
pub(crate) fn rows(case: &Case, holm: &[Sample], etcd: &[Sample]) -> Vec<Row> {
    let mut names: Vec<&'static str> = Vec::new();
    for (name, _) in holm.iter().chain(etcd).flatten() {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let row = |figure: &&'static str| {
        let (left, right) = (median(holm, figure), median(etcd, figure));
        let target = case.targets.iter().find(|it| it.figure == *figure);
        let floor = FLOORS.iter().find(|(above, _)| above == figure);
        Row {
            figure,
            holm: left,
            etcd: right,
            target: target.map(Target::text),
            held: target.map(|target| target.holds(left, ratio(left, right))),
            floor: floor.and_then(|(_, name)| median(holm, name)),
        }
    };
    names.iter().map(row).collect()
}

/// Whether all targets are held; `None` if there are none.
pub(crate) fn verdict(rows: &[Row]) -> Option<bool> {
    let judged = || rows.iter().filter_map(|row| row.held);
    judged().next().map(|_first| judged().all(|held| held))
}

impl Target {
    fn text(&self) -> String {
        let of = match self.of {
            Of::Ratio => "x etcd's",
            Of::Holm => "",
        };
        match self.bound {
            Bound::AtLeast(bound) => format!("at least {}{of}", short(bound)),
            Bound::AtMost(bound) => format!("at most {}{of}", short(bound)),
        }
    }

    /// A figure that is missing holds nothing.
    fn holds(&self, holm: Option<f64>, ratio: Option<f64>) -> bool {
        let value = match self.of {
            Of::Ratio => ratio,
            Of::Holm => holm,
        };
        value.is_some_and(|value| match self.bound {
            Bound::AtLeast(bound) => value >= bound,
            Bound::AtMost(bound) => value <= bound,
        })
    }
}

impl Row {
    /// The row of the table, behind the case's name.
    pub(crate) fn line(&self) -> String {
        let cells = [
            self.figure.to_owned(),
            shown(self.holm),
            shown(self.etcd),
            times(ratio(self.holm, self.etcd)),
            self.target.clone().unwrap_or_default(),
            self.held.map_or("", word).to_owned(),
            self.floor.map_or_else(String::new, short),
            self.floor
                .map_or_else(String::new, |_| times(self.distance())),
        ];
        cells.join(" | ")
    }

    /// The figure and its target in words, for a case that was missed.
    pub(crate) fn miss(&self) -> String {
        let (holm, etcd) = (shown(self.holm), shown(self.etcd));
        let ratio = times(ratio(self.holm, self.etcd));
        let target = self.target.as_deref().unwrap_or_default();
        format!("{} {holm} against {etcd} ({ratio}), {target}", self.figure)
    }

    fn distance(&self) -> Option<f64> {
        ratio(self.holm, self.floor)
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "figure": self.figure,
            "holm": self.holm,
            "etcd": self.etcd,
            "ratio": ratio(self.holm, self.etcd),
            "target": self.target,
            "verdict": self.held.map(word),
            "floor": self.floor,
            "distance": self.distance(),
        })
    }
}

/// The word for a verdict.
pub(crate) const fn word(held: bool) -> &'static str {
    if held { "held" } else { "missed" }
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), short)
}

fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{}x", short(value)))
}

/// Three digits or more: `12,345`, `61.2`, `3.21`, `0.012`.
fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{value:.0}");
        return thousands(&digits);
    }
    match size {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.095 || value == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let behind = digits.len() - at;
        if at > 0 && behind.is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn ratio(left: Option<f64>, right: Option<f64>) -> Option<f64> {
    match (left, right) {
        (Some(left), Some(right)) if right > 0.0 => Some(left / right),
        (Some(_) | None, Some(_) | None) => None,
    }
}

fn median(samples: &[Sample], figure: &str) -> Option<f64> {
    let of = |sample: &Sample| sample.iter().find(|(name, _)| *name == figure).copied();
    middle(
        samples
            .iter()
            .filter_map(of)
            .map(|(_, value)| value)
            .collect(),
    )
}

/// The median.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::case::{CASES, CPU, RATE, TAIL};

    fn case(name: &str) -> &'static Case {
        CASES.iter().find(|case| case.name == name).unwrap()
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(middle(vec![4.0, 1.0, 3.0, 100.0]), Some(3.5));
        assert_eq!(middle(vec![4.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(middle(Vec::new()), None);
    }

    #[test]
    fn rows_hold_both_sides_their_ratio_and_the_verdict() {
        let floor = "floor: echoes/s";
        let holm = [vec![(RATE, 300.0), (TAIL, 2.0), (floor, 600.0)]];
        let etcd = [vec![(RATE, 100.0), (TAIL, 3.0), (floor, 200.0)]];
        let rows = rows(case("put-64"), &holm, &etcd);
        assert_eq!(
            rows[0].line(),
            "operations/s | 300 | 100 | 3.00x | at least 3.00x etcd's | held | 600 | 0.50x"
        );
        assert_eq!(
            rows[1].line(),
            "p99 ms | 2.00 | 3.00 | 0.67x | at most 0.50x etcd's | missed |  | "
        );
        assert_eq!(verdict(&rows), Some(false));
        assert_eq!(verdict(&rows[..1]), Some(true));
        assert_eq!(verdict(&rows[2..]), None);
    }

    #[test]
    fn a_target_without_a_figure_is_not_held() {
        let target = case("put-64").targets.iter().find(|it| it.figure == CPU);
        assert!(!target.unwrap().holds(Some(1.0), None));
    }

    #[test]
    fn numbers_are_short() {
        let texts = [12_345.4, 999.0, 61.23, 3.214, 0.0123, 0.0].map(short);
        assert_eq!(texts, ["12,345", "999", "61.2", "3.21", "0.012", "0.00"]);
        assert_eq!(short(-1234.0), "-1,234");
    }
}
