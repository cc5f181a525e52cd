//! Images from registries.
//!
//! The registry is the one that an image's name begins with. It is spoken to by TLS; without, or with a certificate that nobody
//! vouches for, only on loopback addresses and where the daemon's settings say so (`insecure-registries`), as dockerd does.

use std::{collections::BTreeMap, fs, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
use oci_client::{
    Client, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};

use super::{ImageStore, Reference, UnpackLimit, archive::MAX_TEXT, manifest};
use crate::{Result, RuntimeError};

mod blob;
mod explain;
mod pull;
mod push;

pub use super::manifest::Platform;
pub use pull::{LayerStep, Progress, Pulled};
pub use push::{PushStep, Pushed};

/// Until a connection stands, the name of its host looked up.
const CONNECT: Duration = Duration::from_secs(5);
/// Without a byte of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// For a question about a manifest, all in all.
const QUESTION: Duration = Duration::from_secs(20);

/// How registries are spoken to.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Registries (`host[:port]`) and subnets that may be spoken to without TLS, besides loopback addresses.
    pub insecure: Vec<String>,
    /// Certificate authorities: `<directory>/<registry>/*.crt`.
    pub certs_dir: PathBuf,
}

impl RegistryConfig {
    /// Whether plain HTTP will do for this registry.
    pub fn is_insecure(&self, registry: &str) -> bool {
        let host = host_of(registry);
        let addr: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost"
            || addr.is_some_and(|addr| addr.is_loopback())
            || self.insecure.iter().any(|entry| match entry.parse::<IpNet>() {
                Ok(net) => addr.is_some_and(|addr| net.contains(&addr)),
                Err(_) => entry == registry || entry == host,
            })
    }
}

/// `host` of `host[:port]`; an IPv6 address keeps its brackets.
fn host_of(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What a registry says about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest that the name has right now.
    pub digest: String,
    /// The form of what has that digest: an image, or a list of images for several platforms.
    pub media_type: String,
    /// Its size, in bytes.
    pub size: u64,
    /// What the image is there for; empty if the registry was not asked further.
    pub platforms: Vec<Platform>,
}

/// Registries, and the store that pulled images go into.
#[derive(Debug)]
pub struct Registries {
    store: Arc<ImageStore>,
    config: RegistryConfig,
    /// One pull of a name at a time: the others find it done.
    turns: std::sync::Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// As what layers (diff ids) were pulled or pushed since the daemon's start: nobody compresses those again to find out that a
    /// registry has them.
    blobs: std::sync::Mutex<BTreeMap<String, LayerDescriptor>>,
}

/// A layer as registries have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LayerDescriptor {
    media_type: String,
    digest: String,
    size: u64,
}

/// A conversation with a registry about one image.
struct Session {
    client: Client,
    /// What is asked for.
    image: Reference,
    auth: RegistryAuth,
    /// `http` or `https`.
    scheme: &'static str,
    /// Bytes that a blob may have.
    limit: UnpackLimit,
}

impl Registries {
    /// For a store.
    pub fn new(store: Arc<ImageStore>, config: RegistryConfig) -> Self {
        Self { store, config, turns: std::sync::Mutex::default(), blobs: std::sync::Mutex::default() }
    }

    /// The digest that a registry gives a name; what `service create` pins.
    pub async fn resolve(&self, image: &Reference, credentials: Option<&Credentials>) -> Result<Resolved> {
        let asking = async {
            let session = self.open(image, credentials).await?;
            let (bytes, digest) = session.manifest(image).await?;
            let platforms = match manifest::Manifest::parse(&bytes)? {
                manifest::Manifest::Index(list) => {
                    list.into_iter().filter_map(|d| d.platform).filter(|p| p.os != "unknown").collect()
                }
                manifest::Manifest::Image { .. } => Vec::new(),
            };
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            Ok(Resolved { digest, media_type: manifest::media_type(&bytes), size, platforms })
        };
        tokio::time::timeout(QUESTION, asking).await.unwrap_or_else(|_| {
            let message =
                format!("registry {} cannot be reached: no answer within {QUESTION:?}", image.registry());
            Err(RuntimeError::Registry { message, denied: false })
        })
    }

