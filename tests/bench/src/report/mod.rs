//! What a run leaves behind: tables for people, JSON for machines, two plots.

mod json;
mod machine;
mod markdown;
mod number;
mod plot;
mod svg;

use std::fs;

use anyhow::{Context as _, Result};

use crate::command_line::Options;
use crate::pinning::Pinning;
use crate::results::Results;
use machine::Machine;

/// Writes the files and prints one of them.
///
/// # Errors
///
/// When a file cannot be written.
pub fn publish(options: &Options, pinning: &Pinning, results: &Results) -> Result<()> {
    let machine = Machine::look(options, pinning);
    let cells: Vec<_> = options.cells.iter().map(|(cell, _)| cell.clone()).collect();
    let markdown = markdown::write(&machine, &cells, results);
    let json = serde_json::to_string_pretty(&json::write(&machine, options, &cells, results))?;
    let files = [
        ("report.md", Some(markdown.clone())),
        ("results.json", Some(json.clone())),
        ("throughput.svg", plot::throughput(&cells, results)),
        ("latency.svg", plot::latency(&cells, results)),
    ];
    fs::create_dir_all(&options.out).with_context(|| format!("cannot make {}", options.out.display()))?;
    for (name, text) in files {
        let file = options.out.join(name);
        match text {
            Some(text) => {
                fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
                eprintln!("wrote {}", file.display());
            }
            // One of an earlier run would be taken for this one's.
            None => drop(fs::remove_file(&file)),
        }
    }
    println!("{}", if options.json { json } else { markdown });
    Ok(())
}
