//! The environment variables of a service: `PICOM_*`. Consul's own are read by `picom_discovery::consul`.

use std::ffi::OsString;
use std::time::Duration;

/// A variable that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is {value:?}, which is not {expected}")]
pub struct EnvironmentError {
    /// The variable.
    pub variable: &'static str,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub expected: &'static str,
}

/// What the environment sets. An empty variable counts as not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) port: Option<u16>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) retries: Option<u32>,
    pub(crate) advertise: Option<String>,
    pub(crate) drain_timeout: Option<Duration>,
}

impl Environment {
    pub(crate) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, EnvironmentError> {
        Ok(Environment {
            port: read(&variable, "PICOM_PORT", "a port, 0 to 65535", |text| {
                text.parse().ok()
            })?,
            ttl: read(&variable, "PICOM_TTL", SPAN, span)?,
            retries: read(&variable, "PICOM_RETRIES", "a number, 0 or more", |text| {
                text.parse().ok()
            })?,
            advertise: read(&variable, "PICOM_ADVERTISE", "UTF-8", |text| {
                Some(text.to_owned())
            })?,
            drain_timeout: read(&variable, "PICOM_DRAIN_TIMEOUT", SPAN, span)?,
        })
    }
}

const SPAN: &str = "a span of time: seconds (30, 1.5), or a number with ms, s, m or h";

fn read<T>(
    variable: &impl Fn(&str) -> Option<OsString>,
    name: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, EnvironmentError> {
    let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let text = value.to_string_lossy();
    let parsed = value.to_str().and_then(|text| parse(text.trim()));
    let error = || EnvironmentError {
        variable: name,
        value: text.into_owned(),
        expected,
    };
    parsed.map(Some).ok_or_else(error)
}

/// Seconds, or a number with its unit.
fn span(text: &str) -> Option<Duration> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        Environment::read(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn every_variable_is_read_and_zero_means_zero() {
        let all = environment(&[
            ("PICOM_PORT", "0"),
            ("PICOM_TTL", "45"),
            ("PICOM_RETRIES", "0"),
            ("PICOM_ADVERTISE", "10.0.0.5:99"),
            ("PICOM_DRAIN_TIMEOUT", "0"),
        ]);
        let expected = Environment {
            port: Some(0),
            ttl: Some(Duration::from_secs(45)),
            retries: Some(0),
            advertise: Some("10.0.0.5:99".into()),
            drain_timeout: Some(Duration::ZERO),
        };
        assert_eq!(all.unwrap(), expected);
        assert_eq!(environment(&[]).unwrap(), Environment::default());
        assert_eq!(
            environment(&[("PICOM_PORT", "")]).unwrap(),
            Environment::default()
        );
    }

    #[test]
    fn spans_have_units() {
        for (text, millis) in [
            ("30", 30_000),
            ("1.5", 1500),
            ("250ms", 250),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("3 s", 3000),
            ("0", 0),
        ] {
            assert_eq!(span(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "s",
            "-1",
            "1d",
            "1e3",
            "nan",
            "99999999999999999999999h",
            "1.2.3",
        ] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }

    #[test]
    fn errors_name_the_variable_and_its_value() {
        for (name, value) in [
            ("PICOM_PORT", "70000"),
            ("PICOM_TTL", "soon"),
            ("PICOM_RETRIES", "-1"),
            ("PICOM_DRAIN_TIMEOUT", "1y"),
        ] {
            let error = environment(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
