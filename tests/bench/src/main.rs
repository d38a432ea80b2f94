//! `picom-bench`: measures picom beside its peers. `run` starts the program again as server, client and agent.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use picom_bench::command_line::{self, Asked};
use picom_bench::job::Job;
use picom_bench::peers::Peer;
use picom_bench::stall::Stalls;
use picom_bench::{agent, cell, host, load, run};

/// How much longer than its measurement a client may take before it is given up.
const OVERDUE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let role = words.next().unwrap_or_default();
    match role.as_str() {
        "run" => match command_line::read(words.collect())? {
            Asked::Run(options) => run::run(&options)?,
            Asked::Help => print!("{}", command_line::HELP),
            Asked::List => list(),
        },
        "server" => host::run(&serde_json::from_str(
            &words.next().context("server wants a job")?,
        )?)?,
        "agent" => agent::run()?,
        "stalls" => {
            let millis = words.next().context("stalls wants a time")?.parse()?;
            println!(
                "{}",
                serde_json::to_string(&Stalls::watch(Duration::from_millis(millis)))?
            );
        }
        "client" => {
            let job: Job = serde_json::from_str(&words.next().context("client wants a job")?)?;
            give_up_after(Duration::from_millis(job.warm_up_ms + job.measure_ms) + OVERDUE);
            println!("{}", serde_json::to_string(&load::run(&job)?)?);
            // What still runs is of no interest, and taking it down in order might take long.
            std::process::exit(0);
        }
        "" | "help" | "--help" | "-h" => print!("{}", command_line::HELP),
        other => bail!("there is no command {other:?}; `picom-bench run --help` tells more"),
    }
    Ok(())
}

fn give_up_after(span: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(span);
        eprintln!("error: the client hangs");
        std::process::exit(1);
    });
}

fn list() {
    for cell in cell::all() {
        let peers = cell.peers.iter().map(|peer| peer.name()).collect::<Vec<_>>();
        println!("{:<16} {:<50} {}", cell.id, cell.title, peers.join(" "));
    }
    println!("\npeers: {}", Peer::ALL.map(Peer::name).join(" "));
}
