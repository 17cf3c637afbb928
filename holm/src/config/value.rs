//! How each kind of setting is read from its text; the error is a hint, its place is the caller's to add.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use holm_telemetry::LogFormat;

use crate::quantity;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The address.
    pub(crate) socket: SocketAddr,
    /// What a URL's scheme said; `None` for plain host:port.
    pub(crate) demands_tls: Option<bool>,
}

/// One address, as host:port or as etcd's URLs.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let (demands_tls, place) = match text.split_once("://") {
        Some(("http", place)) => (Some(false), place),
        Some(("https", place)) => (Some(true), place),
        Some((scheme, _)) => return Err(format!("`{text}`: nothing here listens for {scheme}")),
        None => (None, text),
    };
    let place = place.trim_end_matches('/');
    let hint = || format!("`{text}` is no address: write host:port, such as 127.0.0.1:2379");
    let mut sockets = place.to_socket_addrs().map_err(|_unresolved| hint())?;
    let socket = sockets.next().ok_or_else(hint)?;
    Ok(Address {
        socket,
        demands_tls,
    })
}

/// Addresses, with commas between.
pub(crate) fn addresses(text: &str) -> Result<Vec<Address>, String> {
    text.split(',').map(|part| address(part.trim())).collect()
}

/// An address, or `none`.
pub(crate) fn optional_address(text: &str) -> Result<Option<Address>, String> {
    if matches!(text, "none" | "") {
        Ok(None)
    } else {
        address(text).map(Some)
    }
}

/// URLs that others are told, with commas between.
pub(crate) fn urls(text: &str) -> Result<Vec<String>, String> {
    let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
    for url in &urls {
        let place = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        if !place.is_some_and(|place| place.contains(':')) {
            return Err(format!(
                "`{url}` is no URL: write http://host:port or https://host:port"
            ));
        }
    }
    Ok(urls)
}

/// A name: something, and nothing that would break a list.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 256 && !text.contains([',', '=', '\n']);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no name: 1 to 256 signs, no comma, no ="
        ))
    }
}

/// `true` or `false`.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_neither| format!("`{text}` is neither true nor false"))
}

/// A whole number.
pub(crate) fn whole(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_no_number| format!("`{text}` is no whole number"))
}

/// A whole number of at least one.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    whole(text).and_then(|number| {
        if number == 0 {
            Err("the least is 1".to_owned())
        } else {
            Ok(number)
        }
    })
}

/// A duration; a bare number is milliseconds.
pub(crate) fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_millis)
        .or_else(|_not_bare| quantity::parse_duration(text))
}

/// A duration; a bare number is seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .or_else(|_not_bare| quantity::parse_duration(text))
}

/// A duration; a bare number is hours.
pub(crate) fn hours(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(hours) => Ok(Duration::from_secs(u64::from(hours) * 3600)),
        Err(_not_bare) => quantity::parse_duration(text),
    }
}

/// How logins are remembered. The pairs behind `jwt` are read by the front.
pub(crate) fn auth_token(text: &str) -> Result<String, String> {
    match text.split(',').next() {
        Some("simple" | "jwt") => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is neither simple nor jwt,...")),
    }
}

/// The log's form.
pub(crate) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" | "console" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("`{other}` is neither text nor json")),
    }
}
