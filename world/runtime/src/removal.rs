//! Deleting what a removed keyspace wrote, a few mebibytes at a time, while others are served.
//!
//! What would surprise: a file is made shorter step by step before it is deleted, as the engine
//! does with its own (`free.rs` of store/kv says why). A crash in between leaves a damaged file of
//! a keyspace that is never opened again; the next start goes on deleting.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use holm_base::GroupId;

/// How much is given back at once: a sync of the log waits as long as the file system takes.
const STEP_BYTES: u64 = 4 << 20;
/// The pause after a step: 512 MiB a second at most.
const STEP_PAUSE: Duration = Duration::from_millis(8);

/// Deletes all that an engine's places are called; what is missing is gone already. Blocks.
pub(crate) fn remove_files(folder: &Path, group: GroupId) -> io::Result<()> {
    let (own, begin) = (group.to_string(), format!("{group}."));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if *name == *own || name.starts_with(&begin) {
            give_back(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Deletes a file in steps, or a folder and what is in it.
fn give_back(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give_back(&entry?.path())?;
        }
        return fs::remove_dir(path);
    }
    let file = OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    while left > STEP_BYTES {
        left -= STEP_BYTES;
        file.set_len(left)?;
        thread::sleep(STEP_PAUSE);
    }
    drop(file);
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_keyspace_wrote_is_deleted_and_nothing_else() {
        let place = tempfile::tempdir().expect("a place for files");
        let file = |name: &str, bytes: u64| {
            let path = place.path().join(name);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder");
            let file = File::create(path).expect("it can be made");
            file.set_len(bytes).expect("it can be that long");
        };
        for folder in ["2", "2.new", "2.old/below", "1", "22", "12.new"] {
            file(&format!("{folder}/short"), 1);
            file(&format!("{folder}/long"), 2 * STEP_BYTES + 1);
        }
        remove_files(place.path(), GroupId::new(2)).expect("they can be deleted");
        let names = fs::read_dir(place.path()).expect("it is there");
        let names = names.map(|it| it.expect("a name").file_name());
        let mut names: Vec<String> = names.map(|it| it.to_string_lossy().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["1", "12.new", "22"]);
        let long = place
            .path()
            .join("22/long")
            .metadata()
            .expect("it is there");
        assert_eq!(long.len(), 2 * STEP_BYTES + 1);
        remove_files(place.path(), GroupId::new(2)).expect("nothing is left to delete");
    }
}
