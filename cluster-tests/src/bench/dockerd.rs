//! Debian's `dockerd` as a baseline, unpacked and not installed.

use std::{
    env,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{
    host::append,
    lan::{Namespace, run},
    wait,
};

/// A `dockerd` of Debian's package in a network namespace of its own, without a bridge and without rules of a firewall.
pub struct Dockerd {
    ns: Namespace,
    dir: TempDir,
    path: String,
    child: Child,
}

impl Dockerd {
    /// Starts one.
    ///
    /// # Errors
    /// The package cannot be had, or the daemon does not come up.
    pub fn start() -> Result<Self> {
        let packages = unpacked()?;
        let mut dirs = vec![packages.join("usr/sbin"), packages.join("usr/bin")];
        dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let path = env::join_paths(dirs)?.to_string_lossy().into_owned();
        let (ns, dir) = (Namespace::new("dockerd")?, tempfile::tempdir()?);
        let file = |name: &str| dir.path().join(name).display().to_string();
        let log = append(&dir.path().join("log"))?;
        let child = ns
            .command("dockerd")
            .env("PATH", &path)
            .args(["--data-root", &file("data"), "--exec-root", &file("exec"), "--pidfile", &file("pid")])
            .args(["-H", &format!("unix://{}", file("sock")), "--iptables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("dockerd")?;
        let daemon = Self { ns, dir, path, child };
        wait::until("dockerd answers", wait::LONG, || daemon.docker(&["version"]))?;
        Ok(daemon)
    }

    /// A connection to its socket.
    pub fn connect(&self) -> Result<UnixStream> {
        Ok(UnixStream::connect(self.dir.path().join("sock"))?)
    }

    /// Its process.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.child.id())?)
    }

    /// The `docker` client at this daemon.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("docker");
        command
            .env("PATH", &self.path)
            .env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("sock").display()))
            .env("HOME", self.dir.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs the `docker` client, which must succeed.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output().context("docker")?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        ensure!(
            output.status.success(),
            "docker {}: {text}{}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Ok(ids) = self.docker(&["ps", "-aq"])
            && !ids.is_empty()
        {
            let mut args = vec!["rm", "-f"];
            args.extend(ids.lines());
            drop(self.docker(&args));
        }
        if let Ok(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        drop(self.child.wait());
        // It leaves the file of its own namespace mounted.
        let leftover = self.dir.path().join("exec/netns/default");
        let _ = nix::mount::umount(&leftover);
        // What a daemon of containers leaves goes with its folder; give late shims a moment.
        drop(wait::until("its folder is free", Duration::from_secs(5), || {
            run(Command::new("rm").arg("-rf").arg(self.dir.path())).map(drop)
        }));
    }
}

/// The folder in which Debian's packages are unpacked, beside what cargo builds.
fn unpacked() -> Result<PathBuf> {
    let me = env::current_exe()?;
    let target = me.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    let dir = target.and_then(Path::parent).context("not below a target directory")?.join("dockerd");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/unpack.sh");
    run(Command::new(script).arg(&dir).args(["docker.io", "containerd", "runc"]))?;
    Ok(dir)
}
