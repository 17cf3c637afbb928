//! The proxy between sites, and links that cross it: cut, cut one way, slowed, healed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod nodes;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use holm_net::{Class, Peer, Proxy, ProxyError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use nodes::{Cluster, Node, frame, number, within};

const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Both ends of a connection through `proxy` from site a to site b.
async fn through(proxy: &Proxy) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(FREE).await.unwrap();
    let target = listener.local_addr().unwrap();
    let address = proxy.link(("a", "b"), FREE, target).unwrap();
    let near = TcpStream::connect(address).await.unwrap();
    let (far, _) = within(listener.accept()).await.unwrap();
    (near, far)
}

/// Nodes 1 and 2, of sites a and b, with the proxy in between; bound once both are up.
async fn linked(cluster: &Cluster, proxy: &Proxy) -> [Node; 2] {
    let (a, b) = (cluster.start(1), cluster.start(2));
    let target = b.peers.address();
    let address = proxy.link(("a", "b"), FREE, target).unwrap();
    b.peers.set_peers(vec![a.as_peer()]);
    a.peers.set_peers(vec![Peer {
        address: address.to_string(),
        ..b.as_peer()
    }]);
    a.up(1).await;
    b.up(1).await;
    [a, b]
}

#[tokio::test]
async fn bytes_pass_in_order_and_an_end_passes_too() {
    let proxy = Proxy::new();
    let (mut near, mut far) = through(&proxy).await;
    near.write_all(b"there").await.unwrap();
    far.write_all(b"and back").await.unwrap();
    far.shutdown().await.unwrap();
    let mut back = Vec::new();
    within(near.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, b"and back");
    near.shutdown().await.unwrap();
    let mut there = Vec::new();
    within(far.read_to_end(&mut there)).await.unwrap();
    assert_eq!(there, b"there");
}

#[tokio::test]
async fn a_cut_one_way_holds_one_direction_and_a_heal_lets_it_go_on() {
    let proxy = Proxy::new();
    let (mut near, mut far) = through(&proxy).await;
    proxy.cut_one_way("a", "b").unwrap();
    near.write_all(b"held").await.unwrap();
    far.write_all(b"free").await.unwrap();
    let mut four = [0; 4];
    within(near.read_exact(&mut four)).await.unwrap();
    assert_eq!(&four, b"free");
    let is_early = tokio::time::timeout(Duration::from_millis(50), far.read_exact(&mut four));
    assert!(is_early.await.is_err(), "it came through a cut");
    proxy.heal("a", "b").unwrap();
    within(far.read_exact(&mut four)).await.unwrap();
    assert_eq!(&four, b"held");
}

#[tokio::test]
async fn a_delay_keeps_order_and_does_not_limit_throughput() {
    let proxy = Proxy::new();
    let (mut near, mut far) = through(&proxy).await;
    proxy.slow("a", "b", Duration::from_millis(50)).unwrap();
    let sent: Vec<u8> = (0..16_u32 << 20)
        .map(|at| (at % 251).to_le_bytes()[0])
        .collect();
    let begun = Instant::now();
    let writing = async {
        near.write_all(&sent).await.unwrap();
        near.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, read) = within(async { tokio::join!(writing, far.read_to_end(&mut got)) }).await;
    read.unwrap();
    assert!(got == sent, "bytes were lost or changed places");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(50), "{took:?}");
    // A pause for each of 256 pieces would take 12.8 s.
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn a_line_holds_so_many_bytes_and_no_more() {
    let proxy = Proxy::new();
    let (mut near, mut far) = through(&proxy).await;
    proxy.cut("a", "b").unwrap();
    let sent = vec![3; 64 << 20];
    // What the line and the system's buffers hold is less than this.
    let write = tokio::time::timeout(Duration::from_secs(1), near.write_all(&sent));
    assert!(write.await.is_err(), "64 MiB found room in a cut line");
    proxy.heal("a", "b").unwrap();
    let mut some = vec![0; 8 << 20];
    within(far.read_exact(&mut some)).await.unwrap();
    assert!(some.iter().all(|byte| *byte == 3));
}

