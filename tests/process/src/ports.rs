//! Ports that stay ours from before a process is started until its test is over.
//!
//! To find a free port, let go of it and use it is to lose it now and then: a test beside this
//! one, or the near end of anybody's connection, may get it between. So each port is bound and
//! kept bound, without listening. It was bound for itself alone, so that no other holder has it;
//! then it is told to share, so that a server which shares (all do) may listen there, and listen
//! again after it was killed. The system gives nobody a port that is bound.
//!
//! The ports lie below those that the system hands out, and below is where a killed server's
//! port stays free from other connections too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use tokio::net::TcpSocket;

/// Where ports are looked for; Linux hands out those from 32768 on.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
/// From one try to the next: more than the three ports of a server.
const STEP: u16 = 4;

/// Ports on loopback, held as long as this lives.
#[derive(Debug)]
pub struct Ports {
    sockets: Vec<TcpSocket>,
    ports: Vec<u16>,
}

impl Ports {
    /// Takes ports that lie so far from a first one.
    ///
    /// # Errors
    ///
    /// All are taken, or the system refuses.
    pub fn hold(offsets: &[u16]) -> Result<Self> {
        let reach = offsets.iter().copied().max().unwrap_or_default();
        let count = (LAST - FIRST - reach) / STEP;
        let begin = begin() % count;
        let mut places = (0..count).map(|at| FIRST + (begin + at) % count * STEP);
        places
            .find_map(|first| Self::at(first, offsets))
            .context("no free ports are left")
    }

    /// Takes one port.
    ///
    /// # Errors
    ///
    /// Somebody has it.
    pub fn exactly(port: u16) -> Result<Self> {
        let sockets = vec![held(port)?];
        Ok(Self {
            sockets,
            ports: vec![port],
        })
    }

    fn at(first: u16, offsets: &[u16]) -> Option<Self> {
        let ports: Vec<u16> = offsets.iter().map(|offset| first + offset).collect();
        // Whatever is taken, or refused by the system, is passed over.
        let sockets: Option<_> = ports.iter().map(|&port| held(port).ok()).collect();
        Some(Self {
            sockets: sockets?,
            ports,
        })
    }

    /// The ports, in the order of their offsets.
    #[must_use]
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The address of one of them.
    #[must_use]
    pub fn address(&self, at: usize) -> SocketAddr {
        debug_assert_eq!(self.sockets.len(), self.ports.len(), "one socket a port");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[at]))
    }
}

fn held(port: u16) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

/// Where to look first: elsewhere each time and in each process, to spare failures. That two
/// begin at one place does no harm.
fn begin() -> u16 {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let count = COUNT.fetch_add(61, Ordering::Relaxed);
    let process = u16::try_from(std::process::id() % 1_000).unwrap_or_default();
    count.wrapping_add(process * 7)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_held_port_is_nobody_elses_and_its_server_may_come_and_go() {
        let ports = Ports::hold(&[0, 100]).unwrap();
        let address = ports.address(1);
        assert_eq!(address.port(), ports.ports()[0] + 100);
        assert!(held(address.port()).is_err(), "two hold one port");
        assert!(TcpStream::connect(address).is_err(), "nobody listens");
        for _ in 0..2 {
            let server = TcpListener::bind(address).unwrap();
            drop(TcpStream::connect(address).unwrap());
            drop(server.accept().unwrap());
            assert!(TcpListener::bind(address).is_err(), "two listen");
        }
        assert!(held(address.port()).is_err(), "it was lost");
    }

    #[test]
    fn many_holders_beside_each_other_share_no_port() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    (0..40)
                        .map(|_| Ports::hold(&[0, 1, 2]).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let held = threads.into_iter().flat_map(|it| it.join().unwrap());
        let held: Vec<Ports> = held.collect();
        let mut all: Vec<u16> = held.iter().flat_map(|it| it.ports.clone()).collect();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        assert_eq!(all.len(), 4 * 40 * 3);
    }
}
