//! The loop that accepts, its pauses, and its end.

use super::{Inner, Stop, TICK};
use crate::connector::{Acceptor, BoxIo};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{self, Instant};

/// After an error of accept the loop pauses, longer each time: without descriptors it would spin (measured: 700,000 errors a second).
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// At the end, nobody waits in the kernel when accept has given none for so long: it is only to be told of them.
const QUIET: Duration = Duration::from_millis(10);
/// Whoever comes so much later is refused, and can go elsewhere: enough to accept a full queue of the kernel's.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Owns the acceptor: when it ends the address is free again, and nobody dials where nobody answers.
pub(super) async fn accept(inner: Arc<Inner>, acceptor: Arc<dyn Acceptor>) {
    // Told also when the runtime drops the task.
    let over = Over(inner.clone());
    let mut stop = inner.stop.subscribe();
    let mut pause = FIRST_PAUSE;
    loop {
        inner.tick();
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop != Stop::Not) => break,
            accepted = acceptor.accept() => accepted,
            () = time::sleep(TICK) => continue,
        };
        match accepted {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                if !let_in(&inner, accepted, &mut stop).await {
                    break;
                }
            }
            Err(error) => {
                let errors = inner.accept_errors.fetch_add(1, Ordering::Relaxed);
                if errors == 0 || pause == LONGEST_PAUSE {
                    tracing::warn!(%error, "accepting connections fails; calls on open ones go on");
                }
                // The one that waits for it may have something to say.
                if lacks_descriptors(&error) && inner.evict_silent() {
                    pause = FIRST_PAUSE;
                }
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop != Stop::Not) => break,
                    () = time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    let until = Instant::now() + LAST_CALL;
    while Instant::now() < until {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop == Stop::AtOnce) => break,
            accepted = acceptor.accept() => accepted,
            () = time::sleep(QUIET) => break,
        };
        let Ok(accepted) = accepted else { break };
        if !let_in(&inner, accepted, &mut stop).await {
            break;
        }
    }
    drop(acceptor);
    drop(over);
}

/// Lets one in, when there is room. False: everything ends at once.
async fn let_in(
    inner: &Arc<Inner>,
    (io, address): (BoxIo, String),
    stop: &mut watch::Receiver<Stop>,
) -> bool {
    let room = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop == Stop::AtOnce) => return false,
        room = inner.make_room() => room,
    };
    if room {
        inner.welcome(io, address);
    } else {
        inner.turned_away.fetch_add(1, Ordering::Relaxed);
    }
    true
}

/// The process, or the machine, has no descriptors left: EMFILE and ENFILE, which have no `ErrorKind`.
fn lacks_descriptors(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

struct Over(Arc<Inner>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.over.send_replace(true);
    }
}