#[tokio::test]
async fn commands_name_links_that_exist() {
    let proxy = Proxy::new();
    let refused = proxy.cut("a", "b").unwrap_err();
    assert_eq!(refused.to_string(), "no link from site a to site b");
    proxy.link(("a", "b"), FREE, FREE).unwrap();
    let twice = proxy.link(("a", "b"), FREE, FREE).unwrap_err();
    assert!(matches!(twice, ProxyError::Exists { .. }), "{twice}");
    proxy.cut_one_way("b", "a").unwrap();
    let views = proxy.views();
    let cuts: Vec<bool> = views.iter().map(|view| view.weather.is_cut).collect();
    assert_eq!((cuts, &*views[0].from), (vec![false, true], "a"));
}

#[tokio::test]
async fn a_cut_link_goes_down_at_both_ends_and_heals() {
    let cluster = Cluster::new("demo");
    let proxy = Proxy::new();
    let [a, mut b] = linked(&cluster, &proxy).await;
    let begun = Instant::now();
    proxy.cut("a", "b").unwrap();
    a.up(0).await;
    b.up(0).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let begun = Instant::now();
    proxy.heal("a", "b").unwrap();
    a.up(1).await;
    b.up(1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    a.peers.send(b.node(), Class::Control, frame(1, 10));
    assert_eq!(number(&b.next().await.1), 1);
}

#[tokio::test]
async fn a_link_cut_one_way_goes_down_at_both_ends() {
    let cluster = Cluster::new("demo");
    let proxy = Proxy::new();
    let [a, b] = linked(&cluster, &proxy).await;
    proxy.cut_one_way("a", "b").unwrap();
    let text = b.error("nothing heard").await;
    assert_eq!(text, "link closed: nothing heard for 1s");
    a.up(0).await;
    b.up(0).await;
    proxy.heal("a", "b").unwrap();
    a.up(1).await;
    b.up(1).await;
}

#[tokio::test]
async fn a_slow_link_stays_up_and_shows_its_round_trip_time() {
    let cluster = Cluster::new("demo");
    let proxy = Proxy::new();
    let [a, mut b] = linked(&cluster, &proxy).await;
    let errors = a.peers.links()[0].error.clone();
    let delay = Duration::from_millis(100);
    proxy.slow("a", "b", delay).unwrap();
    let begun = Instant::now();
    a.peers.send(b.node(), Class::Bulk, frame(1, 1 << 20));
    assert_eq!(number(&b.next().await.1), 1);
    assert!(begun.elapsed() >= delay);
    // The smoothed time approaches 200 ms by an eighth of the way a ping.
    while a.peers.links()[0].rtt.is_none_or(|rtt| rtt < delay) {
        a.peers.send(b.node(), Class::Control, frame(2, 10));
        assert_eq!(number(&b.next().await.1), 2);
    }
    let link = &a.peers.links()[0];
    assert_eq!((link.is_up, &link.error), (true, &errors));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_over_a_slow_link_loses_nothing_and_keeps_order() {
    let cluster = Cluster::new("demo");
    let proxy = Proxy::new();
    let [a, mut b] = linked(&cluster, &proxy).await;
    proxy.slow("a", "b", Duration::from_millis(60)).unwrap();
    let (peers, to) = (a.peers.clone(), b.node());
    let sending = tokio::spawn(async move {
        for count in 0..4_000 {
            if count == 1_000 {
                peers.rotate();
            }
            // 16 MiB in all, so that the old connection has something left to carry.
            peers.send(to, Class::Bulk, frame(count, 4_096));
            if count % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    for expected in 0..4_000 {
        assert_eq!(number(&b.next().await.1), expected);
    }
    sending.await.unwrap();
    a.connections(4).await;
    let link = &a.peers.links()[0];
    assert_eq!((link.sent, link.dropped), (4_000, 0));
}
