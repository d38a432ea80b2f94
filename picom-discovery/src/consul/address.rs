//! Where an agent listens, as one writes it down.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::config::ConfigError;
use crate::instance::authority;
use crate::registration::host_fault;

/// Where an agent listens. Parses what `CONSUL_HTTP_ADDR` may hold: `host:port`, `:port`, `http://host[:port][/prefix]`,
/// `unix:///path`; what may also be `https://` is read by [`ConsulConfig::at`](super::ConsulConfig::at).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAddress {
    /// HTTP over TCP, or over TLS over TCP (see [`TlsSettings::enabled`](super::TlsSettings::enabled)).
    Tcp {
        /// Host name or IP address, without brackets.
        host: String,
        /// Port.
        port: u16,
        /// What comes before `/v1` in every path: empty, or begins with a slash and does not end with one.
        prefix: String,
    },
    /// HTTP over a unix socket.
    Unix {
        /// The socket.
        path: PathBuf,
    },
}

impl AgentAddress {
    /// What goes into the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        match self {
            Self::Tcp { host, port, .. } => authority(host.split('%').next().unwrap_or(host), *port),
            Self::Unix { .. } => "localhost".to_owned(),
        }
    }

    /// What comes before `/v1`.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Tcp { prefix, .. } => prefix,
            Self::Unix { .. } => "",
        }
    }
}

impl fmt::Display for AgentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, prefix } => write!(f, "{}{prefix}", authority(host, *port)),
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for AgentAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::read(text, 80)
    }
}

impl AgentAddress {
    /// Reads all but TLS; without a port it is `usual`.
    pub(super) fn read(text: &str, usual: u16) -> Result<Self, ConfigError> {
        let fault = |reason| ConfigError::address(text, reason);
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(fault("an address with TLS is read by ConsulConfig::at")),
            Some(("unix", path)) if path.starts_with('/') && cfg!(unix) => {
                return Ok(Self::Unix { path: path.into() });
            }
            Some(("unix", _)) => return Err(fault("a unix socket is written unix:///path, on unix")),
            Some(_) => return Err(fault("the scheme is http, https or unix")),
        };
        Self::over_tcp(text, rest, usual)
    }

    /// Reads what comes behind the scheme of `text`. Without a port it is `usual`: that of the scheme, as with the
    /// official client, whose own default of 8500 is for no address at all.
    pub(super) fn over_tcp(text: &str, rest: &str, usual: u16) -> Result<Self, ConfigError> {
        let fault = |reason| ConfigError::address(text, reason);
        let (place, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if place.contains('@') {
            return Err(fault(
                "user and password do not belong there, set CONSUL_HTTP_AUTH (or basic_auth)",
            ));
        }
        let prefix = path.trim_end_matches('/');
        if !prefix
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#%\"<>\\^`{|}".contains(&byte))
        {
            return Err(fault("a path before /v1 consists of plain characters"));
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => match inner.split_once(']') {
                Some((host, "")) => (host, usual),
                Some((host, port)) => {
                    let port = port
                        .strip_prefix(':')
                        .ok_or_else(|| fault("after ] comes a colon and a port"))?;
                    (
                        host,
                        parse_port(port).ok_or_else(|| fault("its port is not a number from 1 to 65535"))?,
                    )
                }
                None => return Err(fault("[ is not closed")),
            },
            None => match place.split_once(':') {
                None => (place, usual),
                Some((_, port)) if port.contains(':') => {
                    return Err(fault("an IPv6 address is written in brackets"));
                }
                Some((host, port)) => (
                    if host.is_empty() { LOCAL } else { host },
                    parse_port(port).ok_or_else(|| fault("its port is not a number from 1 to 65535"))?,
                ),
            },
        };
        // As with the official client, whose dialer takes these for the host it runs on.
        let host = match host.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() => LOCAL,
            _ => host,
        };
        if let Some(reason) = host_fault(host) {
            return Err(fault(reason));
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
            prefix: prefix.to_owned(),
        })
    }
}

/// Where an agent listens that is asked for by its port alone, or at all addresses of this host.
const LOCAL: &str = "127.0.0.1";

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::ConsulConfig;

    fn tcp(host: &str, port: u16, prefix: &str) -> AgentAddress {
        AgentAddress::Tcp {
            host: host.into(),
            port,
            prefix: prefix.into(),
        }
    }

    #[test]
    fn addresses_are_read_as_the_official_client_reads_them() {
        for (text, expected) in [
            ("127.0.0.1:8500", tcp("127.0.0.1", 8500, "")),
            ("http://consul.example:8501", tcp("consul.example", 8501, "")),
            ("http://consul.example", tcp("consul.example", 80, "")),
            ("consul", tcp("consul", 80, "")),
            ("[::1]:8500", tcp("::1", 8500, "")),
            (":18500", tcp("127.0.0.1", 18500, "")),
            ("http://:18500", tcp("127.0.0.1", 18500, "")),
            ("0.0.0.0:8500", tcp("127.0.0.1", 8500, "")),
            ("http://[::1]/", tcp("::1", 80, "")),
            ("http://0.0.0.0", tcp("127.0.0.1", 80, "")),
            ("[::]:8500", tcp("127.0.0.1", 8500, "")),
            ("http://[::]", tcp("127.0.0.1", 80, "")),
            ("http://gate:80/consul/", tcp("gate", 80, "/consul")),
            (
                "unix:///run/consul.sock",
                AgentAddress::Unix {
                    path: "/run/consul.sock".into(),
                },
            ),
        ] {
            assert_eq!(text.parse::<AgentAddress>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        for text in [
            "",
            ":",
            "a:",
            "a:x",
            "a:0",
            "a:70000",
            "a:+1",
            "::1:8500",
            "[::1",
            "[::1]8500",
            "ftp://a",
            "http://",
            "unix://x",
            "a b:1",
            "http://a/?x",
            "tcp://a:1",
        ] {
            let error = text.parse::<AgentAddress>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_shown_and_has_another_place() {
        for text in [
            "http://user:s3cret@host:8500",
            "https://user:s3cret@host",
            "u:s3cret@h:1",
        ] {
            let error = ConsulConfig::at(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("s3cret"), "{shown}");
            assert!(
                shown.contains("CONSUL_HTTP_AUTH") && shown.contains("@h"),
                "{shown}"
            );
        }
        let error = ConsulConfig::new("u:s3cret@h", 1).check().unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn an_address_is_printed_as_one_writes_it() {
        assert_eq!(tcp("::1", 8500, "/c").to_string(), "[::1]:8500/c");
        assert_eq!(AgentAddress::Unix { path: "/x".into() }.to_string(), "unix:///x");
    }
}
