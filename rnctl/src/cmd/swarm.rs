//! `swarm`.

mod ca;

use clap::{Args, Subcommand, ValueEnum};
use proto::{
    model::{ClusterSpec, Millis},
    pb,
};

use super::typed;
use crate::{connect::Daemon, exit::Failure, output, parse::units};

/// Managers listen here unless told otherwise.
const PORT: u16 = 2377;

/// Commands about the swarm.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a swarm, with this node as its first manager
    Init(InitArgs),
    /// Join a swarm as worker or manager; the token decides
    Join(JoinArgs),
    /// Leave the swarm
    Leave(LeaveArgs),
    /// Show or change the token that admits nodes
    JoinToken(TokenArgs),
    /// Change settings of the swarm
    Update(UpdateArgs),
    /// Show or replace the root CA
    Ca(ca::Args),
    /// Unlock this manager, which was locked when it started
    Unlock,
    /// Show or change the key that unlocks managers
    UnlockKey(UnlockKeyArgs),
}

/// Whether a node gets tasks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Availability {
    /// Gets tasks
    Active,
    /// Keeps its tasks, gets no new ones
    Pause,
    /// Its tasks go elsewhere
    Drain,
}

impl From<Availability> for pb::Availability {
    fn from(a: Availability) -> Self {
        match a {
            Availability::Active => pb::Availability::Active,
            Availability::Pause => pb::Availability::Pause,
            Availability::Drain => pb::Availability::Drain,
        }
    }
}

/// Settings that `init` and `update` share.
#[derive(Debug, Args)]
pub struct SpecFlags {
    /// Life of a node's certificate [default: 2160h]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    cert_expiry: Option<Millis>,
    /// How often a node speaks to a manager; three missed beats make it Down [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = units::duration)]
    dispatcher_heartbeat: Option<Millis>,
    /// Old snapshots of the raft log that are kept [default: 0]
    #[arg(long, value_name = "N")]
    max_snapshots: Option<u64>,
    /// Entries of the raft log between snapshots [default: 10000]
    #[arg(long, value_name = "N")]
    snapshot_interval: Option<u64>,
    /// Tasks kept for each place of a service, the live one among them; negative: all [default: 5]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    task_history_limit: Option<i64>,
    /// Keep managers locked after a restart until a key is given
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    autolock: Option<bool>,
    /// Use an external CA (not supported yet)
    #[arg(long, hide = true, value_name = "SPEC")]
    external_ca: Option<String>,
}

impl SpecFlags {
    fn apply(&self, spec: &mut ClusterSpec) -> Result<(), Failure> {
        no_external_ca(self.external_ca.as_deref())?;
        set(&mut spec.autolock, self.autolock);
        set(&mut spec.cert_expiry, self.cert_expiry);
        set(&mut spec.dispatcher_heartbeat, self.dispatcher_heartbeat);
        set(&mut spec.keep_old_snapshots, self.max_snapshots);
        set(&mut spec.snapshot_interval, self.snapshot_interval);
        set(&mut spec.task_history_limit, self.task_history_limit);
        Ok(())
    }
}

/// The managers are the swarm's only certificate authority.
fn no_external_ca(spec: Option<&str>) -> Result<(), Failure> {
    match spec {
        None => Ok(()),
        Some(_) => Err(Failure::local("--external-ca is not supported")
            .with_help("leave it out: the managers are the swarm's certificate authority")),
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Flags of `swarm init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl swarm init --advertise-addr 192.168.56.11")]
pub struct InitArgs {
    /// Address that other nodes reach this one at; found out when there is only one [IP or interface, and :port]
    #[arg(long, value_name = "ADDR", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Address to listen on
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:2377",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    listen_addr: String,
    /// Address or interface for the traffic of overlay networks [default: as --advertise-addr]
    #[arg(long, value_name = "ADDR", default_value = "", hide_default_value = true)]
    data_path_addr: String,
    /// UDP port of overlay traffic, 1024 to 49151; 0 is 4789
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    data_path_port: u32,
    /// Pool that subnets of overlay networks are cut from; may be repeated [default: 10.0.0.0/8]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    default_addr_pool: Vec<ipnet::IpNet>,
    /// Prefix length of those subnets
    #[arg(long, value_name = "N", default_value_t = 24)]
    default_addr_pool_mask_length: u32,
    /// Whether this node gets tasks
    #[arg(long, value_enum, default_value = "active")]
    availability: Availability,
    /// Start anew with this node alone, from its copy of the swarm's state
    #[arg(long)]
    force_new_cluster: bool,
    #[command(flatten)]
    spec: SpecFlags,
}

/// Flags of `swarm join`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl swarm join --token SWMTKN-1-… 192.168.56.11:2377")]
pub struct JoinArgs {
    /// A manager; the port is 2377 unless given
    #[arg(value_name = "HOST:PORT", required = true)]
    managers: Vec<String>,
    /// The token that `rnctl swarm join-token` shows on a manager
    #[arg(long)]
    token: String,
    /// Address that other nodes reach this one at; found out when left away [IP or interface, and :port]
    #[arg(long, value_name = "ADDR", default_value = "", hide_default_value = true)]
    advertise_addr: String,
    /// Address to listen on, for managers
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "0.0.0.0:2377",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    listen_addr: String,
    /// Address or interface for the traffic of overlay networks [default: as --advertise-addr]
    #[arg(long, value_name = "ADDR", default_value = "", hide_default_value = true)]
    data_path_addr: String,
    /// Whether this node gets tasks
    #[arg(long, value_enum, default_value = "active")]
    availability: Availability,
}

/// Flags of `swarm leave`.
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Leave even as a manager, though the swarm may lose its quorum or end
    #[arg(short, long)]
    force: bool,
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Runs tasks
    Worker,
    /// Runs tasks and takes part in decisions
    Manager,
}

/// Flags of `swarm join-token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What a node that joins with the token becomes
    #[arg(value_enum)]
    role: Role,
    /// Print the token only
    #[arg(short, long)]
    quiet: bool,
    /// Make a new token; the old one admits nobody from now on
    #[arg(long)]
    rotate: bool,
}

/// Flags of `swarm update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    spec: SpecFlags,
}

