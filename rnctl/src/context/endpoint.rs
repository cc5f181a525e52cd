//! Where a daemon is, and how it is reached: from flags, variables and contexts.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{Contexts, DEFAULT, TLS_FILES};
use crate::{config, exit::Failure};

/// Where `rnd` listens unless told otherwise.
pub const DEFAULT_HOST: &str = "unix:///run/rn/rn.sock";

/// Where a daemon is, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `unix:///path`, `tcp://host:port`, `ssh://user@host`.
    pub host: String,
    /// For tcp: with TLS.
    pub tls: Option<Tls>,
}

/// Certificates, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who may have signed the daemon's certificate.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate.
    pub cert: Option<Vec<u8>>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Whether the daemon's certificate has to be right.
    pub verifies: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = |part: &Option<Vec<u8>>| part.is_some();
        f.debug_struct("Tls")
            .field("ca", &has(&self.ca))
            .field("cert", &has(&self.cert))
            .field("key", &has(&self.key))
            .field("verifies", &self.verifies)
            .finish()
    }
}

impl Endpoint {
    /// A host with its certificates; an empty one is the usual socket.
    pub fn new(host: &str, tls: Option<Tls>) -> Self {
        let host = if host.is_empty() { DEFAULT_HOST } else { host };
        Self { host: host.to_owned(), tls }
    }
}

/// Flags that say which daemon is meant. They stand before the command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which daemon")]
pub struct Connection {
    /// The daemon to talk to: unix:///path, tcp://host:port or ssh://[user@]host [env: RN_HOST] [default: unix:///run/rn/rn.sock]
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Option<String>,
    /// The context to use, in place of RN_HOST and the current one [env: RN_CONTEXT]
    #[arg(short = 'c', long, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// Use TLS, whoever answers; --tlsverify is what is meant mostly [env: RN_TLS]
    #[arg(long)]
    pub tls: bool,
    /// Use TLS, and talk only to a daemon whose certificate is right [env: RN_TLS_VERIFY]
    #[arg(long)]
    pub tlsverify: bool,
    /// Who may have signed the daemon's certificate [default: ca.pem in RN_CERT_PATH or ~/.rn]
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// The client's certificate [default: cert.pem in the same folder]
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// The key of the client's certificate [default: key.pem in the same folder]
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
}

