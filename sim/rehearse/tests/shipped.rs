//! The scenarios that are shipped: each is read, each run keeps its promises, and a run is a
//! function of its seed.

use std::num::NonZeroUsize;
use std::time::Duration;

use holm_rehearse::{Feedback, Options, Purpose, Silent, parse, replay, run};

const SHIPPED: [(&str, &str); 30] = [
    ("cut-wan", include_str!("../../../scenarios/cut-wan.toml")),
    (
        "three-sites",
        include_str!("../../../scenarios/three-sites.toml"),
    ),
    (
        "power-cut-all",
        include_str!("../../../scenarios/power-cut-all.toml"),
    ),
    (
        "slow-disk",
        include_str!("../../../scenarios/slow-disk.toml"),
    ),
    (
        "hunt-members",
        include_str!("../../../scenarios/hunt-members.toml"),
    ),
    (
        "hunt-elections",
        include_str!("../../../scenarios/hunt-elections.toml"),
    ),
    (
        "hunt-store",
        include_str!("../../../scenarios/hunt-store.toml"),
    ),
    (
        "hunt-votes",
        include_str!("../../../scenarios/hunt-votes.toml"),
    ),
    (
        "hunt-changes",
        include_str!("../../../scenarios/hunt-changes.toml"),
    ),
    (
        "hunt-snapshots",
        include_str!("../../../scenarios/hunt-snapshots.toml"),
    ),
    (
        "hunt-suspicion",
        include_str!("../../../scenarios/hunt-suspicion.toml"),
    ),
    (
        "hunt-sprint",
        include_str!("../../../scenarios/hunt-sprint.toml"),
    ),
    (
        "hunt-clocks",
        include_str!("../../../scenarios/hunt-clocks.toml"),
    ),
    (
        "hunt-origins",
        include_str!("../../../scenarios/hunt-origins.toml"),
    ),
    (
        "hunt-values",
        include_str!("../../../scenarios/hunt-values.toml"),
    ),
    ("thousand", include_str!("../../../scenarios/thousand.toml")),
    ("islands", include_str!("../../../scenarios/islands.toml")),
    (
        "islands-clocks",
        include_str!("../../../scenarios/islands-clocks.toml"),
    ),
    (
        "islands-steady",
        include_str!("../../../scenarios/islands-steady.toml"),
    ),
    (
        "hunt-islands",
        include_str!("../../../scenarios/hunt-islands.toml"),
    ),
    (
        "hunt-island-sites",
        include_str!("../../../scenarios/hunt-island-sites.toml"),
    ),
    (
        "hunt-returns",
        include_str!("../../../scenarios/hunt-returns.toml"),
    ),
    (
        "hunt-copies",
        include_str!("../../../scenarios/hunt-copies.toml"),
    ),
    (
        "hunt-counters",
        include_str!("../../../scenarios/hunt-counters.toml"),
    ),
    (
        "hunt-nodes",
        include_str!("../../../scenarios/hunt-nodes.toml"),
    ),
    (
        "two-guarantees",
        include_str!("../../../scenarios/two-guarantees.toml"),
    ),
    (
        "hunt-guarantees",
        include_str!("../../../scenarios/hunt-guarantees.toml"),
    ),
    (
        "streams-power",
        include_str!("../../../scenarios/streams-power.toml"),
    ),
    (
        "hunt-streams",
        include_str!("../../../scenarios/hunt-streams.toml"),
    ),
    (
        "hunt-followed",
        include_str!("../../../scenarios/hunt-followed.toml"),
    ),
];

fn runs(count: u64) -> Options {
    Options {
        runs: Some(count),
        ..Options::default()
    }
}

#[test]
fn every_shipped_scenario_keeps_its_promises_twice_with_one_trace() {
    for (name, text) in SHIPPED {
        let scenario = parse(text, name, &[]).unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(scenario.name(), name);
        let count = match scenario.purpose() {
            Purpose::Timed => 1,
            Purpose::Hunt => 12,
        };
        let report = run(&scenario, &runs(count), &mut Silent);
        let text = report.to_text();
        assert!(report.failure().is_none(), "{text}");
        // One run has no interval, and is enough for every judge.
        assert!(
            report.exit_code() == 0 || text.contains("undecided"),
            "{text}"
        );
        assert!(report.acknowledged() > 100, "{text}");
        if scenario.purpose() == Purpose::Hunt {
            let again = run(&scenario, &runs(count), &mut Silent);
            assert_eq!(again.hash(), report.hash(), "{name}");
        }
    }
}

