//! The environment variables of Consul's official client, read as it reads them.

use std::ffi::OsString;

use base64::Engine as _;

use super::address::AgentAddress;
use super::config::{ConfigError, ConsulConfig};
use super::token::{Secret, Token};

impl ConsulConfig {
    /// The defaults, changed by the variables of Consul's official client:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `CONSUL_HTTP_ADDR` | `host:port`, `:port` (of this host), `http://host[:port][/prefix]`, `https://…` or `unix:///path` |
    /// | `CONSUL_HTTP_SSL` | a true word (`1 t T true TRUE True`) means TLS, also behind `http://`; any other means nothing |
    /// | `CONSUL_HTTP_SSL_VERIFY` | a false word (`0 f F false FALSE False`) turns verification off |
    /// | `CONSUL_CACERT`, `CONSUL_CAPATH` | a file or directory of authorities, in place of the system's |
    /// | `CONSUL_CLIENT_CERT`, `CONSUL_CLIENT_KEY` | both or neither |
    /// | `CONSUL_TLS_SERVER_NAME` | the name in the agent's certificate; a port behind it is dropped |
    /// | `CONSUL_HTTP_AUTH` | `user[:password]`, basic authentication |
    /// | `CONSUL_HTTP_TOKEN` | the token |
    /// | `CONSUL_HTTP_TOKEN_FILE` | a file with the token; wins over the former unless it is empty |
    /// | `CONSUL_NAMESPACE`, `CONSUL_PARTITION` | Enterprise only |
    ///
    /// An empty variable counts as not set. Where we differ from the official client:
    ///
    /// - `CONSUL_HTTP_SSL_VERIFY` that is no bool at all is an error; there it turns verification off.
    /// - `CONSUL_CACERT` and `CONSUL_CAPATH` count both; there the former alone, if it is set. Of a directory we read 1,024
    ///   files at most and follow no links to other directories.
    /// - An address may end with a slash or have a path, which that of 1.8 does not take.
    /// - A port of 0, a user before the host, and TLS over a unix socket are refused here, not when something is asked.
    /// - The files of certificates and of the token are read again when they change.
    /// - `HTTP_PROXY` and its like are not looked at: the agent is on this machine or in its network.
    ///
    /// # Errors
    /// A value that cannot be used. TLS without the feature `tls` of this crate is an error of
    /// [`Consul::new`](super::Consul::new).
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The same from any source of variables.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let read = |name: &'static str| match variable(name) {
            None => Ok(None),
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| ConfigError::Malformed {
                setting: name,
                reason: "it is not UTF-8".to_owned(),
            }),
        };
        // What is no bool at all counts as off, as it does there.
        let tls = read("CONSUL_HTTP_SSL")?.as_deref().and_then(go_bool) == Some(true);
        let mut config = match read("CONSUL_HTTP_ADDR")? {
            Some(address) => Self::at_with(&address, tls)?,
            None => Self::default(),
        };
        config.tls.enabled |= tls;
        if let (true, AgentAddress::Unix { .. }) = (config.tls.enabled, &config.address) {
            return Err(ConfigError::Unsupported {
                setting: "CONSUL_HTTP_SSL",
                value: "true".to_owned(),
                reason: "a unix socket needs no TLS; unset it",
            });
        }
        if let Some(word) = read("CONSUL_HTTP_SSL_VERIFY")? {
            config.tls.verify = go_bool(&word).ok_or_else(|| ConfigError::Malformed {
                setting: "CONSUL_HTTP_SSL_VERIFY",
                reason: format!("{word:?} is neither a true nor a false word, and guessing would be unsafe"),
            })?;
        }
        let path = |name| variable(name).filter(|path| !path.is_empty()).map(Into::into);
        config.tls.ca_file = path("CONSUL_CACERT");
        config.tls.ca_path = path("CONSUL_CAPATH");
        config.tls.client_cert = path("CONSUL_CLIENT_CERT");
        config.tls.client_key = path("CONSUL_CLIENT_KEY");
        config.tls.server_name = read("CONSUL_TLS_SERVER_NAME")?.map(|name| without_port(&name).to_owned());
        if let Some(pair) = read("CONSUL_HTTP_AUTH")? {
            config.basic_auth = Some(Secret::basic(&pair));
        }
        let token = match read("CONSUL_HTTP_TOKEN")? {
            None => None,
            Some(text) => Some(Secret::new(text).map_err(|error| ConfigError::Malformed {
                setting: "CONSUL_HTTP_TOKEN",
                reason: error.to_string(),
            })?),
        };
        config.token = match (
            variable("CONSUL_HTTP_TOKEN_FILE").filter(|path| !path.is_empty()),
            token,
        ) {
            (Some(path), fallback) => Token::File {
                path: path.into(),
                fallback,
            },
            (None, Some(secret)) => Token::Value(secret),
            (None, None) => Token::None,
        };
        config.namespace = read("CONSUL_NAMESPACE")?;
        config.partition = read("CONSUL_PARTITION")?;
        Ok(config)
    }
}

/// A host without the port behind it; what is no host with a port is a host.
fn without_port(name: &str) -> &str {
    let split = match name.strip_prefix('[') {
        Some(inner) => inner.split_once("]:"),
        None => name.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    };
    split.map_or(name, |(host, _)| host)
}

