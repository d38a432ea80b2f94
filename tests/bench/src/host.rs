//! The server's process: a runtime, a peer's server, and a port that says how far it is.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result};
use tokio::runtime::{Builder, Runtime};

use crate::job::{HostState, Hosted, Hosting, Workers};
use crate::{peers, service};

/// Serves until the process that started it has gone.
///
/// # Errors
///
/// When the peer cannot listen.
pub fn run(hosting: &Hosting) -> Result<()> {
    let runtime = runtime(hosting.workers, None)?;
    let addresses = runtime.block_on(peers::serve(hosting))?;
    let hosted = Hosted {
        addresses: addresses.iter().map(ToString::to_string).collect(),
        control: control()?,
        pid: std::process::id(),
    };
    println!("{}", serde_json::to_string(&hosted)?);
    leave_with_parent();
    runtime.block_on(std::future::pending())
}

/// A runtime as a job wants it. `every`: how many turns of tasks lie between two looks at the sockets, if not tokio's own
/// number.
///
/// # Errors
///
/// When the system gives no thread.
pub fn runtime(workers: Workers, every: Option<u32>) -> Result<Runtime> {
    let mut builder = match workers {
        Workers::CurrentThread => Builder::new_current_thread(),
        Workers::Threads(count) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(count);
            builder
        }
    };
    if let Some(every) = every {
        builder.event_interval(every);
    }
    builder.enable_all().build().context("no runtime")
}

/// What the control port of a server says.
///
/// # Errors
///
/// When it does not answer.
pub fn state(hosted: &Hosted) -> Result<HostState> {
    let mut text = String::new();
    TcpStream::connect(&hosted.control)?.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn control() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for io in listener.incoming() {
            let state = HostState {
                slow_started: service::slow_started(),
            };
            if let (Ok(mut io), Ok(text)) = (io, serde_json::to_string(&state)) {
                let _ = io.write_all(text.as_bytes());
            }
        }
    });
    Ok(address)
}

/// Ends this process when its standard input ends, which it does with the process that started it, however that ended.
pub fn leave_with_parent() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}
