//! The environment variables of Consul's official client, read as it reads them.

use std::ffi::OsString;

use super::config::{ConfigError, ConsulConfig};
use super::token::{Secret, Token};

impl ConsulConfig {
    /// The defaults, changed by the variables of Consul's official client:
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `CONSUL_HTTP_ADDR` | `host:port`, `http://host[:port][/prefix]` or `unix:///path` |
    /// | `CONSUL_HTTP_TOKEN` | the token |
    /// | `CONSUL_HTTP_TOKEN_FILE` | a file with the token; wins over the former unless it is empty |
    /// | `CONSUL_NAMESPACE`, `CONSUL_PARTITION` | Enterprise only |
    ///
    /// An empty variable counts as not set.
    ///
    /// # Errors
    /// A value that cannot be used, and the variables that would change who can read along if they were ignored:
    /// TLS (`https://`, `CONSUL_HTTP_SSL`) and basic authentication (`CONSUL_HTTP_AUTH`) are not supported.
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
        let mut config = Self::default();
        if let Some(address) = read("CONSUL_HTTP_ADDR")? {
            config.address = address.parse()?;
        }
        if let Some(value) = read("CONSUL_HTTP_SSL")?
            // Go's idea of a true word; what is no bool at all counts as off there.
            && matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
        {
            let reason = "TLS to the agent is not implemented; unset it and use an agent on this machine";
            return Err(ConfigError::Unsupported {
                setting: "CONSUL_HTTP_SSL",
                value,
                reason,
            });
        }
        if read("CONSUL_HTTP_AUTH")?.is_some() {
            let reason = "basic authentication is not implemented; unset it and use a token";
            let value = "<not shown>".to_owned();
            return Err(ConfigError::Unsupported {
                setting: "CONSUL_HTTP_AUTH",
                value,
                reason,
            });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::config::AgentAddress;

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
    fn what_is_not_supported_is_an_error_and_not_ignored() {
        for (name, value) in [
            ("CONSUL_HTTP_ADDR", "https://a:1"),
            ("CONSUL_HTTP_SSL", "true"),
            ("CONSUL_HTTP_AUTH", "user:s3cret"),
        ] {
            let error = from(&[(name, value)]).unwrap_err();
            assert!(matches!(error, ConfigError::Unsupported { .. }), "{error}");
            assert!(!error.to_string().contains("s3cret"));
        }
        assert!(from(&[("CONSUL_HTTP_SSL", "false")]).is_ok());
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
