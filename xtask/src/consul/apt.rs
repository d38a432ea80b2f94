//! apt with a state of its own: it keeps the machine's way to the network (proxies, certificates, credentials) and
//! leaves behind its hooks, sources, lists, caches and preferences. Nothing it does shows outside of one directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::process;

/// The settings of the machine that a download may need. Hooks are not among them, by construction.
const INHERITED: &[&str] = &[
    "Acquire::",
    "Dir::Bin::",
    "Dir::Etc::netrc",
    "Dir::Etc::netrcparts",
    "APT::Sandbox::User",
];

/// Settings under the prefixes above that say which lists to fetch or how little to check: ours hold.
const OURS: &[&str] = &[
    "Acquire::IndexTargets",
    "Acquire::Languages",
    "Acquire::Allow",
    "Acquire::Check-Valid-Until",
    "Acquire::Retries",
];

/// One private apt.
#[derive(Debug)]
pub(super) struct Apt {
    home: PathBuf,
}

impl Apt {
    /// Lays out an empty state in `home`, a directory made for it.
    pub(super) fn in_dir(home: &Path) -> anyhow::Result<Self> {
        let dirs = [
            "",
            "lists",
            "lists/partial",
            "cache",
            "cache/archives",
            "cache/archives/partial",
        ];
        for dir in dirs.into_iter().chain(["empty", "log", "download"]) {
            let dir = home.join(dir);
            fs::create_dir_all(&dir).context("cannot lay out a state for apt")?;
            // Whatever the umask: under root apt fetches as another user, who has to get in.
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        }
        for file in ["status", "extended_states"] {
            fs::write(home.join(file), "")?;
        }
        let machine = process::read(Command::new("apt-config").arg("dump"))?;
        fs::write(home.join("apt.conf"), configuration(&machine, home))?;
        Ok(Self {
            home: home.to_path_buf(),
        })
    }

    /// Takes one package from one suite of one archive; `keyring` must have signed it. Returns the file.
    pub(super) fn download(
        &self,
        package: &str,
        archive: &str,
        suite: &str,
        keyring: &Path,
    ) -> anyhow::Result<PathBuf> {
        let source = format!("deb [signed-by={}] {archive} {suite} main\n", keyring.display());
        fs::write(self.home.join("sources.list"), source)?;
        // An update that failed leaves no candidate, so the download is what decides; but the update says why.
        let update = process::run(self.command("apt-get").args(["-q", "update"]))?;
        let into = self.home.join("download");
        let download = process::run(
            self.command("apt-get")
                .args(["-q", "download", package])
                .current_dir(&into),
        )?;
        for entry in fs::read_dir(&into)?.flatten() {
            let path = entry.path();
            if download.status.success() && path.extension().is_some_and(|ending| ending == "deb") {
                return Ok(path);
            }
        }
        bail!(
            "no {package} for {} from suite {suite} there:\n{}\n{}",
            architecture()?,
            process::indented(&update),
            process::indented(&download)
        )
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The C locale, because an error of ours quotes what it prints.
        command
            .env("APT_CONFIG", self.home.join("apt.conf"))
            .env("LC_ALL", "C");
        command
    }
}

/// Our configuration, on top of what is inherited.
fn configuration(machine: &str, home: &Path) -> String {
    let mut text = inherited(machine);
    let home = home.display();
    // `Dir::Etc::main` and `parts` come after this file and would bring everything back, so they are emptied.
    text.push_str(&format!(
        "Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"{home}/sources.list\";\n\
         Dir::Etc::sourceparts \"{home}/empty\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"{home}/empty\";\n\
         Dir::State \"{home}\";\n\
         Dir::State::lists \"{home}/lists\";\n\
         Dir::State::status \"{home}/status\";\n\
         Dir::State::extended_states \"{home}/extended_states\";\n\
         Dir::Cache \"{home}/cache\";\n\
         Dir::Cache::pkgcache \"\";\n\
         Dir::Cache::srcpkgcache \"\";\n\
         Dir::Log \"{home}/log\";\n"
    ));
    // Only the list of packages; translations and contents are ten times its size.
    text.push_str(
        "Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
    );
    // Signatures decide, even if the machine is lax. A suite no longer maintained may have passed its date of expiry,
    // which guards against old lists: an old list is what is wanted here.
    text.push_str(
        "Acquire::AllowInsecureRepositories \"false\";\n\
         Acquire::AllowWeakRepositories \"false\";\n\
         Acquire::AllowDowngradeToInsecureRepositories \"false\";\n\
         APT::Get::AllowUnauthenticated \"false\";\n\
         Acquire::Check-Valid-Until \"false\";\n\
         Acquire::Retries \"3\";\n",
    );
    text
}

