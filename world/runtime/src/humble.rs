//! Threads for work that may take long and must not be felt: they yield the processor to those
//! that answer short requests.
//!
//! What would surprise: a thread of lower priority never gets its old one back without rights
//! that a server should not have. So each piece of work has a thread of its own, and none of
//! them comes from a pool.

use std::thread::Builder;

use tokio::sync::oneshot;

/// How much humbler than the other threads: where all cores are busy, such a thread gets about
/// a tenth of what another gets.
const NICE: i32 = 10;

/// Starts `work` on a thread of its own and gives what will hold its result; a receiver that
/// ends without one tells of a panic. Cost: some tens of microseconds, so for long work only.
///
/// # Errors
///
/// The system gave no thread.
pub fn humble<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<oneshot::Receiver<T>> {
    let (tell, told) = oneshot::channel();
    Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux "this process" means this thread. If it is refused, the work goes on as
        // everybody else's does.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "a thread keeps its priority");
        }
        // Nobody may wait for it any more.
        tell.send(work()).ok();
    })?;
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_at_a_lower_priority_and_a_panic_is_told() {
        let priority = || rustix::process::getpriority_process(None).ok();
        let own = priority().expect("a thread has a priority");
        let told = humble("holm-test", priority).expect("there is a thread");
        let done = told.blocking_recv().expect("it ends well");
        assert_eq!(done, Some((own + NICE).min(19)));
        assert_eq!(priority(), Some(own), "and nobody else is touched");
        let told = humble("holm-test", || panic!("as it should")).expect("there is a thread");
        told.blocking_recv().map(|(): ()| ()).unwrap_err();
    }
}
