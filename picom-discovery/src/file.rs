//! Discovery from a JSON file that is read again when it changes: for machines without a registry, where something else
//! writes down who is where. What stands in it is in `written.rs`.

mod written;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error;

use self::written::{Line, Lists};
use crate::discovery::{Discovery, OnUnavailable};
use crate::error::{Cause, DiscoveryError, Phase, ProtocolFault, RegisterError};
use crate::excerpt::Excerpt;
use crate::fixed::split_authority;
use crate::instance::Instance;
use crate::lease::Lease;
use crate::name::ServiceName;
use crate::registration::Registration;
use crate::snapshot::{Freshness, Snapshot, reuse};
use crate::watch::{Publisher, Watch};

/// Between two looks at the file: a few system calls, and nobody edits a file and expects less.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The largest file taken: some 100,000 addresses.
const MAX_FILE: u64 = 8 << 20;
/// What some editors put before text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The version of the native protocol an address speaks unless it is marked as classic.
const NATIVE: u16 = 1;

/// The services of a JSON file, read again within a second after it has changed:
///
/// ```json
/// { "math": ["10.0.0.1:9000", {"address": "10.0.0.2:9000", "weight": 2, "classic": false, "tags": ["eu"]}] }
/// ```
///
/// Every instance passes; a name that is not there has none. A weight is 1 to 65535, 1 unless it is given. A file that cannot be read or understood changes nothing:
/// what is known becomes stale. Replace it by renaming another onto it, so that no half of it is ever read. Cloning is
/// cheap.
#[derive(Debug, Clone)]
pub struct FileSource {
    shared: Arc<Shared>,
}

/// Why a file cannot be taken as a source.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Arc<io::Error>,
    },
    /// It is not what is expected there.
    #[error("{path:?} is no list of services: {reason}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stamp: Option<Stamp>,
    services: HashMap<ServiceName, Vec<Arc<Instance>>>,
    error: Option<Arc<DiscoveryError>>,
    publishers: HashMap<ServiceName, Arc<Publisher>>,
    /// A task looks at the file.
    looking: bool,
}

/// What changes with a file: its size, its time, and which file the name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: SystemTime,
    inode: u64,
}

impl FileSource {
    /// Reads the file; what is wrong with it at the start is an error.
    ///
    /// # Errors
    /// It cannot be read, is larger than 8 MiB, or is not what is expected.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FileError> {
        let path = path.into();
        let stamp = stamp(&path).ok();
        let services = read(&path)?;
        let state = State {
            stamp,
            services,
            error: None,
            publishers: HashMap::new(),
            looking: false,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                state: Mutex::new(state),
            }),
        })
    }
}

#[async_trait]
impl Discovery for FileSource {
    /// The file is looked at once a second, by one task for all names, on the runtime of the first watch, as long as
    /// anybody watches. Outside of a runtime it is read now and not looked at again.
    fn watch(&self, service: &ServiceName) -> Watch {
        let mut state = self.shared.lock();
        let watch = match state.publishers.get(service) {
            Some(publisher) => publisher.watch(),
            None => {
                let publisher = Arc::new(Publisher::new(service.clone()));
                let watch = publisher.watch();
                state.publishers.insert(service.clone(), publisher);
                watch
            }
        };
        if !state.looking
            && let Ok(handle) = tokio::runtime::Handle::try_current()
        {
            state.looking = true;
            let looking = Looking {
                shared: self.shared.clone(),
                ended: false,
            };
            handle.spawn(looking.run());
        }
        drop(state);
        self.shared.look();
        watch
    }

    /// There is nobody to tell: the lease passes at once and ends without effect.
    async fn register(&self, registration: Registration, _: OnUnavailable) -> Result<Lease, RegisterError> {
        Ok(Lease::settled(registration.id()))
    }

    fn describe(&self) -> String {
        format!("the services of {}", self.shared.path.display())
    }
}

/// The task that looks, as long as anybody watches; dropped with its runtime, it lets the next watch begin anew.
struct Looking {
    shared: Arc<Shared>,
    ended: bool,
}

impl Looking {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            {
                let mut state = self.shared.lock();
                state.publishers.retain(|_, publisher| !publisher.is_unwatched());
                if state.publishers.is_empty() {
                    // Before the lock is given back: a watch that comes now has to begin another task.
                    state.looking = false;
                    self.ended = true;
                    return;
                }
            }
            let shared = self.shared.clone();
            // Off the runtime's thread: the file may lie on a network.
            if tokio::task::spawn_blocking(move || shared.look()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        // After its own end another one may look already, for those who came since.
        if !self.ended {
            self.shared.lock().looking = false;
        }
    }
}

