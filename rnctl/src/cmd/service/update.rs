//! `service update` and `service rollback`.

use std::net::IpAddr;

use clap::{Args, builder::NonEmptyStringValueParser};
use proto::{
    error::ApiError,
    model::{
        ConfigId, EndpointSpec, FileReference, HOST_NETWORK, Mount, NetworkAttachmentConfig, PortConfig,
        SecretId, Service, ServiceMode, ServiceSpec, Ulimit,
    },
};

use super::{
    Edit, WaitFlags, change, fetch, flags,
    health::HealthFlags,
    image::{ImageFlags, Pinned},
    log_driver::LogDriverFlags,
    progress,
};
use crate::{
    cmd::get,
    connect::Daemon,
    exit::Failure,
    output,
    parse::{file, keyval, mount::mount, network::attachment, port, shell, units},
};

/// Flags of `service update`: only what is given changes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rnctl service update --image hello:2 web
  rnctl service update --publish-rm 80 --publish-add 8081:80 --env-add DEBUG=1 web
  rnctl service update --force web")]
pub struct UpdateArgs {
    /// The service, by id or name
    service: String,
    /// New image
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// New arguments of the command, as a shell would read them
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    args: Option<String>,
    /// New number of tasks
    #[arg(long, value_name = "N")]
    replicas: Option<u64>,
    /// Replace the tasks even if nothing changes
    #[arg(long)]
    force: bool,
    /// Go back to the previous spec
    #[arg(long)]
    rollback: bool,
    /// Tasks on one node at most; 0 is without limit
    #[arg(long, value_name = "N")]
    replicas_max_per_node: Option<u64>,
    /// What the service's name resolves to
    #[arg(long, value_enum)]
    endpoint_mode: Option<flags::EndpointMode>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    container: flags::ContainerFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    log: LogDriverFlags,
    #[command(flatten)]
    resources: flags::ResourceFlags,
    #[command(flatten)]
    restart: flags::RestartFlags,
    #[command(flatten)]
    update: flags::UpdateFlags,
    #[command(flatten)]
    rollback_config: flags::RollbackFlags,
    #[command(flatten)]
    unsupported: flags::Unsupported,
    #[command(flatten)]
    image_flags: ImageFlags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// What is added to lists and removed from them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Lists (each may be repeated)")]
struct Lists {
    /// Publish a port, as --publish of create
    #[arg(long, value_name = "PORT", value_parser = port::publish)]
    publish_add: Vec<Vec<PortConfig>>,
    /// Stop publishing ports: 80, 8080:80, 53/udp, 7000-7009, or as --publish of create; what is not said may be anything
    #[arg(long, value_name = "PORT", value_parser = port::unpublish)]
    publish_rm: Vec<Vec<port::Unpublish>>,
    /// Attach to a network
    #[arg(long, value_name = "NETWORK", value_parser = attachment)]
    network_add: Vec<NetworkAttachmentConfig>,
    /// Detach from a network
    #[arg(long, value_name = "NETWORK")]
    network_rm: Vec<String>,
    /// Set a variable
    #[arg(long, value_name = "NAME=VALUE")]
    env_add: Vec<String>,
    /// Remove a variable
    #[arg(long, value_name = "NAME")]
    env_rm: Vec<String>,
    /// Set a label of the service
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    label_add: Vec<(String, String)>,
    /// Remove a label of the service
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Set a label of the containers
    #[arg(long, value_name = "KEY=VALUE", value_parser = keyval::label)]
    container_label_add: Vec<(String, String)>,
    /// Remove a label of the containers
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add a constraint
    #[arg(long, value_name = "EXPRESSION")]
    constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "EXPRESSION")]
    constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE", value_parser = flags::preference)]
    placement_pref_add: Vec<String>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref_rm: Vec<String>,
    /// Add a mount, or change the one at the same target
    #[arg(long, value_name = "MOUNT", value_parser = mount)]
    mount_add: Vec<Mount>,
    /// Remove the mount at a target
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Add a line of /etc/hosts
    #[arg(long, value_name = "HOST:IP", value_parser = units::host)]
    host_add: Vec<String>,
    /// Remove a line of /etc/hosts
    #[arg(long, value_name = "HOST:IP", value_parser = units::host)]
    host_rm: Vec<String>,
    /// Add a name server
    #[arg(long, value_name = "IP")]
    dns_add: Vec<IpAddr>,
    /// Remove a name server
    #[arg(long, value_name = "IP")]
    dns_rm: Vec<IpAddr>,
    /// Add a search domain
    #[arg(long, value_name = "DOMAIN", value_parser = units::search_domain)]
    dns_search_add: Vec<String>,
    /// Remove a search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,
    /// Add an option of the resolver
    #[arg(long, value_name = "OPTION", value_parser = units::resolver_option)]
    dns_option_add: Vec<String>,
    /// Remove an option of the resolver
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,
    /// Add a group
    #[arg(long, value_name = "GROUP", value_parser = NonEmptyStringValueParser::new())]
    group_add: Vec<String>,
    /// Remove a group
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Add a capability
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP", value_parser = units::capability)]
    cap_drop: Vec<String>,
    /// Set a kernel setting
    #[arg(long, value_name = "KEY=VALUE", value_parser = units::sysctl)]
    sysctl_add: Vec<(String, String)>,
    /// Remove a kernel setting
    #[arg(long, value_name = "KEY")]
    sysctl_rm: Vec<String>,
    /// Set a resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = units::ulimit)]
    ulimit_add: Vec<Ulimit>,
    /// Give the containers a secret, as --secret of service create
    #[arg(long, value_name = "SECRET", value_parser = file::secret)]
    secret_add: Vec<FileReference<SecretId>>,
    /// Take a secret away
    #[arg(long, value_name = "SECRET")]
    secret_rm: Vec<String>,
    /// Give the containers a config, as --config of service create
    #[arg(long, value_name = "CONFIG", value_parser = file::config)]
    config_add: Vec<FileReference<ConfigId>>,
    /// Take a config away
    #[arg(long, value_name = "CONFIG")]
    config_rm: Vec<String>,
    /// Remove a resource limit
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
}

