//! TLS to the agent: who is believed, what is shown, and noticing that the files of either have changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::config::{ConfigError, TlsSettings};
use super::dial::{ByteStream, Dial, TcpDial};
use crate::error::TlsFault;

/// Files in a directory of authorities: a system has some hundred and fifty, and all are looked at before a connection.
const MAX_FILES: usize = 1024;

/// Connections to one agent, verified as the settings say.
#[derive(Debug)]
pub(crate) struct TlsDial {
    tcp: TcpDial,
    name: ServerName<'static>,
    settings: TlsSettings,
    known: Mutex<Known>,
}

/// What was made of the files as they were.
#[derive(Debug)]
struct Known {
    config: Arc<ClientConfig>,
    stamps: Vec<Stamp>,
    warned: bool,
}

/// What changes with a file: a name that points elsewhere, another size, another time.
type Stamp = (PathBuf, Option<(u64, SystemTime, u64)>);

impl TlsDial {
    /// # Errors
    /// A file that cannot be used, a certificate that does not belong to its key, a name that is none.
    pub(crate) fn new(tcp: TcpDial, settings: TlsSettings) -> Result<Self, ConfigError> {
        let name = settings.server_name.as_deref().unwrap_or(&tcp.host);
        let name = ServerName::try_from(name.to_owned()).map_err(|error| ConfigError::Malformed {
            setting: "the name of the TLS server",
            reason: format!("{name:?}: {error}"),
        })?;
        if !settings.verify {
            tracing::warn!(
                "the certificate of the Consul agent is not verified: whoever can get in between reads the token"
            );
        }
        let known = Known {
            // Stamped first: a change between the two is found by the next look.
            stamps: stamps(&settings),
            config: Arc::new(configuration(&settings)?),
            warned: false,
        };
        Ok(Self {
            tcp,
            name,
            settings,
            known: Mutex::new(known),
        })
    }

    /// The configuration of the files as they are now; of those that cannot be used, as they were.
    fn current(&self) -> Arc<ClientConfig> {
        let stamps = stamps(&self.settings);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.stamps != stamps {
            match configuration(&self.settings) {
                Ok(config) => {
                    tracing::debug!("files of TLS to the Consul agent have changed");
                    (known.config, known.stamps, known.warned) = (Arc::new(config), stamps, false);
                }
                // Perhaps half of a pair that is being replaced: the next connection looks again.
                Err(error) if !known.warned => {
                    tracing::warn!(%error, "files of TLS to the Consul agent cannot be used, the former are");
                    known.warned = true;
                }
                Err(_) => {}
            }
        }
        known.config.clone()
    }
}

#[async_trait]
impl Dial for TlsDial {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        let stream = self.tcp.open().await?;
        // A look at four files; connections are made rarely, and on a lane of their own or for a watch.
        let connector = TlsConnector::from(self.current());
        Ok(Box::new(connector.connect(self.name.clone(), stream).await?))
    }
}

fn configuration(settings: &TlsSettings) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let faulty = |setting, reason: String| ConfigError::Malformed { setting, reason };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| faulty("TLS", error.to_string()))?;
    let builder = match settings.verify {
        true => builder.with_root_certificates(roots(settings)?),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
    };
    let mut config = match (&settings.client_cert, &settings.client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate, "the client certificate")?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("the client key", key, &error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| faulty("the client certificate with its key", error.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What is wrong between us and an agent that TLS was spoken with, if anything in this chain of errors is TLS's.
pub(crate) fn fault(error: &(dyn std::error::Error + 'static)) -> Option<TlsFault> {
    let mut next = Some(error);
    while let Some(error) = next {
        // What an error of the system carries is not among its sources.
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref())
            .and_then(|inner| inner.downcast_ref());
        if let Some(found) = error.downcast_ref::<Error>().or(inner) {
            return match found {
                Error::InvalidCertificate(_) => Some(TlsFault::Theirs),
                Error::AlertReceived(
                    AlertDescription::CertificateRequired
                    | AlertDescription::NoCertificate
                    | AlertDescription::BadCertificate
                    | AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::CertificateExpired
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::UnknownCA
                    | AlertDescription::DecryptError
                    | AlertDescription::AccessDenied,
                ) => Some(TlsFault::Ours),
                Error::InvalidMessage(_) => Some(TlsFault::NotSpoken),
                _ => None,
            };
        }
        next = error.source();
    }
    None
}

/// Those of the settings, or the system's.
fn roots(settings: &TlsSettings) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    let mut add = |path: &Path, setting| {
        for certificate in certificates(path, setting)? {
            store
                .add(certificate)
                .map_err(|error| unusable(setting, path, &error))?;
        }
        Ok(())
    };
    if let Some(path) = &settings.ca_file {
        add(path, "the file of authorities")?;
    }
    if let Some(directory) = &settings.ca_path {
        let setting = "the directory of authorities";
        let files = listed(directory).map_err(|error| unusable(setting, directory, &error))?;
        for path in files {
            add(&path, setting)?;
        }
    }
    if settings.ca_file.is_none() && settings.ca_path.is_none() {
        // Some of a system's own may be unreadable; what is readable counts.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if store.is_empty() {
        return Err(ConfigError::Malformed {
            setting: "the authorities for TLS",
            reason: "there is not one; set CONSUL_CACERT".to_owned(),
        });
    }
    Ok(store)
}

/// The certificates of a file, one at least.
fn certificates(path: &Path, setting: &'static str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unusable(setting, path, &error))?;
    if found.is_empty() {
        return Err(unusable(setting, path, &"it holds no certificate in PEM form"));
    }
    Ok(found)
}

/// The files of a directory and of those in it, in order, as the official client takes them.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            // Of the link, if it is one: directories that are linked to may go round in circles.
            if entry.file_type()?.is_dir() {
                open.push(path);
            } else if path.is_file() {
                files.push(path);
            }
            if files.len() + open.len() > MAX_FILES {
                return Err(io::Error::other(format!("it holds more than {MAX_FILES} files")));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn unusable(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> ConfigError {
    ConfigError::TlsFile {
        setting,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Stamp> {
    let single = [&settings.ca_file, &settings.client_cert, &settings.client_key];
    let mut paths: Vec<PathBuf> = single.into_iter().flatten().cloned().collect();
    if let Some(directory) = &settings.ca_path {
        // One that cannot be read is found out when its files are.
        paths.extend(listed(directory).unwrap_or_default());
    }
    let stamped = paths.into_iter().map(|path| {
        let stamp = fs::metadata(&path).and_then(|data| Ok((data.len(), data.modified()?, inode(&data))));
        (path, stamp.ok())
    });
    stamped.collect()
}

#[cfg(unix)]
pub(crate) fn inode(data: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(data)
}

#[cfg(not(unix))]
pub(crate) fn inode(_: &fs::Metadata) -> u64 {
    0
}

/// Believes every certificate, because the operator said so; the agent must still own the key of the one it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
