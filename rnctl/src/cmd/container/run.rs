//! `run` and `create`.

use std::net::IpAddr;

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use proto::{
    error::{ApiError, Kind},
    exit_code,
    model::{ContainerSpec, EndpointSettings, Millis, Mount, PortConfig, PublishMode, Resources, Ulimit},
    pb,
};

use crate::{
    cmd::{
        attach::{self, Ended, How, Session},
        get, image,
        service::{flags::variables, health::HealthFlags, log_driver::LogDriverFlags},
    },
    connect::Daemon,
    exit::Failure,
    output::{self, complain},
    parse::{endpoint, keyval, mount::mount, port::publish, shell, units},
};

/// What went wrong before the container ran (Docker's client).
const NOT_RUN: i32 = 125;

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// Each time
    Always,
    /// When it is not here
    Missing,
    /// Not at all
    Never,
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    after_help = "Example:\n  rnctl network create -d overlay --attachable app\n  rnctl run -d --name db --network app --network-alias store IMAGE\n\n\
                  Exits as the container does; 125 when it could not be run, 126 and 127 when its command could not."
)]
pub struct RunArgs {
    /// Leave it running in the background, and print its id
    #[arg(short, long)]
    detach: bool,
    /// Keys to leave the container by, with -it [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    detach_keys: String,
    /// Do not pass signals on to the container
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true,
          action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    sig_proxy: bool,
    #[command(flatten)]
    create: CreateArgs,
}

/// Flags of `create`, and of `run`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct CreateArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    help: Option<bool>,
    /// Its name [default: one is made up]
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// When it starts again: no, on-failure[:times], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    restart: String,
    /// When the image is pulled
    #[arg(long, value_enum, default_value = "missing")]
    pull: Pull,
    /// Say nothing of the pull
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    log: LogDriverFlags,
    /// The image, then the command
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    image_and_command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
struct NetworkFlags {
    /// A network: a name, or name=app,alias=web,ip=10.0.1.9,ip6=…; host is the machine's own; may be repeated
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = endpoint::endpoint)]
    network: Vec<EndpointSettings>,
    /// A further name on the network; may be repeated
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Its IPv4 address on the network
    #[arg(long, value_name = "IP", value_parser = endpoint::v4)]
    ip: Option<IpAddr>,
    /// Its IPv6 address on the network
    #[arg(long, value_name = "IP", value_parser = endpoint::v6)]
    ip6: Option<IpAddr>,
    /// Publish a port on this machine: [published:]target[/protocol], ranges too; may be repeated
    #[arg(short, long, value_name = "PORT", value_parser = publish)]
    publish: Vec<Vec<PortConfig>>,
    /// Line of /etc/hosts; may be repeated
    #[arg(long, value_name = "HOST:IP", value_parser = units::host)]
    add_host: Vec<String>,
    /// Name server instead of the machine's; may be repeated
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Search domain; may be repeated
    #[arg(long, value_name = "DOMAIN", value_parser = units::search_domain)]
    dns_search: Vec<String>,
    /// Option of the resolver, for instance ndots:1; may be repeated
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = units::resolver_option)]
    dns_option: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
struct ProcessFlags {
    /// Replaces the image's entrypoint, and leaves out its command; '' only leaves out both
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Host name [default: the container's id]
    #[arg(short = 'h', long, value_name = "NAME", default_value = "", hide_default_value = true)]
    hostname: String,
    /// Run as this user [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run an init that reaps processes
    #[arg(long)]
    init: bool,
    /// Root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Signal that stops it [default: the image's, else SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = units::signal, default_value = "", hide_default_value = true)]
    stop_signal: String,
    /// Seconds from the stop signal to SIGKILL, -1 without a limit [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = units::stop_timeout, allow_negative_numbers = true)]
    stop_timeout: Option<Millis>,
    /// Set a variable; NAME alone takes the value from here; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// File of variables, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label: Vec<(String, String)>,
    /// Further group of the user; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group_add: Vec<String>,
    /// Bind mount or volume: source:target[:ro]; may be repeated
    #[arg(short, long, value_name = "VOLUME", value_parser = volume)]
    volume: Vec<Mount>,
    /// Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]; may be repeated
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    mount: Vec<Mount>,
    /// Add a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_add: Vec<String>,
    /// Drop a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_drop: Vec<String>,
    /// Kernel setting of the container's namespaces; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = units::sysctl)]
    sysctl: Vec<(String, String)>,
    /// Resource limit; may be repeated
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = units::ulimit)]
    ulimit: Vec<Ulimit>,
    /// CPUs that it may use
    #[arg(long, value_name = "CPUS", value_parser = units::cpus, default_value = "0", hide_default_value = true)]
    cpus: u64,
    /// Memory that it may use
    #[arg(short, long, value_name = "BYTES", value_parser = units::memory, default_value = "0", hide_default_value = true)]
    memory: u64,
    /// Processes that it may have
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pids_limit: u64,
}

