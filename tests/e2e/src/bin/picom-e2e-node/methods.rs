//! What a node offers: a method for every shape of a call, and for everything that may go wrong in one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use picom::{Context, Fault, In, Methods, Out};
use picom_e2e::protocol::{Done, Event, Identity, POURED, Work};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::commands::Host;
use crate::failure::OutOfStock;
use crate::output::{self, Life};

/// How the text of a panic begins that a test asked for.
pub(crate) const ON_PURPOSE: &str = "on purpose";

#[derive(Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Deserialize)]
struct Slow {
    name: String,
    ms: u64,
}

#[derive(Deserialize)]
struct Relay {
    service: String,
    method: String,
    args: Value,
}

/// All of them.
pub(crate) fn all(host: Arc<Host>) -> Methods {
    let plain = Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
        .unary("echo", |value: Value| async move { Ok(value) })
        .unary("fail", |left: u32| async move {
            Err::<(), _>(OutOfStock { left }.into())
        })
        .unary("fail_plainly", |text: String| async move {
            Err::<(), _>(Fault::internal(text))
        })
        .unary("panic", panic)
        .unary("hang", hang)
        .unary("time_left", |(): ()| async move {
            Ok(Context::current()
                .deadline_left()
                .map(|left| left.as_millis() as u64))
        });
    streaming(plain)
        .with_state(host)
        .unary(
            "whoami",
            |host: Arc<Host>, (): ()| async move { Ok(host.identity()) },
        )
        .unary("slow", slow)
        .unary("work", work)
        .unary("relay", relay)
        .into()
}

fn streaming(methods: Methods) -> Methods {
    methods
        .stream("count", |n: u64| async move { Ok(stream::iter((0..n).map(Ok))) })
        .stream("count_then_fail", |n: u32| async move {
            let items = (0..n).map(Ok);
            Ok(stream::iter(items.chain([Err(OutOfStock { left: n }.into())])))
        })
        .stream("forever", |name: String| async move {
            let life = Life::begin(name);
            // The life ends with the stream that holds it.
            Ok(stream::unfold((0_u64, life), |(n, life)| async move {
                sleep(Duration::from_millis(1)).await;
                Some((Ok(n), (n + 1, life)))
            }))
        })
        .stream("pour", |name: String| async move {
            let life = Life::begin(name);
            Ok(stream::unfold(life, |life| async move {
                output::event(Event::Said("poured".into()));
                Some((Ok("x".repeat(POURED)), life))
            }))
        })
        .client_stream("sum", |(): (), mut numbers: In<i64>| async move {
            let mut sum = 0;
            while let Some(number) = numbers.next().await? {
                sum += number;
            }
            Ok(sum)
        })
        .client_stream("collect", |name: String, mut input: In<Value>| async move {
            let life = Life::begin(name);
            let mut items = Vec::new();
            while let Some(item) = input.next().await? {
                items.push(item);
            }
            life.complete();
            Ok(items)
        })
        .bidi(
            "mirror",
            |(): (), mut input: In<Value>, out: Out<Value>| async move {
                while let Some(item) = input.next().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
}

async fn panic(text: String) -> Result<(), Fault> {
    panic!("{ON_PURPOSE}: {text}")
}

/// Works until it is dropped.
async fn hang(name: String) -> Result<(), Fault> {
    let life = Life::begin(name);
    std::future::pending::<()>().await;
    life.complete();
    Ok(())
}

async fn slow(host: Arc<Host>, Slow { name, ms }: Slow) -> Result<Identity, Fault> {
    let life = Life::begin(name);
    sleep(Duration::from_millis(ms)).await;
    life.complete();
    Ok(host.identity())
}

/// Writes down that it runs before anything else.
async fn work(host: Arc<Host>, Work { id, ms }: Work) -> Result<Done, Fault> {
    host.record(id)?;
    if ms > 0 {
        sleep(Duration::from_millis(ms)).await;
    }
    Ok(Done {
        id,
        by: host.identity(),
    })
}

/// Calls on, naming no time: what the caller has left is inherited.
async fn relay(
    host: Arc<Host>,
    Relay {
        service,
        method,
        args,
    }: Relay,
) -> Result<Value, Fault> {
    let picom = host.picom().map_err(Fault::internal)?;
    Ok(picom.fetch(&service, &method, &args).await?)
}
