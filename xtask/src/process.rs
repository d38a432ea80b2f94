//! Other programs: running one to its end and reading it, ending one by its number, finding those that an agent left.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};

/// Runs a program to its end and returns what it wrote; an exit code other than 0 is an error with both streams in it.
pub(crate) fn read(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = run(command)?;
    if !output.status.success() {
        bail!("{name} failed ({}):\n{}", output.status, indented(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, with nothing on its standard input.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))
}

/// Everything a program wrote, for an error message.
pub(crate) fn indented(output: &Output) -> String {
    let mut text = String::new();
    for stream in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(stream).lines() {
            text.push_str("    ");
            text.push_str(line);
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// A process, or every process of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Process(u32),
    Group(u32),
}

/// Ends processes at once (SIGKILL). That there is none any more is no error.
pub(crate) fn kill(victim: Victim) {
    let target = match victim {
        Victim::Process(pid) => pid.to_string(),
        Victim::Group(group) => format!("-{group}"),
    };
    // The standard library signals its own children only, and a small container has no kill(1); the shell's own does.
    let _ = Command::new("sh")
        .args(["-c", "kill -s KILL -- \"$1\"", "sh", &target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// The processes that carry this very text as an argument of their own (the path of a pid file, say), ourselves left out.
pub(crate) fn with_argument(argument: &str) -> Vec<u32> {
    let own = std::process::id();
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return with_argument_by_ps(argument, own);
    };
    for entry in entries.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if pid != own && line.split(|&b| b == 0).any(|word| word == argument.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// The same where there is no `/proc`.
fn with_argument_by_ps(argument: &str, own: u32) -> Vec<u32> {
    let Ok(list) = read(Command::new("ps").args(["-axo", "pid=,command="])) else {
        return Vec::new();
    };
    list.lines()
        .filter_map(|line| line.trim_start().split_once(' '))
        .filter(|(_, command)| command.split(' ').any(|word| word == argument))
        .filter_map(|(pid, _)| pid.parse().ok())
        .filter(|&pid| pid != own)
        .collect()
}

/// The first file of that name on `PATH` that may be executed.
pub(crate) fn on_path(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

pub(crate) fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    /// A process shows its arguments a moment after it has been started.
    fn await_ready(child: &mut std::process::Child) {
        let mut line = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        assert_eq!(&line, b"ready\n");
    }

    #[test]
    fn a_failing_program_is_reported_with_what_it_wrote() {
        let error = read(Command::new("sh").args(["-c", "echo said; echo cried >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sh failed") && text.contains("    said") && text.contains("    cried"),
            "{text}"
        );
    }

    #[test]
    fn a_process_is_found_by_its_own_argument_and_ended_by_its_number() {
        let mark = format!("xtask-mark-{}", std::process::id());
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line", &mark])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        await_ready(&mut child);
        assert_eq!(with_argument(&mark), [child.id()]);
        kill(Victim::Process(child.id()));
        assert!(!child.wait().unwrap().success());
        assert_eq!(with_argument(&mark), [0_u32; 0]);
    }

    #[test]
    fn ending_a_group_ends_the_grandchildren_too() {
        let mark = format!("xtask-group-mark-{}", std::process::id());
        let script = "exec 3<&0; sh -c 'echo ready; read line <&3' \"$0\" & wait";
        let mut child = Command::new("sh")
            .args(["-c", script, &mark])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        await_ready(&mut child);
        assert_eq!(with_argument(&mark).len(), 2);
        kill(Victim::Group(child.id()));
        child.wait().unwrap();
        // The grandchild is no child of ours: its end is awaited through the pipe it holds.
        let mut rest = Vec::new();
        std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut rest).unwrap();
        assert_eq!(with_argument(&mark), [0_u32; 0]);
    }

    #[test]
    fn ending_nobody_is_no_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        kill(Victim::Process(child.id()));
    }
}
