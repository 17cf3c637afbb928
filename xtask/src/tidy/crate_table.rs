//! The table of crates in docs/ARCHITECTURE.md is made from the manifests, and stays so.

use anyhow::Result;

use crate::packages;
use crate::tidy::Complaint;
use crate::tree::Tree;

const PAGE: &str = "docs/ARCHITECTURE.md";
const BEGIN: &str = "<!-- crates: made by `cargo xtask bless docs` -->\n";
const END: &str = "<!-- end of crates -->";

/// Checks that the page holds the table as the manifests give it.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Complaint>> {
    let Some(text) = tree.text(PAGE) else {
        return Ok(Vec::new());
    };
    let wrong = match renew(tree)? {
        Some(renewed) if renewed == text => None,
        Some(_) => {
            Some("the table of crates is not what the manifests say: `cargo xtask bless docs`")
        }
        None => Some("the page has no place for the table of crates"),
    };
    Ok(wrong
        .map(|why| Complaint::at(PAGE, why))
        .into_iter()
        .collect())
}

/// The page with the table renewed; `None` if it has no place for one.
pub(crate) fn renew(tree: &Tree) -> Result<Option<String>> {
    let Some((before, rest)) = tree.text(PAGE).and_then(|text| text.split_once(BEGIN)) else {
        return Ok(None);
    };
    let Some((_, after)) = rest.split_once(END) else {
        return Ok(None);
    };
    Ok(Some(format!("{before}{BEGIN}{}{END}{after}", table(tree)?)))
}

fn table(tree: &Tree) -> Result<String> {
    let mut rows: Vec<(i64, String)> = packages::read(tree)?
        .values()
        .map(|package| {
            let layer = package.layer.unwrap_or(i64::MAX);
            let description = package.description.as_deref().unwrap_or_default();
            (
                layer,
                format!("| {layer} | `{}` | {description} |\n", package.folder),
            )
        })
        .collect();
    rows.sort();
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    Ok(format!("| layer | folder | holds |\n|--|--|--|\n{rows}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::texts;

    fn tree(page: &str) -> Tree {
        let manifest = "[package]\nname = \"holm-kv\"\ndescription = \"the engine\"\n[package.metadata.holm]\nlayer = 2\n";
        Tree::default()
            .with("store/kv/Cargo.toml", manifest)
            .with(PAGE, page)
    }

    #[test]
    fn a_stale_table_is_named_and_a_renewed_one_passes() {
        let stale = tree(&format!("# Page\n{BEGIN}old\n{END}\nrest\n"));
        assert!(texts(&check(&stale).unwrap()).contains("bless docs"));
        let renewed = renew(&stale).unwrap().expect("there is a place for it");
        assert!(renewed.contains("| 2 | `store/kv` | the engine |"));
        assert!(renewed.ends_with("rest\n"));
        assert!(check(&tree(&renewed)).unwrap().is_empty());
    }

    #[test]
    fn a_page_without_a_place_for_the_table_is_named() {
        assert!(texts(&check(&tree("# Page\n")).unwrap()).contains("no place"));
    }
}
