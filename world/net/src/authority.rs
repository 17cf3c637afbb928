//! A cluster's own authority: it signs the certificates by which nodes know each other.
//!
//! A node's certificate names it as `holm://<cluster>/<site>/<node>` and serves at both ends of
//! a link. Keys are ECDSA on P-256, readable by their owner alone. Whoever brings certificates
//! of another maker needs the same name in them and nothing else from here.

use std::path::Path;
use std::time::{Duration, SystemTime};

use holm_link::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

use crate::certificates::{read_file, write_private};
use crate::error::NetError;
use crate::rotating::term;

/// How long an authority is good for: ten years.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// Clocks may differ by so much before a new certificate is refused as not valid yet.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);

/// Who signs a cluster's certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// A node's private key, before anybody has signed for it. It is not printed.
pub struct NodeKey {
    pair: KeyPair,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// Makes the authority of a cluster.
    ///
    /// # Errors
    ///
    /// [`NetError::Identity`] if the name does not fit a certificate, [`NetError::Make`].
    pub fn create(cluster: &str) -> Result<Self, NetError> {
        Identity::new(cluster, "authority", "authority")
            .map_err(|source| NetError::Identity { source })?;
        let mut params = dated(AUTHORITY_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, format!("holm cluster {cluster}"));
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.self_signed(&key).map_err(make)?;
        let der = certificate.der().clone();
        let pem = certificate.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, pem, der })
    }

    /// Reads an authority that [`Authority::save`] or [`Authority::save_as_one`] wrote. Of several
    /// certificates in a file, as there are while one authority replaces another, it is the one
    /// that the key fits.
    ///
    /// # Errors
    ///
    /// [`NetError`] naming the file that is missing or no PEM, [`NetError::NotItsKey`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, NetError> {
        // The key first: what it fits may leave the other file once this key has left its own.
        let (key, pem) = (text(key)?, text(certificate)?);
        CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| {
            let path = certificate.to_owned();
            NetError::Pem { path, source }
        })?;
        Self::from_pem(&pem, &key)
    }

    /// The authority among these certificates that the key is of, all PEM.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`] if the key cannot be read, [`NetError::NotItsKey`] if it fits none.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, NetError> {
        let key = KeyPair::from_pem(key).map_err(make)?;
        for pem in certificates_of(certificates) {
            let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
                continue;
            };
            if is_of(&der, &key) {
                let issuer = Issuer::from_ca_cert_der(&der, key).map_err(make)?;
                let pem = format!("{pem}\n");
                return Ok(Self { issuer, pem, der });
            }
        }
        Err(NetError::NotItsKey)
    }

    /// Writes certificate and key, each readable by its owner alone; the key first, so that
    /// whoever finds a certificate finds its key.
    ///
    /// # Errors
    ///
    /// [`NetError::Write`].
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), NetError> {
        write_private(key, self.issuer.key().serialize_pem().as_bytes())?;
        write_private(certificate, self.pem.as_bytes())
    }

    /// Writes both into one file, readable by its owner alone, which a crash leaves whole as it
    /// was or whole as it is to be. The key comes first, so the file serves as a key as well.
    ///
    /// # Errors
    ///
    /// [`NetError::Write`].
    pub fn save_as_one(&self, path: &Path) -> Result<(), NetError> {
        replace(path, format!("{}{}", self.key(), self.pem).as_bytes())
    }

    /// Its certificate, PEM: what nodes trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its certificate, DER: what a join token names.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.der)
    }

    /// Its private key, PEM: for another node that is to sign as well.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a new key for a node and signs it, good for `lifetime` from now.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`].
    pub fn issue(&self, identity: &Identity, lifetime: Duration) -> Result<Issued, NetError> {
        let key = NodeKey::make()?;
        Ok(Issued {
            certificate: self.certify(&key.pair, identity, lifetime)?,
            key: key.pem(),
        })
    }

    /// Signs what [`NodeKey::request`] asks for: a certificate, PEM, good for `lifetime` from
    /// now. Whom it names is `identity`, whatever the request says.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`] for a request that is none, or that its own key has not signed.
    pub fn sign(
        &self,
        request: &[u8],
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<String, NetError> {
        let request = CertificateSigningRequestParams::from_der(&request.into()).map_err(make)?;
        self.certify(&request.public_key, identity, lifetime)
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        lifetime: Duration,
    ) -> Result<String, NetError> {
        let mut params = dated(lifetime);
        let uri = identity.to_string();
        let uri = uri.as_str().try_into().map_err(make)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params
            .distinguished_name
            .push(DnType::CommonName, identity.node());
        let signed = params.signed_by(key, &self.issuer).map_err(make)?;
        Ok(signed.pem())
    }
}

impl NodeKey {
    /// A new one.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`].
    pub fn make() -> Result<Self, NetError> {
        let pair = KeyPair::generate().map_err(make)?;
        Ok(Self { pair })
    }

    /// The one that lies at `path`, or a new one that lies there from now on, readable by its
    /// owner alone.
    ///
    /// # Errors
    ///
    /// [`NetError`] if it cannot be read, made or kept.
    pub fn kept(path: &Path) -> Result<Self, NetError> {
        if path.exists() {
            let pair = KeyPair::from_pem(&text(path)?).map_err(make)?;
            return Ok(Self { pair });
        }
        let made = Self::make()?;
        replace(path, made.pem().as_bytes())?;
        Ok(made)
    }