/// `source:target[:ro]`, or a target alone for a volume without a name.
fn volume(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, "rw"),
        [source, target] => (*source, *target, "rw"),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(format!("invalid volume specification: {text:?}: write source:target[:ro]")),
    };
    if !target.starts_with('/') {
        return Err(format!("invalid volume specification: {text:?}: {target:?} is not an absolute path"));
    }
    let read_only = match mode {
        "ro" => true,
        "rw" => false,
        _ => return Err(format!("invalid mode {mode:?} of volume {text:?}: ro or rw")),
    };
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    Ok(Mount {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        read_only,
        ..Mount::default()
    })
}

impl NetworkFlags {
    /// The flags about one network mean the first one, as Docker's do.
    fn endpoints(&mut self) -> Vec<EndpointSettings> {
        let mut networks = std::mem::take(&mut self.network);
        if let Some(first) = networks.first_mut() {
            first.aliases.append(&mut self.network_alias);
            first.addrs.extend(self.ip.into_iter().chain(self.ip6));
        }
        networks
    }

    /// All of them on this machine: there is no mesh for a container outside services.
    fn ports(&mut self) -> Vec<PortConfig> {
        let ports = std::mem::take(&mut self.publish).into_iter().flatten();
        ports.map(|p| PortConfig { mode: PublishMode::Host, ..p }).collect()
    }
}

impl CreateArgs {
    /// `detached`: nobody is attached to it when it starts.
    fn definition(mut self, detached: bool) -> Result<pb::ContainerDefinition, Failure> {
        let usage = |e: String| Failure::usage("run", e);
        let mut words = std::mem::take(&mut self.image_and_command).into_iter();
        let image = words.next().unwrap_or_default();
        if image.starts_with('-') {
            return Err(Failure::usage("run", format!("unknown flag: {image}")));
        }
        if self.network.network.is_empty()
            && (self.network.ip.is_some()
                || self.network.ip6.is_some()
                || !self.network.network_alias.is_empty())
        {
            return Err(usage("--ip, --ip6 and --network-alias need a --network".into()));
        }
        let p = self.process;
        let env = variables(&p.env_file, p.env, &|name| std::env::var(name).ok())?;
        let mut spec = ContainerSpec {
            image,
            args: words.collect(),
            env,
            dir: p.workdir,
            user: p.user,
            groups: p.group_add,
            hostname: p.hostname,
            labels: keyval::map(&p.label),
            mounts: p.volume.into_iter().chain(p.mount).collect(),
            stop_signal: p.stop_signal,
            stop_grace_period: p.stop_timeout,
            tty: p.tty,
            open_stdin: p.interactive,
            stdin_once: p.interactive && !detached,
            read_only: p.read_only,
            init: p.init.then_some(true),
            cap_add: p.cap_add,
            cap_drop: p.cap_drop,
            hosts: std::mem::take(&mut self.network.add_host),
            sysctls: keyval::map(&p.sysctl),
            ulimits: p.ulimit,
            ..ContainerSpec::default()
        };
        if let Some(entrypoint) = &p.entrypoint {
            spec.command = shell::entrypoint(entrypoint).map_err(usage)?;
        }
        spec.dns.nameservers = std::mem::take(&mut self.network.dns);
        spec.dns.search = std::mem::take(&mut self.network.dns_search);
        spec.dns.options = std::mem::take(&mut self.network.dns_option);
        self.health.apply(&mut spec).map_err(usage)?;
        self.log.apply(&mut spec).map_err(usage)?;
        let limits = Resources { nano_cpus: p.cpus, memory_bytes: p.memory, pids: p.pids_limit };
        Ok(pb::ContainerDefinition {
            name: self.name,
            spec: Some(spec.into()),
            limits: Some(limits.into()),
            networks: self.network.endpoints().into_iter().map(Into::into).collect(),
            ports: self.network.ports().into_iter().map(Into::into).collect(),
            restart: self.restart,
            auto_remove: self.rm,
            ..Default::default()
        })
    }
}

