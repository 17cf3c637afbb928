//! Clients that write and read at sites for as long as something else goes on, and whom nothing may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, ensure};

use crate::machine::Machine;

/// One client at each site, which puts a key of its own and reads what it wrote.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Writers {
    /// Starts them.
    ///
    /// # Errors
    ///
    /// That a site serves nobody.
    pub fn at(sites: &[Machine]) -> Result<Self> {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut threads = Vec::new();
        for site in sites {
            let (stop, done, mut client) = (Arc::clone(&stop), Arc::clone(&done), site.client()?);
            let key = format!("key of {}", site.name);
            threads.push(std::thread::spawn(move || -> Result<()> {
                while !stop.load(Ordering::Relaxed) {
                    let number = done.fetch_add(1, Ordering::Relaxed).to_string();
                    client.put(&key, &number)?;
                    let found = client.value(&key)?;
                    ensure!(found.as_deref() == Some(number.as_str()), "{found:?}");
                }
                Ok(())
            }));
        }
        Ok(Self {
            stop,
            done,
            threads,
        })
    }

    /// Ends them, and says how often they wrote.
    ///
    /// # Errors
    ///
    /// The first request that failed, or an answer that was not what had been written.
    ///
    /// # Panics
    ///
    /// When one of them did.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no writer panics")?;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}
