//! Which libraries a crate may use, and for what. A new one is a decision: it gets a line here, with its reason.

use super::Finding;
use super::packages::{Dependency, Package};
use super::source::lines_with_word;
use super::tree::{Tree, line_where};

/// A crate, the libraries it may use, and why.
struct Allowed {
    package: &'static str,
    libraries: &'static [(&'static str, &'static str)],
}

const CRATES: &[Allowed] = &[
    Allowed {
        package: "picom-codec",
        libraries: &[
            ("bytes", "bodies are slices of what was read"),
            (
                "chrono",
                "its moments as dates of the classic dialect (feature chrono)",
            ),
            ("rmp-serde", "typed values, behind the scan"),
            ("rmpv", "dynamic values, behind the scan"),
            ("serde", "what a value is"),
            ("thiserror", "typed errors"),
            (
                "time",
                "its moments as dates of the classic dialect (feature time)",
            ),
            ("tokio-util", "the Decoder and Encoder traits; no runtime"),
        ],
    },
    Allowed {
        package: "picom-discovery",
        libraries: &[
            ("async-trait", "Discovery is used as dyn"),
            ("base64", "basic authentication towards an agent behind a proxy"),
            ("bytes", "bodies of answers"),
            ("fastrand", "jitter from a seed that a simulation can repeat"),
            ("futures-core", "the Stream trait"),
            ("futures-util", "select and stream adapters"),
            (
                "hickory-resolver",
                "DNS as a source: records with their time to live (feature dns)",
            ),
            (
                "http-body-util",
                "bodies of requests, and a bound on those of answers",
            ),
            ("hyper", "HTTP to Consul, and the dev agent's server"),
            ("hyper-util", "hyper on tokio's sockets"),
            ("percent-encoding", "service names and ids in paths"),
            (
                "rustls-native-certs",
                "the system's roots, for TLS to the agent (feature tls)",
            ),
            ("serde", "Consul's JSON"),
            ("serde_json", "Consul's JSON"),
            ("socket2", "keepalive of connections that wait for minutes"),
            ("thiserror", "typed errors"),
            ("tokio", "sockets, timers, the heartbeats' own runtime"),
            ("tokio-rustls", "TLS to the agent (feature tls)"),
            ("tokio-util", "cancellation"),
            ("tracing", "logs"),
        ],
    },
    Allowed {
        package: "picom-transport",
        libraries: &[
            ("async-trait", "Connector is used as dyn"),
            ("bytes", "bodies are slices of what was read"),
            ("fastrand", "jitter from a seed that a simulation can repeat"),
            ("futures-core", "the Stream trait"),
            ("futures-util", "sink and stream adapters"),
            ("pin-project-lite", "futures of our own without unsafe"),
            ("socket2", "socket options that std does not have"),
            ("thiserror", "typed errors"),
            ("tokio", "sockets, timers, tasks; never in proto/"),
            ("tokio-util", "framed reading, cancellation"),
            ("tracing", "logs"),
        ],
    },
    Allowed {
        package: "picom-rpc",
        libraries: &[
            ("async-trait", "Handler is used as dyn"),
            ("bytes", "messages before they are decoded"),
            (
                "fastrand",
                "picks and jitter from a seed that a simulation can repeat",
            ),
            ("futures-core", "the Stream trait in public types"),
            ("futures-util", "stream adapters, and catching a handler's panic"),
            ("pin-project-lite", "futures of our own without unsafe"),
            ("rmpv", "dynamic callers and handlers"),
            ("serde", "args and results"),
            ("thiserror", "typed errors"),
            ("tokio", "tasks and timers"),
            ("tokio-util", "cancellation"),
            ("tracing", "logs and spans"),
        ],
    },
    Allowed {
        package: "picom",
        libraries: &[
            ("async-trait", "implementing the layers' seams"),
            ("bytes", "in re-exported types"),
            ("futures-core", "the Stream trait in public types"),
            ("futures-util", "stream adapters"),
            ("rmpv", "dynamic values in public types"),
            ("serde", "args and results"),
            ("socket2", "finding out the address to advertise"),
            ("thiserror", "one error"),
            ("tokio", "signals, tasks, timers"),
            ("tracing", "logs"),
        ],
    },
    Allowed {
        package: "xtask",
        libraries: &[
            ("anyhow", "a binary's errors are for people"),
            ("serde_json", "cargo metadata and machine output"),
        ],
    },
];

