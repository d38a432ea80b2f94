//! The end that the system asks for. Alone in its process: signals are the process's.
#![cfg(unix)]

use picom::testing::InMemory;
use picom::{Methods, Picom};
use std::future::poll_fn;
use std::process::{self, Command};
use std::task::Poll;
use std::time::Duration;

/// Signals are the process's: one test at a time may send any.
static SIGNALS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn terminate() {
    let sent = Command::new("kill")
        .args(["-TERM", &process::id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

async fn exposed(world: &InMemory, methods: Methods) -> Picom {
    let picom = Picom::builder("s")
        .in_memory(world)
        .keep_accepting(Duration::ZERO)
        .build()
        .unwrap();
    picom.expose(methods).await.unwrap();
    picom
}

#[tokio::test]
async fn run_until_signal_ends_the_service_on_sigterm() {
    let _alone = SIGNALS.lock().await;
    let world = InMemory::new();
    let picom = exposed(
        &world,
        Methods::new().unary("echo", |n: u64| async move { Ok(n) }),
    )
    .await;
    let mut running = Box::pin(picom.run_until_signal());
    // From its first poll on the signal is caught.
    assert!(
        poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    assert_eq!(picom.fetch::<u64>("s", "echo", &3u64).await.unwrap(), 3);
    terminate();
    let report = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("it ends")
        .unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(world.registry().registrations().is_empty());
}

#[tokio::test]
async fn a_second_signal_cuts_what_is_not_finished() {
    let _alone = SIGNALS.lock().await;
    let world = InMemory::new();
    let (started, mut was_started) = tokio::sync::mpsc::unbounded_channel();
    let methods = Methods::new().unary("never", move |(): ()| {
        started.send(()).unwrap();
        std::future::pending::<Result<(), picom::Fault>>()
    });
    let picom = exposed(&world, methods).await;
    let caller = Picom::builder("caller").in_memory(&world).build().unwrap();
    let call = tokio::spawn(async move { caller.fetch::<()>("s", "never", &()).await });
    was_started.recv().await.unwrap();
    let mut running = Box::pin(picom.run_until_signal());
    assert!(
        poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    terminate();
    // The service leaves the registry; the call holds up the rest.
    while !world.registry().registrations().is_empty() {
        assert!(
            poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx)))
                .await
                .is_pending()
        );
        tokio::task::yield_now().await;
    }
    terminate();
    let report = tokio::time::timeout(Duration::from_secs(10), running)
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(report.calls_cut, 1, "{report:?}");
    assert!(report.took < Duration::from_secs(5), "{report:?}");
    assert_eq!(
        call.await.unwrap().unwrap_err().outcome(),
        picom::Outcome::MaybeExecuted
    );
}
