//! Where the daemon listens (`-H`, `hosts`), and with which certificates.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Result, anyhow, bail};

/// Docker's ports: with TLS and without.
const PORTS: (u16, u16) = (2376, 2375);

/// A place to listen at, as users write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// `unix:///run/rn/rn.sock`.
    Unix(PathBuf),
    /// `tcp://10.0.0.1:2376`: the port may be missing.
    Tcp {
        /// A name or an address.
        name: String,
        /// The port; none = Docker's.
        port: Option<u16>,
    },
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| anyhow!("host {text:?}: {why}");
        match text.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(bad("the socket's path is missing, e.g. unix:///run/rn/rn.sock")),
            Some(("tcp", at)) => tcp(at).ok_or_else(|| bad("it must be tcp://ADDRESS[:PORT]")),
            Some(("fd", _)) => Err(bad(
                "rnd takes no sockets from systemd: name one, e.g. unix:///run/docker.sock, and leave the socket unit out",
            )),
            _ => Err(bad("it must be unix://PATH or tcp://ADDRESS[:PORT]")),
        }
    }
}

fn tcp(at: &str) -> Option<Host> {
    let at = at.strip_suffix('/').unwrap_or(at);
    if let Ok(addr) = at.parse::<SocketAddr>() {
        return Some(Host::Tcp { name: addr.ip().to_string(), port: Some(addr.port()) });
    }
    let bare = at.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(at);
    if let Ok(addr) = bare.parse::<IpAddr>() {
        return Some(Host::Tcp { name: addr.to_string(), port: None });
    }
    let (name, port) = match at.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (at, None),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // As with Docker, nothing is this machine.
    let name = if name.is_empty() { "localhost" } else { name };
    name.chars().all(good).then(|| Host::Tcp { name: name.to_owned(), port })
}

/// Certificates of the API on TCP. Paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authority that clients' certificates have to be of; none = clients need no certificate.
    pub ca: Option<PathBuf>,
    /// The daemon's certificate, with those between it and its authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Where to listen, all told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A socket of the file system.
    Unix(PathBuf),
    /// An address, with TLS if there are certificates.
    Tcp(SocketAddr, Option<TlsFiles>),
}

impl Listen {
    /// Whether whoever reaches it is let in.
    pub fn is_open(&self) -> bool {
        match self {
            Listen::Unix(_) => false,
            Listen::Tcp(_, tls) => tls.as_ref().is_none_or(|tls| tls.ca.is_none()),
        }
    }
}

/// What hosts come to with these certificates.
///
/// # Errors
/// A name that is no address; an address other than loopback where anybody would be let in; certificates for nothing.
pub fn listen(hosts: &[Host], tls: Option<&TlsFiles>) -> Result<Vec<Listen>> {
    let mut all = Vec::new();
    for host in hosts {
        let listen = match host {
            Host::Unix(path) => Listen::Unix(std::path::absolute(path)?),
            Host::Tcp { name, port } => {
                let port = port.unwrap_or(if tls.is_some() { PORTS.0 } else { PORTS.1 });
                let addr = (name.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next());
                let addr =
                    addr.ok_or_else(|| anyhow!("host tcp://{name}: no address of that name is known"))?;
                Listen::Tcp(addr, tls.cloned())
            }
        };
        if let Listen::Tcp(addr, tls) = &listen
            && listen.is_open()
            && !addr.ip().is_loopback()
        {
            let lacks = if tls.is_some() { "asks clients for no certificate" } else { "has no TLS" };
            bail!(
                "host tcp://{addr} {lacks}: whoever reaches it would be root on this machine; give --tlsverify with --tlscacert, \
                 --tlscert and --tlskey, or listen on 127.0.0.1"
            );
        }
        if all.contains(&listen) {
            bail!("host {} is given twice", said(&listen));
        }
        all.push(listen);
    }
    if tls.is_some() && !all.iter().any(|l| matches!(l, Listen::Tcp(..))) {
        bail!("--tls and --tlsverify are for tcp:// hosts, and none is given: add -H tcp://ADDRESS:2376");
    }
    Ok(all)
}

/// As a user would write it.
pub fn said(listen: &Listen) -> String {
    match listen {
        Listen::Unix(path) => format!("unix://{}", path.display()),
        Listen::Tcp(addr, _) => format!("tcp://{addr}"),
    }
}

/// What an operator is told of a place where anybody is let in (Docker's words).
pub fn warning(listen: &Listen) -> String {
    let (scheme, lacks) = match listen {
        Listen::Tcp(_, Some(_)) => ("https", "TLS client verification"),
        Listen::Tcp(_, None) | Listen::Unix(_) => ("http", "encryption"),
    };
    let at = said(listen).replacen("tcp", scheme, 1);
    format!(
        "API is accessible on {at} without {lacks}. Access to the remote API is equivalent to root access on the host: use --tlsverify"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn files(ca: bool) -> TlsFiles {
        TlsFiles { ca: ca.then(|| "ca".into()), cert: "cert".into(), key: "key".into() }
    }

    fn one(text: &str, tls: Option<&TlsFiles>) -> Result<Listen> {
        Ok(listen(&[text.parse()?], tls)?.remove(0))
    }

    #[test]
    fn hosts_are_written_as_dockers() {
        let tls = files(true);
        for (text, expected) in [
            ("tcp://10.0.0.1:1234", "10.0.0.1:1234"),
            ("tcp://10.0.0.1", "10.0.0.1:2376"),
            ("tcp://[::1]:7", "[::1]:7"),
            ("tcp://[fd00::1]", "[fd00::1]:2376"),
            ("tcp://0.0.0.0:2376/", "0.0.0.0:2376"),
        ] {
            assert_eq!(
                one(text, Some(&tls)).unwrap(),
                Listen::Tcp(expected.parse().unwrap(), Some(tls.clone()))
            );
        }
        let Listen::Tcp(addr, None) = one("tcp://", None).unwrap() else { panic!("no TLS was asked for") };
        assert!(addr.ip().is_loopback() && addr.port() == 2375);
        assert_eq!(one("unix:///run/docker.sock", None).unwrap(), Listen::Unix("/run/docker.sock".into()));
        for (bad, words) in [
            ("unix://", "path is missing"),
            ("fd://", "systemd"),
            ("ssh://x", "unix://PATH or tcp://"),
            ("/run/x", "unix://PATH or tcp://"),
            ("tcp://x:99999", "ADDRESS[:PORT]"),
            ("tcp://a b", "ADDRESS[:PORT]"),
        ] {
            let error = bad.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn only_loopback_is_open_to_anybody() {
        assert!(one("tcp://127.0.0.1:1", None).unwrap().is_open());
        assert!(!one("tcp://127.0.0.1:1", Some(&files(true))).unwrap().is_open());
        assert!(one("tcp://10.0.0.1:1", None).unwrap_err().to_string().contains("has no TLS"));
        let unasked = one("tcp://10.0.0.1:1", Some(&files(false))).unwrap_err().to_string();
        assert!(unasked.contains("no certificate"), "{unasked}");
        assert!(one("unix:///x", Some(&files(true))).unwrap_err().to_string().contains("tcp://"));
        let twice: Vec<Host> = ["unix:///x", "unix:///x"].iter().map(|h| h.parse().unwrap()).collect();
        assert!(listen(&twice, None).unwrap_err().to_string().contains("twice"));
    }
}