    /// It, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// A request for a certificate (PKCS #10, DER), signed with it. It names nobody: whom the
    /// certificate names is for the authority to say.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`].
    pub fn request(&self) -> Result<Vec<u8>, NetError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.pair).map_err(make)?;
        Ok(request.der().to_vec())
    }
}

/// An authority that is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// SHA-256 of its certificate, DER.
    pub fingerprint: [u8; 32],
    /// Until when it is good.
    pub until: SystemTime,
}

/// The authorities of a text of certificates, PEM, in their order; all of them can be trusted.
///
/// # Errors
///
/// [`NetError::NotHandedOver`] if one of them is no certificate that signs others.
pub fn trusted_of_pem(pem: &str) -> Result<Vec<Trusted>, NetError> {
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|_no_pem| NetError::NotHandedOver)?;
        let is_usable = RootCertStore::empty().add(der.clone()).is_ok();
        let parsed = x509_parser::parse_x509_certificate(&der);
        let is_authority = parsed.is_ok_and(|(_, parsed)| parsed.is_ca());
        let term = term(&der).filter(|_| is_usable && is_authority);
        all.push(Trusted {
            fingerprint: fingerprint(&der),
            until: term.ok_or(NetError::NotHandedOver)?.until,
        });
    }
    Ok(all)
}

/// Which of some authorities, PEM, signed a certificate, PEM: its fingerprint; `None` if none did.
#[must_use]
pub fn signer_of_pem(certificate: &str, authorities: &str) -> Option<[u8; 32]> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let authorities = CertificateDer::pem_slice_iter(authorities.as_bytes());
    signer(&[certificate], authorities.filter_map(Result::ok))
}

/// Which of some authorities signed the first certificate of a chain.
pub(crate) fn signer(
    chain: &[CertificateDer<'static>],
    authorities: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Option<[u8; 32]> {
    let (own, between) = chain.split_first()?;
    let parsed = ParsedCertificate::try_from(own).ok()?;
    // Whether it is good now is asked elsewhere: here it is whose it is.
    let until = term(own)?.until.duration_since(SystemTime::UNIX_EPOCH);
    let then = until.ok()?.checked_sub(Duration::from_secs(1))?;
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms.all;
    let has_signed = |authority: &CertificateDer<'static>| {
        let mut roots = RootCertStore::empty();
        let then = UnixTime::since_unix_epoch(then);
        roots.add(authority.clone()).is_ok()
            && verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, then, algorithms)
                .is_ok()
    };
    let signer = authorities.into_iter().find(has_signed)?;
    Some(fingerprint(&signer))
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The certificates of a text, each PEM without the end of its last line.
fn certificates_of(text: &str) -> impl Iterator<Item = &str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let pieces = text.split_inclusive(END);
    let whole = pieces.filter(|piece| piece.ends_with(END));
    whole.filter_map(|piece| piece.find(BEGIN).map(|at| &piece[at..]))
}

fn is_of(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, parsed)| {
        let signed = parsed.public_key().subject_public_key.data.as_ref();
        signed == key.der_bytes()
    })
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

/// SHA-256 of the key that a request is for: the same for each request with that key.
///
/// # Errors
///
/// [`NetError::Make`] for a request that is none, or that its own key has not signed.
pub fn requested_key(request: &[u8]) -> Result<[u8; 32], NetError> {
    let request = CertificateSigningRequestParams::from_der(&request.into()).map_err(make)?;
    Ok(Sha256::digest(request.public_key.der_bytes()).into())
}

impl Issued {
    /// Writes both, each readable by its owner alone, by renaming whole files into place. Key
    /// first: a reader between the two finds a pair that does not fit and keeps what it has.
    ///
    /// # Errors
    ///
    /// [`NetError::Write`].
    pub fn save(&self, certificate: &Path, key: &Path) -> Result<(), NetError> {
        replace(key, self.key.as_bytes())?;
        replace(certificate, self.certificate.as_bytes())
    }

    /// Writes both into one file, which a crash leaves whole as it was or whole as it is to be.
    /// The file serves as certificate and as key.
    ///
    /// # Errors
    ///
    /// [`NetError::Write`].
    pub fn save_as_one(&self, path: &Path) -> Result<(), NetError> {
        replace(path, format!("{}{}", self.certificate, self.key).as_bytes())
    }
}

/// The key is not printed.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

const fn make(source: rcgen::Error) -> NetError {
    NetError::Make { source }
}

/// Parameters of a certificate without a name that is good from about now on.
fn dated(lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970.unwrap_or_default();
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + lifetime;
    params
}

fn text(path: &Path) -> Result<String, NetError> {
    String::from_utf8(read_file(path)?).map_err(|_not_text| NetError::NoCertificate {
        path: path.to_owned(),
    })
}

/// Puts a whole file, readable by its owner alone, in the place of another; durable when it
/// returns.
///
/// # Errors
///
/// [`NetError::Write`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    write_private(beside, bytes)?;
    let renamed = std::fs::rename(beside, path).and_then(|()| {
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    });
    renamed.map_err(|source| NetError::Write {
        path: path.to_owned(),
        source,
    })
}
