//! Runs the embedded dev agent in the foreground, with a line for every request: something to point a service, the real
//! client, or curl at when there is no Consul.
//!
//! ```text
//! cargo run -p picom-discovery --example dev_agent            # 127.0.0.1:8599
//! cargo run -p picom-discovery --example dev_agent -- 8500    # where Consul would be
//! curl -s 127.0.0.1:8599/v1/health/service/consul?pretty
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use picom_discovery::dev_agent::{DEFAULT_SHARED_PORT, DevAgent, DevAgentConfig, RequestLine};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = match std::env::args().nth(1) {
        Some(text) => text
            .parse::<u16>()
            .map_err(|error| format!("port {text:?}: {error}"))?,
        None => DEFAULT_SHARED_PORT,
    };
    let config = DevAgentConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        observer: Some(Arc::new(print)),
        ..DevAgentConfig::default()
    };
    let agent = DevAgent::start(config).await?;
    println!(
        "a picom dev agent listens on http://{}; ctrl-c ends it",
        agent.addr()
    );
    tokio::signal::ctrl_c().await?;
    agent.stop().await;
    Ok(())
}

fn print(line: &RequestLine) {
    let status = match line.status {
        0 => "cut".to_owned(),
        status => status.to_string(),
    };
    println!(
        "{:>4} {status:>4} {:>9.3} ms  {}",
        line.method,
        line.took.as_secs_f64() * 1e3,
        line.target
    );
}
