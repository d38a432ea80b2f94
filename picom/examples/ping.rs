//! The calling half of two processes: calls `pong` once a second, ten times. See `pong`.
//!
//! `cargo run --example ping`, or with `-- --dev` through the dev agent that the processes of this machine share. Started
//! before any `pong`, it waits for one.

use anyhow::Result;
use picom::Picom;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let builder = Picom::builder("ping");
    let builder = if std::env::args().any(|arg| arg == "--dev") {
        builder.dev()
    } else {
        builder
    };
    let ping = builder.build()?;
    for n in 1..=10u64 {
        match ping
            .fetch::<String>("pong", "ping", &n)
            .wait_for_ready()
            .timeout(Duration::from_secs(60))
            .await
        {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("{error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("ping {}", ping.end().await);
    Ok(())
}
