//! The walls between crates: layers, planes, world and sim, and what the pure layers may take.
//!
//! The walls have numbers. W1: depend on a lower layer, or sideways in one plane or into
//! spine; tests of planes may use sim. W2: planes never import each other. W3: world and sim never meet, and only `holm`
//! and `tests` see both. W4: layers 0 and 1 are `no_std`, without unsafe, and take only listed
//! crates from outside. W5: layer 2 lives under the strict clippy.toml. W6: layers 0 to 2 use
//! sim in `tests/*.rs` alone. W7: layers 0 to 2 have no features.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::packages::{Edge, EdgeKind, Package, read};
use crate::tidy::Complaint;
use crate::tree::Tree;

/// The planes, none of which may import another.
const PLANES: &[&str] = &[
    "store",
    "streams",
    "functions",
    "traffic",
    "trust",
    "training",
];

/// Top folders that may see both world and sim.
const SEE_BOTH: &[&str] = &["holm", "tests"];

/// What layers 0 and 1 may take from outside: crates without a clock, socket, file or thread.
const PURE: &[&str] = &["bytes", "thiserror", "sha2", "crc32c"];

/// What a root module of the pure layers opens with.
const PURE_OPENING: &[&str] = &[
    "#![no_std]",
    "#![forbid(unsafe_code)]",
    "#![deny(clippy::wildcard_enum_match_arm)]",
];

type Packages = BTreeMap<String, Package>;

/// Checks every wall.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let packages = read(tree)?;
    let mut complaints = Vec::new();
    for package in packages.values() {
        manifest(package, &mut complaints);
        if let Some(layer) = package.layer {
            edges(&packages, package, layer, &mut complaints);
            opening(tree, package, layer, &mut complaints);
            simulator(tree, package, layer, &mut complaints);
            features(package, layer, &mut complaints);
        }
        meeting(&packages, package, &mut complaints);
    }
    Ok(complaints)
}

fn manifest_path(package: &Package) -> String {
    format!("{}/Cargo.toml", package.folder)
}

fn manifest(package: &Package, complaints: &mut Vec<Complaint>) {
    let path = manifest_path(package);
    if package.layer.is_none() {
        let text = "declare `[package.metadata.holm] layer = N`";
        complaints.push(Complaint::at(&path, text));
    }
    if package.description.is_none() {
        complaints.push(Complaint::at(
            &path,
            "describe the crate: `description = \"...\"`",
        ));
    }
    if !package.takes_lints {
        complaints.push(Complaint::at(
            &path,
            "take the workspace's lints: `[lints] workspace = true`",
        ));
    }
    let wanted = name_of(&package.folder);
    if package.name != wanted && !SEE_BOTH.contains(&package.plane()) {
        let text = format!(
            "the crate in {} is called `{wanted}`, not `{}`",
            package.folder, package.name
        );
        complaints.push(Complaint::at(&path, text));
    }
}

/// `holm-` and the last folder; a crate at the top keeps the folder's name.
fn name_of(folder: &str) -> String {
    match folder.rsplit_once('/') {
        Some((_, last)) => format!("holm-{}", last.replace('_', "-")),
        None => folder.to_owned(),
    }
}

fn edges(packages: &Packages, package: &Package, layer: i64, complaints: &mut Vec<Complaint>) {
    for edge in &package.edges {
        let complaint = match packages.get(&edge.to) {
            Some(target) => ours(package, layer, target, edge),
            None => outside(package, layer, edge),
        };
        complaints.extend(complaint.map(|text| Complaint::at(&manifest_path(package), text)));
    }
}

fn ours(package: &Package, layer: i64, target: &Package, edge: &Edge) -> Option<String> {
    let named = format!("{} -> {}", package.name, target.name);
    let (from, to) = (package.plane(), target.plane());
    if from != to && PLANES.contains(&from) && PLANES.contains(&to) {
        return Some(format!(
            "W2: {named}: the planes {from} and {to} never import each other"
        ));
    }
    let target_layer = target.layer?;
    if edge.kind == EdgeKind::Dev && to == "sim" && layer <= 3 {
        return None;
    }
    if target_layer > layer {
        return Some(format!(
            "W1: {named}: layer {layer} depends upwards on layer {target_layer}"
        ));
    }
    if target_layer == layer && from != to && to != "spine" {
        return Some(format!(
            "W1: {named}: both are layer {layer}, in different folders"
        ));
    }
    None
}

