//! One who speaks to managers as nodes do, with whatever certificate and headers it likes.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Request;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Host, lan::enter};

/// Longest wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of managers that shows the certificate and headers it was made with. Clones show the same certificate.
#[derive(Clone)]
pub struct Intruder {
    config: Arc<ClientConfig>,
}

/// What a manager answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// gRPC's code; 0 is success, 7 is permission denied.
    pub code: u32,
    /// What it said.
    pub message: String,
}

/// gRPC's code of a caller that may not.
pub const DENIED: u32 = 7;
/// gRPC's code of what there is no room for.
pub const EXHAUSTED: u32 = 8;

impl Intruder {
    /// Without a certificate.
    pub fn anonymous() -> Result<Self> {
        Self::showing(None)
    }

    /// With a certificate and its key, PEM.
    pub fn with(cert: &str, key: &str) -> Result<Self> {
        Self::showing(Some((cert, key)))
    }

    /// With what lies in a host's data root now.
    pub fn stolen_from(host: &Host) -> Result<Self> {
        let dir = host.data_root().join("swarm/certificates");
        let read = |file: &str| std::fs::read_to_string(dir.join(file)).with_context(|| file.to_owned());
        Self::with(&read("swarm-node.crt")?, &read("swarm-node.key")?)
    }

    fn showing(pair: Option<(&str, &str)>) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain: Vec<_> =
                    CertificateDer::pem_slice_iter(cert.as_bytes()).collect::<Result<_, _>>()?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// Calls `Service/Method` of the manager at `to`, from the namespace at `ns`. `message` is protobuf.
    ///
    /// # Errors
    /// The connection is refused or breaks: no answer at all.
    pub fn call(
        &self,
        ns: &Path,
        to: SocketAddr,
        rpc: &str,
        headers: &[(&str, &str)],
        message: &[u8],
    ) -> Result<Reply> {
        enter(ns, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let call = async { ask(self.connect(to).await?, rpc, headers, message).await };
                timeout(PATIENCE, call).await.context("no answer")?
            })
        })?
    }

    /// A connection, its handshake done.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(to).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("swarm-manager")?;
        Ok(TlsConnector::from(self.config.clone()).connect(name, tcp).await?)
    }

    /// The first message of a handshake.
    pub(crate) fn hello(&self) -> Result<Vec<u8>> {
        let name = ServerName::try_from("swarm-manager")?;
        let mut client = rustls::ClientConnection::new(self.config.clone(), name)?;
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes)?;
        Ok(bytes)
    }
}

/// One call on a new connection.
pub(crate) async fn ask(
    io: TlsStream<TcpStream>,
    rpc: &str,
    headers: &[(&str, &str)],
    message: &[u8],
) -> Result<Reply> {
    let (sender, connection) = h2::client::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::post(format!("https://swarm-manager/rn.v1.{rpc}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request.body(())?, false)?;
    let length = u32::try_from(message.len())?.to_be_bytes();
    let frame: Vec<u8> = [&[0][..], &length, message].concat();
    // An answer that comes before the request is whole is an answer too.
    let _ = body.send_data(Bytes::from(frame), true);
    let response = response.await?;
    let mut status = response.headers().clone();
    if !status.contains_key("grpc-status") {
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data?.len();
            let _ = body.flow_control().release_capacity(length);
        }
        status = body.trailers().await?.context("no trailers")?;
    }
    driver.abort();
    let text = |name: &str| status.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let Ok(code) = text("grpc-status").parse() else { bail!("no grpc-status: {status:?}") };
    Ok(Reply { code, message: decoded(text("grpc-message")) })
}

/// Undoes percent encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A protobuf field of text or bytes.
pub fn field(number: u8, text: &str) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = text.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
    out
}

/// Takes any server for the right one.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
