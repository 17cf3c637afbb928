//! What is refused, on which line, and with what to do about it.

use holm_rehearse::parse;

const GOOD: &str = r#"format = 1
name = "x"
why = "It is small."
[run]
length = "10s"
[[site]]
names = ["a", "b"]
[[link]]
name = "wan"
among = ["a", "b"]
one_way = "1ms"
[[keyspace]]
name = "k"
sites = ["a", "b"]
[[clients]]
at = "a"
rate = "1/s"
[[promise]]
check = "linearizable"
"#;

fn refusal(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    parse(&text, "x.toml", &[]).expect_err(to).to_string()
}

#[test]
fn the_small_scenario_is_well_formed() {
    assert!(parse(GOOD, "x.toml", &[]).is_ok());
}

/// What is changed into what, and a part of what is said then.
const CASES: &[(&str, &str, &str)] = &[
    (
        "name = \"k\"",
        "name = \"k\"\nguarantee = \"ledger\"",
        "x.toml:14: guarantee ledger is not there yet: write linearizable or local-first",
    ),
    (
        "name = \"k\"",
        "name = \"k\"\ntype = \"lww\"",
        "x.toml:14: type: write guarantee = \"local-first\", or leave it out",
    ),
    (
        "name = \"k\"",
        "name = \"k\"\nguarantee = \"local-first\"\ntype = \"json\"",
        "x.toml:15: type json is not rehearsed: write lww, mv, set or counter",
    ),
    (
        "name = \"k\"",
        "name = \"k\"\nguarantee = \"local-first\"",
        "x.toml:20: linearizable is not judged in a local-first keyspace; these are: watch, ",
    ),
    (
        "sites = [\"a\", \"b\"]\n[[clients]]",
        "guarantee = \"local-first\"\nsites = [\"a\"]\nspare = [\"b\"]\n[[clients]]",
        "spare: nobody takes these islands in: give `members` a weight in [faults]",
    ),
    (
        "check = \"linearizable\"",
        "check = \"causality\"",
        "x.toml:19: causality is not judged in a linearizable keyspace; these are: linearizable, ",
    ),
    (
        "rate = \"1/s\"",
        "rate = \"1/s\"\nmix = { add = 1 }",
        "x.toml:18: mix: only counters are added to",
    ),
    (
        "name = \"k\"",
        "name = \"k\"\nengine = \"bolt\"",
        "x.toml:14: engine is store or table, not bolt",
    ),
    (
        "name = \"k\"",
        "name = \"k\"\nreads = \"lease\"",
        "x.toml:14: the store reads by quorum: for lease, write engine = \"table\"",
    ),
    (
        "name = \"k\"\nsites = [\"a\", \"b\"]\n[[clients]]\n",
        "name = \"k\"\nengine = \"table\"\nsites = [\"a\", \"b\"]\n[[clients]]\nmix = { lease = 1 }\n",
        "x.toml:17: mix: a table has no lease: write engine = \"store\"",
    ),
    (
        "[[promise]]\n",
        "[faults]\nweights = { flip = 1 }\n[[promise]]\n",
        "x.toml:19: flip is rehearsed with engine = \"table\" only",
    ),
    (
        "name = \"k\"\n",
        "name = \"k\"\nengine = \"table\"\nkept = 5\n",
        "x.toml:15: kept: a table's log is short by itself",
    ),
    (
        "[[promise]]\n",
        "[[goal]]\nname = \"g\"\npattern = [\"LeaderFound term=$t\"]\n[[promise]]\n",
        "x.toml:20: pattern: LeaderFound is no event; these are: LeaderElected, ",
    ),
    (
        "[[promise]]\n",
        "[[goal]]\nname = \"g\"\npattern = \"LeaderElected op=1\"\n[[promise]]\n",
        "x.toml:20: pattern: LeaderElected has no op; it has node, term",
    ),
    (
        "[[promise]]\n",
        "[[goal]]\nname = \"g\"\npattern = \"ack put key>$k\"\n[[promise]]\n",
        "x.toml:20: pattern: key>$k: $k is bound by no = before",
    ),
    ("format = 1", "format = 2", "x.toml:1: format is 1"),
    ("why = \"It is small.\"\n", "", "has no `why`: say it"),
    (
        "length = \"10s\"",
        "length = \"10\"",
        "x.toml:5: length: 10 has no unit: write ns",
    ),
    (
        "length",
        "lenght",
        "x.toml:5: [run] knows no `lenght`; it knows order, length, warmup",
    ),
    (
        "among = [\"a\", \"b\"]",
        "among = [\"a\", \"shop-d\"]",
        "x.toml:10: link wan joins shop-d, which no [[site]] declares",
    ),
    (
        "one_way = \"1ms\"",
        "one_way = \"beta(1ms)\"",
        "x.toml:11: one_way: beta is no distribution",
    ),
    (
        "sites = [\"a\", \"b\"]",
        "sites = [\"a\", \"z\"]",
        "x.toml:14: sites names z",
    ),
    (
        "rate = \"1/s\"",
        "mix = { lock = 1 }",
        "x.toml:17: mix: lock is not rehearsed yet",
    ),
    (
        "rate = \"1/s\"",
        "rate = \"1\"",
        "x.toml:17: rate: 1: how often is said by /s",
    ),
    (
        "check = \"linearizable\"",
        "check = \"ledger\"",
        "x.toml:19: ledger is not judged in a linearizable keyspace; these are",
    ),
    (
        "check = \"linearizable\"",
        "measure = \"put.p42\"\nat_most = \"1ms\"",
        "x.toml:19: measure: put.p42 is not measured",
    ),
    (
        "[[promise]]\ncheck = \"linearizable\"\n",
        "",
        "nothing is promised: write [[promise]]",
    ),
    (
        "[[promise]]",
        "[[fault]]\nat = \"1s\"\nrestart_as = \"a\"\n[[promise]]",
        "x.toml:20: restart_as: there is no older release to run yet: leave the fault out",
    ),
    (
        "[[promise]]",
        "[[fault]]\nat = \"1s\"\ncut = \"wan:q\"\n[[promise]]",
        "wan:q is neither a site, a node such as a/0, a link",
    ),
    (
        "[[promise]]",
        "[[fault]]\nat = \"1s\"\n[[promise]]",
        "a fault says what happens: one of cut",
    ),
    (
        "[[link]]\nname = \"wan\"\namong = [\"a\", \"b\"]\none_way = \"1ms\"\n",
        "",
        "no [[link]] joins a and b",
    ),
    ("at = \"a\"", "at = ", "x.toml:16: "),
];

#[test]
fn each_refusal_names_its_line_and_the_remedy() {
    for (from, to, expected) in CASES {
        let refusal = refusal(from, to);
        assert!(refusal.contains(expected), "{to}: {refusal}");
    }
}

#[test]
fn what_is_set_elsewhere_overrides_and_is_checked_as_well() {
    let set = |path: &str, value: &str| {
        let sets = [(path.to_owned(), value.to_owned())];
        parse(GOOD, "x.toml", &sets).map_err(|refusal| refusal.to_string())
    };
    assert!(set("link.wan.loss", "0.02").is_ok());
    assert!(
        set("link.wan.one_way", "exp(3ms)").is_ok(),
        "a bare word is text"
    );
    let refusal = set("link.wan.loss", "2").unwrap_err();
    assert_eq!(refusal, "x.toml, --set: loss lies between 0 and 1");
    let refusal = set("link.lan.loss", "0.1").unwrap_err();
    assert!(
        refusal.contains("there is no lan in the scenario"),
        "{refusal}"
    );
}
