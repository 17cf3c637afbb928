//! How much faster than real time a timed scenario runs on one core, by CPU time: the yardstick is
//! `scenarios/thousand.toml`.
//!
//! `cargo run --release -p holm-rehearse --example pace -- FILE [RUNS]`

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program has arguments, reads files and a clock, and prints"
)]

use std::time::Instant;

use holm_rehearse::{Options, Silent, parse, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let file = words.next().ok_or("name a scenario")?;
    let runs: u64 = words.next().map_or(Ok(4), |word| word.parse())?;
    let text = std::fs::read_to_string(&file)?;
    let scenario = parse(&text, &file, &[]).map_err(|refusal| refusal.to_string())?;
    let options = Options {
        runs: Some(runs),
        ..Options::default()
    };
    let begun = Instant::now();
    let report = run(&scenario, &options, &mut Silent);
    let took = begun.elapsed().as_secs_f64();
    println!("{}", report.to_text());
    println!("{runs} runs in {took:.3} s; CPU {}", cpu()?);
    Ok(())
}

/// What this thread has spent, in nanoseconds.
fn cpu() -> Result<String, std::io::Error> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned())
}
