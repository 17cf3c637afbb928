//! The gate over streams in memory: protocols, certificates, their renewal, silence.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holm_net::{
    CertificateFiles, Certificates, Connection, Gate, Limits, ListenConfig, Listener, NetError,
    PREFACE, Protocol, Room,
};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

type Tls = tokio_rustls::client::TlsStream<DuplexStream>;

/// An authority and a folder that holds what it signed.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a pair for `name` and writes it as `name.pem` and `name.key`.
    fn sign(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), signed.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn files(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            trusted_authorities: None,
            client_certificates_name_users: false,
        }
    }

    fn files_that_name_users(&self, name: &str) -> CertificateFiles {
        CertificateFiles {
            trusted_authorities: Some(self.path("authority.pem")),
            client_certificates_name_users: true,
            ..self.files(name)
        }
    }

    fn client(&self, user: Option<&str>, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match user {
            Some(user) => {
                let (chain, key) = self.pair(user);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    fn pair(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = CertificateDer::from_pem_file(self.path(&format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap();
        (vec![chain], key)
    }
}

fn gate(certificates: Option<Arc<Certificates>>) -> Gate {
    Gate::new(certificates, Limits::default())
}

async fn connect(gate: &Gate, config: Arc<ClientConfig>) -> (Option<Connection>, Option<Tls>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let shake = async {
        let mut stream = connector.connect(name, near).await.ok()?;
        // Without an agreed protocol the gate waits for the first bytes.
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.ok()?;
        Some(stream)
    };
    tokio::join!(gate.admit(far, PEER), shake)
}

fn load(files: CertificateFiles) -> Arc<Certificates> {
    Certificates::load(files).unwrap()
}

#[tokio::test]
async fn plain_client_is_known_by_its_first_bytes_and_loses_none() {
    let gate = gate(None);
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(PREFACE).await.unwrap();
    let mut connection = gate.admit(far, PEER).await.unwrap();
    assert_eq!(connection.protocol, Protocol::Http2);
    assert!(!connection.is_tls);
    let mut seen = [0; 24];
    connection.stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, PREFACE);
}

#[tokio::test]
async fn tls_client_chooses_the_protocol_in_its_handshake() {
    let authority = Authority::new();
    authority.sign("site");
    let gate = gate(Some(load(authority.files("site"))));
    for (asked, protocol) in [
        (&["h2"][..], Protocol::Http2),
        (&["http/1.1"], Protocol::Http1),
        (&["h2", "http/1.1"], Protocol::Http2),
        (&[], Protocol::Http1),
    ] {
        let (connection, _client) = connect(&gate, authority.client(None, asked)).await;
        let connection = connection.unwrap();
        assert!(connection.is_tls);
        assert_eq!(
            (connection.protocol, connection.common_name),
            (protocol, None),
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn verified_certificate_names_the_user() {
    let authority = Authority::new();
    authority.sign("site");
    authority.sign("alice");
    let gate = gate(Some(load(authority.files_that_name_users("site"))));
    let (connection, _client) = connect(&gate, authority.client(Some("alice"), &["h2"])).await;
    assert_eq!(connection.unwrap().common_name.as_deref(), Some("alice"));
}

#[tokio::test]
async fn certificate_names_nobody_where_it_is_only_demanded() {
    let authority = Authority::new();
    authority.sign("site");
    authority.sign("alice");
    let mut files = authority.files_that_name_users("site");
    files.client_certificates_name_users = false;
    let gate = gate(Some(load(files)));
    let (connection, _client) = connect(&gate, authority.client(Some("alice"), &["h2"])).await;
    assert_eq!(connection.unwrap().common_name, None);
}

#[tokio::test]
async fn client_without_or_with_a_foreign_certificate_is_not_let_in() {
    let authority = Authority::new();
    authority.sign("site");
    let gate = gate(Some(load(authority.files_that_name_users("site"))));
    let (connection, _client) = connect(&gate, authority.client(None, &["h2"])).await;
    assert!(connection.is_none());

    let stranger = Authority::new();
    stranger.sign("alice");
    std::fs::copy(stranger.path("alice.pem"), authority.path("alice.pem")).unwrap();
    std::fs::copy(stranger.path("alice.key"), authority.path("alice.key")).unwrap();
    let (connection, _client) = connect(&gate, authority.client(Some("alice"), &["h2"])).await;
    assert!(connection.is_none());
}

#[tokio::test]
async fn plain_text_at_a_tls_gate_is_not_let_in() {
    let authority = Authority::new();
    authority.sign("site");
    let gate = gate(Some(load(authority.files("site"))));
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(PREFACE).await.unwrap();
    assert!(gate.admit(far, PEER).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn silent_client_is_closed_after_the_time_for_a_handshake() {
    let (near, far) = tokio::io::duplex(1024);
    let before = tokio::time::Instant::now();
    assert!(gate(None).admit(far, PEER).await.is_none());
    assert_eq!(before.elapsed(), Limits::default().handshake_timeout);
    drop(near);
}

#[tokio::test]
async fn handshake_beyond_the_limit_is_refused_at_once() {
    let limits = Limits {
        handshakes_max: 1,
        ..Limits::default()
    };
    let gate = Gate::new(None, limits);
    let (_silent, first) = tokio::io::duplex(1024);
    let (_waiting, second) = tokio::io::duplex(1024);
    tokio::select! {
        biased;
        _ = gate.admit(first, PEER) => panic!("nothing was said, so nothing is known"),
        refused = gate.admit(second, PEER) => assert!(refused.is_none()),
    }
}

#[tokio::test]
async fn renewed_certificate_serves_the_next_handshake_and_the_open_connection_stays() {
    let authority = Authority::new();
    authority.sign("site");
    let certificates = load(authority.files("site"));
    let gate = gate(Some(Arc::clone(&certificates)));
    let (first, client) = connect(&gate, authority.client(None, &["h2"])).await;
    let (mut first, client) = (first.unwrap(), client.unwrap());
    let shown = |client: &Tls| client.get_ref().1.peer_certificates().unwrap()[0].clone();

    authority.sign("site");
    certificates.reload();
    let (_second, renewed) = connect(&gate, authority.client(None, &["h2"])).await;
    let renewed = renewed.unwrap();
    assert_ne!(shown(&client), shown(&renewed));
    assert_eq!(shown(&renewed), authority.pair("site").0[0]);
    let mut seen = [0; 3];
    first.stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"GET");
}

#[tokio::test]
async fn half_renewed_files_leave_the_old_certificate() {
    let authority = Authority::new();
    authority.sign("site");
    let old = authority.pair("site").0[0].clone();
    let certificates = load(authority.files("site"));
    let gate = gate(Some(Arc::clone(&certificates)));

    authority.sign("other");
    std::fs::copy(authority.path("other.pem"), authority.path("site.pem")).unwrap();
    certificates.reload();
    let (_connection, client) = connect(&gate, authority.client(None, &["h2"])).await;
    assert_eq!(
        client.unwrap().get_ref().1.peer_certificates().unwrap()[0],
        old
    );

    std::fs::copy(authority.path("other.key"), authority.path("site.key")).unwrap();
    certificates.reload();
    let (_connection, client) = connect(&gate, authority.client(None, &["h2"])).await;
    assert_ne!(
        client.unwrap().get_ref().1.peer_certificates().unwrap()[0],
        old
    );
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let authority = Authority::new();
    authority.sign("site");
    authority.sign("other");
    let bad = |change: &dyn Fn(&mut CertificateFiles)| {
        let mut files = authority.files("site");
        change(&mut files);
        Certificates::load(files).unwrap_err()
    };
    let missing = bad(&|files| files.certificate = PathBuf::from("/nowhere/site.pem"));
    assert_eq!(missing.to_string(), "read /nowhere/site.pem");
    let swapped = bad(&|files| std::mem::swap(&mut files.certificate, &mut files.key));
    assert!(
        matches!(swapped, NetError::NoCertificate { .. }),
        "{swapped}"
    );
    let unfitting = bad(&|files| files.key = authority.path("other.key"));
    assert!(
        matches!(unfitting, NetError::Unusable { .. }),
        "{unfitting}"
    );
    let nobody = bad(&|files| files.client_certificates_name_users = true);
    assert!(matches!(nobody, NetError::NoAuthorities), "{nobody}");
    std::fs::write(
        authority.path("noise.pem"),
        b"-----BEGIN CERTIFICATE-----\n!!!\n",
    )
    .unwrap();
    let noise = bad(&|files| files.certificate = authority.path("noise.pem"));
    assert!(matches!(noise, NetError::Pem { .. }), "{noise}");
}

#[tokio::test]
async fn self_made_certificate_is_made_once_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificates = Certificates::self_made(folder.path(), &names).unwrap();
    let read = |path: &Path| std::fs::read(path).unwrap();
    let made = read(&folder.path().join("certificate.pem"));
    let key = std::fs::metadata(folder.path().join("key.pem")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    Certificates::self_made(folder.path(), &names).unwrap();
    assert_eq!(read(&folder.path().join("certificate.pem")), made);
    assert!(!certificates.name_users());
}

#[tokio::test]
async fn listener_off_loopback_without_tls_says_what_to_do() {
    let config = ListenConfig {
        address: "0.0.0.0:2379".parse().unwrap(),
        certificates: None,
        room: Room::new(1),
        limits: Limits::default(),
    };
    assert_eq!(
        Listener::bind(config).unwrap_err().to_string(),
        "listener 0.0.0.0:2379 is not loopback and has no TLS: add --cert-file and --key-file, \
         or listen on 127.0.0.1"
    );
}
