//! Signals to processes by their number, and what a process is doing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::patience::{eventually, within};

/// The signals tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Asks it to end.
    Terminate,
    /// Halts it where it stands.
    Stop,
    /// Lets it go on.
    Continue,
}

/// Signals reach a process in microseconds, if the machine has a core to spare.
const TAKES_EFFECT: Duration = Duration::from_secs(10);

/// Sends a signal. That the process has ended is no error.
pub fn send(pid: u32, signal: Signal) {
    let name = match signal {
        Signal::Kill => "KILL",
        Signal::Terminate => "TERM",
        Signal::Stop => "STOP",
        Signal::Continue => "CONT",
    };
    // Without unsafe code only a shell can do it; kill(1) is not on every machine, the shell's own is.
    let _ = Command::new("sh")
        .args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", name, &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Halts a process and returns when all of it stands still.
///
/// # Panics
///
/// When that does not happen.
pub async fn stop(pid: u32) {
    send(pid, Signal::Stop);
    within(
        TAKES_EFFECT,
        "the process to stand still",
        eventually(|| state(pid) == Some('T')),
    )
    .await;
}

/// Lets a process go on, and returns when it does.
///
/// # Panics
///
/// When that does not happen.
pub async fn go_on(pid: u32) {
    send(pid, Signal::Continue);
    within(
        TAKES_EFFECT,
        "the process to go on",
        eventually(|| state(pid) != Some('T')),
    )
    .await;
}

/// The state letter of a process; `None` if there is no such process. A zombie is none.
pub fn state(pid: u32) -> Option<char> {
    let letter = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name stands in parentheses and may hold anything, parentheses included.
        Ok(stat) => stat.rsplit_once(") ")?.1.chars().next()?,
        Err(_) if Path::new("/proc/self").exists() => return None,
        // Other systems than Linux have no such file, but a program that says the same.
        Err(_) => {
            let said = Command::new("ps")
                .args(["-o", "state=", "-p", &pid.to_string()])
                .output()
                .ok()?;
            String::from_utf8_lossy(&said.stdout).trim().chars().next()?
        }
    };
    (letter != 'Z').then_some(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_halted_let_go_and_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        stop(pid).await;
        assert_eq!(state(pid), Some('T'));
        go_on(pid).await;
        send(pid, Signal::Kill);
        assert!(!child.wait().unwrap().success());
        assert_eq!(state(pid), None);
    }
}
