//! Several keyspaces in one scenario: what is refused, whose promise is broken, and that the
//! runs of each are judged by its own rules.

use holm_rehearse::{Options, Silent, parse, run};

const TWO: &str = r#"format = 1
name = "x"
why = "Two of three sites end, and only one keyspace minds."
[run]
length = "20s"
warmup = "2s"
heal = "20s"
informative = 10
[[site]]
names = ["a", "b", "c"]
[[link]]
name = "wan"
among = ["a", "b", "c"]
one_way = "exp(2ms)"
[[keyspace]]
name = "orders"
sites = ["a", "b", "c"]
[[keyspace]]
name = "stock"
guarantee = "local-first"
sites = ["a", "b", "c"]
[[clients]]
keyspace = "orders"
at = "a"
rate = "20/s"
mix = { put = 1, range = 1 }
[[clients]]
keyspace = "stock"
at = "a"
rate = "20/s"
mix = { put = 1, range = 1 }
[[fault]]
at = "5s"
for = "10s"
crash = ["b", "c"]
[[promise]]
keyspace = "orders"
check = ["linearizable", "durable", "heals"]
[[promise]]
keyspace = "stock"
check = ["convergence", "causality", "heals"]
[[promise]]
keyspace = "orders"
measure = "availability.put"
phase = "crash"
at_least = "99%"
[[promise]]
keyspace = "stock"
measure = "availability.put"
phase = "crash"
at_least = "99%"
"#;

fn runs(count: u64) -> Options {
    Options {
        runs: Some(count),
        ..Options::default()
    }
}

#[test]
fn the_keyspace_that_breaks_its_promise_is_named_and_the_other_keeps_its_own() {
    let scenario = parse(TWO, "x.toml", &[]).expect("it is well formed");
    let report = run(&scenario, &runs(3), &mut Silent);
    let text = report.to_text();
    assert_eq!(report.exit_code(), 1, "{text}");
    let broken = "BROKEN: orders: availability.put in crash";
    assert!(text.contains(broken), "{text}");
    assert!(text.contains("kept: orders: linearizable; "), "{text}");
    assert!(text.contains("; stock: convergence: "), "{text}");
    let kept = text.lines().filter(|line| line.starts_with("kept"));
    let kept: Vec<&str> = kept.collect();
    assert!(
        kept.join("\n").contains("stock: availability.put in crash"),
        "{text}"
    );
    let again = run(&scenario, &runs(3), &mut Silent);
    assert_eq!(again.hash(), report.hash(), "one seed, one trace");
}

/// Nothing heals in a nanosecond: each keyspace's own judge must say so, under its name.
#[test]
fn each_keyspace_has_its_own_judges() {
    let text = include_str!("../../../scenarios/hunt-guarantees.toml");
    let heals =
        r#"check = ["linearizable", "watch", "durable", "invariants", "heals", "transactions"]"#;
    assert!(text.contains(heals));
    let without = text.replace(heals, r#"check = "linearizable""#);
    for (text, broken) in [(text, "orders: "), (without.as_str(), "stock: ")] {
        let sets = [("run.heal".to_owned(), "1ns".to_owned())];
        let scenario = parse(text, "hunt.toml", &sets).expect("it is well formed");
        let options = Options {
            shrink: Some(std::time::Duration::ZERO),
            ..runs(4)
        };
        let report = run(&scenario, &options, &mut Silent);
        let failure = report.failure().expect("no run can keep this");
        assert_eq!(failure.judge, "heals");
        assert!(failure.place.starts_with(broken), "{}", failure.place);
    }
}

/// What is changed into what, and a part of what is said then.
const CASES: &[(&str, &str, &str)] = &[
    (
        "[[clients]]\nkeyspace = \"stock\"\n",
        "[[clients]]\n",
        "x.toml:27: there are several keyspaces: say which, such as keyspace = \"orders\"",
    ),
    (
        "[[promise]]\nkeyspace = \"stock\"\n",
        "[[promise]]\n",
        "x.toml:39: there are several keyspaces: say which",
    ),
    (
        "[[clients]]\nkeyspace = \"stock\"",
        "[[clients]]\nkeyspace = \"shock\"",
        "x.toml:28: keyspace shock is declared by no [[keyspace]]; these are: orders, stock",
    ),
    (
        "[[clients]]\nkeyspace = \"stock\"",
        "[[clients]]\nkeyspace = \"orders\"",
        "nobody asks keyspace stock for anything: write [[clients]] with keyspace = \"stock\"",
    ),
    (
        "name = \"stock\"",
        "name = \"orders\"",
        "x.toml:18: keyspace orders is declared twice",
    ),
    (
        "check = [\"convergence\", \"causality\", \"heals\"]",
        "check = [\"linearizable\"]",
        "x.toml:41: linearizable is not judged in a local-first keyspace",
    ),
    (
        "crash = [\"b\", \"c\"]",
        "members = \"remove c\"",
        "x.toml:35: members change in scenarios of one keyspace so far: leave the fault out",
    ),
    (
        "names = [\"a\", \"b\", \"c\"]\n",
        "names = [\"a\", \"b\", \"c\"]\ncosts = \"two-core.toml\"\n",
        "x.toml:19: prices are known of one keyspace alone",
    ),
    (
        "[[fault]]",
        "[[goal]]\nname = \"g\"\npattern = [\"LeaderElected\"]\n[[fault]]",
        "goals are of one keyspace so far: leave each [[goal]] out",
    ),
];

#[test]
fn each_refusal_names_its_line_and_the_remedy() {
    for (from, to, expected) in CASES {
        assert!(TWO.contains(from), "{from}");
        let text = TWO.replacen(from, to, 1);
        let refusal = parse(&text, "x.toml", &[]).expect_err(to).to_string();
        assert!(refusal.contains(expected), "{to}: {refusal}");
    }
}