fn outside(package: &Package, layer: i64, edge: &Edge) -> Option<String> {
    if layer > 1 || edge.kind == EdgeKind::Dev || PURE.contains(&edge.to.as_str()) {
        return None;
    }
    Some(format!(
        "W4: {} -> {}: layer {layer} takes only {} from outside",
        package.name,
        edge.to,
        PURE.join(", ")
    ))
}

fn opening(tree: &Tree, package: &Package, layer: i64, complaints: &mut Vec<Complaint>) {
    let wanted = match layer {
        0 | 1 => PURE_OPENING,
        2 => &PURE_OPENING[2..],
        _ => return,
    };
    let Some(path) = package.root_module(tree) else {
        complaints.push(Complaint::at(
            &manifest_path(package),
            "the crate has no lib.rs",
        ));
        return;
    };
    let text = tree.text(&path).unwrap_or_default();
    for line in wanted {
        if !text.lines().any(|written| written.trim() == *line) {
            complaints.push(Complaint::at(
                &path,
                format!("W4: layer {layer} opens with `{line}`"),
            ));
        }
    }
    if layer == 2 {
        strict(tree, package, complaints);
    }
}

fn strict(tree: &Tree, package: &Package, complaints: &mut Vec<Complaint>) {
    for folder in [package.plane(), package.folder.as_str()] {
        let path = format!("{folder}/clippy.toml");
        if tree.text(&path).is_some() {
            let text = format!(
                "W5: {} is layer 2 and keeps the root's strict clippy.toml",
                package.name
            );
            complaints.push(Complaint::at(&path, text));
        }
    }
}

fn simulator(tree: &Tree, package: &Package, layer: i64, complaints: &mut Vec<Complaint>) {
    if layer > 2 {
        return;
    }
    let sources = format!("{}/src/", package.folder);
    for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(&sources)) {
        for (index, line) in text.lines().enumerate() {
            // A doctest is a crate of its own, like a file in tests/.
            let code = !line.trim_start().starts_with("//");
            if code && (line.contains("holm_virtual") || line.contains("holm_check")) {
                let text = "W6: the simulator is used from tests/*.rs alone, for here its types are others";
                complaints.push(Complaint::on(path, index, text));
            }
        }
    }
}

fn features(package: &Package, layer: i64, complaints: &mut Vec<Complaint>) {
    if layer <= 2 && package.has_features {
        let text = format!("W7: layer {layer} has no features");
        complaints.push(Complaint::at(&manifest_path(package), text));
    }
}

/// W3, over all paths of normal edges, and over the direct ones of every kind.
fn meeting(packages: &Packages, package: &Package, complaints: &mut Vec<Complaint>) {
    if SEE_BOTH.contains(&package.plane()) {
        return;
    }
    let mut seen: BTreeSet<&str> = reached(packages, package);
    seen.insert(package.plane());
    let direct = package
        .edges
        .iter()
        .filter_map(|edge| packages.get(&edge.to));
    if matches!(package.plane(), "world" | "sim") {
        seen.extend(direct.map(Package::plane));
    }
    if seen.contains("world") && seen.contains("sim") {
        let text = format!("W3: {} sees both world and sim", package.name);
        complaints.push(Complaint::at(&manifest_path(package), text));
    }
}

