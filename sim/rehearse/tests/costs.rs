//! Costs: what a file must say, what has a price, and what work that costs something does to a run.

use holm_rehearse::{
    Cell, Costs, IdleWake, Load, Machine, Measured, Options, Parts, Scenario, Share, Silent,
    SyncWait, TABLE, Work, misses, model, parse, run, solve, worst,
};

fn here() -> Machine {
    Machine {
        processor: "a processor".to_owned(),
        cores: 2,
        kernel: "6.1".to_owned(),
        release: "0.1.4".to_owned(),
    }
}

/// Round prices, near those of a small machine.
fn costs() -> Costs {
    let mut costs = Costs::new("test.toml".to_owned(), here());
    costs.build = "ab".repeat(32);
    costs.date = "2026-11-27".to_owned();
    for (_, work) in Work::ALL {
        costs.set(work, 4_000);
    }
    costs.set(Work::LogFlush, 20_000);
    costs.set(Work::IdleFlush, 30_000);
    costs.set(Work::FrontPut, 9_000);
    costs.set(Work::FrontRange, 9_000);
    costs.wake = (0..64).map(|at| 4_000 + at * 100).collect();
    costs.idle = [20_000, 90_000]
        .map(|slept| IdleWake {
            slept,
            wake: 3_000 + slept / 30,
            call: 4_000 + slept / 90,
            delay: (0..64).map(|at| 9_000 + slept / 100 + at * 200).collect(),
        })
        .to_vec();
    costs.sync = [4_096, 32_768, 262_144]
        .map(|bytes| SyncWait {
            bytes,
            alone: (0..64).map(|at| 30_000 + bytes + at * 1_000).collect(),
            beside: (0..64).map(|at| 40_000 + bytes + at * 1_500).collect(),
            load: if bytes > 4_096 { 1.5 } else { 1.0 },
        })
        .to_vec();
    costs
}

fn cell(clients: u32, rate: f64, p50_us: f64) -> Cell {
    let (load, p99_us, cpu_us) = (Load::Put, 900.0, 40.0);
    Cell {
        load,
        clients,
        rate,
        p50_us,
        p99_us,
        cpu_us,
    }
}

const SITES: &str = r#"
format = 1
name = "loaded"
why = "Work takes time."
[run]
length = "4s"
warmup = "2s"
informative = 10
[[site]]
names = ["a", "b", "c"]
costs = "test.toml"
[[link]]
name = "wan"
among = ["a", "b", "c"]
one_way = "1ms"
[[keyspace]]
name = "k"
sites = ["a", "b", "c"]
[[clients]]
at = ["a", "b", "c"]
rate = "100/s"
mix = { put = 1, range = 1 }
keys = "uniform(100)"
value = "256B"
[[promise]]
check = ["linearizable", "durable"]
"#;

