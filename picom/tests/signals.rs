//! The end that the system asks for. Alone in its process: signals are the process's.
#![cfg(unix)]

use picom::testing::InMemory;
use picom::{Methods, Picom};
use std::future::poll_fn;
use std::process::{self, Command};
use std::task::Poll;
use std::time::Duration;

#[tokio::test]
async fn run_until_signal_ends_the_service_on_sigterm() {
    let world = InMemory::new();
    let picom = Picom::builder("s")
        .in_memory(&world)
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    picom
        .expose(Methods::new().unary("echo", |n: u64| async move { Ok(n) }))
        .await
        .unwrap();
    let mut running = Box::pin(picom.run_until_signal());
    // From its first poll on the signal is caught.
    assert!(
        poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    assert_eq!(picom.fetch::<u64>("s", "echo", &3u64).await.unwrap(), 3);
    let sent = Command::new("kill")
        .args(["-TERM", &process::id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let report = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("it ends")
        .unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(world.registry().registrations().is_empty());
}
