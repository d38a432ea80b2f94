//! Keeps one registration, on the heartbeat lane: makes the requests the check asks for, one at a time. When which is
//! due is decided in `check.rs`.

use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::Client;
use super::answer::{Asked, Seen};
use super::api::CheckStatus;
use super::check::{Action, CheckTimes, Outcome, Step, TtlCheck};
use crate::discovery::OnUnavailable;
use crate::error::{DiscoveryError, RegisterError, chain};
use crate::lease::{EndRequest, Keeper, LeaseState, Wish};
use crate::registration::Registration;

/// One registration and the task that keeps it.
pub(crate) struct Registrar {
    client: Arc<Client>,
    registration: Registration,
    id: Arc<str>,
    keeper: Keeper,
    check: TtlCheck,
    /// Told whether the registration has come about.
    first: Option<(oneshot::Sender<Result<(), RegisterError>>, OnUnavailable)>,
    /// The owner that waits for the end.
    ended: Option<EndRequest>,
    random: fastrand::Rng,
    /// The token the agent has the registration from.
    token: Option<u64>,
    claim: Claim,
    /// The operator was told that it fails.
    warned: bool,
    /// The operator was told that it takes no new calls.
    drained: bool,
}

/// That no other registrar of this client uses the id. Given back when the owner has been told the end, or dropped.
pub(crate) struct Claim {
    client: Arc<Client>,
    id: Arc<str>,
    held: bool,
}

impl Claim {
    /// `None` if the id is in use.
    pub(crate) fn new(client: Arc<Client>, id: &str) -> Option<Self> {
        let id: Arc<str> = id.into();
        let is_free = client
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
        is_free.then_some(Self {
            client,
            id,
            held: true,
        })
    }

    fn release(&mut self) {
        if std::mem::replace(&mut self.held, false) {
            self.client
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.id);
        }
    }

    /// Whether somebody else has claimed the id since it was released.
    fn is_taken_over(&self) -> bool {
        !self.held
            && self
                .client
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&self.id)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
    }
}

impl Registrar {
    pub(crate) fn new(
        claim: Claim,
        registration: Registration,
        keeper: Keeper,
        first: oneshot::Sender<Result<(), RegisterError>>,
        on_unavailable: OnUnavailable,
    ) -> Self {
        let client = claim.client.clone();
        let times = CheckTimes::new(registration.ttl(), client.call_timeout, client.settling);
        let now = tokio::time::Instant::now().into_std();
        Self {
            check: TtlCheck::new(claim.id.clone(), times, now),
            id: claim.id.clone(),
            random: client.fork_random(),
            client,
            registration,
            keeper,
            first: Some((first, on_unavailable)),
            ended: None,
            token: None,
            claim,
            warned: false,
            drained: false,
        }
    }

    /// Runs until the registration is gone, or all that can be done to that end was done.
    pub(crate) async fn run(mut self) {
        loop {
            let now = tokio::time::Instant::now().into_std();
            match self.check.step(now, self.is_alive()) {
                Step::Sleep(until) => tokio::select! {
                    biased;
                    wish = self.keeper.wish() => match wish {
                        Wish::Drain => self.check.drain(),
                        Wish::End(request) => self.end(request),
                    },
                    () = tokio::time::sleep_until(until.into()) => {}
                },
                Step::Do { action, within } => self.perform(action, within).await,
                Step::Report(result) => {
                    if let Err(error) = &result {
                        tracing::warn!(id = %self.id, error = %chain(error), "registration may be left behind");
                    } else {
                        match self.token {
                            Some(_) => {
                                tracing::info!(id = %self.id, agent = %self.client.agent, "deregistered")
                            }
                            // It was refused, or nobody was there to take it.
                            None => {
                                tracing::debug!(id = %self.id, agent = %self.client.agent, "was not registered")
                            }
                        }
                    }
                    self.claim.release();
                    if let Some(request) = self.ended.take() {
                        request.answer(result);
                    }
                }
                Step::Finished => return,
            }
            if self.claim.is_taken_over() {
                // The id is somebody else's now: what we would take away would be theirs.
                return;
            }
            self.tell();
        }
    }

    fn is_alive(&self) -> bool {
        self.registration.alive().is_none_or(|probe| probe.ask())
    }

    /// Makes one request. The owner's wish to end breaks it off; a registration is waited for as long as the bound
    /// allows, because one that is abandoned may be carried out after the deregistration.
    async fn perform(&mut self, action: Action, within: std::time::Duration) {
        let outcome = {
            let asking = ask(&self.client, &self.registration, &self.id, action, within);
            tokio::pin!(asking);
            let wish = loop {
                tokio::select! {
                    biased;
                    wish = self.keeper.wish() => match wish {
                        Wish::Drain => self.check.drain(),
                        Wish::End(request) => break Err(request),
                    },
                    outcome = &mut asking => break Ok(outcome),
                }
            };
            match wish {
                Ok(outcome) => Some(outcome),
                Err(request) => {
                    let now = tokio::time::Instant::now();
                    let patience = self.check.end(now.into_std(), request.bound);
                    self.ended = Some(request);
                    match action.is_registration() {
                        true => tokio::time::timeout_at(patience.into(), asking).await.ok(),
                        false => None,
                    }
                }
            }
        };
        let now = tokio::time::Instant::now().into_std();
        match outcome {
            Some((outcome, token)) => self.learn(now, action, outcome, token),
            None => self.check.abandoned(now, action),
        }
    }

