//! A call from its first attempt to its last: whom to ask next, when to wait and for how long, and when to give up. What
//! is done with the reply is `reply.rs`; the builders users see are `fetch.rs` and `stream.rs`.

use super::Client;
use super::endpoint::{Endpoint, EndpointId};
use super::endpoints::Standing;
use super::flight::Flight;
use super::retry::{Failure, Progress, Verdict};
use super::service::{Service, Step, now, until};
use crate::deadline::{self, Timeout};
use crate::error::{Attempt, CallError, Subject};
use crate::failure::CallFailure;
use crate::fault::Fault;
use crate::metadata::Metadata;
use bytes::Bytes;
use picom_codec::{Code, Method};
use picom_transport::{
    Connection, ConnectionError, DialError, HandshakeError, OpenError, Outcome, Request, StreamError,
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

/// A call as its builder leaves it.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) client: Client,
    pub(crate) target: Result<Goal, CallError>,
    pub(crate) options: CallOptions,
    /// The deadline of the handler around the builder.
    pub(crate) inherited: Option<Instant>,
}

/// What is called, with what.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) service: Arc<Service>,
    pub(crate) method: Method,
    pub(crate) args: Bytes,
}

/// A call being made.
#[derive(Debug)]
pub(crate) struct Call {
    service: Arc<Service>,
    request: Request,
    key: Option<u64>,
    wait_for_ready: bool,
    retries: u32,
    /// An endpoint that was chosen and could not be asked at once.
    chosen: Option<Arc<Endpoint>>,
    /// When it began, until the first look is taken.
    begun_at: Option<Instant>,
    /// The first look has been taken.
    begun: bool,
    made: u32,
    tried: Vec<EndpointId>,
    attempts: Vec<Attempt>,
    /// The worst outcome of the attempts so far: what the whole call may have done.
    worst: Outcome,
    /// Until when it waits for the successor of instances that end.
    successor: Option<Instant>,
}

impl Call {
    /// Begins: the time of the call runs from now.
    pub(crate) fn begin(setup: Setup, default: Option<Duration>, ends: bool) -> Result<Call, CallError> {
        let Setup {
            client,
            target,
            options,
            inherited,
        } = setup;
        let Goal {
            service,
            method,
            args,
        } = target?;
        let fail = |failure| CallError::new(subject(&service, &method), failure);
        if client.is_closed() {
            return Err(fail(CallFailure::Ended));
        }
        let metadata = options
            .metadata
            .encode()
            .map_err(|error| fail(CallFailure::Metadata(error)))?;
        client.follow(&service);
        let inherited = inherited.filter(|_| !options.detached);
        let now = now();
        let deadline = deadline::moment(now, options.timeout, default, inherited);
        let request = Request {
            method,
            args,
            metadata,
            deadline,
            idempotent: options.idempotent,
            ends,
        };
        Ok(Call {
            service,
            request,
            key: options.key,
            wait_for_ready: options.wait_for_ready,
            retries: options.retries.unwrap_or(client.config().retries),
            chosen: None,
            begun_at: Some(now),
            begun: false,
            made: 0,
            tried: Vec::new(),
            attempts: Vec::new(),
            worst: Outcome::NeverSent,
            successor: None,
        })
    }

    /// What errors of this call are about.
    pub(crate) fn subject(&self) -> Subject {
        subject(&self.service, &self.request.method)
    }