/// The lines of `apt-config dump` that a download may need.
fn inherited(machine: &str) -> String {
    let kept = |line: &&str| {
        INHERITED.iter().any(|prefix| line.starts_with(prefix))
            && !OURS.iter().any(|prefix| line.starts_with(prefix))
    };
    machine
        .lines()
        .filter(kept)
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// The archives this machine's apt knows, Debian's own first; no duplicates.
pub(super) fn configured_archives() -> anyhow::Result<Vec<String>> {
    let format = "$(CREATED_BY) $(ORIGIN) $(COMPONENT) $(REPO_URI)";
    let known =
        process::read(Command::new("apt-get").args(["indextargets", "--format", format])).unwrap_or_default();
    let mut archives = of_debian(&known);
    // A machine that never fetched its lists knows no origins; but it can say which files an update would ask for.
    let asked = process::read(Command::new("apt-get").args(["update", "--print-uris"])).unwrap_or_default();
    for archive in in_requests(&asked) {
        if !archives.contains(&archive) {
            archives.push(archive);
        }
    }
    if archives.is_empty() {
        bail!("apt is configured with no archive to ask (see `apt-get indextargets`)");
    }
    Ok(archives)
}

/// From the lists that are there: archives whose release files say Debian and that have `main`.
fn of_debian(targets: &str) -> Vec<String> {
    let mut archives = Vec::new();
    for line in targets.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["Packages", "Debian", "main", archive] = words[..] else {
            continue;
        };
        add(&mut archives, archive);
    }
    archives
}

/// From what an update would ask for: `'<archive>dists/<suite>/InRelease' <file> <size>`.
fn in_requests(requests: &str) -> Vec<String> {
    let mut archives = Vec::new();
    for line in requests.lines() {
        let Some((address, _)) = line.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) else {
            continue;
        };
        let Some(suite) = address.strip_suffix("/InRelease") else {
            continue;
        };
        if let Some(at) = suite.rfind("/dists/") {
            add(&mut archives, &suite[..=at]);
        }
    }
    archives
}

fn add(archives: &mut Vec<String>, archive: &str) {
    // Archives of security fixes have suites of other names and never the whole of a release.
    let side = archive.trim_end_matches('/').ends_with("security");
    if !side && !archives.iter().any(|known| known == archive) {
        archives.push(archive.to_owned());
    }
}

/// Debian's name for this machine, as in `amd64`.
pub(super) fn architecture() -> anyhow::Result<String> {
    Ok(process::read(Command::new("dpkg").arg("--print-architecture"))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
APT::Update::Post-Invoke:: \"rm -f /important\";
APT::Sandbox::User \"_apt\";
DPkg::Pre-Install-Pkgs:: \"/usr/sbin/hook\";
AptCli::Hooks::Install:: \"/usr/bin/hook\";
Acquire::http::Proxy \"http://proxy.example:3128\";
Acquire::AllowInsecureRepositories \"true\";
Acquire::Languages:: \"de\";
Acquire::https::CAInfo \"/etc/ca.pem\";
Dir::Bin::methods \"/usr/lib/apt/methods\";
Dir::Etc::netrc \"auth.conf\";
Dir::Etc::parts \"apt.conf.d\";
";

    #[test]
    fn the_way_to_the_network_is_kept_and_hooks_are_not() {
        let kept = inherited(DUMP);
        let expected = "APT::Sandbox::User \"_apt\";\n\
                        Acquire::http::Proxy \"http://proxy.example:3128\";\n\
                        Acquire::https::CAInfo \"/etc/ca.pem\";\n\
                        Dir::Bin::methods \"/usr/lib/apt/methods\";\n\
                        Dir::Etc::netrc \"auth.conf\";\n";
        assert_eq!(kept, expected);
    }

    #[test]
    fn signatures_stay_compulsory_on_a_lax_machine() {
        let text = configuration(DUMP, Path::new("/tmp/x"));
        assert!(text.contains("Acquire::AllowInsecureRepositories \"false\";"));
        assert!(!text.contains("\"true\""));
        assert!(text.contains("Dir::State::lists \"/tmp/x/lists\";"));
    }

    #[test]
    fn archives_of_debian_are_found_in_downloaded_lists() {
        let targets = "\
Packages Debian main http://mirror.example/debian/
Packages Debian main http://mirror.example/debian/
Packages Debian main http://mirror.example/debian-security/
DEP-11 Debian main http://other.example/debian/
Packages nodesource main http://node.example/
Packages Debian contrib http://mirror.example/contrib/
";
        assert_eq!(of_debian(targets), ["http://mirror.example/debian/"]);
        assert_eq!(of_debian("Packages   http://mirror.example/debian/\n"), [""; 0]);
    }

    #[test]
    fn archives_are_found_in_the_requests_of_an_update() {
        let requests = "\
'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian_dists_bookworm_InRelease 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' x 0
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' x 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0
'mirror+file:/etc/apt/mirrors/debian.list/dists/bookworm/InRelease' x 0
noise
";
        assert_eq!(
            in_requests(requests),
            [
                "http://mirror.example/debian/",
                "mirror+file:/etc/apt/mirrors/debian.list/"
            ]
        );
    }
}
