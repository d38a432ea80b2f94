//! Where heartbeats run: on a thread of their own, one for the process, so that a user's runtime that is blocked or
//! busy cannot keep a healthy service from saying so.

use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};

/// Where registrations are kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lane {
    /// On the process's own heartbeat thread, started at the first registration and kept.
    #[default]
    Thread,
    /// On the runtime `register` is called on: for tests with a paused clock, and for simulations.
    Inline,
}

/// The runtime of the heartbeat thread, once there is one.
static THREAD: Mutex<Option<Handle>> = Mutex::new(None);

impl Lane {
    /// Runs `task` on the lane.
    ///
    /// # Errors
    /// The thread could not be started; for [`Lane::Inline`], there is no runtime here.
    pub(crate) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let handle = match self {
            Self::Thread => thread_handle()?,
            Self::Inline => Handle::try_current().map_err(io::Error::other)?,
        };
        handle.spawn(task);
        Ok(())
    }
}

fn thread_handle() -> io::Result<Handle> {
    let mut slot = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*slot {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("picom-heartbeat".to_owned())
        .spawn(move || {
            // It ends with the process: what runs on it ends by itself, and an idle runtime costs a parked thread.
            runtime.block_on(std::future::pending::<()>());
        })?;
    *slot = Some(handle.clone());
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn all_tasks_of_the_thread_lane_share_one_thread_that_is_not_ours() {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..2 {
            let sender = sender.clone();
            let task = async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender
                    .send((
                        thread::current().id(),
                        thread::current().name().map(str::to_owned),
                    ))
                    .unwrap();
            };
            Lane::Thread.spawn(task).unwrap();
        }
        let wait = Duration::from_secs(10);
        let (first, second) = (
            receiver.recv_timeout(wait).unwrap(),
            receiver.recv_timeout(wait).unwrap(),
        );
        assert_eq!(first, second);
        assert_ne!(first.0, thread::current().id());
        assert_eq!(first.1.as_deref(), Some("picom-heartbeat"));
    }

    #[test]
    fn an_inline_lane_needs_a_runtime() {
        assert!(Lane::Inline.spawn(async {}).is_err());
    }
}