    /// Opens the stream at once, if there is a connection to open it on. `None`: something must be waited for. With a
    /// context, its task is woken when something has come: it need not ask before.
    pub(crate) fn try_open(&mut self, cx: Option<&Context<'_>>) -> Option<Result<Flight, CallError>> {
        let now = self.begun_at.take().unwrap_or_else(now);
        if deadline::passed(self.request.deadline, now) {
            return Some(Err(self.give_up(CallFailure::Overdue)));
        }
        for _ in 0..RACES {
            let (connection, endpoint) = match self.step(now) {
                Step::Open(connection, endpoint) => (connection, endpoint),
                Step::Classic(endpoint) => {
                    self.chosen = Some(endpoint);
                    return None;
                }
                _ => return None,
            };
            match self.open_on(&connection, &endpoint, now, cx) {
                Ok(None) => {}
                Ok(Some(flight)) => return Some(Ok(flight)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    /// Opens the stream, after `wait`, as soon as there is an instance that takes it. Not to be dropped and called
    /// again in the middle of an attempt; dropped for good, nothing was sent.
    pub(crate) async fn open(&mut self, wait: Duration) -> Result<Flight, CallError> {
        let service = self.service.clone();
        let deadline = self.request.deadline;
        if !wait.is_zero() {
            time::sleep(wait).await;
        }
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
            let step = match self.chosen.take() {
                Some(endpoint) => Step::Classic(endpoint),
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
                            return Ok(Flight::new(service.clone(), &endpoint, halves, self::now()));
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
                Step::Open(connection, endpoint) => {
                    if let Some(flight) = self.open_on(&connection, &endpoint, now, None)? {
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
                            if let Some(flight) = self.open_on(&connection, &endpoint, self::now(), None)? {
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
                    self.tried.clear();
                    continue;
                }
                Step::Pending => None,
                Step::Empty if self.wait_for_ready => None,
                Step::Empty => return Err(self.give_up_empty()),
                Step::Draining => {
                    let until = *self.successor.get_or_insert(now + SUCCESSOR);
                    if until <= now && !self.wait_for_ready {
                        return Err(self.give_up(CallFailure::AllDraining));
                    }
                    Some(if self.wait_for_ready {
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
        self.made = self.made.saturating_add(1);
        self.tried.push(endpoint.id);
        self.worst = worse(self.worst, outcome);
        if self.attempts.len() >= REMEMBERED {
            self.attempts.remove(0);
        }
        self.attempts
            .push(Attempt::new(host.clone(), outcome, failure.clone()));
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
            made: self.made,
            retries: self.retries,
            idempotent: self.request.idempotent,
            other_host: self.service.has_other(&self.tried),
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
                if self.wait_for_ready && matches!(failure, CallFailure::Unreachable(_)) =>
            {
                self.tried.clear();
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
            .with_outcome(worse(self.worst, outcome))
    }

    fn step(&mut self, now: Instant) -> Step {
        let first = !std::mem::replace(&mut self.begun, true);
        self.service.step(now, &self.tried, self.key, first)
    }

    /// `None`: this connection is of no use, look for another.
    fn open_on(
        &mut self,
        connection: &Connection,
        endpoint: &Arc<Endpoint>,
        now: Instant,
        cx: Option<&Context<'_>>,
    ) -> Result<Option<Flight>, CallError> {
        let request = self.request.clone();
        let opened = if request.ends {
            connection.call(request, cx).map(|recv| (None, recv))
        } else {
            connection.open(request).map(|(send, recv)| (Some(send), recv))
        };
        match opened {
            Ok(halves) => Ok(Some(Flight::new(self.service.clone(), endpoint, halves, now))),
            Err(OpenError::Draining) => {
                endpoint.forget_connection();
                self.service.draining(endpoint.id);
                Ok(None)
            }
            Err(OpenError::Closed(_)) => {
                endpoint.forget_connection();
                self.service.disconnected(endpoint);
                Ok(None)
            }
            Err(OpenError::Full { .. }) => {
                endpoint.forget_connection();
                Ok(None)
            }
            Err(error) => Err(self.give_up_at(endpoint, CallFailure::NotOpened(error))),
        }
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
        let outcome = worse(self.worst, failure.outcome());
        self.service
            .counters
            .failures
            .fetch_add(u64::from(outcome != Outcome::Executed), Ordering::Relaxed);
        let error = CallError::new(self.subject(), failure).with_outcome(outcome);
        match self.attempts.last() {
            Some(last) => error.at(last.host().into()).after(self.attempts.clone()),
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

fn subject(service: &Service, method: &Method) -> Subject {
    Subject::Call {
        service: service.name.clone(),
        method: method.as_str().into(),
    }
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