#[test]
fn a_timed_scenario_can_be_hunted_through() {
    let scenario = parse(SHIPPED[0].1, "cut-wan", &[]).expect("it is shipped");
    let options = Options {
        explore: Some(Duration::from_secs(1)),
        ..runs(3)
    };
    let report = run(&scenario, &options, &mut Silent);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    assert!(
        report.to_text().contains("elections"),
        "it was hunted through"
    );
}

/// Two of three nodes are gone for good, so nothing can be written, and a promise breaks.
const DOOMED: &str = r#"
format = 1
name = "doomed"
why = "One of three cannot decide alone."
[run]
length = "20s"
warmup = "2s"
informative = 10
[[site]]
names = ["a", "b", "c"]
[[link]]
name = "wan"
among = ["a", "b", "c"]
one_way = "exp(2ms)"
[[keyspace]]
name = "k"
sites = ["a", "b", "c"]
[[clients]]
at = "a"
rate = "20/s"
mix = { put = 1 }
[[fault]]
at = "5s"
for = "10s"
crash = ["b", "c"]
[[promise]]
check = ["linearizable", "durable"]
[[promise]]
measure = "availability.put"
phase = "crash"
at_least = "99%"
"#;

#[test]
fn a_figure_outside_its_bound_is_broken_and_says_so_everywhere() {
    let scenario = parse(DOOMED, "doomed.toml", &[]).expect("it is well formed");
    let report = run(&scenario, &runs(4), &mut Silent);
    let text = report.to_text();
    assert_eq!(report.exit_code(), 1, "{text}");
    assert!(text.contains("BROKEN: availability.put in crash"), "{text}");
    assert!(text.contains("kept: linearizable; durable"), "{text}");
    assert!(text.contains("may not be quoted"), "{text}");
    let json = report.to_json();
    assert!(json.contains(r#""verdict":"broken""#), "{json}");
    assert!(json.contains(r#""quotable":false"#), "{json}");
    let page = report.to_html();
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
    assert!(page.len() < 5 << 20, "a page is under 5 MB");
    for said in [text, page] {
        assert!(
            said.contains("in parentheses: under half was answered"),
            "{said}"
        );
    }
}

#[test]
fn too_little_to_say_anything_is_no_success() {
    let sets = [("run.informative".to_owned(), "1000000".to_owned())];
    let scenario = parse(DOOMED, "doomed.toml", &sets).expect("it is well formed");
    let report = run(&scenario, &runs(2), &mut Silent);
    assert_eq!(report.exit_code(), 3);
    let text = report.to_text();
    assert!(text.contains("UNINFORMATIVE"), "{text}");
    assert!(!text.contains("kept: "), "nothing is known: {text}");
}

/// Runs of the real engine in which clients do everything that they can.
#[test]
fn the_real_engine_is_watched_compacted_and_leased() {
    let scenario = parse(SHIPPED[6].1, "hunt-store.toml", &[]).expect("it is well formed");
    let options = Options {
        seed: Some(100),
        ..runs(30)
    };
    let report = run(&scenario, &options, &mut Silent);
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let text = report.to_text();
    assert!(
        text.contains("kept: linearizable; watch; durable; lease"),
        "{text}"
    );
    assert!(report.acknowledged() > 3_000, "{text}");
}

/// A hunt that must fail: nothing heals in a nanosecond.
#[test]
fn a_failure_becomes_a_tape_that_shrinks_and_replays() {
    let sets = [("run.heal".to_owned(), "1ns".to_owned())];
    let scenario = parse(SHIPPED[5].1, "hunt.toml", &sets).expect("it is well formed");
    let options = Options {
        shrink: Some(Duration::from_secs(5)),
        ..runs(20)
    };
    let report = run(&scenario, &options, &mut Silent);
    let failure = report.failure().expect("no run can keep this");
    let broken = r#"{"promise":"heals","verdict":"broken"}"#;
    assert!(report.to_json().contains(broken), "{}", report.to_json());
    let replays = "replay: holm rehearse hunt.toml --set run.heal=1ns --tape ";
    assert!(report.to_text().contains(replays), "{}", report.to_text());
    assert_eq!((report.exit_code(), failure.judge), (1, "heals"));
    let (left, _) = failure.shrunk.expect("it fails with normal fill too");
    assert!(left < failure.choices, "{left} of {}", failure.choices);
    let options = Options {
        tape: Some(failure.tape.clone()),
        steps: true,
        ..Options::default()
    };
    let again = replay(&scenario, &options, &mut Silent).expect("it is a tape");
    let found = again.failure().expect("the tape fails as the run did");
    assert_eq!((found.judge, found.rule), (failure.judge, failure.rule));
    assert!(again.to_text().contains(" ms n1 "), "its steps are shown");
    assert!(replay(&scenario, &Options::default(), &mut Silent).is_err());
}

/// Threads change neither a run nor which failure is the first (sim I3).
#[test]
fn any_number_of_threads_gives_the_same_hunt() {
    let on = |jobs: usize, heal: &str| {
        let sets = [("run.heal".to_owned(), heal.to_owned())];
        let scenario = parse(SHIPPED[4].1, "hunt.toml", &sets).expect("it is well formed");
        let options = Options {
            jobs: NonZeroUsize::new(jobs),
            shrink: Some(Duration::ZERO),
            ..runs(70)
        };
        run(&scenario, &options, &mut Silent)
    };
    let (one, many) = (on(1, "30s"), on(3, "30s"));
    assert_eq!((one.runs(), one.exit_code()), (70, 0), "{}", one.to_text());
    assert_eq!(one.hash(), many.hash());
    assert_eq!(one.to_json(), many.to_json());
    // Some runs heal in so short a time and some do not.
    let (one, many) = (on(1, "400ms"), on(3, "400ms"));
    let (first, other) = (one.failure(), many.failure());
    let first = first.expect("not every run heals so fast");
    let other = other.expect("the same runs were made");
    assert!(first.run > 0, "{}", one.to_text());
    assert_eq!((first.run, &first.tape), (other.run, &other.tape));
}

/// The same of runs in order of time.
#[test]
fn any_number_of_threads_gives_the_same_figures() {
    let scenario = parse(SHIPPED[3].1, "slow-disk.toml", &[]).expect("it is well formed");
    let on = |jobs| {
        let options = Options {
            jobs: NonZeroUsize::new(jobs),
            ..runs(3)
        };
        run(&scenario, &options, &mut Silent)
    };
    let (one, many) = (on(1), on(2));
    assert_eq!((one.runs(), one.hash()), (3, many.hash()));
    assert_eq!(one.to_json(), many.to_json());
}

/// The log keeps four operations, so who was away gets chunks; and disks run full meanwhile.
#[test]
fn snapshots_full_disks_and_goals_are_reached() {
    let more = "[[goal]]\nname = \"two lead in one term\"\n\
        pattern = [\"LeaderElected term=$t node=$n\", \"LeaderElected term=$t node!=$n\"]\n";
    let text = format!("{}{more}", SHIPPED[9].1);
    let scenario = parse(&text, "hunt-snapshots.toml", &[]).expect("it is well formed");
    let report = run(&scenario, &runs(40), &mut Silent);
    let text = report.to_text();
    assert_eq!(report.exit_code(), 0, "{text}");
    assert!(
        text.contains("goal: a snapshot in several chunks is installed: in "),
        "{text}"
    );
    assert!(
        text.contains("goal: who took a snapshot leads: in "),
        "{text}"
    );
    let never = "goal: two lead in one term: NOT REACHED, 1 of 2 steps at best";
    assert!(text.contains(never), "{text}");
    let json = report.to_json();
    assert!(
        json.contains(r#""goal":"two lead in one term","runs":0"#),
        "{json}"
    );
}

/// Looking changes no run, and a search is a function of its seed on any number of threads.
#[test]
fn a_search_with_feedback_is_a_function_of_its_seed() {
    let scenario = parse(SHIPPED[7].1, "hunt-votes.toml", &[]).expect("it is well formed");
    let hunt = |feedback, jobs| {
        let options = Options {
            feedback,
            jobs: NonZeroUsize::new(jobs),
            ..runs(100)
        };
        run(&scenario, &options, &mut Silent)
    };
    let (off, counted) = (hunt(Feedback::Off, 1), hunt(Feedback::Counted, 1));
    assert_eq!(off.hash(), counted.hash());
    assert!(!off.to_text().contains("timelines"), "{}", off.to_text());
    assert!(
        counted.to_text().contains("timelines"),
        "{}",
        counted.to_text()
    );
    let (one, many) = (hunt(Feedback::On, 1), hunt(Feedback::On, 3));
    assert_eq!(one.exit_code(), 0, "{}", one.to_text());
    assert_ne!(one.hash(), off.hash(), "most runs are like earlier ones");
    assert_eq!(one.hash(), many.hash());
    assert_eq!(one.to_json(), many.to_json());
}
