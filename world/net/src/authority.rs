//! A cluster's own authority: it signs the certificates by which nodes know each other.
//!
//! A node's certificate names it as `holm://<cluster>/<site>/<node>` and serves at both ends of
//! a link. Keys are ECDSA on P-256, readable by their owner alone. Whoever brings certificates
//! of another maker needs the same name in them and nothing else from here.

use std::path::Path;
use std::time::{Duration, SystemTime};

use holm_link::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use crate::certificates::{read_file, write_private};
use crate::error::NetError;

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

    /// Reads an authority that [`Authority::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`NetError`] naming the file that is missing or no PEM.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, NetError> {
        let pem = text(certificate)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|source| {
            let path = certificate.to_owned();
            NetError::Pem { path, source }
        })?;
        let key = KeyPair::from_pem(&text(key)?).map_err(make)?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(make)?;
        Ok(Self { issuer, pem, der })
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

    /// Its certificate, PEM: what nodes trust.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of its certificate, DER: what a join token names.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Signs a new key for a node, good for `lifetime` from now.
    ///
    /// # Errors
    ///
    /// [`NetError::Make`].
    pub fn issue(&self, identity: &Identity, lifetime: Duration) -> Result<Issued, NetError> {
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
        let key = KeyPair::generate().map_err(make)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(Issued {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        })
    }
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

fn replace(path: &Path, bytes: &[u8]) -> Result<(), NetError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    write_private(beside, bytes)?;
    std::fs::rename(beside, path).map_err(|source| NetError::Write {
        path: path.to_owned(),
        source,
    })
}
