//! Nodes of one process, their authority, and strangers.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses its own part of this, and a helper that fails fails its test"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use holm_base::{ClusterId, NodeId};
use holm_link::Identity;
use holm_net::{Authority, Deliver, LinkFiles, Peer, Peers, PeersConfig, Rotating};
use holm_wire::Frame;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Everything waited for comes well within this, or the test fails.
pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it comes in time")
}

/// A frame of the store that carries a number and is padded to `size`.
pub fn frame(number: u64, size: usize) -> Frame {
    let mut body = BytesMut::new();
    body.put_u64_le(number);
    body.resize(size, 7);
    Frame {
        kind: 16,
        plane: 1,
        version: 1,
        group: 0,
        body: body.freeze(),
    }
}

pub fn number(frame: &Frame) -> u64 {
    u64::from_le_bytes(*frame.body.first_chunk().unwrap())
}

/// Puts what arrives into a channel, and who hung up into another.
pub struct Inbox(pub mpsc::Sender<(NodeId, Frame)>, pub mpsc::Sender<NodeId>);

impl Deliver for Inbox {
    fn deliver(&self, from: NodeId, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            self.0.try_send((from, frame)).expect("the test reads");
        }
    }

    fn hung_up(&self, from: NodeId) {
        self.1.try_send(from).expect("there is room");
    }
}

/// An authority and the files of its nodes.
pub struct Cluster {
    name: String,
    folder: tempfile::TempDir,
    authority: Authority,
}

/// A running node.
pub struct Node {
    pub id: u64,
    pub peers: Peers,
    inbox: mpsc::Receiver<(NodeId, Frame)>,
    hung_up: mpsc::Receiver<NodeId>,
}

impl Cluster {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(name).unwrap();
        let path = |file: &str| folder.path().join(file);
        authority.save(&path("ca.pem"), &path("ca.key")).unwrap();
        let name = name.to_owned();
        Self {
            name,
            folder,
            authority,
        }
    }

    pub fn files(&self, node: &str) -> LinkFiles {
        let path = |file: &str| self.folder.path().join(file);
        LinkFiles {
            certificate: path(&format!("{node}.pem")),
            key: path(&format!("{node}.key")),
            authorities: path("ca.pem"),
        }
    }

    fn issue_as(&self, cluster: &str, node: &str) {
        let identity = Identity::new(cluster, "here", node).unwrap();
        let day = Duration::from_secs(86_400);
        let issued = self.authority.issue(&identity, day).unwrap();
        let files = self.files(node);
        issued.save(&files.certificate, &files.key).unwrap();
    }

    /// Gives a node a new certificate.
    pub fn issue(&self, id: u64) {
        self.issue_as(&self.name, &format!("n{id}"));
    }

    pub fn config(&self, id: u64, (cluster, node): (&str, &str)) -> PeersConfig {
        self.issue_as(cluster, node);
        let certificates = Rotating::load(self.files(node)).unwrap();
        PeersConfig::new(ClusterId::new(77), (NodeId::new(id), node), certificates)
    }

    pub fn start_named(
        &self,
        id: u64,
        names: (&str, &str),
        tune: impl FnOnce(&mut PeersConfig),
    ) -> Node {
        let mut config = self.config(id, names);
        tune(&mut config);
        Self::start_as(id, config)
    }

    fn start_as(id: u64, config: PeersConfig) -> Node {
        let (tx, inbox) = mpsc::channel(100_000);
        let (hang_up, hung_up) = mpsc::channel(1_000);
        let peers = Peers::start(config, Arc::new(Inbox(tx, hang_up))).unwrap();
        Node {
            id,
            peers,
            inbox,
            hung_up,
        }
    }

    pub fn start_with(&self, id: u64, tune: impl FnOnce(&mut PeersConfig)) -> Node {
        self.start_named(id, (&self.name, &format!("n{id}")), tune)
    }

    pub fn start(&self, id: u64) -> Node {
        self.start_with(id, |_| {})
    }

    /// The authority's fingerprint.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.authority.fingerprint()
    }

    /// Gives a node a certificate that is good between the beginnings of two years.
    pub fn issue_between(&self, id: u64, (from, until): (i32, i32)) {
        let authority = self.files("ca").authorities;
        let text = |path| std::fs::read_to_string(path).unwrap();
        let key = rcgen::KeyPair::from_pem(&text(self.folder.path().join("ca.key"))).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&text(authority), key).unwrap();
        let mut params = rcgen::CertificateParams::default();
        let name = format!("holm://{}/here/n{id}", self.name);
        let name = name.as_str().try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(name)];
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let pair = rcgen::KeyPair::generate().unwrap();
        let signed = params.signed_by(&pair, &issuer).unwrap();
        let files = self.files(&format!("n{id}"));
        std::fs::write(files.certificate, signed.pem()).unwrap();
        std::fs::write(files.key, pair.serialize_pem()).unwrap();
    }

    /// A node with such a certificate.
    pub fn start_between(&self, id: u64, years: (i32, i32)) -> Node {
        let name = format!("n{id}");
        let mut config = self.config(id, (&self.name, &name));
        self.issue_between(id, years);
        config.certificates = Rotating::load(self.files(&name)).unwrap();
        Self::start_as(id, config)
    }

    /// Tells all nodes of each other.
    pub fn introduce<N: std::borrow::Borrow<Node>>(&self, nodes: &[N]) {
        let all: Vec<Peer> = nodes.iter().map(|node| node.borrow().as_peer()).collect();
        for node in nodes {
            node.borrow().peers.set_peers(all.clone());
        }
    }

    fn pair(&self, id: u64) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let files = self.files(&format!("n{id}"));
        let chain = CertificateDer::from_pem_file(files.certificate).unwrap();
        (
            vec![chain],
            PrivateKeyDer::from_pem_file(files.key).unwrap(),
        )
    }
}

