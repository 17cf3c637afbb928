//! `holm rehearse --recorded`: real runs again, step by step, and whether they want the same.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use holm_base::Time;
use holm_raft::{Difference, Ended, Ending, Replayed};
use serde_json::{Value, json};

/// How many characters of an effect or input are shown.
const SHOWN: usize = 400;

/// A recording cannot be read, or is none.
const UNREADABLE: u8 = 2;

/// A step differs.
const DIFFERS: u8 = 4;

/// Replays what lies at `place` and says what came of it, as JSON an object a recording; the code is 0 if all steps
/// are equal.
///
/// # Errors
///
/// Recordings that cannot be read, or are none.
pub(crate) fn replay_all(place: &Path, is_json: bool) -> Result<u8> {
    let mut code = 0;
    let mut out = std::io::stdout().lock();
    for file in holm_runtime::recordings(place)? {
        let (text, json) = match holm_runtime::replay(&file) {
            Ok(replayed) => {
                if replayed.differs.is_some() {
                    code = DIFFERS;
                }
                (describe(&file, &replayed), json(&file, &replayed))
            }
            Err(error) => {
                // The others may tell something all the same.
                code = code.max(UNREADABLE);
                let error = format!("{:#}", anyhow::Error::new(error));
                let json = json!({ "file": file.display().to_string(), "error": error });
                (format!("{error}\n"), json)
            }
        };
        let said = if is_json { format!("{json}\n") } else { text };
        out.write_all(said.as_bytes()).context("write the result")?;
    }
    out.flush().context("write the result")?;
    Ok(code)
}

fn json(file: &Path, replayed: &Replayed) -> Value {
    let seconds = |time: Time| time.since(Time::ZERO).as_secs_f64();
    let difference = |it: &Difference| {
        json!({
            "step": it.step,
            "seconds": seconds(it.now),
            "told": it.inputs,
            "wants_now": it.effects,
        })
    };
    json!({
        "file": file.display().to_string(),
        "node": format!("{:016x}", replayed.node.value()),
        "run": replayed.boot,
        "steps": replayed.steps,
        "inputs": replayed.inputs,
        "seconds": seconds(replayed.until),
        "ending": match replayed.ending {
            Ending::Said(Ended::Stopped) => "stopped",
            Ending::Said(Ended::Full) => "full",
            Ending::Torn => "torn",
        },
        "differs": replayed.differs.as_ref().map(difference),
    })
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
    let seconds = until.since(Time::ZERO).as_secs_f64();
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
    let seconds = now.since(Time::ZERO).as_secs_f64();
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
