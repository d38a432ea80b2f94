//! Asks a real Consul the questions of `recorded/questions.txt` and writes down what it answers:
//! `PICOM_TEST_CONSUL_BIN=$(cargo xtask consul) cargo run -p picom-conformance --bin record`.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use picom_conformance::{RealConsul, recording};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let consul = RealConsul::start().await;
    let version = consul.version().await;
    // A moment after there is a leader the servers know all of the node; until then its answers are others.
    while !consul
        .plain_api()
        .call("GET", "/catalog/nodes", None)
        .await
        .text
        .contains("wan_ipv4")
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let exchanges = recording::ask_all(consul.plain_api(), &consul.node()).await;
    if version != recording::RECORDED {
        eprintln!(
            "this is Consul {version}; what is kept are the answers of {}",
            recording::RECORDED
        );
        return ExitCode::FAILURE;
    }
    let all = recording::to_json(&exchanges);
    // One exchange a line: a change of one is a change of one line.
    let lines: Vec<String> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    let path = recording::answers_file();
    if let Err(error) = fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n"))) {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    println!("{} exchanges in {}", exchanges.len(), path.display());
    ExitCode::SUCCESS
}
