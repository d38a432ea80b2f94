//! `cargo xtask consul`: which consul binary the tests use. The order of the search stands here; how Debian's package
//! is fetched stands in [`debian`], and what is asked of apt in [`apt`].

mod apt;
mod debian;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use serde_json::json;

use crate::args::Args;
use crate::{process, workspace};

pub(crate) const HELP: &str = "\
Finds a consul binary and prints its path.

Usage: cargo xtask consul [--json] [--suite NAME] [--mirror URI]

It looks, in this order, at
  1. the file that PICOM_CONSUL names (if it is set, nothing else is tried),
  2. every directory of PATH,
  3. target/consul, where an earlier run has put one,
and else takes Debian's own package and unpacks it into target/consul. For that it asks the archive this machine's apt
is configured with, checks the signature with Debian's keyring, and changes nothing outside of target/. It needs
apt-get, apt-config, dpkg, dpkg-deb and the package debian-archive-keyring, but no special rights.

  --json         print {\"path\", \"version\", \"source\"} instead of the path alone
  --suite NAME   Debian suite to take the package from (PICOM_CONSUL_SUITE; default bullseye, the last one that has it)
  --mirror URI   archive to ask instead of the configured ones (PICOM_CONSUL_MIRROR)

The answer goes to standard output, what it is doing meanwhile to standard error.
";

/// The variable that names a binary to use instead of all others.
const VARIABLE: &str = "PICOM_CONSUL";

pub(crate) fn run(mut args: Args) -> anyhow::Result<ExitCode> {
    let as_json = args.flag("--json");
    let from = Archive {
        suite: args.value("--suite")?,
        mirror: args.value("--mirror")?,
    };
    args.finish_empty()?;
    let consul = find(&from)?;
    if as_json {
        let answer = json!({
            "path": consul.path.to_string_lossy(),
            "version": consul.version,
            "source": consul.source,
        });
        println!("{answer}");
    } else {
        println!("{}", consul.path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the package comes from, as far as the caller says so.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    suite: Option<String>,
    mirror: Option<String>,
}

impl Archive {
    /// bullseye is the last release of Debian with a package of Consul.
    fn suite(&self) -> String {
        self.suite
            .clone()
            .or_else(|| variable("PICOM_CONSUL_SUITE"))
            .unwrap_or_else(|| "bullseye".to_owned())
    }

    fn mirror(&self) -> Option<String> {
        self.mirror.clone().or_else(|| variable("PICOM_CONSUL_MIRROR"))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A binary that has answered to `consul version`.
#[derive(Debug)]
pub(crate) struct Consul {
    pub(crate) path: PathBuf,
    /// As in `1.8.7`, without the `v` and without a distributor's suffix.
    pub(crate) version: String,
    /// Where it was found: `PICOM_CONSUL`, `PATH`, `target`, `debian`.
    pub(crate) source: &'static str,
}

impl Consul {
    /// Asks the binary who it is.
    fn probe(path: &Path, source: &'static str) -> anyhow::Result<Self> {
        let text = process::read(Command::new(path).arg("version"))?;
        let Some(version) = version_in(&text) else {
            bail!(
                "{} does not answer `version` as Consul does: {:?}",
                path.display(),
                text.lines().next()
            );
        };
        // Absolute, because the tests run it from directories of their own.
        let path =
            std::path::absolute(path).with_context(|| format!("no absolute path for {}", path.display()))?;
        Ok(Self {
            path,
            version,
            source,
        })
    }

    /// Whether it is this version or a later one.
    pub(crate) fn at_least(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }
}

/// The number in `Consul v1.8.7`, whatever stands behind it.
fn version_in(text: &str) -> Option<String> {
    let rest = text.lines().next()?.strip_prefix("Consul v")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let number = rest.get(..end)?.trim_end_matches('.');
    (!number.is_empty()).then(|| number.to_owned())
}

/// Finds a binary, or makes one.
pub(crate) fn find(archive: &Archive) -> anyhow::Result<Consul> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return Consul::probe(Path::new(&path), VARIABLE).with_context(|| {
            format!(
                "{VARIABLE} names {}, which cannot be used",
                Path::new(&path).display()
            )
        });
    }
    if let Some(path) = process::on_path("consul") {
        match Consul::probe(&path, "PATH") {
            Ok(consul) => return Ok(consul),
            Err(error) => eprintln!("consul: passing over {}: {error:#}", path.display()),
        }
    }
    let home = workspace::target_dir()?.join("consul");
    let path = home.join("bin/consul");
    if path.exists() {
        match Consul::probe(&path, "target") {
            Ok(consul) => return Ok(consul),
            Err(error) => eprintln!(
                "consul: {} does not run and will be replaced: {error:#}",
                path.display()
            ),
        }
    }
    debian::unpack_into(&home, archive).with_context(|| advice(&home))?;
    Consul::probe(&path, "debian").with_context(|| advice(&home))
}

fn advice(home: &Path) -> String {
    format!(
        "there is no consul here and Debian's package could not be had\n\
         \x20 what helps: install Consul 1.8 or later by any means and put it on PATH, or name the binary in {VARIABLE},\n\
         \x20 or put it at {}; if the suite has left the mirrors, name an archive that keeps it\n\
         \x20 (--mirror or PICOM_CONSUL_MIRROR)\n\
         \x20 what went wrong",
        home.join("bin/consul").display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consul(version: &str) -> Consul {
        Consul {
            path: PathBuf::from("/consul"),
            version: version.to_owned(),
            source: "PATH",
        }
    }

    #[test]
    fn the_version_is_read_from_what_releases_and_distributors_print() {
        assert_eq!(
            version_in("Consul v1.8.7\nRevision 1.8.7+dfsg1\n").as_deref(),
            Some("1.8.7")
        );
        assert_eq!(version_in("Consul v1.15.0-dev\n").as_deref(), Some("1.15.0"));
        assert_eq!(version_in("Consul v1.20.1+ent\n").as_deref(), Some("1.20.1"));
        assert_eq!(version_in("Nomad v1.2.3\n"), None);
        assert_eq!(version_in("Consul v\n"), None);
        assert_eq!(version_in(""), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(consul("1.14.2").at_least(1, 14));
        assert!(consul("2.0.0").at_least(1, 14));
        assert!(!consul("1.8.7").at_least(1, 14));
    }

    #[test]
    fn a_binary_that_is_not_consul_is_refused() {
        let error = Consul::probe(Path::new("/bin/echo"), "PATH").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("does not answer `version` as Consul does"),
            "{error:#}"
        );
        assert!(Consul::probe(Path::new("/nowhere/consul"), "PATH").is_err());
    }
}
