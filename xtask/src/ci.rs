//! `cargo xtask ci`: everything a change must pass, step by step, with the time each step took.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;

use crate::args::{Args, UsageError};
use crate::outcome::{self, Outcome, Verdict};
use crate::stopwatch::{Spoken, Stopwatch};
use crate::workspace;

pub(crate) const HELP: &str = "\
Runs everything a change must pass and sums it up. All steps run, also behind one that failed.

Usage: cargo xtask ci [--only STEPS] [--skip STEPS] [--fail-fast] [--json] [--list]

  --only STEPS   run only these (separated by commas)
  --skip STEPS   run all but these
  --fail-fast    end with the first step that fails
  --json         put the summary on standard output as JSON, all else on standard error
  --list         print the steps and what they run

Without a consul, and no way to get one, the step `integration` fails; PICOM_CI_WITHOUT_CONSUL=1 makes it a skipped
step instead, which shows in the summary.
";

/// Allows a run on a machine that cannot have a consul.
const WITHOUT_CONSUL: &str = "PICOM_CI_WITHOUT_CONSUL";

/// One step: a name and the words behind `cargo`.
struct Step {
    name: &'static str,
    words: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// Cheapest first. Warnings are made errors by options of clippy and rustdoc, never by `RUSTFLAGS`: another set of
/// those would build all dependencies once more.
const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        words: &["fmt", "--all", "--", "--check"],
        environment: &[],
    },
    Step {
        name: "tidy",
        words: &["xtask", "tidy"],
        environment: &[],
    },
    Step {
        name: "clippy",
        words: &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--features",
            "picom-e2e/consul,picom-e2e/slow,picom-e2e/cluster",
            "--",
            "-D",
            "warnings",
        ],
        environment: &[],
    },
    // Who uses discovery alone has none of the features the workspace turns on for its own tests.
    Step {
        name: "discovery",
        words: &["check", "--package", "picom-discovery"],
        environment: &[],
    },
    Step {
        name: "discovery-dev-agent",
        words: &["check", "--package", "picom-discovery", "--features", "dev-agent"],
        environment: &[],
    },
    Step {
        name: "discovery-dns",
        words: &["check", "--package", "picom-discovery", "--features", "dns"],
        environment: &[],
    },
    Step {
        name: "discovery-mock",
        words: &["check", "--package", "picom-discovery", "--features", "mock"],
        environment: &[],
    },
    Step {
        name: "discovery-tls",
        words: &["check", "--package", "picom-discovery", "--features", "tls"],
        environment: &[],
    },
    Step {
        name: "test",
        words: &["test", "--workspace"],
        environment: &[],
    },
    Step {
        name: "doc",
        words: &["doc", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-Dwarnings")],
    },
    // A workspace of its own, which nothing above looks at: what is measured seldom is to compile nevertheless.
    Step {
        name: "bench",
        words: &[
            "clippy",
            "--manifest-path",
            "tests/bench/Cargo.toml",
            "--locked",
            "--all-targets",
            "--target-dir",
            "target/bench-build",
            "--",
            "-D",
            "warnings",
        ],
        environment: &[],
    },
    Step {
        name: "integration",
        words: &["xtask", "integration"],
        environment: &[],
    },
];

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let (as_json, fail_fast, list) = (args.flag("--json"), args.flag("--fail-fast"), args.flag("--list"));
    let (only, skip) = (args.list("--only")?, args.list("--skip")?);
    args.finish_empty()?;
    if let Some(unknown) = only
        .iter()
        .chain(&skip)
        .find(|name| STEPS.iter().all(|step| step.name != *name))
    {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(UsageError::new(format!(
            "there is no step {unknown:?}; the steps are {}",
            known.join(", ")
        ))
        .into());
    }
    let chosen = |step: &&Step| {
        let name = step.name.to_owned();
        (only.is_empty() || only.contains(&name)) && !skip.contains(&name)
    };
    let steps: Vec<&Step> = STEPS.iter().filter(chosen).collect();
    if list {
        for step in steps {
            println!("{:<19} {}", step.name, step.line());
        }
        return Ok(ExitCode::SUCCESS);
    }

    let mut outcomes = Vec::new();
    for step in steps {
        let outcome = step.run(as_json)?;
        let failed = outcome.verdict == Verdict::Failed;
        outcomes.push(outcome);
        if failed && fail_fast {
            break;
        }
    }
    if as_json {
        println!("{}", outcome::to_json(&outcomes));
        eprint!("\nSummary\n{}", outcome::table(&outcomes));
    } else {
        print!("\nSummary\n{}", outcome::table(&outcomes));
    }
    Ok(if outcome::all_well(&outcomes) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Step {
    fn run(&self, as_json: bool) -> anyhow::Result<Outcome> {
        let clock = Stopwatch::start();
        eprintln!("\n== {}: {}", self.name, self.line());
        let done = |verdict, note: &str| {
            Ok(Outcome {
                name: self.name.to_owned(),
                verdict,
                took: clock.elapsed(),
                note: note.to_owned(),
            })
        };
        let may_skip =
            self.name == "integration" && std::env::var(WITHOUT_CONSUL).is_ok_and(|value| value == "1");
        if may_skip && let Err(error) = crate::consul::find(&crate::consul::Archive::default()) {
            eprintln!("{error:#}");
            return done(Verdict::Skipped, "NO CONSUL: nothing was run against a real one");
        }
        let mut command = self.command()?;
        command
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null());
        if as_json {
            command.stdout(std::io::stderr());
        }
        let status = command
            .status()
            .with_context(|| format!("cannot run {}", self.line()))?;
        eprintln!("== {} took {}", self.name, Spoken(clock.elapsed()));
        if status.success() {
            done(Verdict::Passed, "")
        } else {
            done(Verdict::Failed, &status.to_string())
        }
    }

    /// Our own commands run from this very program, without asking cargo to build it again.
    fn command(&self) -> anyhow::Result<Command> {
        Ok(match self.words {
            ["xtask", rest @ ..] => {
                let mut own =
                    Command::new(std::env::current_exe().context("cannot find this program's own file")?);
                own.args(rest).current_dir(workspace::root());
                own
            }
            words => {
                let mut cargo = workspace::cargo();
                cargo.args(words);
                cargo
            }
        })
    }

    /// As one would type it.
    fn line(&self) -> String {
        let mut line: String = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        line.push_str("cargo ");
        line.push_str(&self.words.join(" "));
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_read_as_one_would_type_them() {
        let lines: Vec<String> = STEPS.iter().map(Step::line).collect();
        assert!(
            lines.contains(&"cargo test --workspace".to_owned()),
            "README's command, to the letter"
        );
        assert!(lines.contains(&"RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps".to_owned()));
    }

    #[test]
    fn an_unknown_step_is_refused_with_the_known_ones() {
        let error = run(Args::new(vec!["--only=tests".to_owned()]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "there is no step \"tests\"; the steps are fmt, tidy, clippy, discovery, discovery-dev-agent, discovery-dns, \
             discovery-mock, discovery-tls, test, doc, bench, integration"
        );
    }
}
