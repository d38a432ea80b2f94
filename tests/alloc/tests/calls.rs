//! What a small call costs on each side once connections stand and buffers have grown: how often the allocator is asked,
//! by the public API over real sockets, with everything on that users have on. Each side has a thread of its own, and
//! counts are kept by thread.

use futures_util::future::join_all;
use picom::{Fixed, Methods, Picom};
use picom_alloc::taken;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// So that what is grown now and then, a histogram or a queue, does not count for each.
const CALLS: usize = 2000;

/// For such growth, for timers, for blocks that small bodies share, and for telling the other side when to count: over all
/// calls together.
const PASSING: usize = 240;

/// Per call of the caller's side: nothing.
const CALLER: usize = 0;

/// Per call of the service's side: the context and the handler's future. Where the machine is busy, some polls seem slow and
/// their handlers get tasks of their own: hence two more.
const SERVICE: usize = 4;

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A service on a thread of its own.
struct Service {
    address: String,
    /// Ends a span of counting; the thread answers with what it took.
    spans: mpsc::Sender<oneshot::Receiver<()>>,
    counts: mpsc::Receiver<usize>,
}

impl Service {
    fn start() -> Self {
        let (spans, next) = mpsc::channel::<oneshot::Receiver<()>>();
        let (told, counts) = mpsc::channel();
        let (announced, address) = mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime();
            let service = Picom::builder("math")
                .without_environment()
                .bind(Ipv4Addr::LOCALHOST.into())
                .discovery(Arc::new(Fixed::new()))
                .build()
                .unwrap();
            let methods = Methods::new().unary("add", |Add { a, b }: Add| async move { Ok(a + b) });
            runtime.block_on(service.expose(methods)).unwrap();
            announced.send(service.status().advertised.unwrap()).unwrap();
            for end in next {
                let ((), counted) = taken(|| drop(runtime.block_on(end)));
                told.send(counted.count).unwrap();
            }
        });
        let address = address.recv().unwrap();
        Service {
            address,
            spans,
            counts,
        }
    }

    /// What this thread and the service's take from the allocator for some calls, in this order.
    fn count(&self, calls: impl FnOnce()) -> (usize, usize) {
        let (end, ended) = oneshot::channel();
        self.spans.send(ended).unwrap();
        let ((), here) = taken(calls);
        end.send(()).unwrap();
        (here.count, self.counts.recv().unwrap())
    }
}

async fn calls(caller: &Picom, count: usize) {
    for n in 0..count as i64 {
        let sum: i64 = caller.fetch("math", "add", &Add { a: n, b: 5 }).await.unwrap();
        assert_eq!(sum, n + 5);
    }
}

#[test]
fn a_small_call_costs_a_few_allocations_and_no_more() {
    let service = Service::start();
    let runtime = runtime();
    let fixed = Fixed::new().with("math", [&service.address]).unwrap();
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed))
        .build()
        .unwrap();
    for lanes in [1, 16] {
        let some = || {
            runtime.block_on(async {
                join_all((0..lanes).map(|_| calls(&caller, CALLS / lanes))).await;
            });
        };
        // Connects, and lets buffers grow.
        service.count(some);
        let (here, there) = service.count(some);
        eprintln!("{lanes} in flight: {here} and {there} allocations for {CALLS} calls");
        for (side, count, ceiling) in [("caller", here, CALLER), ("service", there, SERVICE)] {
            assert!(
                count <= CALLS * ceiling + PASSING,
                "{lanes} in flight: {count} allocations of the {side} for {CALLS} calls"
            );
        }
    }
}
