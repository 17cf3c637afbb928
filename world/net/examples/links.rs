//! What a link costs: round trips and bytes a second between two nodes of one process.
//!
//! `cargo run --release -p holm-net --example links`. Everything passes loopback and TLS. Rows:
//! one frame at a time; many at a time, as leaders and followers talk; bulk frames of a size.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holm_base::{ClusterId, NodeId};
use holm_link::Identity;
use holm_net::{Authority, Class, Deliver, LinkFiles, Peer, Peers, PeersConfig, Rotating};
use holm_wire::Frame;
use tokio::sync::{Notify, OnceCell};

const A: NodeId = NodeId::new(1);
const B: NodeId = NodeId::new(2);
const SPAN: Duration = Duration::from_secs(3);

/// Sends control frames back, counts all.
#[derive(Default)]
struct Mirror {
    peers: OnceCell<Peers>,
    frames: AtomicU64,
    bytes: AtomicU64,
    came: Notify,
}

impl Deliver for Mirror {
    fn deliver(&self, from: NodeId, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            self.frames.fetch_add(1, Ordering::Relaxed);
            self.bytes
                .fetch_add(frame.body.len() as u64, Ordering::Relaxed);
            // Kind 16 is to come back as 17; both ends are this type.
            if frame.kind == 16
                && let Some(peers) = self.peers.get()
            {
                peers.send(from, Class::Control, Frame { kind: 17, ..frame });
            }
        }
        self.came.notify_one();
    }

    fn hung_up(&self, _from: NodeId) {}
}

fn frame(kind: u8, size: usize) -> Frame {
    Frame {
        kind,
        plane: 1,
        version: 1,
        group: 0,
        body: Bytes::from(vec![7; size]),
    }
}

fn start(
    authority: &Authority,
    folder: &std::path::Path,
    (node, name): (NodeId, &str),
) -> Result<(Peers, Arc<Mirror>), Box<dyn Error>> {
    let files = LinkFiles {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
        authorities: folder.join("ca.pem"),
    };
    let identity = Identity::new("example", name, name)?;
    let issued = authority.issue(&identity, Duration::from_secs(3_600))?;
    issued.save(&files.certificate, &files.key)?;
    let certificates = Rotating::load(files)?;
    let config = PeersConfig::new(ClusterId::new(1), (node, name), certificates);
    let mirror = Arc::new(Mirror::default());
    let peers = Peers::start(config, Arc::clone(&mirror) as Arc<dyn Deliver>)?;
    mirror.peers.set(peers.clone())?;
    Ok((peers, mirror))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::create("example")?;
    authority.save(&folder.path().join("ca.pem"), &folder.path().join("ca.key"))?;
    let (a, near) = start(&authority, folder.path(), (A, "a"))?;
    let (b, far) = start(&authority, folder.path(), (B, "b"))?;
    let row = |node, name: &str, peers: &Peers| Peer {
        node,
        name: name.to_owned(),
        address: peers.address().to_string(),
    };
    let all = vec![row(A, "a", &a), row(B, "b", &b)];
    let begun = Instant::now();
    b.set_peers(all.clone());
    a.set_peers(all);
    let mut changes = a.changes();
    while !a.links().iter().all(|link| link.is_up) {
        changes.changed().await?;
    }
    println!("up after {:.1?}", begun.elapsed());
    for (depth, size) in [(1, 64), (16, 64), (256, 64), (256, 256)] {
        round_trips(&a, &near, (depth, size)).await;
    }
    for size in [256, 4 << 10, 64 << 10, 1 << 20] {
        bulk(&a, &far, size).await;
    }
    let link = &a.links()[0];
    println!("rtt {:?}, dropped {}", link.rtt, link.dropped);
    Ok(())
}

/// Keeps `depth` frames on their way and counts those that came back.
async fn round_trips(peers: &Peers, near: &Mirror, (depth, size): (u64, usize)) {
    let begun = Instant::now();
    let before = near.frames.load(Ordering::Relaxed);
    let mut sent = 0;
    while begun.elapsed() < SPAN {
        let came = near.frames.load(Ordering::Relaxed) - before;
        if sent - came < depth {
            peers.send(B, Class::Control, frame(16, size));
            sent += 1;
        } else {
            near.came.notified().await;
        }
    }
    while near.frames.load(Ordering::Relaxed) - before < sent {
        near.came.notified().await;
    }
    let rate = sent as f64 / begun.elapsed().as_secs_f64();
    let each = Duration::from_secs_f64(1.0 / rate) * u32::try_from(depth).unwrap_or(u32::MAX);
    println!("{depth:>4} at a time, {size:>4} bytes: {rate:>9.0} round trips/s, {each:.1?} each");
}

/// Sends bulk frames as fast as they leave, 8 MiB of them on their way.
async fn bulk(peers: &Peers, far: &Mirror, size: usize) {
    let begun = Instant::now();
    let before = far.frames.load(Ordering::Relaxed);
    let message = frame(18, size);
    let depth = ((8 << 20) / size) as u64;
    let mut sent = 0;
    loop {
        let came = far.frames.load(Ordering::Relaxed) - before;
        if begun.elapsed() >= SPAN && came == sent {
            break;
        }
        if begun.elapsed() < SPAN && sent - came < depth {
            peers.send(B, Class::Bulk, message.clone());
            sent += 1;
        } else {
            far.came.notified().await;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (rate, bytes) = (sent as f64 / seconds, sent as f64 * size as f64 / seconds);
    println!(
        "bulk, {size:>7} bytes: {rate:>9.0} frames/s, {:>7.1} MiB/s",
        bytes / 1_048_576.0
    );
}
