//! A network for three sites: a switch, a cable to each, and ways to break it.
//!
//! ```text
//!   site 0: eth0 10.77.0.1 ──── port 0 ┐
//!   site 1: eth0 10.77.0.2 ──── port 1 ┤ switch
//!   site 2: eth0 10.77.0.3 ──── port 2 ┘
//! ```
//!
//! Each site and the switch are in a [`Space`] of their own, so that what is cut is cut by the
//! kernel: packets are lost, connections stay half-open, and a way back may go on. Delays come
//! from our own [`Cable`], for not every kernel can delay packets; each site dials through one a
//! neighbour.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use holm_net::{Cable, Direction, Way};
use tokio::runtime::Runtime;

use crate::space::Space;

/// How many sites there are.
pub const SITES: usize = 3;
/// Where each site listens for the others.
const PEER_PORT: u16 = 2380;

/// What can be wrong between two sites, on the way from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Packets leave and arrive nowhere: the sender has a false hardware address for the other.
    Lost,
    /// The sender's own system refuses them.
    Refused,
    /// They take so much longer.
    Slow(Duration),
}

/// The network.
#[derive(Debug)]
pub struct Lan {
    switch: Space,
    sites: Vec<Arc<Space>>,
    /// From each site to each: what its bytes pass; `None` to itself.
    cables: Vec<Vec<Option<Cable>>>,
    _threads: Vec<Runtime>,
}

impl Lan {
    /// Lays all cables; `None` where rights or the kernel forbid it.
    ///
    /// # Errors
    ///
    /// What is there and does not work.
    pub fn lay() -> Result<Option<Self>> {
        let Some(switch) = Space::make()? else {
            return Ok(None);
        };
        if switch.ip("link add switch type bridge").is_err() {
            return Ok(None);
        }
        switch.ip("link set switch up")?;
        let (mut sites, mut cables, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..SITES {
            let site = Space::make()?.context("there was room for one")?;
            let there = site.path();
            switch.ip(&format!(
                "link add port{at} type veth peer name eth0 netns {there}"
            ))?;
            switch.ip(&format!("link set port{at} master switch up"))?;
            site.ip(&format!("addr add {}/24 dev eth0", address(at)))?;
            site.ip("link set eth0 up")?;
            let (laid, runtime) = site.within(|| cables_from(at))?;
            cables.push(laid);
            threads.push(runtime);
            sites.push(Arc::new(site));
        }
        Ok(Some(Self {
            switch,
            sites,
            cables,
            _threads: threads,
        }))
    }

    /// Where a site is.
    #[must_use]
    pub fn space(&self, at: usize) -> &Arc<Space> {
        &self.sites[at]
    }

    /// Where a site dials to reach another: a door of its own.
    #[must_use]
    pub fn door(&self, from: usize, to: usize) -> Option<SocketAddr> {
        let cable = self.cables[from][to].as_ref()?;
        Some(cable.door(Direction::There))
    }

    /// Makes the way from one site to another wrong. The way back stays as it is.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn spoil(&self, from: usize, to: usize, wrong: Wrong) -> Result<()> {
        let there = address(to);
        match wrong {
            Wrong::Lost => self.sites[from].ip(&format!(
                "neigh replace {there} lladdr 02:00:00:00:00:fe nud permanent dev eth0"
            )),
            Wrong::Refused => self.sites[from].ip(&format!("route replace blackhole {there}/32")),
            Wrong::Slow(delay) => {
                // The one's connections on their way there, and the other's on their way back.
                for (cable, way) in [
                    (&self.cables[from][to], Direction::There),
                    (&self.cables[to][from], Direction::Back),
                ] {
                    let cable = cable.as_ref().context("a site has no way to itself")?;
                    cable.set(way, Way::Slow(delay));
                }
                Ok(())
            }
        }
    }

    /// Pulls a site's cable out of the switch.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn unplug(&self, at: usize) -> Result<()> {
        self.switch.ip(&format!("link set port{at} down"))
    }

    /// Takes a site's own interface down, which takes its routes away.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn down(&self, at: usize) -> Result<()> {
        self.sites[at].ip("link set eth0 down")
    }

    /// Mends everything.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn heal(&self) -> Result<()> {
        for (at, site) in self.sites.iter().enumerate() {
            self.switch.ip(&format!("link set port{at} up"))?;
            site.ip("link set eth0 up")?;
            site.ip("route flush type blackhole")?;
            site.ip("neigh flush dev eth0 nud permanent")?;
        }
        for cable in self.cables.iter().flatten().flatten() {
            cable.set(Direction::There, Way::Open);
            cable.set(Direction::Back, Way::Open);
        }
        Ok(())
    }
}

/// A site's address.
#[must_use]
pub fn address(at: usize) -> Ipv4Addr {
    let last = u8::try_from(at + 1).expect("there are three sites");
    Ipv4Addr::new(10, 77, 0, last)
}

/// Where a site listens for the others.
#[must_use]
pub fn peer(at: usize) -> SocketAddr {
    SocketAddr::from((address(at), PEER_PORT))
}

/// The cables from a site to the others, and the threads that move their bytes, which are where
/// this is called.
fn cables_from(from: usize) -> Result<(Vec<Option<Cable>>, Runtime)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut cables = Vec::new();
    for to in 0..SITES {
        let laid = (to != from).then(|| runtime.block_on(Cable::lay([peer(from), peer(to)])));
        cables.push(laid.transpose()?);
    }
    Ok((cables, runtime))
}