impl Shared {
    /// Reads the file if it is another one than last time, and tells what has changed.
    fn look(&self) {
        let found = stamp(&self.path);
        let known = self.lock().stamp;
        let news = match &found {
            Ok(stamp) if known == Some(*stamp) => None,
            Ok(_) => Some(read(&self.path)),
            Err(error) => Some(Err(FileError::Read {
                path: self.path.clone(),
                source: Arc::new(io::Error::new(error.kind(), error.to_string())),
            })),
        };
        let now = tokio::time::Instant::now().into_std();
        let mut state = self.lock();
        match news {
            None => {}
            Some(Ok(services)) => {
                (state.services, state.error, state.stamp) = (services, None, found.ok());
            }
            Some(Err(error)) => {
                // Read again at the next look, whatever its stamp.
                state.stamp = None;
                if state.error.is_none() {
                    tracing::warn!(error = %crate::error::chain(&error), "what was known of the file's services is kept");
                }
                state.error = Some(Arc::new(error.into_discovery()));
            }
        }
        for (name, publisher) in &state.publishers {
            let last = publisher.latest();
            let fresh = state.services.get(name).cloned().unwrap_or_default();
            let (instances, same) = reuse(&last.instances, fresh);
            let freshness = match (&state.error, &last.freshness) {
                (None, Freshness::Live) if same => continue,
                (None, _) => Freshness::Live,
                (Some(_), Freshness::Stale { .. }) => continue,
                (Some(error), _) => Freshness::Stale {
                    since: now,
                    error: error.clone(),
                },
            };
            publisher.publish(Snapshot {
                service: name.clone(),
                instances,
                freshness,
                revision: 0,
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileError {
    fn into_discovery(self) -> DiscoveryError {
        match self {
            Self::Read { path, source } => DiscoveryError::Transport {
                agent: path.display().to_string().into(),
                phase: Phase::Dial,
                source: source as Cause,
            },
            Self::Content { path, reason } => DiscoveryError::Protocol {
                agent: path.display().to_string().into(),
                request: "a list of services",
                fault: ProtocolFault::Json(Excerpt::new(reason)),
            },
        }
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let data = fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&data);
    #[cfg(not(unix))]
    let inode = 0;
    Ok(Stamp {
        length: data.len(),
        modified: data.modified()?,
        inode,
    })
}

/// The bytes of the file, and of the first too many. A pipe or a device is refused: reading might never end, and so might
/// opening.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let regular = |data: fs::Metadata| match data.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        )),
    };
    regular(fs::metadata(path)?)?;
    let file = File::open(path)?;
    // Something else may have taken its name.
    regular(file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<HashMap<ServiceName, Vec<Arc<Instance>>>, FileError> {
    let content = |reason: String| FileError::Content {
        path: path.to_owned(),
        reason,
    };
    let bytes = bytes(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(content(format!("it has more than {MAX_FILE} bytes")));
    }
    if bytes.starts_with(MARK) {
        return Err(content(
            "it begins with a byte order mark, which JSON does not have; save it as UTF-8 without".to_owned(),
        ));
    }
    let Lists(lists) = serde_json::from_slice(&bytes).map_err(|error| content(error.to_string()))?;
    let mut services = HashMap::new();
    for (name, lines) in lists {
        let name = ServiceName::new(&name).map_err(|error| content(error.to_string()))?;
        let mut instances = Vec::with_capacity(lines.len());
        for (number, line) in lines.into_iter().enumerate() {
            let place = |reason: String| content(format!("instance {} of {name}: {reason}", number + 1));
            let full = Line::read(line).map_err(place)?;
            let (host, port) = split_authority(&full.address)
                .map_err(|reason| place(format!("{:?} is not host:port: {reason}", full.address)))?;
            let mut instance = Instance::at(name.clone(), host, port);
            if !full.classic {
                instance = instance.native(NATIVE);
            }
            instance.weight = full.weight.map_or(1, |weight| weight.get().into());
            instance.tags = full.tags;
            instances.push(instance);
        }
        let snapshot = Snapshot::live(name.clone(), instances);
        services.insert(name, snapshot.instances);
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TheFile(PathBuf);

    impl TheFile {
        fn new(text: &str) -> Self {
            let file =
                Self(std::env::temp_dir().join(format!("picom-services-{}", crate::random::unique_id())));
            file.replace(text);
            file
        }

        /// As one should: another file takes its name.
        fn replace(&self, text: &str) {
            let next = self.0.with_extension("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, &self.0).unwrap();
        }
    }

    impl Drop for TheFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn name() -> ServiceName {
        ServiceName::new("svc").unwrap()
    }

    fn ports(snapshot: &Snapshot) -> Vec<u16> {
        snapshot.usable().map(|one| one.port).collect()
    }

    #[tokio::test]
    async fn what_is_written_is_seen_and_what_is_broken_changes_nothing() {
        let file =
            TheFile::new(r#"{"svc": ["10.0.0.1:1", {"address": "[::1]:2", "weight": 3, "classic": true}]}"#);
        let source = FileSource::open(&file.0).unwrap();
        let mut watch = source.watch(&name());
        let first = watch.ready().await;
        assert_eq!(ports(&first), [1, 2]);
        let classic = first.instances.iter().find(|one| one.port == 2).unwrap();
        assert_eq!(
            (classic.native_version(), classic.weight, &*classic.host),
            (None, 3, "::1")
        );
        assert_eq!(first.instances[0].native_version(), Some(1));
        assert!(
            source
                .watch(&ServiceName::new("nobody").unwrap())
                .latest()
                .freshness
                .is_live()
        );

        file.replace(r#"{"svc": ["10.0.0.1:1", "10.0.0.1:3"]}"#);
        let second = watch.changed().await;
        assert_eq!(ports(&second), [1, 3]);
        assert!(
            Arc::ptr_eq(&second.instances[0], &first.instances[0]),
            "what is the same stays the same"
        );

        file.replace("{");
        let broken = watch.changed().await;
        assert!(matches!(broken.freshness, Freshness::Stale { .. }) && ports(&broken) == [1, 3]);
        file.replace(r#"{"svc": []}"#);
        let empty = watch.changed().await;
        assert!(empty.freshness.is_live() && ports(&empty).is_empty());
        fs::remove_file(&file.0).unwrap();
        assert!(!watch.changed().await.freshness.is_live());
        file.replace(r#"{"svc": ["h:5"]}"#);
        assert_eq!(ports(&*watch.changed().await), [5]);
    }

    #[tokio::test]
    async fn nobody_looks_after_the_last_watch() {
        let file = TheFile::new(r#"{"svc": ["h:1"]}"#);
        let source = FileSource::open(&file.0).unwrap();
        let is_looking = |source: &FileSource| source.shared.lock().looking;
        let (first, mut second) = (source.watch(&name()), source.watch(&name()));
        assert_eq!(
            source.shared.lock().publishers.len(),
            1,
            "two who watch one name share it"
        );
        drop(first);
        file.replace(r#"{"svc": ["h:2"]}"#);
        assert_eq!(ports(&*second.changed().await), [2]);
        assert!(is_looking(&source));
        drop(second);
        // It notices at its next look.
        tokio::time::sleep(2 * LOOK_EVERY).await;
        assert!(!is_looking(&source));
        let mut again = source.watch(&name());
        assert!(is_looking(&source));
        assert_eq!(ports(&*again.ready().await), [2]);
        // The watch needs no handle.
        drop(source);
        file.replace(r#"{"svc": ["h:3"]}"#);
        assert_eq!(ports(&*again.changed().await), [3]);
    }

    #[test]
    fn what_cannot_be_taken_is_named_at_the_start() {
        for (text, words) in [
            ("[]", "expected a map from names of services"),
            (r#"{"svc": ["h:1"], "svc": ["h:2"]}"#, r#""svc" stands twice"#),
            (r#"{"": []}"#, "empty"),
            (r#"{"svc": ["10.0.0.1"]}"#, "it has no port"),
            (r#"{"svc": ["10.0.0.1:0"]}"#, "10.0.0.1:0"),
            (r#"{"svc": ["10.0.0.1:65536"]}"#, "10.0.0.1:65536"),
            (
                r#"{"svc": ["h:1", {"address": "h:1", "wieght": 1}]}"#,
                r#"instance 2 of svc: "wieght" is none of "address""#,
            ),
            (
                r#"{"svc": [{"address": "h:1", "weight": 70000}]}"#,
                r#"instance 1 of svc: its "weight": invalid value: integer `70000`, expected a nonzero u16"#,
            ),
            (
                r#"{"svc": [{"address": "h:1", "weight": 0}]}"#,
                r#"instance 1 of svc: its "weight": invalid value: integer `0`"#,
            ),
            (
                r#"{"svc": [{"address": "h:1", "weight": 2, "weight": 3}]}"#,
                r#"instance 1 of svc: its "weight" stands twice"#,
            ),
            ("\u{feff}{}", "byte order mark"),
            (
                r#"{"svc": [["h:1"]]}"#,
                "instance 1 of svc: it is a list, not an address",
            ),
            (
                r#"{"svc": [{"weight": 1}]}"#,
                r#"instance 1 of svc: "" is not host:port"#,
            ),
            (r#"{"svc": [7]}"#, "instance 1 of svc: it is 7, not an address"),
        ] {
            let file = TheFile::new(text);
            let error = FileSource::open(&file.0).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(matches!(
            FileSource::open("/no/such/file"),
            Err(FileError::Read { .. })
        ));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        // A socket is a name that is no file, as a pipe is; that one needs no program to be made.
        let path = std::env::temp_dir().join(format!("picom-socket-{}", crate::random::unique_id()));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for path in [path.as_path(), Path::new("/dev/zero"), &std::env::temp_dir()] {
            let error = FileSource::open(path).unwrap_err();
            let reason = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(reason, "it is no regular file", "{path:?}");
        }
        fs::remove_file(&path).unwrap();
    }
}
