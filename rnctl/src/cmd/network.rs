//! `network`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{ArgAction, Args, Subcommand};
use docker_api::network::{
    Ipam, IpamSubnet, NetworkCreateRequest, NetworkCreateResponse, NetworkInspect, NetworkPruneResponse,
    OPTION_IPV6,
};
use ipnet::IpNet;
use proto::model::IpamConfig;
use serde_json::{Value, json};

use super::confirm;
use crate::{
    api::Client,
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
    /// Remove the networks that nothing uses
    Prune(PruneArgs),
    /// Put a container of this machine on a network
    Connect(ConnectArgs),
    /// Take a container of this machine off a network
    Disconnect(DisconnectArgs),
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
          default_missing_value = "true", hide_possible_values = true)]
    ipv4: Option<bool>,
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
    /// Show only some: dangling=, driver=, id=, label=, name=, scope=, type=custom|builtin
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
    /// With its services, and their tasks on all nodes
    #[arg(short, long)]
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

/// Flags of `network prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove only some: label=, label!=, until=
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Flags of `network connect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl network connect app shell
  rnctl network connect --alias db --ip 10.0.1.9 app postgres")]
pub struct ConnectArgs {
    /// The network, by id or name
    network: String,
    /// The container, by id or name
    container: String,
    /// Another name of the container there; may be repeated
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// IPv4 address it shall have there
    #[arg(long, value_name = "IP")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address it shall have there
    #[arg(long, value_name = "IP")]
    ip6: Option<Ipv6Addr>,
    /// Option of the driver for this container; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::strict_pair)]
    driver_opt: Vec<(String, String)>,
    /// Which network leads out of the container: the highest number
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i64>,
    #[arg(long, hide = true, value_name = "CONTAINER")]
    link: Vec<String>,
    #[arg(long, hide = true, value_name = "IP")]
    link_local_ip: Vec<String>,
}

/// Flags of `network disconnect`.
#[derive(Debug, Args)]
pub struct DisconnectArgs {
    /// The network, by id or name
    network: String,
    /// The container, by id or name
    container: String,
    /// Even where the container is gone
    #[arg(short, long)]
    force: bool,
}

/// Runs a `network` command.
pub async fn run(rn: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(rn, *args).await,
        Command::Ls(args) => list(rn, args).await,
        Command::Inspect(args) => inspect(rn, args).await,
        Command::Rm(args) => remove(rn, args).await,
        Command::Prune(args) => prune(rn, args).await,
        Command::Connect(args) => connect(rn, args).await,
        Command::Disconnect(args) => disconnect(rn, args).await,
    }
}

impl ConnectArgs {
    /// What is asked for. Pure.
    fn request(&self) -> Result<Value, Failure> {
        if !self.link.is_empty() || !self.link_local_ip.is_empty() {
            return Err(Failure::local("--link and --link-local-ip are not supported")
                .with_help("containers find each other by name on a network; --alias gives one more"));
        }
        Ok(json!({
            "Container": self.container,
            "EndpointConfig": {
                "Aliases": self.alias,
                "IPAMConfig": {
                    "IPv4Address": self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                    "IPv6Address": self.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
                },
                "DriverOpts": keyval::map(&self.driver_opt),
                "GwPriority": self.gw_priority.unwrap_or_default(),
            },
        }))
    }
}

impl CreateArgs {
    /// What is asked for. Pure.
    fn request(self) -> Result<NetworkCreateRequest, Failure> {
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
        let subnets = ipam(&self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?;
        let mut options = keyval::map(&self.opt);
        if overlay && self.ipv6 == Some(false) {
            // `EnableIPv6: false` is what Docker's clients send where nothing was said.
            options.insert(OPTION_IPV6.into(), "false".into());
        }
        Ok(NetworkCreateRequest {
            name: self.name,
            labels: keyval::map(&self.label),
            driver: self.driver,
            scope: self.scope.unwrap_or_default(),
            options,
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Ipam {
                driver: self.ipam_driver,
                options: Some(keyval::map(&self.ipam_opt)).filter(|o| !o.is_empty()),
                config: subnets.iter().map(IpamSubnet::from).collect(),
            },
            ..NetworkCreateRequest::default()
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

async fn create(rn: &Client, args: CreateArgs) -> Result<(), Failure> {
    let request = args.request()?;
    let made: NetworkCreateResponse = rn.post(&["networks", "create"]).body(&request).json().await?;
    if !made.warning.is_empty() {
        complain(&format!("WARNING: {}", made.warning));
    }
    output::line(&made.id);
    Ok(())
}

async fn list(rn: &Client, args: ListArgs) -> Result<(), Failure> {
    let filters =
        Filters::parse(&args.filter, &["dangling", "driver", "id", "label", "name", "scope", "type"])?
            .one_of("scope", &["swarm", "local", "global"])?
            .one_of("type", &["custom", "builtin"])?;
    let mut networks: Vec<NetworkInspect> = rn.get(&["networks"]).filters(&filters).json().await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let shown = |id: &str| if args.no_trunc { id.to_owned() } else { short_id(id).to_owned() };
    let rows: Vec<Row> = networks.iter().map(|n| view::network::row(n, &shown(&n.id))).collect();
    LISTING.print(&rows, &args.list)
}

async fn inspect(rn: &Client, args: InspectArgs) -> Result<(), Failure> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for key in &args.networks {
        match find(rn, key, args.verbose).await {
            Ok(row) => rows.push(row),
            Err(failure) => failures.push(failure),
        }
    }
    super::inspect::print(&rows, args.format.as_deref())?;
    Failure::all(failures)
}

/// `inspect` of one network, of the cluster or of this machine; `verbose`: with its services and their tasks.
pub async fn find(rn: &Client, key: &str, verbose: bool) -> Result<Row, Failure> {
    rn.get(&["networks", key]).flag("verbose", verbose).object().await
}

async fn remove(rn: &Client, args: RemoveArgs) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for key in &args.networks {
        match rn.delete(&["networks", key]).done().await {
            Ok(()) => output::line(key),
            Err(failure) if args.force && failure.is_not_found() => {}
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

async fn prune(rn: &Client, args: PruneArgs) -> Result<(), Failure> {
    let filters = Filters::parse(&args.filter, &["label", "label!", "until"])?;
    if !confirm::asked(
        args.force,
        "WARNING! This will remove all custom networks not used by at least one container.",
    )? {
        return Ok(());
    }
    let gone: NetworkPruneResponse = rn.post(&["networks", "prune"]).filters(&filters).json().await?;
    let names = gone.networks_deleted.unwrap_or_default();
    if !names.is_empty() {
        output::line(&format!("Deleted Networks:\n{}\n", names.join("\n")));
    }
    Ok(())
}

async fn connect(rn: &Client, args: ConnectArgs) -> Result<(), Failure> {
    let request = args.request()?;
    rn.post(&["networks", &args.network, "connect"]).body(&request).done().await
}

async fn disconnect(rn: &Client, args: DisconnectArgs) -> Result<(), Failure> {
    let request = json!({"Container": args.container, "Force": args.force});
    rn.post(&["networks", &args.network, "disconnect"]).body(&request).done().await
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
