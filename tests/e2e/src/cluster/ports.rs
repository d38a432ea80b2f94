//! Ports that nobody listens on, and that stay so while a member is down.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Below this, ports belong to well-known services.
const LOWEST: u16 = 23_000;

/// Above, systems take the ports of outgoing connections: a member that is started again must find its own free.
const HIGHEST: u16 = 32_000;

/// So many free ports; runs at the same time begin at different places.
///
/// # Panics
///
/// When there are not so many.
pub(super) fn free(count: usize) -> Vec<u16> {
    let span = HIGHEST - LOWEST;
    let first = u16::try_from(std::process::id() % u32::from(span)).unwrap_or(0);
    let all = (0..span).map(|step| LOWEST + (first + step) % span);
    let found: Vec<u16> = all.filter(|&port| is_free(port)).take(count).collect();
    assert_eq!(found.len(), count, "not enough free ports");
    found
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
    fn the_ports_differ_and_a_taken_one_is_passed_over() {
        let ports = free(3);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[1])).unwrap();
        assert!(ports[0] != ports[1] && ports[1] != ports[2]);
        assert!(!free(3).contains(&ports[1]));
    }
}
