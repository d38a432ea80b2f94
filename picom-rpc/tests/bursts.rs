//! More calls at once than all connections take streams: each gets its turn, and none waits for those that came later.

use picom_rpc::Methods;
use picom_rpc::testing::InMemory;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a call takes at the service.
const WORK: Duration = Duration::from_millis(10);

/// The slots of four connections are enough for a third of these.
const CALLERS: u32 = 6000;

#[tokio::test(start_paused = true)]
async fn the_first_of_a_burst_are_not_overtaken_by_calls_that_are_made_later() {
    let world = InMemory::new();
    let methods = Methods::new().unary("work", |n: u32| async move {
        sleep(WORK).await;
        Ok(n)
    });
    world.serve("svc", methods).await.unwrap();
    let client = world.client().unwrap();
    let begun = Instant::now();
    // Each makes its next call when the last is answered: there are always as many.
    let callers = (0..CALLERS).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for _ in 0..5 {
                let asked = Instant::now();
                assert_eq!(client.fetch::<u32>("svc", "work", &n).await.unwrap(), n);
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        })
    });
    let mut slowest = Duration::ZERO;
    for caller in callers.collect::<Vec<_>>() {
        slowest = slowest.max(caller.await.unwrap());
    }
    assert!(begun.elapsed() < 20 * WORK, "{:?} for all", begun.elapsed());
    assert!(slowest < 4 * WORK, "{slowest:?} for the slowest");
}
