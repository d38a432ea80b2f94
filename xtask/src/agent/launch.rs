//! The command line of a test agent.

use std::path::Path;

use super::ports::Ports;
use crate::consul::Consul;

/// A server that keeps everything in memory, elects itself at once, and opens no port but those given.
pub(super) fn arguments(consul: &Consul, ports: &Ports, pid_file: &Path) -> Vec<String> {
    let mut words: Vec<String> = ["agent", "-dev", "-log-level", "info"]
        .map(str::to_owned)
        .to_vec();
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option("-node", node_name(pid_file));
    option("-bind", "127.0.0.1".to_owned());
    option("-client", "127.0.0.1".to_owned());
    option("-http-port", ports.http.to_string());
    option("-serf-lan-port", ports.serf_lan.to_string());
    option("-serf-wan-port", ports.serf_wan.to_string());
    option("-server-port", ports.server.to_string());
    // -1 is Consul's "not at all".
    for unused in ["-https-port", "-grpc-port", "-dns-port"] {
        option(unused, "-1".to_owned());
    }
    // From 1.14 on there is one port more, open unless told otherwise; earlier versions refuse to hear of it.
    if consul.at_least(1, 14) {
        option("-hcl", "ports { grpc_tls = -1 }".to_owned());
    }
    option("-pid-file", pid_file.to_string_lossy().into_owned());
    words
}

/// Node names of two runs must differ, as an agent refuses to join a namesake; the pid file's name has the port in it.
pub(super) fn node_name(pid_file: &Path) -> String {
    let stem = pid_file.file_stem().unwrap_or_default().to_string_lossy();
    format!("picom-test-{stem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(version: &str) -> String {
        let consul = Consul {
            path: "/c".into(),
            version: version.to_owned(),
            source: "PATH",
        };
        let ports = Ports {
            http: 1,
            serf_lan: 2,
            serf_wan: 3,
            server: 4,
        };
        arguments(&consul, &ports, Path::new("/run/consul-1.pid")).join(" ")
    }

    #[test]
    fn every_port_is_given_or_closed() {
        let line = line("1.8.7");
        for part in [
            "-http-port 1",
            "-serf-lan-port 2",
            "-serf-wan-port 3",
            "-server-port 4",
            "-dns-port -1",
        ] {
            assert!(line.contains(part), "{part} is missing in {line}");
        }
        assert!(line.contains("-node picom-test-consul-1 ") && line.ends_with("-pid-file /run/consul-1.pid"));
    }

    #[test]
    fn only_versions_that_know_the_tls_port_are_told_to_close_it() {
        assert!(!line("1.13.9").contains("grpc_tls"));
        assert!(line("1.14.0").contains("grpc_tls"));
    }
}
