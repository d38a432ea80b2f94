//! What this node says: one line of JSON for each word.

use std::io::Write as _;

use picom_e2e::protocol::{Event, Failure, Word};
use serde_json::Value;

/// Says what came of a command.
pub(crate) fn answer(number: u64, answer: Result<Value, Failure>) {
    say(&Word::Answer(number, answer));
}

/// Says that something happened.
pub(crate) fn event(event: Event) {
    say(&Word::Event(event));
}

fn say(word: &Word) {
    let Ok(mut line) = serde_json::to_string(word) else {
        return;
    };
    line.push('\n');
    let mut out = std::io::stdout().lock();
    // Nobody may be there to hear it any more; then the input ends too.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

/// The life of a handler, told from its first moment to its last. Dropped before [`complete`](Self::complete), it says so.
pub(crate) struct Life {
    name: String,
    completed: bool,
}

impl Life {
    pub(crate) fn begin(name: String) -> Self {
        event(Event::Begun(name.clone()));
        Self {
            name,
            completed: false,
        }
    }

    pub(crate) fn complete(mut self) {
        self.completed = true;
        event(Event::Completed(self.name.clone()));
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if !self.completed {
            event(Event::Dropped(self.name.clone()));
        }
    }
}