fn loaded(text: &str) -> Scenario {
    parse(text, "loaded.toml", &[]).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn twice() -> Options {
    Options {
        runs: Some(3),
        ..Options::default()
    }
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let mut costs = costs();
    costs.search = 12_500;
    costs.real = vec![cell(1, 2_000.0, 480.5), cell(1_000, 35_000.0, 28_000.0)];
    costs.model = vec![cell(1, 2_100.0, 470.0), cell(1_000, 34_000.0, 29_000.0)];
    let parts = |front: f64| Parts {
        front,
        engine: 2_500.0,
        log: 750.0,
        other: 0.0,
    };
    costs.measured = vec![Measured {
        load: Some(Load::Range),
        sites: 3,
        clients: 2,
        connections: 1,
        leader: parts(47_250.0),
        follower: parts(11_500.0),
        generator: 3_125.0,
        sync: 190_500.0,
    }];
    let read = Costs::parse(&costs.to_toml(), "test.toml").unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(read, costs);
    assert_eq!(read.wake.len(), TABLE);
}

#[test]
fn work_without_a_price_is_refused_and_never_free() {
    let text = costs().to_toml();
    for (name, _) in Work::ALL {
        let line = format!("\"{name}\" = ");
        let without: Vec<&str> = text.lines().filter(|one| !one.starts_with(&line)).collect();
        assert_eq!(without.len() + 1, text.lines().count(), "{name}");
        let refusal = Costs::parse(&without.join("\n"), "test.toml").expect_err("it lacks one");
        assert!(
            refusal.what.contains(&format!("no measure of {name}")),
            "{refusal}"
        );
        assert!(refusal.line > 0, "{refusal}");
    }
    let more = text.replace("[cpu]", "[cpu]\n\"engine.lunch\" = 3.0");
    let refusal = Costs::parse(&more, "test.toml").expect_err("nobody knows that kind");
    assert!(refusal.what.contains("engine.lunch"), "{refusal}");
}

#[test]
fn tables_are_whole_and_rise() {
    let text = costs().to_toml();
    for (planted, what) in [
        (text.replacen("wake = [4.000, ", "wake = [", 1), "wake"),
        (
            text.replacen("alone = [34.096, ", "alone = [99.000, ", 1),
            "alone",
        ),
        (text.replace("format = 6", "format = 5"), "format"),
        (text.replacen("load = 1.500", "load = 0.0", 1), "load is"),
        (text.replacen("slept = 20.000", "slept = 99.000", 1), "idle"),
        (
            text.replacen("\"link.call\" = 4.000", "\"link.call\" = -4.0", 1),
            "link.call",
        ),
    ] {
        assert_ne!(planted, text);
        let refusal = Costs::parse(&planted, "test.toml").expect_err(what);
        assert!(refusal.what.contains(what), "{refusal}");
    }
}

#[test]
fn a_file_is_bound_to_a_minor_release_and_tells_its_machine() {
    let costs = costs();
    let other = |release: &str| Machine {
        release: release.to_owned(),
        ..here()
    };
    assert_eq!(costs.foreign_to(&other("0.1.9")), None);
    for release in ["0.2.4", "1.1.4"] {
        let why = costs
            .foreign_to(&other(release))
            .expect("it is of another release");
        assert!(
            why.contains(release) && why.contains("calibrate again"),
            "{why}"
        );
    }
    assert_eq!(costs.elsewhere(&here()), None);
    let larger = Machine {
        cores: 64,
        ..here()
    };
    let why = costs.elsewhere(&larger).expect("it has more cores");
    assert!(why.contains("2 cores") && why.contains("64 cores"), "{why}");
}

#[test]
fn scenarios_that_do_what_has_no_price_are_refused() {
    let refused = [
        ("put = 1, range = 1", "put = 1, txn = 1", "txn"),
        (
            "value = \"256B\"",
            "value = \"257B\"",
            "values of 257 bytes",
        ),
        (
            "keys = \"uniform(100)\"",
            "keys = \"uniform(4)\"",
            "several keys",
        ),
        (
            "value = \"256B\"",
            "value = \"256B\"\nwatch = \"/\"",
            "watch",
        ),
        (
            "sites = [\"a\", \"b\", \"c\"]",
            "sites = [\"a\", \"b\", \"c\"]\nengine = \"table\"",
            "table",
        ),
    ];
    for (from, to, what) in refused {
        let text = SITES.replacen(from, to, 1);
        assert_ne!(text, SITES, "{what}");
        let why = loaded(&text).charge(costs()).expect_err(what);
        assert!(why.contains(what) && why.contains("test.toml"), "{why}");
    }
    let streams = include_str!("../../../scenarios/streams-power.toml");
    let why = loaded(streams).charge(costs()).expect_err("streams");
    assert!(why.contains("no measure of streams"), "{why}");
    let some = SITES.replace("[[link]]", "[[site]]\nnames = \"d\"\n[[link]]");
    assert!(
        loaded(&some).costs_wanted().is_err(),
        "one site would work for nothing"
    );
    assert_eq!(loaded(SITES).costs_wanted(), Ok(Some("test.toml")));
    assert_eq!(
        loaded(&SITES.replace("costs = \"test.toml\"", "")).costs_wanted(),
        Ok(None)
    );
}

#[test]
fn work_takes_time_and_a_run_is_still_a_function_of_its_seed() {
    let mut scenario = loaded(SITES);
    let free = run(&scenario, &twice(), &mut Silent);
    assert_eq!(free.exit_code(), 0, "{}", free.to_text());
    assert!(
        free.to_text().contains("work is free"),
        "{}",
        free.to_text()
    );
    scenario.charge(costs()).expect("all of it has a price");
    let paid = run(&scenario, &twice(), &mut Silent);
    assert_eq!(paid.exit_code(), 0, "{}", paid.to_text());
    let again = run(&scenario, &twice(), &mut Silent);
    assert_eq!(paid.hash(), again.hash());
    assert_ne!(paid.hash(), free.hash());
    let text = paid.to_text();
    for words in [
        "costs test.toml",
        "NOT VALID (never validated)",
        "syncs/s",
        "host a:",
        "cores busy",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(
        paid.to_json().contains("\"quotable\":false"),
        "{}",
        paid.to_json()
    );
    assert!(paid.to_html().contains("CPU and syncs by site"));
}

#[test]
fn costs_that_were_right_make_figures_quotable_and_costs_that_were_not_do_not() {
    let mut right = costs();
    right.real = vec![cell(100, 20_000.0, 4_000.0)];
    right.model = vec![cell(100, 21_000.0, 3_700.0)];
    let mut wrong = right.clone();
    wrong.model = vec![cell(100, 21_000.0, 4_920.0)];
    assert_eq!(
        worst(&wrong.misses()).expect("it is off").to_string(),
        "put, 100 clients: p50 off by 23 %"
    );
    let mut busy = right.clone();
    busy.foreign = 0.23;
    for (costs, words, quotable) in [
        (
            busy,
            "NOT VALID (calibrated while others used 23 % of the machine)",
            "\"quotable\":false",
        ),
        (right, "validated within 7 %", "\"quotable\":true"),
        (
            wrong,
            "NOT VALID (put, 100 clients: p50 off by 23 %)",
            "\"quotable\":false",
        ),
    ] {
        let mut scenario = loaded(SITES);
        scenario.charge(costs).expect("all of it has a price");
        let report = run(&scenario, &twice(), &mut Silent);
        assert!(report.to_text().contains(words), "{}", report.to_text());
        assert!(report.to_json().contains(quotable), "{}", report.to_json());
    }
}

#[test]
fn p99_is_shown_and_not_judged() {
    let slow = Cell {
        p99_us: 9_000.0,
        ..cell(1, 2_000.0, 480.0)
    };
    let all = misses(&[cell(1, 2_000.0, 480.0)], &[slow]);
    assert_eq!(all.len(), 4);
    assert!(
        all.iter()
            .any(|miss| miss.figure == "p99" && miss.error > 8.0)
    );
    assert!(worst(&all).is_some_and(|miss| miss.error.abs() < 1e-9));
}

/// What threads would spend under a load whose prices are known, as the model counts it.
fn spent(costs: &Costs, load: Load, clients: u32) -> Measured {
    let said = model(costs, load, clients, 1).expect("it runs");
    let price = |work: Work| f64::from(u32::try_from(costs.of(work)).expect("prices are small"));
    let parts = |share: &Share, own: bool| {
        let (puts, times) = (load == Load::Put, if own { 1.0 } else { 0.0 });
        let entry = if puts { 1.0 } else { 0.0 };
        let front = if puts {
            Work::FrontPut
        } else {
            Work::FrontRange
        };
        let asks = if puts {
            Work::EnginePut
        } else {
            Work::EngineRange
        };
        let links = (share.writes - share.own_writes + share.reads) * price(Work::LinkCall)
            + share.link_kib * price(Work::LinkKib)
            + share.read_kib * price(Work::LinkReadKib);
        // What whoever runs the engine does in so many batches, with so many records.
        let engine = |turns: f64, records: f64| {
            turns * price(Work::EngineTurn) + records * entry * price(Work::EngineEntry)
        };
        Parts {
            front: share.worker_timed_nanos
                + links
                + share.polls * price(Work::FrontPoll)
                + times * price(front)
                + engine(share.turns_here, share.records_here),
            engine: share.timed_nanos
                + share.own_writes * price(Work::LinkCall)
                + times * price(asks)
                + engine(
                    share.turns - share.turns_here,
                    share.records - share.records_here,
                ),
            log: share.log_timed_nanos + entry * price(Work::LogEntry),
            other: 0.0,
        }
    };
    let all = |of: fn(&Share) -> f64| of(&said.counts.leader) + 2.0 * of(&said.counts.follower);
    let waits = all(|share| share.sync_nanos);
    let flushes = all(|share| share.flushes).max(f64::EPSILON);
    let sends = match load {
        Load::Put => Work::GeneratorPut,
        Load::Range => Work::GeneratorRange,
    };
    Measured {
        load: Some(load),
        sites: 3,
        clients,
        connections: (clients / 10).max(1),
        leader: parts(&said.counts.leader, true),
        follower: parts(&said.counts.follower, false),
        generator: said.counts.generator_polls * price(Work::GeneratorPoll)
            + said.counts.generator_wake_nanos
            + price(sends),
        sync: waits / flushes,
    }
}

#[test]
fn prices_are_found_from_what_threads_spent() {
    let mut costs = costs();
    costs.set(Work::Cold, 40_000);
    let echo = |connections: u32, polls: f64| Measured {
        load: None,
        sites: 3,
        clients: 64,
        connections,
        leader: Parts {
            front: 4_000.0 + polls * 4_000.0,
            ..Parts::default()
        },
        follower: Parts::default(),
        generator: 1_000.0 + polls * 4_000.0,
        sync: 0.0,
    };
    costs.measured = vec![echo(64, 1.0), echo(4, 1.0 / 16.0)];
    for load in [Load::Put, Load::Range] {
        for clients in [2, 256, 2_560] {
            let one = spent(&costs, load, clients);
            costs.measured.push(one);
        }
    }
    // A site alone has the same front, and no links.
    let many = costs.measured[3];
    assert_eq!(many.clients, 256);
    let said = model(&costs, Load::Put, 256, 1).expect("it runs").counts;
    let polls = said.leader.polls * 4_000.0 + said.leader.worker_timed_nanos;
    costs.measured.push(Measured {
        sites: 1,
        leader: Parts {
            front: 9_000.0 + polls,
            ..Parts::default()
        },
        ..many
    });
    let known = costs.clone();
    for (_, work) in Work::ALL {
        if ![Work::ThreadWake, Work::LogFlush, Work::IdleFlush].contains(&work) {
            costs.set(work, 1);
        }
    }
    solve(&mut costs).expect("all loads are there");
    let off = Work::ALL.map(|(name, work)| {
        let (found, true_one) = (costs.of(work), known.of(work));
        // What is left over has all the chance of one run in it.
        let slack = if work == Work::Cold { 6_000 } else { 400 };
        (found.abs_diff(true_one) > slack).then(|| format!("{name}: {found} for {true_one}"))
    });
    let off: Vec<String> = off.into_iter().flatten().collect();
    assert!(off.is_empty(), "{off:?}");
    for (found, true_one) in costs.sync.iter().zip(&known.sync).skip(1) {
        let (found, true_one) = (found.load, true_one.load);
        assert!((found - true_one).abs() < 0.15, "{found} for {true_one}");
    }
    costs.measured.pop();
    let why = solve(&mut costs).expect_err("a load is missing");
    assert!(why.contains("256 clients was not measured"), "{why}");
}

#[test]
fn a_wrong_price_is_found_by_the_validation() {
    let mut costs = costs();
    let said = |costs: &Costs| {
        let clients = [1, 100];
        let cells = clients.map(|count| model(costs, Load::Put, count, 1).expect("it runs").cell);
        cells.to_vec()
    };
    costs.real = said(&costs);
    costs.model = said(&costs);
    assert_eq!(costs.flaw(), None, "a model agrees with itself to the bit");
    for work in [Work::FrontPut, Work::EngineEntry, Work::IdleFlush] {
        let mut wrong = costs.clone();
        wrong.set(work, costs.of(work) * 4);
        wrong.model = said(&wrong);
        let flaw = wrong.flaw().expect("it is four times what it was");
        assert!(flaw.contains("off by"), "{work:?}: {flaw}");
    }
}

#[test]
fn the_model_uses_no_more_than_the_cores_there_are_and_batches_under_load() {
    let one = model(&costs(), Load::Put, 1, 1).expect("it runs");
    let many = model(&costs(), Load::Put, 100, 1).expect("it runs");
    for said in [one, many] {
        let cores = said.cell.rate * said.cell.cpu_us / 1e6;
        assert!(cores > 0.2 && cores < 2.0, "{said:?}");
    }
    assert!(
        one.counts.leader.flushes > 0.9,
        "each put alone is a flush: {one:?}"
    );
    assert!(many.counts.leader.flushes < 0.5, "many share one: {many:?}");
    assert!(many.cell.rate > 3.0 * one.cell.rate, "{one:?} {many:?}");
    assert!(many.cell.cpu_us < one.cell.cpu_us, "batches save work");
    let read = model(&costs(), Load::Range, 10, 1).expect("it runs");
    assert!(
        read.counts.leader.flushes < 0.01,
        "a read is not logged: {read:?}"
    );
}

#[test]
fn large_flushes_wait_as_large_ones_were_timed_and_small_ones_do_not() {
    let mut slow = costs();
    slow.sync[2].load = 20.0;
    let wait = |costs: &Costs, clients| {
        let said = model(costs, Load::Put, clients, 1).expect("it runs");
        let share = said.counts.leader;
        share.sync_nanos / share.flushes
    };
    // A lone put's flush is 4 KiB, and only what is timed at that size counts.
    assert!((wait(&costs(), 1) - wait(&slow, 1)).abs() < 1.0);
    let (before, now) = (wait(&costs(), 1_000), wait(&slow, 1_000));
    assert!(now > 2.0 * before, "{before} {now}");
}

#[test]
fn a_core_that_slept_long_is_dear_to_lone_clients_and_nothing_to_many() {
    let mut warm = costs();
    // A lone client's cores sleep for some thirty microseconds here.
    warm.idle[1].slept = 30_000;
    let mut cold = warm.clone();
    cold.set(Work::Cold, 104_000);
    let cpu = |costs: &Costs, clients| {
        let said = model(costs, Load::Put, clients, 1).expect("it runs");
        said.cell.cpu_us
    };
    let (before, now) = (cpu(&warm, 1), cpu(&cold, 1));
    assert!(now > before + 25.0, "{before} {now}");
    let (before, now) = (cpu(&warm, 256), cpu(&cold, 256));
    assert!((now - before).abs() < 0.1 * before, "{before} {now}");
}

#[test]
fn an_entry_among_hundreds_has_the_price_of_a_crowd() {
    let mut cheap = costs();
    cheap.set(Work::EngineCrowd, 1_000);
    let engine = |costs: &Costs, clients| {
        let said = model(costs, Load::Put, clients, 1).expect("it runs");
        said.counts.follower.engine_nanos
    };
    assert!((engine(&costs(), 10) - engine(&cheap, 10)).abs() < 50.0);
    assert!(engine(&cheap, 2_560) < engine(&costs(), 2_560) - 1_500.0);
}

#[test]
fn all_that_is_answered_meanwhile_counts_whenever_it_was_asked() {
    let said = model(&costs(), Load::Put, 1_000, 1).expect("it runs");
    let records = said.counts.leader.records;
    assert!(
        (records - 1.0).abs() < 0.05,
        "each answer is of one entry: {records}"
    );
}

#[test]
fn a_scenario_against_itself_is_one_times_as_fast() {
    let mut scenario = loaded(SITES);
    scenario.charge(costs()).expect("all of it has a price");
    let options = Options {
        against: Some(Box::new(scenario.clone())),
        ..twice()
    };
    let same = run(&scenario, &options, &mut Silent).to_text();
    assert!(
        same.contains("put.p50 at a in before: 1.000x (1.000 to 1.000), no difference"),
        "{same}"
    );
    let far = SITES.replace("one_way = \"1ms\"", "one_way = \"2ms\"");
    let mut far = loaded(&far);
    far.charge(costs()).expect("all of it has a price");
    let slower = run(&far, &options, &mut Silent).to_text();
    let line = slower
        .lines()
        .find(|line| line.contains("put.p50 at a in before:"));
    let line = line.unwrap_or_else(|| panic!("{slower}"));
    assert!(
        line.contains(": 1.") && !line.contains("no difference"),
        "{line}"
    );
}
