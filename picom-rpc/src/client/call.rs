//! A call from its first attempt to its last: whom to ask next, when to wait and for how long, and when to give up. What
//! is done with the reply is `reply.rs`; the builders users see are `fetch.rs` and `stream.rs`.

use super::Client;
use super::config::ClientConfig;
use super::endpoint::{Endpoint, EndpointId};
use super::endpoints::Standing;
use super::flight::Flight;
use super::retry::{Failure, Progress, Verdict};
use super::service::{Service, Step, now, until};
use crate::context;
use crate::deadline::{self, Timeout};
use crate::error::{Attempt, CallError, Subject};
use crate::failure::CallFailure;
use crate::fault::Fault;
use crate::metadata::Metadata;
use picom_codec::{Body, Code, Method};
use picom_transport::{
    Connection, ConnectionError, DialError, HandshakeError, OpenError, Outcome, RecvHalf, Request, SendHalf,
    StreamError,
};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::time;

/// How long a call waits for another instance when all it knows are ending: a successor registers within seconds, and
/// the watch tells within milliseconds.
const SUCCESSOR: Duration = Duration::from_secs(5);

/// Attempts remembered in an error. More are only made by callers who wait for readiness or ask for more retries.
const REMEMBERED: usize = 16;

/// Connections that turned out unusable between looking and opening, in a row, before the call looks up from it.
const RACES: usize = 8;

/// A call waiting for readiness asks again after so long: the longest backoff of the pool is ten of them.
const READINESS: Duration = Duration::from_millis(500);

/// What a builder says about its call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Timeout,
    pub(crate) idempotent: bool,
    pub(crate) key: Option<u64>,
    pub(crate) metadata: Metadata,
    pub(crate) wait_for_ready: bool,
    pub(crate) detached: bool,
    pub(crate) retries: Option<u32>,
}

/// A call, from its builder to its end. It stays where it is: builders hold it and hand it on whole, and what only calls
/// need that fail stands apart.
#[derive(Debug)]
pub(crate) struct Call {
    client: Client,
    service: Arc<Service>,
    request: Request,
    pub(crate) options: CallOptions,
    /// The deadline of the handler around the builder.
    inherited: Option<Instant>,
    /// When it began, until the first look is taken.
    begun: Option<Instant>,
    /// The first look has been taken.
    looked: bool,
    /// It may wait in the line of a connection, which may send it back.
    queues: bool,
    history: Option<Box<History>>,
}

/// What came of a call that was not answered at the first attempt.
#[derive(Debug)]
struct History {
    made: u32,
    tried: Vec<EndpointId>,
    attempts: Vec<Attempt>,
    /// The worst outcome of the attempts so far: what the whole call may have done.
    worst: Outcome,
    /// Until when it waits for the successor of instances that end.
    successor: Option<Instant>,
}

/// What came of trying to open at once.
#[derive(Debug)]
pub(crate) enum Tried {
    /// It is open.
    Opened(Flight),
    /// Something must be waited for.
    Must(Wait),
}

/// What must be waited for before a call can be opened.
#[derive(Debug)]
pub(crate) enum Wait {
    /// A connection to the endpoint that was chosen.
    For(Step),
    /// So long; then it is looked who is there.
    Span(Duration),
}

impl Wait {
    /// Nothing is chosen: it is looked again who is there, and waited for somebody.
    pub(crate) const LOOK: Wait = Wait::Span(Duration::ZERO);
}

impl Default for History {
    fn default() -> Self {
        History {
            made: 0,
            tried: Vec::new(),
            attempts: Vec::new(),
            worst: Outcome::NeverSent,
            successor: None,
        }
    }
}

impl Call {
    #[inline]
    pub(super) fn new(client: Client, service: Arc<Service>, method: Method, args: Body) -> Call {
        Call {
            client,
            service,
            request: Request {
                method,
                args,
                metadata: None,
                deadline: None,
                idempotent: false,
                ends: true,
            },
            options: CallOptions::default(),
            inherited: context::deadline(),
            begun: None,
            looked: false,
            queues: false,
            history: None,
        }
    }

