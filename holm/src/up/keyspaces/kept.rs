//! Where keyspaces listen at this site, kept so that an address stays what it was.
//!
//! The file `keyspaces.json` of the data directory: `{"2":["127.0.0.1:41000"]}`, by id.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use holm_base::GroupId;

/// What is kept.
#[derive(Debug)]
pub(super) struct Kept {
    place: PathBuf,
    listen: BTreeMap<u32, Vec<SocketAddr>>,
}

impl Kept {
    /// Reads what is kept in a data directory.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read: other ports would be chosen in silence.
    pub(super) fn load(data_dir: &Path) -> anyhow::Result<Self> {
        let place = data_dir.join("keyspaces.json");
        let listen = match fs::read(&place) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                let place = place.display();
                format!("read {place}: remove it, and keyspaces get new addresses")
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", place.display())),
        };
        Ok(Self { place, listen })
    }

    /// Where a keyspace listened last.
    pub(super) fn listen(&self, group: GroupId) -> Option<&[SocketAddr]> {
        self.listen.get(&group.value()).map(Vec::as_slice)
    }

    /// Keeps where a keyspace listens.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn keep(&mut self, group: GroupId, listen: Vec<SocketAddr>) -> anyhow::Result<()> {
        if self.listen.get(&group.value()) == Some(&listen) {
            return Ok(());
        }
        self.listen.insert(group.value(), listen);
        self.write()
    }

    /// Forgets a keyspace.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn forget(&mut self, group: GroupId) -> anyhow::Result<()> {
        match self.listen.remove(&group.value()) {
            None => Ok(()),
            Some(_) => self.write(),
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(&self.listen)?;
        let fresh = self.place.with_extension("json.new");
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.place)?;
            match self.place.parent() {
                Some(folder) => File::open(folder)?.sync_all(),
                None => Ok(()),
            }
        });
        written.with_context(|| format!("write {}", self.place.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stay_over_a_restart_and_go_with_their_keyspace() {
        let place = tempfile::tempdir().expect("a place for files");
        let load = || Kept::load(place.path()).expect("it can be read");
        let (one, listen) = (GroupId::new(2), vec!["127.0.0.1:41000".parse().unwrap()]);
        assert_eq!(load().listen(one), None);
        load().keep(one, listen.clone()).expect("there is room");
        assert_eq!(load().listen(one), Some(listen.as_slice()));
        load().forget(one).expect("there is room");
        assert_eq!(load().listen(one), None);
        fs::write(place.path().join("keyspaces.json"), "{").expect("there is room");
        let error = Kept::load(place.path()).expect_err("it is none");
        assert!(error.to_string().contains("remove it"), "{error:#}");
    }
}
