//! The certificates of a node's links, for both ends of TLS, and their renewal.
//!
//! TLS 1.3 only, both ends authenticated, no resumption (it would carry an old certificate
//! over), no early data. That a certificate is signed by the authority is checked here; that it
//! names the right node is checked by the link, against greeting and member table.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use holm_link::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use crate::authority::{Trusted, fingerprint, signer};
use crate::certificates::{LOOK_AGAIN, Stamp, read_chain, read_key, stamp, warn_of_dates};
use crate::error::NetError;
use crate::names::identity;

/// The only protocol spoken inside.
pub(crate) const ALPN: &[u8] = b"holm/1";

/// What is spoken to a node's desk, with a certificate or, to join, without one.
pub(crate) const DESK_ALPN: &[u8] = b"holm-desk/1";

/// Where a node's certificate for links lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Who signs the others' certificates, PEM; several while one replaces another.
    pub authorities: PathBuf,
}

/// A node's certificates for links, as they are now.
#[derive(Debug)]
pub struct Rotating {
    files: LinkFiles,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ends: Ends,
    seen: [Option<Stamp>; 3],
    looked: Instant,
}

/// What both ends of a handshake use.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) identity: Identity,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    /// For whoever comes to the desk: it need not show a certificate, and is shown the
    /// authorities beside the node's own.
    pub(crate) desk: Arc<ServerConfig>,
    pub(crate) term: CertificateTerm,
    /// Whom the node trusts, in the file's order.
    pub(crate) trusted: Vec<Trusted>,
    /// Which of them signed the node's own certificate.
    pub(crate) signed_by: Option<[u8; 32]>,
}

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateTerm {
    /// From when; an hour before it was made, if the authority is ours.
    pub from: SystemTime,
    /// Until when.
    pub until: SystemTime,
}

impl Rotating {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// [`NetError`] naming the file that is missing, unreadable, does not fit, or names no node.
    pub fn load(files: LinkFiles) -> Result<Arc<Self>, NetError> {
        let seen = stamps(&files);
        let ends = read(&files)?;
        let looked = Instant::now();
        let state = Mutex::new(State { ends, seen, looked });
        Ok(Arc::new(Self { files, state }))
    }

    /// Whom the certificate names.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.lock().ends.identity.clone()
    }

    /// From when until when the certificate is good.
    #[must_use]
    pub fn term(&self) -> CertificateTerm {
        self.lock().ends.term
    }

    /// Whom new connections trust, in the order of the authorities' file.
    #[must_use]
    pub fn trusted(&self) -> Vec<Trusted> {
        self.lock().ends.trusted.clone()
    }

    /// The fingerprint of the authority that signed the certificate; `None` if none of those that
    /// are trusted did.
    #[must_use]
    pub fn signed_by(&self) -> Option<[u8; 32]> {
        self.lock().ends.signed_by
    }

    /// Looks at the files now; whether they have changed and were taken. What is wrong with
    /// them is reported, and the old certificates stay.
    pub fn reload(&self) -> bool {
        let mut state = self.lock();
        state.looked = Instant::now();
        let now = stamps(&self.files);
        if now == state.seen {
            return false;
        }
        state.seen = now;
        let file = self.files.certificate.display();
        match read(&self.files) {
            Ok(ends) if ends.identity == state.ends.identity => {
                state.ends = ends;
                tracing::info!(%file, "link certificates renewed");
                true
            }
            Ok(ends) => {
                let (old, new) = (&state.ends.identity, ends.identity);
                tracing::warn!(%file, %old, %new, "new link certificate names another node, old one stays");
                false
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_default();
                tracing::warn!(%file, %error, %cause, "new link certificates refused, old ones stay");
                false
            }
        }
    }

    /// What a new handshake is to use. Looks at the files if it has not done so for a second.
    pub(crate) fn current(&self) -> Ends {
        let is_old = self.lock().looked.elapsed() >= LOOK_AGAIN;
        if is_old {
            self.reload();
        }
        self.lock().ends.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &LinkFiles) -> [Option<Stamp>; 3] {
    [&files.certificate, &files.key, &files.authorities].map(|path| stamp(path))
}

