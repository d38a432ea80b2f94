//! A service as a process of its own, told what to do by lines of JSON on its input, and answering on its output. It ends
//! when its input does.

mod commands;
mod failure;
mod load;
mod methods;
mod output;
mod streams;

use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use picom_e2e::protocol::{Command, Line};
use serde_json::Value;

use commands::Host;

/// Threads of the runtime. Two, so that there is more than one and a machine with two cores is not crowded.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    hush_panics_on_purpose();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let host = Arc::new(Host::default());
    // This thread reads and is no thread of the runtime: what blocks the runtime does not block it.
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str::<Line>(&line) {
            Ok(Line {
                number,
                command: Command::Block(ms),
            }) => {
                block(&runtime, number, Duration::from_millis(ms));
            }
            Ok(Line { number, command }) => host.clone().take(&runtime, number, command),
            Err(error) => {
                eprintln!("{line:?} is no command: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    // Whoever gave the commands is gone, and waits for nothing.
    runtime.shutdown_background();
    ExitCode::SUCCESS
}

/// Keeps every thread of the runtime from doing anything else.
fn block(runtime: &tokio::runtime::Runtime, number: u64, span: Duration) {
    // Nobody sleeps before everybody is here: one thread cannot do another's share.
    let together = Arc::new(Barrier::new(WORKERS));
    for worker in 0..WORKERS {
        let together = together.clone();
        runtime.spawn(async move {
            together.wait();
            std::thread::sleep(span);
            if worker == 0 {
                output::answer(number, Ok(Value::Null));
            }
        });
    }
}

/// Panics that a test asked for are not reported where one looks for those that nobody asked for.
fn hush_panics_on_purpose() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // It is a `String`, as the text is put together.
        let text = panic.payload().downcast_ref::<String>();
        if !text.is_some_and(|text| text.starts_with(methods::ON_PURPOSE)) {
            report(panic);
        }
    }));
}
