//! A question to another node's desk, with its certificate held against what we know.
//!
//! Who joins knows the authority's fingerprint and nothing else: the node has to show an
//! authority with it, and a certificate of that authority, before a byte of the question leaves.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::peers::{read_message, write_message};
use crate::rotating::{DESK_ALPN, Rotating, SignedByAuthority};
use crate::tls_words::{tls_error, words};

/// How long a connection and its handshake may take, each.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long the answer may take: longer than a desk takes.
const ANSWER: Duration = Duration::from_secs(35);

/// What the other node is held against.
#[derive(Clone, Debug)]
pub enum Trust {
    /// SHA-256 of the authority's certificate, for who has no certificate yet.
    Fingerprint([u8; 32]),
    /// The authorities that a member trusts; its own certificate is shown.
    Member(Arc<Rotating>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// Nobody was reached.
    #[error("connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else is there.
    #[error(
        "{address} is a node of another cluster: its certificate is not of {}", whom(*by_token)
    )]
    Stranger {
        /// Where.
        address: String,
        /// Whether a token names the authority that it should be of.
        by_token: bool,
    },
    /// There is no secured connection, and trying again will not make one.
    #[error("secure the connection to {address}: {why}")]
    Tls {
        /// Where.
        address: String,
        /// Why, and what to do.
        why: String,
    },
    /// The connection ended before the answer.
    #[error("ask {address}: {why}")]
    Talk {
        /// Where.
        address: String,
        /// How.
        why: String,
    },
}

/// Asks the desk at `address`, and gives its answer.
///
/// # Errors
///
/// As [`VisitError`] says. After [`VisitError::Talk`] the question may have been heard.
pub async fn visit(address: &str, trust: &Trust, question: &[u8]) -> Result<Vec<u8>, VisitError> {
    let connect = |source| VisitError::Connect {
        address: address.to_owned(),
        source,
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    let stream = tokio::time::timeout(HANDSHAKE, TcpStream::connect(address))
        .await
        .map_err(|_elapsed| connect(late()))?
        .map_err(connect)?;
    let tls = |why| VisitError::Tls {
        address: address.to_owned(),
        why,
    };
    let connector = TlsConnector::from(config(trust).map_err(|error| tls(error.to_string()))?);
    let name = ServerName::try_from("holm").expect("it is a host name");
    let secured = tokio::time::timeout(HANDSHAKE, connector.connect(name, stream)).await;
    let mut stream = match secured {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if is_stranger(&error) => {
            let address = address.to_owned();
            let by_token = matches!(trust, Trust::Fingerprint(_));
            return Err(VisitError::Stranger { address, by_token });
        }
        Ok(Err(error)) if is_of_tls(&error) => return Err(tls(words(&error))),
        Ok(Err(error)) => return Err(connect(error)),
        Err(_elapsed) => return Err(connect(late())),
    };
    if stream.get_ref().1.alpn_protocol() != Some(DESK_ALPN) {
        let why = "it lets nobody join: is that a site's --peer address, and of this release?";
        return Err(tls(why.to_owned()));
    }
    let talk = |why| VisitError::Talk {
        address: address.to_owned(),
        why,
    };
    let asked = async {
        write_message(&mut stream, question).await?;
        read_message(&mut stream).await
    };
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(talk("it hung up without an answer".to_owned()))
        }
        Ok(Err(error)) => Err(talk(words(&error))),
        Err(_elapsed) => Err(talk(format!("no answer within {ANSWER:?}"))),
    }
}

fn config(trust: &Trust) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = match trust {
        Trust::Member(certificates) => (*certificates.current().client).clone(),
        Trust::Fingerprint(fingerprint) => {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let pinned = Arc::new(Pinned {
                fingerprint: *fingerprint,
                nobody: SignedByAuthority {
                    roots: Arc::new(RootCertStore::empty()),
                    provider: Arc::clone(&provider),
                },
            });
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(pinned)
                .with_no_client_auth();
            config.resumption = rustls::client::Resumption::disabled();
            config.enable_sni = false;
            config
        }
    };
    config.alpn_protocols = vec![DESK_ALPN.to_vec()];
    Ok(Arc::new(config))
}

const fn whom(by_token: bool) -> &'static str {
    if by_token {
        "the authority that the token names, or that authority was replaced: then make another token"
    } else {
        "an authority that this site trusts"
    }
}

fn is_of_tls(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

fn is_stranger(error: &io::Error) -> bool {
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    tls_error(error) == Some(&unknown)
}

/// Verifies that whoever was dialled shows an authority with the fingerprint and a certificate
/// of it.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    /// Trusts no authority; what does not depend on one is asked here.
    nobody: SignedByAuthority,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_named = |shown: &&CertificateDer<'_>| {
            let found: [u8; 32] = Sha256::digest(shown).into();
            found == self.fingerprint
        };
        let authority = intermediates.iter().find(is_named);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let named = SignedByAuthority {
            roots: Arc::new(roots),
            provider: Arc::clone(&self.nobody.provider),
        };
        named.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.nobody.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.nobody.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.nobody.supported_verify_schemes()
    }
}
