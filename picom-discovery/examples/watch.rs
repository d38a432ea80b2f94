//! Watches a service in Consul and prints every change:
//! `cargo run -p picom-discovery --example watch -- <service>`. The agent is where `CONSUL_HTTP_ADDR` says.

use std::error::Error;
use std::time::Instant;

use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::{Discovery, Freshness, Snapshot};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let name = std::env::args().nth(1).ok_or("usage: watch <service>")?.parse()?;
    let consul = Consul::new(ConsulConfig::from_env()?)?;
    println!("watching {name} through {}", consul.describe());
    let mut watch = consul.watch(&name);
    let mut old = watch.latest();
    let begun = tokio::time::Instant::now().into_std();
    loop {
        let new = watch.changed().await;
        print(begun, &old, &new);
        old = new;
    }
}

fn print(begun: Instant, old: &Snapshot, new: &Snapshot) {
    let at = tokio::time::Instant::now().into_std() - begun;
    let freshness = match &new.freshness {
        Freshness::Pending { error: None } => "pending".to_owned(),
        Freshness::Pending { error: Some(error) } => format!("pending: {error}"),
        Freshness::Live => "live".to_owned(),
        Freshness::Stale { error, .. } => format!("stale: {error}"),
    };
    println!(
        "{:8.3} s  {} usable of {}, {freshness}",
        at.as_secs_f64(),
        new.usable().count(),
        new.instances.len()
    );
    let diff = Snapshot::diff(old, new);
    for (sign, list) in [('+', diff.added), ('~', diff.changed), ('-', diff.removed)] {
        for one in list {
            println!(
                "            {sign} {} {} {:?}",
                one.key(),
                one.authority(),
                one.health
            );
        }
    }
}
