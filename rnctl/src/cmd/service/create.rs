//! `service create`.

use clap::Args;
use proto::{
    model::{EndpointSpec, ServiceMode, ServiceSpec, TaskSpec},
    pb,
};

use super::{WaitFlags, flags, progress};
use crate::{connect::Daemon, exit::Failure, output, parse::keyval};

/// Flags of `service create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl service create --name web --replicas 3 --network app --publish 8080:80 hello:1
  rnctl service create --name agent --mode global --mount type=bind,src=/var/log,dst=/logs,ro agent:2 /bin/agent -v
Options end at the image: what follows is the command and its arguments.")]
pub struct CreateArgs {
    /// The service's name, a DNS label: tasks find it by this name [default: a random one]
    #[arg(long)]
    pub name: Option<String>,
    /// Label of the service; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::pair)]
    pub label: Vec<(String, String)>,
    /// replicated (a number of tasks) or global (one on each node)
    #[arg(long, default_value = "replicated")]
    pub mode: String,
    /// Number of tasks [default: 1]
    #[arg(long, value_name = "N")]
    pub replicas: Option<u64>,
    #[command(flatten)]
    pub network: flags::NetworkFlags,
    #[command(flatten)]
    pub container: flags::ContainerFlags,
    #[command(flatten)]
    pub lists: flags::ContainerLists,
    #[command(flatten)]
    pub health: flags::HealthFlags,
    #[command(flatten)]
    pub placement: flags::PlacementFlags,
    #[command(flatten)]
    pub resources: flags::ResourceFlags,
    #[command(flatten)]
    pub restart: flags::RestartFlags,
    #[command(flatten)]
    pub update: flags::UpdateFlags,
    #[command(flatten)]
    pub rollback: flags::RollbackFlags,
    #[command(flatten)]
    pub unsupported: flags::Unsupported,
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The image, then the command and its arguments
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    pub image_and_command: Vec<String>,
}

impl CreateArgs {
    /// The spec that is asked for. `environment` is the caller's.
    pub fn spec(self, environment: &dyn Fn(&str) -> Option<String>) -> Result<ServiceSpec, Failure> {
        let usage = |message: String| Failure::usage("service create", message);
        self.unsupported.refuse()?;
        let mode = match (self.mode.as_str(), self.replicas) {
            ("replicated", n) => ServiceMode::Replicated(n.unwrap_or(1)),
            ("global", None) => ServiceMode::Global,
            ("global", Some(_)) => {
                return Err(usage("replicas can only be used with replicated mode".into()));
            }
            (mode @ ("replicated-job" | "global-job"), _) => {
                return Err(Failure::local(format!(
                    "--mode {mode} is not supported: use replicated or global"
                ))
                .with_help("a task that shall run once: --mode replicated --restart-condition none"));
            }
            (mode, _) => return Err(usage(format!("unknown mode {mode:?}: use replicated or global"))),
        };
        let mut words = self.image_and_command.into_iter();
        let image = words.next().unwrap_or_default();
        if image.starts_with('-') {
            return Err(usage(format!("unknown option {image}")));
        }
        let mut task = TaskSpec::default();
        task.container.image = image;
        task.container.args = words.collect();
        self.container.apply(&mut task.container).map_err(usage)?;
        self.lists.apply(&mut task.container, environment)?;
        self.health.apply(&mut task.container).map_err(usage)?;
        self.placement.apply(&mut task.placement);
        self.resources.apply(&mut task);
        task.restart = self.restart.policy(None);
        task.networks = self.network.network;
        let endpoint = EndpointSpec {
            mode: self.network.endpoint_mode.unwrap_or(flags::EndpointMode::Vip).into(),
            ports: self.network.publish.into_iter().flatten().collect(),
        };
        Ok(ServiceSpec {
            name: self.name.unwrap_or_else(random_name),
            labels: keyval::map(&self.label),
            task,
            mode,
            update: self.update.config(None),
            rollback: self.rollback.config(None),
            endpoint,
        })
    }
}

/// A name for a service that was given none, as Docker makes them: `brave_turing`. Clashes are refused by the manager.
fn random_name() -> String {
    const MOODS: [&str; 16] = [
        "brave", "calm", "clever", "eager", "fair", "gentle", "happy", "keen", "kind", "lively", "merry",
        "noble", "quiet", "swift", "warm", "wise",
    ];
    const PEOPLE: [&str; 16] = [
        "babbage",
        "cerf",
        "dijkstra",
        "engelbart",
        "floyd",
        "hamming",
        "hopper",
        "jacobson",
        "kahn",
        "knuth",
        "lamport",
        "liskov",
        "lovelace",
        "perlman",
        "postel",
        "turing",
    ];
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the operating system for each process: random enough for a name.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let pick = |list: &[&'static str; 16], shift: u32| list[usize::from((random >> shift) as u8 & 15)];
    format!("{}_{}{}", pick(&MOODS, 0), pick(&PEOPLE, 8), (random >> 16) % 100)
}

/// Runs `service create`.
pub async fn run(rn: &Daemon, args: CreateArgs) -> Result<(), Failure> {
    let wait = args.wait;
    let spec = args.spec(&|name| std::env::var(name).ok())?;
    let request = pb::CreateServiceRequest { spec: Some(spec.into()) };
    let service = rn.control().create_service(request).await?.into_inner();
    output::line(&service.id);
    if wait.detach {
        return Ok(());
    }
    progress::wait(rn, &service.id, wait.quiet).await
}