/// A variable of the environment that says something.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Connection {
    /// Whether the environment's host goes before the current context.
    pub fn overrides(lookup: Lookup<'_>) -> bool {
        lookup("RN_HOST").is_some()
    }

    /// The name of the context that is in use.
    pub fn context_in_use(&self, lookup: Lookup<'_>, contexts: &Contexts) -> Result<String, Failure> {
        if self.host.is_some() {
            if self.context.is_some() {
                return Err(Failure::local("conflicting options: cannot specify both --host and --context"));
            }
            return Ok(DEFAULT.into());
        }
        if let Some(name) = &self.context {
            return Ok(name.clone());
        }
        if Self::overrides(lookup) {
            return Ok(DEFAULT.into());
        }
        Ok(lookup("RN_CONTEXT").unwrap_or_else(|| contexts.current().to_owned()))
    }

    /// The daemon that is meant, by this process's environment and the user's contexts.
    pub fn endpoint(&self) -> Result<Endpoint, Failure> {
        let lookup = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // Who names a host needs no contexts, be their file damaged.
        let named = self.host.is_some() || (self.context.is_none() && Self::overrides(&lookup));
        let contexts = if named && self.context.is_none() { Contexts::default() } else { Contexts::load()? };
        self.resolve(&lookup, &contexts, &|path| std::fs::read(path))
    }

    /// The same, pure.
    pub fn resolve(
        &self,
        lookup: Lookup<'_>,
        contexts: &Contexts,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Endpoint, Failure> {
        match self.context_in_use(lookup, contexts)? {
            name if name == DEFAULT => {}
            name => return Ok(contexts.get(&name)?.endpoint()),
        }
        let host = self.host.clone().or_else(|| lookup("RN_HOST")).unwrap_or_default();
        Ok(Endpoint::new(&host, self.certificates(lookup, read)?))
    }

    fn certificates(
        &self,
        lookup: Lookup<'_>,
        read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Option<Tls>, Failure> {
        let named = [&self.tlscacert, &self.tlscert, &self.tlskey];
        let verifies = self.tlsverify || lookup("RN_TLS_VERIFY").is_some();
        let is_wanted =
            verifies || self.tls || lookup("RN_TLS").is_some() || named.iter().any(|p| p.is_some());
        if !is_wanted {
            return Ok(None);
        }
        let usual = lookup("RN_CERT_PATH")
            .map(PathBuf::from)
            .or_else(|| config::path().and_then(|path| path.parent().map(Path::to_owned)));
        let part = |k: usize, has_to_be: bool| -> Result<Option<Vec<u8>>, Failure> {
            let (given, name) =
                (named.get(k).and_then(|p| p.as_ref()), TLS_FILES.get(k).copied().unwrap_or_default());
            let Some(path) = given.cloned().or_else(|| usual.as_ref().map(|folder| folder.join(name))) else {
                return Ok(None);
            };
            match read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound && given.is_none() && !has_to_be => Ok(None),
                Err(e) => Err(Failure::local(format!("could not read {}: {e}", path.display()))
                    .with_help("name the file with --tlscacert, --tlscert or --tlskey, or their folder with RN_CERT_PATH")),
            }
        };
        // Certificates that are named are there to be checked.
        let verifies = verifies || self.tlscacert.is_some();
        Ok(Some(Tls { ca: part(0, verifies)?, cert: part(1, false)?, key: part(2, false)?, verifies }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;

    fn contexts() -> Contexts {
        let mut context = Context { name: "prod".into(), ..Context::default() };
        context.endpoints.docker.host = "ssh://me@prod".into();
        Contexts { current: "prod".into(), contexts: [("prod".to_owned(), context)].into() }
    }

    fn host(connection: &Connection, variables: &[(&str, &str)]) -> Result<String, String> {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let none = |_: &Path| Err(io::ErrorKind::NotFound.into());
        connection.resolve(&lookup, &contexts(), &none).map(|e| e.host).map_err(|e| e.to_string())
    }

    #[test]
    fn which_daemon_is_meant() {
        let flags = |host: Option<&str>, context: Option<&str>| Connection {
            host: host.map(str::to_owned),
            context: context.map(str::to_owned),
            ..Connection::default()
        };
        let env = [("RN_HOST", "tcp://h:1")];
        assert_eq!(host(&flags(None, None), &[]), Ok("ssh://me@prod".into()));
        assert_eq!(host(&flags(None, None), &env), Ok("tcp://h:1".into()));
        assert_eq!(host(&flags(None, Some("prod")), &env), Ok("ssh://me@prod".into()));
        assert_eq!(host(&flags(None, Some("default")), &env), Ok("tcp://h:1".into()));
        assert_eq!(host(&flags(None, None), &[("RN_CONTEXT", "default")]), Ok(DEFAULT_HOST.into()));
        assert_eq!(host(&flags(Some("/x.sock"), None), &env), Ok("/x.sock".into()));
        assert!(
            host(&flags(Some("/x"), Some("prod")), &[]).is_err_and(|e| e.contains("conflicting options"))
        );
        assert!(host(&flags(None, Some("nope")), &[]).is_err_and(|e| e.contains("context not found")));
    }

    #[test]
    fn certificates_are_those_named_or_the_usual_ones() {
        let lookup = |name: &str| (name == "RN_CERT_PATH").then(|| "/certs".to_owned());
        let read = |path: &Path| match path.to_str() {
            Some("/certs/ca.pem") => Ok(b"ca".to_vec()),
            Some("/own/cert.pem") => Ok(b"cert".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let tls = |connection: Connection| connection.certificates(&lookup, &read).map_err(|e| e.to_string());
        assert_eq!(tls(Connection::default()), Ok(None));
        let wanted = Tls { ca: Some(b"ca".to_vec()), verifies: true, ..Tls::default() };
        assert_eq!(tls(Connection { tlsverify: true, ..Connection::default() }), Ok(Some(wanted.clone())));
        let own =
            Connection { tlsverify: true, tlscert: Some("/own/cert.pem".into()), ..Connection::default() };
        assert_eq!(tls(own), Ok(Some(Tls { cert: Some(b"cert".to_vec()), ..wanted })));
        let gone = Connection { tlskey: Some("/own/key.pem".into()), ..Connection::default() };
        assert!(tls(gone).is_err_and(|e| e.starts_with("could not read /own/key.pem")));
    }
}
