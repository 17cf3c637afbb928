//! What was said, and where: flags, variables and the file, each a layer of texts.
//!
//! Values stay text until [`super::Config`] is made of them, so that every complaint can name the place it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::settings;

/// Where a value was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// On the command line.
    Flag(String),
    /// In the environment.
    Variable(String),
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// When the site founded or joined its cluster.
    Kept(PathBuf),
    /// Nowhere.
    Default(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(out, "--{name}"),
            Self::Variable(name) => write!(out, "variable {name}"),
            Self::File { path, line, key } => write!(out, "{}:{line}: {key}", path.display()),
            Self::Kept(path) => write!(out, "{}", path.display()),
            Self::Default(name) => write!(out, "the default of --{name}"),
        }
    }
}

/// A text and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The value, not read yet.
    pub(crate) text: String,
    /// The place.
    pub(crate) source: Source,
}

/// The settings that one place names.
pub(crate) type Layer = BTreeMap<&'static str, Said>;

/// Why a file of settings cannot be used.
#[derive(Debug, Error)]
pub(crate) enum FileError {
    /// It cannot be read.
    #[error("read configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Variables with our prefix that name the file, or that clients read.
const NOT_SETTINGS: &[&str] = &[
    "config",
    "config-file",
    "endpoints",
    "user",
    "password",
    "cacert",
    "cert",
    "key",
    "unsupported-arch",
];

/// The variables that begin with `prefix` (`HOLM_`, `ETCD_`), and the names of those that no setting has.
pub(crate) fn from_environment(
    prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> (Layer, Vec<String>) {
    let mut layer = Layer::new();
    let mut unknown = Vec::new();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(prefix) else {
            continue;
        };
        let name = name.to_lowercase().replace('_', "-");
        match settings::find(&name) {
            Some(setting) => {
                layer.insert(
                    setting.name,
                    Said {
                        text,
                        source: Source::Variable(variable),
                    },
                );
            }
            None if NOT_SETTINGS.contains(&name.as_str()) => {}
            None => unknown.push(variable),
        }
    }
    (layer, unknown)
}

/// Reads a file of settings.
pub(crate) fn from_file(path: &Path) -> Result<Layer, FileError> {
    if path
        .extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
    {
        let message = "this is etcd's YAML: holm reads TOML with the same keys".to_owned();
        return Err(FileError::Syntax {
            path: path.to_owned(),
            line: 1,
            message,
        });
    }
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    from_text(path, &text)
}

fn from_text(path: &Path, text: &str) -> Result<Layer, FileError> {
    let line_at = |offset: usize| {
        1 + text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
    };
    let wrong = |offset, message| FileError::Syntax {
        path: path.to_owned(),
        line: line_at(offset),
        message,
    };
    let table: BTreeMap<String, toml::Spanned<toml::Value>> =
        toml::from_str(text).map_err(|error| {
            wrong(
                error.span().map_or(0, |span| span.start),
                error.message().to_owned(),
            )
        })?;
    let mut layer = Layer::new();
    for (key, value) in table {
        let at = value.span().start;
        let name = key.replace('_', "-");
        let Some(setting) = settings::find(&name) else {
            return Err(wrong(at, unknown_key(&key)));
        };
        let text = match value.into_inner() {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Array(items) => list(&items).ok_or_else(|| {
                wrong(at, format!("{key} takes a list of texts, not other things"))
            })?,
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => {
                return Err(wrong(
                    at,
                    format!("{key} takes a text, a whole number, true or false"),
                ));
            }
        };
        let source = Source::File {
            path: path.to_owned(),
            line: line_at(at),
            key,
        };
        if let Some(before) = layer.insert(setting.name, Said { text, source }) {
            return Err(wrong(
                at,
                format!("{} is already set by {}", setting.name, before.source),
            ));
        }
    }
    Ok(layer)
}

fn list(items: &[toml::Value]) -> Option<String> {
    let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
    texts.map(|texts| texts.join(","))
}

fn unknown_key(key: &str) -> String {
    let near = settings::SETTINGS
        .iter()
        .map(|setting| setting.name)
        .max_by_key(|name| shared_letters(name, key))
        .filter(|name| shared_letters(name, key) * 3 >= key.len() * 2);
    match near {
        Some(name) => format!("no setting is called {key}: did you mean {name}?"),
        None => format!("no setting is called {key}: `holm up --help` lists them"),
    }
}

/// Letters that two names share at their beginnings and ends.
fn shared_letters(one: &str, two: &str) -> usize {
    let front = one
        .bytes()
        .zip(two.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let back = one
        .bytes()
        .rev()
        .zip(two.bytes().rev())
        .take_while(|(a, b)| a == b)
        .count();
    (front + back).min(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Layer, String> {
        from_text(Path::new("holm.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn file_keys_are_flags_and_know_their_lines() {
        let layer =
            file("# ours\nname = \"a\"\n\nmax-txn-ops = 64\nclient_cert_auth = true\n").unwrap();
        assert_eq!(layer["name"].source.to_string(), "holm.toml:2: name");
        assert_eq!(layer["max-txn-ops"].text, "64");
        assert_eq!(
            layer["max-txn-ops"].source.to_string(),
            "holm.toml:4: max-txn-ops"
        );
        assert_eq!(layer["client-cert-auth"].text, "true");
    }

    #[test]
    fn wrong_files_are_refused_with_their_line() {
        let refused = [
            ("a = ", "holm.toml:1: "),
            (
                "name = 'x'\nmax-txn-op = 3",
                "holm.toml:2: no setting is called max-txn-op: did you mean max-txn-ops?",
            ),
            (
                "\nflavour = 3",
                "holm.toml:2: no setting is called flavour: `holm up --help` lists them",
            ),
            (
                "name = 1.5",
                "holm.toml:1: name takes a text, a whole number, true or false",
            ),
            (
                "listen = 'a'\nlisten-client-urls = 'b'",
                "holm.toml:2: listen is already set by holm.toml:1: listen",
            ),
            (
                "listen = [1]",
                "holm.toml:1: listen takes a list of texts, not other things",
            ),
        ];
        for (text, expected) in refused {
            let error = file(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?} gave {error:?}");
        }
    }

    #[test]
    fn variables_are_taken_by_prefix_and_unknown_ones_are_named() {
        let variables = [
            ("HOLM_DATA_DIR", "/d"),
            ("HOLM_COLOUR", "red"),
            ("PATH", "/bin"),
            ("HOLM_CONFIG", "x"),
        ];
        let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let (layer, unknown) = from_environment("HOLM_", variables.into_iter());
        assert_eq!(layer["data-dir"].text, "/d");
        assert_eq!(
            layer["data-dir"].source.to_string(),
            "variable HOLM_DATA_DIR"
        );
        assert_eq!(layer.len(), 1);
        assert_eq!(unknown, ["HOLM_COLOUR"]);
    }
}