    /// Begins: the time of the call runs from now. `default`: how long it may take if nothing else was said; `ends`: no
    /// input follows the arguments; `queues`: opened in the line of a connection it may fail with
    /// [`NoSlot`](StreamError::NoSlot), and is then opened again.
    pub(crate) fn begin(
        &mut self,
        default: Option<Duration>,
        ends: bool,
        queues: bool,
    ) -> Result<(), CallError> {
        let fail = |failure| Err(CallError::new(self.subject(), failure));
        if self.client.is_closed() {
            return fail(CallFailure::Ended);
        }
        let metadata = match self.options.metadata.encode() {
            Ok(metadata) => metadata,
            Err(error) => return fail(CallFailure::Metadata(error)),
        };
        self.client.follow(&self.service);
        let inherited = self.inherited.filter(|_| !self.options.detached);
        let now = now();
        self.begun = Some(now);
        self.queues = ends && queues;
        let request = &mut self.request;
        request.metadata = metadata;
        request.deadline = deadline::moment(now, self.options.timeout, default, inherited);
        request.idempotent = self.options.idempotent;
        request.ends = ends;
        Ok(())
    }

    /// How its client is set.
    pub(crate) fn config(&self) -> &ClientConfig {
        self.client.config()
    }

    fn tried(&self) -> &[EndpointId] {
        self.history.as_ref().map_or(&[], |history| &history.tried)
    }

    fn worst(&self) -> Outcome {
        self.history
            .as_ref()
            .map_or(Outcome::NeverSent, |history| history.worst)
    }

    fn history(&mut self) -> &mut History {
        self.history.get_or_insert_default()
    }

    /// What errors of this call are about.
    pub(crate) fn subject(&self) -> Subject {
        Subject::Call {
            service: self.service.name.clone(),
            method: self.request.method.as_str().into(),
        }
    }

    /// Opens the stream at once, if there is a connection to open it on. With a context, its task is woken when something
    /// has come: it need not ask before.
    pub(crate) fn try_open(&mut self, cx: Option<&Context<'_>>) -> Result<Tried, CallError> {
        let now = self.begun.take().unwrap_or_else(now);
        if deadline::passed(self.request.deadline, now) {
            return Err(self.give_up(CallFailure::Overdue));
        }
        for _ in 0..RACES {
            let step = match self.step(now) {
                step @ (Step::Open { .. } | Step::Queue(..)) => step,
                step @ (Step::Classic(_) | Step::Dial(_)) => return Ok(Tried::Must(Wait::For(step))),
                _ => break,
            };
            if let Some(flight) = self.open_at(step, now, cx)? {
                return Ok(Tried::Opened(flight));
            }
        }
        Ok(Tried::Must(Wait::LOOK))
    }

    /// Opens the stream, after what must be waited for, as soon as there is an instance that takes it. Not to be dropped
    /// and called again in the middle of an attempt; dropped for good, nothing was sent.
    pub(crate) async fn open(&mut self, wait: Wait) -> Result<Flight, CallError> {
        let service = self.service.clone();
        let deadline = self.request.deadline;
        let mut chosen = match wait {
            Wait::For(step) => Some(step),
            Wait::Span(span) => {
                if !span.is_zero() {
                    time::sleep(span).await;
                }
                None
            }
        };
        let mut races = 0;
        loop {
            // Enlisted before looking: a change between the two is not missed.
            let mut changed = pin!(service.changed.notified());
            changed.as_mut().enable();
            if service.is_closed() {
                return Err(self.give_up(CallFailure::Ended));
            }
            let now = now();
            if deadline::passed(deadline, now) {
                return Err(self.give_up(CallFailure::Overdue));
            }
            let step = match chosen.take() {
                Some(step) => step,
                None => self.step(now),
            };
            let patience = match step {
                Step::Classic(endpoint) => {
                    let dialed = tokio::select! {
                        biased;
                        dialed = service.dial_classic(&endpoint) => dialed,
                        () = until(deadline) => return Err(self.give_up_at(&endpoint, CallFailure::Overdue)),
                    };
                    let failure = match dialed.map(|connection| connection.open(self.request.clone())) {
                        Ok(Ok((send, recv))) => {
                            let halves = (Some(send).filter(|_| !self.request.ends), recv);
                            return Ok(Flight::new(service.clone(), endpoint, halves, self::now()));
                        }
                        Ok(Err(error)) => {
                            return Err(self.give_up_at(&endpoint, CallFailure::NotOpened(error)));
                        }
                        Err(error) => CallFailure::Unreachable(error),
                    };
                    let wait = self.attempt_failed(&endpoint, failure, true)?;
                    time::sleep(wait).await;
                    continue;
                }
                step @ (Step::Open { .. } | Step::Queue(..)) => {
                    if let Some(flight) = self.open_at(step, now, None)? {
                        return Ok(flight);
                    }
                    races += 1;
                    if races % RACES != 0 {
                        continue;
                    }
                    // Connections that close faster than they are used: let time pass.
                    now.checked_add(READINESS)
                }
                Step::Dial(endpoint) => {
                    let dialed = tokio::select! {
                        biased;
                        dialed = service.dial(&endpoint) => dialed,
                        // Perhaps another endpoint is connected now: look again. The dial goes on by itself.
                        () = &mut changed => continue,
                        () = until(deadline) => return Err(self.give_up_at(&endpoint, CallFailure::Overdue)),
                    };
                    match dialed {
                        Ok(connection) => {
                            let opened = self.open_on(&connection, None);
                            if let Some(flight) = self.opened(opened, endpoint, self::now())? {
                                return Ok(flight);
                            }
                            continue;
                        }
                        Err(error) if is_farewell(&error) => {
                            service.draining(endpoint.id);
                            continue;
                        }
                        Err(error) => {
                            let wait =
                                self.attempt_failed(&endpoint, CallFailure::Unreachable(error), true)?;
                            time::sleep(wait).await;
                            continue;
                        }
                    }
                }
                Step::Exhausted => {
                    self.history().tried.clear();
                    continue;
                }
                Step::Pending => None,
                Step::Empty if self.options.wait_for_ready => None,
                Step::Empty => return Err(self.give_up_empty()),
                Step::Draining => {
                    let until = *self.history().successor.get_or_insert(now + SUCCESSOR);
                    if until <= now && !self.options.wait_for_ready {
                        return Err(self.give_up(CallFailure::AllDraining));
                    }
                    Some(if self.options.wait_for_ready {
                        now + READINESS
                    } else {
                        until
                    })
                }
            };
            tokio::select! {
                () = changed => {}
                () = until(patience) => {}
                () = until(deadline) => return Err(self.give_up_waiting()),
            }
        }
    }

