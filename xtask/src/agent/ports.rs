//! Free ports that stay free.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::bail;

/// What one agent listens on.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) http: u16,
    pub(super) serf_lan: u16,
    pub(super) serf_wan: u16,
    pub(super) server: u16,
}

/// Below this, ports belong to well-known services, Consul's own 8300 to 8600 among them.
const LOWEST: u16 = 20_000;

/// Four ports nobody listens on. They lie below the range from which the system takes the ports of outgoing
/// connections: a test that ends the agent for a while must find its port free when it starts it again.
pub(super) fn free() -> anyhow::Result<Ports> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let span = u32::from(ephemeral_start(&range).saturating_sub(LOWEST));
    if span < 4 {
        bail!(
            "no room for ports between {LOWEST} and the range of outgoing connections ({})",
            range.trim()
        );
    }
    // Runs at the same time begin at different places, as process numbers are consecutive.
    let first = std::process::id().wrapping_mul(97) % span;
    let mut found = (0..span)
        .map(|step| (first + step) % span)
        .filter_map(|offset| u16::try_from(u32::from(LOWEST) + offset).ok())
        .filter(|&port| is_free(port));
    let (Some(http), Some(serf_lan), Some(serf_wan), Some(server)) =
        (found.next(), found.next(), found.next(), found.next())
    else {
        bail!(
            "no four free ports between {LOWEST} and {}",
            u32::from(LOWEST) + span
        );
    };
    Ok(Ports {
        http,
        serf_lan,
        serf_wan,
        server,
    })
}

/// The first port of the range, or the usual one where the system does not say.
fn ephemeral_start(range: &str) -> u16 {
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(32_768)
}

/// Consul's gossip takes a port for both protocols.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_four_and_a_taken_one_is_passed_over() {
        let ports = free().unwrap();
        let mut all = vec![ports.http, ports.serf_lan, ports.serf_wan, ports.server];
        all.dedup();
        assert_eq!(all.len(), 4);
        let Ok(_held) = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.http)) else {
            return;
        };
        assert!(!is_free(ports.http));
    }

    #[test]
    fn the_range_of_outgoing_connections_is_read_as_the_kernel_writes_it() {
        assert_eq!(ephemeral_start("32768\t60999\n"), 32_768);
        assert_eq!(ephemeral_start("15000 61000"), 15_000);
        assert_eq!(ephemeral_start(""), 32_768);
    }
}
