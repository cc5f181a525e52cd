//! `service create`.

use clap::Args;
use proto::{
    model::{EndpointSpec, ServiceMode, ServiceSpec, TaskSpec},
    pb,
};

use super::{WaitFlags, flags, health::HealthFlags, image::ImageFlags, log_driver::LogDriverFlags, progress};
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
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = keyval::label)]
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
    pub health: HealthFlags,
    #[command(flatten)]
    pub log: LogDriverFlags,
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
    pub image: ImageFlags,
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The image, then the command and its arguments
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 1.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    pub image_and_command: Vec<String>,
}

impl CreateArgs {
    /// The spec that is asked for, and how its image is resolved. `environment` is the caller's.
    pub fn spec(
        self,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(ServiceSpec, ImageFlags), Failure> {
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
        self.log.apply(&mut task.container).map_err(usage)?;
        self.placement.apply(&mut task.placement);
        self.resources.apply(&mut task);
        task.restart = self.restart.policy(None);
        task.networks = self.network.network;
        let endpoint = EndpointSpec {
            mode: self.network.endpoint_mode.unwrap_or(flags::EndpointMode::Vip).into(),
            ports: self.network.publish.into_iter().flatten().collect(),
        };
        let spec = ServiceSpec {
            name: self.name.filter(|name| !name.is_empty()).unwrap_or_else(random_name),
            labels: keyval::map(&self.label),
            task,
            mode,
            update: self.update.config(None),
            rollback: self.rollback.config(None),
            endpoint,
        };
        Ok((spec, self.image))
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
pub async fn run(
    rn: &Daemon,
    mut spec: ServiceSpec,
    image: &ImageFlags,
    wait: WaitFlags,
) -> Result<(), Failure> {
    let pinned = image.pin(rn, &spec.task.container.image, true).await?;
    spec.task.container.image = pinned.image.unwrap_or(spec.task.container.image);
    spec.task.container.pull_auth = pinned.auth;
    let request = pb::CreateServiceRequest { spec: Some(spec.into()) };
    let service = rn.control().create_service(request).await?.into_inner();
    output::line(&service.id);
    if wait.detach {
        return Ok(());
    }
    progress::wait(rn, &service.id, wait.quiet).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proto::model::{self, Millis};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn spec(line: &str) -> Result<ServiceSpec, String> {
        let words = std::iter::once("create".to_owned()).chain(crate::parse::shell::words(line)?);
        let line = Line::try_parse_from(words).map_err(|e| e.to_string())?;
        let spec = line.args.spec(&|name| (name == "HOME").then(|| "/root".to_owned()));
        spec.map(|(spec, _)| spec).map_err(|e| e.to_string())
    }

    #[test]
    fn an_image_is_enough() {
        let spec = spec("hello:1").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(spec.mode, ServiceMode::Replicated(1));
        assert_eq!(
            spec.task,
            TaskSpec {
                container: model::ContainerSpec { image: "hello:1".into(), ..Default::default() },
                ..TaskSpec::default()
            }
        );
        assert_eq!((spec.update, spec.rollback, spec.endpoint), (None, None, EndpointSpec::default()));
        // The name is a DNS label of lower-case letters, digits and an underscore.
        assert!(spec.name.contains('_') && spec.name.len() <= 63, "{}", spec.name);
    }

    #[test]
    fn every_flag_finds_its_place() {
        let spec = spec(
            "--name web -l tier=front --replicas 4 --network app --network name=back,alias=w -p 8080:80 -p 53:53/udp \
             --endpoint-mode vip --entrypoint '/bin/sh -c' --hostname h -u 1000:5 -w /srv -t --init --read-only \
             --stop-signal SIGQUIT --stop-grace-period 1m -e A=1 -e HOME -e NONE --container-label c=d --group audio \
             --mount type=tmpfs,dst=/tmp --host db:10.0.0.9 --dns fd00::53 --dns-search lan --dns-option ndots:2 \
             --cap-add NET_ADMIN --cap-drop MKNOD --sysctl net.ipv4.ip_unprivileged_port_start=0 --ulimit nofile=1:2 \
             --health-cmd 'true' --health-retries 2 --constraint node.role==worker --placement-pref spread=node.labels.z \
             --replicas-max-per-node 2 --limit-cpu 0.5 --limit-memory 64m --reserve-memory 32m --limit-pids 9 \
             --restart-condition on-failure --restart-delay 2s --update-parallelism 0 --update-order start-first \
             --rollback-monitor 1s --no-resolve-image -d hello:1 run --fast",
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let container = &spec.task.container;
        assert_eq!(spec.labels.get("tier").map(String::as_str), Some("front"));
        assert_eq!(spec.task.networks.len(), 2);
        assert_eq!(spec.endpoint.ports.len(), 2);
        assert_eq!(
            (container.command.as_slice(), container.args.as_slice()),
            (
                ["/bin/sh", "-c"].map(str::to_owned).as_slice(),
                ["run", "--fast"].map(str::to_owned).as_slice()
            )
        );
        assert_eq!(container.env, ["A=1", "HOME=/root", "NONE"]);
        assert_eq!((container.tty, container.init, container.read_only), (true, Some(true), true));
        assert_eq!(container.stop_grace_period, Some(Millis::secs(60)));
        assert_eq!(container.hosts, ["10.0.0.9 db"]);
        assert_eq!(container.dns.nameservers.len(), 1);
        assert_eq!(container.healthcheck.as_ref().map(|h| (h.test.len(), h.retries)), Some((2, 2)));
        assert_eq!(spec.task.placement.max_replicas, 2);
        assert_eq!(
            spec.task.limits,
            model::Resources { nano_cpus: 500_000_000, memory_bytes: 64 << 20, pids: 9 }
        );
        assert_eq!(spec.task.reservations.memory_bytes, 32 << 20);
        assert_eq!(spec.task.restart.as_ref().map(|r| r.delay), Some(Millis::secs(2)));
        assert_eq!(
            spec.update.as_ref().map(|u| (u.parallelism, u.order)),
            Some((0, model::UpdateOrder::StartFirst))
        );
        assert_eq!(spec.rollback.as_ref().map(|u| u.monitor), Some(Millis::secs(1)));
    }

    #[test]
    fn empty_is_not_absent() {
        let made =
            |line: &str| spec(line).map(|s| s.task.container).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(made("x").command, Vec::<String>::new());
        assert_eq!(made("--entrypoint '' x run").command, [""], "the image's is off");
        assert_eq!(made("--entrypoint '' x run").args, ["run"]);
        assert_eq!(made("x ''").args, [""], "an empty argument is one");
        assert_eq!(made("-e A= -e HOME -e B x").env, ["A=", "HOME=/root", "B"], "B of the image goes");
        assert_eq!(made("--container-label a --container-label b= x").labels.len(), 2);
        assert_eq!(made("--stop-grace-period 0s x").stop_grace_period, Some(Millis(0)));
        assert_eq!(made("--init=false x").init, Some(false));
        assert!(spec("--name '' x").is_ok_and(|s| s.name.contains('_')), "as none: a name is made up");
        assert!(spec("--network '' x").is_err_and(|e| e.contains("name is empty")));
    }

    #[test]
    fn contradictions_and_foreign_flags_are_named() {
        let table = [
            ("--mode global --replicas 2 x", "replicas can only be used"),
            ("--mode global-job x", "--mode global-job is not supported"),
            ("--mode some x", "unknown mode"),
            ("--no-healthcheck --health-cmd true x", "conflicts"),
            ("--log-driver syslog x", "\"syslog\" is not available"),
            ("--memory-swap -1 x", "--memory-swap is not supported"),
            ("--frob x", "unknown option --frob"),
            ("--limit-memory lots x", "invalid size"),
            ("--update-max-failure-ratio 2 x", "between 0 and 1"),
            ("--placement-pref zone x", "spread="),
            ("--ulimit nosuch=1 x", "invalid ulimit type"),
            ("--cap-add NOPE x", "unknown capability"),
            ("--cap-drop NOPE x", "unknown capability"),
            ("--sysctl net.nope=1 x", "no net.nope"),
            ("--sysctl vm.swappiness=1 x", "whole machine"),
            ("--stop-signal SIGNOPE x", "invalid stop signal"),
            ("--dns-search 'a b' x", "not a valid search domain"),
            ("--dns-option 'ndots:1 debug' x", "not one option"),
            (
                "--mount source=d,target=/d,volume-driver=rexray x",
                "volume driver \"rexray\" is not supported",
            ),
            ("--mount source=d,target=/d,volume-opt=type=nfs x", "volume-opt=device"),
            ("--mount source=d,target=/d,volume-subpath=x x", "volume-subpath is not supported"),
            (
                "--mount type=bind,source=/d,target=/d,bind-recursive=nonsense x",
                "invalid value for bind-recursive",
            ),
            ("--update-delay 500us x", "1ms is the least"),
            ("--label =x x", "empty name"),
            ("--label 'a b=x' x", "whitespace"),
            ("--group '' x", "a value is required"),
        ];
        for (line, want) in table {
            let error = spec(line).err().unwrap_or_default();
            assert!(error.contains(want), "{line}: {error:?}");
        }
    }
}
