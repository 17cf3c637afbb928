//! Rehearses scenarios and prints the reports: for timing, without the rest of the binary.
//!
//! `cargo run --release -p holm-rehearse --example rehearse -- FILE [--runs N] [--seed N]
//! [--jobs N] [--feedback on|counted|off] [--explore SECONDS] [--cpu] [--shrink SECONDS]
//! [--html FILE] [--tapes FOLDER] [--tape FILE]`
#![expect(clippy::disallowed_types, reason = "it measures real time")]
#![expect(clippy::disallowed_methods, reason = "it reads a file and arguments")]
#![expect(clippy::print_stdout, reason = "it is a program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use holm_rehearse::{Feedback, Options, Progress, parse, replay, run};

/// Real time, or with `--cpu` the time that this process has run, so that a busy machine does
/// not shorten a hunt.
enum Clock {
    Real(Instant),
    Cpu,
}

impl Progress for Clock {
    fn elapsed(&mut self) -> Duration {
        match self {
            Self::Real(begun) => begun.elapsed(),
            Self::Cpu => cpu_time(),
        }
    }
}

/// As the kernel accounts it, in hundredths of a second.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux keeps accounts");
    let (_, rest) = text.rsplit_once(')').expect("the name is in parentheses");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("it is a number");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (file, rest) = words
        .split_first()
        .expect("the first argument is a scenario");
    let after = |flag: &str| {
        let at = rest.iter().position(|word| word == flag)?;
        rest.get(at + 1)
    };
    let number = |flag: &str| after(flag).map(|text| text.parse().expect("it is a number"));
    let text = std::fs::read_to_string(file).expect("the scenario can be read");
    let scenario = match parse(&text, file, &[]) {
        Ok(scenario) => scenario,
        Err(refusal) => {
            println!("{refusal}");
            return ExitCode::from(2);
        }
    };
    let options = Options {
        runs: number("--runs"),
        seed: number("--seed"),
        shrink: number("--shrink").map(Duration::from_secs),
        explore: number("--explore").map(Duration::from_secs),
        jobs: number("--jobs").and_then(|jobs| usize::try_from(jobs).ok()?.try_into().ok()),
        feedback: match after("--feedback").map(String::as_str) {
            Some("on") => Feedback::On,
            Some("counted") => Feedback::Counted,
            Some("off") => Feedback::Off,
            Some(other) => panic!("feedback is on, counted or off, not {other}"),
            None => Feedback::default(),
        },
        ..Options::default()
    };
    // A run whose assertion fails is a failure with a tape, and said there.
    std::panic::set_hook(Box::new(|_| {}));
    let mut clock = if rest.iter().any(|word| word == "--cpu") {
        Clock::Cpu
    } else {
        Clock::Real(Instant::now())
    };
    let report = match after("--tape") {
        None => run(&scenario, &options, &mut clock),
        Some(tape) => {
            let tape = std::fs::read(tape).expect("the tape can be read");
            let options = Options {
                tape: Some(tape),
                steps: true,
                ..options
            };
            replay(&scenario, &options, &mut clock).expect("it is a tape")
        }
    };
    print!("{}", report.to_text());
    let seconds = clock.elapsed().as_secs_f64().max(0.01);
    let per = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds;
    println!(
        "{:.0} messages/s, {:.0} operations/s",
        per(report.delivered()),
        per(report.acknowledged())
    );
    if let (Some(folder), Some(name)) = (after("--tapes"), report.tape_name()) {
        let tape = report.failure().map(|failure| failure.tape.clone());
        std::fs::write(format!("{folder}/{name}"), tape.unwrap_or_default())
            .expect("it is written");
    }
    if let Some(page) = after("--html") {
        std::fs::write(page, report.to_html()).expect("the page can be written");
    }
    ExitCode::from(report.exit_code())
}
