//! `network`.

use std::{collections::BTreeMap, net::IpAddr};

use clap::{ArgAction, Args, Subcommand};
use ipnet::IpNet;
use proto::{
    error::{ApiError, Kind},
    model::{IpamConfig, Network, NetworkSpec},
    pb,
};

use super::{all_typed, get, is_elsewhere, typed};
use crate::{
    connect::Daemon,
    exit::Failure,
    output::{
        self, complain,
        filter::Filters,
        listing::{ListFlags, Row},
        short_id,
    },
    parse::keyval,
    view::{self, network::LISTING},
};

/// Commands about networks.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a network
    Create(Box<CreateArgs>),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListArgs),
    /// Show everything about networks
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
}

/// Flags of `network create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl network create -d overlay app
  rnctl network create -d overlay --subnet 10.10.0.0/16 --subnet fd10::/64 app")]
pub struct CreateArgs {
    /// The network's name
    #[arg(value_name = "NETWORK")]
    name: String,
    /// overlay spans the swarm, bridge is this machine's
    #[arg(short, long, default_value = "bridge")]
    driver: String,
    /// Let standalone containers join (overlay only)
    #[arg(long)]
    attachable: bool,
    /// No way out of the network
    #[arg(long)]
    internal: bool,
    /// Make it the network of the routing mesh
    #[arg(long)]
    ingress: bool,
    /// Have IPv4 [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    ipv4: bool,
    /// Have IPv6 [default: true for overlay, false for others]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    ipv6: Option<bool>,
    /// A subnet; may be repeated. 0.0.0.0/24 or ::/64 is any of that size [default: one from the pools]
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<IpNet>,
    /// Gateway of a subnet; may be repeated [default: the first address]
    #[arg(long, value_name = "IP")]
    gateway: Vec<IpAddr>,
    /// Hand out addresses from this part of a subnet only; may be repeated
    #[arg(long, value_name = "CIDR")]
    ip_range: Vec<IpNet>,
    /// An address that is never handed out; may be repeated
    #[arg(long, value_name = "NAME=IP", value_parser = keyval::strict_pair)]
    aux_address: Vec<(String, String)>,
    /// IPAM driver
    #[arg(long, default_value = "default")]
    ipam_driver: String,
    /// Option of the IPAM driver; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::pair)]
    ipam_opt: Vec<(String, String)>,
    /// Option of the driver, for instance com.docker.network.driver.mtu=1400 or encrypted; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::pair)]
    opt: Vec<(String, String)>,
    /// Label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label: Vec<(String, String)>,
    /// swarm or local; the driver decides otherwise
    #[arg(long)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true, value_name = "NETWORK")]
    config_from: Option<String>,
}

