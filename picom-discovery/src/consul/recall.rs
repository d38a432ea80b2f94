//! The last answer to a watch, so that of the next one only what differs has to be read: a list of a thousand instances
//! of which one has changed costs a comparison of bytes and one entry. What an entry means is in `entry.rs`.

use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;

/// A body longer than this is not kept for comparison: some ten thousand instances, which change too seldom all together
/// to be worth the memory.
const MAX_KEPT: usize = 8 << 20;

/// A list in JSON, with what each of its entries was read as.
#[derive(Debug)]
pub(crate) struct Recall<T> {
    body: Bytes,
    entries: Vec<(Range<usize>, T)>,
}

impl<T> Default for Recall<T> {
    fn default() -> Self {
        Self {
            body: Bytes::new(),
            entries: Vec::new(),
        }
    }
}

impl<T> Recall<T> {
    /// What the entries of `body` are, in their order. `read` is asked for those only that are not the same bytes at the
    /// beginning or at the end of the list as they were in the last body. `null` is an empty list.
    ///
    /// Of a body that is the same as the last, nothing is kept, and nothing allocated.
    ///
    /// # Errors
    /// The body is no list. The last one stays what it was.
    pub(crate) fn entries(
        &mut self,
        body: &Bytes,
        mut read: impl FnMut(&str) -> T,
    ) -> Result<impl Iterator<Item = &T>, serde_json::Error> {
        if self.body.is_empty() || self.body != body {
            let Seam { head, tail, fresh } = match self.seam(body) {
                Some(seam) => seam,
                None => Seam {
                    head: 0,
                    tail: 0,
                    fresh: spans(body, 0)?,
                },
            };
            let kept_from = self.entries.len() - tail;
            let fresh = fresh.into_iter().map(|span| {
                let text = body.get(span.clone()).unwrap_or_default();
                // It was read as JSON just now, so it is UTF-8.
                let entry = read(std::str::from_utf8(text).unwrap_or_default());
                (span, entry)
            });
            let fresh: Vec<_> = fresh.collect();
            let (old, new) = (self.body.len(), body.len());
            for (span, _) in self.entries.iter_mut().skip(kept_from) {
                // The distance to the end is what has stayed.
                *span = new - (old - span.start)..new - (old - span.end);
            }
            self.entries.splice(head..kept_from, fresh);
            self.body = match body.len() <= MAX_KEPT {
                true => body.clone(),
                // Nothing is equal to it.
                false => Bytes::new(),
            };
        }
        Ok(self.entries.iter().map(|(_, entry)| entry))
    }

    /// How much of the last body is in the new one. `None` if that cannot be told, or the rest is no list.
    fn seam(&self, body: &Bytes) -> Option<Seam> {
        let (old, new): (&[u8], &[u8]) = (&self.body, body);
        let same = equal(old, new);
        // Where a number begins and ends is not seen from within: the byte beside it has to be the same too.
        let closes = |at: usize| old.get(at).is_some_and(|byte| b"}]\"".contains(byte));
        let opens = |at: usize| old.get(at).is_some_and(|byte| b"{[\"".contains(byte));
        let head = self
            .entries
            .partition_point(|(span, _)| span.end < same || span.end == same && closes(span.end - 1));
        let begin = match head.checked_sub(1) {
            Some(last) => self.entries.get(last)?.0.end,
            None => 0,
        };
        let (old_rest, new_rest) = (old.get(begin..)?, new.get(begin..)?);
        let same_end = equal_from_end(old_rest, new_rest);
        let first = self.entries.partition_point(|(span, _)| {
            let rest = old.len() - span.start;
            rest > same_end || rest == same_end && !opens(span.start)
        });
        let first = first.max(head);
        let tail = self.entries.len() - first;
        let end = match self.entries.get(first) {
            Some((span, _)) => new.len() - (old.len() - span.start),
            None => new.len(),
        };
        // What lies between begins and ends with the sign that the list has there, and is a list without its brackets.
        let middle = new.get(begin..end)?;
        let nothing_between = match (head > 0, tail > 0) {
            (true, true) => b",".as_slice(),
            (false, true) => b"[",
            (true, false) => b"]",
            (false, false) => b"[]",
        };
        if middle.trim_ascii() == nothing_between {
            let fresh = Vec::new();
            return Some(Seam { head, tail, fresh });
        }
        let opened = middle.trim_ascii_start();
        let opened = opened.strip_prefix(if head > 0 { b"," } else { b"[" })?;
        let skipped = middle.len() - opened.len();
        let closed = opened.trim_ascii_end();
        let inner = closed.strip_suffix(if tail > 0 { b"," } else { b"]" })?;
        // Nothing between two commas, or between a comma and a bracket: the list is broken.
        let is_blank = inner.trim_ascii().is_empty();
        if is_blank && (head > 0 || tail > 0) {
            return None;
        }
        let mut list = Vec::with_capacity(inner.len() + 2);
        list.push(b'[');
        list.extend_from_slice(inner);
        list.push(b']');
        // One for the bracket that stands before it here.
        let fresh = spans(&list, 1).ok()?;
        let at = begin + skipped;
        let fresh = fresh
            .into_iter()
            .map(|span| span.start + at..span.end + at)
            .collect();
        Some(Seam { head, tail, fresh })
    }
}

