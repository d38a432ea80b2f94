//! Which crate of the workspace may know which. The arrows are what keeps a layer replaceable and testable alone.

use super::Finding;
use super::packages::Package;
use super::tree::{Tree, line_where};

/// A crate and the crates of this workspace it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("picom-codec", &[]),
    ("picom-discovery", &[]),
    ("picom-transport", &["picom-codec"]),
    (
        "picom-rpc",
        &["picom-codec", "picom-discovery", "picom-transport"],
    ),
    // The facade re-exports from every layer.
    (
        "picom",
        &["picom-codec", "picom-discovery", "picom-rpc", "picom-transport"],
    ),
    // It runs the product as a process and must build without it.
    ("xtask", &[]),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.packages
        .iter()
        .filter(|package| !package.is_test_package())
        .flat_map(|package| of(package, tree))
        .collect()
}

fn of(package: &Package, tree: &Tree) -> Vec<Finding> {
    let Some((name, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        let text = format!(
            "{} is not in the drawing of the crates (xtask/src/tidy/arrows.rs)",
            package.name
        );
        return vec![Finding::new(package.manifest(), 1, text)];
    };
    let manifest = tree.text(&package.manifest()).unwrap_or_default();
    let mut wrong = Vec::new();
    for dependency in package.dependencies.iter().filter(|dependency| dependency.local) {
        let other = dependency.name.as_str();
        // A crate that depends on itself for its tests turns its own features on there.
        let on_itself = dependency.dev && other == *name;
        if !on_itself && !allowed.contains(&other) {
            let line = line_where(manifest, |line| line.split([' ', '=', '.']).next() == Some(other));
            let text = format!("{name} may not know {other}: {}", may_know(allowed));
            wrong.push(Finding::new(package.manifest(), line, text));
        }
    }
    wrong
}

fn may_know(allowed: &[&str]) -> String {
    match allowed {
        [] => "it knows no crate of this workspace".to_owned(),
        some => format!("it knows {}", some.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packages::Dependency;
    use super::*;

    fn package(name: &str, dir: &str, on: &[(&str, bool)]) -> Package {
        let dependencies = on
            .iter()
            .map(|(name, dev)| Dependency {
                name: (*name).to_owned(),
                dev: *dev,
                local: true,
                rename: None,
            })
            .collect();
        Package {
            name: name.to_owned(),
            dir: dir.to_owned(),
            dependencies,
        }
    }

    #[test]
    fn arrows_that_point_down_are_fine_and_tests_are_free() {
        let tree = Tree::default().with_packages(vec![
            package(
                "picom-transport",
                "picom-transport",
                &[("picom-codec", false), ("picom-transport", true)],
            ),
            package(
                "picom-e2e",
                "tests/e2e",
                &[("picom", false), ("picom-codec", false)],
            ),
        ]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn an_arrow_that_points_up_or_sideways_is_found_at_its_line() {
        let manifest =
            "[package]\nname = \"picom-discovery\"\n[dependencies]\npicom-codec.workspace = true\n";
        let tree = Tree::of(&[("picom-discovery/Cargo.toml", manifest)]).with_packages(vec![package(
            "picom-discovery",
            "picom-discovery",
            &[("picom-codec", false)],
        )]);
        let [found] = &check(&tree)[..] else {
            panic!("one finding")
        };
        assert_eq!(
            (found.file.as_str(), found.line),
            ("picom-discovery/Cargo.toml", 4)
        );
        assert!(found.text.contains("may not know picom-codec"));
    }

    #[test]
    fn tests_of_a_crate_bend_no_arrow_either() {
        let tree = Tree::default().with_packages(vec![package(
            "picom-codec",
            "picom-codec",
            &[("picom-rpc", true)],
        )]);
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn a_crate_nobody_has_drawn_is_found() {
        let tree = Tree::default().with_packages(vec![package("picom-extra", "picom-extra", &[])]);
        assert!(check(&tree)[0].text.contains("not in the drawing"));
    }
}