    /// An attempt came to nothing. Gives back how long to wait before the next, or the error of the call.
    /// `repeatable` is false when input was consumed that cannot be sent again.
    pub(crate) fn attempt_failed(
        &mut self,
        endpoint: &Endpoint,
        failure: CallFailure,
        repeatable: bool,
    ) -> Result<Duration, CallError> {
        let now = now();
        let host = &endpoint.target.authority;
        let outcome = failure.outcome();
        let history = self.history();
        history.made = history.made.saturating_add(1);
        history.tried.push(endpoint.id);
        history.worst = worse(history.worst, outcome);
        if history.attempts.len() >= REMEMBERED {
            history.attempts.remove(0);
        }
        history
            .attempts
            .push(Attempt::new(host.clone(), outcome, failure.clone()));
        let made = history.made;
        let fault = match &failure {
            CallFailure::Fault(fault) => Some(fault),
            _ => None,
        };
        let failed = Failure {
            outcome,
            do_not_retry: !repeatable || fault.is_some_and(Fault::says_do_not_retry),
            delay: match &failure {
                // Before the pool dials again, another attempt would only hear that it does not.
                CallFailure::Unreachable(_) => self.service.backoff(endpoint, now),
                _ => fault.and_then(Fault::suggested_delay),
            },
        };
        let progress = Progress {
            made,
            retries: self.options.retries.unwrap_or(self.config().retries),
            idempotent: self.request.idempotent,
            other_host: self.service.has_other(self.tried()),
            left: deadline::left(self.request.deadline, now),
        };
        let spent = match self.service.judge(failed, progress, now) {
            Verdict::Again { wait } => {
                self.service.counters.retries.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(
                    service = %self.service.name, method = %self.request.method, %host, %failure,
                    "the attempt failed, another is made"
                );
                return Ok(wait);
            }
            // Whoever waits for readiness waits for somebody to be reachable.
            Verdict::Surface { .. }
                if self.options.wait_for_ready && matches!(failure, CallFailure::Unreachable(_)) =>
            {
                self.history().tried.clear();
                return Ok(READINESS);
            }
            Verdict::Surface { do_not_retry } => do_not_retry && repeatable,
        };
        Err(self.give_up_at(endpoint, failure).with_do_not_retry(spent))
    }

    /// The error of a call that was given up on this side once it had been opened: it may have run, whatever the reason.
    pub(crate) fn rejected(&self, endpoint: &Endpoint, failure: CallFailure) -> CallError {
        let outcome = worse(Outcome::MaybeExecuted, failure.outcome());
        self.give_up_at(endpoint, failure)
            .with_outcome(worse(self.worst(), outcome))
    }

    fn step(&mut self, now: Instant) -> Step {
        let first = !std::mem::replace(&mut self.looked, true);
        match self.service.step(now, self.tried(), self.options.key, first) {
            // Whose halves are handed out could not be sent back: such a call waits until it has a slot.
            Step::Queue(endpoint, _) if !self.queues => Step::Dial(endpoint),
            step => step,
        }
    }

