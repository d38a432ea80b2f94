//! A node as a test holds it: a process of the program `picom-e2e-node`, told what to do and heard. What is said is
//! `protocol.rs`.

use std::collections::HashMap;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command as Program};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::history::Record;
use crate::patience::within;
use crate::protocol::{Call, Command, Event, Failure, Line, Load, Report, Settings, Standing, Word};
use crate::signal::{self, Signal};

/// How long an answer may take: longer than anything a node is told to do, shorter than anybody watches a test hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the program. It is killed when this is dropped, and ends by itself when this process does.
#[derive(Debug)]
pub struct Node {
    child: Child,
    pid: u32,
    lines: mpsc::UnboundedSender<String>,
    next: AtomicU64,
    heard: Arc<Heard>,
}

/// What the node has said.
#[derive(Debug, Default)]
struct Heard {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<u64, oneshot::Sender<Result<Value, Failure>>>,
    events: Vec<Event>,
    /// Its output has ended.
    silent: bool,
}

/// A command on its way; awaiting it gives its answer.
#[derive(Debug)]
pub struct Order {
    /// The number to cancel it by.
    pub number: u64,
    what: String,
    answer: oneshot::Receiver<Result<Value, Failure>>,
}

impl Node {
    /// Starts the program with an environment, and builds its `Picom`.
    ///
    /// # Errors
    ///
    /// When that is refused.
    ///
    /// # Panics
    ///
    /// When the program does not start.
    pub async fn start(
        program: &Path,
        environment: &[(&str, String)],
        settings: Settings,
    ) -> Result<Self, Failure> {
        let mut command = Program::new(program);
        // What a developer has set for the services of a day's work must not reach those of a test.
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CONSUL_") || name.starts_with("PICOM_"))
            {
                command.env_remove(name);
            }
        }
        let mut child = command
            // A panic of a handler is one line in the output of a test, not fifty.
            .env("RUST_BACKTRACE", "0")
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program of a node starts");
        let pid = child.id().expect("a process that was just started has a number");
        let stdin = child.stdin.take().expect("its input is a pipe");
        let stdout = child.stdout.take().expect("its output is a pipe");
        let heard = Arc::new(Heard::default());
        let (lines, orders) = mpsc::unbounded_channel();
        tokio::spawn(write(stdin, orders));
        tokio::spawn(read(stdout, heard.clone()));
        let node = Self {
            child,
            pid,
            lines,
            next: AtomicU64::new(1),
            heard,
        };
        node.ask::<Value>(Command::Start(settings)).await?;
        Ok(node)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives a command; the answer comes through what is returned.
    pub fn order(&self, command: Command) -> Order {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let what = format!("{command:?}");
        let (sender, answer) = oneshot::channel();
        let mut inner = self.heard.lock();
        // A node that has ended answers nothing: the sender is dropped, and the answer is that.
        if !inner.silent {
            inner.waiting.insert(number, sender);
        }
        drop(inner);
        let line = serde_json::to_string(&Line { number, command }).expect("commands are JSON");
        // The writer is gone when the process is; see above.
        let _ = self.lines.send(line);
        Order { number, what, answer }
    }

    /// Gives a command and waits for the answer.
    ///
    /// # Errors
    ///
    /// What the node failed with.
    pub async fn ask<T: DeserializeOwned>(&self, command: Command) -> Result<T, Failure> {
        self.order(command).answer().await
    }

    /// Exposes all methods and says who it then is.
    ///
    /// # Errors
    ///
    /// Why it could not.
    pub async fn expose(&self) -> Result<Standing, Failure> {
        self.ask::<Value>(Command::Expose).await?;
        self.status().await
    }

    /// What it says of itself.
    ///
    /// # Errors
    ///
    /// When it is not started.
    pub async fn status(&self) -> Result<Standing, Failure> {
        self.ask(Command::Status).await
    }

    /// Ends its `Picom`.
    ///
    /// # Errors
    ///
    /// When it is not started.
    pub async fn end(&self) -> Result<Report, Failure> {
        self.ask(Command::End).await
    }

    /// Calls and waits for the first value.
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T, Failure> {
        self.ask(Command::Fetch(call)).await
    }

    /// Calls and waits for all values.
    ///
    /// # Errors
    ///
    /// What the call failed with.
    pub async fn fetch_all<T: DeserializeOwned>(&self, call: Call) -> Result<Vec<T>, Failure> {
        self.ask(Command::FetchAll(call)).await
    }

    /// Does something that has no value.
    ///
    /// # Errors
    ///
    /// What it failed with.
    pub async fn tell(&self, command: Command) -> Result<(), Failure> {
        self.ask::<Value>(command).await.map(drop)
    }

