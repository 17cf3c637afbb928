//! The ports of the sites, held by the process that runs them from before the first start until its end.
//!
//! A port that is found free and let go may be somebody's before the site has it: another program's, or the near end
//! of any connection. So each is bound here and never listened at. Linux lets a socket that shares listen at an
//! address that another one, which shares too, has merely bound, and gives such a port to nobody else. A site that was
//! killed finds its port as it left it.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokio::net::TcpSocket;

use super::plan::Plan;

/// Where ports are looked for, but for those that the system hands out.
const LOOKED_AT: std::ops::Range<u16> = 20_000..32_000;
/// What Linux hands out if it says nothing else.
const HANDED_OUT: (u16, u16) = (32_768, 60_999);

/// Bound sockets. Their ports are free for others once this is dropped.
#[derive(Debug, Default)]
pub(super) struct Ports {
    held: Vec<TcpSocket>,
}

impl Ports {
    /// Finds that many free addresses on loopback, and holds them. They lie outside of what the system hands out, so
    /// that they are likely to be free at a later start too.
    ///
    /// # Errors
    ///
    /// There are not as many.
    pub(super) fn find(&mut self, count: usize) -> anyhow::Result<Vec<SocketAddr>> {
        let (low, high) = handed_out();
        let begin = LOOKED_AT.start + random()? % (LOOKED_AT.end - LOOKED_AT.start);
        let places = (begin..LOOKED_AT.end).chain(LOOKED_AT.start..begin);
        let mut found = Vec::new();
        // If a machine hands out all of these, it is asked for some.
        let asked = std::iter::repeat_n(0, 4 * count);
        for port in places
            .filter(|port| !(low..=high).contains(port))
            .chain(asked)
        {
            if found.len() == count {
                break;
            }
            // Whoever has it, or whatever else is wrong with it: the next one.
            if let Ok(address) = self.take((Ipv4Addr::LOCALHOST, port).into()) {
                found.push(address);
            }
        }
        anyhow::ensure!(
            found.len() == count,
            "find {count} free ports: say --listen, --peer and --console"
        );
        Ok(found)
    }

    /// Holds the addresses of a plan. What else is wrong with one says its site when it starts.
    ///
    /// # Errors
    ///
    /// Another process has one. Whoever asked there how the site is would be told how that process is.
    pub(super) fn hold(&mut self, plan: &Plan) -> anyhow::Result<()> {
        for site in &plan.sites {
            for address in [site.client, site.peer, site.console] {
                let held = self.share(address);
                let is_taken = held.is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
                anyhow::ensure!(
                    !is_taken,
                    "site {} cannot listen on {address}: the port is in use; stop the process that has it, or start \
                     in a new --data-dir with --listen 127.0.0.1:0, which finds free ports",
                    site.name
                );
            }
        }
        Ok(())
    }

    /// Binds for itself alone, and then shares.
    fn take(&mut self, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(address)?;
        socket.set_reuseaddr(true)?;
        let address = socket.local_addr()?;
        self.held.push(socket);
        Ok(address)
    }

    /// Binds although connections of an earlier start may linger there.
    fn share(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        self.held.push(socket);
        Ok(())
    }
}

/// The ports that the system gives to whoever asks for any, from and to.
fn handed_out() -> (u16, u16) {
    let said = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    said.and_then(|text| {
        let mut ends = text.split_whitespace().map(str::parse);
        Some((ends.next()?.ok()?, ends.next()?.ok()?))
    })
    .unwrap_or(HANDED_OUT)
}

fn random() -> anyhow::Result<u16> {
    let mut random = [0; 2];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("draw a first port")?;
    Ok(u16::from_le_bytes(random))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::SitesBase;

    #[test]
    fn what_is_found_is_held_and_lies_outside_of_what_the_system_hands_out() {
        let mut ports = Ports::default();
        let found = ports.find(9).unwrap();
        let (low, high) = handed_out();
        assert_eq!(found.len(), 9);
        for address in found {
            assert!(!(low..=high).contains(&address.port()), "{address}");
            let stranger = Ports::default().take(address);
            assert!(stranger.is_err(), "{address} was free for another");
            TcpListener::bind(address).expect("its site can listen");
        }
    }

    #[test]
    fn an_address_that_another_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let free = (Ipv4Addr::LOCALHOST, 0).into();
        let base = SitesBase {
            data_dir: folder.path().to_owned(),
            listen: free,
            peer: free,
            console: free,
            streams: None,
            is_said: true,
        };
        let mut ports = Ports::default();
        let names = ["a".to_owned(), "b".to_owned()];
        let mut plan = Plan::settle(&base, &names, &mut ports).unwrap();
        ports.hold(&plan).expect("they were just found");
        plan.sites[1].console = taken.local_addr().unwrap();
        let error = ports.hold(&plan).unwrap_err().to_string();
        assert!(error.starts_with("site b cannot listen on"), "{error}");
    }
}
