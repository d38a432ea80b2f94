//! `cargo xtask fuzz`: the fuzz targets under cargo-fuzz, on the stable toolchain.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::args::{Args, UsageError};
use crate::outcome::{self, Outcome, Verdict};
use crate::stopwatch::Stopwatch;
use crate::{process, workspace};

pub(crate) const HELP: &str = "\
Runs fuzz targets on the stable toolchain (no sanitizer: there is no unsafe code for one to watch).

Usage: cargo xtask fuzz [target...] [--seconds N] [--install] [--list [--json]] [-- libFuzzer options]

  target        which to run; all of them, one after the other, if none is named
  --seconds N   how long each target runs (default 60)
  --install     install cargo-fuzz first if it is missing
  --list        print the targets
  -- options    handed to libFuzzer, for example -- -max_len=4096 or a file to run once

Needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and a C++ compiler. New inputs go to target/fuzz-corpus/<target>;
the seeds under tests/fuzz/corpus/<target> are read and left as they are. What fails is kept in
tests/fuzz/targets/artifacts/<target>.
";

const PACKAGE: &str = "tests/fuzz/targets";
const SEEDS: &str = "tests/fuzz/corpus";
const SECONDS: u64 = 60;

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let (list, as_json, install) = (args.flag("--list"), args.flag("--json"), args.flag("--install"));
    let seconds = args.number("--seconds")?.unwrap_or(SECONDS);
    if seconds == 0 {
        return Err(
            UsageError::new("--seconds wants at least 1: libFuzzer takes 0 for \"without end\"").into(),
        );
    }
    let rest = args.finish()?;
    let known = targets(&workspace::root().join(PACKAGE))?;
    if list {
        if as_json {
            println!("{}", json!(known));
        } else {
            known.iter().for_each(|name| println!("{name}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = rest.words.iter().find(|word| !known.contains(word)) {
        let text = format!(
            "there is no fuzz target {unknown:?}; there are {}",
            known.join(", ")
        );
        return Err(UsageError::new(text).into());
    }
    ensure_cargo_fuzz(install)?;
    let chosen = if rest.words.is_empty() { known } else { rest.words };
    let mut outcomes = Vec::new();
    for target in chosen {
        let clock = Stopwatch::start();
        eprintln!("\n== fuzzing {target} for {seconds} s");
        let status = command(&target, seconds, &rest.beyond)?
            .status()
            .context("cannot run cargo fuzz")?;
        let (verdict, note) = match status.success() {
            true => (Verdict::Passed, String::new()),
            false => (
                Verdict::Failed,
                format!("{status}; see {PACKAGE}/artifacts/{target}"),
            ),
        };
        outcomes.push(Outcome {
            name: target,
            verdict,
            took: clock.elapsed(),
            note,
        });
    }
    print!("\nFuzzing\n{}", outcome::table(&outcomes));
    Ok(if outcome::all_well(&outcomes) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The targets are the programs of the excluded package; its manifest says which.
fn targets(package: &Path) -> anyhow::Result<Vec<String>> {
    if !package.join("Cargo.toml").is_file() {
        bail!("there are no fuzz targets yet: {PACKAGE}/Cargo.toml does not exist");
    }
    let output = process::read(
        workspace::cargo()
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--manifest-path",
            ])
            .arg(package.join("Cargo.toml")),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_str(&output).context("cargo metadata did not answer with JSON")?;
    let mut names = Vec::new();
    for target in metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|p| p["targets"].as_array())
        .flatten()
    {
        if target["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.contains(&json!("bin")))
        {
            names.extend(target["name"].as_str().map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

fn command(target: &str, seconds: u64, options: &[String]) -> anyhow::Result<Command> {
    let is_input = |option: &String| !option.starts_with('-');
    let mut command = workspace::cargo();
    command.args([
        "fuzz",
        "run",
        "--fuzz-dir",
        PACKAGE,
        "--sanitizer",
        "none",
        target,
    ]);
    if !options.iter().any(is_input) {
        // libFuzzer writes into the first directory and only reads the others.
        let found = workspace::target_dir()?.join("fuzz-corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        command.arg(found);
        command.args(Some(workspace::root().join(SEEDS).join(target)).filter(|seeds| seeds.is_dir()));
    }
    command.args(options.iter().filter(|option| is_input(option)));
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    command
        .args(options.iter().filter(|option| !is_input(option)))
        .stdin(Stdio::null());
    Ok(command)
}

fn ensure_cargo_fuzz(install: bool) -> anyhow::Result<()> {
    if process::run(workspace::cargo().args(["fuzz", "--version"]))
        .is_ok_and(|output| output.status.success())
    {
        return Ok(());
    }
    if !install {
        bail!(
            "cargo-fuzz is missing: run `cargo install cargo-fuzz --locked`, or this command with --install"
        );
    }
    eprintln!("installing cargo-fuzz");
    let status = workspace::cargo()
        .args(["install", "cargo-fuzz", "--locked"])
        .stdin(Stdio::null())
        .status()?;
    if !status.success() {
        bail!("cargo install cargo-fuzz failed ({status})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_targets_it_says_so() {
        let error = targets(Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }

    #[test]
    fn files_given_to_run_once_take_the_place_of_the_corpus() {
        let options = ["crash-1".to_owned(), "-runs=1".to_owned()];
        let command = command("frames", 5, &options).unwrap();
        let words: Vec<String> = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let tail = ["frames", "crash-1", "--", "-max_total_time=5", "-runs=1"];
        assert!(words.ends_with(&tail.map(str::to_owned)), "{words:?}");
    }
}
