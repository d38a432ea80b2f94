//! TLS to the agent: the client against the dev agent behind a TLS server of our own, with certificates made here.
#![cfg(feature = "tls")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use picom_discovery::consul::{ConfigError, Consul, ConsulConfig};
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};
use picom_discovery::{Discovery, DiscoveryError, Freshness, OnUnavailable, Registration, ServiceName};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
struct Pair {
    certificate: String,
    key: String,
}

/// A directory that is removed.
struct Files(PathBuf);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    fn sign(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        store
    }
}

impl Files {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("picom-tls-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A dev agent behind TLS, with this certificate, and for whose clients this authority has signed, if any.
async fn agent(pair: &Pair, clients: Option<&Authority>) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = builder.with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let agent = Arc::new(DevAgent::in_memory(DevAgentConfig::default()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, agent) = (acceptor.clone(), agent.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    agent.serve_connection(stream).await;
                }
            });
        }
    });
    address
}

fn config(address: SocketAddr) -> ConsulConfig {
    ConsulConfig::at(&format!("https://{address}")).unwrap()
}

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

/// The whole way: a registration, what a watch sees of it, and its end.
async fn works(config: ConsulConfig) {
    let consul = Consul::new(config).unwrap();
    let registration = Registration::new(name(), "127.0.0.1", 9000).unwrap();
    let lease = consul.register(registration, OnUnavailable::Fail).await.unwrap();
    let mut watch = consul.watch(&name());
    assert_eq!(timeout(PATIENCE, watch.ready()).await.unwrap().instances.len(), 1);
    lease.end(PATIENCE).await.unwrap();
}

/// What a watch says that cannot be made.
async fn fails(config: ConsulConfig) -> String {
    let consul = Consul::new(config).unwrap();
    let mut watch = consul.watch(&name());
    let snapshot = timeout(PATIENCE, watch.changed()).await.unwrap();
    let Freshness::Pending { error: Some(error) } = &snapshot.freshness else {
        panic!("{snapshot:?}");
    };
    assert!(
        matches!(**error, DiscoveryError::Tls { .. }),
        "{error}: {error:?}"
    );
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&**error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn an_agent_whose_authority_is_known_is_believed() {
    let (authority, files) = (Authority::new(), Files::new());
    let address = agent(&authority.sign(&["127.0.0.1"]), None).await;
    let mut with_file = config(address);
    with_file.tls.ca_file = Some(files.write("ca.pem", &authority.pem));
    works(with_file).await;
    let mut with_directory = config(address);
    with_directory.tls.ca_path = Some(files.0.clone());
    works(with_directory).await;
    // Also in a directory of that one.
    let outer = Files::new();
    fs::create_dir_all(outer.0.join("inner")).unwrap();
    outer.write("inner/ca.pem", &authority.pem);
    let mut with_inner = config(address);
    with_inner.tls.ca_path = Some(outer.0.clone());
    works(with_inner).await;
}

#[tokio::test]
async fn a_stranger_is_not_believed_unless_nobody_looks() {
    let (authority, files) = (Authority::new(), Files::new());
    let address = agent(&authority.sign(&["127.0.0.1"]), None).await;
    let mut config = config(address);
    config.tls.ca_file = Some(files.write("other.pem", &Authority::new().pem));
    let error = fails(config.clone()).await;
    assert!(error.contains("CONSUL_CACERT"), "{error}");
    assert!(
        error.contains("UnknownIssuer") || error.contains("BadSignature"),
        "{error}"
    );
    config.tls.verify = false;
    works(config).await;
}

#[tokio::test]
async fn the_name_in_the_certificate_must_be_the_one_expected() {
    let (authority, files) = (Authority::new(), Files::new());
    let address = agent(&authority.sign(&["server.dc1.consul"]), None).await;
    let mut config = config(address);
    config.tls.ca_file = Some(files.write("ca.pem", &authority.pem));
    let error = fails(config.clone()).await;
    assert!(error.to_lowercase().contains("not valid for name"), "{error}");
    config.tls.server_name = Some("server.dc1.consul".to_owned());
    works(config).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_a_new_one_is_noticed() {
    let (authority, clients, files) = (Authority::new(), Authority::new(), Files::new());
    let address = agent(&authority.sign(&["127.0.0.1"]), Some(&clients)).await;
    let mut config = config(address);
    config.tls.ca_file = Some(files.write("ca.pem", &authority.pem));
    let missing = fails(config.clone()).await;
    assert!(missing.contains("CONSUL_CLIENT_CERT"), "{missing}");
    let (good, bad) = (clients.sign(&["client"]), Authority::new().sign(&["client"]));
    config.tls.client_cert = Some(files.write("client.pem", &bad.certificate));
    config.tls.client_key = Some(files.write("client.key", &bad.key));
    let consul = Consul::new(config.clone()).unwrap();
    let mut watch = consul.watch(&name());
    let refused = timeout(PATIENCE, watch.changed()).await.unwrap();
    assert!(!refused.is_ready(), "{refused:?}");
    let foreign = fails(config.clone()).await;
    assert!(foreign.contains("CONSUL_CLIENT_CERT"), "{foreign}");
    files.write("client.pem", &good.certificate);
    files.write("client.key", &good.key);
    timeout(PATIENCE, watch.ready()).await.unwrap();
    works(config).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let (authority, files) = (Authority::new(), Files::new());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let refused = |change: &dyn Fn(&mut ConsulConfig)| {
        let mut config = config(address);
        config.tls.ca_file = Some(files.write("ca.pem", &authority.pem));
        change(&mut config);
        Consul::new(config).unwrap_err()
    };
    let missing = files.0.join("missing");
    for error in [
        refused(&|config| config.tls.ca_file = Some(missing.clone())),
        refused(&|config| config.tls.ca_file = Some(files.write("empty", ""))),
        refused(&|config| config.tls.ca_path = Some(missing.clone())),
        refused(&|config| {
            let pair = authority.sign(&["c"]);
            config.tls.client_cert = Some(files.write("c.pem", &pair.certificate));
            config.tls.client_key = Some(missing.clone());
        }),
    ] {
        assert!(matches!(error, ConfigError::TlsFile { .. }), "{error}");
    }
    let half = refused(&|config| config.tls.client_cert = Some(files.write("c.pem", &authority.pem)));
    assert!(matches!(half, ConfigError::Malformed { .. }), "{half}");
    let mixed = refused(&|config| {
        config.tls.client_cert = Some(files.write("c.pem", &authority.sign(&["c"]).certificate));
        config.tls.client_key = Some(files.write("c.key", &authority.sign(&["c"]).key));
    });
    assert!(matches!(mixed, ConfigError::Malformed { .. }), "{mixed}");
}

#[tokio::test]
async fn an_agent_that_speaks_no_tls_is_an_error_and_not_a_hang() {
    let plain = DevAgent::start(DevAgentConfig::default()).await.unwrap();
    let mut config = config(plain.addr());
    config.tls.verify = false;
    let error = fails(config).await;
    assert!(error.contains("does not speak TLS"), "{error}");
    plain.stop().await;
}
