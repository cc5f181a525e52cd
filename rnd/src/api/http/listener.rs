//! The sockets that the daemon listens on: of the file system, and on TCP with or without TLS.

use std::{
    io,
    net::SocketAddr,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use proto::model::Protocol;
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    host::{Listen, TlsFiles, said},
    port,
};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// How every record of a TLS handshake begins (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// What Go's server says to who speaks without TLS; clients show it.
const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// A socket that is listened on.
pub enum Listener {
    /// In the file system.
    Unix(UnixListener),
    /// On an address, with TLS if there are certificates.
    Tcp(TcpListener, Option<TlsAcceptor>),
}

/// Begins to listen.
///
/// # Errors
/// Another daemon answers there, the address cannot be had, or a certificate cannot be used.
pub fn open(listen: &Listen) -> Result<Listener> {
    match listen {
        Listen::Unix(path) => unix(path).map(Listener::Unix),
        Listen::Tcp(addr, tls) => {
            let tls = tls.as_ref().map(acceptor).transpose()?;
            Ok(Listener::Tcp(tcp(*addr)?, tls))
        }
    }
    .with_context(|| format!("cannot listen on {}", said(listen)))
}

fn unix(path: &Path) -> Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            bail!("there is a file of that name, which is no socket")
        }
        Ok(_) if StdUnixStream::connect(path).is_ok() => {
            bail!("another daemon answers there: stop it, or give this one another -H")
        }
        // Left from an earlier life.
        Ok(_) => std::fs::remove_file(path).context("cannot replace what is there")?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

fn tcp(addr: SocketAddr) -> Result<TcpListener> {
    let listener = std::net::TcpListener::bind(addr)
        .map_err(|e| io::Error::new(e.kind(), port::reason(&e, Protocol::Tcp, addr)))?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// TLS with the daemon's certificate and, if there is an authority, for clients of that only.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).with_context(|| format!("authority {}", ca.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build()?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("key {} cannot be read", files.key.display()))?;
    let mut config = builder
        .with_single_cert(certificates(&files.cert)?, key)
        .with_context(|| format!("certificate {} and key {}", files.cert.display(), files.key.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let all = read().with_context(|| format!("certificate {} cannot be read", path.display()))?;
    if all.is_empty() {
        bail!("{} holds no certificate in PEM", path.display());
    }
    Ok(all)
}

/// A client's handshake. One that speaks without TLS is told so.
///
/// # Errors
/// It has no certificate of the authority, an expired one, or speaks no TLS.
pub async fn handshake(tls: &TlsAcceptor, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE_RECORD] {
        stream.write_all(PLAIN).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client speaks without TLS"));
    }
    tls.accept(stream).await
}
