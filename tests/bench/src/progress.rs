//! The line on standard error that says how far a run is.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use crate::clock::now;

/// Where nobody watches, a line is enough so often.
const QUIET: Duration = Duration::from_secs(15);

/// How much of the line is bar.
const WIDTH: usize = 24;

/// Of a run with a known number of steps.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    steps: usize,
    done: usize,
    terminal: bool,
    said: Option<Instant>,
}

impl Progress {
    /// Of so many steps.
    pub fn new(steps: usize) -> Self {
        Progress {
            begun: now(),
            steps,
            done: 0,
            terminal: stderr().is_terminal(),
            said: None,
        }
    }

    /// A step begins.
    pub fn begin(&mut self, what: &str) {
        let at = now();
        if !self.terminal && self.said.is_some_and(|said| at - said < QUIET) {
            return;
        }
        self.said = Some(at);
        let text = self.line(what, at - self.begun);
        let mut out = stderr().lock();
        let _ = match self.terminal {
            true => write!(out, "\r{text}\x1b[K"),
            false => writeln!(out, "{text}"),
        };
        let _ = out.flush();
    }

    /// A step has ended.
    pub fn step(&mut self) {
        self.done += 1;
    }

    /// Something that must not be overwritten.
    pub fn note(&self, text: &str) {
        let mut out = stderr().lock();
        let _ = match self.terminal {
            true => writeln!(out, "\r{text}\x1b[K"),
            false => writeln!(out, "{text}"),
        };
    }

    /// All have ended.
    pub fn finish(&self) {
        if self.terminal {
            let mut out = stderr().lock();
            let _ = write!(out, "\r\x1b[K");
            let _ = out.flush();
        }
    }

    fn line(&self, what: &str, elapsed: Duration) -> String {
        let share = self.done as f64 / self.steps.max(1) as f64;
        let full = (share * WIDTH as f64) as usize;
        let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
        let left = match self.done {
            0 => String::new(),
            done => {
                let each = elapsed.as_secs_f64() / done as f64;
                let seconds = each * self.steps.saturating_sub(done) as f64;
                format!(", {} left", spoken(Duration::from_secs_f64(seconds)))
            }
        };
        format!("[{bar}] {:>3.0} %  {what}{left}", share * 100.0)
    }
}

/// `40 s`, `3 min 20 s`.
pub fn spoken(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_how_long_it_takes() {
        let mut progress = Progress::new(4);
        assert_eq!(
            progress.line("add-1", Duration::ZERO),
            "[........................]   0 %  add-1"
        );
        progress.step();
        assert_eq!(
            progress.line("add-1", Duration::from_secs(30)),
            "[######..................]  25 %  add-1, 1 min 30 s left"
        );
    }
}
