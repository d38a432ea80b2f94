//! The Node side of tests/classic-node: whether there is a `node` to run it, and its packages.

use std::path::Path;
use std::process::{Command, Stdio};

/// The test programs that need them.
pub(crate) const PROGRAMS: [&str; 2] = ["node", "both_kinds"];

/// Where they lie, from the root of the workspace.
const DIR: &str = "tests/classic-node/node";

/// Makes the foreign peers ready to run, if `node` is there. If not, says so.
pub(crate) fn is_ready(root: &Path) -> bool {
    let dir = root.join(DIR);
    let runs = |program: &str, args: &[&str]| {
        let run = Command::new(program)
            .args(args)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    };
    let missing = if !dir.exists() {
        "they are not in this tree"
    } else if !runs("node", &["--version"]) {
        "there is no node"
    } else if !dir.join("node_modules").exists()
        && !runs("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
    {
        "npm could not install their packages"
    } else {
        return true;
    };
    eprintln!("SKIPPED: the foreign peers of the classic dialect: {missing}");
    false
}