/// Flags of `swarm unlock-key`.
#[derive(Debug, Args)]
pub struct UnlockKeyArgs {
    /// Print the key only
    #[arg(short, long)]
    quiet: bool,
    /// Make a new key; managers that are down now still need the old one
    #[arg(long)]
    rotate: bool,
}

/// Runs a `swarm` command.
pub async fn run(rn: &Daemon, command: Command) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init(rn, args).await,
        Command::Join(args) => join(rn, args).await,
        Command::Leave(args) => {
            rn.local().swarm_leave(pb::SwarmLeaveRequest { force: args.force }).await?;
            output::line("Node left the swarm.");
            Ok(())
        }
        Command::JoinToken(args) => join_token(rn, args).await,
        Command::Update(args) => update(rn, args).await,
        Command::Ca(args) => ca::run(rn, args).await,
        Command::Unlock => unlock(rn).await,
        Command::UnlockKey(args) => unlock_key(rn, args).await,
    }
}

async fn init(rn: &Daemon, args: InitArgs) -> Result<(), Failure> {
    let mut spec = ClusterSpec::default();
    args.spec.apply(&mut spec)?;
    let request = pb::SwarmInitRequest {
        advertise_addr: args.advertise_addr,
        listen_addr: args.listen_addr,
        data_path_addr: args.data_path_addr,
        data_path_port: args.data_path_port,
        default_addr_pools: args.default_addr_pool.iter().map(ToString::to_string).collect(),
        subnet_size: args.default_addr_pool_mask_length,
        availability: pb::Availability::from(args.availability).into(),
        spec: Some(spec.into()),
        force_new_cluster: args.force_new_cluster,
    };
    let reply = rn.local().swarm_init(request).await?.into_inner();
    let addr = with_port(&reply.addr);
    output::line(&format!(
        "Swarm initialized: current node ({}) is now a manager.\n\n{}\n\
         To add a manager to this swarm, run 'rnctl swarm join-token manager' and follow the instructions.\n",
        reply.node_id,
        hint(Role::Worker, &reply.worker_token, &addr)
    ));
    if !reply.unlock_key.is_empty() {
        output::line(&unlock_hint(&reply.unlock_key));
    }
    Ok(())
}

fn hint(role: Role, token: &str, addr: &str) -> String {
    let role = if role == Role::Worker { "worker" } else { "manager" };
    format!(
        "To add a {role} to this swarm, run the following command:\n\n    rnctl swarm join --token {token} {addr}\n"
    )
}

/// `host`, `host:port`, `[v6]:port`, or a bare IPv6 address: the port of managers where none is given.
fn with_port(addr: &str) -> String {
    if let Ok(ip) = addr.parse::<std::net::IpAddr>() {
        return std::net::SocketAddr::new(ip, PORT).to_string();
    }
    match addr.rsplit_once(':') {
        Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => addr.to_owned(),
        _ => format!("{addr}:{PORT}"),
    }
}

async fn join(rn: &Daemon, args: JoinArgs) -> Result<(), Failure> {
    let request = pb::SwarmJoinRequest {
        remote_addrs: args.managers.iter().map(|m| with_port(m)).collect(),
        token: args.token,
        advertise_addr: args.advertise_addr,
        listen_addr: args.listen_addr,
        data_path_addr: args.data_path_addr,
        availability: pb::Availability::from(args.availability).into(),
    };
    let reply = rn.local().swarm_join(request).await?.into_inner();
    let role = if reply.role() == pb::Role::Manager { "manager" } else { "worker" };
    output::line(&format!("This node joined a swarm as a {role}."));
    Ok(())
}

