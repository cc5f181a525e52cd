//! Flags of `run` and `create`.

mod limits;
mod privileges;

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use docker_api::container_config::RestartPolicy;
use proto::model::{EndpointSettings, Millis, Mount, PortConfig};

pub use self::{
    limits::{LimitFlags, signed},
    privileges::PrivilegeFlags,
};
use crate::{
    cmd::service::{health::HealthFlags, log_driver::LogDriverFlags},
    parse::{
        container::{restart, tmpfs, volume},
        endpoint, keyval,
        mount::mount,
        port::publish,
        units,
    },
};

/// When the image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pull {
    /// Each time
    Always,
    /// When it is not here
    Missing,
    /// Not at all
    Never,
}

/// A stream of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// Standard input
    Stdin,
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
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
    pub(super) detach: bool,
    /// Keys to leave the container by, with -it [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true)]
    pub(super) detach_keys: String,
    /// Do not pass signals on to the container
    #[arg(long, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true,
          action = clap::ArgAction::Set, hide_default_value = true, hide_possible_values = true, value_name = "BOOL")]
    pub(super) sig_proxy: bool,
    #[command(flatten)]
    pub(super) create: CreateArgs,
}

/// Flags of `create`, and of `run`.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct CreateArgs {
    /// Print help
    #[arg(long, action = clap::ArgAction::HelpLong)]
    pub(super) help: Option<bool>,
    /// Its name [default: one is made up]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) name: String,
    /// Remove it when it has ended
    #[arg(long)]
    pub(super) rm: bool,
    /// When it starts again: no, on-failure[:times], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = restart)]
    pub(super) restart: RestartPolicy,
    /// When the image is pulled
    #[arg(long, value_enum, default_value = "missing")]
    pub(super) pull: Pull,
    /// Attach to STDIN, STDOUT, STDERR only [default: all that there is]; may be repeated
    #[arg(short, long, value_name = "STREAM", value_enum, ignore_case = true)]
    pub(super) attach: Vec<Stream>,
    /// Write its id into this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// Of an image for several platforms take this one: os/arch[/variant] [default: this machine's]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) platform: String,
    /// Say nothing of the pull
    #[arg(short, long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) network: NetworkFlags,
    #[command(flatten)]
    pub(super) process: ProcessFlags,
    #[command(flatten)]
    pub(super) limits: LimitFlags,
    #[command(flatten)]
    pub(super) privileges: PrivilegeFlags,
    #[command(flatten)]
    pub(super) health: HealthFlags,
    #[command(flatten)]
    pub(super) log: LogDriverFlags,
    /// The image, then the command
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    pub(super) image_and_command: Vec<String>,
}

/// Networks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// A network: a name, or name=app,alias=web,ip=10.0.1.9,ip6=…; host is the machine's own; may be repeated
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = endpoint::endpoint)]
    pub(super) network: Vec<EndpointSettings>,
    /// A further name on the network; may be repeated
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(super) network_alias: Vec<String>,
    /// Its IPv4 address on the network
    #[arg(long, value_name = "IP", value_parser = endpoint::v4)]
    pub(super) ip: Option<IpAddr>,
    /// Its IPv6 address on the network
    #[arg(long, value_name = "IP", value_parser = endpoint::v6)]
    pub(super) ip6: Option<IpAddr>,
    /// Publish a port on this machine: [published:]target[/protocol], ranges too; may be repeated
    #[arg(short, long, value_name = "PORT", value_parser = publish)]
    pub(super) publish: Vec<Vec<PortConfig>>,
    /// Line of /etc/hosts; may be repeated
    #[arg(long, value_name = "HOST:IP", value_parser = units::host)]
    pub(super) add_host: Vec<String>,
    /// Name server instead of the machine's; may be repeated
    #[arg(long, value_name = "IP")]
    pub(super) dns: Vec<IpAddr>,
    /// Search domain; may be repeated
    #[arg(long, value_name = "DOMAIN", value_parser = units::search_domain)]
    pub(super) dns_search: Vec<String>,
    /// Option of the resolver, for instance ndots:1; may be repeated
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION", value_parser = units::resolver_option)]
    pub(super) dns_option: Vec<String>,
}

/// The process.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
pub struct ProcessFlags {
    /// Replaces the image's entrypoint, and leaves out its command; '' only leaves out both
    #[arg(long, value_name = "COMMAND")]
    pub(super) entrypoint: Option<String>,
    /// Host name [default: the container's id]
    #[arg(short = 'h', long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) hostname: String,
    /// Run as this user [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    pub(super) user: String,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    pub(super) workdir: String,
    /// Keep standard input open
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(super) tty: bool,
    /// Run an init that reaps processes
    #[arg(long)]
    pub(super) init: bool,
    /// Root file system read-only
    #[arg(long)]
    pub(super) read_only: bool,
    /// Signal that stops it [default: the image's, else SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = units::signal, default_value = "", hide_default_value = true)]
    pub(super) stop_signal: String,
    /// Seconds from the stop signal to SIGKILL, -1 without a limit [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = units::stop_timeout, allow_negative_numbers = true)]
    pub(super) stop_timeout: Option<Millis>,
    /// Set a variable; NAME alone takes the value from here; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(super) env: Vec<String>,
    /// File of variables, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<String>,
    /// Label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    pub(super) label: Vec<(String, String)>,
    /// Further group of the user; may be repeated
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    pub(super) group_add: Vec<String>,
    /// Bind mount or volume: source:target[:ro]; may be repeated
    #[arg(short, long, value_name = "VOLUME", value_parser = volume)]
    pub(super) volume: Vec<String>,
    /// Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]; may be repeated
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    pub(super) mount: Vec<Mount>,
    /// Add a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    pub(super) cap_add: Vec<String>,
    /// Drop a capability; may be repeated
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    pub(super) cap_drop: Vec<String>,
    /// Kernel setting of the container's namespaces; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = units::sysctl)]
    pub(super) sysctl: Vec<(String, String)>,
    /// File system in memory: path[:size=…,mode=…]; may be repeated
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = tmpfs)]
    pub(super) tmpfs: Vec<(String, String)>,
}
