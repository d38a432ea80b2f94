//! What a real Consul answered is put to the dev agent: the same status, headers and body, or a line in
//! `recorded/README.md` that says what differs and why.

use std::fs;
use std::sync::Arc;

use picom_conformance::{Dev, recording};
use picom_discovery::dev_agent::Compat;
use serde_json::Value;

/// The rows of the table: the beginning of a question, and the parts of its answer that differ.
fn listed() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(recording::directory().join("README.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (question, rest) = row.split_once("` | ").unwrap();
        let (parts, reason) = rest.split_once(" | ").unwrap();
        assert!(
            reason.trim_end_matches('|').trim().len() > 8,
            "{question}: a difference without a reason"
        );
        (
            question.to_owned(),
            parts.split(", ").map(str::to_owned).collect(),
        )
    })
    .collect()
}

/// Which parts of two answers are not the same.
fn differing(theirs: &Value, ours: &Value) -> Vec<String> {
    let parts = ["status", "headers", "body"].into_iter();
    parts
        .filter(|part| theirs[part] != ours[part])
        .map(str::to_owned)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_dev_agent_answers_as_consul_did_but_for_what_is_listed() {
    let dev = Arc::new(Dev::new(Compat::V1_8));
    let ours = recording::ask_all(dev.plain_api(), &dev.node()).await;
    let theirs = recording::recorded();
    assert_eq!(
        ours.len(),
        theirs.len(),
        "record again: the questions have changed"
    );
    let listed = listed();
    let mut used = vec![false; listed.len()];
    let mut surprises = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.name, theirs.name, "record again: the questions have changed");
        let parts = differing(&theirs.answer, &ours.answer);
        if parts.is_empty() {
            continue;
        }
        let row = listed.iter().position(|(question, list)| {
            *question == ours.name && parts.iter().all(|part| list.contains(part))
        });
        match row {
            Some(row) => used[row] = true,
            None => surprises.push(format!(
                "{}: {}\n  Consul    {}\n  dev agent {}",
                ours.name,
                parts.join(", "),
                theirs.answer,
                ours.answer
            )),
        }
    }
    assert!(
        surprises.is_empty(),
        "{} unlisted differences:\n{}",
        surprises.len(),
        surprises.join("\n")
    );
    let idle: Vec<_> = listed
        .iter()
        .zip(&used)
        .filter(|(_, used)| !**used)
        .map(|(row, _)| &row.0)
        .collect();
    assert!(idle.is_empty(), "listed, and no difference any more: {idle:?}");
}

#[test]
fn the_recordings_hold_every_kind_of_answer() {
    let all = recording::recorded();
    assert!(all.len() >= 200, "{}", all.len());
    for status in [200, 400, 404, 405, 429, 500, 503] {
        assert!(
            all.iter().any(|one| one.answer["status"] == status),
            "none with {status}"
        );
    }
}
