//! What can be made to go wrong on purpose: the handle tests hold, and the board that `hub`, `respond` and `server` look at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Consul's `rpc_hold_timeout`: how long a server waits for a leader before it gives a request up.
const LEADER_HOLD: Duration = Duration::from_secs(7);

/// Which calls a [`Failure`] hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Every call.
    All,
    /// Reads of the catalog, blocking ones included: `/v1/health`, `/v1/catalog`.
    Reads,
    /// Calls of the agent: registrations, heartbeats, `/v1/agent/…`.
    Agent,
}

/// An answer given instead of the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The calls it is given to.
    pub calls: Calls,
    /// Its status.
    pub status: u16,
    /// Its text.
    pub text: String,
    /// Whole seconds in a `Retry-After` header; none if `None`.
    pub retry_after: Option<Duration>,
}

/// What a read's index header says instead of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexFault {
    /// `X-Consul-Index: 0`.
    Zero,
    /// No header.
    Missing,
}

/// How a dev agent is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// As by SIGKILL: every connection drops.
    Killed,
    /// As by SIGTERM: blocked reads are answered with what they saw, then connections close.
    Terminated,
}

/// The faults in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    pub(crate) paused: bool,
    pub(crate) answers_held: bool,
    pub(crate) down: bool,
    pub(crate) slow: Duration,
    pub(crate) failure: Option<Failure>,
    pub(crate) leaderless: Option<Duration>,
    pub(crate) index: Option<IndexFault>,
    pub(crate) truncate: Option<usize>,
    pub(crate) connection_cap: Option<usize>,
    /// Counts orders to drop every connection.
    pub(crate) drops: u64,
    /// Counts orders to answer what is blocked and close.
    pub(crate) terminations: u64,
    /// Counts orders to forget the state.
    pub(crate) restarts: u64,
    /// Counts orders to restart the indexes, and where.
    pub(crate) renumberings: (u64, u64),
}

/// A handle on what goes wrong in a dev agent. Clones act on the same agent. An order takes effect at once for requests
/// that have not begun; what is said to end (a pause, a held answer) ends for those that wait too.
#[derive(Debug, Clone)]
pub struct Faults {
    board: Arc<watch::Sender<Board>>,
}

impl Faults {
    pub(crate) fn new() -> Faults {
        Faults {
            board: Arc::new(watch::Sender::new(Board::default())),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Board> {
        self.board.subscribe()
    }

    /// Stops the agent as SIGSTOP does: connections are accepted and requests read, nothing is done or answered, no TTL
    /// runs out. After [`resume`](Self::resume) TTLs run out first, then requests are done, even those whose clients
    /// have gone.
    pub fn pause(&self) {
        self.board.send_modify(|board| board.paused = true);
    }

    /// Does what is asked, but holds the answers until [`resume`](Self::resume).
    pub fn hold_answers(&self) {
        self.board.send_modify(|board| board.answers_held = true);
    }

    /// Ends [`pause`](Self::pause) and [`hold_answers`](Self::hold_answers).
    pub fn resume(&self) {
        self.board.send_modify(|board| {
            board.paused = false;
            board.answers_held = false;
        });
    }

    /// Delays every answer by so much; zero ends it.
    pub fn slow(&self, delay: Duration) {
        self.board.send_modify(|board| board.slow = delay);
    }

    /// Closes every connection now, whatever it waits for. New ones are welcome.
    pub fn drop_connections(&self) {
        self.board.send_modify(|board| board.drops += 1);
    }

    /// Goes away: every connection is dropped and new ones are refused, until [`come_back`](Self::come_back). The state
    /// stays; see [`restart`](Self::restart). An agent with a port closes it a moment later; see
    /// [`DevAgent::until_listening`](super::DevAgent::until_listening).
    pub fn go_away(&self) {
        self.board.send_modify(|board| {
            board.down = true;
            board.drops += 1;
        });
    }

    /// Listens again after [`go_away`](Self::go_away), on the same port.
    pub fn come_back(&self) {
        self.board.send_modify(|board| board.down = false);
    }

    /// Forgets all registrations and starts the indexes anew, as a restarted agent without a data directory does.
    /// Connections end as `how` says.
    pub fn restart(&self, how: Restart) {
        self.board.send_modify(|board| {
            match how {
                Restart::Killed => board.drops += 1,
                Restart::Terminated => board.terminations += 1,
            }
            board.restarts += 1;
        });
    }

    /// `restart(Restart::Killed)`.
    pub fn forget_state(&self) {
        self.restart(Restart::Killed);
    }

    /// Loses the cluster's leader: default reads are held 7 s, Consul's `rpc_hold_timeout`, and then are a 500; stale
    /// reads and cached ones known before are answered; calls of the agent are held, then done, and reach the catalog
    /// when there is a [leader](Self::elect_leader) again. Blocked default reads are a 500 at once.
    pub fn lose_leader(&self) {
        self.lose_leader_holding(LEADER_HOLD);
    }

    /// [`lose_leader`](Self::lose_leader) with another time to hold.
    pub fn lose_leader_holding(&self, hold: Duration) {
        self.board.send_modify(|board| board.leaderless = Some(hold));
    }

    /// Finds a leader again.
    pub fn elect_leader(&self) {
        self.board.send_modify(|board| board.leaderless = None);
    }

    /// Gives everything in the catalog the index `to`, as the restored snapshot of an older cluster does. Blocked reads
    /// keep waiting for their old, higher index, as they do on Consul.
    pub fn reset_index(&self, to: u64) {
        self.board
            .send_modify(|board| board.renumberings = (board.renumberings.0 + 1, to));
    }

    /// Lies about the index of reads; `None` ends it.
    pub fn index(&self, fault: Option<IndexFault>) {
        self.board.send_modify(|board| board.index = fault);
    }

    /// Answers with a failure instead; `None` ends it.
    pub fn fail(&self, failure: Option<Failure>) {
        self.board.send_modify(|board| board.failure = failure);
    }

    /// Answers every call with an empty 429, as an agent over its `limits.rpc_rate` does.
    pub fn rate_limit(&self, retry_after: Option<Duration>) {
        self.fail(Some(Failure {
            calls: Calls::All,
            status: 429,
            text: String::new(),
            retry_after,
        }));
    }

    /// Ends every body after so many bytes and closes the connection; `None` ends it.
    pub fn truncate_bodies(&self, after: Option<usize>) {
        self.board.send_modify(|board| board.truncate = after);
    }

    /// Sets how many connections one client address may have; `None` is what the configuration says. Connections that
    /// are open stay.
    pub fn connection_cap(&self, cap: Option<usize>) {
        self.board.send_modify(|board| board.connection_cap = cap);
    }

    /// Ends everything that has an end: after this the agent works as it should. State that is lost stays lost.
    pub fn heal(&self) {
        self.board.send_modify(|board| {
            *board = Board {
                drops: board.drops,
                terminations: board.terminations,
                restarts: board.restarts,
                renumberings: board.renumberings,
                ..Board::default()
            };
        });
    }
}