/// Defines a container; its id.
async fn define(rn: &Daemon, args: CreateArgs, detached: bool) -> Result<String, Failure> {
    let (pull, quiet) = (args.pull, args.quiet);
    let definition = args.definition(detached)?;
    let image = definition.spec.as_ref().map(|s| s.image.clone()).unwrap_or_default();
    let here = || async { rn.local().inspect_image(get(&image)).await };
    let wanted = match pull {
        Pull::Always => true,
        Pull::Never => false,
        Pull::Missing => match here().await {
            Ok(_) => false,
            Err(status) if ApiError::from_status(&status).kind == Kind::NotFound => {
                if !quiet {
                    complain(&format!("Unable to find image '{image}' locally"));
                }
                true
            }
            Err(status) => return Err(status.into()),
        },
    };
    if wanted {
        image::pull_quietly(rn, &image).await?;
    }
    Ok(rn.local().create_container(definition).await?.into_inner().id)
}

/// `create`.
pub async fn create(rn: &Daemon, args: CreateArgs) -> Result<(), Failure> {
    output::line(&define(rn, args, true).await?);
    Ok(())
}

/// `run`.
pub async fn run(rn: &Daemon, args: RunArgs) -> Result<(), Failure> {
    let (stdin, tty) = (args.create.process.interactive, args.create.process.tty);
    if args.detach {
        let id = define(rn, args.create, true).await.map_err(not_run)?;
        rn.local().start_container(get(&id)).await.map_err(not_started)?;
        output::line(&id);
        return Ok(());
    }
    attach::check_terminal(stdin, tty)?;
    let restarts = args.create.restart != "no";
    let id = define(rn, args.create, false).await.map_err(not_run)?;
    // Both before the start, so that one that ends at once, and goes by itself, is seen, and seen whole.
    let mut end = rn.local();
    let key = id.clone();
    let end = tokio::spawn(async move { end.wait_container(get(&key)).await });
    let how = How { container: id.clone(), stdin, tty, next_start: true, detach_keys: args.detach_keys };
    let session = Session::open(rn, how).await.map_err(not_run)?;
    let signals = args.sig_proxy.then(|| tokio::spawn(attach::pass_signals(rn.local(), id.clone())));
    let carried = tokio::spawn(session.carry());
    if let Err(status) = rn.local().start_container(get(&id)).await {
        carried.abort();
        // It gives the terminal back.
        let _ = carried.await;
        return Err(not_started(status));
    }
    let ended = carried.await.map_err(|e| Failure::local(e.to_string()))?.map_err(not_run)?;
    if let Some(signals) = signals {
        signals.abort();
    }
    match ended {
        Ended::Detached => Ok(()),
        Ended::Exited(code) => {
            if !restarts {
                // With its networks given back: what comes next in a script finds them free.
                let _ = end.await;
            }
            if code == 0 { Ok(()) } else { Err(Failure::Code(code)) }
        }
    }
}

/// What Docker's client exits with.
fn not_run(failure: impl Into<Failure>) -> Failure {
    match failure.into() {
        Failure::Code(code) => Failure::Code(code),
        other => {
            complain(&other.to_string());
            Failure::Code(NOT_RUN)
        }
    }
}

/// The same for one that is there and did not start.
fn not_started(status: tonic::Status) -> Failure {
    let code = exit_code::of_program(status.message()).unwrap_or(NOT_RUN);
    not_run(status);
    Failure::Code(code)
}
