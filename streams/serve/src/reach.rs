//! How brokers and servers are reached: in the clear on this machine, by TLS anywhere.
//!
//! A URL with `https` or `mqtts` is proved by certificates: of the file that `'ca'` names, else of
//! those that the system trusts. `'cert'` and `'key'` are files with which the stream proves itself.
//! A user's password, and a bearer's token, come from files, never from SQL.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use holm_connect::{Dial, Duplex};
use holm_sql::Table;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::plane::PlaneError;

pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// What Debian, Alpine, Arch and Fedora trust, where each has it.
const TRUSTED: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// The longest file with a secret.
const SECRET_MAX: usize = 4_096;

/// Where somebody is, and how one gets there.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// Host and port.
    pub(crate) host: String,
    /// What follows them.
    pub(crate) path: String,
    pub(crate) tls: Option<Tls>,
}

/// How one knows that somebody is who he says.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

fn refused(text: impl Into<String>) -> PlaneError {
    PlaneError::Refused(text.into())
}

fn option<'a>(table: &'a Table, name: &str) -> Option<&'a str> {
    table.options.get(name).map(String::as_str)
}

impl Reach {
    /// Reads a table's URL. `schemes` are in the clear and by TLS, with the port of the second.
    pub(crate) fn of(
        table: &Table,
        url: &str,
        (plain, secure, port): (&str, &str, u16),
    ) -> Result<Self, PlaneError> {
        let name = &table.name;
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = format!("/{path}");
        if host.contains('@') {
            return Err(refused(format!(
                "{name}: a URL has no user here; 'user' and 'password-file' say who asks"
            )));
        }
        if scheme == secure {
            let with_port = if host.rsplit_once(':').is_some_and(|it| !it.1.contains(']')) {
                host.to_owned()
            } else {
                format!("{host}:{port}")
            };
            let bare = with_port.rsplit_once(':').map_or(host, |(host, _)| host);
            let bare = bare.trim_start_matches('[').trim_end_matches(']');
            let server = ServerName::try_from(bare.to_owned());
            let server =
                server.map_err(|_wrong| refused(format!("{name}: {host:?} is no host")))?;
            let tls = Tls {
                config: trust(table)?,
                name: server,
            };
            return Ok(Self {
                host: with_port,
                path,
                tls: Some(tls),
            });
        }
        if scheme != plain {
            return Err(refused(format!(
                "{name}: {url:?} begins with neither {plain}:// nor {secure}://"
            )));
        }
        let first = host.to_socket_addrs().ok().and_then(|mut all| all.next());
        match first {
            Some(address) if address.ip().is_loopback() => Ok(Self {
                host: host.to_owned(),
                path,
                tls: None,
            }),
            Some(address) => Err(refused(format!(
                "{name}: {address} is not on this machine, and is reached by {secure}:// alone"
            ))),
            None => Err(refused(format!("{name}: {host:?} is no host and port"))),
        }
    }

    /// Connections to it, with deadlines.
    pub(crate) fn dial(&self) -> Box<dyn Dial> {
        Box::new(self.clone())
    }

