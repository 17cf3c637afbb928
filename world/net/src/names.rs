//! Whom a verified certificate names.

use holm_link::Identity;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The subject's common name, as etcd takes it for a user's name; `None` if it has none.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?;
    let text = name.as_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The node that a certificate names by its one `holm://` URI; `None` if it names none, more
/// than one, or names it badly.
pub(crate) fn identity(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut ours = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("holm://") => Some(*uri),
            _ => None,
        });
    let named = ours.next()?.parse().ok()?;
    ours.next().is_none().then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: Option<&str>) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = name {
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn common_name_is_read_and_its_absence_is_no_name() {
        assert_eq!(
            common_name(&certificate(Some("alice"))),
            Some("alice".to_owned())
        );
        assert_eq!(common_name(&certificate(None)), None);
        assert_eq!(common_name(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
