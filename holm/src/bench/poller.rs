//! Waiting for many sockets: epoll, level-triggered, with a timeout in nanoseconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// A set of sockets, each known by an index.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
        })
    }

    /// Adds a socket, to be reported as `index` when it can be read.
    pub(crate) fn add(&self, socket: impl AsFd, index: usize) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            socket,
            data(index),
            epoll::EventFlags::IN,
        )?)
    }

    /// Says whether to report the socket also when it can be written.
    pub(crate) fn want_write(
        &self,
        socket: impl AsFd,
        index: usize,
        wanted: bool,
    ) -> io::Result<()> {
        let write = if wanted {
            epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::empty()
        };
        Ok(epoll::modify(
            &self.epoll,
            socket,
            data(index),
            epoll::EventFlags::IN | write,
        )?)
    }

    /// Waits at most `timeout` and appends the indexes of the sockets that can go on.
    pub(crate) fn wait(&mut self, timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_count) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            ready.push(usize::try_from(event.data.u64()).expect("the data is an index of ours"));
        }
        Ok(())
    }
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(u64::try_from(index).expect("usize fits into 64 bits"))
}
