//! A file as a subject: a list that is written anew with every change, in real time.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::ConsulConfig;
use picom_discovery::{Discovery, FileSource};
use serde_json::json;
use tokio::time::sleep;

use crate::http::Api;
use crate::meter::Meter;
use crate::subject::{Entry, Kind, Subject, Word, service};

/// A file, and who stands in it.
#[derive(Debug)]
pub struct Written {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Written {
    /// A new file without anybody in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("picom-conformance-{}-{count}.json", std::process::id());
        let made = Self {
            path: std::env::temp_dir().join(name),
            entries: Mutex::default(),
        };
        made.write();
        made
    }

    /// As its documentation says: another file, renamed onto it.
    fn write(&self) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |entry: &Entry| json!(format!("{}:{}", entry.host, entry.port));
        let lines: Vec<_> = entries.values().map(line).collect();
        let text = json!({ service().as_str(): lines }).to_string();
        let other = self.path.with_extension("new");
        let written = fs::write(&other, text).and_then(|()| fs::rename(&other, &self.path));
        written.expect("the directory for temporary files can be written");
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner));
        self.write();
    }
}

impl Default for Written {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Best effort: it lies where temporary files lie.
        let _ = fs::remove_file(&self.path);
    }
}

#[async_trait]
impl Subject for Written {
    fn kind(&self) -> Kind {
        Kind::File
    }

    fn process(&self) -> Arc<dyn Discovery> {
        Arc::new(FileSource::open(&self.path).expect("a file in order"))
    }

    fn process_with(&self, _: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery> {
        panic!("a file has no settings")
    }

    async fn put(&self, entry: &Entry) {
        self.change(|entries| drop(entries.insert(entry.id.clone(), entry.clone())));
    }

    /// There are no checks: the file is written once more, as it was.
    async fn say(&self, _: &str, _: Word) {
        self.write();
    }

    async fn take(&self, id: &str) {
        self.change(|entries| drop(entries.remove(id)));
    }

    async fn forget(&self) {
        self.change(BTreeMap::clear);
    }

    async fn leave(&self) {
        fs::remove_file(&self.path).expect("the file is there");
    }

    async fn come_back(&self) {
        self.write();
    }

    async fn hang(&self) {
        panic!("a file does not hang")
    }

    async fn go_on(&self) {
        panic!("a file does not hang")
    }

    async fn pass_time(&self, time: Duration) {
        sleep(time).await;
    }

    fn api(&self) -> Option<&Api> {
        None
    }

    fn meter(&self) -> Option<&Meter> {
        None
    }
}
