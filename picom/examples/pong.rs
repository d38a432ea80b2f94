//! The answering half of two processes: exposes `ping` and runs until Ctrl-C. Start `ping` in another terminal.
//!
//! `cargo run --example pong` registers in Consul as the environment says (`CONSUL_HTTP_ADDR`, 127.0.0.1:8500 if it says
//! nothing); with `-- --dev` in the dev agent that the processes of this machine share. Several may run at a time.

use anyhow::Result;
use picom::{Context, Methods, Picom};
use std::process;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let builder = Picom::builder("pong");
    let builder = if std::env::args().any(|arg| arg == "--dev") {
        builder.dev()
    } else {
        builder
    };
    let pong = builder.build()?;
    pong.expose(Methods::new().unary("ping", |n: u64| async move {
        let context = Context::current();
        let caller = context
            .peer()
            .map(|peer| peer.address.clone())
            .unwrap_or_default();
        println!("ping {n} from {caller}");
        Ok(format!("pong {n} from process {}", process::id()))
    }))
    .await?;
    println!("{}", pong.status());
    let report = pong.run_until_signal().await?;
    println!("pong {report}");
    Ok(())
}