    /// Opens the stream on the connection that the step names. `None`: it is of no use any more, look for another.
    fn open_at(
        &self,
        step: Step,
        now: Instant,
        cx: Option<&Context<'_>>,
    ) -> Result<Option<Flight>, CallError> {
        match step {
            Step::Queue(endpoint, connection) => {
                let queued = connection.call_queued(self.request.clone(), cx);
                self.opened(queued.map(|recv| (None, recv)), endpoint, now)
            }
            Step::Open { endpoint, looked } => {
                // Who has waited for a slot goes first.
                let opened = endpoint.with_connection(|connection| {
                    (looked || !connection.is_contended()).then(|| self.open_on(connection, cx))
                });
                match opened {
                    Some(Some(opened)) => self.opened(opened, endpoint, now),
                    Some(None) => {
                        endpoint.forget_connection();
                        Ok(None)
                    }
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }

    fn open_on(
        &self,
        connection: &Connection,
        cx: Option<&Context<'_>>,
    ) -> Result<(Option<SendHalf>, RecvHalf), OpenError> {
        let request = self.request.clone();
        if request.ends {
            Ok((None, connection.call(request, cx)?))
        } else {
            let (send, recv) = connection.open(request)?;
            Ok((Some(send), recv))
        }
    }

    /// `None`: this connection is of no use, look for another.
    fn opened(
        &self,
        opened: Result<(Option<SendHalf>, RecvHalf), OpenError>,
        endpoint: Arc<Endpoint>,
        now: Instant,
    ) -> Result<Option<Flight>, CallError> {
        let error = match opened {
            Ok(halves) => return Ok(Some(Flight::new(self.service.clone(), endpoint, halves, now))),
            Err(error) => error,
        };
        match error {
            OpenError::Draining => {
                endpoint.forget_connection();
                self.service.draining(endpoint.id);
            }
            OpenError::Closed(_) => {
                endpoint.forget_connection();
                self.service.disconnected(&endpoint);
            }
            OpenError::Full { .. } => endpoint.forget_connection(),
            error => return Err(self.give_up_at(&endpoint, CallFailure::NotOpened(error))),
        }
        Ok(None)
    }

    fn give_up_empty(&self) -> CallError {
        self.give_up(match self.service.standing() {
            Standing::Pending { error } => CallFailure::Discovery(error),
            Standing::Known { registered: 0, .. } => CallFailure::UnknownService,
            Standing::Known {
                registered, foreign, ..
            } => CallFailure::ServiceDown {
                failing: registered.saturating_sub(foreign),
                foreign,
            },
        })
    }

    /// The time was over while waiting for an instance.
    fn give_up_waiting(&self) -> CallError {
        match self.service.standing() {
            Standing::Pending { error } => self.give_up(CallFailure::Discovery(error)),
            _ => self.give_up(CallFailure::Overdue),
        }
    }

    fn give_up(&self, failure: CallFailure) -> CallError {
        let outcome = worse(self.worst(), failure.outcome());
        self.service
            .counters
            .failures
            .fetch_add(u64::from(outcome != Outcome::Executed), Ordering::Relaxed);
        let error = CallError::new(self.subject(), failure).with_outcome(outcome);
        let attempts = self.history.as_ref().map_or(&[][..], |history| &history.attempts);
        match attempts.last() {
            Some(last) => error.at(last.host().into()).after(attempts.to_vec()),
            None => error,
        }
    }

    fn give_up_at(&self, endpoint: &Endpoint, failure: CallFailure) -> CallError {
        self.give_up(failure).at(endpoint.target.authority.clone())
    }
}

/// What the end of a stream says, as a failure of the call.
pub(crate) fn failure_of(error: StreamError) -> CallFailure {
    match error {
        StreamError::Fault(reply) => CallFailure::Fault(Fault::from_reply(&reply)),
        error => CallFailure::Stream(error),
    }
}

/// The peer was there, and said in its hello that it is ending.
fn is_farewell(error: &DialError) -> bool {
    let ended = match error {
        DialError::Handshake {
            error: HandshakeError::Connection(ended),
            ..
        } => ended,
        DialError::Backoff { last: Some(last), .. } => return is_farewell(last),
        _ => return false,
    };
    matches!(
        **ended,
        ConnectionError::Goaway {
            code: Code::OK | Code::DRAINING,
            ..
        }
    )
}

/// A call that may have run in one attempt may have run, whatever became of the others.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    let rank = |outcome| match outcome {
        Outcome::NeverSent => 0,
        Outcome::Refused => 1,
        Outcome::MaybeExecuted => 2,
        Outcome::Executed => 3,
    };
    if rank(one) > rank(other) { one } else { other }
}
