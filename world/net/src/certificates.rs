//! Certificates from files or of our own making, and their renewal while connections are open.
//!
//! The files are looked at again when a handshake comes, at most once a second: whoever renews
//! certificates only has to replace the files. What does not fit together (a new certificate
//! beside the old key, half a file) is reported once and the old pair goes on serving.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::NetError;

/// How long files are trusted to be unchanged.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where a listener's certificate comes from and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs clients' certificates, PEM. Naming it demands a certificate of every client.
    pub trusted_authorities: Option<PathBuf>,
    /// Whether a client's certificate also says which user it is, by its common name.
    pub client_certificates_name_users: bool,
}

/// A listener's certificates, as they are now.
#[derive(Debug)]
pub struct Certificates {
    files: CertificateFiles,
    state: Mutex<State>,
}

/// What is served now, and what of the files is known.
#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    seen: Vec<Option<Stamp>>,
    looked: Instant,
}

/// What tells a replaced file from the one that was read.
pub(crate) type Stamp = (SystemTime, u64);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`NetError`] naming the file that is missing, unreadable, no PEM, or does not fit.
    pub fn load(files: CertificateFiles) -> Result<Arc<Self>, NetError> {
        if files.client_certificates_name_users && files.trusted_authorities.is_none() {
            return Err(NetError::NoAuthorities);
        }
        let seen = stamps(&files);
        let config = Arc::new(read(&files)?);
        let looked = Instant::now();
        let state = Mutex::new(State {
            config,
            seen,
            looked,
        });
        Ok(Arc::new(Self { files, state }))
    }

    /// Makes a certificate that it signs itself, or takes the one that it made before.
    ///
    /// It is for `names` (host names or addresses) and lies in `folder` as `certificate.pem` and
    /// `key.pem`, the key readable by its owner alone. Clients must be told to trust it.
    ///
    /// # Errors
    ///
    /// [`NetError`] if it cannot be made, written, or read back.
    pub fn self_made(folder: &Path, names: &[String]) -> Result<Arc<Self>, NetError> {
        let certificate = folder.join("certificate.pem");
        let key = folder.join("key.pem");
        if !(certificate.exists() && key.exists()) {
            make(&certificate, &key, names)?;
        }
        Self::load(CertificateFiles {
            certificate,
            key,
            trusted_authorities: None,
            client_certificates_name_users: false,
        })
    }

    /// Whether a client's certificate says which user it is.
    #[must_use]
    pub const fn name_users(&self) -> bool {
        self.files.client_certificates_name_users
    }

    /// What a new handshake is to use. Looks at the files if it has not done so for a second.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut state = self.lock();
        if state.looked.elapsed() >= LOOK_AGAIN {
            self.look_again(&mut state);
        }
        Arc::clone(&state.config)
    }

    /// Reads the files again now, changed or not; what is wrong with them is reported and the
    /// old certificates stay.
    pub fn reload(&self) {
        let mut state = self.lock();
        state.seen = stamps(&self.files);
        self.renew(&mut state);
    }

    fn look_again(&self, state: &mut State) {
        state.looked = Instant::now();
        let now = stamps(&self.files);
        if now != state.seen {
            state.seen = now;
            self.renew(state);
        }
    }

    fn renew(&self, state: &mut State) {
        let file = self.files.certificate.display();
        match read(&self.files) {
            Ok(config) => {
                state.config = Arc::new(config);
                tracing::info!(%file, "certificates renewed");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                tracing::warn!(%file, %error, %cause, "new certificates refused, old ones stay");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What can be told of the files without reading them; `None` for one that is not there.
fn stamps(files: &CertificateFiles) -> Vec<Option<Stamp>> {
    let paths = [
        Some(&files.certificate),
        Some(&files.key),
        files.trusted_authorities.as_ref(),
    ];
    paths.into_iter().flatten().map(|it| stamp(it)).collect()
}

/// What can be told of a file without reading it.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

/// Everything a handshake needs, from the files as they are now.
fn read(files: &CertificateFiles) -> Result<ServerConfig, NetError> {
    let chain = read_chain(&files.certificate)?;
    let key = read_key(&files.key)?;
    warn_of_dates(&files.certificate, &chain);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| NetError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.trusted_authorities {
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A certificate out of its time is served all the same, for it may be the clock that is wrong;
/// but clients will refuse it.
pub(crate) fn warn_of_dates(file: &Path, chain: &[CertificateDer<'static>]) {
    let leaf = chain
        .first()
        .map(|it| x509_parser::parse_x509_certificate(it));
    if let Some(Ok((_, leaf))) = leaf
        && !leaf.validity().is_valid()
    {
        let (file, from, until) = (
            file.display(),
            leaf.validity().not_before,
            leaf.validity().not_after,
        );
        tracing::warn!(
            %file, %from, %until,
            "the certificate is expired or not valid yet, so clients will refuse it: renew it, or check the clock"
        );
    }
}

/// What checks clients' certificates against the authorities of a file.
fn verifier(
    path: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, NetError> {
    let refuse = |why: String| NetError::Authorities {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refuse(error.to_string()))
}

pub(crate) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let bytes = read_file(path)?;
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|source| NetError::Pem {
        path: path.to_owned(),
        source,
    })?;
    if chain.is_empty() {
        return Err(NetError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, NetError> {
    let bytes = read_file(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|source| NetError::Pem {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, NetError> {
    std::fs::read(path).map_err(|source| NetError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Makes a pair for `names` and writes it: the key first, so that a certificate has its key.
fn make(certificate: &Path, key: &Path, names: &[String]) -> Result<(), NetError> {
    let fail = |source| NetError::Make { source };
    let pair = rcgen::KeyPair::generate().map_err(fail)?;
    let mut params = rcgen::CertificateParams::new(names.to_vec()).map_err(fail)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "holm");
    let made = params.self_signed(&pair).map_err(fail)?;
    write_private(key, pair.serialize_pem().as_bytes())?;
    write_private(certificate, made.pem().as_bytes())
}

/// Writes a file that its owner alone may read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(|source| NetError::Write {
        path: path.to_owned(),
        source,
    })
}
