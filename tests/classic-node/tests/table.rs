//! The table of README.md: all faults in order, every test that it names is one, and none is shown only where `node` is.

use std::fs;
use std::path::Path;

/// One line of the table.
struct Row {
    number: u32,
    /// File and function of each test.
    tests: Vec<(String, String)>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    lines
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_end_matches('|').split(" | ").collect();
            let number = cells.first()?.trim().parse().ok()?;
            assert_eq!(cells.len(), 4, "line {number}");
            let tests = cells[3].split(", ").map(|test| {
                let named = test.trim().trim_matches('`').split_once("::");
                let (file, test) = named.unwrap_or_else(|| panic!("{number}: {test}"));
                (file.to_owned(), test.to_owned())
            });
            Some(Row {
                number,
                tests: tests.collect(),
            })
        })
        .collect()
}

/// Whether `source` has a test of that name: a function right below an attribute that makes it one.
fn has_test(source: &str, name: &str) -> bool {
    let mut above = "";
    source.lines().any(|line| {
        let line = line.trim();
        let is_it =
            line.starts_with(&format!("fn {name}(")) || line.starts_with(&format!("async fn {name}("));
        let attribute = above.starts_with("#[test]") || above.starts_with("#[tokio::test");
        if !line.starts_with("#[expect") {
            above = line;
        }
        is_it && attribute
    })
}

#[test]
fn every_fault_has_one_line_in_order() {
    let found: Vec<u32> = rows().iter().map(|row| row.number).collect();
    assert_eq!(found, (1..=30).collect::<Vec<_>>());
}

#[test]
fn every_test_that_is_named_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for Row { number, tests } in rows() {
        for (file, test) in tests {
            let source = fs::read_to_string(root.join(&file))
                .unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
            assert!(has_test(&source, &test), "{number}: {file} has no test {test}");
        }
    }
}

#[test]
fn no_fault_is_shown_only_where_node_is() {
    for Row { number, tests } in rows() {
        let shown = tests
            .iter()
            .any(|(file, _)| !file.starts_with("tests/classic-node/"));
        assert!(shown, "{number}");
    }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source =
        "#[test]\nfn one() {}\n\nfn two() {}\n#[tokio::test(start_paused = true)]\nasync fn three() {}\n";
    assert!(has_test(source, "one") && has_test(source, "three"));
    assert!(!has_test(source, "two") && !has_test(source, "on"));
}