/// What of a list is as it was: so many entries at its head, so many at its tail, and where the new ones between are.
struct Seam {
    head: usize,
    tail: usize,
    fresh: Vec<Range<usize>>,
}

/// Where the entries of a list are, counted from its byte `from` on.
fn spans(list: &[u8], from: usize) -> Result<Vec<Range<usize>>, serde_json::Error> {
    let entries: Option<Vec<&RawValue>> = serde_json::from_slice(list)?;
    let begin = list.as_ptr() as usize + from;
    let span = |entry: &RawValue| {
        let start = entry.get().as_ptr() as usize - begin;
        start..start + entry.get().len()
    };
    Ok(entries.unwrap_or_default().into_iter().map(span).collect())
}

/// How many bytes are the same at the beginning.
fn equal(one: &[u8], other: &[u8]) -> usize {
    // In blocks first: comparing whole slices is many times faster than byte by byte.
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let done = BLOCK * blocks.take_while(|(one, other)| one == other).count();
    let rest = one.iter().skip(done).zip(other.iter().skip(done));
    done + rest.take_while(|(one, other)| one == other).count()
}

/// How many bytes are the same at the end.
fn equal_from_end(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.rchunks_exact(BLOCK).zip(other.rchunks_exact(BLOCK));
    let done = BLOCK * blocks.take_while(|(one, other)| one == other).count();
    let rest = one.iter().rev().skip(done).zip(other.iter().rev().skip(done));
    done + rest.take_while(|(one, other)| one == other).count()
}

/// Small enough that the rest does not count.
const BLOCK: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a list is read as, and how many of its entries were read for it.
    fn read(recall: &mut Recall<String>, body: &str) -> Result<(Vec<String>, usize), String> {
        let mut count = 0;
        let body = Bytes::copy_from_slice(body.as_bytes());
        let entries = recall.entries(&body, |text| {
            count += 1;
            text.to_owned()
        });
        let entries: Vec<String> = entries.map_err(|error| error.to_string())?.cloned().collect();
        Ok((entries, count))
    }

    #[test]
    fn only_what_differs_is_read() {
        let mut recall = Recall::default();
        for (body, expected, count) in [
            (r#"[{"a":1},{"b":2},{"c":3}]"#, 3, 3),
            (r#"[{"a":1},{"b":2},{"c":3}]"#, 3, 0),
            (r#"[{"a":1},{"b":22},{"c":3}]"#, 3, 1),
            (r#"[{"a":1},{"c":3}]"#, 2, 0),
            (r#"[{"a":1},{"c":3},{"d":4}]"#, 3, 1),
            (r#"[{"0":0},{"a":1},{"c":3},{"d":4}]"#, 4, 1),
            (r#"[{"a":1},{"c":3},{"d":4}]"#, 3, 0),
            (r#"[{"a":1}]"#, 1, 0),
            ("[]", 0, 0),
            ("null", 0, 0),
            (r#" [ {"a":1} , {"b":2} ] "#, 2, 2),
            (r#" [ {"a":1} , {"b":3} ] "#, 2, 1),
        ] {
            let (entries, read) = read(&mut recall, body).unwrap();
            assert_eq!((entries.len(), read), (expected, count), "{body}");
            let whole: Option<Vec<&RawValue>> = serde_json::from_str(body).unwrap();
            let whole: Vec<&str> = whole.unwrap_or_default().iter().map(|raw| raw.get()).collect();
            assert_eq!(entries, whole);
        }
    }

    #[test]
    fn what_is_no_list_is_an_error_and_leaves_the_last() {
        let mut recall = Recall::default();
        assert_eq!(read(&mut recall, "[1,2,3]").unwrap().1, 3);
        for body in [
            "", "[1,2,3", "[1,,3]", "[1,2,]", "[,2,3]", "[1,2 3]", "{}", "[1,2,3]]", "[1 2,3]", "[12,,3]",
            "[,]",
        ] {
            assert!(read(&mut recall, body).is_err(), "{body}");
        }
        assert_eq!(read(&mut recall, "[1,2,3]").unwrap().1, 0);
        // A number is not over where its beginning is.
        assert_eq!(read(&mut recall, "[1,2,34]").unwrap().0, ["1", "2", "34"]);
        assert_eq!(read(&mut recall, "[1,2,3]").unwrap().0, ["1", "2", "3"]);
        assert_eq!(read(&mut recall, "[41,2,3]").unwrap().0, ["41", "2", "3"]);
    }

    proptest! {
        #[test]
        fn what_is_recalled_is_what_would_be_read(bodies in proptest::collection::vec("[\\[\\],1 23\"a{}:]{0,14}|\\[([123]{1,2}(,[123]{1,2}){0,6})?\\]|\\[(\\{\"a\":[12]\\}(,\\{\"a\":[12]\\}){0,6})?\\]", 1..12)) {
            let mut recall = Recall::default();
            for body in bodies {
                let whole = serde_json::from_str::<Option<Vec<&RawValue>>>(&body);
                match read(&mut recall, &body) {
                    Ok((entries, _)) => {
                        let whole = whole.unwrap().unwrap_or_default();
                        let whole: Vec<&str> = whole.iter().map(|raw| raw.get()).collect();
                        prop_assert_eq!(entries, whole);
                    }
                    Err(_) => prop_assert!(whole.is_err(), "{}", body),
                }
            }
        }
    }
}
