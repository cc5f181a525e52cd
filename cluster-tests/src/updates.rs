//! A service on three nodes that is replaced again and again while clients of every kind ask it: through the mesh and by
//! virtual address, over IPv4 and IPv6, on kept and on new connections.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    Cluster, Host,
    http_load::{self, Clients, HttpLoad},
    wait,
};

/// The service.
pub const WEB: &str = "web";
/// Where it is published.
const PORT: u16 = 8080;

/// How much is asked.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients that keep their connections.
    pub keep_alive: usize,
    /// Between an answer and the next request of such a client.
    pub think: Duration,
    /// New connections a second.
    pub new_per_second: u32,
}

/// What three nodes on one machine answer with ease.
pub const SIZE: Size = Size { keep_alive: 24, think: Duration::from_millis(20), new_per_second: 200 };

/// Three nodes, the service with three tasks, and a caller on each node.
pub struct Updates {
    /// The cluster.
    pub cluster: Cluster,
}

impl Updates {
    /// Makes it, with this `--update-order` and a health check. All of it answers.
    pub fn new(order: &str) -> Result<Self> {
        let mut health = vec!["--health-cmd", "rn-testd get 127.0.0.1:80", "--health-interval", "10s"];
        health.extend(["--health-start-period", "30s", "--health-start-interval", "50ms"]);
        Self::with(order, &health)
    }

    /// The same, with these flags in place of a health check.
    pub fn with(order: &str, flags: &[&str]) -> Result<Self> {
        let cluster = Cluster::with_image(3)?;
        cluster.manager().rnctl(&["network", "create", "-d", "overlay", "app"])?;
        let port = format!("{PORT}:80");
        let mut args = vec!["--name", WEB, "--network", "app", "--replicas", "3", "--publish", &port];
        args.extend(["--update-order", order, "--update-monitor", "200ms"]);
        args.extend(flags);
        cluster.service(&args)?;
        cluster.service(&["--name", "caller", "--network", "app", "--mode", "global"])?;
        cluster.wait_running(WEB, 3)?;
        cluster.wait_running("caller", 3)?;
        cluster.wait_answers(PORT)?;
        Ok(Self { cluster })
    }

    /// Lets clients loose on these hosts: half of them come from outside, the others are callers on the hosts.
    pub fn storm(&self, hosts: &[usize], size: Size) -> Result<HttpLoad> {
        let hosts: Vec<&Host> = hosts.iter().map(|n| &self.cluster.hosts[*n]).collect();
        let vips = self.vips()?;
        let published =
            hosts.iter().flat_map(|h| [SocketAddr::new(h.v4(), PORT), SocketAddr::new(h.v6(), PORT)]);
        let half = |ns: PathBuf, targets: Vec<SocketAddr>, share: usize| Clients {
            ns,
            targets,
            keep_alive: size.keep_alive / 2 / share,
            think: size.think,
            new_per_second: size.new_per_second / 2 / u32::try_from(share).unwrap_or(1),
        };
        let mut clients = vec![half(self.cluster.client.path(), published.collect(), 1)];
        for host in &hosts {
            let container = self.cluster.container(host, "caller")?;
            let pid = host.rnctl(&["inspect", "--format", "{{.State.Pid}}", &container])?;
            clients.push(half(format!("/proc/{pid}/ns/net").into(), vips.clone(), hosts.len()));
        }
        Ok(HttpLoad::start(clients))
    }

    /// The service's virtual addresses, of both families.
    fn vips(&self) -> Result<Vec<SocketAddr>> {
        let text = self.cluster.inspect(WEB, "{{json .Endpoint.VirtualIPs}}")?;
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).context("VirtualIPs")?;
        let addr = |v: &serde_json::Value| {
            let text = v["Addr"].as_str()?.split('/').next()?;
            Some(SocketAddr::new(text.parse().ok()?, 80))
        };
        let vips: Vec<_> = list.iter().filter_map(addr).collect();
        ensure!(vips.len() == 2, "one address of each family: {text}");
        Ok(vips)
    }

    /// Replaces all tasks, to the end.
    pub fn replace(&self) -> Result<()> {
        let before = self.cluster.running(WEB)?.0;
        self.cluster.manager().rnctl(&["service", "update", "-d", "--force", WEB])?;
        wait::until("all tasks are replaced", wait::LONG, || {
            let (now, list) = self.cluster.running(WEB)?;
            ensure!(now.len() == 3 && now.iter().all(|t| !before.contains(t)), "{list}");
            Ok(())
        })?;
        self.cluster.wait_update(WEB, "completed")
    }
    /// Replaces all tasks twice while clients ask all three nodes, and makes sure that no request failed. `label` is for the figures.
    pub fn replaced_under_load(&self, label: &str) -> Result<()> {
        let storm = self.storm(&[0, 1, 2], SIZE)?;
        storm.wait_for(500);
        for _ in 0..2 {
            self.replace()?;
        }
        storm.wait_for(500);
        let report = storm.stop()?;
        println!(
            "{label}: {} requests on {} connections to {} tasks, {} failed, slowest {:?}",
            report.done(),
            report.connections,
            report.tasks.len(),
            report.failures.len(),
            report.slowest
        );
        ensure!(report.failures.is_empty(), "{}", http_load::describe(&report.failures));
        ensure!(report.tasks.len() == 9, "three times three tasks have answered: {:?}", report.tasks);
        ensure!(report.answered.len() == 8, "by all addresses: {:?}", report.answered);
        Ok(())
    }
}
