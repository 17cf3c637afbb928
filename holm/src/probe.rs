//! One look at a server's metrics over plain HTTP/1, for figures that its API does not tell.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The value of the metric of exactly that name, without labels or with.
pub(crate) fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.split([' ', '{']).next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Long enough for a server on this machine that is well.
pub(crate) const SHORTLY: Duration = Duration::from_secs(1);

/// The answer to a GET over HTTP/1, head and body; `None` if there is none within five seconds.
pub(crate) fn fetch(address: &str, path: &str) -> Option<String> {
    fetch_within(address, path, Duration::from_secs(5))
}

/// As [`fetch`], for who waits longer or less.
pub(crate) fn fetch_within(address: &str, path: &str, patience: Duration) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut text = Vec::new();
    socket.take(16 << 20).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metric_is_found_by_its_whole_name() {
        let text = "# HELP x y\nx_count_other 3\nx_count 12\n";
        assert_eq!(metric(text, "x_count"), Some(12.0));
        assert_eq!(metric(text, "x"), None);
    }
}
