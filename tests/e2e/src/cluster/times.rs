//! The times that were seen of one fault, handed to `cargo xtask integration`, which makes a table of all.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// The variable that names the file the times are added to, a line of JSON for each fault.
pub const TIMES: &str = "PICOM_TEST_TIMES";

/// The times of one fault.
#[derive(Debug)]
pub struct Times {
    fault: String,
    /// In the order of the table's columns.
    seen: Vec<(String, Value)>,
}

impl Times {
    /// Of this fault, without any yet.
    pub fn of(fault: &str) -> Self {
        Self {
            fault: fault.to_owned(),
            seen: Vec::new(),
        }
    }

    /// Adds a span, in seconds.
    pub fn span(&mut self, what: &str, span: Duration) {
        // Milliseconds are as fine as what is looked at.
        let seconds = (span.as_secs_f64() * 1000.0).round() / 1000.0;
        self.seen.push((what.to_owned(), json!(seconds)));
    }

    /// Adds a number.
    pub fn count(&mut self, what: &str, count: usize) {
        self.seen.push((what.to_owned(), json!(count)));
    }

    /// Tells them to whoever started the suite, or to whoever reads the output.
    ///
    /// # Panics
    ///
    /// When the file that was named cannot be written.
    pub fn tell(&self) {
        let line = json!({ "fault": self.fault, "seen": self.seen });
        match std::env::var_os(TIMES) {
            Some(path) => {
                let file = File::options().create(true).append(true).open(&path);
                let mut file = file.unwrap_or_else(|error| panic!("{path:?}: {error}"));
                writeln!(file, "{line}").unwrap_or_else(|error| panic!("{path:?}: {error}"));
            }
            None => eprintln!("{line}"),
        }
    }
}
