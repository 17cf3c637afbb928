//! Links between nodes of one process over loopback: order, cuts, strangers, limits, rotation.

mod nodes;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use holm_base::{ClusterId, NodeId};
use holm_net::{Class, PeersError};

use nodes::{Cluster, frame, number, within};

#[tokio::test]
async fn frames_arrive_in_order_between_three_nodes() {
    let cluster = Cluster::new("demo");
    let mut nodes = [1, 2, 3].map(|id| cluster.start(id));
    cluster.introduce(&nodes);
    for node in &nodes {
        node.up(2).await;
    }
    for count in 0..1_000 {
        for node in &nodes {
            for to in (1..=3).filter(|to| *to != node.id) {
                node.peers
                    .send(NodeId::new(to), Class::Bulk, frame(count, 40));
            }
        }
    }
    for node in &mut nodes {
        let mut next = [0; 4];
        for _ in 0..2_000 {
            let (from, frame) = node.next().await;
            let from = usize::try_from(from.value()).unwrap();
            assert_eq!(number(&frame), next[from]);
            next[from] += 1;
        }
    }
    for node in &nodes {
        for link in node.peers.links() {
            assert_eq!((link.sent, link.received, link.dropped), (1_000, 1_000, 0));
            assert_eq!(link.error, None);
        }
    }
}

