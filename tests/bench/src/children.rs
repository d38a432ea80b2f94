//! The processes a run starts: itself again, as server, client or agent.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::job::{Hosted, Hosting, Job, Sample};
use crate::stall::Stalls;

/// The shell raises the number of files a process may have open to what it is allowed to: thousands of connections are
/// measured. Where that fails the process starts anyway, and fails at the connection too many.
const RAISED: &str = "ulimit -S -n \"$(ulimit -H -n)\" 2>/dev/null; exec \"$@\"";

/// A process that serves until this is dropped.
#[derive(Debug)]
pub struct Served<T> {
    /// What it said when it was ready.
    pub ready: T,
    child: Child,
    /// It ends when this is closed.
    _stdin: Option<ChildStdin>,
}

impl<T> Drop for Served<T> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a server.
///
/// # Errors
///
/// When it does not start.
pub fn server(hosting: &Hosting, before: &[String]) -> Result<Served<Hosted>> {
    serving("server", hosting, before)
}

/// Starts a stand-in for a Consul agent; it says its address.
///
/// # Errors
///
/// When it does not start.
pub fn agent() -> Result<Served<String>> {
    serving("agent", &(), &[])
}

/// Watches for so many milliseconds how often the machine stands still.
///
/// # Errors
///
/// When that does not start.
pub fn stalls(millis: u64, before: &[String]) -> Result<Stalls> {
    let output = command("stalls", &millis, before)?
        .stdin(Stdio::null())
        .output()
        .context("cannot watch for stalls")?;
    serde_json::from_slice(&output.stdout).context("nothing is known of stalls")
}

/// Runs a client to its end.
///
/// # Errors
///
/// What it says.
pub fn client(job: &Job, before: &[String]) -> Result<Sample> {
    let output = command("client", job, before)?
        .stdin(Stdio::null())
        .output()
        .context("cannot start a client")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!(
            "the client of {} failed ({}): {}",
            job.peer,
            output.status,
            said.trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("the client gave no result")
}

fn serving<T: DeserializeOwned>(role: &str, job: &impl Serialize, before: &[String]) -> Result<Served<T>> {
    let mut child = command(role, job, before)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start the {role}"))?;
    let stdin = child.stdin.take();
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match serde_json::from_str(&line) {
        Ok(ready) => Ok(Served {
            ready,
            child,
            _stdin: stdin,
        }),
        Err(_) => {
            let _ = child.kill();
            bail!("the {role} ended ({}) before it was ready", child.wait()?)
        }
    }
}

fn command(role: &str, job: &impl Serialize, before: &[String]) -> Result<Command> {
    let mut command = Command::new("sh");
    command.args(["-c", RAISED, "sh"]).args(before);
    command.arg(std::env::current_exe()?).arg(role);
    command.arg(serde_json::to_string(job)?);
    Ok(command)
}
