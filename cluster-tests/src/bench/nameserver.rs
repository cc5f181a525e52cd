//! Packaged name servers with the names of a cluster, each on 127.0.0.1 in a namespace of its own.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::Result;

use super::{
    cores,
    queries::{self, Question},
    running::Running,
};
use crate::lan::Namespace;

/// Where they listen.
pub const ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53);
/// Time to live of records in seconds, as rn's.
const TTL: u32 = 5;

/// A name and its addresses.
pub type Names<'a> = [(&'a str, Vec<IpAddr>)];

/// A running server.
pub struct NameServer {
    /// The program's name.
    pub program: &'static str,
    /// Where it is.
    pub ns: Namespace,
    process: Running,
}

impl NameServer {
    /// dnsmasq, with its cache and nothing to forward to.
    pub fn dnsmasq(names: &Names<'_>, dir: &Path, probe: &Question) -> Result<Self> {
        let mut config = format!(
            "no-resolv\nno-hosts\nno-poll\nlisten-address=127.0.0.1\nbind-interfaces\nuser=root\npid-file=\nlocal-ttl={TTL}\n"
        );
        for (name, addrs) in names {
            for addr in addrs {
                writeln!(config, "host-record={name},{addr}")?;
            }
        }
        Self::start("dnsmasq", &["--keep-in-foreground", "-C"], &config, dir, probe)
    }

    /// unbound, with one thread and local data.
    pub fn unbound(names: &Names<'_>, dir: &Path, probe: &Question) -> Result<Self> {
        let mut config = String::from(
            "server:\n num-threads: 1\n interface: 127.0.0.1\n do-daemonize: no\n use-syslog: no\n logfile: \"/dev/null\"\n username: \"\"\n \
             chroot: \"\"\n pidfile: \"\"\n module-config: \"iterator\"\n",
        );
        for (name, addrs) in names {
            for addr in addrs {
                let kind = if addr.is_ipv4() { "A" } else { "AAAA" };
                writeln!(config, " local-data: \"{name}. {TTL} IN {kind} {addr}\"")?;
            }
        }
        config.push_str("remote-control:\n control-enable: no\n");
        Self::start("unbound", &["-d", "-c"], &config, dir, probe)
    }

    fn start(
        program: &'static str,
        args: &[&str],
        config: &str,
        dir: &Path,
        probe: &Question,
    ) -> Result<Self> {
        let ns = Namespace::new(program)?;
        let file = dir.join(format!("{program}.conf"));
        fs::write(&file, config)?;
        let mut process = Running::start(ns.command(program).args(args).arg(&file), Some(cores::SERVER))?;
        process.ready(program, || ns.enter(|| queries::ask(ADDR, probe))?)?;
        Ok(Self { program, ns, process })
    }

    /// Its process id.
    pub fn pid(&self) -> Result<i32> {
        self.process.pid()
    }
}