    /// Whether a registry accepts credentials.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<()> {
        // No registry has to have this image; what it says about it depends on who asks.
        let image: Reference = match registry {
            "" | proto::parse::reference::DEFAULT_REGISTRY => "rn/login-check".parse()?,
            registry => format!("{registry}/rn/login-check").parse()?,
        };
        let session = self.open(&image, Some(credentials)).await?;
        match session.ask(&image).await {
            Err(error) if explain::is_unauthorized(&error) => Err(RuntimeError::Registry {
                message: format!(
                    "login attempt to {}://{}/v2/ failed with status: 401 Unauthorized",
                    session.scheme,
                    image.registry()
                ),
                denied: true,
            }),
            Err(error) if explain::is_answer(&error) => Ok(()),
            Err(error) => Err(explain::error(error, &image, Some(&credentials.username))),
            Ok(_) => Ok(()),
        }
    }

    /// Finds out how the registry is spoken to, and what it wants to know of us.
    async fn open(&self, image: &Reference, credentials: Option<&Credentials>) -> Result<Session> {
        let registry = image.registry();
        let auth = match credentials {
            Some(c) => RegistryAuth::Basic(c.username.clone(), c.password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let fail = |error| explain::error(error, image, credentials.map(|c| c.username.as_str()));
        let (target, limit) = (remote(image)?, self.store.limit);
        let insecure = self.config.is_insecure(registry);
        let client = self.client(registry, ClientProtocol::Https, insecure).map_err(fail)?;
        let first = client.auth(&target, &auth, RegistryOperation::Pull).await;
        match first {
            Ok(_) => Ok(Session { client, image: image.clone(), auth, scheme: "https", limit }),
            // No TLS there: plain HTTP, where that is allowed.
            Err(OciDistributionError::RequestError(_)) if insecure => {
                let client = self.client(registry, ClientProtocol::Http, true).map_err(fail)?;
                client.auth(&target, &auth, RegistryOperation::Pull).await.map_err(fail)?;
                Ok(Session { client, image: image.clone(), auth, scheme: "http", limit })
            }
            Err(error) => Err(fail(error)),
        }
    }

    fn client(
        &self,
        registry: &str,
        protocol: ClientProtocol,
        insecure: bool,
    ) -> std::result::Result<Client, OciDistributionError> {
        // The client takes the process's provider of cryptography. Ours is the same everywhere, so being second is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::try_from(ClientConfig {
            protocol,
            accept_invalid_certificates: insecure,
            extra_root_certificates: self.authorities(registry),
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("rn/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }

    fn authorities(&self, registry: &str) -> Vec<Certificate> {
        let dir = self.config.certs_dir.join(registry);
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "crt"))
            .filter_map(|entry| fs::read(entry.path()).ok())
            .map(|data| Certificate { encoding: CertificateEncoding::Pem, data })
            .collect()
    }
}

impl Session {
    /// A manifest as it is, with its digest; the client checks that they fit.
    async fn ask(
        &self,
        image: &Reference,
    ) -> std::result::Result<(bytes::Bytes, String), OciDistributionError> {
        let target = remote(image).map_err(|e| OciDistributionError::GenericError(Some(e.to_string())))?;
        self.client.pull_manifest_raw(&target, &self.auth, manifest::ACCEPTED).await
    }

    async fn manifest(&self, image: &Reference) -> Result<(bytes::Bytes, String)> {
        let (bytes, digest) = self.ask(image).await.map_err(|error| self.explain(error))?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_TEXT) {
            Ok((bytes, digest))
        } else {
            let len = bytes.len();
            Err(RuntimeError::BadImage(format!("a manifest of {len} bytes, and at most {MAX_TEXT} are read")))
        }
    }

    fn explain(&self, error: OciDistributionError) -> RuntimeError {
        let username = match &self.auth {
            RegistryAuth::Basic(username, _) => Some(username.as_str()),
            _ => None,
        };
        explain::error(error, &self.image, username)
    }
}

/// The name as the client wants it. A digest goes before a tag.
fn remote(image: &Reference) -> Result<oci_client::Reference> {
    let (registry, repository) = (image.registry().to_owned(), image.repository());
    Ok(match (image.digest(), image.tag()) {
        (Some(digest), _) => oci_client::Reference::with_digest(registry, repository, digest.to_owned()),
        (None, tag) => {
            oci_client::Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_what_the_settings_name() {
        let config = RegistryConfig {
            insecure: vec![
                "reg.lan:5000".into(),
                "old.lan".into(),
                "10.77.0.0/16".into(),
                "fd77::/64".into(),
            ],
            ..RegistryConfig::default()
        };
        for yes in [
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
            "reg.lan:5000",
            "old.lan:1",
            "old.lan",
            "10.77.3.4:5000",
            "[fd77::5]:443",
        ] {
            assert!(config.is_insecure(yes), "{yes}");
        }
        for no in [
            "docker.io",
            "reg.lan:5001",
            "reg.lan",
            "10.78.0.1:5000",
            "[fd78::5]:443",
            "localhost.example:5000",
        ] {
            assert!(!config.is_insecure(no), "{no}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let text = format!("{:?}", Credentials { username: "me".into(), password: "secret".into() });
        assert!(text.contains("me") && !text.contains("secret"), "{text}");
    }
}