/// Go's idea of a bool in text.
fn go_bool(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

impl Secret {
    /// The value of an `Authorization` header for `user[:password]`.
    fn basic(pair: &str) -> Self {
        // Without a password the official client sends an empty one.
        let pair = match pair.contains(':') {
            true => pair.to_owned(),
            false => format!("{pair}:"),
        };
        Self::header(&format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<ConsulConfig, ConfigError> {
        ConsulConfig::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn without_variables_the_defaults_hold() {
        let config = from(&[("CONSUL_HTTP_ADDR", ""), ("CONSUL_HTTP_TOKEN", "")]).unwrap();
        assert_eq!(
            config.address,
            AgentAddress::Tcp {
                host: "127.0.0.1".into(),
                port: 8500,
                prefix: "".into()
            }
        );
        assert!(matches!(config.token, Token::None) && config.namespace.is_none());
    }

    #[test]
    fn the_token_file_wins_and_the_token_stands_behind_it() {
        assert!(matches!(
            from(&[("CONSUL_HTTP_TOKEN", "x")]).unwrap().token,
            Token::Value(_)
        ));
        let both = from(&[("CONSUL_HTTP_TOKEN", "x"), ("CONSUL_HTTP_TOKEN_FILE", "/f")]).unwrap();
        assert!(matches!(both.token, Token::File { path, fallback: Some(_) } if path.as_os_str() == "/f"));
    }

    #[test]
    fn tls_is_read_as_the_official_client_reads_it() {
        for (variables, enabled) in [
            (&[("CONSUL_HTTP_ADDR", "https://a:1")][..], true),
            (
                &[("CONSUL_HTTP_ADDR", "http://a:1"), ("CONSUL_HTTP_SSL", "true")],
                true,
            ),
            (&[("CONSUL_HTTP_SSL", "T")], true),
            (
                &[("CONSUL_HTTP_ADDR", "https://a:1"), ("CONSUL_HTTP_SSL", "false")],
                true,
            ),
            (&[("CONSUL_HTTP_SSL", "0")], false),
            (&[("CONSUL_HTTP_SSL", "yes")], false),
        ] {
            let config = from(variables).unwrap();
            assert_eq!(
                (config.tls.enabled, config.tls.verify),
                (enabled, true),
                "{variables:?}"
            );
        }
        for (address, tls, port) in [
            ("consul", "1", 443),
            ("http://consul", "true", 443),
            ("http://consul/", "1", 443),
            ("consul:8501", "1", 8501),
            ("http://consul", "0", 80),
            ("", "1", 8500),
        ] {
            let config = from(&[("CONSUL_HTTP_ADDR", address), ("CONSUL_HTTP_SSL", tls)]).unwrap();
            let AgentAddress::Tcp { port: found, .. } = config.address else {
                panic!()
            };
            assert_eq!(found, port, "{address} {tls}");
        }
        for (name, expected) in [
            ("[::1]:99", "::1"),
            ("::1", "::1"),
            ("a", "a"),
            ("a:", "a"),
            ("a:https", "a"),
            ("[::1]", "[::1]"),
        ] {
            let tls = from(&[("CONSUL_TLS_SERVER_NAME", name)]).unwrap().tls;
            assert_eq!(tls.server_name.as_deref(), Some(expected));
        }
        let config = from(&[
            ("CONSUL_HTTP_SSL_VERIFY", "f"),
            ("CONSUL_CACERT", "/ca"),
            ("CONSUL_CAPATH", ""),
            ("CONSUL_CLIENT_CERT", "/c"),
            ("CONSUL_CLIENT_KEY", "/k"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul:8501"),
        ]);
        let tls = config.unwrap().tls;
        assert_eq!((tls.verify, tls.ca_path), (false, None));
        assert_eq!(tls.ca_file.as_deref(), Some("/ca".as_ref()));
        assert_eq!(tls.server_name.as_deref(), Some("server.dc1.consul"));
        assert!(tls.client_cert.is_some() && tls.client_key.is_some());
    }

    #[test]
    fn what_would_weaken_the_connection_by_mistake_is_an_error() {
        let error = from(&[("CONSUL_HTTP_SSL_VERIFY", "no")]).unwrap_err();
        assert!(
            matches!(
                error,
                ConfigError::Malformed {
                    setting: "CONSUL_HTTP_SSL_VERIFY",
                    ..
                }
            ),
            "{error}"
        );
        let both = [("CONSUL_HTTP_ADDR", "unix:///s"), ("CONSUL_HTTP_SSL", "1")];
        assert!(matches!(from(&both), Err(ConfigError::Unsupported { .. })));
    }

    #[test]
    fn basic_authentication_is_encoded_and_never_shown() {
        let secret = |pair| from(&[("CONSUL_HTTP_AUTH", pair)]).unwrap().basic_auth.unwrap();
        let shown = |pair| secret(pair).as_header().to_str().unwrap().to_owned();
        assert_eq!(shown("user:pass word"), "Basic dXNlcjpwYXNzIHdvcmQ=");
        assert_eq!(shown("user"), "Basic dXNlcjo=");
        assert_eq!(format!("{:?}", secret("user:s3cret")), "Secret");
    }

    #[test]
    fn a_malformed_token_is_refused_without_being_shown() {
        let error = from(&[("CONSUL_HTTP_TOKEN", "two words")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CONSUL_HTTP_TOKEN") && !error.contains("two words"),
            "{error}"
        );
    }
}
