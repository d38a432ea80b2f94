//! From an HTTP request to its answer: paths, methods, waiting, and what the fault board says about it. It knows HTTP
//! messages but no sockets; what an answer says is decided in `agent_calls` and `reads`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AGE, CONNECTION, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, Uri};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::agent_calls;
use super::answer::{Answer, Cut};
use super::faults::{Calls, IndexFault};
use super::hub::Hub;
use super::query::{Consistency, Query, ReadOptions, decode};
use super::reads::Selection;
use super::refusal::Refusal;
use super::reply::{Reply, names};
use super::request_log::RequestLog;
use super::routes::{self, AgentCall, Found, Read, Route};
use super::state::State;
use super::views;

/// A body that takes longer is given up: on loopback half a megabyte takes a millisecond.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl Hub {
    /// Answers one request.
    ///
    /// # Errors
    ///
    /// [`Cut`]: the connection must be closed without an answer.
    pub(crate) async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Cut> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut log = RequestLog::new(&request, self.observer.clone());
        let (parts, body) = request.into_parts();
        let reply = match timeout(BODY_TIMEOUT, Limited::new(body, self.body_limit).collect()).await {
            Ok(Ok(body)) => self.reply(&parts, body.to_bytes()).await?,
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let text = format!("Request body too large, max size: {} bytes", self.body_limit);
                Reply::text(413, text).with(CONNECTION, "close")
            }
            Ok(Err(_)) | Err(_) => return Err(Cut),
        };
        let slow = self.board().slow;
        if !slow.is_zero() {
            sleep(slow).await;
        }
        self.wait_for(|board| !board.paused && !board.answers_held).await;
        log.answered(reply.status);
        let truncate = self.board().truncate;
        Ok(reply.into_response().map(|body| Answer::new(body, truncate)))
    }

    async fn reply(self: &Arc<Self>, parts: &Parts, body: Bytes) -> Result<Reply, Cut> {
        let Some(path) = decode(parts.uri.path(), false) else {
            return Ok(Reply::text(400, "400 Bad Request").with(CONNECTION, "close"));
        };
        let Some(query) = Query::parse(parts.uri.query().unwrap_or_default()) else {
            return Ok(Reply::empty(500));
        };
        let (allowed, route) = match routes::find(&path) {
            Found::Route(allowed, route) => (allowed, route),
            Found::Moved(to) => return Ok(Reply::moved(&to)),
            Found::Nothing => return Ok(Reply::not_found()),
        };
        if parts.method == Method::OPTIONS {
            return Ok(Reply::options(&allowed));
        }
        if parts.method != allowed {
            return Ok(Reply::wrong_method(&parts.method, &allowed));
        }
        let mut reply = self.route(route, &allowed, &parts.uri, query, body).await?;
        if reply.status == 200 && parts.uri.query().is_some_and(is_pretty) && !reply.body.is_empty() {
            reply.body = views::pretty(&reply.body);
        }
        Ok(reply)
    }

    async fn route(
        self: &Arc<Self>,
        route: Route,
        method: &Method,
        uri: &Uri,
        query: Query,
        body: Bytes,
    ) -> Result<Reply, Cut> {
        if let Some(failure) = self.failure(&route) {
            self.not_paused().await;
            return Ok(failure);
        }
        match route {
            Route::Hold => {
                let terminations = self.board().terminations;
                self.wait_for(|board| board.terminations != terminations).await;
                Err(Cut)
            }
            Route::Agent(call) if *method == Method::PUT => self.change(call, query, body).await,
            Route::Agent(call) => {
                self.not_paused().await;
                self.wait_for_hash(&call, &query).await;
                Ok(self.ask(&call, &query, &body))
            }
            Route::Read(read) => {
                self.not_paused().await;
                let refused = |refusal: Refusal| {
                    // Errors from behind the agent carry indexes that mean nothing; those of the agent itself carry none.
                    let from_behind = refusal.status != 400;
                    let reply = Reply::from(refusal);
                    if from_behind {
                        meaningless_index(reply)
                    } else {
                        reply
                    }
                };
                Ok(self.read(read, &query, uri).await.unwrap_or_else(refused))
            }
            Route::Leader | Route::Peers if query.get("dc").is_some_and(|dc| dc != self.datacenter) => {
                Ok(Reply::text(500, "No path to datacenter"))
            }
            Route::Leader => {
                self.not_paused().await;
                let leader = if self.board().leaderless.is_some() {
                    ""
                } else {
                    SERVER
                };
                Ok(Reply::json(views::encode(&leader)))
            }
            Route::Peers => Ok(Reply::json(views::encode(&[SERVER]))),
            Route::Datacenters => Ok(Reply::json(views::encode(&[&self.datacenter]))),
        }
    }

    /// A change is carried out even if its client goes away meanwhile, as by any server that has read the request.
    async fn change(self: &Arc<Self>, call: AgentCall, query: Query, body: Bytes) -> Result<Reply, Cut> {
        let permit = self.changes.clone().acquire_owned().await.map_err(|_| Cut)?;
        let hub = self.clone();
        let change = tokio::spawn(async move {
            let _permit = permit;
            hub.not_paused().await;
            // An agent whose servers have no leader is slow with its own calls too, and then does them.
            let _late = hub.leader().await;
            hub.ask(&call, &query, &body)
        });
        change.await.map_err(|_| Cut)
    }

    fn ask(&self, call: &AgentCall, query: &Query, body: &[u8]) -> Reply {
        let now = Instant::now().into_std();
        self.with_state(|state| agent_calls::answer(state, call, query, body, now))
            .unwrap_or_else(Reply::from)
    }

    async fn read(&self, read: Read, query: &Query, uri: &Uri) -> Result<Reply, Refusal> {
        if query.get("ns").is_some_and(|ns| !ns.is_empty()) {
            return Err(agent_calls::no_namespaces());
        }
        let options = ReadOptions::parse(query, &self.datacenter)?;
        let selection = Selection::parse(read, query)?;
        let hit = options.cached && self.was_cached(cache_key(uri, query));
        let needs_leader = options.consistency != Consistency::Stale && !hit;
        if needs_leader {
            self.leader().await?;
        }
        let mut version = self.version.subscribe();
        let mut board = self.faults.watch();
        let terminations = board.borrow_and_update().terminations;
        let (mut seen, jitter) =
            self.with_state(|state| (selection.look(&state.catalog), state.jitter(options.jitter())));
        if options.index > 0 && seen.index <= options.index {
            let _blocked = Blocked::new(&self.blocked);
            let deadline = Instant::now() + options.wait + jitter;
            while seen.index <= options.index {
                tokio::select! {
                    biased;
                    _ = board.changed() => {
                        let board = board.borrow_and_update();
                        if board.terminations != terminations {
                            break;
                        }
                        if needs_leader && board.leaderless.is_some() {
                            return Err(Refusal::new(500, "rpc error making call: EOF"));
                        }
                    }
                    _ = version.changed() => {
                        version.borrow_and_update();
                        self.with_state(|state| selection.look_again(&state.catalog, &mut seen));
                    }
                    () = sleep_until(deadline) => break,
                }
            }
        }
        let index = seen.index;
        let mut reply =
            Reply::json(selection.body(seen)).with(names::CONSISTENCY, options.consistency.as_str());
        let since = self.leaderless_since();
        let known = hit || since.is_none();
        let contact = since
            .filter(|_| !known)
            .map_or(0, |since| since.elapsed().as_millis());
        reply = reply
            .with(names::KNOWN_LEADER, known.to_string())
            .with(names::LAST_CONTACT, contact.to_string());
        reply = match self.board().index {
            None => reply.with(names::INDEX, index.to_string()),
            Some(IndexFault::Zero) => reply.with(names::INDEX, "0"),
            Some(IndexFault::Missing) => reply,
        };
        if options.cached {
            reply = reply.with(names::CACHE, if hit { "HIT" } else { "MISS" });
            if hit {
                // The agent keeps what it caches up to date; only without a leader does it grow old.
                let age = since.map_or(0, |since| since.elapsed().as_secs());
                reply = reply.with(AGE, age.to_string());
            }
        }
        if self.compat.is_newer() {
            reply = reply
                .with(names::BACKEND, "blocking-query")
                .with(names::ACL_POLICY, "allow");
        }
        Ok(reply)
    }

    /// `GET /v1/agent/service/<id>?hash=…` waits until the service's hash is another one.
    async fn wait_for_hash(&self, call: &AgentCall, query: &Query) {
        let (AgentCall::Service(id), Some(hash)) = (call, query.get("hash").filter(|hash| !hash.is_empty()))
        else {
            return;
        };
        let Ok(options) = ReadOptions::parse(query, &self.datacenter) else {
            return;
        };
        let mut version = self.version.subscribe();
        let deadline = Instant::now() + options.wait;
        let same = |state: &mut State| {
            state
                .services()
                .get(id)
                .is_some_and(|known| known.content_hash() == hash)
        };
        let _blocked = Blocked::new(&self.blocked);
        while self.with_state(same) {
            tokio::select! {
                _ = version.changed() => drop(version.borrow_and_update()),
                () = sleep_until(deadline) => return,
            }
        }
    }

    /// Waits for a leader, but no longer than Consul's servers would.
    async fn leader(&self) -> Result<(), Refusal> {
        let Some(hold) = self.board().leaderless else {
            return Ok(());
        };
        let elected = timeout(hold, self.wait_for(|board| board.leaderless.is_none())).await;
        elected.map_err(|_| Refusal::new(500, "No cluster leader"))
    }

    fn failure(&self, route: &Route) -> Option<Reply> {
        let failure = self.board().failure.clone()?;
        let is_read = matches!(route, Route::Read(_));
        let hit = match failure.calls {
            Calls::All => true,
            Calls::Reads => is_read,
            Calls::Agent => matches!(route, Route::Agent(_)),
        };
        if !hit {
            return None;
        }
        let mut reply = match failure.text.as_str() {
            "" => Reply::empty(failure.status),
            text => Reply::text(failure.status, text.to_owned()),
        };
        if let Some(after) = failure.retry_after {
            reply = reply.with(RETRY_AFTER, after.as_secs().to_string());
        }
        Some(if is_read { meaningless_index(reply) } else { reply })
    }
}

/// The one server there is, as `/v1/status/leader` names it.
const SERVER: &str = "127.0.0.1:8300";

/// What error answers of the catalog carry. A client that believes it starts to wait for a past.
fn meaningless_index(reply: Reply) -> Reply {
    reply
        .with(names::INDEX, "1")
        .with(names::KNOWN_LEADER, "false")
        .with(names::LAST_CONTACT, "0")
}

/// The same read with another index or wait is the same entry of the cache.
fn cache_key(uri: &Uri, query: &Query) -> u64 {
    let mut hasher = DefaultHasher::new();
    uri.path().hash(&mut hasher);
    for pair in query
        .pairs()
        .filter(|(name, _)| !["index", "wait", "cached"].contains(name))
    {
        pair.hash(&mut hasher);
    }
    hasher.finish()
}

fn is_pretty(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| pair == "pretty" || pair.starts_with("pretty="))
}

struct Blocked<'a>(&'a AtomicUsize);

impl<'a> Blocked<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Blocked(counter)
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