    fn tcp(&self) -> io::Result<TcpStream> {
        let none = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} has no address", self.host),
            )
        };
        let address: SocketAddr = self.host.to_socket_addrs()?.next().ok_or_else(none)?;
        let stream = TcpStream::connect_timeout(&address, DIAL_TIMEOUT)?;
        stream.set_read_timeout(Some(DIAL_TIMEOUT))?;
        stream.set_write_timeout(Some(DIAL_TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Dial for Reach {
    fn dial(&mut self) -> io::Result<Box<dyn Duplex>> {
        let stream = self.tcp()?;
        let Some(Tls { config, name }) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let session = ClientConnection::new(Arc::clone(config), name.clone());
        let session = session.map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, stream)))
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Whom a table's other end is proved by, and with what the stream proves itself.
fn trust(table: &Table) -> Result<Arc<ClientConfig>, PlaneError> {
    let name = &table.name;
    let is_there = |path: &&str| fs::exists(path).unwrap_or(false);
    let trusted = || TRUSTED.iter().copied().find(is_there);
    let path = option(table, "ca").or_else(trusted).ok_or_else(|| {
        refused(format!(
            "{name}: this system has no certificates to trust; 'ca'='FILE' names some"
        ))
    })?;
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        PlaneError::Refused(format!("{name}: read {what}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| failed(path, &error))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| failed(path, &error))?;
        // A system trusts some that nobody can use; the others do.
        roots.add(certificate).ok();
    }
    if roots.is_empty() {
        return Err(refused(format!("{name}: {path} holds no certificate")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| failed("TLS", &error))?;
    let builder = builder.with_root_certificates(roots);
    let config = match (option(table, "cert"), option(table, "key")) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert);
            let chain: Result<Vec<_>, _> = chain.map_err(|error| failed(cert, &error))?.collect();
            let chain = chain.map_err(|error| failed(cert, &error))?;
            let own = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
            let config = builder.with_client_auth_cert(chain, own);
            config.map_err(|error| failed(cert, &error))?
        }
        _ => {
            return Err(refused(format!(
                "{name}: 'cert' and 'key' are given together or not at all"
            )));
        }
    };
    Ok(Arc::new(config))
}

/// A secret that an option names the file of.
pub(crate) fn secret(table: &Table, option_name: &str) -> Result<Option<String>, PlaneError> {
    let name = &table.name;
    let Some(path) = option(table, option_name) else {
        return Ok(None);
    };
    let text = fs::read_to_string(path)
        .map_err(|error| refused(format!("{name}: read {path}: {error}")))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > SECRET_MAX || text.contains(['\r', '\n']) {
        return Err(refused(format!(
            "{name}: {path} is to hold one line of at most {SECRET_MAX} bytes"
        )));
    }
    Ok(Some(text.to_owned()))
}

/// The lines of a request's head that hold secrets.
pub(crate) fn bearer(table: &Table) -> Result<Vec<(String, String)>, PlaneError> {
    let token = secret(table, "token-file")?;
    let line = |token| ("Authorization".to_owned(), format!("Bearer {token}"));
    Ok(token.map(line).into_iter().collect())
}

/// A length of time as an option says it: a number and `ms`, `s`, `min` or `h`.
pub(crate) fn interval(
    table: &Table,
    name: &str,
    otherwise: Duration,
) -> Result<Duration, PlaneError> {
    let Some(text) = option(table, name) else {
        return Ok(otherwise);
    };
    let wrong = || {
        refused(format!(
            "{}: '{name}'='{text}' is no length of time from 100 ms to 24 h; '10 s' is one",
            table.name
        ))
    };
    let end = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(end.ok_or_else(wrong)?);
    let number: u64 = number.parse().map_err(|_wrong| wrong())?;
    let unit = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(unit).ok_or_else(wrong)?;
    let fits = (100..=86_400_000).contains(&millis);
    fits.then(|| Duration::from_millis(millis))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(options: &[(&str, &str)]) -> Table {
        let options: Vec<String> = options
            .iter()
            .map(|(key, value)| format!("'{key}'='{value}'"))
            .collect();
        let text = format!(
            "CREATE TABLE t (n INT) WITH ({}); SELECT n FROM t",
            options.join(", ")
        );
        holm_sql::parse(&text).unwrap().tables()[0].clone()
    }

    const MQTT: (&str, &str, u16) = ("mqtt", "mqtts", 8883);

    #[test]
    fn in_the_clear_is_on_this_machine_alone() {
        let own = table(&[("connector", "mqtt")]);
        let reach = Reach::of(&own, "mqtt://127.0.0.1:1883", MQTT).unwrap();
        assert!(reach.tls.is_none() && reach.host == "127.0.0.1:1883");
        for (url, word) in [
            ("mqtt://192.0.2.1:1883", "is reached by mqtts:// alone"),
            ("http://127.0.0.1:1883", "neither mqtt:// nor mqtts://"),
            ("mqtts://u:p@h", "'password-file'"),
            ("mqtt://127.0.0.1", "is no host and port"),
            ("mqtts://", "is no host"),
        ] {
            let refused = Reach::of(&own, url, MQTT).unwrap_err().to_string();
            assert!(refused.contains(word), "{url}: {refused}");
        }
    }

    #[test]
    fn certificates_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "nothing").unwrap();
        let of = |options: &[(&str, &str)]| Reach::of(&table(options), "mqtts://h", MQTT);
        let empty = of(&[("ca", path.to_str().unwrap())])
            .unwrap_err()
            .to_string();
        assert!(empty.contains("holds no certificate"), "{empty}");
        let missing = of(&[("ca", "/nowhere")]).unwrap_err().to_string();
        assert!(missing.contains("read /nowhere"), "{missing}");
    }

    #[test]
    fn secrets_are_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let of = || {
            secret(
                &table(&[("password-file", path.to_str().unwrap())]),
                "password-file",
            )
        };
        for (text, wanted) in [("p w\n", Some("p w")), ("", None), ("a\nb\n", None)] {
            fs::write(&path, text).unwrap();
            assert_eq!(of().ok().flatten().as_deref(), wanted);
        }
        assert_eq!(
            secret(&table(&[("connector", "mqtt")]), "password-file"),
            Ok(None)
        );
    }

    #[test]
    fn lengths_of_time_have_units() {
        let of = |text| interval(&table(&[("interval", text)]), "interval", Duration::ZERO).ok();
        for (text, millis) in [
            ("250ms", Some(250)),
            ("10 s", Some(10_000)),
            ("2 min", Some(120_000)),
            ("24h", Some(86_400_000)),
            ("25h", None),
            ("10", None),
            ("s", None),
            ("50 ms", None),
        ] {
            assert_eq!(of(text), millis.map(Duration::from_millis), "{text}");
        }
    }
}
