//! The mux is a pure machine: frames and the time go in, frames and the next time-out come out. What it must not name
//! stands here. Its tests may: somebody has to make the first instant.

use super::Finding;
use super::source::{Source, lines_with_word};
use super::tree::Tree;

const PURE: &str = "picom-transport/src/proto/";

/// The `std` modules of the effects, as paths and as they would stand in a braced `use`.
const MODULES: &[&str] = &["net", "thread", "fs", "process", "env"];

/// Everything else, with what to do instead.
const WORDS: &[(&str, &str)] = &[
    ("tokio", "the driver is the only one that awaits"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "durations travel and instants stay in memory"),
    ("rand", "take what was drawn as an argument"),
    ("fastrand", "take what was drawn as an argument"),
    ("getrandom", "take what was drawn as an argument"),
    (
        "RandomState",
        "take what was drawn as an argument; a BTreeMap needs no seed",
    ),
    (
        "async",
        "a machine that waits is no machine: say what to wait for",
    ),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pure = tree
        .sources()
        .filter(|(path, _)| path.starts_with(PURE) && !is_test_file(path));
    pure.flat_map(|(path, source)| of(path, source)).collect()
}

/// A file of its own for tests: `proto/tests.rs`, `proto/mux/tests/drain.rs`.
fn is_test_file(path: &str) -> bool {
    path.split(['/', '.']).any(|part| part == "tests")
}

fn of(path: &str, source: &Source) -> Vec<Finding> {
    let code = source.product_code();
    let mut wrong = Vec::new();
    for (word, instead) in WORDS {
        for line in lines_with_word(&code, word) {
            wrong.push(Finding::new(
                path,
                line,
                format!("the mux names `{word}`: {instead}"),
            ));
        }
    }
    for module in MODULES {
        let mut lines = lines_with_word(&code, &format!("std::{module}"));
        lines.extend(lines_in_braced_use(&code, module));
        for line in lines {
            wrong.push(Finding::new(
                path,
                line,
                format!("the mux names `std::{module}`: effects live in conn/"),
            ));
        }
    }
    wrong.sort_by_key(|finding| finding.line);
    wrong
}

/// Lines of `use std::{…}` on which the module stands.
fn lines_in_braced_use(code: &str, module: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("use std::{") {
        let (before, statement) = code.split_at(start);
        let end = statement.find(';').unwrap_or(statement.len());
        let first = before.matches('\n').count();
        let lines = lines_with_word(statement.get(..end).unwrap_or(statement), module);
        found.extend(lines.into_iter().map(|line| line + first));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_pure_file_may_speak_of_effects_in_comments_and_tests() {
        let text = "\
//! Knows no tokio and no std::net.
use std::time::Instant;
fn on(now: Instant) {}
#[cfg(test)]
mod tests { fn now() -> Instant { Instant::now() } }
";
        assert_eq!(findings("picom-transport/src/proto/mux.rs", text), [""; 0]);
        assert_eq!(
            findings("picom-transport/src/proto/mux/tests.rs", "use tokio::time;"),
            [""; 0]
        );
        assert_eq!(
            findings("picom-transport/src/conn/driver.rs", "use tokio::time;"),
            [""; 0]
        );
    }

    #[test]
    fn effects_are_found_in_every_spelling() {
        let text = "use tokio::sync;\nuse std::{\n    net::IpAddr,\n    collections::BTreeMap,\n};\nlet x = std::thread::current();\n";
        let found = findings("picom-transport/src/proto/window.rs", text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("picom-transport/src/proto/window.rs:1: the mux names `tokio`"));
        assert!(found[1].starts_with("picom-transport/src/proto/window.rs:3: the mux names `std::net`"));
        assert!(found[2].starts_with("picom-transport/src/proto/window.rs:6: the mux names `std::thread`"));
        assert_eq!(
            findings("picom-transport/src/proto/a.rs", "let t = Instant::now();").len(),
            1
        );
        assert_eq!(
            findings("picom-transport/src/proto/a.rs", "let operand = strand;"),
            [""; 0]
        );
    }
}
