//! A named outage lasts as long as it says, whatever else ends or starts the same node meanwhile.

use holm_rehearse::{Options, Silent, parse, run};

/// One site that is down for five seconds, of which nobody leads, and what happens beside that.
fn leaderless(more: &str) -> (i32, String) {
    let text = format!(
        r#"
format = 1
name = "outages"
why = "Nobody leads while the only site is down."
[run]
length = "12s"
warmup = "1s"
[[site]]
names = ["a"]
[[keyspace]]
name = "k"
sites = ["a"]
[[clients]]
at = "a"
rate = "50/s"
mix = {{ put = 1 }}
[[fault]]
name = "long"
at = "3s"
for = "5s"
crash = "a"
{more}
[[promise]]
measure = "leaderless"
at_least = "4900ms"
"#
    );
    let scenario = parse(&text, "outages", &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
    let options = Options {
        runs: Some(3),
        ..Options::default()
    };
    let report = run(&scenario, &options, &mut Silent);
    (i32::from(report.exit_code()), report.to_text())
}

#[test]
fn the_end_of_a_shorter_outage_ends_no_longer_one() {
    let short = "[[fault]]\nname = \"short\"\nat = \"4s\"\nfor = \"1s\"\npower = \"a\"\n";
    let (code, text) = leaderless(short);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_node_that_ended_by_itself_waits_for_the_end_of_an_outage() {
    let failed = "[[fault]]\nname = \"failed\"\nat = \"2500ms\"\nsync_fail = \"a\"\n";
    let (code, text) = leaderless(failed);
    assert_eq!(code, 0, "{text}");
}
