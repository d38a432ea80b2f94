//! The keeper: the parent of a Consul agent, which ends it when the pipe to the one who asked for it closes.
//!
//! It says `pid <number>` on its output once the agent runs, and `ended: <how>` if that ends by itself. It reads lines
//! from its input: `group <number>` names a group of processes to end as well, `group none` takes that back. The end of
//! the input is the order to clean up.

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{self, Victim};

/// The first word of the keeper's command line.
pub(crate) const KEEPER: &str = "keep-agent";

/// How often the keeper looks whether its child has ended: a test that kills the agent must not find it a zombie long.
const LOOK: Duration = Duration::from_millis(20);

/// The keeper's whole life: `keep-agent <pid file> <log> <binary> <arguments…>`.
pub(crate) fn keep(words: &[String]) -> ExitCode {
    let [pid_file, log, binary, arguments @ ..] = words else {
        eprintln!("{KEEPER} is for this program's own use");
        return ExitCode::from(2);
    };
    let pid_file = PathBuf::from(pid_file);
    let child = match start(Path::new(log), Path::new(binary), arguments) {
        Ok(child) => child,
        Err(error) => {
            say(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    say(&format!("pid {}", child.id()));
    let group = watch(child);
    // The tests first, so that nobody starts another agent behind our back.
    if let Some(group) = group {
        process::kill(Victim::Group(group));
    }
    sweep(&pid_file);
    ExitCode::SUCCESS
}

fn start(log: &Path, binary: &Path, arguments: &[String]) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .context("cannot write the agent's log")?;
    Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))
}

/// Tells whoever started us. Nobody may be there to hear it; then the input has ended too.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

/// Waits for the end of the input, then ends the child. Returns the group to end, if one was named last.
fn watch(mut child: Child) -> Option<u32> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let (mut group, mut ended) = (None, false);
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => {
                if let Some(name) = line.strip_prefix("group ") {
                    group = name.parse().ok();
                }
            }
            Err(RecvTimeoutError::Timeout) if !ended => {
                if let Ok(Some(status)) = child.try_wait() {
                    say(&format!("ended: {status}"));
                    ended = true;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    group
}

/// Ends every agent that was started with this pid file, by us or by a test, and removes the file.
pub(super) fn sweep(pid_file: &Path) {
    let mark = pid_file.to_string_lossy();
    for pid in process::with_argument(&mark) {
        process::kill(Victim::Process(pid));
    }
    let _ = std::fs::remove_file(pid_file);
}
