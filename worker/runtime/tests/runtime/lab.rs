//! A daemon's worth of runtime in temporary directories, with an image made of the host's static busybox.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt;
use proto::model::{ContainerId, ContainerSpec, Resources};
use runtime::{
    Chunks, ContainerConfig, ExecConfig, ExecIo, ImportOptions, LogLimits, LogOptions, Runtime, ShimConfig,
    ShimRuntime, Stream, UnpackLimit,
};
use skip::Need;
use tokio::sync::mpsc;

const BUSYBOX: &str = "/usr/bin/busybox";

/// Whether the tests of this file cannot run here.
pub fn skip() -> bool {
    let busybox = Need::Tool { program: "busybox", package: "busybox-static" };
    skip::unless(&[Need::Root, Need::Namespaces, busybox, Need::Built(&shim())])
}

/// The shim that was built with this test.
pub fn shim() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().unwrap().parent().unwrap().join("rn-shim")
}

/// A root file system archive of busybox.
pub fn busybox_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let dir = |tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_size(0);
        tar.append_data(&mut header, path, std::io::empty()).unwrap();
    };
    for path in ["bin/", "etc/", "root/", "home/", "var/", "data/"] {
        dir(&mut tar, path, 0o755);
    }
    dir(&mut tar, "tmp/", 0o1777);
    let file = |tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, owner: u64, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_000_000_000);
        tar.append_data(&mut header, path, content).unwrap();
    };
    file(&mut tar, "bin/busybox", 0o755, 0, &fs::read(BUSYBOX).unwrap());
    file(
        &mut tar,
        "etc/passwd",
        0o644,
        0,
        b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home:/bin/sh\n",
    );
    file(&mut tar, "etc/group", 0o644, 0, b"root:x:0:\napp:x:1001:\nvideo:x:44:app\n");
    file(&mut tar, "data/seed", 0o640, 1000, b"from the image\n");
    file(&mut tar, "bin/suid", 0o4755, 0, b"#!/bin/sh\n");
    file(&mut tar, "bin/plain", 0o644, 0, b"#!/bin/sh\n");
    let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

/// Feeds an import.
pub fn chunks(bytes: Vec<u8>) -> Chunks {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        for chunk in Bytes::from(bytes).chunks(60_000) {
            if sender.send(Ok(Bytes::copy_from_slice(chunk))).await.is_err() {
                break;
            }
        }
    });
    receiver.into()
}

/// One daemon's directories; cleans up behind itself.
pub struct Lab {
    pub root: tempfile::TempDir,
    pub config: ShimConfig,
    pub runtime: Arc<ShimRuntime>,
}

impl Lab {
    /// A fresh daemon with image `busybox`.
    pub async fn new() -> Self {
        Self::with_log(LogLimits::default()).await
    }

    /// The same with other log limits.
    pub async fn with_log(log: LogLimits) -> Self {
        Self::made(log, UnpackLimit::default()).await
    }

    /// The same with another limit for what is unpacked.
    pub async fn with_limit(limit: UnpackLimit) -> Self {
        Self::made(LogLimits::default(), limit).await
    }

    async fn made(log: LogLimits, unpack_limit: UnpackLimit) -> Self {
        // Deep, so that socket paths are longer than a socket address.
        let root = tempfile::Builder::new().prefix("runtime-test-").tempdir().unwrap();
        let deep =
            root.path().join("a-directory-with-a-rather-long-name-to-exceed-what-fits-into-a-socket-address");
        let daemon_id = root.path().file_name().unwrap().to_str().unwrap().to_owned();
        let config = ShimConfig {
            data_root: deep.join("data"),
            exec_root: deep.join("exec"),
            daemon_id,
            shim: shim(),
            log,
            registries: Default::default(),
            unpack_limit,
        };
        let runtime = Arc::new(ShimRuntime::open(config.clone()).await.unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&busybox_tar()).unwrap();
        let options = ImportOptions {
            reference: "busybox".to_owned(),
            changes: vec!["CMD [\"sh\"]".to_owned()],
            ..Default::default()
        };
        runtime.import(chunks(gzip.finish().unwrap()), options).await.unwrap();
        Self { root, config, runtime }
    }

    /// A network namespace with nothing but a loopback, as a file.
    pub fn netns(&self) -> PathBuf {
        let path = self.root.path().join("netns");
        if !path.exists() {
            make_netns(&path);
        }
        path
    }

