//! A second load generator, to see whether the ratios of the first are its own doing. It shares no loop, no clock and no
//! statistics with it: one task holds all calls in flight and times every one of them. picom is driven by its public API
//! alone, as a user would; the others by the clients of `picom_bench::peers`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use picom::{Fixed, Methods, Picom};
use picom_bench::caller::{Caller, Target};
use picom_bench::job::{Hosting, Workers};
use picom_bench::peers::bare::mux::Mux;
use picom_bench::peers::bare::ping_pong::PingPong;
use picom_bench::peers::{self, Peer, grpc, tarpc};
use picom_bench::pinning::Pinning;
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;
use tokio::time::Instant;

const HELP: &str = "\
A second load generator: add(i64, i64) in a closed loop, one task, every call timed. For checking ratios.

Usage: picom-load [--in-flight 1,16,64,256] [--peers picom,ping-pong,mux+yield,tonic,tarpc] [--seconds S] [--rounds N]
";

/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", peer] => named(peer).and_then(serve),
        ["load", peer, address, in_flight, millis] => load(peer, address, in_flight, millis),
        ["--help" | "-h" | "help", ..] => {
            print!("{HELP}");
            Ok(())
        }
        _ => compare(&words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn named(name: &str) -> Result<Peer> {
    let found = Peer::ALL.into_iter().find(|peer| peer.name() == name);
    found.with_context(|| format!("there is no peer {name:?}"))
}

/// The server's process: prints its address and goes with its parent.
fn serve(peer: Peer) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = match peer {
            Peer::Picom => {
                let service = Picom::builder("math")
                    .without_environment()
                    .bind(Ipv4Addr::LOCALHOST.into())
                    .discovery(Arc::new(Fixed::new()))
                    .build()?;
                let methods = Methods::new().unary("add", |Add { a, b }: Add| async move { Ok(a + b) });
                service.expose(methods).await?;
                service.status().advertised.context("nothing is advertised")?
            }
            peer => {
                let hosting = Hosting {
                    peer,
                    workers: Workers::CurrentThread,
                    listeners: 1,
                    large: false,
                    agent: None,
                };
                peers::serve(&hosting)
                    .await?
                    .first()
                    .context("no address")?
                    .to_string()
            }
        };
        println!("{address}");
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0)
        });
        pending().await
    })
}

/// The client's process: prints calls a second and three percentiles, in microseconds.
fn load(peer: &str, address: &str, in_flight: &str, millis: &str) -> Result<()> {
    let (in_flight, span) = (in_flight.parse()?, Duration::from_millis(millis.parse()?));
    let target = Target {
        addresses: vec![address.to_owned()],
        ..Target::default()
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(async {
        match named(peer)? {
            Peer::Picom => {
                let caller = Picom::builder("caller")
                    .without_environment()
                    .discovery(Arc::new(Fixed::new().with("math", [address])?))
                    .build()?;
                let call = |n: i64, ()| {
                    let call = caller.fetch::<i64>("math", "add", &Add { a: n, b: 1 });
                    async move { Ok((call.await?, ())) }
                };
                drive(vec![(); in_flight], span, call).await
            }
            Peer::PingPong => drive_with::<PingPong>(&target, in_flight, span).await,
            Peer::MuxYield => drive_with::<Mux<true>>(&target, in_flight, span).await,
            Peer::Tonic => drive_with::<grpc::client::Client>(&target, in_flight, span).await,
            Peer::Tarpc => drive_with::<tarpc::Client>(&target, in_flight, span).await,
            other => bail!("picom-load does not drive {other}"),
        }
    })?;
    println!("{} {} {} {}", seen.rate, seen.p50, seen.p99, seen.p999);
    std::process::exit(0)
}

async fn drive_with<C: Caller>(target: &Target, in_flight: usize, span: Duration) -> Result<Seen> {
    let root = C::connect(target).await?;
    let mut lanes = Vec::new();
    for _ in 0..in_flight {
        lanes.push(root.fork().await?);
    }
    drive(lanes, span, |n, mut lane: C| async move {
        let sum = lane.add(n, 1).await?;
        Ok((sum, lane))
    })
    .await
}

/// Keeps one call of each lane in flight.
async fn drive<L, F>(lanes: Vec<L>, span: Duration, call: impl Fn(i64, L) -> F) -> Result<Seen>
where
    F: Future<Output = Result<(i64, L)>>,
{
    let timed = |n: i64, lane: L| {
        let begun = Instant::now();
        let call = call(n, lane);
        async move {
            let (sum, lane) = call.await?;
            ensure!(sum == n + 1, "a wrong sum");
            let ended = Instant::now();
            anyhow::Ok((ended, ended - begun, lane))
        }
    };
    let begun = Instant::now();
    let (from, to) = (begun + WARM_UP, begun + WARM_UP + span);
    let mut calls = FuturesUnordered::new();
    let mut n = 0;
    for lane in lanes {
        n += 1;
        calls.push(timed(n, lane));
    }
    let mut nanos: Vec<u64> = Vec::new();
    while let Some(done) = calls.next().await {
        let (ended, took, lane) = done?;
        if ended >= to {
            break;
        }
        if ended >= from {
            nanos.push(took.as_nanos() as u64);
        }
        n += 1;
        calls.push(timed(n, lane));
    }
    nanos.sort_unstable();
    let at = |share: f64| -> Result<f64> {
        let index = (nanos.len() as f64 * share) as usize;
        Ok(*nanos.get(index).context("no call came back")? as f64 / 1000.0)
    };
    Ok(Seen {
        rate: nanos.len() as f64 / span.as_secs_f64(),
        p50: at(0.5)?,
        p99: at(0.99)?,
        p999: at(0.999)?,
    })
}

/// Calls a second, and latencies in microseconds.
#[derive(Clone, Copy)]
struct Seen {
    rate: f64,
    p50: f64,
    p99: f64,
    p999: f64,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10.0} {:>9.1} {:>9.1} {:>9.1}",
            self.rate, self.p50, self.p99, self.p999
        )
    }
}

