//! What an assertion that fails does to this process: it prints what it is, and that is the end.
//!
//! A node that goes on after one of its threads failed could acknowledge what it does not keep.
//! The build unwinds nevertheless, since a rehearsal makes a tape of a failed assertion and goes
//! on; it puts a hook of its own in place of this one.

/// From here on a panic, on whichever thread, aborts the process once it is printed.
pub(crate) fn ends_the_process() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::abort();
    }));
}

/// Fails an assertion on a thread of its own, so that a test can see what this process does then.
/// Comes back only if the process outlives it, which is a fault.
pub(crate) fn fails() {
    let other = std::thread::spawn(|| panic!("asked to fail"));
    other.join().expect_err("it cannot have done anything else");
}
