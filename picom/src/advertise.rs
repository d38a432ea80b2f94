//! The address others are told: what was set, or what can be found out. Never one that stands for all addresses.

use crate::settings::Advertised;
use picom_discovery::consul::AgentAddress;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{UdpSocket, lookup_host};

/// A registry of which nothing is known: an address that is in use nowhere (RFC 5737, TEST-NET-1) shows which of our
/// addresses faces the network.
const ELSEWHERE: (&str, u16) = ("192.0.2.1", 9);

/// Reads `host`, `host:port`, an IP address, or one with a port.
pub(crate) fn parse(text: &str) -> Result<Advertised, &'static str> {
    let text = text.trim();
    let (host, port) = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
        (Ok(address), _) => (address.ip().to_string(), Some(address.port())),
        (_, Ok(ip)) => (ip.to_string(), None),
        _ => match text.rsplit_once(':') {
            Some((host, port)) => (
                host.to_owned(),
                Some(port.parse().map_err(|_| "its port is no number to 65535")?),
            ),
            None => (text.to_owned(), None),
        },
    };
    if host.is_empty() {
        return Err("the host is empty");
    }
    if port == Some(0) {
        return Err("nobody can reach port 0");
    }
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err("it stands for all addresses");
    }
    if host.contains(['[', ']', '/', ' ']) {
        return Err("that is no host");
    }
    Ok(Advertised { host, port })
}

/// Which of our addresses others reach us at: the one the system would use towards the registry. Nothing is sent.
///
/// With an agent on this machine that is the loopback address, and so is what only this machine can reach.
pub(crate) async fn found_out(registry: Option<&AgentAddress>) -> io::Result<IpAddr> {
    let (host, port) = match registry {
        // The agent is on this machine.
        Some(AgentAddress::Unix { .. }) => return Ok(Ipv4Addr::LOCALHOST.into()),
        Some(AgentAddress::Tcp { host, port, .. }) => (host.as_str(), *port),
        None => ELSEWHERE,
    };
    let mut last = None;
    for address in lookup_host((host, port)).await? {
        match facing(address).await {
            Ok(ip) => return Ok(ip),
            Err(error) => last = Some(error),
        }
    }
    match last {
        // No network at all: then everybody there is, is here.
        Some(_) if registry.is_none() => Ok(Ipv4Addr::LOCALHOST.into()),
        Some(error) => Err(error),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{host} resolves to no address"),
        )),
    }
}

/// What to listen on so that the advertised address reaches it: all addresses, or loopback alone if nobody else could.
pub(crate) fn bind_for(advertised: IpAddr) -> IpAddr {
    match advertised {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Whether others would be told an address that leads them to themselves.
pub(crate) fn misleads(host: &str, registry: Option<&AgentAddress>) -> bool {
    let loopback =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match registry {
        Some(AgentAddress::Tcp { host: agent, .. }) => loopback(host) && !loopback(agent),
        _ => false,
    }
}

async fn facing(address: SocketAddr) -> io::Result<IpAddr> {
    let local: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(address).await?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(host: &str) -> AgentAddress {
        AgentAddress::Tcp {
            host: host.into(),
            port: 8500,
            prefix: String::new(),
        }
    }

    #[test]
    fn hosts_addresses_and_ports_are_told_apart() {
        let advertised = |host: &str, port| {
            Ok(Advertised {
                host: host.into(),
                port,
            })
        };
        assert_eq!(parse("10.0.0.5"), advertised("10.0.0.5", None));
        assert_eq!(parse("10.0.0.5:99"), advertised("10.0.0.5", Some(99)));
        assert_eq!(
            parse("orders.internal:8000"),
            advertised("orders.internal", Some(8000))
        );
        assert_eq!(parse("orders"), advertised("orders", None));
        assert_eq!(parse("fd00::7"), advertised("fd00::7", None));
        assert_eq!(parse("[fd00::7]:80"), advertised("fd00::7", Some(80)));
        for bad in [
            "",
            ":80",
            "0.0.0.0",
            "::",
            "[::]:80",
            "0.0.0.0:80",
            "a:0",
            "a:99999",
            "http://a",
            "a b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_registry_on_this_machine_shows_the_loopback_address() {
        assert_eq!(
            found_out(Some(&agent("127.0.0.1"))).await.unwrap(),
            Ipv4Addr::LOCALHOST
        );
        let unix = AgentAddress::Unix {
            path: "/run/consul".into(),
        };
        assert_eq!(found_out(Some(&unix)).await.unwrap(), Ipv4Addr::LOCALHOST);
        assert!(!found_out(None).await.unwrap().is_unspecified());
    }

    #[test]
    fn what_nobody_else_reaches_listens_on_loopback_alone() {
        assert_eq!(bind_for("127.0.0.1".parse().unwrap()).to_string(), "127.0.0.1");
        assert_eq!(bind_for("10.0.0.5".parse().unwrap()).to_string(), "0.0.0.0");
        assert_eq!(bind_for("fd00::7".parse().unwrap()).to_string(), "::");
    }

    #[test]
    fn loopback_in_a_remote_registry_misleads() {
        assert!(misleads("127.0.0.1", Some(&agent("10.0.0.1"))));
        assert!(misleads("localhost", Some(&agent("consul.internal"))));
        assert!(!misleads("127.0.0.1", Some(&agent("localhost"))));
        assert!(!misleads("10.0.0.5", Some(&agent("10.0.0.1"))));
        assert!(!misleads("127.0.0.1", None));
    }
}