    /// `sh -c script`.
    pub fn sh(&self, script: &str) -> ContainerConfig {
        config(&self.netns(), &["sh", "-c", script])
    }

    /// Creates and starts.
    pub async fn run(&self, config: ContainerConfig) -> ContainerId {
        let id = config.id.clone();
        self.runtime.create(config).await.unwrap();
        self.runtime.start(&id).await.unwrap();
        id
    }

    /// Runs to the end: exit code and output.
    pub async fn output(&self, config: ContainerConfig) -> (i32, String) {
        let id = self.run(config).await;
        let status = self.runtime.wait(&id).await.unwrap();
        let text = self.log(&id).await;
        self.runtime.delete(&id, false).await.unwrap();
        (status.code, text)
    }

    /// All output so far, both streams.
    pub async fn log(&self, id: &ContainerId) -> String {
        let lines = self.lines(id, LogOptions::default()).await;
        lines.into_iter().map(|(_, text)| text + "\n").collect()
    }

    /// Output by stream.
    pub async fn lines(&self, id: &ContainerId, options: LogOptions) -> Vec<(Stream, String)> {
        let lines = self.runtime.logs(id, options).await.unwrap();
        lines
            .map(|line| {
                let line = line.unwrap();
                (line.stream, String::from_utf8(line.data).unwrap())
            })
            .collect()
            .await
    }

    /// Waits until the log holds a text.
    pub async fn until_logged(&self, id: &ContainerId, text: &str) {
        let mut lines =
            self.runtime.logs(id, LogOptions { follow: true, ..LogOptions::default() }).await.unwrap();
        let seen = async {
            while let Some(line) = lines.next().await {
                if String::from_utf8_lossy(&line.unwrap().data).contains(text) {
                    return;
                }
            }
            panic!("the log ended without {text:?}");
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.expect(text);
    }

    /// Runs a command in a container: exit code, output, errors.
    pub async fn exec(&self, id: &ContainerId, config: ExecConfig) -> (i32, String, String) {
        use tokio::io::AsyncReadExt;
        let session = self.runtime.exec(id, config).await.unwrap();
        let ExecIo::Pipes { mut stdout, mut stderr, stdin } = session.io else { panic!("a terminal") };
        drop(stdin);
        let (mut out, mut err) = (String::new(), String::new());
        let (a, b) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
        a.unwrap();
        b.unwrap();
        (session.exit.await.unwrap(), out, err)
    }

    /// What is left of this daemon on the machine besides its data: cgroups, run directories, mounts, processes.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let group = hierarchy.path().join("rn").join(&self.config.daemon_id);
            found.extend(group.exists().then(|| group.display().to_string()));
        }
        let runs = fs::read_dir(self.config.exec_root.join("containers")).unwrap();
        found.extend(runs.flatten().map(|entry| entry.path().display().to_string()));
        let root = self.root.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = |line: &&str| line.contains(root) && !line.contains("/netns ");
        found.extend(mounts.lines().filter(ours).map(str::to_owned));
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if command.starts_with("rn-shim") && command.contains(root) {
                found.push(command.replace('\0', " "));
            }
        }
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A failed test leaves containers: end them the hard way.
        for entry in fs::read_dir(self.config.data_root.join("containers")).into_iter().flatten().flatten() {
            let _ = Command::new(shim()).arg("reap").arg(entry.path()).status();
        }
        let _ = nix::mount::umount(&self.root.path().join("netns"));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join("rn").join(&self.config.daemon_id));
        }
    }
}

/// What a container is by default in these tests.
pub fn config(netns: &Path, command: &[&str]) -> ContainerConfig {
    let id = ContainerId::random();
    ContainerConfig {
        name: format!("test.{}", id.short()),
        id,
        task: None,
        spec: ContainerSpec {
            image: "busybox".to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..ContainerSpec::default()
        },
        limits: Resources::default(),
        netns: Some(netns.to_owned()),
        addrs: vec![],
        search: vec![],
        files: vec![],
    }
}

fn make_netns(path: &Path) {
    fs::write(path, "").unwrap();
    let path = path.to_owned();
    std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, flags, None::<&str>)
            .unwrap();
    })
    .join()
    .unwrap();
}
