//! One host with its daemon.

use std::{
    fs::{self, File, OpenOptions},
    net::IpAddr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    lan::{Lan, Namespace, Port},
    wait,
};

/// Where this build's binaries are: beside the test program.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("RN_BIN_DIR") {
        return Ok(Path::new(&dir).join(name));
    }
    let me = std::env::current_exe()?;
    me.ancestors()
        .skip(1)
        .take(3)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}

/// A namespace host.
pub struct Host {
    /// Its name: the daemon's host name too.
    pub name: String,
    /// Its network namespace.
    pub ns: Namespace,
    /// Its place on the segment.
    pub port: Port,
    /// Further flags of the daemon.
    pub flags: Vec<String>,
    /// The control group's file that the daemon enters by.
    pub group: Option<PathBuf>,
    /// How many seconds its clock is ahead of this machine's.
    pub clock: i64,
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Host {
    /// A host on the segment, without a daemon yet. Its state lies below `root`.
    pub fn new(lan: &Lan, root: &Path, name: &str) -> Result<Self> {
        let ns = Namespace::new(name)?;
        let port = lan.plug(&ns)?;
        let dir = root.join(name);
        fs::create_dir_all(&dir)?;
        Ok(Self { name: name.into(), ns, port, flags: Vec::new(), group: None, clock: 0, dir, daemon: None })
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.port.v4.into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.port.v6.into()
    }

    /// Where its data root, exec root and log lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The daemon's data root.
    pub fn data_root(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The daemon's exec root.
    pub fn exec_root(&self) -> PathBuf {
        self.dir.join("exec")
    }

    /// The daemon's log file.
    pub fn log(&self) -> PathBuf {
        self.dir.join("rnd.log")
    }

    /// `-H` for `rnctl`.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.dir.join("rn.sock").display())
    }

    /// The daemon's pid.
    pub fn pid(&self) -> Option<i32> {
        self.daemon.as_ref().and_then(|child| i32::try_from(child.id()).ok())
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) -> Result<()> {
        self.launch()?;
        wait::until(&format!("the daemon of {} answers", self.name), wait::SHORT, || {
            if let Some(child) = &mut self.daemon
                && let Some(status) = child.try_wait()?
            {
                let log = fs::read_to_string(self.log()).unwrap_or_default();
                let tail = log.lines().rev().take(15).collect::<Vec<_>>();
                bail!(
                    "it ended at once with {status}:\n{}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            self.try_rnctl(&["version"]).and_then(success).map(drop)
        })
    }

    /// Starts the daemon without waiting.
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the daemon of {} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        // A host name of its own, as a real host has: a UTS namespace around the daemon.
        let group = self.group.as_ref().map(|file| format!("echo $$ > {} && ", file.display()));
        let script = format!("{}hostname {} && exec \"$@\"", group.unwrap_or_default(), self.name);
        let mut command = self.ns.command("unshare");
        command
            .args(["--uts", "sh", "-c", &script, "sh"])
            .arg(binary("rnd")?)
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .args(["--host", &self.socket(), "--log-level"])
            .arg(std::env::var("RN_TEST_LOG").unwrap_or_else(|_| "info".into()))
            .args(&self.flags)
            .env_remove("RN_HOST")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.set_clock(&mut command)?;
        self.daemon = Some(command.spawn().context("rnd")?);
        Ok(())
    }

    /// Shows the host's clock to a command and all that it starts; time passes as ever.
    fn set_clock(&self, command: &mut Command) -> Result<()> {
        if self.clock != 0 {
            let library = Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
            let library = library.join("faketime/libfaketimeMT.so.1");
            ensure!(library.is_file(), "{} is missing: install libfaketime", library.display());
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", format!("{:+}s", self.clock))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        Ok(())
    }

    /// Ends the daemon with a signal and waits for it.
    pub fn stop(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.daemon.take() else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let status = child.wait()?;
        if signal == Signal::SIGTERM && !status.success() {
            bail!("rnd of {} ended with {status} on SIGTERM (signal {:?})", self.name, status.signal());
        }
        Ok(())
    }

    /// Stops the daemon where it stands, as a machine that is suspended, until what is returned is dropped.
    pub fn freeze(&self) -> Result<Frozen> {
        let pid = Pid::from_raw(self.pid().with_context(|| format!("no daemon runs on {}", self.name))?);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Frozen(pid))
    }

    /// What a reboot does: the daemon and all containers die, what lies in memory goes (the exec root, mounts, the network
    /// namespace's devices and tables), the disk stays; then the daemon starts again.
    pub fn reboot(&mut self) -> Result<()> {
        self.stop(Signal::SIGKILL)?;
        sweep(&self.dir);
        let run = crate::lan::run;
        run(self.ns.command("nft").args(["flush", "ruleset"]))?;
        let links = run(self.ns.command("ip").args(["-br", "link"]))?;
        for line in String::from_utf8_lossy(&links.stdout).lines() {
            let name = line.split([' ', '@']).next().unwrap_or_default();
            if name.starts_with("rn") {
                // A veth's other end goes with its peer; what is gone already is fine.
                let _ = run(self.ns.command("ip").args(["link", "del", name]));
            }
        }
        for family in ["-4", "-6"] {
            let rules = run(self.ns.command("ip").args([family, "rule"]))?;
            for line in String::from_utf8_lossy(&rules.stdout).lines().filter(|l| l.contains("fwmark")) {
                let pref = line.split(':').next().unwrap_or_default();
                run(self.ns.command("ip").args([family, "rule", "del", "pref", pref]))?;
            }
        }
        fs::remove_dir_all(self.exec_root())?;
        self.start()
    }

    /// Gives the host another IPv4 address in place of its own, as a new DHCP lease does.
    pub fn renumber(&mut self, v4: std::net::Ipv4Addr) -> Result<()> {
        let name = self.ns.name();
        crate::lan::ip(&format!("-n {name} addr del {}/24 dev eth0", self.port.v4))?;
        crate::lan::ip(&format!("-n {name} addr add {v4}/24 dev eth0"))?;
        crate::lan::ip(&format!("-n {name} route replace default via 10.77.0.254"))?;
        self.port.v4 = v4;
        Ok(())
    }

    /// `rnctl` with these arguments, ready to run.
    pub fn rnctl_command(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.ns.command(binary("rnctl")?);
        command.args(["-H", &self.socket()]).args(args).stdin(Stdio::null());
        self.set_clock(&mut command)?;
        Ok(command)
    }

    /// Runs `rnctl`, whatever comes of it.
    pub fn try_rnctl(&self, args: &[&str]) -> Result<Output> {
        self.rnctl_command(args)?.output().context("rnctl")
    }

    /// Runs `rnctl`, which must succeed; its standard output without the last newline.
    pub fn rnctl(&self, args: &[&str]) -> Result<String> {
        success(self.try_rnctl(args)?).with_context(|| format!("{}: rnctl {}", self.name, args.join(" ")))
    }

    /// Runs rnctl, which is to fail and to say all of these words; prints what was said.
    pub fn says(&self, args: &[&str], words: &[&str]) -> Result<()> {
        let (_, text) = self.rnctl_fails(args)?;
        println!("{}$ rnctl {}\n{text}", self.name, args.join(" "));
        for word in words {
            ensure!(text.contains(word), "rnctl {} should say {word:?}: {text}", args.join(" "));
        }
        Ok(())
    }

    /// Runs `rnctl`, which must fail; its exit code and standard error.
    pub fn rnctl_fails(&self, args: &[&str]) -> Result<(i32, String)> {
        let output = self.try_rnctl(args)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success(),
            "{}: rnctl {} succeeded: {}",
            self.name,
            args.join(" "),
            String::from_utf8_lossy(&output.stdout)
        );
        Ok((output.status.code().unwrap_or(-1), stderr))
    }

    /// The names of this host's running task containers.
    pub fn containers(&self) -> Result<Vec<String>> {
        Ok(self.rnctl(&["ps", "--format", "{{.Names}}"])?.lines().map(str::to_owned).collect())
    }

    /// Runs a command inside a container of this host.
    pub fn exec(&self, container: &str, args: &[&str]) -> Result<String> {
        let mut all = vec!["exec", container];
        all.extend_from_slice(args);
        self.rnctl(&all)
    }
}

/// A daemon that is stopped.
#[must_use = "it goes on when this is dropped"]
pub struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        // One that was killed meanwhile needs none.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)), Signal::SIGKILL);
            let _ = child.wait();
        }
        sweep(&self.dir);
        if self.clock != 0 {
            clear_clocks();
        }
        if std::thread::panicking()
            && let Ok(log) = fs::read_to_string(self.log())
        {
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- last lines of {}'s daemon", self.name);
            for line in lines.iter().skip(lines.len().saturating_sub(40)) {
                eprintln!("{line}");
            }
        }
    }
}

