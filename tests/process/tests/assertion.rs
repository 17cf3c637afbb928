//! A process in which an assertion fails ends at once, whichever thread it was.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holm_process_tests::Program;
use holm_process_tests::server::locate;

const SIGABRT: i32 = 6;

#[test]
fn a_failed_assertion_on_any_thread_aborts_the_process() {
    let mut child = Command::new(locate(Program::Holm).unwrap())
        .arg("fail")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it outlives a failed assertion");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.signal(), Some(SIGABRT), "{said}");
    assert!(said.contains("asked to fail"), "{said}");
}
