//! `cargo xtask integration`: the end-to-end suite against a real Consul of its own.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::agent::DevAgent;
use crate::args::{Args, UsageError};
use crate::consul::{self, Archive};
use crate::node_peer;
use crate::outcome::{self, Outcome, Verdict};
use crate::process::{self, Victim};
use crate::stopwatch::{Spoken, Stopwatch};
use crate::{times, workspace};

pub(crate) const HELP: &str = "\
Runs the end-to-end suite against a real Consul.

Usage: cargo xtask integration [--slow] [--cluster] [--timeout SECONDS] [--json] [filter...] [-- test options]

It finds a consul (see `cargo xtask consul --help`), starts it as a development server on free loopback ports, runs the
tests of tests/e2e/tests/consul*.rs one after the other, and ends Consul whatever happens: also when it is interrupted
or killed itself. With a `node` on the path it also runs tests/classic-node, against peers on the Node library's codec.

  filter             run only tests whose names contain one of these words
  --slow             also run the tests of slow*.rs, which wait for Consul's long timers
  --cluster          also run the tests of cluster*.rs, which start several servers of their own and take them away;
                     what they have timed is printed as a table
  --timeout SECONDS  give up when a suite takes longer (default 1200)
  --json             put the summary on standard output as JSON, all else on standard error
  -- test options    handed to the test programs, for example -- --nocapture

The tests find the agent in their environment:
  PICOM_TEST_CONSUL           address of its HTTP API, as in 127.0.0.1:20017
  PICOM_TEST_CONSUL_BIN       the consul binary
  PICOM_TEST_CONSUL_ARGS      what it was started with, a JSON array of strings; starting it so again takes the same ports
  PICOM_TEST_CONSUL_PID       the process that was started
  PICOM_TEST_CONSUL_PID_FILE  file with the number of the process that runs now, kept by Consul
  PICOM_TEST_CONSUL_LOG       its log
  PICOM_TEST_TIMES            a file to add times to that belong into the report, a line of JSON for each fault
A test may end the agent by its number and start another one with the same arguments; that one is ended as well.
";

/// The whole suite takes minutes on two cores, its build included; twenty are a hang.
const PATIENCE: Duration = Duration::from_secs(1200);