/// Kills what daemons left below `dir`: shims and their containers, then mounts. Only for tear-down.
pub fn sweep(dir: &Path) {
    let dir = dir.display().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for entry in processes.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&dir) && command.contains("rn-shim") {
            for child in children(pid) {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else { return };
    let mut points: Vec<&str> =
        mounts.lines().filter_map(|l| l.split(' ').nth(1)).filter(|p| p.starts_with(&dir)).collect();
    points.reverse();
    for point in points {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn children(pid: i32) -> Vec<i32> {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect()
}

fn success(output: Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Resident memory of a process in bytes.
pub fn resident(pid: i32) -> Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages: u64 = statm.split(' ').nth(1).context("statm")?.parse()?;
    Ok(pages * 4096)
}

/// How long `f` takes.
pub fn timed<T>(f: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = std::time::Instant::now();
    let value = f()?;
    Ok((start.elapsed(), value))
}

/// Opens a file for appending, made if missing.
pub fn append(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// Removes what libfaketime leaves of processes that were killed: shared memory named by their numbers.
fn clear_clocks() {
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("faketime_shm_").or_else(|| name.strip_prefix("sem.faketime_sem_"));
        if number.is_some_and(|n| !Path::new("/proc").join(n).exists()) {
            // Another host's drop may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}
