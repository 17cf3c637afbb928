//! What a stream was made of, kept in its folder.

use std::path::Path;

use holm_disk::RealFolder;
use holm_durable::{fetch, keep};
use serde::{Deserialize, Serialize};

use crate::plane::PlaneError;

const FILE: &str = "definition";
const KIND: u32 = 5;
/// The longest name.
pub(crate) const NAME_MAX: usize = 64;
/// The longest text of SQL.
pub(crate) const SQL_MAX: usize = 64 << 10;

/// What a stream was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) sql: String,
    #[serde(default)]
    pub(crate) is_paused: bool,
    /// It is to be removed, whatever else is there.
    #[serde(default)]
    pub(crate) is_dropped: bool,
}

impl Definition {
    /// Reads what a folder holds; `None` if nothing was ever finished there.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, PlaneError> {
        let folder = RealFolder::open(path)?;
        let Some(bytes) = fetch(&*folder, FILE, KIND)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|error| PlaneError::Failed(format!("{}: {error}", path.join(FILE).display())))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), PlaneError> {
        let folder = RealFolder::open(path)?;
        let bytes = serde_json::to_vec(self).expect("strings and truths are JSON");
        Ok(keep(&*folder, FILE, KIND, &bytes)?)
    }
}

/// Whether a stream may be called so: it is a folder, a path of a URL and a word of a command.
pub(crate) fn check_name(name: &str) -> Result<(), PlaneError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_inner = |byte: u8| is_plain(byte) || matches!(byte, b'-' | b'_');
    let begins = name.bytes().next().is_some_and(is_plain);
    if begins && name.len() <= NAME_MAX && name.bytes().all(is_inner) {
        return Ok(());
    }
    Err(PlaneError::Refused(format!(
        "{name:?} is no name: small letters, digits, - and _, {NAME_MAX} at most, a letter or digit first"
    )))
}