/// Removes by key, then adds; what is added takes the place of an entry with the same key, where it stood.
fn merge<T, K: PartialEq>(
    list: &mut Vec<T>,
    add: Vec<T>,
    remove: impl Fn(&T) -> bool,
    key: impl Fn(&T) -> K,
) {
    list.retain(|item| !remove(item));
    for item in add {
        match list.iter_mut().find(|old| key(old) == key(&item)) {
            Some(old) => *old = item,
            None => list.push(item),
        }
    }
}

fn merge_plain<T: PartialEq + Clone>(list: &mut Vec<T>, add: &[T], remove: &[T]) {
    merge(list, add.to_vec(), |item| remove.contains(item), T::clone);
}

/// Of secrets or configs: removed by name or id; one that is there already is replaced where it was for the same target.
fn files<Id: Clone + PartialEq + ToString>(
    list: &mut Vec<FileReference<Id>>,
    add: &[FileReference<Id>],
    remove: &[String],
) {
    let named = |r: &FileReference<Id>| {
        remove.contains(&r.name) || r.id.as_ref().is_some_and(|id| remove.contains(&id.to_string()))
    };
    merge(list, add.to_vec(), named, |r| (r.name.clone(), r.target.clone()));
}

impl Lists {
    /// Changes the spec. `network` turns a network's name into its id, as the spec has it.
    fn apply(
        &self,
        spec: &mut ServiceSpec,
        environment: &dyn Fn(&str) -> Option<String>,
        removed_networks: &[String],
    ) -> Result<(), String> {
        for key in &self.label_rm {
            spec.labels.remove(key);
        }
        spec.labels.extend(self.label_add.iter().cloned());
        self.ports(&mut spec.endpoint);
        let task = &mut spec.task;
        let gone = |n: &NetworkAttachmentConfig| removed_networks.contains(&n.target);
        merge(&mut task.networks, self.network_add.clone(), gone, |n| n.target.clone());
        let placement = &mut task.placement;
        merge_plain(&mut placement.constraints, &self.constraint_add, &self.constraint_rm);
        merge_plain(&mut placement.preferences, &self.placement_pref_add, &self.placement_pref_rm);
        let c = &mut task.container;
        let name = |env: &String| env.split_once('=').map_or(env.clone(), |(n, _)| n.to_owned());
        let env = keyval::environment(&self.env_add, environment)?;
        merge(&mut c.env, env, |e| self.env_rm.contains(&name(e)), name);
        for key in &self.container_label_rm {
            c.labels.remove(key);
        }
        c.labels.extend(self.container_label_add.iter().cloned());
        let unmounted = |m: &Mount| self.mount_rm.contains(&m.target);
        merge(&mut c.mounts, self.mount_add.clone(), unmounted, |m| m.target.clone());
        files(&mut c.secrets, &self.secret_add, &self.secret_rm);
        files(&mut c.configs, &self.config_add, &self.config_rm);
        merge_plain(&mut c.hosts, &self.host_add, &self.host_rm);
        merge_plain(&mut c.dns.nameservers, &self.dns_add, &self.dns_rm);
        merge_plain(&mut c.dns.search, &self.dns_search_add, &self.dns_search_rm);
        merge_plain(&mut c.dns.options, &self.dns_option_add, &self.dns_option_rm);
        merge_plain(&mut c.groups, &self.group_add, &self.group_rm);
        // Adding a capability takes it off the list of dropped ones, and the other way round.
        merge_plain(&mut c.cap_drop, &self.cap_drop, &self.cap_add);
        merge_plain(&mut c.cap_add, &self.cap_add, &self.cap_drop);
        for key in &self.sysctl_rm {
            c.sysctls.remove(key);
        }
        c.sysctls.extend(self.sysctl_add.iter().cloned());
        let unlimited = |u: &Ulimit| self.ulimit_rm.contains(&u.name);
        merge(&mut c.ulimits, self.ulimit_add.clone(), unlimited, |u| u.name.clone());
        Ok(())
    }

