//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy can see. Each rule is a function
//! from the tree to findings, in a file of its own; what they read, and how, stands in [`tree`] and [`source`].

mod arrows;
mod citations;
mod dependencies;
mod files;
mod links;
mod lints;
mod marks;
mod packages;
mod purity;
mod source;
mod top_level;
mod tree;
mod vectors;

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::{Args, UsageError};
use crate::workspace;
use tree::Tree;

pub(crate) const HELP: &str = "\
Checks the rules of the house that neither the compiler nor clippy can see. It prints all that is wrong, with file,
line and reason, and changes nothing.

Usage: cargo xtask tidy [--only RULES] [--json] [--list]

  --only RULES   check only these rules (separated by commas)
  --json         print the findings as a JSON array
  --list         print the rules
";

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// From the root of the workspace.
    file: String,
    /// From 1; 0 where the file as a whole is meant.
    line: usize,
    /// What is wrong and why that matters.
    text: String,
}

impl Finding {
    fn new(file: impl Into<String>, line: usize, text: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.text),
            line => write!(f, "{}:{line}: {}", self.file, self.text),
        }
    }
}

/// A rule: its name, what it demands, and the check.
struct Rule {
    name: &'static str,
    demands: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

const RULES: &[Rule] = &[
    Rule {
        name: "arrows",
        demands: "crates depend on each other only as ARCHITECTURE.md draws it",
        check: arrows::check,
    },
    Rule {
        name: "purity",
        demands: "the mux names no runtime, socket, thread, clock or dice",
        check: purity::check,
    },
    Rule {
        name: "vectors",
        demands: "PROTOCOL.md and the codec's tests hold the same golden vectors",
        check: vectors::check,
    },
    Rule {
        name: "citations",
        demands: "every rule of PROTOCOL.md that is cited exists",
        check: citations::check,
    },
    Rule {
        name: "files",
        demands: "files are short, say what they hold, and are named after it",
        check: files::check,
    },
    Rule {
        name: "marks",
        demands: "no unfinished code, and no silenced lint or test without a reason",
        check: marks::check,
    },
    Rule {
        name: "top-level",
        demands: "the top level is the crates and the usual documents",
        check: top_level::check,
    },
    Rule {
        name: "dependencies",
        demands: "each crate uses what it may use, and nothing in vain",
        check: dependencies::check,
    },
    Rule {
        name: "lints",
        demands: "every member inherits the workspace's lints",
        check: lints::check,
    },
    Rule {
        name: "links",
        demands: "links between documents lead somewhere",
        check: links::check,
    },
];

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let (as_json, list) = (args.flag("--json"), args.flag("--list"));
    let only = args.list("--only")?;
    args.finish_empty()?;
    if let Some(unknown) = only
        .iter()
        .find(|name| RULES.iter().all(|rule| rule.name != *name))
    {
        return Err(UsageError::new(format!("there is no rule {unknown:?} (see --list)")).into());
    }
    let rules: Vec<&Rule> = RULES
        .iter()
        .filter(|rule| only.is_empty() || only.iter().any(|name| rule.name == name))
        .collect();
    if list {
        rules
            .iter()
            .for_each(|rule| println!("{:<13} {}", rule.name, rule.demands));
        return Ok(ExitCode::SUCCESS);
    }

    let tree = Tree::read(&workspace::root(), &workspace::metadata()?)?;
    let mut wrong: Vec<(&str, Finding)> = Vec::new();
    for rule in &rules {
        wrong.extend(
            (rule.check)(&tree)
                .into_iter()
                .map(|finding| (rule.name, finding)),
        );
    }
    if as_json {
        println!(
            "{}",
            Value::Array(
                wrong
                    .iter()
                    .map(|(rule, finding)| to_json(rule, finding))
                    .collect()
            )
        );
    } else {
        wrong
            .iter()
            .for_each(|(rule, finding)| println!("{finding} [{rule}]"));
    }
    if wrong.is_empty() {
        eprintln!("tidy: {} rules hold", rules.len());
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("tidy: {} findings", wrong.len());
    Ok(ExitCode::FAILURE)
}

fn to_json(rule: &str, finding: &Finding) -> Value {
    json!({ "rule": rule, "file": finding.file, "line": finding.line, "text": finding.text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        assert_eq!(Finding::new("a/b.rs", 7, "wrong").to_string(), "a/b.rs:7: wrong");
        assert_eq!(Finding::new("a/b.rs", 0, "wrong").to_string(), "a/b.rs: wrong");
    }

    #[test]
    fn the_names_of_rules_are_distinct() {
        let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