#[tokio::test]
async fn the_round_trip_time_is_measured() {
    let cluster = Cluster::new("demo");
    let nodes = [1, 2].map(|id| cluster.start(id));
    cluster.introduce(&nodes);
    nodes[0].up(1).await;
    // The first ping comes with the binding; its return shows as soon as anything changes.
    within(async {
        while nodes[0].peers.links()[0].rtt.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_comes_back_is_linked_again_and_its_old_run_is_fenced() {
    let cluster = Cluster::new("demo");
    let (a, mut b) = (cluster.start(1), cluster.start(2));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    let address = b.peers.address();
    b.peers.stop();
    a.up(0).await;
    drop(b);
    b = cluster.start_with(2, |config| {
        config.listen = address;
        config.boot = 2;
    });
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    b.up(1).await;
    a.peers.send(b.node(), Class::Control, frame(7, 10));
    let (from, got) = b.next().await;
    assert_eq!((from, number(&got)), (a.node(), 7));
    b.peers.stop();
    a.up(0).await;
    let stale = cluster.start_with(2, |config| {
        config.listen = address;
        config.boot = 1;
    });
    cluster.introduce(&[&a, &stale]);
    let text = a.error("fenced").await;
    assert!(
        text.contains("boot 1 of node 2 is fenced, boot 2 was seen"),
        "{text}"
    );
}

#[tokio::test]
async fn a_copy_of_a_node_is_refused_as_long_as_its_boot_is_the_same() {
    let cluster = Cluster::new("demo");
    let (mut a, b) = (cluster.start(1), cluster.start(2));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    // The same identity and the same boot, at another address: its directory was copied.
    let copy = cluster.start(2);
    a.peers.set_peers(vec![copy.as_peer()]);
    copy.peers.set_peers(vec![a.as_peer()]);
    a.peers.rotate();
    let text = a.error("another process runs as boot 1 of node 2").await;
    assert!(text.contains("let it join anew"), "{text}");
    a.peers.set_peers(vec![b.as_peer()]);
    b.peers.send(a.node(), Class::Control, frame(5, 10));
    let (from, got) = a.next().await;
    assert_eq!(
        (from, number(&got)),
        (b.node(), 5),
        "the first is as it was"
    );
}

#[tokio::test]
async fn a_stranger_is_refused_with_the_reason_and_harms_nobody() {
    let cluster = Cluster::new("demo");
    let (mut a, mut b) = (cluster.start(1), cluster.start(5));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    let address = b.peers.address();

    // Signed by an authority that only looks the same.
    let forged = Cluster::new("demo").start(2);
    forged.meet(&b);
    let text = forged.error("").await;
    assert!(
        text.contains("UnknownIssuer") || text.contains("BadSignature"),
        "{text}"
    );

    // Another cluster that trusts the same authority.
    let neighbour = cluster.start_named(3, ("other", "n3"), |_| {});
    neighbour.meet(&b);
    let text = neighbour.error("cluster").await;
    assert!(
        text.contains("link refused: certificate is of cluster"),
        "{text}"
    );

    // The right name, another cluster's id.
    let wrong_id = cluster.start_with(1, |config| config.cluster = ClusterId::new(9));
    wrong_id.meet(&b);
    let text = wrong_id.error("greets").await;
    assert!(text.contains("link refused"), "{text}");

    // A member of the cluster that claims to be another one.
    let liar = cluster.start_named(1, ("demo", "n4"), |_| {});
    liar.meet(&b);
    let text = liar.error("certificate").await;
    assert!(text.contains("node 1 is n1 in the member table"), "{text}");

    // Nobody in the table.
    let unknown = cluster.start(4);
    unknown.meet(&b);
    let text = unknown.error("no member").await;
    assert!(text.contains("which is no member"), "{text}");

    // No TLS, garbage, an old TLS, another protocol inside.
    b.refuses(nodes::say(address, b"GET / HTTP/1.1\r\n\r\n"), "TLS")
        .await;
    b.refuses(nodes::say(address, &[0x16, 3, 1, 255, 255, 9, 9]), "TLS")
        .await;
    let old = nodes::tls_1_2(address, &cluster);
    b.refuses(old, "TLS: peer is incompatible").await;
    let member = (address, &cluster);
    let no_protocol = "TLS: peer doesn't support any known protocol";
    b.refuses(nodes::member_says(member, &["h2"], b""), no_protocol)
        .await;

    // A member's certificate, and then nothing that a node would say.
    let none = nodes::member_says(member, &[], b"");
    b.refuses(none, "link closed: peer doesn't support any known protocol")
        .await;
    let garbage = nodes::member_says(member, &["holm/1"], b"PRI * HTTP/2.0\r\n\r\n");
    b.refuses(garbage, "bytes, 32768 is the limit").await;
    let mut early = BytesMut::new();
    frame(1, 9).encode(&mut early);
    let early = nodes::member_says(member, &["holm/1"], &early);
    b.refuses(early, "kind 16 before both ends were bound")
        .await;

    // And all the while the good ones talk.
    a.peers.send(b.node(), Class::Bulk, frame(1, 9));
    assert_eq!(number(&b.next().await.1), 1);
    b.peers.send(a.node(), Class::Control, frame(2, 9));
    assert_eq!(number(&a.next().await.1), 2);
    assert!(a.peers.links()[0].is_up && a.peers.links()[0].error.is_none());
}

#[tokio::test]
async fn the_wrong_address_is_told_apart() {
    let cluster = Cluster::new("demo");
    let nodes = [1, 2, 3].map(|id| cluster.start(id));
    let swapped = vec![nodes[2].as_peer_of(2), nodes[1].as_peer_of(3)];
    for node in &nodes[1..] {
        node.peers.set_peers(vec![nodes[0].as_peer()]);
    }
    nodes[0].peers.set_peers(swapped);
    let text = nodes[0].error("dialled").await;
    assert!(text.contains("check its address"), "{text}");
}

#[tokio::test]
async fn handshakes_are_bounded_in_number_and_time() {
    let cluster = Cluster::new("demo");
    let a = cluster.start_with(1, |config| {
        config.limits.handshakes_max = 2;
        config.limits.handshake_timeout = Duration::from_millis(200);
    });
    let address = a.peers.address();
    let silent = [nodes::dial(address).await, nodes::dial(address).await];
    let third = nodes::say(address, b"");
    a.refuses(third, "too many handshakes at once").await;
    a.refused("no TLS within 200ms").await;
    drop(silent);
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_counts_it() {
    let cluster = Cluster::new("demo");
    let a = cluster.start_with(1, |config| config.control_bytes_max = 10_000);
    let mut b = cluster.start(2);
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    // One thread: nothing is written between these.
    for count in 0..30 {
        a.peers
            .send(b.node(), Class::Control, frame(count, 1_000 - 16));
    }
    for count in 0..10 {
        assert_eq!(number(&b.next().await.1), count);
    }
    assert_eq!(a.peers.links()[0].dropped, 20);
    a.peers.send(b.node(), Class::Control, frame(99, 10));
    assert_eq!(number(&b.next().await.1), 99);
}

#[tokio::test]
async fn what_is_written_here_keeps_its_place_and_the_rest_follows() {
    let cluster = Cluster::new("demo");
    let (a, mut b) = (cluster.start(1), cluster.start(2));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    // One thread: nobody reads meanwhile, so that most of it finds no room at once.
    for count in 0..400 {
        let frame = frame(count, 100_000);
        if count % 3 == 0 {
            a.peers.send(b.node(), Class::Bulk, frame);
        } else {
            a.peers.send_here(b.node(), [(Class::Bulk, frame)]);
        }
    }
    for expected in 0..400 {
        assert_eq!(number(&b.next().await.1), expected);
    }
    let last = [(Class::Control, frame(1, 10)), (Class::Bulk, frame(2, 10))];
    a.peers.send_here(b.node(), last);
    let sent = a.peers.links()[0].sent;
    assert_eq!(sent, 402, "it has left when the call returns");
    let mut both = [b.next().await.1, b.next().await.1].map(|it| number(&it));
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    assert_eq!(a.peers.links()[0].dropped, 0);
}

#[tokio::test]
async fn frames_for_a_link_that_is_down_are_dropped_and_counted() {
    let cluster = Cluster::new("demo");
    let a = cluster.start(1);
    a.peers.set_peers(vec![holm_net::Peer {
        node: NodeId::new(2),
        name: "n2".to_owned(),
        address: "127.0.0.1:1".to_owned(),
    }]);
    a.peers.send(NodeId::new(2), Class::Control, frame(1, 10));
    a.peers.send(NodeId::new(77), Class::Control, frame(1, 10));
    let text = a.error("dial").await;
    assert!(text.starts_with("dial 127.0.0.1:1: "), "{text}");
    assert_eq!(a.peers.links()[0].dropped, 1);
}

#[tokio::test]
async fn a_long_frame_passes_and_one_beyond_the_limit_does_not() {
    let cluster = Cluster::new("demo");
    let a = cluster.start(1);
    let mut b = cluster.start(2);
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    a.peers
        .send(b.node(), Class::Bulk, frame(1, holm_wire::BODY_MAX));
    a.peers
        .send(b.node(), Class::Bulk, frame(2, holm_wire::BODY_MAX + 1));
    a.peers.send(b.node(), Class::Bulk, frame(3, 10));
    let (_, long) = b.next().await;
    assert_eq!((number(&long), long.body.len()), (1, holm_wire::BODY_MAX));
    assert_eq!(number(&b.next().await.1), 3);
    assert_eq!(a.peers.links()[0].dropped, 1);
}

#[tokio::test]
async fn who_ends_without_goodbye_is_said_to_have_hung_up() {
    let cluster = Cluster::new("demo");
    let (mut a, b, mut c) = (cluster.start(1), cluster.start(2), cluster.start(3));
    cluster.introduce(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        node.up(2).await;
    }
    assert!(a.is_content() && c.is_content());
    // Node 1 dialled it and node 3 was dialled by it; to both it is gone.
    b.peers.stop();
    assert_eq!((a.hung_up().await, c.hung_up().await), (b.node(), b.node()));
    // Who lets go of another is not told that the other did.
    a.peers.set_peers(Vec::new());
    c.up(0).await;
    assert!(a.is_content());
}

#[tokio::test]
async fn a_peer_that_is_removed_is_let_go_and_one_that_returns_is_linked() {
    let cluster = Cluster::new("demo");
    let (a, b) = (cluster.start(1), cluster.start(2));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    b.peers.set_peers(Vec::new());
    a.error("no member").await;
    a.up(0).await;
    b.peers.set_peers(vec![a.as_peer()]);
    a.up(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_traffic_loses_nothing_and_keeps_order() {
    let cluster = Cluster::new("demo");
    let (mut a, mut b) = (cluster.start(1), cluster.start(2));
    cluster.introduce(&[&a, &b]);
    a.up(1).await;
    b.up(1).await;
    let errors = [&a, &b].map(|node| node.peers.links()[0].error.clone());
    let (to_a, to_b) = (a.node(), b.node());
    let send = |peers: holm_net::Peers, to| async move {
        for count in 0..20_000 {
            let frame = frame(count, 200);
            if count % 2 == 0 {
                peers.send(to, Class::Bulk, frame);
            } else {
                peers.send_here(to, [(Class::Bulk, frame)]);
            }
            if count % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
    };
    let sending = [
        tokio::spawn(send(a.peers.clone(), to_b)),
        tokio::spawn(send(b.peers.clone(), to_a)),
    ];
    for expected in 0..20_000 {
        assert_eq!(number(&a.next().await.1), expected);
        assert_eq!(number(&b.next().await.1), expected);
        if expected == 2_000 {
            cluster.issue(1);
            a.peers.rotate();
        }
        if expected == 9_000 {
            cluster.issue(2);
            b.peers.rotate();
        }
    }
    for task in sending {
        task.await.unwrap();
    }
    // Both lanes, thrice: at the start, renewed by the one who dials, and by the other.
    for (node, error) in [&a, &b].into_iter().zip(errors) {
        node.connections(6).await;
        let link = &node.peers.links()[0];
        assert!(link.is_up);
        let counts = (link.sent, link.received, link.dropped);
        assert_eq!(counts, (20_000, 20_000, 0));
        assert_eq!(link.error, error, "they end without a word");
    }
    assert!(a.is_content() && b.is_content(), "a rotation is no hint");
}

#[tokio::test]
async fn a_certificate_of_another_node_is_refused_at_the_start() {
    let cluster = Cluster::new("demo");
    let mut config = cluster.config(1, ("demo", "n1"));
    config.name = "n2".to_owned();
    let ((tx, _rx), (hang_up, _ups)) =
        (tokio::sync::mpsc::channel(1), tokio::sync::mpsc::channel(1));
    let refused = holm_net::Peers::start(config, Arc::new(nodes::Inbox(tx, hang_up)));
    let Err(error @ PeersError::Name { .. }) = refused else {
        panic!("it started");
    };
    assert_eq!(
        error.to_string(),
        "this node is n2, its link certificate names holm://demo/here/n1"
    );
}
