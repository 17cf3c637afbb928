//! An island that is cut off answers as fast as before; and one that does not is found.

use holm_rehearse::{Options, Silent, parse, run};

/// Three islands that are cut apart, and something else that happens at the same time.
fn scenario(more: &str) -> String {
    format!(
        r#"
format = 1
name = "steady"
why = "Puts take as long while islands are cut apart."
[run]
length = "24s"
warmup = "2s"
heal = "10s"
[[site]]
names = ["a", "b", "c"]
disk = "ssd"
[disk.ssd]
sync = "lognormal(0.7ms, 0.1)"
[disk.tired]
sync = "lognormal(0.85ms, 0.1)"
[[link]]
name = "wan"
among = ["a", "b", "c"]
one_way = "5ms"
[[keyspace]]
name = "k"
guarantee = "local-first"
type = "lww"
sites = ["a", "b", "c"]
[[clients]]
at = ["a", "b", "c"]
keyspace = "k"
rate = "60/s"
mix = {{ put = 1 }}
keys = "uniform(100)"
value = "64B"
{more}
[[fault]]
at = "12s"
for = "11s"
cut = "wan"
[[promise]]
check = ["available", "steady"]
"#
    )
}

fn judged(more: &str) -> (i32, String) {
    let text = scenario(more);
    let scenario = parse(&text, "steady", &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
    let options = Options {
        runs: Some(1),
        ..Options::default()
    };
    let report = run(&scenario, &options, &mut Silent);
    (i32::from(report.exit_code()), report.to_text())
}

#[test]
fn a_cut_is_not_felt() {
    let (code, text) = judged("");
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_cut_that_is_felt_is_found() {
    let tired = "[[fault]]\nat = \"11900ms\"\nfor = \"11s\"\nslow = \"b\"\ndisk = \"tired\"\n";
    let (code, text) = judged(tired);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("as fast when it is cut off"), "{text}");
}
