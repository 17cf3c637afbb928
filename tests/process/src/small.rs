//! A small file system in memory, which a test may fill. Only root can mount one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// The file system; unmounted when dropped.
#[derive(Debug)]
pub struct Small {
    folder: TempDir,
}

impl Small {
    /// Mounts one of so many MiB; `None` without the right to.
    ///
    /// # Errors
    ///
    /// There is no room for a folder.
    pub fn mount(mebibytes: u64) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = output.is_ok_and(|output| output.status.success());
        Ok(mounted.then_some(Self { folder }))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }

    /// Fills what is left with a file of ours.
    ///
    /// # Errors
    ///
    /// There is no program to do it.
    pub fn fill(&self) -> Result<()> {
        let mut dd = Command::new("dd");
        dd.arg("if=/dev/zero")
            .arg(format!("of={}", self.ballast().display()))
            .args(["bs=1M", "status=none"]);
        // It ends with an error, for the disk is full then: that is what it is for.
        dd.output().context("fill the disk")?;
        Ok(())
    }

    /// Takes that file away.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn empty(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("empty the disk")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a file that is still open must not keep the mount for ever.
        Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .output()
            .ok();
    }
}
