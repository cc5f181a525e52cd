//! An Ethernet segment and network namespaces on it.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs a command to its end; an error carries what it printed.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// `ip WORD…`, split at blanks.
pub fn ip(words: &str) -> Result<Output> {
    run(Command::new("ip").args(words.split_whitespace()))
}

/// A named network namespace, deleted with the value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one; the name carries this process' id, so that several test runs do not meet.
    pub fn new(role: &str) -> Result<Self> {
        let name = format!("rnt{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"))?;
        let ns = Self { name };
        ip(&format!("-n {} link set lo up", ns.name))?;
        Ok(ns)
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        command(&self.path(), program)
    }

    /// Runs `f` on a thread of its own inside the namespace.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        enter(&self.path(), f)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("netns del {}", self.name)) {
            eprintln!("cannot delete a test namespace: {error:#}");
        }
    }
}

/// A command that will run inside the namespace at `path`. `nsenter` rather than `ip netns exec`, which hides the cgroup mounts.
pub fn command(path: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).arg("--").arg(program);
    command
}

/// Runs `f` on a thread of its own inside the namespace at `path`.
pub fn enter<T: Send>(path: &Path, f: impl FnOnce() -> T + Send) -> Result<T> {
    let file = File::open(path).with_context(|| format!("namespace {}", path.display()))?;
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok(f())
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A bridge in a namespace of its own; hosts are plugged into it by veth pairs.
#[derive(Debug)]
pub struct Lan {
    ns: Namespace,
    next: AtomicU32,
}

/// A namespace's place on a [`Lan`].
#[derive(Debug, Clone)]
pub struct Port {
    /// The bridge port's name in the LAN's namespace.
    pub device: String,
    /// Its IPv4 address, in 10.77.0.0/24.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, in fd77::/64.
    pub v6: Ipv6Addr,
}

impl Lan {
    /// A new segment.
    pub fn new() -> Result<Self> {
        let ns = Namespace::new("lan")?;
        ip(&format!("-n {} link add lan type bridge", ns.name()))?;
        ip(&format!("-n {} link set lan up", ns.name()))?;
        Ok(Self { ns, next: AtomicU32::new(1) })
    }

    /// Its namespace's name.
    pub fn name(&self) -> &str {
        self.ns.name()
    }

    /// Plugs a namespace in as `eth0`, with the next addresses.
    pub fn plug(&self, ns: &Namespace) -> Result<Port> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let device = format!("p{n}");
        let (lan, name) = (self.ns.name(), ns.name());
        let host = u8::try_from(n).context("a test segment has at most 250 hosts")?;
        let port = Port {
            device,
            v4: Ipv4Addr::new(10, 77, 0, host),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host.into()),
        };
        ip(&format!("-n {lan} link add {} type veth peer name eth0 netns {name}", port.device))?;
        ip(&format!("-n {lan} link set {} master lan up", port.device))?;
        ip(&format!("-n {name} addr add {}/24 dev eth0", port.v4))?;
        ip(&format!("-n {name} addr add {}/64 dev eth0 nodad", port.v6))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        // A default route, as a real host has; it leads nowhere.
        ip(&format!("-n {name} route add default via 10.77.0.254"))?;
        ip(&format!("-n {name} -6 route add default via fd77::fe"))?;
        Ok(port)
    }

    /// Unplugs a host: nothing reaches it or leaves it.
    pub fn cut(&self, port: &Port) -> Result<()> {
        ip(&format!("-n {} link set {} down", self.ns.name(), port.device)).map(drop)
    }

    /// What the first sends does not reach the second any more; the other way it does. Neighbours still find each other, as where a
    /// firewall or a router's fault is the cause.
    pub fn deafen(&self, from: &Port, to: &Port) -> Result<()> {
        let nft = |words: &str| run(self.ns.command("nft").args(words.split(' ')));
        nft("add table bridge oneway")?;
        nft("add chain bridge oneway forward { type filter hook forward priority 0 ; }")?;
        let way = format!("add rule bridge oneway forward iifname {} oifname {}", from.device, to.device);
        nft(&format!("{way} ether type ip drop"))?;
        nft(&format!("{way} ether type ip6 meta l4proto != ipv6-icmp drop")).map(drop)
    }

    /// Everything reaches everybody again.
    pub fn hear(&self) -> Result<()> {
        run(self.ns.command("nft").args(["delete", "table", "bridge", "oneway"])).map(drop)
    }

    /// Plugs it back.
    pub fn heal(&self, port: &Port) -> Result<()> {
        ip(&format!("-n {} link set {} up", self.ns.name(), port.device)).map(drop)
    }
}

/// The text of an address as it stands in a URL.
pub fn url_host(addr: IpAddr) -> String {
    match addr {
        IpAddr::V4(a) => a.to_string(),
        IpAddr::V6(a) => format!("[{a}]"),
    }
}
