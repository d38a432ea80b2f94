//! Two services in one process, with nothing installed: `service1` exposes methods, `service2` finds it and calls it.
//!
//! Run it with `cargo run --example quickstart`. The agent it starts speaks Consul's HTTP API on a free loopback port, so
//! everything below is what a program with a real Consul does.

use anyhow::Result;
use futures_util::stream;
use picom::dev_agent::{DevAgent, DevAgentConfig};
use picom::{Methods, Picom};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let agent = DevAgent::start(DevAgentConfig::default()).await?;
    let consul = agent.addr();
    println!("a stand-in for Consul listens on {consul}");

    let service1 = Picom::builder("service1")
        .consul_host(consul.ip().to_string())
        .consul_port(consul.port())
        .without_environment()
        .build()?;
    service1
        .expose(
            Methods::new()
                .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
                .stream("count", |n: u64| async move { Ok(stream::iter((1..=n).map(Ok))) }),
        )
        .await?;
    println!("service1 is exposed: {}", service1.status());

    let service2 = Picom::builder("service2")
        .consul_host(consul.ip().to_string())
        .consul_port(consul.port())
        .without_environment()
        .build()?;
    let sum: i64 = service2.fetch("service1", "add", &Add { a: 2, b: 5 }).await?;
    println!("service2 fetched add(2, 5): {sum}");

    let mut numbers = service2
        .stream::<(), u64>("service1", "count", &3u64)
        .receive()
        .await?;
    while let Some(number) = numbers.next().await? {
        println!("service2 received {number}");
    }

    let unknown = service2
        .fetch::<i64>("service1", "subtract", &Add { a: 2, b: 5 })
        .await;
    if let Err(error) = unknown {
        println!("what service1 does not have: {error}");
    }

    println!("service2 {}", service2.end().await);
    println!("service1 {}", service1.end().await);
    agent.stop().await;
    Ok(())
}