/// Everything, in rounds.
fn compare(words: &[String]) -> Result<()> {
    let (mut seconds, mut rounds) = (1.0f64, 3usize);
    let mut in_flight = vec![1usize, 16, 64, 256];
    let mut peers = vec![
        Peer::PingPong,
        Peer::MuxYield,
        Peer::Tonic,
        Peer::Tarpc,
        Peer::Picom,
    ];
    let mut left = words.iter();
    while let Some(word) = left.next() {
        let value = left.next().with_context(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--seconds" => seconds = value.parse()?,
            "--rounds" => rounds = value.parse()?,
            "--in-flight" => in_flight = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--peers" => peers = value.split(',').map(named).collect::<Result<_>>()?,
            other => bail!("unknown option {other}\n\n{HELP}"),
        }
    }
    let pinning = Pinning::find();
    eprintln!(
        "{}",
        pinning.warning.clone().unwrap_or_else(|| pinning.describe())
    );
    let mut seen: BTreeMap<(usize, Peer), Vec<Seen>> = BTreeMap::new();
    for round in 1..=rounds {
        for &count in &in_flight {
            for &peer in &peers {
                eprintln!("round {round} of {rounds}: {peer}, {count} in flight");
                let one = measure(&pinning, peer, count, seconds)?;
                seen.entry((count, peer)).or_default().push(one);
            }
        }
    }
    println!("in flight  peer         calls/s    p50 µs    p99 µs  p99.9 µs  picom ÷ it");
    for &count in &in_flight {
        for &peer in &peers {
            let Some(its) = seen.get(&(count, peer)) else {
                continue;
            };
            // Within each round, so that what slowed the round slowed both.
            let picoms = seen.get(&(count, Peer::Picom)).into_iter().flatten();
            let ratio = middle(picoms.zip(its).map(|(picom, it)| picom.rate / it.rate).collect());
            let median = Seen {
                rate: middle(its.iter().map(|it| it.rate).collect()),
                p50: middle(its.iter().map(|it| it.p50).collect()),
                p99: middle(its.iter().map(|it| it.p99).collect()),
                p999: middle(its.iter().map(|it| it.p999).collect()),
            };
            println!("{count:>9}  {peer:<9} {median} {ratio:>11.2}");
        }
    }
    Ok(())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn measure(pinning: &Pinning, peer: Peer, in_flight: usize, seconds: f64) -> Result<Seen> {
    let mut server = Server(
        itself(&pinning.server())?
            .args(["serve", peer.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut address = String::new();
    BufReader::new(server.0.stdout.as_mut().context("no output")?).read_line(&mut address)?;
    let millis = (seconds * 1000.0) as u64;
    let output = itself(&pinning.client())?
        .args([
            "load",
            peer.name(),
            address.trim(),
            &in_flight.to_string(),
            &millis.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the client of {peer} failed");
    let text = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [rate, p50, p99, p999] = numbers[..] else {
        bail!("the client of {peer} gave no result")
    };
    Ok(Seen { rate, p50, p99, p999 })
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn itself(before: &[String]) -> Result<Command> {
    let itself = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut words = before.iter().cloned().chain([itself]);
    let mut command = Command::new(words.next().context("no program")?);
    command.args(words);
    Ok(command)
}