/// What tests and examples of any crate may use on top, and the packages under tests/ too.
const FOR_TESTS: &[(&str, &str)] = &[
    ("anyhow", "examples and binaries of tests"),
    ("arbitrary", "structured input of the fuzz targets"),
    ("futures-util", "driving streams by hand"),
    ("hyper", "a foreign client or server"),
    ("hyper-util", "a foreign client or server"),
    ("http-body-util", "a foreign client or server"),
    ("proptest", "properties"),
    ("rcgen", "certificates of a test's own agent"),
    ("rmpv", "an independent reader of MessagePack"),
    ("serde", "types of tests"),
    ("serde_json", "recorded answers"),
    ("socket2", "half-closed and reset sockets"),
    ("tokio", "a runtime, and its paused clock"),
    ("tokio-util", "driving codecs"),
    ("tracing", "logs of tests"),
    ("tracing-subscriber", "showing them"),
];

/// The libraries picom is built on: each must be in use somewhere.
const PILLARS: &[&str] = &[
    "tokio",
    "tokio-util",
    "rmpv",
    "serde",
    "hyper",
    "http-body-util",
    "async-trait",
    "anyhow",
    "proptest",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let mut in_use = Vec::new();
    for package in &tree.packages {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.local) {
            if let Some(text) = refusal(package, dependency) {
                wrong.push(at(tree, package, dependency, text));
            }
            if is_used(tree, package, dependency) {
                in_use.push(dependency.name.as_str());
            } else {
                let text = format!(
                    "{} depends on {} and never names it",
                    package.name, dependency.name
                );
                wrong.push(at(tree, package, dependency, text));
            }
        }
    }
    for pillar in PILLARS.iter().filter(|pillar| !in_use.contains(*pillar)) {
        wrong.push(Finding::new(
            "Cargo.toml",
            0,
            format!("{pillar} is in use nowhere"),
        ));
    }
    // A library in both tables of a manifest is one finding.
    let mut seen = Vec::new();
    for finding in wrong {
        if !seen.contains(&finding) {
            seen.push(finding);
        }
    }
    seen
}

fn refusal(package: &Package, dependency: &Dependency) -> Option<String> {
    let listed = |list: &[(&str, &str)]| list.iter().any(|(name, _)| *name == dependency.name);
    let own = CRATES
        .iter()
        .find(|allowed| allowed.package == package.name)
        .is_some_and(|a| listed(a.libraries));
    // A test package may use every library that a crate may.
    let anywhere = || CRATES.iter().any(|allowed| listed(allowed.libraries));
    let for_tests = (dependency.dev || package.is_test_package()) && listed(FOR_TESTS);
    if own || for_tests || (package.is_test_package() && anywhere()) {
        return None;
    }
    let kind = if dependency.dev { " in its tests" } else { "" };
    Some(format!(
        "{} may not use {}{kind}: a new library gets a line and a reason in xtask/src/tidy/dependencies.rs",
        package.name, dependency.name
    ))
}

/// Whether the crate's code names it; what users of the crate build must be named outside of its tests. A library that
/// is there for its features alone is named nowhere, and is then better turned on where it is used.
fn is_used(tree: &Tree, package: &Package, dependency: &Dependency) -> bool {
    let product = !dependency.dev && !package.is_test_package();
    let prefix = format!("{}/{}", package.dir, if product { "src/" } else { "" });
    let identifier = dependency.identifier();
    tree.sources()
        .filter(|(path, _)| path.starts_with(&prefix))
        .any(|(_, source)| {
            let named = |code: &str| !lines_with_word(code, &identifier).is_empty();
            // The whole is searched first, as cutting the tests out takes longer.
            named(&source.code) && (!product || named(&source.product_code()))
        })
}

