//! Links that cross a cable: cut, cut one way, slowed, healed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod nodes;

use std::time::{Duration, Instant};

use holm_net::{Cable, Class, Direction, Peer, Way};

use nodes::{Cluster, Node, frame, number};

/// Nodes 1 and 2 with a cable in between, once both are up.
async fn linked(cluster: &Cluster) -> (Node, Node, Cable) {
    let (a, b) = (cluster.start(1), cluster.start(2));
    let cable = Cable::lay([a.peers.address(), b.peers.address()]);
    let cable = cable.await.unwrap();
    b.peers.set_peers(vec![a.as_peer()]);
    a.peers.set_peers(vec![Peer {
        address: cable.door(Direction::There).to_string(),
        ..b.as_peer()
    }]);
    a.up(1).await;
    b.up(1).await;
    (a, b, cable)
}

fn set_both(cable: &Cable, way: Way) {
    cable.set(Direction::There, way);
    cable.set(Direction::Back, way);
}

#[tokio::test]
async fn a_cut_link_goes_down_at_both_ends_and_heals() {
    let cluster = Cluster::new("demo");
    let (a, mut b, cable) = linked(&cluster).await;
    let begun = Instant::now();
    set_both(&cable, Way::Cut);
    a.up(0).await;
    b.up(0).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let begun = Instant::now();
    set_both(&cable, Way::Open);
    a.up(1).await;
    b.up(1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    a.peers.send(b.node(), Class::Control, frame(1, 10));
    assert_eq!(number(&b.next().await.1), 1);
}

#[tokio::test]
async fn a_link_cut_one_way_goes_down_at_both_ends() {
    let cluster = Cluster::new("demo");
    let (a, b, cable) = linked(&cluster).await;
    cable.set(Direction::There, Way::Cut);
    let text = b.error("nothing heard").await;
    assert_eq!(text, "link closed: nothing heard for 1s");
    a.up(0).await;
    b.up(0).await;
    set_both(&cable, Way::Open);
    a.up(1).await;
    b.up(1).await;
}

#[tokio::test]
async fn a_slow_link_stays_up_and_shows_its_round_trip_time() {
    let cluster = Cluster::new("demo");
    let (a, mut b, cable) = linked(&cluster).await;
    let errors = a.peers.links()[0].error.clone();
    let delay = Duration::from_millis(100);
    set_both(&cable, Way::Slow(delay));
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
