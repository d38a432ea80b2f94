//! The tree as the rules see it: paths, texts and packages, read once. Tests write theirs by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::packages::{self, Package};
use super::source::Source;

/// Directories with what was built or found, not written.
const PASSED_OVER: &[&str] = &["target", ".git", "artifacts", "coverage", "node_modules"];

/// What the rules read; everything else is only known by its path.
const READ: &[&str] = &["rs", "md", "toml", "txt"];

/// Paths are relative to the root, with `/`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) texts: BTreeMap<String, String>,
    pub(super) paths: BTreeSet<String>,
    pub(super) packages: Vec<Package>,
    sources: BTreeMap<String, Source>,
}

impl Tree {
    pub(super) fn read(root: &Path, metadata: &Value) -> anyhow::Result<Self> {
        let mut tree = Self {
            packages: packages::read(metadata),
            ..Self::default()
        };
        tree.walk(root, "")?;
        Ok(tree)
    }

    fn walk(&mut self, dir: &Path, prefix: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if !PASSED_OVER.contains(&name.as_str()) {
                    self.walk(&entry.path(), &format!("{path}/"))?;
                }
            } else if READ
                .iter()
                .any(|ending| name.rsplit_once('.').is_some_and(|(_, end)| end == *ending))
            {
                let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {path}"))?;
                self.add(&path, &String::from_utf8_lossy(&bytes));
            } else {
                self.paths.insert(path);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, text: &str) {
        if path.ends_with(".rs") {
            self.sources.insert(path.to_owned(), Source::new(text));
        }
        self.paths.insert(path.to_owned());
        self.texts.insert(path.to_owned(), text.to_owned());
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Every Rust file.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.sources.iter().map(|(path, source)| (path.as_str(), source))
    }

    /// Every file with that ending.
    pub(super) fn with_ending<'a>(&'a self, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts
            .iter()
            .filter(move |(path, _)| path.ends_with(ending))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Whether there is such a file, or a directory with a file in it. The root is `""`.
    pub(super) fn exists(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.iter().any(|known| known.starts_with(&below))
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of these files.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        files.iter().for_each(|(path, text)| tree.add(path, text));
        tree
    }

    pub(super) fn with_packages(mut self, packages: Vec<Package>) -> Self {
        self.packages = packages;
        self
    }
}

/// The 1-based line of the first one that satisfies the question; 0 if none does.
pub(super) fn line_where(text: &str, wanted: impl Fn(&str) -> bool) -> usize {
    text.lines().position(wanted).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_through_its_files() {
        let tree = Tree::of(&[("a/b/c.rs", "")]);
        assert!(tree.exists("a/b") && tree.exists("a/b/c.rs") && tree.exists(""));
        assert!(!tree.exists("a/b/c") && !tree.exists("a/"));
    }

    #[test]
    fn what_was_built_is_passed_over() {
        let root = std::env::temp_dir().join(format!("picom-tidy-{}", std::process::id()));
        for file in ["a/lib.rs", "a/target/x.rs", ".git/y.rs", "picture.png"] {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "//! x\n").unwrap();
        }
        let tree = Tree::read(&root, &Value::Null);
        fs::remove_dir_all(&root).unwrap();
        let tree = tree.unwrap();
        assert_eq!(tree.paths.iter().collect::<Vec<_>>(), ["a/lib.rs", "picture.png"]);
        assert_eq!(tree.sources().count(), 1);
    }
}
