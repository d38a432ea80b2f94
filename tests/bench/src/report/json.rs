//! Everything that was measured, for machines.

use serde_json::{Map, Value, json};

use super::machine::Machine;
use crate::cell::Cell;
use crate::command_line::Options;
use crate::goal::{GOALS, Standing, Want};
use crate::results::Results;

pub(super) fn write(machine: &Machine, options: &Options, cells: &[Cell], results: &Results) -> Value {
    let cells: Vec<Value> = cells.iter().map(|cell| one(cell, results)).collect();
    let goals: Vec<Value> = GOALS
        .iter()
        .map(|goal| {
            let (met, value) = match goal.standing(results) {
                Standing::Unknown => (Value::Null, Value::Null),
                Standing::Met(value) => (json!(true), json!(value)),
                Standing::Missed(value, _) => (json!(false), json!(value)),
            };
            let (bound, sense) = match goal.want {
                Want::AtLeast(bound) => (bound, "at least"),
                Want::AtMost(bound) => (bound, "at most"),
            };
            json!({ "goal": goal.what, "sense": sense, "bound": bound, "unit": goal.unit, "value": value, "met": met })
        })
        .collect();
    json!({
        "machine": machine,
        "arguments": options.words,
        "goals": goals,
        "cells": cells,
        "stalls": results.stalls,
        "cold_builds": results.cold_builds,
        "failures": results.failures,
    })
}

fn one(cell: &Cell, results: &Results) -> Value {
    let mut peers = Map::new();
    for peer in results.peers(cell.id) {
        let latency = |read: fn(&crate::job::Latency) -> f64| results.latency(cell.id, peer, read);
        let median = json!({
            "figure": results.figure(cell, peer),
            "p50_us": latency(|seen| seen.p50),
            "p90_us": latency(|seen| seen.p90),
            "p99_us": latency(|seen| seen.p99),
            "p999_us": latency(|seen| seen.p999),
            "max_us": latency(|seen| seen.max),
            "client_cpu_us": results.median_of(cell.id, peer, |sample| sample.client_cpu_us),
            "server_cpu_us": results.median_of(cell.id, peer, |sample| sample.server_cpu_us),
        });
        let samples = results.samples(cell.id, peer);
        peers.insert(
            peer.name().to_owned(),
            json!({ "median": median, "samples": samples }),
        );
    }
    json!({
        "id": cell.id,
        "title": cell.title,
        "group": cell.group.title(),
        "unit": cell.figure.unit(),
        "unpinned": cell.unpinned,
        "instances": cell.listeners,
        "peers": peers,
    })
}
