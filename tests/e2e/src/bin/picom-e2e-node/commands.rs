//! What is done on each command: the node's `Picom`, its load, its open calls.

use std::collections::HashMap;
use std::future::{Future as _, poll_fn};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use picom::{EndReport, Fault, Picom};
use picom_e2e::journal::Journal;
use picom_e2e::protocol::{Command, Event, Failure, Identity, Report, Settings, Standing};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::failure;
use crate::load::{Running, View};
use crate::methods;
use crate::output;
use crate::streams::Streams;

/// The node.
#[derive(Default)]
pub(crate) struct Host {
    picom: OnceLock<Picom>,
    instance: OnceLock<String>,
    journal: OnceLock<Journal>,
    load: Mutex<Option<Running>>,
    streams: Streams,
    /// The work on commands that were not answered yet.
    orders: Mutex<HashMap<u64, AbortHandle>>,
}

/// Sets what a call asks for on a builder; the builders have no trait in common.
macro_rules! with_options {
    ($builder:expr, $call:ident) => {{
        let mut builder = $builder;
        if let Some(timeout) = $call.timeout {
            builder = builder.timeout(timeout);
        }
        if $call.idempotent {
            builder = builder.idempotent();
        }
        if $call.wait_for_ready {
            builder = builder.wait_for_ready();
        }
        if let Some(retries) = $call.retries {
            builder = builder.retries(retries);
        }
        builder
    }};
}

impl Host {
    /// Begins to work on a command, on the runtime.
    pub(crate) fn take(self: Arc<Self>, runtime: &Runtime, number: u64, command: Command) {
        let host = self.clone();
        // Held until the work is enlisted, so that it cannot be done before.
        let mut orders = lock(&self.orders);
        let work = runtime.spawn(async move {
            let answer = host.clone().obey(command).await;
            lock(&host.orders).remove(&number);
            output::answer(number, answer);
        });
        orders.insert(number, work.abort_handle());
    }

    async fn obey(self: Arc<Self>, command: Command) -> Result<Value, Failure> {
        match command {
            Command::Start(settings) => value(self.start(settings)?),
            Command::Expose => value(
                self.picom()?
                    .expose(methods::all(self.clone()))
                    .await
                    .map_err(failure::of)?,
            ),
            Command::EndOnSignal => {
                end_on_signal(self.picom()?).await;
                done()
            }
            Command::End => value(report(&self.picom()?.end().await)),
            Command::Status => value(self.standing()?),
            Command::Fetch(call) => {
                let fetch = self
                    .picom()?
                    .fetch::<Value>(&call.service, &call.method, &call.args);
                with_options!(fetch, call).await.map_err(failure::of)
            }
            Command::FetchAll(call) => {
                let fetch = self
                    .picom()?
                    .fetch_all::<Value>(&call.service, &call.method, &call.args);
                value(with_options!(fetch, call).await.map_err(failure::of)?)
            }
            Command::Open(call) => {
                let open = self
                    .picom()?
                    .stream::<Value, Value>(&call.service, &call.method, &call.args);
                let (sender, receiver) = with_options!(open, call).await.map_err(failure::of)?;
                value(self.streams.add(sender, receiver))
            }
            Command::Send(stream, items) => value(self.streams.send(stream, items).await?),
            Command::Finish(stream) => value(self.streams.finish(stream).await?),
            Command::DropSender(stream) => value(self.streams.drop_sender(stream).await?),
            Command::Receive(stream, most) => value(self.streams.receive(stream, most).await?),
            Command::DropReceiver(stream) => value(self.streams.drop_receiver(stream).await?),
            Command::Cancel(number) => {
                let order = lock(&self.orders).remove(&number);
                order
                    .map(|order| order.abort())
                    .ok_or_else(|| failure::said("that was answered already"))?;
                done()
            }
            Command::Load(load) => {
                let running = Running::begin(&self.picom()?, &load);
                *lock(&self.load) = Some(running);
                done()
            }
            Command::Mark => value(self.view()?.clock()),
            Command::AwaitCalls(more) => {
                self.view()?.calls(more).await;
                done()
            }
            Command::EndLoad => {
                let running = lock(&self.load).take().ok_or_else(no_load)?;
                value(running.end().await)
            }
            // `main` does it, as it blocks.
            Command::Block(_) => Err(failure::said("blocking is not done here")),
        }
    }

