//! The API on TCP, by Debian's `docker` client: with certificates both ways, and without on loopback only.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, Host, docker::CLIENT, wait};
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Writes a certificate and its key into `dir`, and this authority's beside them as the one to trust.
    fn issue(&self, dir: &Path, trusted: &Self, addr: std::net::IpAddr, expired: bool) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "rn test");
        params.subject_alt_names = vec![SanType::IpAddress(addr)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = if expired { date_time_ymd(2021, 1, 1) } else { date_time_ymd(2100, 1, 1) };
        fs::create_dir_all(dir)?;
        fs::write(dir.join("cert.pem"), params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(dir.join("key.pem"), key.serialize_pem())?;
        fs::write(dir.join("ca.pem"), &trusted.pem)?;
        Ok(())
    }
}

fn docker(host: &Host, at: &str, flags: &[&str], args: &[&str]) -> Result<Output> {
    Ok(host.docker_command(&[&["-H", at], flags, args].concat()).env_remove("DOCKER_HOST").output()?)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn clients_with_a_certificate_of_the_authority_are_let_in_and_nobody_else() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let mut cluster = Cluster::daemons(1)?;
    let host = &mut cluster.hosts[0];
    host.stop(Signal::SIGTERM)?;
    let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
    let base = host.dir().to_owned();
    let dir = |name: &str| -> PathBuf { base.join(name) };
    let addr = host.v4();
    ours.issue(&dir("server"), &ours, addr, false)?;
    ours.issue(&dir("client"), &ours, addr, false)?;
    ours.issue(&dir("expired"), &ours, addr, true)?;
    theirs.issue(&dir("stranger"), &ours, addr, false)?;
    ours.issue(&dir("doubter"), &theirs, addr, false)?;
    let file = |of: &str, name: &str| dir(of).join(name).display().to_string();
    let second = format!("unix://{}", dir("docker.sock").display());
    let at = format!("tcp://{addr}:2376");
    host.flags = ["-H", &second, "-H", &at, "--tlsverify"].iter().map(|f| (*f).to_owned()).collect();
    for (flag, name) in [("--tlscacert", "ca.pem"), ("--tlscert", "cert.pem"), ("--tlskey", "key.pem")] {
        host.flags.extend([flag.to_owned(), file("server", name)]);
    }
    let of = |name: &str| {
        vec![
            "--tlsverify".to_owned(),
            format!("--tlscacert={}", file(name, "ca.pem")),
            format!("--tlscert={}", file(name, "cert.pem")),
            format!("--tlskey={}", file(name, "key.pem")),
        ]
    };
    let known: Vec<_> = ["client", "expired", "stranger", "doubter"].map(|name| (name, of(name))).into();
    host.start()?;
    let host = &cluster.hosts[0];
    let format = ["version", "--format", "{{.Server.Os}}"];
    for (name, flags) in &known {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let output = docker(host, &at, &flags, &format)?;
        let said = text(&output);
        println!("{name}: {said}");
        ensure!(output.status.success() == (*name == "client"), "{name}: {said}");
        ensure!(*name == "client" || said.contains("certificate"), "{name}: {said}");
    }
    let ca = format!("--tlscacert={}", host.dir().join("client/ca.pem").display());
    let none = docker(host, &at, &["--tlsverify", &ca], &format)?;
    ensure!(!none.status.success() && text(&none).contains("certificate"), "{}", text(&none));
    let plain = docker(host, &at, &[], &format)?;
    ensure!(
        !plain.status.success() && text(&plain).contains("Client sent an HTTP request to an HTTPS server"),
        "{}",
        text(&plain)
    );
    // Both sockets of the file system answer, and all of them are one daemon.
    let id = ["info", "--format", "{{.ID}}"];
    let flags: Vec<&str> = known[0].1.iter().map(String::as_str).collect();
    let first = host.docker(&id)?;
    for (at, flags) in [(second.as_str(), &[][..]), (at.as_str(), &flags[..])] {
        ensure!(text(&docker(host, at, flags, &id)?).trim() == first);
    }
    ensure!(!host.docker(&["info"])?.contains("API is accessible"));
    Ok(())
}

#[test]
fn without_tls_only_loopback_is_served_and_said_to_be_open() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let mut cluster = Cluster::daemons(1)?;
    let host = &mut cluster.hosts[0];
    host.stop(Signal::SIGTERM)?;
    host.flags = vec!["-H".into(), "tcp://127.0.0.1:2375".into()];
    host.start()?;
    let said = text(&docker(host, "tcp://127.0.0.1:2375", &[], &["info"])?);
    ensure!(said.contains("API is accessible on http://127.0.0.1:2375 without encryption"), "{said}");
    ensure!(fs::read_to_string(host.log())?.contains("without encryption"));
    host.stop(Signal::SIGTERM)?;
    for (flags, words) in [
        (vec!["-H", "tcp://0.0.0.0:2375"], "has no TLS: whoever reaches it would be root"),
        (vec!["-H", "fd://"], "takes no sockets from systemd"),
        (vec!["-H", "tcp://127.0.0.1:2376", "--tlsverify"], "certificate /etc/rn/ca.pem cannot be read"),
        (vec!["--tlsverify"], "none is given"),
    ] {
        host.flags = flags.iter().map(|f| (*f).to_owned()).collect();
        host.launch()?;
        wait::until("the daemon says why it does not start", wait::SHORT, || {
            ensure!(fs::read_to_string(host.log())?.contains(words), "{flags:?} should say {words:?}");
            Ok(())
        })?;
        let _ = host.stop(Signal::SIGKILL);
    }
    Ok(())
}
