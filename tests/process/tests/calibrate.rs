//! Costs at the command line: a busy machine is refused, and so are costs that are not there.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use holm_process_tests::Program;
use holm_process_tests::server::locate;

fn holm(words: &[&str]) -> Output {
    let mut command = Command::new(locate(Program::Holm).expect("it is built"));
    command.args(words).output().expect("it starts")
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_busy_machine_is_not_calibrated() {
    let folder = tempfile::tempdir().expect("a place for files");
    let file = folder.path().join("costs.toml");
    let is_over = AtomicBool::new(false);
    let output = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let out = file.display().to_string();
        let data = folder.path().display().to_string();
        let output = holm(&["bench", "calibrate", "--out", &out, "--data-dir", &data]);
        is_over.store(true, Ordering::Relaxed);
        output
    });
    let said = complaint(&output);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("others used") && said.contains("8 %"),
        "{said}"
    );
    assert!(!file.exists(), "nothing is written");
}

#[test]
fn a_scenario_without_its_costs_is_refused() {
    let output = holm(&[
        "rehearse",
        "../../scenarios/three-sites.toml",
        "--costs",
        "nowhere.toml",
    ]);
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
    assert!(
        complaint(&output).contains("nowhere.toml"),
        "{}",
        complaint(&output)
    );
}
