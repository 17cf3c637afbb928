//! A network of its own: a namespace of the kernel, with nothing in it but what a test puts there.
//!
//! It has no name, and nobody but this process holds it: when the process ends, however it goes,
//! the kernel takes the namespace and its links away. Making one needs root.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A namespace. Who wants a socket or a process in it makes it [`Space::within`].
#[derive(Debug)]
pub struct Space {
    handle: File,
}

impl Space {
    /// Makes an empty one with its loopback up; `None` where rights or the kernel forbid it.
    ///
    /// # Errors
    ///
    /// It is there and cannot be used.
    pub fn make() -> Result<Option<Self>> {
        let mut words = Command::new("unshare");
        words.args(["--net", "cat"]).stderr(Stdio::null());
        words.stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut child) = words.spawn() else {
            return Ok(None);
        };
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (mut input, output) = (input.context("a pipe")?, output.context("a pipe")?);
        // Its echo shows that it is where it should be; without rights there is an end instead.
        let mut echo = String::new();
        let asked = input.write_all(b"there\n");
        BufReader::new(output).read_line(&mut echo)?;
        let is_there = asked.is_ok() && echo == "there\n";
        let handle = is_there.then(|| File::open(format!("/proc/{}/ns/net", child.id())));
        drop(input);
        child.wait()?;
        let Some(handle) = handle.transpose()? else {
            return Ok(None);
        };
        let space = Self { handle };
        space.ip("link set lo up")?;
        Ok(Some(space))
    }

    /// Where other processes find it.
    #[must_use]
    pub fn path(&self) -> String {
        let handle = self.handle.as_raw_fd();
        format!("/proc/{}/fd/{handle}", std::process::id())
    }

    /// Does something in there, on a thread that then ends: what it opens and starts stays there.
    ///
    /// # Errors
    ///
    /// What it says, or that nobody may enter.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.handle.as_fd(), kind).context("enter a network")?;
                act()
            });
            match inside.join() {
                Ok(done) => done,
                Err(_panic) => bail!("a panic in a network of its own"),
            }
        })
    }

    /// Runs `ip` with these words in there.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub fn ip(&self, words: &str) -> Result<()> {
        let output =
            self.within(|| Ok(Command::new("ip").args(words.split_whitespace()).output()?));
        let output = output.with_context(|| format!("ip {words}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ip {words}: {}", said.trim());
        Ok(())
    }
}
