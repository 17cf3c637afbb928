//! What a failed handshake says to a person: what is wrong, and what to do.

use std::io;

use rustls::{AlertDescription, CertificateError};

const CLOCKS: &str = "compare the clocks of both machines; if they are right, the site was away for longer than its \
                      certificate is good for: `holm site add NAME` at a member makes a token that renews it";

/// The text for an error of a secured connection.
pub(crate) fn words(error: &io::Error) -> String {
    let Some(tls) = tls_error(error) else {
        return error.to_string();
    };
    match tls {
        rustls::Error::InvalidCertificate(problem) => match of_certificate(problem) {
            Some(what) => format!("the other end's certificate {what}: {CLOCKS}"),
            None => tls.to_string(),
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            format!("the other end says that our certificate is out of its time: {CLOCKS}")
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA | AlertDescription::DecryptError,
        ) => "the other end does not trust the authority of our certificate: it is of another cluster".to_owned(),
        other => other.to_string(),
    }
}

/// What TLS said, if it was TLS.
pub(crate) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}

/// What is wrong with a certificate's dates; `None` if it is something else.
fn of_certificate(problem: &CertificateError) -> Option<String> {
    let days = |seconds: u64| match seconds / 86_400 {
        0 => format!("{seconds} seconds"),
        days => format!("{days} days"),
    };
    match problem {
        CertificateError::Expired => Some("has expired".to_owned()),
        CertificateError::ExpiredContext { time, not_after } => {
            let since = time.as_secs().saturating_sub(not_after.as_secs());
            Some(format!("expired {} ago by our clock", days(since)))
        }
        CertificateError::NotValidYet => Some("is not valid yet".to_owned()),
        CertificateError::NotValidYetContext { time, not_before } => {
            let until = not_before.as_secs().saturating_sub(time.as_secs());
            Some(format!(
                "is not valid for another {} by our clock",
                days(until)
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    fn said(error: rustls::Error) -> String {
        words(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn a_wrong_clock_is_named_with_how_far_it_is_off() {
        let at = |years: u64| UnixTime::since_unix_epoch(Duration::from_secs(years * 31_536_000));
        let early = said(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYetContext {
                time: at(46),
                not_before: at(56),
            },
        ));
        assert!(
            early.contains("not valid for another 3650 days by our clock: compare the clocks"),
            "{early}"
        );
        let late = said(rustls::Error::InvalidCertificate(
            CertificateError::ExpiredContext {
                time: at(66),
                not_after: at(56),
            },
        ));
        assert!(
            late.contains("expired 3650 days ago by our clock"),
            "{late}"
        );
        assert!(late.contains("holm site add"), "{late}");
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        assert!(said(alert).contains("our certificate is out of its time"));
        assert_eq!(words(&io::Error::other("plain")), "plain");
    }
}
