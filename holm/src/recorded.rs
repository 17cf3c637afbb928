//! `holm rehearse --recorded`: real runs again, step by step, and whether they want the same.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use holm_raft::{Difference, Ended, Ending, Replayed};

/// How many characters of an effect or input are shown.
const SHOWN: usize = 400;

/// A recording cannot be read, or is none.
const UNREADABLE: u8 = 2;

/// A step differs.
const DIFFERS: u8 = 4;

/// Replays what lies at `place` and says what came of it; the code is 0 if all steps are equal.
///
/// # Errors
///
/// Recordings that cannot be read, or are none.
pub(crate) fn replay_all(place: &Path) -> Result<u8> {
    let mut code = 0;
    let mut out = std::io::stdout().lock();
    for file in holm_runtime::recordings(place)? {
        let text = match holm_runtime::replay(&file) {
            Ok(replayed) => {
                if replayed.differs.is_some() {
                    code = DIFFERS;
                }
                describe(&file, &replayed)
            }
            Err(error) => {
                // The others may tell something all the same.
                code = code.max(UNREADABLE);
                format!("{:#}\n", anyhow::Error::new(error))
            }
        };
        out.write_all(text.as_bytes()).context("write the result")?;
    }
    out.flush().context("write the result")?;
    Ok(code)
}

fn describe(file: &Path, replayed: &Replayed) -> String {
    let Replayed {
        node,
        boot,
        steps,
        inputs,
        until,
        ..
    } = replayed;
    let name = file.display();
    let head = format!("{name}: node {:016x}, run {boot}", node.value());
    let seconds = until.since(holm_base::Time::ZERO).as_secs_f64();
    match &replayed.differs {
        None => {
            let ending = match replayed.ending {
                Ending::Said(Ended::Stopped) => "to the node's end",
                Ending::Said(Ended::Full) => "until the recording was full",
                Ending::Torn => "until it breaks off, as when a process is killed",
            };
            format!("{head}: equal, {steps} steps of {inputs} inputs, {seconds:.3} s, {ending}\n")
        }
        Some(difference) => format!("{head}: DIFFERS\n{}", shown(difference)),
    }
}

fn shown(difference: &Difference) -> String {
    let Difference {
        step,
        now,
        inputs,
        effects,
    } = difference;
    let seconds = now.since(holm_base::Time::ZERO).as_secs_f64();
    let mut text = format!("  step {step}, at {seconds:.6} s: other effects than were recorded\n");
    for (what, list) in [("told", inputs), ("wants now", effects)] {
        if list.is_empty() {
            text.push_str("  ");
            text.push_str(what);
            text.push_str(": nothing\n");
        }
        for item in list {
            let item: String = item.chars().take(SHOWN).collect();
            writeln!(text, "  {what}: {item}").expect("a string takes all");
        }
    }
    text
}
