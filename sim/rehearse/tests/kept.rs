//! Failures of the past, made again: what `sim/seeds.txt` names must not fail any more. Tapes are
//! there too that found a mutant; without it they must find nothing.
//!
//! What would surprise: code that draws otherwise than it did makes other runs of old seeds and
//! tapes. They are kept all the same; a run costs a second.
#![expect(
    clippy::disallowed_methods,
    reason = "it reads files that nothing else embeds"
)]

use std::path::{Path, PathBuf};

use holm_rehearse::{Options, Report, Scenario, Silent, parse, replay, run};

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    scenario: String,
    from: From,
    why: String,
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    Seed { first: u64, runs: u64 },
    Tape(String),
}

fn read(text: &str) -> Vec<Kept> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| kept(line).unwrap_or_else(|| panic!("`{line}` is no kept failure")))
        .collect()
}

fn kept(line: &str) -> Option<Kept> {
    let (scenario, rest) = line.split_once(' ')?;
    let (from, rest) = rest.split_once(' ')?;
    let (from, why) = if from.ends_with(".tape") {
        (From::Tape(from.to_owned()), rest)
    } else {
        let (runs, why) = rest.split_once(' ')?;
        let (first, runs) = (from.parse().ok()?, runs.parse().ok()?);
        (From::Seed { first, runs }, why)
    };
    Some(Kept {
        scenario: scenario.to_owned(),
        from,
        why: why.to_owned(),
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn scenario(name: &str) -> Scenario {
    let file = root().join("scenarios").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&file).expect("a kept failure names a scenario");
    parse(&text, name, &[]).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn again(kept: &Kept) -> Report {
    let scenario = scenario(&kept.scenario);
    match &kept.from {
        From::Seed { first, runs } => {
            let options = Options {
                seed: Some(*first),
                runs: Some(*runs),
                ..Options::default()
            };
            run(&scenario, &options, &mut Silent)
        }
        From::Tape(name) => {
            let tape = std::fs::read(root().join("sim/tapes").join(name));
            let options = Options {
                tape: Some(tape.expect("a kept tape is there")),
                ..Options::default()
            };
            replay(&scenario, &options, &mut Silent).expect("a kept tape is readable")
        }
    }
}

#[test]
fn what_failed_once_does_not_fail_again() {
    let text = std::fs::read_to_string(root().join("sim/seeds.txt")).expect("it is kept");
    let all = read(&text);
    assert!(all.len() > 4, "failures are kept");
    for kept in &all {
        let report = again(kept);
        let said = report.to_text();
        assert!(report.failure().is_none(), "{}: {said}", kept.why);
        assert!(report.acknowledged() > 0, "{}: {said}", kept.why);
    }
}

#[test]
fn every_tape_is_named_in_a_line() {
    let text = std::fs::read_to_string(root().join("sim/seeds.txt")).expect("it is kept");
    let all = read(&text);
    let tapes = std::fs::read_dir(root().join("sim/tapes")).expect("it is there");
    let mut count = 0;
    for tape in tapes {
        let name = tape.expect("it can be listed").file_name();
        let name = name.to_string_lossy().into_owned();
        if name.ends_with(".tape") {
            count += 1;
            let from = From::Tape(name.clone());
            assert!(
                all.iter().any(|kept| kept.from == from),
                "{name} has no line"
            );
        }
    }
    assert!(count > 0, "tapes are kept");
}

#[test]
fn a_line_is_a_scenario_and_a_seed_or_a_tape_and_a_reason() {
    let all = read("# said\n\nhunt 7 3 it was lost\nhunt a.tape it was lost\n");
    let froms: Vec<&From> = all.iter().map(|kept| &kept.from).collect();
    let seed = From::Seed { first: 7, runs: 3 };
    assert_eq!(froms, [&seed, &From::Tape("a.tape".to_owned())]);
    for wrong in ["hunt 7 3", "hunt", "hunt seven 3 why"] {
        assert_eq!(kept(wrong), None, "{wrong}");
    }
}