    fn ports(&self, endpoint: &mut EndpointSpec) {
        let gone = |p: &PortConfig| self.publish_rm.iter().flatten().any(|named| named.means(p));
        let add: Vec<PortConfig> = self.publish_add.iter().flatten().cloned().collect();
        merge(&mut endpoint.ports, add, gone, |p| (p.target, p.protocol, p.published));
    }
}

impl UpdateArgs {
    /// What the service is to be. `removed_networks` are ids.
    fn edit(&self, service: &Service, removed_networks: &[String]) -> Result<Edit, Failure> {
        let mut spec = service.spec.clone();
        self.apply(&mut spec, removed_networks)?;
        if !self.rollback {
            return Ok(Edit::Spec(Box::new(spec)));
        }
        if spec != service.spec {
            let message = "other flags may not be combined with --rollback".to_owned();
            return Err(Failure::usage("service update", message));
        }
        roll_back(service)
    }

    fn apply(&self, spec: &mut ServiceSpec, removed_networks: &[String]) -> Result<(), Failure> {
        let usage = |message: String| Failure::usage("service update", message);
        let environment = |name: &str| std::env::var(name).ok();
        self.lists.apply(spec, &environment, removed_networks).map_err(usage)?;
        if let Some(image) = &self.image {
            spec.task.container.image.clone_from(image);
        }
        if let Some(args) = &self.args {
            spec.task.container.args = shell::words(args).map_err(usage)?;
        }
        match (self.replicas, spec.mode) {
            (None, _) => {}
            (Some(n), ServiceMode::Replicated(_)) => spec.mode = ServiceMode::Replicated(n),
            (Some(_), ServiceMode::Global) => {
                return Err(usage("replicas can only be used with replicated mode".into()));
            }
        }
        if let Some(max) = self.replicas_max_per_node {
            spec.task.placement.max_replicas = max;
        }
        if let Some(mode) = self.endpoint_mode {
            spec.endpoint.mode = mode.into();
        }
        self.container.apply(&mut spec.task.container).map_err(usage)?;
        self.health.apply(&mut spec.task.container).map_err(usage)?;
        self.log.apply(&mut spec.task.container).map_err(usage)?;
        self.resources.apply(&mut spec.task);
        spec.task.restart = self.restart.policy(spec.task.restart.take());
        spec.update = self.update.config(spec.update.take());
        spec.rollback = self.rollback_config.config(spec.rollback.take());
        if self.force {
            spec.task.force_update += 1;
        }
        Ok(())
    }
}

fn roll_back(service: &Service) -> Result<Edit, Failure> {
    match service.previous_spec {
        Some(_) => Ok(Edit::Rollback),
        None => Err(ApiError::precondition(format!(
            "service {} does not have a previous spec",
            service.spec.name
        ))
        .into()),
    }
}

/// How a spec names a network: by its id; a machine's own has none.
async fn network_id(rn: &Daemon, key: &str) -> Result<String, Failure> {
    match key {
        HOST_NETWORK => Ok(key.to_owned()),
        _ => Ok(rn.control().get_network(get(key)).await?.into_inner().id),
    }
}

/// Runs `service update`.
pub async fn run(rn: &Daemon, args: UpdateArgs) -> Result<(), Failure> {
    args.unsupported.refuse()?;
    let mut removed = Vec::new();
    for key in &args.lists.network_rm {
        removed.push(network_id(rn, key).await?);
    }
    let mut added = args;
    for network in &mut added.lists.network_add {
        network.target = network_id(rn, &network.target).await?;
    }
    let pinned = match &added.image {
        Some(image) => added.image_flags.pin(rn, image, true).await?,
        None if added.image_flags.asks_again() => {
            let now = fetch(rn, &added.service).await?.spec.task.container.image;
            added.image_flags.pin(rn, &now, false).await?
        }
        None => Pinned::default(),
    };
    added.image = pinned.image;
    let edit = |service: &Service| {
        let mut edit = added.edit(service, &removed)?;
        if let Edit::Spec(spec) = &mut edit {
            spec.task.container.pull_auth.clone_from(&pinned.auth);
        }
        Ok(edit)
    };
    let service = change(rn, &added.service, edit).await?;
    follow(rn, &service, &added.service, added.wait).await
}

/// Flags of `service rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The service, by id or name
    service: String,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Runs `service rollback`.
pub async fn rollback(rn: &Daemon, args: RollbackArgs) -> Result<(), Failure> {
    let service = change(rn, &args.service, roll_back).await?;
    follow(rn, &service, &args.service, args.wait).await
}

async fn follow(rn: &Daemon, service: &Service, key: &str, wait: WaitFlags) -> Result<(), Failure> {
    output::line(key);
    if wait.detach { Ok(()) } else { progress::wait(rn, service.id.as_str(), wait.quiet).await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_order() {
        let mut env = ["A=1", "B=2", "C=3"].map(str::to_owned).to_vec();
        let name = |e: &String| e.split('=').next().unwrap_or_default().to_owned();
        merge(&mut env, vec!["B=9".into(), "D=4".into()], |e| name(e) == "A", name);
        assert_eq!(env, ["B=9", "C=3", "D=4"]);
    }
}
