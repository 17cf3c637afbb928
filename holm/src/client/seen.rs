//! What a client has seen, in a file that it carries from site to site.
//!
//! What would surprise: only calls about keys, and watches, carry it. To ask where a keyspace is needs nothing of it.
//! A watch waits for it before it begins, and tells of nothing that it has seen.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process;

use http::{HeaderMap, HeaderValue};

use super::ClientError;

const TOKEN: &str = "holm-context-bin";
/// Calls that carry it and are told more.
const KEYS: &str = "/etcdserverpb.KV/";
/// Those that carry it.
const WATCHES: &str = "/etcdserverpb.Watch/";

/// The file, and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    place: PathBuf,
    token: Option<HeaderValue>,
}

impl Seen {
    /// Reads what was seen before; nothing if there is no such file.
    pub(super) fn load(place: PathBuf) -> Result<Self, ClientError> {
        let token = match fs::read_to_string(&place) {
            Ok(text) => HeaderValue::from_str(text.trim()).ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(source) => return Err(ClientError::Context { place, source }),
        };
        let token = token.filter(|it| !it.is_empty());
        Ok(Self { place, token })
    }

    /// Asks for what the site has, and says what was seen.
    pub(super) fn present(&self, path: &str, headers: &mut HeaderMap) {
        let is_of_keys = path.starts_with(KEYS);
        if is_of_keys {
            headers.insert("holm-want", HeaderValue::from_static("context"));
        }
        if let Some(token) = &self.token
            && (is_of_keys || path.starts_with(WATCHES))
        {
            headers.insert(TOKEN, token.clone());
        }
    }

    /// Keeps what an answer said; it has all that was presented. Written beside and renamed: a
    /// command that ends in the middle leaves what was there.
    pub(super) fn keep(&mut self, trailers: &HeaderMap) -> Result<(), ClientError> {
        let Some(token) = trailers.get(TOKEN) else {
            return Ok(());
        };
        self.token = Some(token.clone());
        let mut beside = self.place.clone().into_os_string();
        beside.push(format!(".{}.new", process::id()));
        let written = fs::write(&beside, token.as_bytes());
        let written = written.and_then(|()| fs::rename(&beside, &self.place));
        written.map_err(|source| {
            // What cannot be removed is only in the way.
            fs::remove_file(&beside).ok();
            let place = self.place.clone();
            ClientError::Context { place, source }
        })
    }
}