    /// Opens a call with a stream each way, and gives the number it is spoken of by.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn open(&self, call: Call) -> u64 {
        self.ask(Command::Open(call)).await.expect("a stream opens")
    }

    /// Begins a load.
    ///
    /// # Panics
    ///
    /// When the node is gone.
    pub async fn load(&self, load: Load) {
        self.ask::<Value>(Command::Load(load))
            .await
            .expect("a node that runs takes a load");
    }

    /// A moment of the load's clock, in microseconds.
    ///
    /// # Panics
    ///
    /// When the node is gone, or has no load.
    pub async fn mark(&self) -> u64 {
        self.ask(Command::Mark)
            .await
            .expect("a node with a load has a clock")
    }

    /// Waits until so many more calls of the load have ended.
    ///
    /// # Panics
    ///
    /// When the node is gone, or has no load.
    pub async fn calls(&self, more: u64) {
        self.tell(Command::AwaitCalls(more))
            .await
            .expect("a load goes on");
    }

    /// Ends the load and gives all it did.
    ///
    /// # Panics
    ///
    /// When the node is gone, or has no load.
    pub async fn end_load(&self) -> Vec<Record> {
        self.ask(Command::EndLoad)
            .await
            .expect("a node with a load ends it")
    }

    /// Waits for an event, and takes it out: the next look finds the next one like it.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    pub async fn event(&self, limit: Duration, wanted: Event) -> Event {
        let what = format!("{wanted:?} of process {}", self.pid);
        self.event_like(limit, &what, |event| *event == wanted).await
    }

    /// Waits for an event of a kind, and takes it out.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    pub async fn event_like(&self, limit: Duration, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = async {
            loop {
                let changed = self.heard.changed.notified();
                tokio::pin!(changed);
                // Enlisted before looking: what comes between the two is not missed.
                changed.as_mut().enable();
                if let Some(event) = self.heard.take(&wanted) {
                    return event;
                }
                changed.await;
            }
        };
        within(limit, what, found).await
    }

    /// Takes out all such events that have come, and counts them.
    pub fn take_all(&self, wanted: &Event) -> usize {
        let mut inner = self.heard.lock();
        let before = inner.events.len();
        inner.events.retain(|event| event != wanted);
        before - inner.events.len()
    }

    /// Halts the process and returns when it stands still.
    pub async fn halt(&self) {
        signal::stop(self.pid).await;
    }

    /// Lets the process go on.
    pub async fn go_on(&self) {
        signal::go_on(self.pid).await;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal::send(self.pid, signal);
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let ended = within(limit, "a node to exit", self.child.wait()).await;
        ended.expect("a child can be waited for")
    }

    /// Waits until everything it said has been heard, after it has ended.
    ///
    /// # Panics
    ///
    /// When its output does not end in time.
    pub async fn silence(&self, limit: Duration) {
        let silent = async {
            loop {
                let changed = self.heard.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.heard.lock().silent {
                    return;
                }
                changed.await;
            }
        };
        within(limit, "a node's output to end", silent).await;
    }
}

impl Order {
    /// The answer.
    ///
    /// # Errors
    ///
    /// What the node failed with; that it ended is such a failure too.
    ///
    /// # Panics
    ///
    /// When there is none in a minute, or it is of another type.
    pub async fn answer<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let what = format!("the answer to {}", self.what);
        let answer = within(PATIENCE, &what, self.answer).await;
        let ended = Failure {
            text: format!("the node ended before {what}"),
            ..Failure::default()
        };
        let value = answer.unwrap_or(Err(ended))?;
        Ok(
            serde_json::from_value(value.clone())
                .unwrap_or_else(|error| panic!("{what} is {value}: {error}")),
        )
    }
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        let mut inner = self.lock();
        let at = inner.events.iter().position(wanted)?;
        Some(inner.events.remove(at))
    }
}

/// Closing the input when the orders end is how a node learns that it is not needed any more.
async fn write(mut stdin: tokio::process::ChildStdin, mut orders: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = orders.recv().await {
        if stdin.write_all(format!("{line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stdout: ChildStdout, heard: Arc<Heard>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Word::Answer(number, answer)) => {
                let waiting = heard.lock().waiting.remove(&number);
                // Whoever asked may not wait any more.
                waiting.map(|waiting| waiting.send(answer).is_ok());
            }
            Ok(Word::Event(event)) => heard.lock().events.push(event),
            // Seen in the output of a test that fails.
            Err(error) => eprintln!("a node said {line:?}: {error}"),
        }
        heard.changed.notify_waiters();
    }
    let mut inner = heard.lock();
    inner.silent = true;
    inner.waiting.clear();
    drop(inner);
    heard.changed.notify_waiters();
}
