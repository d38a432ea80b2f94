//! Registers a service in Consul, keeps it passing, and takes it back on Ctrl-C:
//! `cargo run -p picom-discovery --example register -- <service> <port> [ttl in seconds] [id]`. The agent is where
//! `CONSUL_HTTP_ADDR` says; without one it waits for it.

use std::error::Error;
use std::time::Duration;

use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::{Discovery, OnUnavailable, Registration, ServiceName};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: register <service> <port> [ttl in seconds] [id]";
    let name: ServiceName = arguments.next().ok_or(usage)?.parse()?;
    let port = arguments.next().ok_or(usage)?.parse()?;
    let ttl = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let mut registration = Registration::new(name, "127.0.0.1", port)?
        .with_ttl(Duration::from_secs(ttl))?
        .with_native_version(1)?;
    if let Some(id) = arguments.next() {
        registration = registration.with_id(id)?;
    }
    let consul = Consul::new(ConsulConfig::from_env()?)?;
    let mut lease = consul.register(registration, OnUnavailable::KeepTrying).await?;
    println!("{} at {}: {:?}", lease.id(), consul.describe(), lease.state());
    loop {
        tokio::select! {
            state = lease.changed() => println!("{state:?}"),
            signal = tokio::signal::ctrl_c() => {
                signal?;
                break;
            }
        }
    }
    lease.end(Duration::from_secs(5)).await?;
    println!("deregistered");
    Ok(())
}