    fn start(&self, settings: Settings) -> Result<(), Failure> {
        let mut builder = Picom::builder(&settings.service);
        if let Some((host, port)) = settings
            .consul
            .as_deref()
            .and_then(|consul| consul.rsplit_once(':'))
        {
            let port = port
                .parse()
                .map_err(|_| failure::said(format!("{port:?} is no port")))?;
            builder = builder.consul_host(host).consul_port(port);
        }
        if let Some(port) = settings.dev {
            builder = builder.dev_on(port);
        }
        if let Some(ttl) = settings.ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(port) = settings.port {
            builder = builder.port(port);
        }
        if settings.keep_trying {
            builder = builder.keep_trying();
        }
        if let Some(span) = settings.keep_accepting {
            builder = builder.keep_accepting(span);
        }
        if let Some(span) = settings.drain_timeout {
            builder = builder.drain_timeout(span);
        }
        let picom = builder.build().map_err(failure::of)?;
        let again = || failure::said("the node was started before");
        if let Some(path) = &settings.journal {
            let journal = Journal::open(path).map_err(|error| failure::plain(&error))?;
            self.journal.set(journal).map_err(|_| again())?;
        }
        self.picom.set(picom).map_err(|_| again())
    }

    /// The node's `Picom`.
    pub(crate) fn picom(&self) -> Result<Picom, Failure> {
        self.picom
            .get()
            .cloned()
            .ok_or_else(|| failure::said("the node was not started"))
    }

    /// Who this node is, as its callers may know it.
    pub(crate) fn identity(&self) -> Identity {
        let instance = match self.instance.get() {
            Some(instance) => instance.clone(),
            None => {
                let instance = self.picom.get().and_then(|picom| picom.status().registration);
                // A call may come before exposing has returned; then the next one is told.
                instance
                    .inspect(|id| drop(self.instance.set(id.clone())))
                    .unwrap_or_default()
            }
        };
        Identity {
            instance,
            pid: process::id(),
        }
    }

    /// Writes down that a call runs.
    pub(crate) fn record(&self, id: u64) -> Result<(), Fault> {
        match self.journal.get() {
            Some(journal) => Ok(journal.record(id)?),
            None => Err(Fault::internal("this node keeps no journal")),
        }
    }

    fn standing(&self) -> Result<Standing, Failure> {
        let status = self.picom()?.status();
        Ok(Standing {
            instance: status.registration,
            listens: status.advertised,
            handling: status.server.map_or(0, |server| server.handlers_running as u64),
        })
    }

    fn view(&self) -> Result<View, Failure> {
        lock(&self.load).as_ref().map(Running::view).ok_or_else(no_load)
    }
}

/// Ends the process when it is told to by a signal. When this returns, signals are waited for.
async fn end_on_signal(picom: Picom) {
    let mut run = Box::pin(async move {
        match picom.run_until_signal().await {
            Ok(ended) => {
                output::event(Event::Ended(report(&ended)));
                process::exit(0);
            }
            Err(error) => {
                eprintln!("{error}");
                process::exit(1);
            }
        }
    });
    // Its first step is to tell the system; no signal is lost between that and the task.
    if poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx)))
        .await
        .is_pending()
    {
        tokio::spawn(run);
    }
}

fn report(ended: &EndReport) -> Report {
    Report {
        left_registered: ended.left_registered.is_some(),
        cut: ended.calls_cut as u64,
    }
}

fn value(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| failure::plain(&error))
}

fn done() -> Result<Value, Failure> {
    Ok(Value::Null)
}

fn no_load() -> Failure {
    failure::said("there is no load")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
