//! What discovery costs: a service of 1,000 instances of which one changes every 100 ms, the same without a change, and
//! 200 names in one process, against the dev agent: `cargo run --release -p picom-discovery --example cost`.
//!
//! The CPU time is that of the thread the watch runs on, as the kernel counts it, so this needs Linux. The dev agent has
//! a thread of its own, which does not count.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};
use picom_discovery::{Discovery, ServiceName, Snapshot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const INSTANCES: u16 = 1000;
const NAMES: usize = 200;
const CHANGE_EVERY: Duration = Duration::from_millis(100);
const MEASURED: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let agent = runtime.block_on(DevAgent::start(DevAgentConfig::default()))?;
    let address = agent.addr();
    // Who changes things has a thread of its own as well: only watching is measured.
    let (stop, mut stopped) = tokio::sync::watch::channel(Some(false));
    let changing = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            for number in 0..INSTANCES {
                register(address, "big", number, 0).await?;
            }
            stopped.wait_for(|state| *state == Some(true)).await?;
            for change in 1.. {
                if stopped.borrow().is_none() {
                    return Ok(());
                }
                register(address, "big", change % INSTANCES, change).await?;
                sleep(CHANGE_EVERY).await;
            }
            Ok(())
        })
    });
    runtime.block_on(async {
        let config = ConsulConfig::new(address.ip().to_string(), address.port());
        let consul = Consul::new(config.clone())?;
        let mut watch = consul.watch(&ServiceName::new("big")?);
        while watch.latest().instances.len() < usize::from(INSTANCES) {
            watch.changed().await;
        }

        let before = cpu()?;
        sleep(MEASURED).await;
        let idle = cpu()? - before;
        println!("unchanged, {INSTANCES} instances: {:.3} % of a core", share(idle, MEASURED));

        stop.send_replace(Some(true));
        let (before, begun) = (cpu()?, Instant::now());
        let (mut updates, mut changed, mut last) = (0, 0, watch.latest());
        while begun.elapsed() < MEASURED {
            if let Ok(next) = timeout(CHANGE_EVERY * 10, watch.changed()).await {
                changed += Snapshot::diff(&last, &next).changed.len();
                (updates, last) = (updates + 1, next);
            }
        }
        let busy = cpu()? - before;
        println!(
            "one change every {CHANGE_EVERY:?}: {:.1} % of a core, {updates} updates, {changed} changes in {:.1} s",
            share(busy, begun.elapsed()),
            begun.elapsed().as_secs_f64()
        );
        println!("  {:.2} ms an update", busy.as_secs_f64() * 1000.0 / f64::from(updates.max(1)));
        stop.send_replace(None);
        drop(watch);

        let begun = Instant::now();
        let mut watches = Vec::new();
        for number in 0..NAMES {
            watches.push(consul.watch(&ServiceName::new(format!("name{number}"))?));
        }
        for watch in &mut watches {
            watch.ready().await;
        }
        println!("{NAMES} names, {} places: all known after {:?}", config.max_watches, begun.elapsed());
        println!("  connections at the agent: {}", agent.counters().connections);
        let begun = Instant::now();
        register(address, "name199", 1, 0).await?;
        if let Some(last) = watches.last_mut() {
            while last.latest().instances.is_empty() {
                last.changed().await;
            }
        }
        println!("  a change of the last of them was seen after {:?}", begun.elapsed());
        let stale = watches.iter().filter(|watch| !watch.latest().freshness.is_live()).count();
        println!("  stale at that moment: {stale}");
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })?;
    match changing.join() {
        Ok(ended) => ended,
        Err(_) => Err("who changes things has panicked".into()),
    }
}

/// Registers one instance, with something about it that differs.
async fn register(address: SocketAddr, service: &str, number: u16, version: u16) -> Result<()> {
    let body = format!(
        r#"{{"ID": "{service}-{number}", "Name": "{service}", "Address": "10.0.0.1", "Port": {},
            "Meta": {{"version": "{version}"}}, "Check": {{"TTL": "10m", "Status": "passing"}}}}"#,
        10_000 + number
    );
    let head = format!(
        "PUT /v1/agent/service/register HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all((head + &body).as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(()),
        false => Err(answer.into()),
    }
}

/// What this thread has used, in user mode and in the kernel's: the first number of its schedstat, in nanoseconds.
fn cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

fn share(used: Duration, of: Duration) -> f64 {
    used.as_secs_f64() * 100.0 / of.as_secs_f64()
}
