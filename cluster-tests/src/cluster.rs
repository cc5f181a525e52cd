//! Several hosts that have met, and a client beside them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    host::Host,
    image::{self, IMAGE},
    lan::{Lan, Namespace, Port},
    wait,
};

/// One cluster at a time: two of them on two CPUs would measure each other.
static TURN: Mutex<()> = Mutex::new(());

/// Hosts on one segment; the first one is the manager.
pub struct Cluster {
    // Dropped in this order: hosts stop their daemons before the segment and the files go.
    /// The hosts.
    pub hosts: Vec<Host>,
    /// A machine outside the cluster.
    pub client: Namespace,
    /// The client's place on the segment.
    pub client_port: Port,
    /// The segment.
    pub lan: Lan,
    dir: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// `n` hosts with running daemons, not yet in a swarm.
    pub fn daemons(n: usize) -> Result<Self> {
        Self::daemons_with(n, &[])
    }

    /// The same, with these flags for each daemon.
    pub fn daemons_with(n: usize, flags: &[&str]) -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let lan = Lan::new()?;
        let client = Namespace::new("client")?;
        let dir = tempfile::Builder::new().prefix("rn-test-").tempdir()?;
        let mut hosts = Vec::new();
        for k in 1..=n {
            hosts.push(Host::new(&lan, dir.path(), &format!("host{k}"))?);
        }
        let client_port = lan.plug(&client)?;
        let mut cluster = Self { hosts, client, client_port, lan, dir, _turn: turn };
        for host in &mut cluster.hosts {
            host.flags = flags.iter().map(|f| (*f).to_owned()).collect();
            host.start()?;
        }
        Ok(cluster)
    }

    /// A swarm of `n` hosts, all ready.
    pub fn swarm(n: usize) -> Result<Self> {
        let cluster = Self::daemons(n)?;
        let first = &cluster.hosts[0];
        first.rnctl(&["swarm", "init", "--advertise-addr", &first.v4().to_string()])?;
        let token = first.rnctl(&["swarm", "join-token", "-q", "worker"])?;
        let manager = format!("{}:2377", first.v4());
        for host in &cluster.hosts[1..] {
            host.rnctl(&[
                "swarm",
                "join",
                "--token",
                &token,
                "--advertise-addr",
                &host.v4().to_string(),
                &manager,
            ])?;
        }
        cluster.wait_ready(n)?;
        Ok(cluster)
    }

    /// A swarm whose hosts all have the test image.
    pub fn with_image(n: usize) -> Result<Self> {
        let cluster = Self::swarm(n)?;
        cluster.import()?;
        Ok(cluster)
    }

    /// Imports the test image on every host.
    pub fn import(&self) -> Result<()> {
        let archive = self.dir.path().join("testweb.tar");
        image::build(&archive, true)?;
        for host in &self.hosts {
            host.rnctl(&["import", &archive.display().to_string(), IMAGE])?;
        }
        Ok(())
    }

    /// Waits until `n` nodes are ready.
    pub fn wait_ready(&self, n: usize) -> Result<()> {
        wait::until(&format!("{n} nodes are Ready"), wait::LONG, || {
            let list = self.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
            let ready = list.lines().filter(|l| l.ends_with(" Ready")).count();
            ensure!(ready == n, "node ls says:\n{list}");
            Ok(())
        })
    }

    /// The manager.
    pub fn manager(&self) -> &Host {
        &self.hosts[0]
    }

    /// Creates a service of the test image; arguments before the image.
    pub fn service(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["service", "create", "-d"];
        all.extend_from_slice(args);
        all.extend_from_slice(&[IMAGE, "/bin/rn-testd"]);
        self.manager().rnctl(&all)
    }

    /// Waits until the service has `n` running tasks and no other.
    pub fn wait_running(&self, service: &str, n: usize) -> Result<()> {
        wait::until(&format!("{service} has {n} running tasks"), wait::LONG, || {
            let (running, detail) = self.running(service)?;
            ensure!(running.len() == n, "service ps says:\n{detail}");
            Ok(())
        })
    }

    /// The running tasks of a service as (name with id, node), and what `service ps` printed.
    pub fn running(&self, service: &str) -> Result<(Vec<(String, String)>, String)> {
        let format = "{{.Name}}.{{.ID}}|{{.Node}}|{{.DesiredState}}|{{.CurrentState}}|{{.Error}}";
        let list = self.manager().rnctl(&["service", "ps", "--no-trunc", "--format", format, service])?;
        let running = list
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split('|').collect();
                let live = fields.get(2) == Some(&"Running") && fields.get(3)?.starts_with("Running");
                live.then(|| (fields[0].trim().to_owned(), fields[1].to_owned()))
            })
            .collect();
        Ok((running, list))
    }

    /// A running container of the service on this host.
    pub fn container(&self, host: &Host, service: &str) -> Result<String> {
        host.containers()?
            .into_iter()
            .find(|name| name.starts_with(&format!("{service}.")))
            .with_context(|| format!("no container of {service} on {}", host.name))
    }

    /// Both addresses of every host with this port.
    pub fn everywhere(&self, port: u16) -> Vec<SocketAddr> {
        self.hosts
            .iter()
            .flat_map(|h| [SocketAddr::new(h.v4(), port), SocketAddr::new(h.v6(), port)])
            .collect()
    }

    /// Waits until a port answers on every host, on both families.
    pub fn wait_answers(&self, port: u16) -> Result<()> {
        for addr in self.everywhere(port) {
            wait::until(&format!("{addr} answers"), wait::SHORT, || {
                crate::probe::get_from(&self.client.path(), addr, "/")
            })?;
        }
        Ok(())
    }

    /// The client's address of the same family as `addr`.
    pub fn client_addr(&self, addr: IpAddr) -> IpAddr {
        if addr.is_ipv4() { self.client_port.v4.into() } else { self.client_port.v6.into() }
    }

    /// The first task's host, and another one.
    pub fn local_and_remote<'a>(&'a self, node: &str) -> Result<(&'a Host, &'a Host)> {
        let local = self.hosts.iter().find(|h| h.name == node).with_context(|| format!("no host {node}"))?;
        let remote = self.hosts.iter().find(|h| h.name != node).context("only one host")?;
        Ok((local, remote))
    }
}
