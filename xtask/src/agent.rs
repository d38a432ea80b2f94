//! A real Consul for one run of a suite: a server of its own on free loopback ports, which cannot outlive this process.
//!
//! Between us and Consul stands a keeper, this program started again with [`KEEPER`]. It is Consul's parent and waits
//! on a pipe that only we can hold open: whether we return, panic, are interrupted or are killed outright, the pipe
//! closes and the keeper ends Consul, whatever a test put in its place, and the tests themselves.

mod keeper;
mod launch;
mod ports;
mod readiness;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::consul::Consul;
use crate::stopwatch::Stopwatch;

pub(crate) use keeper::{KEEPER, keep};

/// A server with nobody to elect but itself is ready in 0.5 to 3 s; a loaded machine may need longer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A port can be taken between our look and Consul's bind; three times in a row is something else.
const ATTEMPTS: u32 = 3;

/// A running agent. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct DevAgent {
    pub(crate) address: SocketAddr,
    /// The process that was started; a test may have put another one in its place since.
    pub(crate) pid: u32,
    /// Consul keeps this file, so it is right after a restart too. Its path is also how we know our agents.
    pub(crate) pid_file: PathBuf,
    pub(crate) log: PathBuf,
    /// What the binary was started with. Anyone who starts it so again takes the same ports.
    pub(crate) arguments: Vec<String>,
    pub(crate) binary: PathBuf,
    keeper: Keeper,
}

#[derive(Debug)]
struct Keeper {
    child: Child,
    /// `None` once we let go.
    pipe: Option<ChildStdin>,
    /// What it says, line by line.
    lines: Receiver<String>,
}

impl DevAgent {
    /// Starts an agent that keeps its files in `dir`, and waits until it has a leader and knows itself.
    pub(crate) fn start(consul: &Consul, dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut attempt = 1;
        loop {
            let agent = Self::spawn(consul, dir)?;
            let clock = Stopwatch::start();
            match agent.await_ready(clock) {
                Ok(()) => return Ok(agent),
                Err(error) => {
                    let log = fs::read_to_string(&agent.log).unwrap_or_default();
                    let taken = log.contains("address already in use");
                    if attempt == ATTEMPTS || !taken {
                        return Err(error.context(format!(
                            "Consul did not come up; its log ends with\n{}",
                            tail(&log)
                        )));
                    }
                    eprintln!("consul: a port was taken meanwhile, trying others");
                }
            }
            attempt += 1;
        }
    }

    fn spawn(consul: &Consul, dir: &Path) -> anyhow::Result<Self> {
        let ports = ports::free()?;
        let pid_file = dir.join(format!("consul-{}.pid", ports.http));
        let log = dir.join(format!("consul-{}.log", ports.http));
        let arguments = launch::arguments(consul, &ports, &pid_file);
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(own)
            .arg(KEEPER)
            .args([&pid_file, &log, &consul.path])
            .args(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own: an interrupt from the terminal ends us, and then it is the keeper's turn.
            .process_group(0)
            .spawn()
            .context("cannot start the keeper of the agent")?;
        let pipe = child.stdin.take();
        let stdout = child.stdout.take().context("the keeper has no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(stdout)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let keeper = Keeper { child, pipe, lines };
        let first = keeper.lines.recv().unwrap_or_default();
        let Some(pid) = first.strip_prefix("pid ").and_then(|number| number.parse().ok()) else {
            bail!("the keeper could not start {}: {first}", consul.path.display());
        };
        let address = SocketAddr::from(([127, 0, 0, 1], ports.http));
        Ok(Self {
            address,
            pid,
            pid_file,
            log,
            arguments,
            binary: consul.path.clone(),
            keeper,
        })
    }

    fn await_ready(&self, clock: Stopwatch) -> anyhow::Result<()> {
        let node = launch::node_name(&self.pid_file);
        loop {
            if let Ok(line) = self.keeper.lines.try_recv() {
                bail!("the agent has {line}");
            }
            match readiness::probe(self.address, &node) {
                Ok(()) => return Ok(()),
                Err(error) if clock.elapsed() > READY_WITHIN => {
                    return Err(error.context(format!("not ready after {} s", READY_WITHIN.as_secs())));
                }
                // Nothing tells us of the change, so we ask again; the answer usually is there within a second.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Has the keeper end this group of processes too, if we end first.
    pub(crate) fn end_with_us(&mut self, group: u32) -> anyhow::Result<()> {
        self.tell(&format!("group {group}\n"))
    }

    /// Takes [`end_with_us`](Self::end_with_us) back, once the group has ended.
    pub(crate) fn forget_group(&mut self) -> anyhow::Result<()> {
        self.tell("group none\n")
    }

    fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        let pipe = self.keeper.pipe.as_mut().context("the keeper has been let go")?;
        pipe.write_all(line.as_bytes())
            .context("the keeper of the agent has ended")
    }
}

impl Drop for DevAgent {
    fn drop(&mut self) {
        // Closing the pipe is the whole message; the keeper ends when its work is done.
        self.keeper.pipe = None;
        let _ = self.keeper.child.wait();
        // Should somebody have killed the keeper, the work is ours.
        keeper::sweep(&self.pid_file);
    }
}

fn tail(log: &str) -> String {
    // Twenty lines hold Consul's own last words.
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines
        .iter()
        .skip(from)
        .map(|line| format!("    {line}\n"))
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_words_of_a_log_are_shown() {
        let log: String = (0..30).map(|n| format!("line {n}\n")).collect();
        let shown = tail(&log);
        assert!(shown.starts_with("    line 10\n") && shown.ends_with("    line 29"));
    }
}