/// The top folders that a package's normal edges lead to, however far.
fn reached<'tree>(packages: &'tree Packages, package: &Package) -> BTreeSet<&'tree str> {
    let mut folders = BTreeSet::new();
    let mut known = BTreeSet::new();
    let mut ahead: Vec<&Package> = vec![package];
    while let Some(next) = ahead.pop() {
        for edge in next
            .edges
            .iter()
            .filter(|edge| edge.kind == EdgeKind::Normal)
        {
            if let Some(target) = packages.get(&edge.to)
                && known.insert(edge.to.as_str())
            {
                folders.insert(target.plane());
                ahead.push(target);
            }
        }
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn krate(tree: Tree, folder: &str, layer: i64, rest: &str) -> Tree {
        let manifest = format!(
            "[package]\nname = \"{}\"\ndescription = \"words\"\n\
             [package.metadata.holm]\nlayer = {layer}\n[lints]\nworkspace = true\n{rest}",
            name_of(folder)
        );
        let opening = PURE_OPENING.join("\n");
        tree.with(&format!("{folder}/Cargo.toml"), &manifest)
            .with(&format!("{folder}/src/lib.rs"), &opening)
    }

    fn complaints(tree: &Tree) -> String {
        texts(&check(tree).unwrap())
    }

    fn lawful() -> Tree {
        let tree = krate(Tree::default(), "spine/base", 0, "");
        let tree = krate(
            tree,
            "store/kv",
            2,
            "[dependencies]\nholm-base.workspace = true\n",
        );
        let tree = krate(
            tree,
            "world/disk",
            3,
            "[dependencies]\nholm-kv.workspace = true\n",
        );
        krate(
            tree,
            "sim/virtual",
            3,
            "[dependencies]\nholm-base.workspace = true\n",
        )
    }

    #[test]
    fn a_lawful_tree_has_no_complaints() {
        assert_eq!(complaints(&lawful()), "");
    }

    #[test]
    fn an_edge_upwards_is_named() {
        let tree = krate(
            lawful(),
            "store/log",
            2,
            "[dependencies]\nholm-disk.workspace = true\n",
        );
        assert!(
            complaints(&tree).contains("W1: holm-log -> holm-disk"),
            "{}",
            complaints(&tree)
        );
    }

    #[test]
    fn an_edge_sideways_into_another_folder_is_named() {
        let tree = krate(
            lawful(),
            "world/net",
            3,
            "[dependencies]\nholm-virtual.workspace = true\n",
        );
        assert!(complaints(&tree).contains("W1: holm-net -> holm-virtual"));
    }

    #[test]
    fn a_plane_that_imports_a_plane_is_named() {
        let tree = krate(
            lawful(),
            "traffic/cache",
            3,
            "[dependencies]\nholm-kv.workspace = true\n",
        );
        assert!(complaints(&tree).contains("W2: holm-cache -> holm-kv"));
    }

    #[test]
    fn world_and_sim_never_meet_even_through_a_third() {
        let tree = krate(
            lawful(),
            "store/etcd",
            4,
            "[dependencies]\nholm-disk.workspace = true\n",
        );
        let both = "[dependencies]\nholm-etcd.workspace = true\nholm-virtual.workspace = true\n";
        let tree = krate(tree, "bench/promises", 5, both);
        assert!(complaints(&tree).contains("W3: holm-promises"));
        let dev = "[dev-dependencies]\nholm-virtual.workspace = true\n";
        assert!(complaints(&krate(lawful(), "world/net", 4, dev)).contains("W3: holm-net"));
    }

    #[test]
    fn tests_of_a_plane_may_use_the_simulator() {
        let dev = "[dev-dependencies]\nholm-virtual.workspace = true\n";
        let tree = krate(lawful(), "streams/runner", 3, dev);
        assert!(!complaints(&tree).contains("holm-runner"));
        let tree = krate(lawful(), "streams/runner", 3, &dev.replace("dev-", ""));
        assert!(complaints(&tree).contains("W1: holm-runner"));
    }

    #[test]
    fn a_pure_layer_takes_only_listed_crates() {
        let tree = krate(
            lawful(),
            "spine/wire",
            1,
            "[dependencies]\ntokio.workspace = true\n",
        );
        assert!(complaints(&tree).contains("W4: holm-wire -> tokio"));
        let dev = krate(
            lawful(),
            "spine/wire",
            1,
            "[dev-dependencies]\narbtest.workspace = true\n",
        );
        assert_eq!(complaints(&dev), "");
    }

    #[test]
    fn a_pure_layer_opens_with_its_attributes() {
        let tree = lawful().with("spine/base/src/lib.rs", "//! base\n");
        assert!(complaints(&tree).contains("opens with `#![no_std]`"));
        let tree = lawful().with("store/kv/src/lib.rs", "//! kv\n");
        assert!(
            complaints(&tree).contains("opens with `#![deny(clippy::wildcard_enum_match_arm)]`")
        );
    }

    #[test]
    fn layer_two_keeps_the_strict_clippy_file() {
        assert!(complaints(&lawful().with("store/clippy.toml", "")).contains("W5"));
    }

    #[test]
    fn the_simulator_is_not_used_from_sources() {
        let tree = lawful().with("store/kv/src/index.rs", "use holm_virtual::Disk;");
        assert!(complaints(&tree).contains("store/kv/src/index.rs:1: W6"));
    }

    #[test]
    fn a_pure_layer_has_no_features() {
        assert!(
            complaints(&krate(lawful(), "store/log", 2, "[features]\nfast = []\n")).contains("W7")
        );
    }

    #[test]
    fn a_crate_without_layer_lints_or_its_name_is_refused() {
        let manifest = "[package]\nname = \"other\"\n";
        let found = complaints(&lawful().with("store/log/Cargo.toml", manifest));
        for wanted in [
            "layer = N",
            "description",
            "[lints]",
            "`holm-log`, not `other`",
        ] {
            assert!(found.contains(wanted), "{wanted} is missing from {found}");
        }
    }
}