async fn join_token(rn: &Daemon, args: TokenArgs) -> Result<(), Failure> {
    let mut control = rn.control();
    let mut cluster = control.get_cluster(pb::GetClusterRequest {}).await?.into_inner();
    let worker = args.role == Role::Worker;
    if args.rotate {
        let request = pb::UpdateClusterRequest {
            version: cluster.meta.unwrap_or_default().version,
            spec: None,
            rotate_worker_token: worker,
            rotate_manager_token: !worker,
            ..Default::default()
        };
        cluster = control.update_cluster(request).await?.into_inner();
        if !args.quiet {
            let role = if worker { "worker" } else { "manager" };
            output::line(&format!("Successfully rotated {role} join token.\n"));
        }
    }
    let root = cluster.root_ca.unwrap_or_default();
    let token = if worker { root.worker_token } else { root.manager_token };
    if args.quiet {
        output::line(&token);
        return Ok(());
    }
    let swarm = rn.local().info(pb::InfoRequest {}).await?.into_inner().swarm.unwrap_or_default();
    let own = swarm.remote_managers.iter().find(|m| m.node_id == swarm.node_id).map(|m| m.addr.clone());
    output::line(&hint(args.role, &token, &with_port(&own.unwrap_or(swarm.node_addr))));
    Ok(())
}

/// What is said of a key (wording as Docker's).
fn unlock_hint(key: &str) -> String {
    format!(
        "To unlock a swarm manager after it restarts, run the `rnctl swarm unlock`\ncommand and provide the following key:\n\n    {key}\n\n\
         Please remember to store this key in a password manager, since without it you\nwill not be able to restart the manager."
    )
}

async fn unlock(rn: &Daemon) -> Result<(), Failure> {
    let info = rn.local().info(pb::InfoRequest {}).await?.into_inner();
    match info.swarm.unwrap_or_default().state.as_str() {
        "inactive" => return Err(Failure::local("Error: This node is not part of a swarm")),
        "locked" => {}
        _ => return Err(Failure::local("Error: swarm is not locked")),
    }
    let key = read_key().map_err(|e| Failure::local(format!("cannot read the key: {e}")))?;
    rn.local().swarm_unlock(pb::SwarmUnlockRequest { key: key.trim().to_owned() }).await?;
    Ok(())
}

/// From the terminal, without showing it, or from standard input.
fn read_key() -> std::io::Result<String> {
    use std::io::{IsTerminal, stdin};
    let mut key = String::new();
    if !stdin().is_terminal() {
        stdin().read_line(&mut key)?;
        return Ok(key);
    }
    output::bytes(true, b"Enter unlock key: ");
    let before = nix::sys::termios::tcgetattr(stdin())?;
    let mut quiet = before.clone();
    quiet.local_flags.remove(nix::sys::termios::LocalFlags::ECHO);
    nix::sys::termios::tcsetattr(stdin(), nix::sys::termios::SetArg::TCSANOW, &quiet)?;
    let read = stdin().read_line(&mut key);
    nix::sys::termios::tcsetattr(stdin(), nix::sys::termios::SetArg::TCSANOW, &before)?;
    output::bytes(true, b"\n");
    read.map(|_| key)
}

async fn unlock_key(rn: &Daemon, args: UnlockKeyArgs) -> Result<(), Failure> {
    let mut control = rn.control();
    if args.rotate {
        let cluster = control.get_cluster(pb::GetClusterRequest {}).await?.into_inner();
        let version = cluster.meta.unwrap_or_default().version;
        let request = pb::UpdateClusterRequest { version, rotate_unlock_key: true, ..Default::default() };
        control.update_cluster(request).await?;
        if !args.quiet {
            output::line("Successfully rotated manager unlock key.\n");
        }
    }
    let key = control.get_unlock_key(pb::GetUnlockKeyRequest {}).await?.into_inner().key;
    if key.is_empty() {
        return Err(Failure::local("no unlock key is set")
            .with_help("rnctl swarm update --autolock turns autolock on, and shows the key"));
    }
    output::line(&if args.quiet { key } else { unlock_hint(&key) });
    Ok(())
}

async fn update(rn: &Daemon, args: UpdateArgs) -> Result<(), Failure> {
    let mut control = rn.control();
    let cluster: proto::model::Cluster =
        typed(control.get_cluster(pb::GetClusterRequest {}).await?.into_inner())?;
    let mut spec = cluster.spec.clone();
    args.spec.apply(&mut spec)?;
    let request = pb::UpdateClusterRequest {
        version: cluster.meta.version.0,
        spec: Some(spec.into()),
        ..Default::default()
    };
    control.update_cluster(request).await?;
    output::line("Swarm updated.");
    if !cluster.spec.autolock && args.spec.autolock == Some(true) {
        let key = control.get_unlock_key(pb::GetUnlockKeyRequest {}).await?.into_inner().key;
        output::line(&unlock_hint(&key));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_have_a_port() {
        let table = [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:2378", "10.0.0.1:2378"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]:9", "[fd00::1]:9"),
            ("[fd00::1]", "[fd00::1]:2377"),
            ("manager1", "manager1:2377"),
            ("manager1:80", "manager1:80"),
        ];
        for (addr, want) in table {
            assert_eq!(with_port(addr), want, "{addr}");
        }
    }
}
