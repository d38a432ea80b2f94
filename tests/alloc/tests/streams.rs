//! What a small item of a stream costs on each side once buffers have grown: nothing of its own. What is asked of the
//! allocator is for packs of hundreds.

use futures_util::{StreamExt, stream};
use picom::{Fixed, In, Methods, Out, Picom};
use picom_alloc::taken;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::thread;
use tokio::runtime::{Builder, Runtime};

const ITEMS: u64 = 100_000;

/// Allocations per item, at most: one for each this many. A full pack has about 1,500 of these items; of those sent one by
/// one every sixteenth goes through the line of those who wait.
const TOGETHER: usize = 50;
const ONE_BY_ONE: usize = 10;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Point {
    id: u64,
    x: f64,
}

fn point(id: u64) -> Point {
    Point { id, x: id as f64 }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The address of a service on a thread of its own, which tells what it took for each stream.
fn service() -> (String, mpsc::Receiver<usize>) {
    let (announced, address) = mpsc::channel();
    let (told, counts) = mpsc::channel();
    thread::spawn(move || {
        let runtime = runtime();
        let service = Picom::builder("points")
            .without_environment()
            .bind(Ipv4Addr::LOCALHOST.into())
            .discovery(Arc::new(Fixed::new()))
            .build()
            .unwrap();
        let methods = Methods::new()
            .stream("all", |_: ()| async move {
                Ok(stream::iter((0..ITEMS).map(|id| Ok(point(id)))))
            })
            .bidi(
                "mirror",
                |_: (), mut points: In<Point>, out: Out<Point>| async move {
                    while let Some(point) = points.next().await? {
                        out.send(point).await?;
                    }
                    Ok(())
                },
            );
        let ((), _) = taken(|| runtime.block_on(service.expose(methods)).unwrap());
        announced.send(service.status().advertised.unwrap()).unwrap();
        loop {
            let turns = async {
                // Long enough for a stream: the other side says when it counts.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            };
            let ((), counted) = taken(|| runtime.block_on(turns));
            if told.send(counted.count).is_err() {
                return;
            }
        }
    });
    (address.recv().unwrap(), counts)
}

async fn all(caller: &Picom) {
    let mut points = caller
        .stream::<(), Point>("points", "all", &())
        .receive()
        .await
        .unwrap();
    for id in 0..ITEMS {
        assert_eq!(points.next().await.unwrap().unwrap().id, id);
    }
    assert!(points.next().await.unwrap().is_none());
}

async fn mirror(caller: &Picom) {
    let (out, mut points) = caller
        .stream::<Point, Point>("points", "mirror", &())
        .await
        .unwrap();
    let send = async {
        for id in 0..ITEMS {
            out.send(point(id)).await.unwrap();
        }
        out.finish().unwrap();
    };
    let receive = async {
        for id in 0..ITEMS {
            assert_eq!(StreamExt::next(&mut points).await.unwrap().unwrap().id, id);
        }
    };
    tokio::join!(send, receive);
}

#[test]
fn a_small_item_costs_no_allocation_of_its_own() {
    let (address, counts) = service();
    let runtime = runtime();
    let fixed = Fixed::new().with("points", [&address]).unwrap();
    let caller = Picom::builder("caller")
        .without_environment()
        .discovery(Arc::new(fixed))
        .build()
        .unwrap();
    let there = || counts.try_iter().sum::<usize>();
    for (name, share) in [("all", TOGETHER), ("mirror", ONE_BY_ONE)] {
        let run = || match name {
            "all" => runtime.block_on(all(&caller)),
            _ => runtime.block_on(mirror(&caller)),
        };
        // Connects, and lets buffers grow.
        run();
        let _ = counts.recv().unwrap();
        there();
        let ((), here) = taken(run);
        // Two turns: the one in which the stream ended is told by then.
        let there = there() + counts.recv().unwrap() + counts.recv().unwrap();
        eprintln!("{name}: {} and {there} allocations for {ITEMS} items", here.count);
        for (side, count) in [("caller", here.count), ("service", there)] {
            assert!(
                count <= ITEMS as usize / share,
                "{name}: {count} allocations of the {side} for {ITEMS} items"
            );
        }
    }
}
