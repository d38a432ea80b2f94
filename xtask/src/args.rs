//! The command line: flags, options with a value, and what remains. No command needs more, so there is no library.

use std::fmt;

/// A command line that makes no sense; the process then ends with code 2 instead of 1.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The words behind a command's name. Each question takes its answer out; what is left at the end is refused or
/// positional.
#[derive(Debug)]
pub(crate) struct Args {
    words: Vec<String>,
    /// What stood behind `--`: passed on, never read.
    beyond: Vec<String>,
}

impl Args {
    pub(crate) fn new(mut words: Vec<String>) -> Self {
        let beyond = match words.iter().position(|w| w == "--") {
            Some(at) => words.split_off(at).into_iter().skip(1).collect(),
            None => Vec::new(),
        };
        Self { words, beyond }
    }

    pub(crate) fn asks_for_help(&self) -> bool {
        self.words.iter().any(|w| w == "--help" || w == "-h")
    }

    /// Whether the flag was given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|w| w != name);
        self.words.len() < before
    }

    /// The value of `--name value` or `--name=value`; the last one wins.
    pub(crate) fn value(&mut self, name: &str) -> Result<Option<String>, UsageError> {
        let mut found = None;
        let mut at = 0;
        while let Some(word) = self.words.get(at) {
            if word == name {
                self.words.remove(at);
                if self.words.get(at).is_none_or(|next| next.starts_with("--")) {
                    return Err(UsageError::new(format!("{name} needs a value")));
                }
                found = Some(self.words.remove(at));
            } else if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                found = Some(value.to_owned());
                self.words.remove(at);
            } else {
                at += 1;
            }
        }
        Ok(found)
    }

    /// As [`value`](Self::value), read as a whole number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>, UsageError> {
        match self.value(name)? {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(UsageError::new(format!(
                    "{name} wants a whole number, not {text:?}"
                ))),
            },
        }
    }

    /// As [`value`](Self::value), a list separated by commas; empty when not given.
    pub(crate) fn list(&mut self, name: &str) -> Result<Vec<String>, UsageError> {
        let text = self.value(name)?.unwrap_or_default();
        Ok(text
            .split(',')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// What is left: the positional words, then everything behind `--`. An option nobody asked for is an error.
    pub(crate) fn finish(self) -> Result<Positional, UsageError> {
        match self.words.iter().find(|w| w.starts_with('-')) {
            Some(unknown) => Err(UsageError::new(format!("unknown option {unknown}"))),
            None => Ok(Positional {
                words: self.words,
                beyond: self.beyond,
            }),
        }
    }

    /// For commands that take options only.
    pub(crate) fn finish_empty(self) -> Result<(), UsageError> {
        let rest = self.finish()?;
        match rest.words.first().or(rest.beyond.first()) {
            Some(word) => Err(UsageError::new(format!("unexpected argument {word:?}"))),
            None => Ok(()),
        }
    }
}

/// What the options left over.
#[derive(Debug)]
pub(crate) struct Positional {
    pub(crate) words: Vec<String>,
    pub(crate) beyond: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn flags_values_and_words_may_stand_in_any_order() {
        let mut args = args("drain --json --seconds 5 --only=a,b restart");
        assert!(args.flag("--json"));
        assert!(!args.flag("--slow"));
        assert_eq!(args.number("--seconds").unwrap(), Some(5));
        assert_eq!(args.list("--only").unwrap(), ["a", "b"]);
        assert_eq!(args.finish().unwrap().words, ["drain", "restart"]);
    }

    #[test]
    fn what_stands_behind_two_dashes_is_passed_on() {
        let mut args = args("frames -- --json -max_len=5");
        assert!(!args.flag("--json"));
        let rest = args.finish().unwrap();
        assert_eq!(rest.words, ["frames"]);
        assert_eq!(rest.beyond, ["--json", "-max_len=5"]);
    }

    #[test]
    fn a_name_that_begins_like_another_is_not_taken_for_it() {
        let mut args = args("--slowly=1");
        assert_eq!(args.value("--slow").unwrap(), None);
        assert_eq!(
            args.finish().unwrap_err().to_string(),
            "unknown option --slowly=1"
        );
    }

    #[test]
    fn a_missing_or_wrong_value_is_named() {
        assert_eq!(
            args("--seconds").number("--seconds").unwrap_err().to_string(),
            "--seconds needs a value"
        );
        assert_eq!(
            args("--seconds --json")
                .number("--seconds")
                .unwrap_err()
                .to_string(),
            "--seconds needs a value"
        );
        let error = args("--seconds=ten").number("--seconds").unwrap_err();
        assert_eq!(error.to_string(), "--seconds wants a whole number, not \"ten\"");
    }
}