impl Node {
    pub fn node(&self) -> NodeId {
        NodeId::new(self.id)
    }

    pub fn as_peer(&self) -> Peer {
        self.as_peer_of(self.id)
    }

    /// This node's address under another node's id and name.
    pub fn as_peer_of(&self, id: u64) -> Peer {
        Peer {
            node: NodeId::new(id),
            name: format!("n{id}"),
            address: self.peers.address().to_string(),
        }
    }

    /// Dials `other`, which need not know this node.
    pub fn meet(&self, other: &Self) {
        self.peers.set_peers(vec![other.as_peer()]);
    }

    pub async fn next(&mut self) -> (NodeId, Frame) {
        within(self.inbox.recv()).await.unwrap()
    }

    /// Waits until somebody has hung up.
    pub async fn hung_up(&mut self) -> NodeId {
        within(self.hung_up.recv()).await.unwrap()
    }

    /// Whether nobody has hung up since it was last asked.
    pub fn is_content(&mut self) -> bool {
        self.hung_up.try_recv().is_err()
    }

    /// Waits until so many links are up.
    pub async fn up(&self, count: usize) {
        self.until(|peers| {
            let up = peers.links().iter().filter(|link| link.is_up).count();
            (up == count).then_some(())
        })
        .await;
    }

    /// Waits until so many connections were bound.
    pub async fn connections(&self, count: u64) {
        self.until(|peers| {
            let connections = peers.links().into_iter().map(|it| it.connections);
            (connections.sum::<u64>() == count).then_some(())
        })
        .await;
    }

    /// Waits until a link ended for a reason that contains `text`, and gives the whole reason.
    pub async fn error(&self, text: &str) -> String {
        self.until(|peers| {
            let mut errors = peers.links().into_iter().filter_map(|link| link.error);
            errors.find(|error| error.contains(text))
        })
        .await
    }

    /// Waits until a connection was refused here for a reason that contains `text`.
    pub async fn refused(&self, text: &str) {
        self.until(|peers| {
            let mut refusals = peers.refusals().into_iter();
            refusals
                .any(|refusal| refusal.reason.contains(text))
                .then_some(())
        })
        .await;
    }

    /// Waits until `stranger` was let go and was refused for that reason.
    pub async fn refuses(&self, stranger: impl Future<Output = io::Result<()>>, text: &str) {
        // It may be told by an alert, by silence, or by a reset; it is not let in.
        drop(within(stranger).await);
        self.refused(text).await;
    }

    async fn until<T>(&self, look: impl Fn(&Peers) -> Option<T>) -> T {
        let mut changes = self.peers.changes();
        let found = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look(&self.peers) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(20), found).await;
        let (links, refusals) = (self.peers.links(), self.peers.refusals());
        found.unwrap_or_else(|_| panic!("it does not come: {links:#?} {refusals:#?}"))
    }
}

pub async fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Says something that is no TLS, and waits until it is let go.
pub async fn say(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut stream = dial(address).await;
    stream.write_all(bytes).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

/// A member's certificate, an old TLS.
pub async fn tls_1_2(address: SocketAddr, cluster: &Cluster) -> io::Result<()> {
    let old = &rustls::version::TLS12;
    shake(address, cluster, (old, &["holm/1"])).await.map(drop)
}

/// A member's certificate and TLS 1.3, some protocols inside, and then these bytes.
pub async fn member_says(
    (address, cluster): (SocketAddr, &Cluster),
    protocols: &[&str],
    bytes: &[u8],
) -> io::Result<()> {
    let new = &rustls::version::TLS13;
    let mut stream = shake(address, cluster, (new, protocols)).await?;
    stream.write_all(bytes).await?;
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

async fn shake(
    address: SocketAddr,
    cluster: &Cluster,
    (version, protocols): (&'static rustls::SupportedProtocolVersion, &[&str]),
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = cluster.pair(1);
    let trusting = Arc::new(Trusting(Arc::clone(&provider)));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(trusting)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let stream = dial(address).await;
    let name = ServerName::try_from("holm").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

/// Trusts whoever answers: it is the answering end that is tested.
#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
