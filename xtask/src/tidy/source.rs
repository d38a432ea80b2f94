//! A Rust file with its comments and literals blanked out, so that a rule about code does not stumble over what a
//! sentence or a string says. Blanking keeps every line where it is.

/// One Rust file in two views.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    /// As `text`, with spaces in place of comments and of what stands in quotes.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            code: blank(text),
        }
    }

    /// The code without the items that only tests see.
    pub(super) fn product_code(&self) -> String {
        without_tests(&self.code)
    }
}

/// Places where a word stands by itself, as 1-based line numbers. A word may be a path, such as `std::net`.
pub(super) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let part_of_a_name = |c: char| c == '_' || c.is_alphanumeric();
    let mut found = Vec::new();
    for (at, line) in code.lines().enumerate() {
        let stands_alone = line.match_indices(word).any(|(start, _)| {
            let before = line.get(..start).and_then(|part| part.chars().next_back());
            let after = line
                .get(start + word.len()..)
                .and_then(|part| part.chars().next());
            !before.is_some_and(part_of_a_name) && !after.is_some_and(part_of_a_name)
        });
        if stands_alone {
            found.push(at + 1);
        }
    }
    found
}

/// Blanks comments, and the insides of strings and characters.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    let look = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let end = match (look(at), look(at + 1)) {
            ('/', '/') => line_end(&chars, at),
            ('/', '*') => block_end(&chars, at),
            ('"', _) => string_end(&chars, at),
            ('r', '"' | '#') | ('b' | 'c', 'r') if !in_name(&chars, at) => raw_end(&chars, at),
            ('\'', _) => char_end(&chars, at),
            _ => None,
        };
        match end {
            Some(end) => {
                // Quotes stay, so that an attribute with a reason can be told from one without.
                let quoted = look(at) != '/';
                for (offset, &c) in chars.get(at..end).unwrap_or_default().iter().enumerate() {
                    let edge = quoted && (offset == 0 || at + offset + 1 == end);
                    out.push(if edge || c == '\n' { c } else { ' ' });
                }
                at = end.max(at + 1);
            }
            None => {
                out.push(look(at));
                at += 1;
            }
        }
    }
    out
}

fn in_name(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| chars.get(before));
    before.is_some_and(|&c| c == '_' || c.is_alphanumeric())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several ends; the others may not be there"
)]
fn line_end(chars: &[char], at: usize) -> Option<usize> {
    Some(
        (at..chars.len())
            .find(|&i| chars.get(i) == Some(&'\n'))
            .unwrap_or(chars.len()),
    )
}

/// Block comments nest.
fn block_end(chars: &[char], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut i = at;
    while let Some(pair) = chars.get(i..i + 2) {
        match pair {
            ['/', '*'] => (depth, i) = (depth + 1, i + 2),
            ['*', '/'] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return Some(i);
        }
    }
    Some(chars.len())
}

fn string_end(chars: &[char], at: usize) -> Option<usize> {
    let mut i = at + 1;
    while let Some(c) = chars.get(i) {
        match c {
            '\\' => i += 2,
            '"' => return Some(i + 1),
            _ => i += 1,
        }
    }
    Some(chars.len())
}

/// `r"…"`, `r#"…"#`, `br"…"`; `None` for a raw identifier such as `r#type` and for names that begin so.
fn raw_end(chars: &[char], at: usize) -> Option<usize> {
    let mut i = if chars.get(at) == Some(&'r') {
        at + 1
    } else {
        at + 2
    };
    let first = i;
    while chars.get(i) == Some(&'#') {
        i += 1;
    }
    let hashes = i - first;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    while i < chars.len() {
        i += 1;
        let closing = chars
            .get(i + 1..=i + hashes)
            .is_some_and(|tail| tail.iter().all(|&c| c == '#'));
        if chars.get(i) == Some(&'"') && (hashes == 0 || closing) {
            return Some(i + 1 + hashes);
        }
    }
    Some(chars.len())
}

/// `'x'` and `'\n'`; `None` for a lifetime.
fn char_end(chars: &[char], at: usize) -> Option<usize> {
    if chars.get(at + 1) == Some(&'\\') {
        let close = (at + 3..chars.len()).find(|&i| chars.get(i) == Some(&'\''))?;
        return Some(close + 1);
    }
    (chars.get(at + 2) == Some(&'\'')).then_some(at + 3)
}

/// Blanks each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        let (before, item) = rest.split_at(start);
        out.push_str(before);
        let (item, after) = item.split_at(item_end(item));
        out.extend(item.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where an item ends: at the brace that closes its first one, or at a semicolon before any.
fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_are_blanked_and_lines_stay() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x\\\"y\") // z", "f(\"    \")     "),
            ("r#\"a \" b\"# + c", "r        # + c"),
            ("br\"a\\\" + c", "b    \" + c"),
            ("'a' 'b: &'static str '\\'' x", "' ' 'b: &'static str '  ' x"),
            ("let r#type = for_r;", "let r#type = for_r;"),
            ("\"two\nlines\"", "\"   \n     \""),
            ("\"unclosed", "\"       d"),
        ];
        for (text, expected) in cases {
            assert_eq!(blank(text), expected, "{text:?}");
        }
    }

    #[test]
    fn words_are_found_whole() {
        let code = "use tokio::net;\nlet tokio_x = 1;\nmytokio();\nstd::network; std::net::X";
        assert_eq!(lines_with_word(code, "tokio"), [1]);
        assert_eq!(lines_with_word(code, "std::net"), [4]);
    }

    #[test]
    fn items_for_tests_are_cut_out_of_product_code() {
        let source = Source::new(
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { c() } }\nfn d() {}\n#[cfg(test)]\nuse e;\n",
        );
        let code = source.product_code();
        assert!(code.contains("fn a()") && code.contains("fn d()"));
        assert!(!code.contains('b') && !code.contains('e'));
        assert_eq!(code.lines().count(), source.text.lines().count());
    }
}
