//! A server for tests: it gives the answers that it was told of, one a request, and keeps what it was sent.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http_sink::{Dial, Duplex};

/// A server with a script. Its clones are the same server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    pub(crate) sent: Arc<Mutex<String>>,
    pub(crate) dials: Arc<Mutex<usize>>,
    ready: Vec<u8>,
    /// The most bytes that one read gives.
    step: usize,
}

impl Server {
    /// A server with these answers, which come in pieces of so many bytes.
    pub(crate) fn new<A: AsRef<[u8]>>(answers: &[A], step: usize) -> Self {
        let answers = answers.iter().map(|answer| answer.as_ref().to_vec());
        Self {
            answers: Arc::new(Mutex::new(answers.collect())),
            sent: Arc::default(),
            dials: Arc::default(),
            ready: Vec::new(),
            step,
        }
    }
}

impl Read for Server {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            let answer = self.answers.lock().unwrap().pop_front();
            self.ready = answer.unwrap_or_default();
        }
        let count = into.len().min(self.ready.len()).min(self.step);
        into[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

impl Write for Server {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.sent.lock().unwrap() += std::str::from_utf8(bytes).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Dial for Server {
    fn dial(&mut self) -> io::Result<Box<dyn Duplex>> {
        *self.dials.lock().unwrap() += 1;
        Ok(Box::new(self.clone()))
    }

    fn pause(&mut self, _time: Duration) {}
}
