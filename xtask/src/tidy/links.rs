//! Links between the documents: the file must exist, and the heading too where one is named. Links to the web are not
//! followed.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut wrong = Vec::new();
    for (path, text) in tree.with_ending(".md") {
        for (line, target) in links(text) {
            if let Some(problem) = problem(tree, path, &target) {
                wrong.push(Finding::new(path, line, problem));
            }
        }
    }
    wrong
}

fn problem(tree: &Tree, document: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let place = if file.is_empty() {
        document.to_owned()
    } else {
        resolve(document, file)?
    };
    if !tree.exists(place.trim_end_matches('/')) {
        return Some(format!("leads to {place}, which does not exist"));
    }
    let is_document = place.ends_with(".md");
    let known = tree
        .text(&place)
        .filter(|_| is_document && !heading.is_empty())
        .map(anchors);
    known
        .filter(|known| !known.contains(heading))
        .map(|_| format!("{place} has no heading for #{heading}"))
}

/// The path from the root. `None` above it, which is not ours to judge.
fn resolve(document: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => document.split('/').collect(),
    };
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The targets of `[text](target)` and `[name]: target`, with their lines; code is passed over.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, mark) in line.match_indices("](") {
            let behind = line.get(at + mark.len()..).unwrap_or_default();
            let target = behind.split([')', ' ']).next().unwrap_or_default();
            if behind.contains(')') && !target.is_empty() {
                found.push((number, target.to_owned()));
            }
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some(target) = definition.and_then(|(_, target)| target.split_whitespace().next()) {
            found.push((number, target.to_owned()));
        }
    }
    found
}

/// The lines outside of fenced blocks, numbered from 1, with inline code blanked.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let parts = line.split('`').enumerate();
            lines.push((
                at + 1,
                parts
                    .map(|(n, part)| if n % 2 == 0 { part } else { "" })
                    .collect(),
            ));
        }
    }
    lines
}

/// What the headings of a document are called in links: lower case, blanks as dashes, no other punctuation; a repeated
/// one gets a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || !line.starts_with('#') {
            continue;
        }
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let name: String = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut unique = name.clone();
        let mut count = 0;
        while !known.insert(unique.clone()) {
            count += 1;
            unique = format!("{name}-{count}");
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let readme = "# Read me\n[p](PROTOCOL.md#5-streams) [dir](picom-codec) [self](#read-me) [web](https://a.b/c)\n\
                      `[code](nowhere)`\n```\n[fenced](nowhere)\n```\n[ref]: ./PROTOCOL.md\n";
        let deep = "[up](../../PROTOCOL.md)\n[out](../../../elsewhere)\n";
        let tree = Tree::of(&[
            ("README.md", readme),
            ("PROTOCOL.md", "## 5. Streams\n"),
            ("picom-codec/src/lib.rs", ""),
            ("tests/e2e/README.md", deep),
        ]);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn links_into_the_void_are_found_at_their_line() {
        let text = "\n[a](GONE.md) [b](B.md#gone)\n\n[c]: tests/gone.rs\n[d](#gone)\n";
        let tree = Tree::of(&[("A.md", text), ("B.md", "# Here\n")]);
        let found: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        let expected = [
            "A.md:2: leads to GONE.md, which does not exist",
            "A.md:2: B.md has no heading for #gone",
            "A.md:4: leads to tests/gone.rs, which does not exist",
            "A.md:5: A.md has no heading for #gone",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn repeated_headings_are_numbered() {
        let known = anchors("# Tests\n## Tests\n### The `mux`, pure\n");
        assert_eq!(
            known.into_iter().collect::<Vec<_>>(),
            ["tests", "tests-1", "the-mux-pure"]
        );
    }
}
