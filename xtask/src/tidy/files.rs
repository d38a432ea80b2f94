//! What a Rust file looks like from outside: its length, its first line, its name.

use super::Finding;
use super::tree::Tree;

/// A file that grew over this holds more than one idea. Most have 100 to 400 lines.
const LONGEST: usize = 600;

/// Names that say nothing of what is inside, so that everything lands there.
const EMPTY_NAMES: &[&str] = &[
    "util",
    "utils",
    "common",
    "helper",
    "helpers",
    "type",
    "types",
    "manager",
    "managers",
    "misc",
    "shared_types",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (path, source) in tree.sources() {
        let lines = source.text.lines().count();
        if lines > LONGEST {
            let text = format!("{lines} lines, {LONGEST} at most: a file holds one idea");
            wrong.push(Finding::new(path, LONGEST + 1, text));
        }
        // An inner attribute may come first, as in `#![no_main]`.
        if !source.text.starts_with("//!") && !source.text.starts_with("#![") {
            wrong.push(Finding::new(
                path,
                1,
                "the file does not begin by saying what lives here (`//!`)",
            ));
        }
        if let Some(name) = path.split('/').find_map(empty_name) {
            wrong.push(Finding::new(
                path,
                0,
                format!("{name:?} is no noun of the field: name what it holds"),
            ));
        }
    }
    wrong
}

fn empty_name(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".rs").unwrap_or(part);
    EMPTY_NAMES.contains(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_file_that_says_what_it_holds_is_fine() {
        let tree = Tree::of(&[
            ("a/window.rs", "//! Credit.\n"),
            ("b/main.rs", "#![no_main]\n//! Fuzz.\n"),
        ]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn long_silent_and_emptily_named_files_are_found() {
        let long = format!("//! x\n{}", "\n".repeat(600));
        let tree = Tree::of(&[
            ("a/mux.rs", &long),
            ("a/utils/mod.rs", "//! x\n"),
            ("b.rs", "use x;\n"),
        ]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("a/mux.rs:601: 601 lines"));
        assert!(found[1].starts_with("a/utils/mod.rs: \"utils\" is no noun"));
        assert!(found[2].starts_with("b.rs:1: the file does not begin"));
    }
}
