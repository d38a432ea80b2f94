//! The members of the workspace and what they depend on, as `cargo metadata` states it.

use serde_json::Value;

/// A member.
#[derive(Debug, Clone, Default)]
pub(super) struct Package {
    pub(super) name: String,
    /// From the root of the workspace, without a slash at the end.
    pub(super) dir: String,
    pub(super) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// The name code knows it by, where that is another one.
    pub(super) rename: Option<String>,
    pub(super) dev: bool,
    /// Lies in this tree.
    pub(super) local: bool,
}

impl Package {
    pub(super) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.dir)
    }

    /// Whether it is one of the packages for tests, which may use what they like.
    pub(super) fn is_test_package(&self) -> bool {
        self.dir.starts_with("tests/")
    }
}

impl Dependency {
    /// As it is spelled in code.
    pub(super) fn identifier(&self) -> String {
        self.rename.as_ref().unwrap_or(&self.name).replace('-', "_")
    }
}

/// Reads what `cargo metadata --no-deps` answered.
pub(super) fn read(metadata: &Value) -> Vec<Package> {
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.map(|package| one(package, root)).collect()
}

fn one(package: &Value, root: &str) -> Package {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let dir = manifest.strip_prefix(root).unwrap_or(manifest);
    let dir = dir
        .trim_start_matches('/')
        .trim_end_matches("Cargo.toml")
        .trim_end_matches('/');
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let dependencies = dependencies.map(|dependency| Dependency {
        name: text(&dependency["name"]),
        rename: dependency["rename"].as_str().map(str::to_owned),
        dev: dependency["kind"] == "dev",
        local: !dependency["path"].is_null(),
    });
    Package {
        name: text(&package["name"]),
        dir: dir.to_owned(),
        dependencies: dependencies.collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_read_with_their_place_and_their_dependencies() {
        let metadata = json!({ "workspace_root": "/w", "packages": [{
            "name": "picom-e2e",
            "manifest_path": "/w/tests/e2e/Cargo.toml",
            "dependencies": [
                { "name": "picom", "kind": null, "path": "/w/picom", "rename": null },
                { "name": "tokio-util", "kind": "dev", "rename": "tu" },
            ],
        }]});
        let packages = read(&metadata);
        assert_eq!(packages[0].manifest(), "tests/e2e/Cargo.toml");
        assert!(packages[0].is_test_package());
        let [picom, tokio_util] = &packages[0].dependencies[..] else {
            panic!("two dependencies")
        };
        assert!(picom.local && !picom.dev && !tokio_util.local && tokio_util.dev);
        assert_eq!(tokio_util.identifier(), "tu");
    }
}