    fn learn(&mut self, now: std::time::Instant, action: Action, outcome: Outcome, token: u64) {
        if let Err(error) = &outcome {
            tracing::debug!(id = %self.id, ?action, error = %chain(&**error), "agent did not");
            if matches!(**error, DiscoveryError::Denied { .. }) {
                self.client.token.refused();
            }
        }
        let error = outcome.as_ref().err().cloned();
        if error.is_none() && action.is_registration() {
            tracing::info!(
                service = %self.registration.service(), id = %self.id, agent = %self.client.agent, "registered"
            );
            self.token = Some(token);
        }
        self.check.answered(now, self.random.u64(..), action, outcome);
        if self.check.is_drained() {
            if !std::mem::replace(&mut self.drained, true) {
                tracing::info!(id = %self.id, agent = %self.client.agent, "in maintenance: no new calls");
            }
            self.keeper.drained();
        }
        // The agent goes on with the token of the registration: after a change it has to be made again.
        if self.token.is_some_and(|known| known != token) {
            self.token = Some(token);
            self.check.renew(now);
        }
        self.tell_first(now, error);
    }

    /// Tells `register` what came of it, once.
    fn tell_first(&mut self, now: std::time::Instant, error: Option<Arc<DiscoveryError>>) {
        let Some((_, on_unavailable)) = &self.first else {
            return;
        };
        let service = || self.registration.service().to_string();
        let result = match error {
            None if self.check.is_confirmed() => Ok(()),
            None => return,
            Some(source) if source.is_permanent() => Err(RegisterError::Refused {
                service: service(),
                source,
            }),
            Some(_) if *on_unavailable == OnUnavailable::KeepTrying => Ok(()),
            Some(source) => Err(RegisterError::Unavailable {
                service: service(),
                source,
            }),
        };
        if result.is_err() {
            // Nobody gets a lease, so nothing may be left of the attempt.
            self.check.end(now, None);
            // Who tries again with this id should not find it taken.
            self.claim.release();
        }
        // Published first, so that the owner finds the state with the lease.
        self.tell();
        if let Some((first, _)) = self.first.take() {
            // An owner that has gone has dropped the lease too.
            let _ = first.send(result);
        }
    }

    fn end(&mut self, request: EndRequest) {
        self.check
            .end(tokio::time::Instant::now().into_std(), request.bound);
        self.ended = Some(request);
    }

    /// Publishes the state, if it is another one, and tells the operator when it gets worse or better.
    fn tell(&mut self) {
        let state = self.check.state();
        let error = match &state {
            LeaseState::Registering { error } => error.clone(),
            LeaseState::Failing { error } => Some(error.clone()),
            LeaseState::Passing | LeaseState::Ended => None,
        };
        match (error, self.warned) {
            (Some(error), false) => {
                let error = chain(&*error);
                tracing::warn!(id = %self.id, %error, "registration is not confirmed; it is tried again");
                self.warned = true;
            }
            (None, true) if matches!(state, LeaseState::Passing) => {
                tracing::info!(id = %self.id, agent = %self.client.agent, "registration passes again");
                self.warned = false;
            }
            _ => {}
        }
        self.keeper.publish_change(state);
    }
}

/// Makes the request of an action, and says with which token.
async fn ask(
    client: &Client,
    registration: &Registration,
    id: &Arc<str>,
    action: Action,
    within: std::time::Duration,
) -> (Outcome, u64) {
    // Heartbeats have connections of their own: they must not queue behind a call that a leaderless cluster holds.
    let (request, pool) = match action {
        Action::Register(status) => (client.scope.register(registration, status, false), &client.calls),
        Action::RegisterDrained => (
            client.scope.register(registration, CheckStatus::Critical, true),
            &client.calls,
        ),
        Action::Beat(status) => (client.scope.beat(id, status), &client.beats),
        Action::Look => (client.scope.look(id), &client.calls),
        Action::Maintain => (client.scope.maintain(id), &client.calls),
        Action::Deregister => (client.scope.deregister(id), &client.calls),
    };
    let token = client.token.current(tokio::time::Instant::now().into_std()).await;
    let asked = Asked {
        agent: client.agent.clone(),
        purpose: request.purpose,
    };
    let outcome = match pool.call(&request, token.header.as_ref(), within).await {
        Err(error) => Err(error),
        Ok(answer) => match action {
            Action::Register(_) | Action::RegisterDrained => asked.registered(&answer).map(|()| Seen::Ours),
            Action::Beat(_) => asked.beaten(id, &answer).map(|()| Seen::Ours),
            Action::Look => asked.looked(registration, &answer),
            Action::Maintain => asked.maintained(id, &answer).map(|()| Seen::Ours),
            Action::Deregister => asked.deregistered(&answer).map(|()| Seen::Ours),
        },
    };
    (outcome.map_err(Arc::new), token.generation)
}
