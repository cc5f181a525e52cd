//! One running task, from outside.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, Result};

use super::queries::{self, Type};
use crate::{
    Cluster, Host,
    lan::{self, enter, run},
};

/// A task's container on a host.
#[derive(Debug, Clone)]
pub struct Task {
    /// The container's name.
    pub name: String,
    /// Its first process.
    pub pid: i32,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Its addresses on a network.
    pub addrs: Vec<IpAddr>,
}

impl Task {
    /// A running task of the service on the host, with its addresses on `network`.
    pub fn of(cluster: &Cluster, host: &Host, service: &str, network: &str) -> Result<Self> {
        let name = cluster.container(host, service)?;
        let text = host.rnctl(&["inspect", &name])?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let value = value.get(0).context("inspect printed an empty list")?;
        let on = &value["NetworkSettings"]["Networks"][network];
        let addrs = ["IPAddress", "GlobalIPv6Address"]
            .iter()
            .filter_map(|key| on[*key].as_str())
            .filter_map(|text| text.parse().ok())
            .collect();
        let netns = value["NetworkSettings"]["SandboxKey"].as_str().context("no SandboxKey")?.into();
        let pid = value["State"]["Pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("no Pid")?;
        Ok(Self { name, pid, netns, addrs })
    }

    /// Its resolver, from inside.
    pub const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

    /// An address that a name has for this task.
    pub fn resolve(&self, name: &str, v4: bool) -> Result<IpAddr> {
        let kind = if v4 { Type::A } else { Type::Aaaa };
        let addrs = enter(&self.netns, || queries::addresses(Self::RESOLVER, name, kind))??;
        addrs.first().copied().with_context(|| format!("{name} has no address"))
    }

    /// MTU of its interface on the network of its addresses.
    pub fn mtu(&self) -> Result<u32> {
        let addr = self.addr(true)?.to_string();
        let output = run(lan::command(&self.netns, "ip").args(["-j", "addr"]))?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let has = |link: &&serde_json::Value| {
            link["addr_info"].as_array().is_some_and(|all| all.iter().any(|a| a["local"] == addr.as_str()))
        };
        let link = links.as_array().and_then(|all| all.iter().find(has)).context("no such interface")?;
        Ok(u32::try_from(link["mtu"].as_u64().context("mtu")?)?)
    }

    /// Its address of this family.
    pub fn addr(&self, v4: bool) -> Result<IpAddr> {
        let addr = self.addrs.iter().find(|a| a.is_ipv4() == v4);
        addr.copied().with_context(|| format!("{} has no IPv{} address", self.name, if v4 { 4 } else { 6 }))
    }
}
