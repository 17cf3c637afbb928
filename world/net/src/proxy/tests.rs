//! Lines in paused time over pipes in memory; cables over loopback, without a clock.

use tokio::io::duplex;

use super::*;

/// Longer than anything here takes, and no test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn shared() -> Shared {
    Shared {
        ways: Arc::new(watch::Sender::new([Way::Open; 2])),
        bytes: Arc::default(),
        room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    }
}

/// A line with a pipe at each end: what is written to the first comes out of the second.
fn piped(shared: &Shared) -> (tokio::io::DuplexStream, tokio::io::DuplexStream) {
    let (near, far) = (duplex(1 << 20), duplex(1 << 20));
    let (line_in, line_out) = line();
    tokio::spawn(fill(near.1, line_in));
    let passage = Passage::new(shared, Direction::There);
    tokio::spawn(drain(line_out, far.0, passage));
    (near.0, far.1)
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_delays_each_byte_alike_and_keeps_order() {
    let shared = shared();
    let delay = Duration::from_millis(30);
    shared.ways.send_modify(|ways| ways[0] = Way::Slow(delay));
    let (mut near, mut far) = piped(&shared);
    let begun = Instant::now();
    for at in 0..10_u8 {
        near.write_u8(at).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for at in 0..10_u8 {
        assert_eq!(far.read_u8().await.unwrap(), at);
    }
    // The last was written at 90 ms: it came 30 ms later, not behind ten delays.
    assert_eq!(begun.elapsed(), Duration::from_millis(120));
    assert_eq!(shared.bytes[0].load(Ordering::Relaxed), 10);
}

#[tokio::test(start_paused = true)]
async fn a_delay_does_not_limit_throughput() {
    let shared = shared();
    let delay = Duration::from_millis(100);
    shared.ways.send_modify(|ways| ways[0] = Way::Slow(delay));
    let (mut near, mut far) = piped(&shared);
    let begun = Instant::now();
    let writing = tokio::spawn(async move {
        let bytes = vec![7; 8 << 20];
        near.write_all(&bytes).await.unwrap();
    });
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    writing.await.unwrap();
    assert_eq!(bytes.len(), 8 << 20);
    assert_eq!(begun.elapsed(), delay);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_holds_the_sender_and_loses_nothing() {
    let shared = shared();
    shared.ways.send_modify(|ways| ways[0] = Way::Cut);
    let (mut near, mut far) = piped(&shared);
    let more = LINE_BYTES + (4 << 20);
    let mut writing = tokio::spawn(async move {
        let bytes = vec![7; more];
        near.write_all(&bytes).await.unwrap();
    });
    let held = tokio::time::timeout(PATIENCE, &mut writing).await;
    assert!(held.is_err(), "a bounded line took {more} bytes");
    shared.ways.send_modify(|ways| ways[0] = Way::Open);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    writing.await.unwrap();
    assert_eq!(bytes.len(), more);
}

#[tokio::test(start_paused = true)]
async fn what_entered_a_cut_line_comes_out_after_the_heal_and_so_does_the_end() {
    let shared = shared();
    let (mut near, mut far) = piped(&shared);
    near.write_all(b"before").await.unwrap();
    let mut bytes = [0; 6];
    far.read_exact(&mut bytes).await.unwrap();
    shared.ways.send_modify(|ways| ways[0] = Way::Cut);
    near.write_all(b"during").await.unwrap();
    drop(near);
    let silence = tokio::time::timeout(PATIENCE, far.read_u8()).await;
    assert!(silence.is_err(), "{silence:?} passed a cut line");
    shared.ways.send_modify(|ways| ways[0] = Way::Open);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"during");
}

#[tokio::test(start_paused = true)]
async fn a_delay_changes_for_what_is_under_way() {
    let shared = shared();
    let slow = |ms| Way::Slow(Duration::from_millis(ms));
    shared.ways.send_modify(|ways| ways[0] = slow(60_000));
    let (mut near, mut far) = piped(&shared);
    let begun = Instant::now();
    near.write_u8(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    shared.ways.send_modify(|ways| ways[0] = slow(50));
    assert_eq!(far.read_u8().await.unwrap(), 1);
    assert_eq!(begun.elapsed(), Duration::from_millis(50));
}

/// A site that listens, and a cable to it from a site that only dials.
async fn cabled() -> (TcpListener, Cable) {
    let site = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let cable = Cable::lay([nobody, site.local_addr().unwrap()]).await;
    (site, cable.unwrap())
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let (site, cable) = cabled().await;
    let mut near = TcpStream::connect(cable.door(Direction::There))
        .await
        .unwrap();
    let (mut far, _) = site.accept().await.unwrap();
    near.write_all(b"there").await.unwrap();
    let mut bytes = [0; 5];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"there");
    far.write_all(b"and back").await.unwrap();
    drop(far);
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"and back");
    assert_eq!(cable.view().bytes, [5, 8]);
}

#[tokio::test]
async fn a_new_connection_hangs_while_either_way_is_cut() {
    let (site, cable) = cabled().await;
    cable.set(Direction::Back, Way::Cut);
    let mut gave_up = TcpStream::connect(cable.door(Direction::There))
        .await
        .unwrap();
    gave_up.write_all(b"nobody hears this").await.unwrap();
    let mut stays = TcpStream::connect(cable.door(Direction::There))
        .await
        .unwrap();
    stays.write_all(b"still here").await.unwrap();
    while cable.view().connections < 2 {
        tokio::task::yield_now().await;
    }
    drop(gave_up);
    while cable.view().connections > 1 {
        tokio::task::yield_now().await;
    }
    cable.set(Direction::Back, Way::Open);
    let (mut far, _) = site.accept().await.unwrap();
    let mut bytes = [0; 10];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"still here");
}

#[tokio::test]
async fn one_way_is_cut_and_the_other_goes_on() {
    let (site, cable) = cabled().await;
    let mut near = TcpStream::connect(cable.door(Direction::There))
        .await
        .unwrap();
    let (mut far, _) = site.accept().await.unwrap();
    cable.set(Direction::There, Way::Cut);
    near.write_all(b"lost for now").await.unwrap();
    far.write_all(b"heard").await.unwrap();
    let mut bytes = [0; 5];
    near.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, cable.view().bytes), (b"heard", [0, 5]));
    cable.set(Direction::There, Way::Open);
    let mut bytes = [0; 12];
    far.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"lost for now");
}

#[tokio::test]
async fn a_site_that_is_down_hangs_up() {
    let (site, cable) = cabled().await;
    drop(site);
    let mut near = TcpStream::connect(cable.door(Direction::There))
        .await
        .unwrap();
    let end = tokio::time::timeout(PATIENCE, near.read_u8())
        .await
        .unwrap();
    assert!(end.is_err(), "{end:?}");
}