/// A suite is the test programs whose names begin with its own; they need the feature of that name.
const MAIN_SUITE: &str = "consul";

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let mut suites = vec![MAIN_SUITE];
    suites.extend(
        ["slow", "cluster"]
            .into_iter()
            .filter(|suite| args.flag(&format!("--{suite}"))),
    );
    let as_json = args.flag("--json");
    let patience = args.number("--timeout")?.map_or(PATIENCE, Duration::from_secs);
    if patience.is_zero() {
        return Err(UsageError::new("--timeout wants at least one second").into());
    }
    let rest = args.finish()?;

    // Everything that can be refused is refused before anything is started.
    let metadata = workspace::metadata()?;
    let mut programs: Vec<Vec<String>> = suites
        .iter()
        .map(|suite| test_programs(&metadata, suite))
        .collect::<anyhow::Result<_>>()?;
    let node = node_peer::is_ready(&workspace::root());
    if let Some(main) = programs.first_mut().filter(|_| node) {
        main.extend(node_peer::PROGRAMS.map(str::to_owned));
    }
    let consul = consul::find(&Archive::default())?;
    let runs = workspace::target_dir()?.join("integration");
    forget_ended_runs(&runs);
    let dir = runs.join(format!("run-{}", std::process::id()));
    let clock = Stopwatch::start();
    let mut agent = DevAgent::start(&consul, &dir)?;
    let took = Spoken(clock.elapsed());
    let times = dir.join("times");
    eprintln!(
        "consul {} ({}) is ready at {} after {took}",
        consul.version, consul.source, agent.address
    );

    let mut outcomes = Vec::new();
    for (suite, programs) in suites.iter().zip(programs) {
        let plan = Plan {
            suite,
            programs,
            filters: &rest.words,
            options: &rest.beyond,
            patience,
            as_json,
            node,
            times: &times,
        };
        outcomes.push(plan.run(&mut agent)?);
    }
    drop(agent);
    let well = outcome::all_well(&outcomes);
    let times = times::read(&times);
    if well {
        // Best effort: the log of a run that went well is of no use.
        let _ = std::fs::remove_dir_all(&dir);
    }
    let mut summary = outcome::table(&outcomes);
    if !times.is_empty() {
        summary.push_str("\nTimes seen, in seconds\n");
        summary.push_str(&times::table(&times));
    }
    if as_json {
        let mut answer = outcome::to_json(&outcomes);
        answer["consul"] = json!(consul.version);
        answer["times"] = times::to_json(&times);
        println!("{answer}");
        eprint!("\nIntegration\n{summary}");
    } else {
        print!("\nIntegration with consul {}\n{summary}", consul.version);
    }
    if !well {
        eprintln!("the log of the agent is in {}", dir.display());
    }
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Removes the logs of earlier runs: those whose process is gone. Best effort; they only take room.
fn forget_ended_runs(runs: &Path) {
    for entry in std::fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if pid.is_some_and(|pid| Path::new("/proc/self").exists() && !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The test programs of a suite, from what cargo knows of the package.
fn test_programs(metadata: &Value, suite: &str) -> anyhow::Result<Vec<String>> {
    let packages = metadata.get("packages").and_then(Value::as_array);
    let package = packages
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "picom-e2e");
    let package = package.context("the workspace has no package picom-e2e")?;
    let targets = package
        .get("targets")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let programs: Vec<String> = targets
        .filter(|target| {
            target["kind"]
                .as_array()
                .is_some_and(|kinds| kinds.contains(&json!("test")))
        })
        .filter_map(|target| target["name"].as_str())
        .filter(|name| name.starts_with(suite))
        .map(str::to_owned)
        .collect();
    if programs.is_empty() {
        bail!("the suite {suite:?} is not available yet: tests/e2e/tests has no {suite}*.rs");
    }
    if package["features"].get(suite).is_none() {
        bail!("the suite {suite:?} is not available yet: picom-e2e has no feature {suite:?}");
    }
    Ok(programs)
}

/// One suite, about to run.
struct Plan<'a> {
    suite: &'a str,
    programs: Vec<String>,
    filters: &'a [String],
    options: &'a [String],
    patience: Duration,
    as_json: bool,
    /// The foreign peers are there: a test that cannot use them fails.
    node: bool,
    times: &'a Path,
}

impl Plan<'_> {
    fn run(&self, agent: &mut DevAgent) -> anyhow::Result<Outcome> {
        let clock = Stopwatch::start();
        let mut command = workspace::cargo();
        // The whole workspace is named, though only these programs are built: the features of shared dependencies are
        // then those of `cargo test --workspace`, and nothing is built twice.
        command.args(["test", "--workspace", "--no-fail-fast"]);
        command.args(["--features", &format!("picom-e2e/{}", self.suite)]);
        for program in &self.programs {
            command.args(["--test", program]);
        }
        // They share one agent, so they take turns; and a filter is no reason to leave an ignored test out.
        command
            .args(["--", "--include-ignored", "--test-threads=1"])
            .args(self.options)
            .args(self.filters);
        let mut child = command
            .envs(environment(agent))
            .envs(self.node.then_some(("PICOM_TEST_NODE", "1")))
            .env("PICOM_TEST_TIMES", self.times)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A group of its own can be ended as a whole, services that a test has started included.
            .process_group(0)
            .spawn()
            .context("cannot run cargo test")?;
        let group = child.id();
        let ended = agent
            .end_with_us(group)
            .and_then(|()| self.follow(&mut child, clock));
        process::kill(Victim::Group(group));
        // Should the keeper be gone, there is nobody left to mistake a later group for this one.
        let _ = agent.forget_group();
        let (passed, counts) = ended?;
        let late = clock.elapsed() > self.patience;
        let note = if late {
            format!("ended for taking too long; {counts}")
        } else {
            counts.to_string()
        };
        let verdict = if passed && counts.passed > 0 {
            Verdict::Passed
        } else {
            Verdict::Failed
        };
        Ok(Outcome {
            name: self.suite.to_owned(),
            verdict,
            took: clock.elapsed(),
            note,
        })
    }

    /// Shows what the tests print, counts their results, and waits for their end.
    fn follow(&self, child: &mut Child, clock: Stopwatch) -> anyhow::Result<(bool, Counts)> {
        let output = child.stdout.take().context("cargo test has no output")?;
        let screen: Box<dyn Write + Send> = match self.as_json {
            true => Box::new(std::io::stderr()),
            false => Box::new(std::io::stdout()),
        };
        let reader = std::thread::spawn(move || Counts::of(output, screen));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if clock.elapsed() > self.patience {
                eprintln!(
                    "the suite {:?} took more than {} s and is ended",
                    self.suite,
                    self.patience.as_secs()
                );
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // What a test left running still holds the pipe, and would keep the reader waiting.
        process::kill(Victim::Group(child.id()));
        let _ = child.wait();
        let counts = reader.join().unwrap_or_default();
        Ok((status.is_some_and(|status| status.success()), counts))
    }
}

