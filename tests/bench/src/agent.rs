//! The stand-in for a Consul agent, as a process.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};

use crate::host::{self, leave_with_parent};
use crate::job::Workers;

/// Runs it until the process that started it has gone; its first line says its address.
///
/// # Errors
///
/// When it cannot listen.
pub fn run() -> Result<()> {
    let runtime = host::runtime(Workers::CurrentThread, None)?;
    let config = DevAgentConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..DevAgentConfig::default()
    };
    let agent = runtime
        .block_on(DevAgent::start(config))
        .context("the agent does not start")?;
    println!("{}", serde_json::to_string(&agent.addr().to_string())?);
    leave_with_parent();
    runtime.block_on(std::future::pending())
}
