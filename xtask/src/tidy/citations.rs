//! `PROTOCOL §5.3` in code must lead to a rule. A protocol whose numbers rot is prose.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

const DOCUMENT: &str = "PROTOCOL.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(protocol) = tree.text(DOCUMENT) else {
        return vec![Finding::new(DOCUMENT, 0, "the document is missing")];
    };
    let rules = rules(protocol);
    let mut wrong = Vec::new();
    for (path, source) in tree.sources() {
        for (at, line) in source.text.lines().enumerate() {
            for number in cited(line) {
                if !rules.contains(&number) {
                    let text = format!("{DOCUMENT} has no rule {number}");
                    wrong.push(Finding::new(path, at + 1, text));
                }
            }
        }
    }
    wrong
}

/// The numbers that can be cited: of sections (`## 5. Streams`) and of rules (a paragraph that begins `5.3 `).
fn rules(protocol: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in protocol.lines() {
        let line = line.trim_start_matches('#').trim_start();
        let number = leading_number(line);
        let behind = line.get(number.len()..).unwrap_or_default();
        if !number.is_empty() && (behind.starts_with(' ') || behind.starts_with(". ")) {
            found.insert(number.to_owned());
        }
    }
    found
}

/// Numbers behind `PROTOCOL §` or `PROTOCOL.md §`, and those of a list that follows: `§5.3, §5.4 and §7`.
fn cited(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, name) in line.match_indices("PROTOCOL") {
        let mut rest = line.get(start + name.len()..).unwrap_or_default();
        rest = rest.strip_prefix(".md").unwrap_or(rest);
        while let Some(behind) = after_sign(rest) {
            let number = leading_number(behind);
            if number.is_empty() {
                break;
            }
            found.push(number.to_owned());
            rest = behind.get(number.len()..).unwrap_or_default();
        }
    }
    found
}

/// What stands behind the next `§`, if nothing but the glue of a list comes before it.
fn after_sign(text: &str) -> Option<&str> {
    let (glue, behind) = text.split_once('§')?;
    let glue = glue.trim();
    let joins = ["", ",", ";", "and", ", and", "or", "to", "–", "-", "/", "(", "`"].contains(&glue);
    joins.then_some(behind.trim_start())
}

/// `5`, `5.3`; never a dot at the end.
fn leading_number(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.get(..end).unwrap_or_default().trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str =
        "# P\n\n## 5. Streams\n\n5.1 A stream is opened.\n\n5.2 More.\n\n| 9.9 | table |\n";

    #[test]
    fn sections_and_rules_can_be_cited() {
        assert_eq!(
            rules(PROTOCOL).into_iter().collect::<Vec<_>>(),
            ["5", "5.1", "5.2"]
        );
    }

    #[test]
    fn citations_are_read_alone_and_in_lists() {
        assert_eq!(cited("/// Refused (PROTOCOL §5.1)."), ["5.1"]);
        assert_eq!(
            cited("//! See PROTOCOL.md §5.1, §5.2 and §5. Then §8 of something else."),
            ["5.1", "5.2", "5"]
        );
        assert_eq!(cited("// RFC 9113 §5.1; DESIGN §3"), [""; 0]);
    }

    #[test]
    fn a_citation_of_no_rule_is_found_at_its_line() {
        let tree = Tree::of(&[
            (DOCUMENT, PROTOCOL),
            ("a.rs", "//! x\n// PROTOCOL §7.1\n// PROTOCOL §5.1\n"),
        ]);
        assert_eq!(
            check(&tree),
            [Finding::new("a.rs", 2, "PROTOCOL.md has no rule 7.1")]
        );
    }
}
