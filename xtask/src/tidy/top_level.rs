//! What may lie at the top of the tree: the crates and the usual documents. A newcomer reads it at a glance.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

/// Must be there.
const REQUIRED: &[&str] = &[
    "Cargo.toml",
    "picom",
    "picom-codec",
    "picom-discovery",
    "picom-rpc",
    "picom-transport",
    "tests",
    "xtask",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "PROTOCOL.md",
    "README.md",
];

/// May be there, as may every name that begins with a dot.
const USUAL: &[&str] = &[
    "Cargo.lock",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let names: BTreeSet<&str> = tree
        .paths
        .iter()
        .filter_map(|path| path.split('/').next())
        .collect();
    let mut wrong = Vec::new();
    for name in &names {
        if !name.starts_with('.') && !REQUIRED.contains(name) && !USUAL.contains(name) {
            let text = "does not belong at the top: packages for tests lie under tests/, chores under xtask/";
            wrong.push(Finding::new(*name, 0, text));
        }
    }
    for name in REQUIRED.iter().filter(|name| !names.contains(*name)) {
        wrong.push(Finding::new(*name, 0, "is missing"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Vec<(&'static str, &'static str)> {
        let mut files: Vec<(&str, &str)> = REQUIRED.iter().map(|name| (*name, "")).collect();
        files.extend([(".ci/run", ""), (".gitignore", ""), ("Cargo.lock", "")]);
        files
    }

    #[test]
    fn the_crates_and_the_usual_documents_are_fine() {
        assert_eq!(check(&Tree::of(&complete())), []);
    }

    #[test]
    fn strangers_and_gaps_are_found() {
        let mut files = complete();
        files.retain(|(name, _)| *name != "README.md");
        files.extend([("benches/a.rs", ""), ("notes.md", "")]);
        let found: Vec<String> = check(&Tree::of(&files))
            .iter()
            .map(|finding| finding.file.clone())
            .collect();
        assert_eq!(found, ["benches", "notes.md", "README.md"]);
    }
}
