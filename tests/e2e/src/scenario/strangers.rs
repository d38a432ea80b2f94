//! Whoever connects to a service and is no picom: turned away, while calls go on.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::history::failures;
use crate::patience::within;
use crate::protocol::{Call, Identity, Load};
use crate::world::{SOON, World};

/// The default time-out of a handshake (DESIGN, defaults), and a second for a busy machine.
const TURNED_AWAY: Duration = Duration::from_secs(3);

/// Bytes that are no picom, or not all of it.
fn prefaces() -> Vec<(&'static str, Vec<u8>)> {
    let tls = [&[0x16, 3, 1, 0, 64, 1, 0, 0, 60, 3, 3][..], &[7; 52]].concat();
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: picom\r\n\r\n".to_vec()),
        ("TLS", tls),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        ("zeroes", vec![0; 4096]),
        (
            "noise",
            (0..4096_u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
        ),
        ("a frame of 4 GiB", vec![0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]),
        (
            "a classic call",
            [&[0x0b][..], b"\x82\xa3cmd\xa3add\xc0\xc0"].concat(),
        ),
        (
            "a call before hello",
            vec![0x0b, 0x97, 2, 1, 0xa3, b'a', b'd', b'd', 0xc0, 0, 0xc0, 0xc0],
        ),
        ("half a hello", vec![0x31, 0x9d, 0x00, 0xa5, b'p', b'i', b'c']),
        ("nothing at all", Vec::new()),
    ]
}

/// Other protocols, noise, half a handshake and silence are all closed in the time of a handshake, and the calls of
/// others do not notice.
pub async fn strangers_are_turned_away_and_harm_nobody(world: &World) {
    let service = world.name("port");
    let server = world.server(&service).await;
    let caller = world.caller().await;
    caller.load(Load::on(&service, 1)).await;
    caller.calls(20).await;
    let strangers = prefaces().into_iter().map(|(name, bytes)| {
        let address = server.listens.clone();
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(&address)
                .await
                .expect("the port takes connections");
            // The other side may have closed already.
            let _ = stream.write_all(&bytes).await;
            within(
                TURNED_AWAY,
                &format!("{name} to be turned away"),
                closed(&mut stream),
            )
            .await
        })
    });
    for stranger in strangers.collect::<Vec<_>>() {
        stranger.await.expect("it is turned away");
    }
    caller.calls(20).await;
    let records = caller.end_load().await;
    assert!(
        failures(&records).is_empty(),
        "a call beside strangers failed: {:?}",
        failures(&records).first()
    );
    world.check(&records);
}

/// Two hundred connections that say nothing are all closed in the time of a handshake, and calls go on meanwhile, also
/// those that need a new connection.
pub async fn silent_connections_are_closed_and_hold_up_nobody(world: &World) {
    let service = world.name("silent");
    let server = world.server(&service).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(
            TcpStream::connect(&server.listens)
                .await
                .expect("the port takes connections"),
        );
    }
    let caller = world.caller().await;
    let who: Identity = caller
        .fetch(Call::new(&service, "whoami", ()).within(SOON))
        .await
        .unwrap();
    assert_eq!(who.instance, server.instance);
    for mut stream in silent {
        within(
            TURNED_AWAY,
            "a silent connection to be closed",
            closed(&mut stream),
        )
        .await;
    }
    let again: Identity = caller
        .fetch(Call::new(&service, "whoami", ()).within(SOON))
        .await
        .unwrap();
    assert_eq!(again, who);
}

/// Reads until the other side closes, in whatever way; what it says before is thrown away.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest).await {
        Ok(_) => {}
        Err(error) => assert!(
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            "{error}"
        ),
    }
}
