//! What real sites are told is recorded, and replays to the same effects; a step that is taken out of a recording is
//! missed at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use holm_process_tests::Program;
use holm_process_tests::lan::SITES;
use holm_process_tests::server::locate;
use holm_process_tests::sites::eventually;
use holm_process_tests::trio::{Plan, Trio};

/// What stands before the frames of a recording, and before what is in a frame.
const HEADER: usize = 12;

fn holm(words: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(locate(Program::Holm)?);
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(words).output()?;
    let text = [stdout, stderr].concat();
    Ok((status.code(), String::from_utf8_lossy(&text).into_owned()))
}

fn replay(place: &Path) -> Result<(Option<i32>, String)> {
    holm(&["rehearse", "--recorded", &place.display().to_string()])
}

/// Writes, loses its leader, writes again and is stopped.
fn live(place: &Path) -> Result<()> {
    let record = format!("--record={}", place.display());
    let words = ["--election-timeout=500", "--heartbeat-interval=50", &record];
    let mut trio = Trio::start(&Plan::new(Program::Holm, &words))?;
    let write = |trio: &Trio, at: usize, round: usize| {
        let value = format!("{round}").repeat(200);
        eventually("a put", || trio.client(at).put("key", &value).map(drop))
    };
    for round in 0..20 {
        write(&trio, round % SITES, round)?;
    }
    let leader = trio.leader()?;
    trio.kill(leader)?;
    let other = (leader + 1) % SITES;
    for round in 20..40 {
        write(&trio, other, round)?;
    }
    trio.begin(leader)?;
    trio.serves(leader)?;
    write(&trio, leader, 40)?;
    for at in 0..SITES {
        trio.stop(at)?;
    }
    Ok(())
}

fn recordings(place: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

/// Takes the largest step out of a recording: entries, most likely.
fn without_a_step(recording: &Path) -> Result<()> {
    let bytes = std::fs::read(recording)?;
    let (mut at, mut frames) = (HEADER, Vec::new());
    while let Some(length) = bytes.get(at..at + 4) {
        let length = usize::try_from(u32::from_le_bytes(length.try_into()?))?;
        frames.push((length, at));
        at += HEADER + length;
    }
    let steps = frames.get(1..).context("the first is the beginning")?;
    let (length, at) = steps.iter().max().context("there are steps")?;
    let spoiled = [&bytes[..*at], &bytes[at + HEADER + length..]].concat();
    std::fs::write(recording, spoiled)?;
    Ok(())
}

#[test]
fn recorded_sites_replay_and_a_lost_step_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().join("steps");
    live(&place)?;
    let files = recordings(&place)?;
    ensure!(
        files.len() == 4,
        "three sites, one of them twice: {files:?}"
    );
    let (code, text) = replay(&place)?;
    ensure!(code == Some(0), "{code:?}: {text}");
    ensure!(text.matches(": equal, ").count() == 4, "{text}");
    ensure!(text.matches("to the node's end").count() == 3, "{text}");
    ensure!(text.matches("until it breaks off").count() == 1, "{text}");
    let (code, text) = holm(&[
        "rehearse",
        "--json",
        "--recorded",
        &place.display().to_string(),
    ])?;
    ensure!(code == Some(0), "{code:?}: {text}");
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line)?;
        let is_told = json["differs"].is_null() && json["steps"].as_u64() > Some(0);
        ensure!(is_told, "{line}");
    }
    ensure!(text.lines().count() == 4, "{text}");
    without_a_step(&files[0])?;
    let (code, text) = replay(&files[0])?;
    ensure!(code == Some(4), "{code:?}: {text}");
    ensure!(text.contains("DIFFERS\n  step "), "{text}");
    Ok(())
}

#[test]
fn what_cannot_be_recorded_or_replayed_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, text) = replay(folder.path())?;
    ensure!(
        code == Some(2) && text.contains("no recording"),
        "{code:?}: {text}"
    );
    let file = folder.path().join("a.steps");
    std::fs::write(&file, "something else, and long enough")?;
    let (code, text) = replay(&file)?;
    let is_refused = code == Some(2) && text.contains("no recording of a replica");
    ensure!(is_refused, "{code:?}: {text}");
    let flag = |name: &str, at: &str| format!("--{name}={}", folder.path().join(at).display());
    let (code, text) = holm(&["up", &flag("data-dir", "data"), &flag("record", "steps")])?;
    let is_refused = code == Some(1) && text.contains("no replicated log to record");
    ensure!(is_refused, "{code:?}: {text}");
    Ok(())
}
