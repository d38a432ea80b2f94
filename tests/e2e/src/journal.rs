//! Where handlers write down that they ran: a file for each node, appended to before anything else is done, so that it
//! is right even when the node is killed a moment later.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// The ending of a journal's name.
pub const ENDING: &str = "journal";

/// A node's journal, open for writing.
#[derive(Debug)]
pub struct Journal(File);

impl Journal {
    /// Opens the journal, or begins it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Writes down that a call runs. When this returns the line outlives the process: the kernel has it.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn record(&self, id: u64) -> io::Result<()> {
        // One write, so that lines of several threads do not mix.
        (&self.0).write_all(format!("{id}\n").as_bytes())
    }
}

/// How often each call ran, by all journals of a directory.
///
/// # Errors
///
/// When a journal cannot be read, or holds something else than ids.
pub fn runs(dir: &Path) -> io::Result<BTreeMap<u64, u32>> {
    let mut runs = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        for line in fs::read_to_string(path)?.lines() {
            let id = line
                .parse()
                .map_err(|error| io::Error::other(format!("{line:?}: {error}")))?;
            *runs.entry(id).or_insert(0) += 1;
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_journals_of_a_directory_are_added_up() {
        let scratch = Scratch::new();
        for (name, ids) in [("a.journal", &[1, 2, 2][..]), ("b.journal", &[2, 3])] {
            let journal = Journal::open(&scratch.path().join(name)).unwrap();
            ids.iter().for_each(|&id| journal.record(id).unwrap());
        }
        fs::write(scratch.path().join("c.log"), "no journal").unwrap();
        assert_eq!(
            runs(scratch.path()).unwrap(),
            BTreeMap::from([(1, 1), (2, 3), (3, 1)])
        );
    }

    #[test]
    fn a_journal_that_was_begun_is_continued() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a.journal");
        Journal::open(&path).unwrap().record(1).unwrap();
        Journal::open(&path).unwrap().record(1).unwrap();
        assert_eq!(runs(scratch.path()).unwrap(), BTreeMap::from([(1, 2)]));
    }
}