/// Flags of `network ls`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only some: driver=, id=, label=, name=, scope=, type=custom|builtin
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `network inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Networks, by id or name
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
    /// 'json', or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Show the tasks of the network on all nodes (not supported)
    #[arg(short, long, hide = true)]
    verbose: bool,
}

/// Flags of `network rm`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Networks, by id or name
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
    /// Do not fail when a network does not exist
    #[arg(short, long)]
    force: bool,
}

/// Runs a `network` command.
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(rn, *args).await,
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => {
            if args.verbose {
                return Err(Failure::local("--verbose is not supported")
                    .with_help("leave it out; rnctl service ps lists the tasks of a service"));
            }
            let (mut rows, mut failures) = (Vec::new(), Vec::new());
            for key in &args.networks {
                match find(rn, key).await {
                    Ok(row) => rows.push(row),
                    Err(failure) => failures.push(failure),
                }
            }
            super::inspect::print(&rows, args.format.as_deref())?;
            Failure::all(failures)
        }
        Command::Rm(args) => remove(rn, args).await,
    }
}

impl CreateArgs {
    /// What is asked for. Pure.
    fn spec(self) -> Result<NetworkSpec, Failure> {
        if self.config_only || self.config_from.is_some() {
            return Err(Failure::local("--config-only and --config-from are not supported")
                .with_help("give the settings to `network create` itself"));
        }
        let overlay = self.driver == "overlay";
        match self.scope.as_deref() {
            None => {}
            Some("swarm") if overlay => {}
            Some("local") if !overlay => {}
            Some(scope) => {
                return Err(Failure::local(format!(
                    "--scope {scope} is not supported with driver {}: overlay is swarm, others are local",
                    self.driver
                )));
            }
        }
        let ipam = ipam(&self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?;
        Ok(NetworkSpec {
            name: self.name,
            labels: keyval::map(&self.label),
            driver: self.driver,
            options: keyval::map(&self.opt),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            ipv4: self.ipv4,
            ipv6: self.ipv6.unwrap_or(overlay),
            ipam_driver: self.ipam_driver,
            ipam_options: keyval::map(&self.ipam_opt),
            ipam,
        })
    }
}

/// Gives each gateway, range and auxiliary address to the subnet that holds it.
fn ipam(
    subnets: &[IpNet],
    ranges: &[IpNet],
    gateways: &[IpAddr],
    aux: &[(String, String)],
) -> Result<Vec<IpamConfig>, Failure> {
    let mut configs: Vec<IpamConfig> =
        subnets.iter().map(|s| IpamConfig { subnet: Some(*s), ..IpamConfig::default() }).collect();
    for (k, a) in subnets.iter().enumerate() {
        // 0.0.0.0/24 asks for any subnet of that size, so two of them do not collide.
        let real = |n: &IpNet| !n.addr().is_unspecified();
        if let Some(b) = subnets[..k].iter().find(|b| real(a) && real(b) && (a.contains(*b) || b.contains(a)))
        {
            return Err(Failure::local(format!(
                "multiple overlapping subnet configuration is not supported: {b} and {a}"
            )));
        }
    }
    for range in ranges {
        let config = holder(&mut configs, |s| s.contains(range))
            .ok_or_else(|| Failure::local(format!("no matching subnet for range {range}")))?;
        if config.ip_range.replace(*range).is_some() {
            return Err(Failure::local("cannot configure multiple ranges on the same subnet"));
        }
    }
    for gateway in gateways {
        let config = holder(&mut configs, |s| s.contains(gateway))
            .ok_or_else(|| Failure::local(format!("no matching subnet for gateway {gateway}")))?;
        if config.gateway.replace(*gateway).is_some() {
            return Err(Failure::local("cannot configure multiple gateways on the same subnet"));
        }
    }
    for (name, text) in aux {
        let addr: IpAddr = text
            .parse()
            .map_err(|_| Failure::local(format!("--aux-address {name}: {text:?} is not an IP address")))?;
        let config = holder(&mut configs, |s| s.contains(&addr))
            .ok_or_else(|| Failure::local(format!("no matching subnet for aux-address {addr}")))?;
        config.aux_addresses.insert(name.clone(), addr);
    }
    Ok(configs)
}

fn holder(configs: &mut [IpamConfig], test: impl Fn(&IpNet) -> bool) -> Option<&mut IpamConfig> {
    configs.iter_mut().find(|c| c.subnet.as_ref().is_some_and(&test))
}

async fn create(rn: &Daemon, args: CreateArgs) -> Result<(), Failure> {
    let spec = args.spec()?;
    let request = pb::CreateNetworkRequest { spec: Some(spec.into()) };
    let network = rn.control().create_network(request).await?.into_inner();
    output::line(&network.id);
    Ok(())
}

/// The networks of the cluster and of this machine. Either side may be missing: a worker knows no cluster, and a network of
/// the cluster that has tasks here is known to both.
async fn both(rn: &Daemon) -> Result<(Vec<Network>, BTreeMap<String, pb::LocalNetwork>), Failure> {
    let cluster = rn.control().list_networks(pb::ListNetworksRequest {}).await;
    let local = rn.local().list_local_networks(pb::ListNetworksRequest {}).await;
    let cluster = match cluster {
        Ok(reply) => all_typed(reply.into_inner().networks)?,
        Err(status) if is_elsewhere(&status) && local.is_ok() => Vec::new(),
        Err(status) => return Err(status.into()),
    };
    let local = match local {
        Ok(reply) => reply.into_inner().networks.into_iter().map(|n| (n.id.clone(), n)).collect(),
        Err(status) if is_elsewhere(&status) => BTreeMap::new(),
        Err(status) => return Err(status.into()),
    };
    Ok((cluster, local))
}

const BUILTIN: [&str; 5] = ["bridge", "host", "none", "ingress", "rn_gwbridge"];

async fn list(rn: &Daemon, args: ListArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["driver", "id", "label", "name", "scope", "type"])?
        .one_of("scope", &["swarm", "local", "global"])?
        .one_of("type", &["custom", "builtin"])?;
    let kind = |name: &str| if BUILTIN.contains(&name) { "builtin" } else { "custom" };
    let wanted = |id: &str, name: &str, driver: &str, scope: &str| {
        filters.any("id", |v| id.contains(v))
            && filters.any("name", |v| name.contains(v))
            && filters.any("driver", |v| driver == v)
            && filters.any("scope", |v| scope == v)
            && filters.any("type", |v| kind(name) == v)
    };
    let shown = |id: &str| if args.no_trunc { id.to_owned() } else { short_id(id).to_owned() };
    let (cluster, mut local) = both(rn).await?;
    let mut lines: Vec<(String, Row)> = Vec::new();
    for network in &cluster {
        let (id, spec) = (network.id.as_str(), &network.spec);
        local.remove(id);
        if wanted(id, &spec.name, &spec.driver, "swarm") && filters.labels("label", &spec.labels) {
            lines.push((spec.name.clone(), view::network::row(network, &shown(id))));
        }
    }
    for network in
        local.values().filter(|n| wanted(&n.id, &n.name, &n.driver, &n.scope) && !filters.has("label"))
    {
        lines.push((network.name.clone(), view::network::local_row(network, &shown(&network.id))));
    }
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    let rows: Vec<Row> = lines.into_iter().map(|(_, row)| row).collect();
    LISTING.print(&rows, &args.list)
}

/// `inspect` of one network, of the cluster or of this machine.
pub async fn find(rn: &Daemon, key: &str) -> Result<Row, Failure> {
    let refused = match rn.control().get_network(get(key)).await {
        Ok(reply) => {
            let network: Network = typed(reply.into_inner())?;
            let local = locals(rn).await;
            let local = local.iter().find(|n| n.id == network.id.as_str());
            return Ok(view::network::inspect(&network, local));
        }
        Err(status) if is_elsewhere(&status) => status,
        Err(status) => return Err(status.into()),
    };
    let local = locals(rn).await;
    let by_prefix: Vec<_> = local.iter().filter(|n| n.id.starts_with(key)).collect();
    match (local.iter().find(|n| n.id == key || n.name == key), by_prefix.as_slice()) {
        (Some(network), _) => Ok(view::network::local_inspect(network)),
        (None, [network]) => Ok(view::network::local_inspect(network)),
        _ if ApiError::from_status(&refused).kind == Kind::NotFound => Err(refused.into()),
        _ => Err(ApiError::not_found(format!("network {key:?} not found")).into()),
    }
}

async fn locals(rn: &Daemon) -> Vec<pb::LocalNetwork> {
    let reply = rn.local().list_local_networks(pb::ListNetworksRequest {}).await;
    reply.map(|r| r.into_inner().networks).unwrap_or_default()
}

async fn remove(rn: &Daemon, args: RemoveArgs) -> Result<(), Failure> {
    let mut failed = false;
    for key in &args.networks {
        let request = pb::RemoveRequest { key: key.clone(), force: args.force };
        match rn.control().remove_network(request).await {
            Ok(_) => output::line(key),
            Err(status) if args.force && ApiError::from_status(&status).kind == Kind::NotFound => {}
            Err(status) => {
                complain(&Failure::from(status).to_string());
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Code(1)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn each_part_goes_to_its_subnet() {
        let configs = ipam(
            &nets(&["10.1.0.0/16", "fd01::/64"]),
            &nets(&["fd01::/80"]),
            &["10.1.0.254".parse().unwrap(), "fd01::fe".parse().unwrap()],
            &[("router".into(), "10.1.0.7".into())],
        )
        .unwrap();
        assert_eq!(configs[0].gateway, Some("10.1.0.254".parse().unwrap()));
        assert_eq!(configs[0].ip_range, None);
        assert_eq!(configs[0].aux_addresses.len(), 1);
        assert_eq!(configs[1].ip_range, Some("fd01::/80".parse().unwrap()));
    }

    #[test]
    fn what_fits_nowhere_is_refused() {
        let subnet = nets(&["10.1.0.0/16"]);
        let gateway = |a: &str| a.parse::<IpAddr>().unwrap();
        assert!(ipam(&subnet, &[], &[gateway("10.2.0.1")], &[]).is_err());
        assert!(ipam(&subnet, &nets(&["10.2.0.0/24"]), &[], &[]).is_err());
        assert!(ipam(&subnet, &[], &[gateway("10.1.0.1"), gateway("10.1.0.2")], &[]).is_err());
        assert!(ipam(&subnet, &[], &[], &[("a".into(), "10.2.0.1".into())]).is_err());
        assert!(ipam(&nets(&["10.1.0.0/16", "10.1.2.0/24"]), &[], &[], &[]).is_err());
        assert!(ipam(&nets(&["0.0.0.0/24", "0.0.0.0/24"]), &[], &[], &[]).is_ok());
    }
}
