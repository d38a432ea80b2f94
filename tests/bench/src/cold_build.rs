//! How long `cargo build` takes from nothing, and how many crates it compiles.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::clock::now;
use crate::peers::Peer;
use crate::proc_fs::children_cpu;

/// One build.
#[derive(Clone, Debug, Serialize)]
pub struct ColdBuild {
    /// Whose.
    pub peer: Peer,
    /// From the beginning to the end, with nothing to download.
    pub seconds: f64,
    /// Processor time of cargo and all compilers, which wanders less.
    pub processor_seconds: f64,
    /// Packages compiled, its own included.
    pub crates: usize,
}

/// Builds `picom`, or tonic with its code generation for one small service (`cold/tonic`), into a directory of its own.
///
/// # Errors
///
/// When it does not build.
pub fn measure(peer: Peer, scratch: &Path) -> Result<ColdBuild> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (manifest, name) = match peer {
        Peer::Picom => (package.join("../../Cargo.toml"), "picom"),
        Peer::Tonic => (package.join("cold/tonic/Cargo.toml"), "cold-tonic"),
        other => bail!("nobody has asked for builds of {other}"),
    };
    let target = scratch.join(format!("cold-{peer}"));
    remove(&target)?;
    let fetched = cargo(&manifest, "fetch").stderr(Stdio::null()).status()?;
    if !fetched.success() {
        bail!("cargo fetch failed");
    }
    let mut build = cargo(&manifest, "build");
    build
        .args(["-p", name, "--offline", "--message-format=json", "--target-dir"])
        .arg(&target);
    let (begun, before) = (now(), children_cpu().unwrap_or_default());
    let output = build.stderr(Stdio::null()).output().context("cannot run cargo")?;
    let seconds = begun.elapsed().as_secs_f64();
    let processor = children_cpu().unwrap_or_default().saturating_sub(before);
    remove(&target)?;
    if !output.status.success() {
        bail!("cargo build -p {name} failed");
    }
    Ok(ColdBuild {
        peer,
        seconds,
        processor_seconds: processor.as_secs_f64(),
        crates: compiled(&String::from_utf8_lossy(&output.stdout)),
    })
}

fn cargo(manifest: &PathBuf, what: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args([what, "--manifest-path"])
        .arg(manifest)
        .stdin(Stdio::null());
    command
}

/// The packages that cargo said it compiled; one with a build script says so twice.
fn compiled(messages: &str) -> usize {
    let mut packages = BTreeSet::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        if message["reason"] == "compiler-artifact" {
            packages.insert(message["package_id"].as_str().unwrap_or_default().to_owned());
        }
    }
    packages.len()
}

fn remove(target: &Path) -> Result<()> {
    match fs::remove_dir_all(target) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::compiled;

    #[test]
    fn a_package_counts_once_however_many_of_its_targets_were_compiled() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"a"}
{"reason":"build-script-executed","package_id":"a"}
{"reason":"compiler-artifact","package_id":"a"}
{"reason":"compiler-artifact","package_id":"b"}
no json"#;
        assert_eq!(compiled(messages), 2);
    }
}
