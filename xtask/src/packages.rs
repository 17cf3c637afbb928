//! The crates of the workspace as their manifests describe them: name, folder, layer, edges.
//!
//! Manifests are read, not `cargo metadata`: a test can then write one that breaks a rule.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::tree::Tree;

/// What an edge in a manifest is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EdgeKind {
    /// `[dependencies]`, also those for one platform.
    Normal,
    /// `[dev-dependencies]`.
    Dev,
    /// `[build-dependencies]`.
    Build,
}

/// A dependency on another package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) to: String,
    pub(crate) kind: EdgeKind,
}

/// One crate of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: String,
    pub(crate) description: Option<String>,
    pub(crate) layer: Option<i64>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) has_features: bool,
    pub(crate) takes_lints: bool,
}

impl Package {
    /// The top folder: `store` for `store/kv`, `holm` for `holm`.
    pub(crate) fn plane(&self) -> &str {
        self.folder.split('/').next().unwrap_or(&self.folder)
    }

    /// The path of the crate's root module, whichever it has.
    pub(crate) fn root_module(&self, tree: &Tree) -> Option<String> {
        ["lib.rs", "main.rs"]
            .iter()
            .map(|file| format!("{}/src/{file}", self.folder))
            .find(|path| tree.text(path).is_some())
    }
}

/// Reads every manifest of the tree but the workspace's own, by package name.
pub(crate) fn read(tree: &Tree) -> Result<BTreeMap<String, Package>> {
    let mut packages = BTreeMap::new();
    for (path, text) in tree.files() {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        let manifest: Table = text.parse().with_context(|| format!("parse {path}"))?;
        if let Some(package) = parse(folder, &manifest) {
            packages.insert(package.name.clone(), package);
        }
    }
    Ok(packages)
}

fn parse(folder: &str, manifest: &Table) -> Option<Package> {
    let package = manifest.get("package")?.as_table()?;
    let mut edges = Vec::new();
    collect_edges(manifest, &mut edges);
    if let Some(targets) = manifest.get("target").and_then(Value::as_table) {
        for target in targets.values().filter_map(Value::as_table) {
            collect_edges(target, &mut edges);
        }
    }
    Some(Package {
        name: package.get("name")?.as_str()?.to_owned(),
        folder: folder.to_owned(),
        description: text_at(package, "description"),
        layer: layer(package),
        edges,
        has_features: manifest.contains_key("features"),
        takes_lints: takes_lints(manifest),
    })
}

fn text_at(table: &Table, key: &str) -> Option<String> {
    table.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn layer(package: &Table) -> Option<i64> {
    package
        .get("metadata")?
        .get("holm")?
        .get("layer")?
        .as_integer()
}

fn takes_lints(manifest: &Table) -> bool {
    manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(Value::as_bool)
        == Some(true)
}

fn collect_edges(table: &Table, edges: &mut Vec<Edge>) {
    let sections = [
        ("dependencies", EdgeKind::Normal),
        ("dev-dependencies", EdgeKind::Dev),
        ("build-dependencies", EdgeKind::Build),
    ];
    for (section, kind) in sections {
        let Some(dependencies) = table.get(section).and_then(Value::as_table) else {
            continue;
        };
        for (key, value) in dependencies {
            let renamed = value.get("package").and_then(Value::as_str);
            edges.push(Edge {
                to: renamed.unwrap_or(key).to_owned(),
                kind,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_one_platform_and_renamed_ones_are_seen() {
        let manifest = "[package]\nname = \"holm-kv\"\n[package.metadata.holm]\nlayer = 2\n\
             [dependencies]\nwords = { package = \"holm-base\", path = \"x\" }\n\
             [target.'cfg(unix)'.dependencies]\nrustix = \"1\"\n";
        let tree = Tree::default().with("store/kv/Cargo.toml", manifest);
        let packages = read(&tree).unwrap();
        let names: Vec<&str> = packages["holm-kv"]
            .edges
            .iter()
            .map(|edge| edge.to.as_str())
            .collect();
        assert_eq!(names, ["holm-base", "rustix"]);
        assert_eq!(packages["holm-kv"].layer, Some(2));
    }
}
