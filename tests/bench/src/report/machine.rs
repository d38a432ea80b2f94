//! Where, when and with what a run was measured.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::clock;
use crate::command_line::Options;
use crate::job::Workers;
use crate::pinning::Pinning;

/// The versions that were measured are those this program was built with.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Whose versions matter.
const PACKAGES: &[&str] = &[
    "picom-transport",
    "tonic",
    "prost",
    "tarpc",
    "tokio",
    "hyper",
    "h2",
    "serde",
    "rmp-serde",
];

/// The circumstances.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) command: String,
    pub(super) revision: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_gib: f64,
    pub(super) system: String,
    pub(super) compiler: String,
    pub(super) pinning: String,
    pub(super) runtime: &'static str,
    pub(super) warning: Option<String>,
    pub(super) rounds: usize,
    pub(super) warm_up_ms: u64,
    pub(super) measure_ms: u64,
    pub(super) versions: Vec<(&'static str, String)>,
}

impl Machine {
    pub(super) fn look(options: &Options, pinning: &Pinning) -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        Machine {
            date: clock::date(),
            command: format!("picom-bench run {}", options.words.join(" "))
                .trim_end()
                .to_owned(),
            revision: revision(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: memory(&read("/proc/meminfo")),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease").trim()
            ),
            compiler: said(Command::new("rustc").arg("--version")).unwrap_or_else(|| "unknown".to_owned()),
            pinning: pinning.describe(),
            runtime: match options.one_worker {
                Workers::CurrentThread => "One current-thread runtime a side",
                Workers::Threads(_) => "One multi-thread runtime with one worker a side",
            },
            warning: pinning.warning.clone(),
            rounds: options.rounds,
            warm_up_ms: options.warm_up_ms,
            measure_ms: options.measure_ms,
            versions: PACKAGES
                .iter()
                .filter_map(|name| Some((*name, version(LOCK, name)?)))
                .collect(),
        }
    }
}

fn revision() -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut git = Command::new("git");
    git.arg("-C").arg(here).args(["describe", "--always", "--dirty"]);
    said(&mut git).unwrap_or_else(|| "unknown".to_owned())
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn field(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory(meminfo: &str) -> f64 {
    let total = field(meminfo, "MemTotal").unwrap_or_default();
    let kib: f64 = total
        .split_whitespace()
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0);
    (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0
}

fn version(lock: &str, package: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    Some(after.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"tonic\"\nversion = \"1.2.3\"\n";
        assert_eq!(version(lock, "tonic").as_deref(), Some("1.2.3"));
        assert_eq!(version(lock, "ton"), None);
        for package in PACKAGES {
            assert!(version(LOCK, package).is_some(), "{package}");
        }
    }

    #[test]
    fn fields_are_found_by_their_beginning() {
        assert_eq!(
            field("x : 1\nmodel name\t: A B\n", "model name").as_deref(),
            Some("A B")
        );
        assert_eq!(memory("MemTotal:       1048576 kB\n"), 1.0);
    }
}
