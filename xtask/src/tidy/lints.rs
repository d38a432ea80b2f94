//! Every member inherits the workspace's lints, `unsafe_code = "forbid"` first among them.

use super::Finding;
use super::tree::Tree;

/// The package with the counting allocator, which cannot be written without `unsafe`.
const EXCEPT: &str = "tests/alloc";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for package in tree.packages.iter().filter(|package| package.dir != EXCEPT) {
        let manifest = tree.text(&package.manifest()).unwrap_or_default();
        if !inherits(manifest) {
            let text = "does not inherit the workspace's lints: add `[lints]` with `workspace = true`";
            wrong.push(Finding::new(package.manifest(), 1, text));
        }
    }
    wrong
}

fn inherits(manifest: &str) -> bool {
    let mut section = "";
    for line in manifest.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line;
        }
        let spaceless: String = line.split_whitespace().collect();
        let here = match section {
            "[lints]" => "workspace=true",
            "" => "lints.workspace=true",
            _ => continue,
        };
        if spaceless == here {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::packages::Package;
    use super::*;

    #[test]
    fn only_the_table_of_lints_counts() {
        assert!(inherits("[package]\nname = \"x\"\n[lints]\nworkspace = true\n"));
        assert!(!inherits(
            "[package]\nversion.workspace = true\n[lints]\n# workspace = true\n"
        ));
        assert!(!inherits("[dependencies.serde]\nworkspace = true\n"));
    }

    #[test]
    fn a_member_without_them_is_found_but_for_the_allocator() {
        let manifest = "[package]\n";
        let package = |dir: &str| Package {
            name: "x".to_owned(),
            dir: dir.to_owned(),
            dependencies: Vec::new(),
        };
        let tree = Tree::of(&[
            ("tests/alloc/Cargo.toml", manifest),
            ("tests/e2e/Cargo.toml", manifest),
        ])
        .with_packages(vec![package("tests/alloc"), package("tests/e2e")]);
        let found = check(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, "tests/e2e/Cargo.toml");
    }
}
