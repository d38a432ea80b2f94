//! Marks of unfinished work, and silenced lints and tests.

use super::Finding;
use super::source::{Source, lines_with_word};
use super::tree::Tree;

/// Macros that stand for code to be written, or that were left behind.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "dbg!"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources()
        .flat_map(|(path, source)| of(path, source))
        .collect()
}

fn of(path: &str, source: &Source) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for name in UNFINISHED {
        for line in lines_with_word(&source.code, name) {
            wrong.push(Finding::new(path, line, format!("`{name}` is unfinished work")));
        }
    }
    for (at, line) in source.code.lines().enumerate() {
        let mut add = |text: &str| wrong.push(Finding::new(path, at + 1, text));
        let attribute = line.contains("#[") || line.contains("#![");
        if attribute && !lines_with_word(line, "allow").is_empty() {
            add("`allow` outlives its cause unnoticed: use `#[expect(…, reason = \"…\")]`");
        }
        // `#[ignore = "why"]` has a reason; `#[ignore]` and `ignore)` of a cfg_attr have none.
        if attribute && !lines_with_word(line, "ignore").is_empty() && !line.contains("ignore =") {
            add("an ignored test says why: `#[ignore = \"…\"]`");
        }
    }
    wrong.sort_by_key(|finding| finding.line);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Tree::of(&[("a.rs", text)]))
            .iter()
            .map(|finding| finding.line)
            .collect()
    }

    /// A macro's call, put together: what looks for unfinished work elsewhere is not to find it here.
    fn marked(name: &str, within: &str) -> String {
        format!("{name}!({within})")
    }

    #[test]
    fn unfinished_work_is_found_in_code_only() {
        assert_eq!(
            lines(&format!(
                "fn a() {{\n    {}\n}}\nfn b() {{ {}; {} }}\n",
                marked("todo", ""),
                marked("dbg", "1"),
                marked("unimplemented", "\"x\"")
            )),
            [2, 4, 4]
        );
        assert_eq!(
            lines(&format!(
                "// {} and #[allow(x)]\nlet x = \"{}\";\nmy_{};\n",
                marked("todo", ""),
                marked("dbg", ""),
                marked("todo", "")
            )),
            [0; 0]
        );
    }

    #[test]
    fn silence_needs_a_reason() {
        assert_eq!(
            lines("#[allow(dead_code)]\n#![allow(x)]\n#[cfg_attr(test, allow(x))]\n"),
            [1, 2, 3]
        );
        assert_eq!(
            lines("#[ignore]\n#[ignore = \"waits a minute\"]\n#[expect(x, reason = \"y\")]\nallow(x);\n"),
            [1]
        );
    }
}
