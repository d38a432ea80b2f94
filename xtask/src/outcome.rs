//! How the parts of a longer run ended, and the table that says so at its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stopwatch::Spoken;

/// How one part of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed,
    Skipped,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// What else there is to say: counts, or why it was skipped.
    pub(crate) note: String,
}

/// The table, aligned, a line each.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let width = outcomes.iter().map(|o| o.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for o in outcomes {
        let line = format!(
            "  {:<width$}  {:<7}  {:>12}  {}",
            o.name,
            o.verdict.word(),
            Spoken(o.took),
            o.note
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same for machines.
pub(crate) fn to_json(outcomes: &[Outcome]) -> Value {
    let steps: Vec<Value> = outcomes
        .iter()
        .map(|o| {
            json!({
                "name": o.name,
                "result": o.verdict.word().to_lowercase(),
                "seconds": o.took.as_secs_f64(),
                "note": o.note,
            })
        })
        .collect();
    json!({ "ok": all_well(outcomes), "steps": steps })
}

/// Whether nothing failed. A skipped part is no failure, but it shows in the table.
pub(crate) fn all_well(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|o| o.verdict != Verdict::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &str, verdict: Verdict, note: &str) -> Outcome {
        Outcome {
            name: name.to_owned(),
            verdict,
            took: Duration::from_secs(61),
            note: note.to_owned(),
        }
    }

    #[test]
    fn the_table_is_aligned_and_one_failure_fails_all() {
        let outcomes = [
            outcome("fmt", Verdict::Passed, ""),
            outcome("clippy", Verdict::Failed, "see above"),
        ];
        let lines = table(&outcomes);
        let expected = "  fmt     ok         1 min 01 s\n  clippy  FAILED     1 min 01 s  see above\n";
        assert_eq!(lines, expected);
        assert!(!all_well(&outcomes));
        assert!(all_well(&[outcome("integration", Verdict::Skipped, "no consul")]));
        assert_eq!(to_json(&outcomes)["steps"][1]["result"], "failed");
    }
}
