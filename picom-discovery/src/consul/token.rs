//! The ACL token: by value or from a file that others rotate. It is never printed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;

/// A token file is read again when what we know is older than this: Vault's and Kubernetes' rotations overlap by far
/// more, and a file read every ten seconds costs nothing.
const READ_EVERY: Duration = Duration::from_secs(10);
/// Bytes of a token file that are read: tokens have 36, a generous JWT fits.
const MAX_FILE: u64 = 16 * 1024;

/// A secret text that does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(HeaderValue);

/// Where the token comes from.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Token {
    /// Requests carry none.
    #[default]
    None,
    /// This one.
    Value(Secret),
    /// The content of a file without the white space around it, read again every ten seconds and after every refusal,
    /// so that it can be rotated; registrations are renewed with the new one.
    File {
        /// The file.
        path: PathBuf,
        /// Used while the file is empty, as the official client does.
        fallback: Option<Secret>,
    },
}

/// The text cannot be a token: it is empty, or holds characters a header cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token consists of visible ASCII characters (this one has {bytes} bytes and is not shown)")]
pub struct SecretError {
    bytes: usize,
}

impl Secret {
    /// Takes a token; white space around it does not belong to it.
    pub fn new(text: impl AsRef<str>) -> Result<Self, SecretError> {
        let text = text.as_ref().trim();
        let error = SecretError { bytes: text.len() };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error);
        }
        let mut value = HeaderValue::from_str(text).map_err(|_| error)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// The value of a header, made by us of characters it can carry.
    pub(crate) fn header(text: &str) -> Self {
        let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        value.set_sensitive(true);
        Self(value)
    }

    pub(crate) fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The token as it is now, with a number that changes when it does.
#[derive(Debug, Clone)]
pub(crate) struct CurrentToken {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) generation: u64,
}

/// Keeps the token of one client up to date.
#[derive(Debug)]
pub(crate) struct TokenKeeper {
    source: Token,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    secret: Option<Secret>,
    generation: u64,
    /// When the file has to be read again; `None` is at once.
    read_at: Option<Instant>,
    warned: bool,
}

impl TokenKeeper {
    /// # Errors
    /// The file cannot be read: an error at the start, as with the official client.
    pub(crate) fn new(source: Token) -> io::Result<Self> {
        let secret = match &source {
            Token::None => None,
            Token::Value(secret) => Some(secret.clone()),
            Token::File { path, fallback } => read(path)?.or_else(|| fallback.clone()),
        };
        let known = Known {
            secret,
            generation: 0,
            read_at: None,
            warned: false,
        };
        Ok(Self {
            source,
            known: Mutex::new(known),
        })
    }

    /// The token for the next request.
    pub(crate) async fn current(&self, now: Instant) -> CurrentToken {
        if let Token::File { path, fallback } = &self.source
            && self.is_due(now)
        {
            let path = path.clone();
            let shown = path.clone();
            // Off the runtime's thread: the file may lie on a network.
            let read = tokio::task::spawn_blocking(move || read(&path))
                .await
                .map_err(io::Error::other);
            self.learn(read.and_then(|read| read), fallback.as_ref(), &shown);
        }
        let known = self.lock();
        CurrentToken {
            header: known.secret.as_ref().map(|secret| secret.0.clone()),
            generation: known.generation,
        }
    }

    /// The token was refused: the next request reads the file again.
    pub(crate) fn refused(&self) {
        self.lock().read_at = None;
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut known = self.lock();
        let due = known.read_at.is_none_or(|at| now >= at);
        if due {
            // Set before reading, so that others do not read it as well.
            known.read_at = Some(now + READ_EVERY);
        }
        due
    }

    fn learn(&self, read: io::Result<Option<Secret>>, fallback: Option<&Secret>, path: &Path) {
        let mut known = self.lock();
        match read {
            Ok(secret) => {
                let secret = secret.or_else(|| fallback.cloned());
                known.warned = false;
                if secret != known.secret {
                    known.secret = secret;
                    known.generation += 1;
                    tracing::debug!(path = %path.display(), "token file has changed");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut known.warned, true) {
                    tracing::warn!(path = %path.display(), %error, "token file cannot be read, the last token is used");
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token in a file; `None` for an empty one.
fn read(path: &Path) -> io::Result<Option<Secret>> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    Secret::new(&text)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: &CurrentToken) -> Option<&str> {
        token.header.as_ref().map(|value| value.to_str().unwrap())
    }

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::new("b1gs3cret\n").unwrap();
        let token = Token::File {
            path: "/x".into(),
            fallback: Some(secret.clone()),
        };
        assert!(!format!("{secret:?} {token:?} {:?}", secret.0).contains("b1gs3cret"));
        let error = Secret::new("b1g s3cret").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
        assert!(Secret::new(" ").is_err() && Secret::new("a\nb").is_err() && Secret::new("ü").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_noticed_after_ten_seconds_or_after_a_refusal() {
        let path = std::env::temp_dir().join(format!("picom-token-{}", crate::random::unique_id()));
        std::fs::write(&path, " one \n").unwrap();
        let fallback = Some(Secret::new("fallback").unwrap());
        let keeper = TokenKeeper::new(Token::File {
            path: path.clone(),
            fallback,
        })
        .unwrap();
        let now = tokio::time::Instant::now().into_std();
        let first = keeper.current(now).await;
        assert_eq!((text(&first), first.generation), (Some("one"), 0));
        std::fs::write(&path, "two").unwrap();
        assert_eq!(
            text(&keeper.current(now + Duration::from_secs(9)).await),
            Some("one")
        );
        let second = keeper.current(now + Duration::from_secs(10)).await;
        assert_eq!((text(&second), second.generation), (Some("two"), 1));
        std::fs::write(&path, "").unwrap();
        keeper.refused();
        assert_eq!(
            text(&keeper.current(now + Duration::from_secs(11)).await),
            Some("fallback")
        );
        std::fs::remove_file(&path).unwrap();
        keeper.refused();
        let kept = keeper.current(now + Duration::from_secs(12)).await;
        assert_eq!(
            (text(&kept), kept.generation),
            (Some("fallback"), 2),
            "a missing file changes nothing"
        );
        assert!(
            TokenKeeper::new(Token::File { path, fallback: None }).is_err(),
            "but it is an error at the start"
        );
    }
}
