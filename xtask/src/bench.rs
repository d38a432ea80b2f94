//! `cargo xtask bench`: builds the benchmarks, a workspace of their own under tests/bench, and runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::args::{Args, UsageError};
use crate::workspace;

pub(crate) const HELP: &str = "\
Measures picom beside tonic, tarpc and bare sockets: interleaved rounds, server and client as two processes pinned to a
core each (taskset, of util-linux), medians and ratios of one run. The first build takes minutes: it has the peers in it.

Usage: cargo xtask bench [options]
       cargo xtask bench load [-- options]    a second load generator, for checking ratios
       cargo xtask bench micro [-- options]   criterion: codec, values, multiplexer, balancer

  --quick         three short rounds of everything: under ten minutes
  --only a,b      these cells, groups of cells (add, echo1k, open) and peers; both kinds may stand in one list
  --rounds N      so many rounds (default 7; quick 3)
  --seconds S     so long is measured in each (default 2; quick 0.7)
  --thread        the one worker is a thread of tokio's multi-thread runtime; else its current-thread runtime
  --cold-build    also how long `cargo build` takes from nothing, for picom and for tonic
  --json          print the JSON instead of the Markdown
  --list          print the cells and the peers

report.md, results.json, throughput.svg and latency.svg go to target/bench.
";

const PACKAGE: &str = "tests/bench";

/// Beside the workspace's own, because the benchmarks are built with another profile.
const TARGET: &str = "bench-build";

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let mut passed_on = Vec::new();
    for flag in ["--quick", "--thread", "--cold-build", "--json", "--list"] {
        if args.flag(flag) {
            passed_on.push(flag.to_owned());
        }
    }
    for option in ["--only", "--rounds", "--seconds"] {
        if let Some(value) = args.value(option)? {
            passed_on.extend([option.to_owned(), value]);
        }
    }
    let rest = args.finish()?;
    let words: Vec<&str> = rest.words.iter().map(String::as_str).collect();
    let manifest = workspace::root().join(PACKAGE).join("Cargo.toml");
    let target = workspace::target_dir()?;
    let builds = target.join(TARGET);
    let mut command = match words[..] {
        [] => {
            let mut command = Command::new(built(&manifest, &builds, "picom-bench")?);
            command
                .arg("run")
                .args(passed_on)
                .arg("--out")
                .arg(target.join("bench"));
            command
        }
        ["load"] => Command::new(built(&manifest, &builds, "picom-load")?),
        ["micro"] => {
            let mut command = cargo("bench", &manifest, &builds);
            command.arg("--benches");
            if !rest.beyond.is_empty() {
                command.arg("--");
            }
            command
        }
        _ => return Err(UsageError::new(format!("unexpected argument {:?}", words.join(" "))).into()),
    };
    let status = command
        .args(rest.beyond)
        .status()
        .context("cannot run the benchmarks")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds a program of the package and says where it is.
fn built(manifest: &Path, target: &Path, program: &str) -> anyhow::Result<PathBuf> {
    let mut build = cargo("build", manifest, target);
    build.args(["--release", "--locked", "--bin", program]);
    // What cargo prints while it builds must not stand before a report in JSON.
    let status = build.stdout(Stdio::null()).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("{PACKAGE} does not build");
    }
    Ok(target.join("release").join(program))
}

fn cargo(what: &str, manifest: &Path, target: &Path) -> Command {
    let mut command = workspace::cargo();
    command
        .arg(what)
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target);
    command
}
