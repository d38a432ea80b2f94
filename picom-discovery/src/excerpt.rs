//! A piece of foreign text that is safe to print: cut, and with everything escaped that could forge a log line.

use std::fmt;
use std::sync::Arc;

/// Characters kept: Consul's longest error lines (meta limits, dial errors) fit, an HTML page does not.
const MAX_CHARS: usize = 240;

/// Text received from a registry, cut to 240 characters, control characters escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Arc<str>);

impl Excerpt {
    /// Cuts and escapes `text`.
    pub fn new(text: impl AsRef<str>) -> Self {
        let text = text.as_ref().trim();
        let mut kept = String::new();
        for (count, character) in text.chars().enumerate() {
            if count == MAX_CHARS {
                kept.push('…');
                break;
            }
            if is_plain(character) {
                kept.push(character);
            } else {
                kept.extend(character.escape_debug());
            }
        }
        if kept.is_empty() {
            kept.push_str("no explanation");
        }
        Self(kept.into())
    }

    /// The same for bytes that may not be UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        // Four bytes a character at most; the rest cannot be shown anyway.
        let head = bytes.get(..(MAX_CHARS + 1) * 4).unwrap_or(bytes);
        Self::new(String::from_utf8_lossy(head))
    }

    /// The text as it is printed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Printable as it stands: quotes stay (they are common in Consul's texts), what `escape_debug` thinks unprintable
/// (controls, direction marks, separators) does not.
fn is_plain(character: char) -> bool {
    matches!(character, '"' | '\'') || {
        let mut escaped = character.escape_debug();
        escaped.next() == Some(character) && escaped.next().is_none()
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_stay_and_control_characters_are_escaped() {
        assert_eq!(
            Excerpt::new("CheckID \"a\" has no TTL").as_str(),
            "CheckID \"a\" has no TTL"
        );
        assert_eq!(Excerpt::new("a\nb\u{1b}[31m").as_str(), "a\\nb\\u{1b}[31m");
        assert_eq!(Excerpt::new("a\u{202e}b").as_str(), "a\\u{202e}b");
        assert_eq!(Excerpt::new("größe").as_str(), "größe");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(Excerpt::new(" \n").as_str(), "no explanation");
    }

    #[test]
    fn long_text_is_cut() {
        let cut = Excerpt::new("é".repeat(1000));
        assert_eq!(cut.as_str().chars().count(), MAX_CHARS + 1);
        assert!(cut.as_str().ends_with('…'));
        assert_eq!(
            Excerpt::from_bytes(&[0xff; 10_000]).as_str().chars().count(),
            MAX_CHARS + 1
        );
    }
}
