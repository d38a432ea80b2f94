//! Debian's package of Consul, unpacked into a directory: no installation, no rights, nothing left half done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{Archive, Consul, apt};
use crate::process;

/// Where Debian installs the keys that sign its archive; which of the two depends on the release.
const KEYRINGS: &[&str] = &[
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Puts `bin/consul` and the package's licence notes into `home`.
pub(super) fn unpack_into(home: &Path, from: &Archive) -> anyhow::Result<()> {
    let keyring = preconditions()?;
    let archives = match from.mirror() {
        // apt takes an archive's address with or without the slash; one form keeps the messages alike.
        Some(mirror) => vec![format!("{}/", mirror.trim_end_matches('/'))],
        None => apt::configured_archives()?,
    };
    let scratch = Scratch::new()?;
    let package = download(&scratch, &archives, &from.suite(), &keyring)?;
    place(&package, home)
}

/// What this way of getting a consul needs of the machine. Returns the keyring.
fn preconditions() -> anyhow::Result<PathBuf> {
    for tool in ["apt-get", "apt-config", "dpkg", "dpkg-deb"] {
        if process::on_path(tool).is_none() {
            bail!("{tool} not found: only a Debian-like machine can unpack Debian's package");
        }
    }
    match KEYRINGS.iter().map(PathBuf::from).find(|file| file.is_file()) {
        Some(keyring) => Ok(keyring),
        None => bail!("Debian's archive keys are not installed (package debian-archive-keyring)"),
    }
}

fn download(scratch: &Scratch, archives: &[String], suite: &str, keyring: &Path) -> anyhow::Result<PathBuf> {
    let mut refusals = String::new();
    for (at, archive) in archives.iter().enumerate() {
        eprintln!(
            "consul: asking the configured archive for the package in {suite} ({} of {})",
            at + 1,
            archives.len()
        );
        let apt = apt::Apt::in_dir(&scratch.0.join(at.to_string()))?;
        match apt.download("consul", archive, suite, keyring) {
            Ok(package) => return Ok(package),
            Err(error) => refusals.push_str(&format!("\n{error:#}")),
        }
    }
    bail!("no archive that apt is configured with gave the package:{refusals}")
}

/// Unpacks beside the final place, tries the binary there, and moves it by rename: other runs see all of it or nothing.
fn place(package: &Path, home: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(home.join("bin")).with_context(|| format!("cannot make {}", home.display()))?;
    let unpacked = Scratch(home.join(format!(".unpack-{}", std::process::id())));
    process::read(
        Command::new("dpkg-deb")
            .arg("--extract")
            .arg(package)
            .arg(&unpacked.0),
    )?;
    let binary = unpacked.0.join("usr/bin/consul");
    let consul = Consul::probe(&binary, "debian").context("the unpacked binary does not run here")?;
    let notes = unpacked.0.join("usr/share/doc/consul/copyright");
    if notes.is_file() {
        fs::rename(notes, home.join("copyright"))?;
    }
    fs::rename(binary, home.join("bin/consul")).context("cannot move the binary into place")?;
    eprintln!("consul: unpacked {} into {}", consul.version, home.display());
    Ok(())
}

/// A directory that is gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    /// Under the system's temporary directory, not under target/: apt fetches as a user of its own, which may not
    /// reach into somebody's home.
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        for attempt in 0..100_u32 {
            let path = std::env::temp_dir().join(format!("picom-consul-{}-{attempt}", std::process::id()));
            // Making it ourselves is the check that nobody has prepared it for us.
            match fs::DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
        bail!(
            "no free name for a directory under {}",
            std::env::temp_dir().display()
        )
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_directories_are_distinct_and_go_away() {
        let (one, two) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        assert_ne!(one.0, two.0);
        let path = one.0.clone();
        assert!(path.is_dir());
        drop(one);
        assert!(!path.exists());
    }
}