fn at(tree: &Tree, package: &Package, dependency: &Dependency, text: String) -> Finding {
    let manifest = tree.text(&package.manifest()).unwrap_or_default();
    let key = dependency.rename.as_ref().unwrap_or(&dependency.name);
    Finding::new(
        package.manifest(),
        line_where(manifest, |line| names(line, key)),
        text,
    )
}

/// Whether a line of a manifest begins with this key: `serde = …`, `serde.workspace = …`.
fn names(line: &str, key: &str) -> bool {
    line.strip_prefix(key)
        .is_some_and(|rest| rest.starts_with([' ', '=', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dir: &str, on: &[(&str, bool)]) -> Package {
        let dependencies = on
            .iter()
            .map(|(name, dev)| Dependency {
                name: (*name).to_owned(),
                dev: *dev,
                local: false,
                rename: None,
            })
            .collect();
        Package {
            name: name.to_owned(),
            dir: dir.to_owned(),
            dependencies,
        }
    }

    fn findings(files: &[(&str, &str)], packages: Vec<Package>) -> Vec<Finding> {
        let mut found = check(&Tree::of(files).with_packages(packages));
        found.retain(|finding| !finding.text.contains("in use nowhere"));
        found
    }

    #[test]
    fn listed_libraries_that_are_named_in_code_are_fine() {
        let files = [(
            "picom-codec/src/lib.rs",
            "use bytes::Bytes; use proptest::prelude::*;",
        )];
        let packages = vec![package(
            "picom-codec",
            "picom-codec",
            &[("bytes", false), ("proptest", true)],
        )];
        assert_eq!(findings(&files, packages), []);
    }

    #[test]
    fn a_library_that_is_not_listed_is_found_at_its_line() {
        let manifest = "[dependencies]\nserde_json = \"1\"\n";
        let files = [
            ("picom-codec/Cargo.toml", manifest),
            ("picom-codec/src/lib.rs", "serde_json::x; tokio::y"),
        ];
        let packages = vec![package(
            "picom-codec",
            "picom-codec",
            &[("serde_json", false), ("tokio", true)],
        )];
        let found = findings(&files, packages);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
        assert!(found[0].text.starts_with("picom-codec may not use serde_json:"));
    }

    #[test]
    fn a_library_that_is_never_named_is_found() {
        let files = [
            ("picom-rpc/src/lib.rs", "//! serde and bytes\nuse bytes_x;"),
            ("picom/src/lib.rs", "use serde;"),
        ];
        let found = findings(
            &files,
            vec![package(
                "picom-rpc",
                "picom-rpc",
                &[("bytes", false), ("serde", false)],
            )],
        );
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].text, "picom-rpc depends on serde and never names it");
    }

    #[test]
    fn what_only_tests_name_is_no_dependency_of_the_product() {
        let files = [
            (
                "picom-codec/src/lib.rs",
                "#[cfg(test)]\nmod tests { use rmpv::Value; }",
            ),
            ("picom-codec/tests/values.rs", "use rmpv::Value;"),
        ];
        let on = |dev| vec![package("picom-codec", "picom-codec", &[("rmpv", dev)])];
        assert_eq!(findings(&files, on(true)), []);
        assert_eq!(
            findings(&files, on(false))[0].text,
            "picom-codec depends on rmpv and never names it"
        );
    }

    #[test]
    fn a_pillar_that_nobody_uses_is_found() {
        let all = check(&Tree::default());
        assert_eq!(all.len(), PILLARS.len());
    }

    #[test]
    fn every_line_has_a_reason() {
        let lists = CRATES.iter().map(|allowed| allowed.libraries).chain([FOR_TESTS]);
        assert!(lists.flatten().all(|(_, reason)| reason.len() > 3));
    }
}