/// How a test finds the agent.
fn environment(agent: &DevAgent) -> [(&'static str, String); 6] {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    [
        ("PICOM_TEST_CONSUL", agent.address.to_string()),
        ("PICOM_TEST_CONSUL_BIN", text(&agent.binary)),
        ("PICOM_TEST_CONSUL_ARGS", json!(agent.arguments).to_string()),
        ("PICOM_TEST_CONSUL_PID", agent.pid.to_string()),
        ("PICOM_TEST_CONSUL_PID_FILE", text(&agent.pid_file)),
        ("PICOM_TEST_CONSUL_LOG", text(&agent.log)),
    ]
}

/// What the test programs reported, added up.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
}

impl Counts {
    /// Reads to the end and passes everything on as it comes: the name of a test that hangs is half a line.
    fn of(mut output: impl Read, mut screen: impl Write) -> Self {
        let mut counts = Self::default();
        // Bytes, not text: a test may print anything.
        let mut pending = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = output.read(&mut chunk) {
            let fresh = chunk.get(..read).unwrap_or_default();
            let _ = screen.write_all(fresh).and_then(|()| screen.flush());
            pending.extend_from_slice(fresh);
            while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                counts.add(String::from_utf8_lossy(&line).trim_end());
            }
        }
        counts
    }

    fn add(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse::<u64>().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse::<u64>().unwrap_or(0),
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.passed, self.failed) {
            (0, 0) => f.write_str("no test ran"),
            (passed, 0) => write!(f, "{passed} passed"),
            (passed, failed) => write!(
                f,
                "{passed} passed, {failed} failed: {}",
                self.failures.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_of_all_programs_are_added_up() {
        let output = "\
running 2 tests
test watch::sees_a_change ... ok
test lease::is_lost ... FAILED

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 0.01s
";
        let counts = Counts::of(output.as_bytes(), std::io::sink());
        assert_eq!(counts.to_string(), "4 passed, 1 failed: lease::is_lost");
        assert_eq!(Counts::default().to_string(), "no test ran");
    }

    #[test]
    fn a_suite_that_does_not_exist_is_named() {
        let metadata = json!({ "packages": [{
            "name": "picom-e2e",
            "features": { "consul": [] },
            "targets": [
                { "kind": ["test"], "name": "consul_calls" },
                { "kind": ["bin"], "name": "consul_peer" },
                { "kind": ["test"], "name": "slow_reap" },
            ],
        }]});
        assert_eq!(test_programs(&metadata, "consul").unwrap(), ["consul_calls"]);
        let error = test_programs(&metadata, "cluster").unwrap_err().to_string();
        assert_eq!(
            error,
            "the suite \"cluster\" is not available yet: tests/e2e/tests has no cluster*.rs"
        );
        let error = test_programs(&metadata, "slow").unwrap_err().to_string();
        assert_eq!(
            error,
            "the suite \"slow\" is not available yet: picom-e2e has no feature \"slow\""
        );
    }
}
