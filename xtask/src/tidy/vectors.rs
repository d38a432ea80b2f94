//! PROTOCOL.md and the codec's tests hold the same golden vectors: same names, same bytes. A reader who implements the
//! document and one who reads the tests then speak the same wire.
//!
//! In the document a vector is a row of the appendix's table, a name and its bytes; in the file it is a line
//! `name | bytes | words`, and a line that begins with `#` is a comment.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

const DOCUMENT: &str = "PROTOCOL.md";
const FILE: &str = "picom-codec/tests/vectors/frames.txt";
const APPENDIX: &str = "## Appendix: golden vectors";

/// Bytes in hex without blanks, and the line where they begin.
type Vectors = BTreeMap<String, (String, usize)>;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let mut read = |path: &str, parse: fn(&str, &mut Vec<(usize, String)>) -> Vectors| {
        let mut problems = Vec::new();
        let vectors = tree.text(path).map(|text| parse(text, &mut problems));
        match &vectors {
            None => wrong.push(Finding::new(path, 0, "the golden vectors are missing")),
            Some(vectors) if vectors.is_empty() => {
                wrong.push(Finding::new(path, 0, "holds no golden vector"))
            }
            Some(_) => {}
        }
        wrong.extend(
            problems
                .into_iter()
                .map(|(line, text)| Finding::new(path, line, text)),
        );
        vectors.unwrap_or_default()
    };
    let stated = read(DOCUMENT, in_document);
    let tested = read(FILE, in_file);
    if stated.is_empty() || tested.is_empty() {
        return wrong;
    }
    for (name, (bytes, line)) in &tested {
        match stated.get(name) {
            None => wrong.push(Finding::new(
                FILE,
                *line,
                format!("{DOCUMENT} does not have the vector {name:?}"),
            )),
            Some((other, at)) if other != bytes => {
                let text = format!("the bytes of {name:?} differ from those at {DOCUMENT}:{at}");
                wrong.push(Finding::new(FILE, *line, text));
            }
            Some(_) => {}
        }
    }
    for (name, (_, line)) in stated.iter().filter(|(name, _)| !tested.contains_key(*name)) {
        wrong.push(Finding::new(
            DOCUMENT,
            *line,
            format!("{FILE} does not have the vector {name:?}"),
        ));
    }
    wrong
}

/// The rows of the appendix, but for the head of the table.
fn in_document(text: &str, problems: &mut Vec<(usize, String)>) -> Vectors {
    let mut found = Vectors::new();
    let appendix = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| !line.starts_with(APPENDIX))
        .skip(1);
    for (at, line) in appendix.take_while(|(_, line)| !line.starts_with("## ")) {
        let Some(row) = line.trim().strip_prefix('|') else {
            continue;
        };
        let (name, bytes) = row.split_once('|').unwrap_or((row, ""));
        let head = name.trim() == "name" || name.trim_matches(['-', ':', ' ']).is_empty();
        if !head {
            insert(
                &mut found,
                name,
                bytes.trim_end().trim_end_matches('|'),
                at + 1,
                problems,
            );
        }
    }
    found
}

fn in_file(text: &str, problems: &mut Vec<(usize, String)>) -> Vectors {
    let mut found = Vectors::new();
    for (at, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let mut columns = line.splitn(3, '|');
        let (name, bytes) = (
            columns.next().unwrap_or_default(),
            columns.next().unwrap_or_default(),
        );
        insert(&mut found, name, bytes, at + 1, problems);
    }
    found
}

fn insert(found: &mut Vectors, name: &str, bytes: &str, line: usize, problems: &mut Vec<(usize, String)>) {
    let bare = |text: &str| text.trim().trim_matches('`').to_owned();
    let (name, bytes) = (bare(name), bare(bytes));
    match hex(&bytes) {
        Some(bytes) if is_name(&name) => {
            if found.insert(name.clone(), (bytes, line)).is_some() {
                problems.push((
                    line,
                    format!("the vector {name:?} stands here for the second time"),
                ));
            }
        }
        _ => problems.push((line, format!("no vector: {name:?} with the bytes {bytes:?}"))),
    }
}

/// As in `hello_client`.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Lower-case digits without blanks, if the text is whole bytes in hex.
fn hex(text: &str) -> Option<String> {
    let digits: String = text.split_whitespace().collect::<String>().to_ascii_lowercase();
    let whole = !digits.is_empty() && digits.len().is_multiple_of(2);
    (whole && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = "\
# P
| not | 00 |
## Appendix: golden vectors

| name | bytes |
|---|---|
| `end` | `03 92 07 01` |
| ping | 03920c05 |
";

    fn findings(protocol: &str, file: &str) -> Vec<String> {
        check(&Tree::of(&[(DOCUMENT, protocol), (FILE, file)]))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn equal_lists_are_fine_however_they_are_set() {
        let file = "# golden\nend | 03 92 07 01 | end of stream 1 | 2\n\nping | 03 92 0C 05 |\n";
        assert_eq!(findings(PROTOCOL, file), [""; 0]);
    }

    #[test]
    fn other_bytes_and_missing_vectors_are_found_on_both_sides() {
        let file = "end | 03 92 07 02 | x\nstop | 04 93 0a 01 01 | x\n";
        let found = findings(PROTOCOL, file);
        let expected = [
            format!("{FILE}:1: the bytes of \"end\" differ from those at {DOCUMENT}:7"),
            format!("{FILE}:2: {DOCUMENT} does not have the vector \"stop\""),
            format!("{DOCUMENT}:8: {FILE} does not have the vector \"ping\""),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_vector_is_found() {
        let found = findings(
            PROTOCOL,
            "end | 03 92 07 01 | x\nend | 03 92 07 01 | x\nping | 03 9 | x\n00 11\n",
        );
        assert!(
            found[0].contains(":2: the vector \"end\" stands here for the second time"),
            "{found:?}"
        );
        assert!(
            found[1].contains(":3: no vector: \"ping\" with the bytes \"03 9\""),
            "{found:?}"
        );
        assert!(found[2].contains(":4: no vector"), "{found:?}");
    }

    #[test]
    fn an_empty_appendix_does_not_pass_for_agreement() {
        let found = findings("## Appendix: golden vectors\n", "end | 03 92 07 01 | x\n");
        assert_eq!(found, [format!("{DOCUMENT}: holds no golden vector")]);
        assert_eq!(check(&Tree::default()).len(), 2);
    }
}
