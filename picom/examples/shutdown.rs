//! An orderly end while calls run: those that finish in time are finished, those that do not are cut, counted, and told.
//!
//! Run it with `cargo run --example shutdown`; everything is in this process and in memory.

use anyhow::Result;
use picom::testing::InMemory;
use picom::{Methods, Picom};
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<()> {
    let world = InMemory::new();
    let work = Picom::builder("work")
        .in_memory(&world)
        .keep_accepting(Duration::from_millis(200))
        .drain_timeout(Duration::from_secs(2))
        .build()?;
    work.expose(Methods::new().unary("sleep", |millis: u64| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        Ok(millis)
    }))
    .await?;

    let app = Picom::builder("app").in_memory(&world).build()?;
    let mut calls = JoinSet::new();
    for millis in [100, 500, 1500, 60_000] {
        let app = app.clone();
        calls.spawn(async move { (millis, app.fetch::<u64>("work", "sleep", &millis).await) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    println!("{} calls run; work ends now", calls.len());

    let ending = tokio::spawn({
        let work = work.clone();
        async move { work.end().await }
    });
    while let Some(call) = calls.join_next().await {
        match call? {
            (millis, Ok(_)) => println!("the call of {millis} ms was finished"),
            (millis, Err(error)) => println!("the call of {millis} ms: {error}"),
        }
    }
    println!("work {}", ending.await?);

    if let Err(error) = app.fetch::<u64>("work", "sleep", &1u64).await {
        println!("afterwards: {error}");
    }
    app.end().await;
    Ok(())
}
