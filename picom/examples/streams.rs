//! The four shapes of a method, and what goes with streams: input, back-pressure, typed errors, dynamic values.
//!
//! Run it with `cargo run --example streams`; everything is in this process and in memory.

use anyhow::Result;
use futures_util::{TryStreamExt, stream};
use picom::testing::InMemory;
use picom::{In, Methods, Out, Picom, RemoteError};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

/// An error that callers can take apart.
#[derive(Debug, Serialize, Deserialize)]
struct TooCold {
    celsius: f64,
}

impl fmt::Display for TooCold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} °C is below absolute zero", self.celsius)
    }
}

impl RemoteError for TooCold {
    const NAME: &'static str = "weather.TooCold";
}

fn methods() -> Methods {
    Methods::new()
        // One value in, one out.
        .unary("fahrenheit", |celsius: f64| async move {
            if celsius < -273.15 {
                return Err(TooCold { celsius }.into());
            }
            Ok(celsius * 1.8 + 32.0)
        })
        // One value in, a stream out. It is polled only as fast as the caller reads.
        .stream("history", |sensor: String| async move {
            Ok(stream::iter((0..5).map(move |hour| {
                Ok(Reading {
                    sensor: sensor.clone(),
                    celsius: 10.0 + f64::from(hour),
                })
            })))
        })
        // A stream in, one value out.
        .client_stream("mean", |_: (), mut readings: In<Reading>| async move {
            let (mut sum, mut count) = (0.0, 0u32);
            while let Some(reading) = readings.next().await? {
                sum += reading.celsius;
                count += 1;
            }
            Ok((count > 0).then(|| sum / f64::from(count)))
        })
        // A stream in each direction, here of values without types.
        .bidi(
            "relay",
            |_: (), mut values: In<rmpv::Value>, out: Out<rmpv::Value>| async move {
                while let Some(value) = values.next().await? {
                    out.send(value).await?;
                }
                Ok(())
            },
        )
}

#[tokio::main]
async fn main() -> Result<()> {
    let world = InMemory::new();
    let weather = Picom::builder("weather").in_memory(&world).build()?;
    weather.expose(methods()).await?;
    let app = Picom::builder("app").in_memory(&world).build()?;

    let warm: f64 = app.fetch("weather", "fahrenheit", &20.0).await?;
    println!("20 °C are {warm} °F");
    if let Err(error) = app.fetch::<f64>("weather", "fahrenheit", &-300.0).await {
        match error.remote::<TooCold>() {
            Some(TooCold { celsius }) => println!("{celsius} °C? Certainly not."),
            None => return Err(error.into()),
        }
    }

    let history: Vec<Reading> = app.fetch_all("weather", "history", "roof").await?;
    println!("{} readings of {}", history.len(), history[0].sensor);

    let mean: Option<f64> = app
        .fetch("weather", "mean", &())
        .input(stream::iter(history))
        .await?;
    println!("their mean is {mean:?}");
    let (readings, mut mean) = app.stream::<Reading, Option<f64>>("weather", "mean", &()).await?;
    for celsius in [1.0, 2.0, 6.0] {
        readings
            .send(Reading {
                sensor: "cellar".into(),
                celsius,
            })
            .await?;
    }
    readings.finish()?;
    println!("sent by hand: {:?}", mean.next().await?);

    let relayed = app
        .stream::<(), rmpv::Value>("weather", "relay", &())
        .input(stream::iter(["one", "two"]))
        .await?;
    let relayed: Vec<rmpv::Value> = relayed.try_collect().await?;
    println!("relayed: {relayed:?}");

    app.end().await;
    weather.end().await;
    Ok(())
}