fn read(files: &LinkFiles) -> Result<Ends, NetError> {
    let chain = read_chain(&files.certificate)?;
    warn_of_dates(&files.certificate, &chain);
    let nobody = || NetError::NoIdentity {
        path: files.certificate.clone(),
    };
    let identity = chain.first().and_then(identity).ok_or_else(nobody)?;
    let term = chain.first().and_then(term).ok_or_else(nobody)?;
    let refuse = |why: String| NetError::Authorities {
        path: files.authorities.clone(),
        why,
    };
    let Authorities {
        roots,
        certificates,
        trusted,
    } = Authorities::read(files)?;
    let signed_by = signer(&chain, certificates.iter().cloned());
    let shown = [chain.clone(), certificates].concat();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| NetError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    };
    let verifier =
        || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let members_only = verifier().build();
    let anybody = verifier().allow_unauthenticated().build();
    let server = |verifier, chain, alpn: &[u8]| {
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, read_key(&files.key)?)
            .map_err(unusable)?;
        server.alpn_protocols = vec![alpn.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(server))
    };
    let members_only = members_only.map_err(|error| refuse(error.to_string()))?;
    let anybody = anybody.map_err(|error| refuse(error.to_string()))?;
    let desk = server(anybody, shown, DESK_ALPN)?;
    let server = server(members_only, chain.clone(), ALPN)?;
    let signed = Arc::new(SignedByAuthority {
        roots: Arc::clone(&roots),
        provider: Arc::clone(&provider),
    });
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(signed)
        .with_client_auth_cert(chain, read_key(&files.key)?)
        .map_err(unusable)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
    client.enable_sni = false;
    Ok(Ends {
        identity,
        client: Arc::new(client),
        server,
        desk,
        term,
        trusted,
        signed_by,
    })
}

/// Who is trusted.
struct Authorities {
    roots: Arc<RootCertStore>,
    certificates: Vec<CertificateDer<'static>>,
    trusted: Vec<Trusted>,
}

impl Authorities {
    fn read(files: &LinkFiles) -> Result<Self, NetError> {
        let mut roots = RootCertStore::empty();
        let certificates = read_chain(&files.authorities)?;
        let mut trusted = Vec::new();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| NetError::Authorities {
                path: files.authorities.clone(),
                why: error.to_string(),
            })?;
            let until = term(certificate).map(|term| term.until);
            let fingerprint = fingerprint(certificate);
            trusted.extend(until.map(|until| Trusted { fingerprint, until }));
        }
        Ok(Self {
            roots: Arc::new(roots),
            certificates,
            trusted,
        })
    }
}

/// From when until when the first certificate of a file is good.
///
/// # Errors
///
/// [`NetError`] if it cannot be read or is no certificate.
pub fn term_of_file(path: &Path) -> Result<CertificateTerm, NetError> {
    let none = || NetError::NoCertificate {
        path: path.to_owned(),
    };
    read_chain(path)?.first().and_then(term).ok_or_else(none)
}

/// From when until when a certificate, PEM, is good.
///
/// # Errors
///
/// [`NetError::NotHandedOver`] if it is none.
pub fn term_of_pem(pem: &str) -> Result<CertificateTerm, NetError> {
    let none = || NetError::NotHandedOver;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_no_pem| none())?;
    term(&der).ok_or_else(none)
}

/// From when until when a certificate is good; `None` for dates before 1970.
pub(crate) fn term(certificate: &CertificateDer<'_>) -> Option<CertificateTerm> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let moment = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    Some(CertificateTerm {
        from: moment(parsed.validity().not_before)?,
        until: moment(parsed.validity().not_after)?,
    })
}

/// Verifies that whoever was dialled has a certificate of the authority. Which node it names is
/// not a host name, so the usual verifier would look for the wrong thing.
#[derive(Debug)]
pub(crate) struct SignedByAuthority {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SignedByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
