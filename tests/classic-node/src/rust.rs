//! The Rust service, which has the methods of `node/service.js` and some more, and what they take and give.

use crate::PATIENCE;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use picom::{Blob, Builder, ClassicDate, Fault, In, Methods, Out, Picom};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Two numbers.
#[derive(Serialize, Deserialize)]
pub struct Add {
    /// One.
    pub a: i64,
    /// The other.
    pub b: i64,
}

/// What was added, by whom.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub items: u64,
    /// To what.
    pub sum: u64,
    /// `rust` or `node`.
    pub by: String,
}

impl Sum {
    fn nothing_yet() -> Self {
        Sum {
            items: 0,
            sum: 0,
            by: "rust".to_owned(),
        }
    }
}

/// An item of `count`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Which.
    pub index: u64,
    /// The same as text.
    pub name: String,
    /// `rust` or `node`.
    pub by: String,
}

/// How many.
#[derive(Serialize, Deserialize)]
pub struct Count {
    /// See above.
    pub n: u64,
}

/// What fails after so many items.
#[derive(Serialize, Deserialize)]
pub struct After {
    /// See above.
    pub after: u64,
    /// How the connection ends, where it does.
    pub how: Option<String>,
}

/// A moment.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct When {
    /// See above.
    pub when: ClassicDate,
}

/// A moment, and one a second later.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Later {
    /// One.
    pub when: ClassicDate,
    /// The other.
    pub later: ClassicDate,
}

/// Bytes.
#[derive(Serialize, Deserialize)]
pub struct Data {
    /// See above.
    pub data: Blob,
}

#[derive(Serialize, Deserialize)]
struct Chrono {
    #[serde(with = "picom::date::chrono")]
    when: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
struct Time {
    #[serde(with = "picom::date::time")]
    when: OffsetDateTime,
}

/// The methods of the Rust service.
pub fn methods() -> Methods {
    Methods::new()
        .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
        .unary("who", |_: ()| async move { Ok("rust") })
        .unary("nothing", |_: ()| async move { Ok(()) })
        .unary("same", |value: Value| async move { Ok(value) })
        .unary("later", |When { when }: When| async move {
            Ok(Later {
                when,
                later: ClassicDate::from_millis(when.millis() + 1000.0),
            })
        })
        .unary("later-chrono", |Chrono { when }: Chrono| async move {
            let later = when + chrono::TimeDelta::seconds(1);
            Ok([Chrono { when }, Chrono { when: later }])
        })
        .unary("later-time", |Time { when }: Time| async move {
            let later = when + time::Duration::seconds(1);
            Ok([Time { when }, Time { when: later }])
        })
        .unary("bytes", |Data { data }: Data| async move {
            Ok(Blob::from([data.as_ref(), data.as_ref()].concat()))
        })
        .unary("wide", |_: ()| async move {
            let most = (1_i64 << 53) - 1;
            Ok(vec![
                i64::from(i32::MIN),
                i64::from(i32::MIN) - 1,
                most,
                -most,
                1 << 32,
            ])
        })
        .unary("huge", |_: ()| async move { Ok((1_u64 << 53) + 1) })
        .unary("record", |_: ()| async move {
            Ok(BTreeMap::from([("_type_", "end")]))
        })
        .stream("count", |Count { n }: Count| async move {
            Ok(stream::iter((0..n).map(|index| {
                Ok(Item {
                    index,
                    name: format!("item-{index}"),
                    by: "rust".to_owned(),
                })
            })))
        })
        .stream("endless", |_: ()| async move {
            Ok(stream::iter(0_u64..).map(|n| Ok(format!("{n:0200}"))))
        })
        .stream("fail", |After { after, .. }: After| async move {
            let broken = stream::once(async { Err(Fault::internal("it broke")) });
            Ok(stream::iter((0..after).map(Ok)).chain(broken))
        })
        .client_stream("sum", |_: (), numbers: In<u64>| async move {
            let add = |all: Sum, n| async move {
                Ok(Sum {
                    items: all.items + 1,
                    sum: all.sum + n,
                    by: all.by,
                })
            };
            Ok(numbers.try_fold(Sum::nothing_yet(), add).await?)
        })
        .bidi(
            "echo",
            |_: (), mut items: In<Value>, out: Out<Value>| async move {
                while let Some(item) = items.next().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
}

/// A service on 127.0.0.1, not built yet.
pub fn service(name: &str) -> Builder {
    Picom::builder(name)
        .without_environment()
        .bind([127, 0, 0, 1].into())
        .advertise("127.0.0.1")
        .keep_accepting(Duration::ZERO)
}

/// The service, known to nobody but by its address.
///
/// # Panics
///
/// When it does not come to stand.
pub async fn serve(name: &str, discovery: Arc<dyn picom::Discovery>) -> (Picom, u16) {
    let picom = service(name).discovery(discovery).build().expect("good settings");
    picom.expose(methods()).await.expect("a port");
    let address = picom.status().server.expect("it serves").address;
    let port = address.rsplit_once(':').expect("a port").1;
    (picom, port.parse().expect("a number"))
}

/// Waits until the service holds no connection and runs no handler.
///
/// # Panics
///
/// When it still does after a minute.
pub async fn no_connections_are_left(picom: &Picom) {
    let connections = || {
        let server = picom.status().server.expect("it serves");
        let listener = server.listener.expect("it listens");
        (listener.connections, server.handlers_running)
    };
    let all_closed = async {
        while connections() != (0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all_closed)
        .await
        .unwrap_or_else(|_| panic!("connections are left: {:?}", connections()));
}
