//! The table in README.md and the suite agree: every number once, every list entry in it, every test it names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use picom_conformance::{ON_CONSUL, ON_DEV_AGENT, ON_LISTS, ON_MOCK, ONLY_ON_CONSUL, SLOW_ON_CONSUL};

/// One line of the table.
struct Row {
    number: u32,
    /// Consul, dev agent, mock.
    cells: [String; 3],
}

/// The text of the suite's table, and of that for lists which are read again.
fn halves() -> [String; 2] {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (first, second) = text.split_once("## Files and DNS").unwrap();
    [first.to_owned(), second.to_owned()]
}

/// The lines of the second table: number, file, DNS.
fn rows_of_lists() -> Vec<(u32, [String; 2])> {
    let [_, text] = halves();
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    lines
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_end_matches('|').split(" | ").map(str::trim).collect();
            let &[number, _, file, dns] = cells.as_slice() else {
                return None;
            };
            Some((number.parse().ok()?, [file.to_owned(), dns.to_owned()]))
        })
        .collect()
}

fn rows() -> Vec<Row> {
    let [text, _] = halves();
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    lines
        .filter_map(|line| {
            let mut cells = line
                .trim_end_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned());
            let number = cells.next()?.parse().ok()?;
            cells.next()?;
            let cells = [cells.next()?, cells.next()?, cells.next()?];
            Some(Row { number, cells })
        })
        .collect()
}

fn numbers(lists: &[&[(u32, &str)]]) -> BTreeSet<u32> {
    lists
        .iter()
        .flat_map(|list| list.iter().map(|(number, _)| *number))
        .collect()
}

#[test]
fn every_behaviour_has_one_line_in_order() {
    let found: Vec<u32> = rows().iter().map(|row| row.number).collect();
    assert_eq!(found, (1..=50).collect::<Vec<_>>());
}

#[test]
fn the_lines_of_the_suite_are_those_of_its_lists() {
    let lists = [
        numbers(&[ON_MOCK, ON_CONSUL, SLOW_ON_CONSUL, ONLY_ON_CONSUL]),
        numbers(&[ON_MOCK, ON_DEV_AGENT, SLOW_ON_CONSUL]),
        numbers(&[ON_MOCK]),
    ];
    for (column, list) in lists.iter().enumerate() {
        let told = rows().into_iter().filter(|row| row.cells[column] == "suite");
        assert_eq!(
            &told.map(|row| row.number).collect::<BTreeSet<_>>(),
            list,
            "column {column}"
        );
    }
}

#[test]
fn every_test_that_is_named_exists_and_every_gap_has_a_reason() {
    for Row { number, cells } in rows() {
        for cell in cells.iter().filter(|cell| *cell != "suite") {
            if let Some(reason) = cell.strip_prefix('–') {
                assert!(reason.trim().len() > 8, "{number}: a gap without a reason");
                continue;
            }
            assert_exists(number, cell);
        }
    }
}

/// A cell names files and tests in them.
fn assert_exists(number: u32, cell: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for named in cell.split(", ") {
        let split = named.trim_matches('`').split_once("::");
        let (file, test) = split.unwrap_or_else(|| panic!("{number}: {cell}"));
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(
            source.contains(&format!("fn {test}(")),
            "{number}: {file} has no {test}"
        );
    }
}

#[test]
fn every_number_is_in_the_table_of_lists_or_named_as_none_of_theirs() {
    let [_, text] = halves();
    let (introduction, _) = text.split_once("| # |").unwrap();
    let (_, none) = introduction.split_once("of them:").unwrap();
    let none = none
        .split([' ', '.', '\n'])
        .filter_map(|word| word.parse::<u32>().ok());
    let mut all: Vec<u32> = none.chain(rows_of_lists().iter().map(|row| row.0)).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=50).collect::<Vec<_>>());
    let told = rows_of_lists()
        .into_iter()
        .filter(|(_, cells)| cells.iter().all(|cell| cell == "list"));
    assert_eq!(
        told.map(|row| row.0).collect::<BTreeSet<_>>(),
        numbers(&[ON_LISTS])
    );
    for (number, cells) in rows_of_lists() {
        for cell in cells.iter().filter(|cell| *cell != "list") {
            assert_exists(number, cell);
        }
    }
}
