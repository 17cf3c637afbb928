//! The two names that the binary answers to: `holm`, and `etcd` for scripts and manifests that start one.
//!
//! Called as `etcd` it takes etcd's flags and `ETCD_` variables, its default folder and its log lines.

use std::ffi::OsString;
use std::path::Path;

/// Under which name the binary was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calling {
    /// As itself.
    Holm,
    /// As etcd.
    Etcd,
}

impl Calling {
    /// What the first word of a command line says.
    pub(crate) fn of(words: &[OsString]) -> Self {
        let name = words.first().and_then(|word| Path::new(word).file_name());
        if name.is_some_and(|name| name == "etcd") {
            Self::Etcd
        } else {
            Self::Holm
        }
    }

    /// What the variables of the environment begin with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Holm => "HOLM_",
            Self::Etcd => "ETCD_",
        }
    }
}

/// etcd's command line as `holm up` has it: Go's flags may have one dash.
pub(crate) fn as_up(words: &[OsString]) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["holm".into(), "up".into()];
    for word in words.iter().skip(1) {
        match word.to_str().and_then(|text| text.strip_prefix('-')) {
            Some(rest) if rest.len() > 1 && !rest.starts_with('-') => {
                line.push(format!("--{rest}").into());
            }
            _ => line.push(word.clone()),
        }
    }
    line
}

/// Whether etcd is only asked for its version.
pub(crate) fn asks_version(words: &[OsString]) -> bool {
    words
        .iter()
        .skip(1)
        .any(|word| matches!(word.to_str(), Some("--version" | "-version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn name_decides_by_its_last_part() {
        assert_eq!(Calling::of(&words(&["/usr/bin/etcd"])), Calling::Etcd);
        assert_eq!(
            Calling::of(&words(&["target/debug/holm", "etcd"])),
            Calling::Holm
        );
        assert_eq!(Calling::of(&[]), Calling::Holm);
    }

    #[test]
    fn flags_of_go_get_their_second_dash() {
        let line = as_up(&words(&["etcd", "-name=a", "--data-dir", "/d", "-h"]));
        assert_eq!(
            line,
            words(&["holm", "up", "--name=a", "--data-dir", "/d", "-h"])
        );
        assert!(asks_version(&words(&["etcd", "-version"])));
        assert!(!asks_version(&words(&["--version"])));
    }
}
