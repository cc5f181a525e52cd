//! A registry: Debian's docker-registry in a namespace, on plain HTTP.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{Namespace, lan::run, wait};

/// The only user of a registry that wants one, and the password.
pub const USER: (&str, &str) = ("alice", "correct horse");

/// A registry; stopped with the value.
pub struct Registry {
    /// `host:port`.
    pub addr: SocketAddr,
    ns: PathBuf,
    dir: PathBuf,
    auth: bool,
    process: Option<Child>,
}

/// An image that was pushed.
pub struct Pushed {
    /// The digest of its manifest.
    pub digest: String,
}

/// `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Registry {
    /// Starts one at `addr` in the namespace; its files lie in `dir`. With `auth` it wants [`USER`].
    pub fn start(ns: &Namespace, addr: SocketAddr, dir: &Path, auth: bool) -> Result<Self> {
        fs::create_dir_all(dir.join("data"))?;
        let mut config = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}},
            "http": {"addr": addr.to_string()},
            "log": {"level": "warn"},
        });
        if auth {
            let file = dir.join("htpasswd");
            run(Command::new("htpasswd").args(["-Bbc"]).arg(&file).args([USER.0, USER.1]))
                .context("package apache2-utils")?;
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": file}});
        }
        // JSON is YAML too.
        fs::write(dir.join("config.yml"), config.to_string())?;
        let mut registry = Self { addr, ns: ns.path(), dir: dir.to_owned(), auth, process: None };
        registry.up(ns)?;
        Ok(registry)
    }

    /// Starts it again after [`Registry::down`].
    pub fn up(&mut self, ns: &Namespace) -> Result<()> {
        let log = fs::File::create(self.dir.join("log"))?;
        let child = ns
            .command("docker-registry")
            .arg("serve")
            .arg(self.dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("package docker-registry")?;
        self.process = Some(child);
        wait::until("the registry answers", wait::SHORT, || self.ask("GET", "/v2/", "", &[]).map(drop))
    }

    /// Ends it; what it holds stays.
    pub fn down(&mut self) -> Result<()> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
        child.wait()?;
        Ok(())
    }

    /// A reference to an image in it.
    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.addr)
    }

    /// Pushes an image of these layers (tars) under `repository:tag`, for this machine's platform, with a second platform that
    /// nobody here can run.
    pub fn push(&self, repository: &str, tag: &str, layers: &[Vec<u8>], config: &Value) -> Result<Pushed> {
        let mut document = json!({
            "os": "linux", "architecture": architecture(), "created": "2024-05-06T07:08:09Z", "config": config,
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|l| digest(l)).collect::<Vec<_>>()},
        });
        let describe = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let mut entries = Vec::new();
        for architecture in [architecture(), "s390x"] {
            document["architecture"] = architecture.into();
            let config = document.to_string().into_bytes();
            self.blob(repository, &config)?;
            let mut described = Vec::new();
            for layer in layers {
                self.blob(repository, layer)?;
                described.push(describe("application/vnd.oci.image.layer.v1.tar", layer));
            }
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let manifest = json!({
                "schemaVersion": 2, "mediaType": kind,
                "config": describe("application/vnd.oci.image.config.v1+json", &config), "layers": described,
            })
            .to_string();
            self.manifest(repository, &digest(manifest.as_bytes()), kind, manifest.as_bytes())?;
            let mut entry = describe(kind, manifest.as_bytes());
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            // The one that nobody here can run comes first.
            entries.insert(0, entry);
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
        self.manifest(repository, tag, kind, index.as_bytes())?;
        Ok(Pushed { digest: digest(index.as_bytes()) })
    }

    fn blob(&self, repository: &str, bytes: &[u8]) -> Result<()> {
        let begun = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        let place = begun
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")))
            .context("no Location")?
            .1;
        let path =
            place.split_once("://").map_or(place, |(_, rest)| rest.split_once('/').map_or(rest, |(_, p)| p));
        let path = format!("/{}", path.trim_start_matches('/'));
        let joint = if path.contains('?') { '&' } else { '?' };
        self.ask(
            "PUT",
            &format!("{path}{joint}digest={}", digest(bytes)),
            "application/octet-stream",
            bytes,
        )?;
        Ok(())
    }

    fn manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> Result<()> {
        self.ask("PUT", &format!("/v2/{repository}/manifests/{tag}"), kind, bytes).map(drop)
    }

    /// One request; the head of the answer, which must be a success.
    fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<String> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.addr,
            body.len()
        );
        if !kind.is_empty() {
            head += &format!("Content-Type: {kind}\r\n");
        }
        if self.auth {
            head +=
                &format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{}:{}", USER.0, USER.1)));
        }
        head += "\r\n";
        let answer = crate::lan::enter(&self.ns, || -> Result<String> {
            let mut stream = TcpStream::connect(self.addr)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(head.as_bytes())?;
            stream.write_all(body)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        })??;
        ensure!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        Ok(answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.down();
    }
}

/// This machine's, in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
