//! The times that tests have seen of faults, and the table of them. Who measures stands in tests/e2e.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// What was seen of one fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    fault: String,
    /// Name and number, in the order of the columns.
    seen: Vec<(String, Value)>,
}

/// The lines of the file; without a file there are none, and what is no line is passed over.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(Line::parse).collect()
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let pairs = value.get("seen")?.as_array()?.iter();
        let pair = |pair: &Value| Some((pair.get(0)?.as_str()?.to_owned(), pair.get(1)?.clone()));
        Some(Self {
            fault: value.get("fault")?.as_str()?.to_owned(),
            seen: pairs.filter_map(pair).collect(),
        })
    }

    fn get(&self, column: &str) -> Option<&Value> {
        let found = self.seen.iter().find(|(name, _)| name == column);
        found.map(|(_, value)| value)
    }
}

/// The table, a line for each fault; what one of them has not is a dash.
pub(crate) fn table(lines: &[Line]) -> String {
    // The longest line has all the columns there are, in their order.
    let longest = lines.iter().max_by_key(|line| line.seen.len());
    let columns: Vec<&str> = longest
        .into_iter()
        .flat_map(|line| line.seen.iter().map(|(name, _)| name.as_str()))
        .collect();
    let mut rows = vec![vec!["fault".to_owned()]];
    rows.extend(lines.iter().map(|line| vec![line.fault.clone()]));
    for column in columns {
        let mut cells = rows.iter_mut();
        if let Some(head) = cells.next() {
            head.push(column.to_owned());
        }
        for (row, line) in cells.zip(lines) {
            row.push(line.get(column).map_or_else(|| "–".to_owned(), spoken));
        }
    }
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            text.push_str("  ");
            match column {
                0 => text.push_str(&format!("{cell:<width$}")),
                _ => text.push_str(&format!("{cell:>width$}")),
            }
        }
        text.push('\n');
    }
    text
}

/// The same for machines.
pub(crate) fn to_json(lines: &[Line]) -> Value {
    let line = |line: &Line| {
        let mut made = Map::from_iter(line.seen.clone());
        made.insert("fault".to_owned(), json!(line.fault));
        Value::Object(made)
    };
    lines.iter().map(line).collect()
}

/// Spans have three places, counts none.
fn spoken(value: &Value) -> String {
    match value.as_u64() {
        Some(count) => count.to_string(),
        None => value
            .as_f64()
            .map_or_else(|| value.to_string(), |span| format!("{span:.3}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_fault_and_a_dash_for_what_is_missing() {
        let lines = [
            r#"{"fault": "leader killed", "seen": [["stale", 0.01], ["elected", 2.5], ["failed", 0]]}"#,
            r#"{"fault": "quorum lost", "seen": [["elected", 12.125], ["failed", 0]]}"#,
        ];
        let lines: Vec<Line> = lines.into_iter().filter_map(Line::parse).collect();
        let expected = [
            "  fault          stale  elected  failed\n",
            "  leader killed  0.010    2.500       0\n",
            "  quorum lost        –   12.125       0\n",
        ];
        assert_eq!(table(&lines), expected.concat());
        assert_eq!(
            to_json(&lines)[1],
            json!({"fault": "quorum lost", "elected": 12.125, "failed": 0})
        );
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        assert_eq!(Line::parse("half a li"), None);
        assert_eq!(Line::parse("{}"), None);
        assert!(read(Path::new("/no/such/file")).is_empty());
    }
}
