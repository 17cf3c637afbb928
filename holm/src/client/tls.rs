//! TLS towards a node, with the operator's authorities only.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientError, ConnectionOptions};

/// Makes TLS on a fresh connection.
pub(super) async fn secure(
    socket: TcpStream,
    authority: &str,
    options: &ConnectionOptions,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _port)| host);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let failed = |source| ClientError::Tls {
        endpoint: authority.to_owned(),
        advice: advice(&source, options.cacert.is_some()),
        source,
    };
    let name = ServerName::try_from(host)
        .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(Arc::new(config(options)?));
    connector.connect(name, socket).await.map_err(failed)
}

/// What to do about a handshake that failed.
fn advice(error: &std::io::Error, has_authority: bool) -> &'static str {
    let cause = error
        .get_ref()
        .and_then(|it| it.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(problem)) = cause else {
        return "is it a TLS listener, and does it ask for a certificate (--cert and --key)?";
    };
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it at the node, and check this machine's clock"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check this machine's clock"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name: connect by a name that it is for"
        }
        _ if !has_authority => "whom to trust? name the authority's certificate with --cacert",
        _ => {
            "--cacert is not the authority that signed its certificate (one that signed itself must not be marked \
             as an authority)"
        }
    }
}

fn config(options: &ConnectionOptions) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &options.cacert {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| unusable(path, &error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match (&options.tls_cert, &options.tls_key) {
        (Some(cert), Some(key)) => {
            let own = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder
                .with_client_auth_cert(certificates(cert)?, own)
                .map_err(|error| unusable(cert, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(path, &error))?
        .collect();
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(ClientError::Certificate {
            path: path.to_owned(),
            reason: "no certificate in it".to_owned(),
        });
    }
    Ok(found)
}

fn unusable(path: &Path, error: &dyn std::error::Error) -> ClientError {
    ClientError::Certificate {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
