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
    /// Whom commands are given to; the first host at first.
    asked: usize,
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
        let mut cluster = Self { hosts, client, client_port, lan, dir, asked: 0, _turn: turn };
        for host in &mut cluster.hosts {
            host.flags = flags.iter().map(|f| (*f).to_owned()).collect();
            host.start()?;
        }
        Ok(cluster)
    }

    /// A swarm of `n` hosts, all ready; the first is the manager.
    pub fn swarm(n: usize) -> Result<Self> {
        Self::managed(1, n)
    }

    /// A swarm of `n` hosts, all ready; the first `managers` of them are managers.
    pub fn managed(managers: usize, n: usize) -> Result<Self> {
        Self::managed_with(managers, n, &[])
    }

    /// The same, with these flags for each daemon.
    pub fn managed_with(managers: usize, n: usize, flags: &[&str]) -> Result<Self> {
        let cluster = Self::daemons_with(n, flags)?;
        cluster.form(managers)?;
        Ok(cluster)
    }

    /// Makes a swarm of the hosts, all ready; the first `managers` of them are managers.
    pub fn form(&self, managers: usize) -> Result<()> {
        let first = &self.hosts[0];
        first.rnctl(&["swarm", "init", "--advertise-addr", &first.v4().to_string()])?;
        for (k, host) in self.hosts.iter().enumerate().skip(1) {
            self.join(host, if k < managers { "manager" } else { "worker" })?;
        }
        self.wait_ready(self.hosts.len())?;
        self.wait_managers(managers)
    }

    /// Lets a host join as a `worker` or `manager`; what it printed.
    pub fn join(&self, host: &Host, role: &str) -> Result<String> {
        let manager = self.manager();
        let token = manager.rnctl(&["swarm", "join-token", "-q", role])?;
        let (own, addr) = (host.v4().to_string(), format!("{}:2377", manager.v4()));
        host.rnctl(&["swarm", "join", "--token", &token, "--advertise-addr", &own, &addr])
    }

    /// Waits until `n` managers are part of raft and answer, one of them the leader.
    pub fn wait_managers(&self, n: usize) -> Result<()> {
        wait::until(&format!("{n} managers answer"), wait::LONG, || {
            let list = self.statuses()?;
            let count = |status: &str| list.iter().filter(|(_, s)| s == status).count();
            ensure!(count("Leader") == 1 && count("Reachable") == n - 1, "node ls says: {list:?}");
            Ok(())
        })
    }

    /// Host names and what `node ls` says of them as managers.
    pub fn statuses(&self) -> Result<Vec<(String, String)>> {
        let list = self.manager().rnctl(&["node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}"])?;
        let pairs = list.lines().filter_map(|l| l.split_once(' '));
        Ok(pairs.map(|(name, status)| (name.to_owned(), status.trim().to_owned())).collect())
    }

    /// The place in `hosts` of the leader, as the host that is asked sees it.
    pub fn leader(&self) -> Result<usize> {
        let statuses = self.statuses()?;
        let leader = statuses.iter().find(|(_, s)| s == "Leader").context("no leader")?;
        self.hosts.iter().position(|h| h.name == leader.0).context("the leader is no host of this test")
    }

    /// Gives commands to this host from now on.
    pub fn ask(&mut self, host: usize) {
        self.asked = host;
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

    /// Imports the test image once more on every host, under another reference and with `import --change` instructions.
    pub fn import_as(&self, reference: &str, changes: &[&str]) -> Result<()> {
        let archive = self.dir.path().join("testweb.tar").display().to_string();
        for host in &self.hosts {
            let mut args = vec!["import"];
            for change in changes {
                args.extend(["--change", change]);
            }
            args.extend([archive.as_str(), reference]);
            host.rnctl(&args)?;
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

    /// The manager that commands are given to.
    pub fn manager(&self) -> &Host {
        &self.hosts[self.asked]
    }

    /// Creates a service of the test image; arguments before the image.
    pub fn service(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["service", "create", "-d"];
        all.extend_from_slice(args);
        all.extend_from_slice(&[IMAGE, "/bin/rn-testd"]);
        self.manager().rnctl(&all)
    }

    /// Runs `service update` to its end; what it printed.
    pub fn update(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["service", "update"];
        all.extend_from_slice(args);
        self.manager().rnctl(&all)
    }

    /// `service inspect` by a template.
    pub fn inspect(&self, service: &str, template: &str) -> Result<String> {
        self.manager().rnctl(&["service", "inspect", "--format", template, service])
    }

    /// Waits until the update of a service has come to this state.
    pub fn wait_update(&self, service: &str, state: &str) -> Result<()> {
        wait::until(&format!("the update of {service} is {state}"), wait::LONG, || {
            let now = self.inspect(service, "{{json .UpdateStatus}}")?;
            ensure!(now.contains(&format!("\"{state}\"")), "{now}");
            Ok(())
        })
    }

    /// The host on which a task is, by its node's name.
    pub fn host(&self, node: &str) -> Result<&Host> {
        self.hosts.iter().find(|h| h.name == node).with_context(|| format!("no host {node}"))
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
                // A task beside a newer one of its slot is drawn under it.
                let name = fields[0].trim().trim_start_matches("\\_ ");
                live.then(|| (name.to_owned(), fields[1].to_owned()))
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
