//! `stack deploy`.

use std::collections::{BTreeMap, BTreeSet};

use compose_file::translate::{self, IMAGE};
use docker_api::{
    file::{File, FileCreateResponse, FileSpec},
    network::{NetworkCreateResponse, NetworkInspect},
    service::{Service, ServiceCreateResponse, ServiceUpdateResponse},
    service_spec::ServiceSpec,
};
use serde_json::Value;

use super::{DeployArgs, ResolveImage, files::Stack, members, remove, resolve, wait};
use crate::{
    api::Client,
    exit::Failure,
    output::{self, complain, filter::Filters},
};

/// Makes what is missing and brings the rest up to date: networks, secrets, configs, services. Where it fails halfway, what was
/// done stays, and the error says what that is.
pub(super) async fn run(rn: &Client, stack: Stack, args: &DeployArgs) -> Result<(), Failure> {
    let info = rn.get(&["info"]).object().await?;
    if info.get("Swarm").and_then(|s| s.get("ControlAvailable")) != Some(&Value::Bool(true)) {
        return Err(Failure::local("this node is not a swarm manager").with_help(
            "Use \"rnctl swarm init\" or \"rnctl swarm join\" to connect this node to swarm and try again.",
        ));
    }
    let mut deploy = Deploy { rn, stack, args, done: Vec::new() };
    let services = match deploy.all().await {
        Ok(services) => services,
        Err(failure) => return Err(deploy.halfway(&failure)),
    };
    if args.detach.unwrap_or(true) {
        return Ok(());
    }
    wait::until_running(rn, &deploy.stack.namespace, &services, args.quiet).await
}

struct Deploy<'a> {
    rn: &'a Client,
    stack: Stack,
    args: &'a DeployArgs,
    /// What has been made or changed.
    done: Vec<String>,
}

impl Deploy<'_> {
    fn halfway(&self, failure: &Failure) -> Failure {
        let name = self.stack.namespace.name();
        let failed = Failure::local(failure.to_string());
        match self.done.as_slice() {
            [] => failed.with_help("nothing has been changed"),
            done => failed.with_help(format!(
                "done before that: {}; deploy it again once the cause is mended, or take it away: rnctl stack rm {name}",
                done.join(", ")
            )),
        }
    }

    /// Ids of its services.
    async fn all(&mut self) -> Result<Vec<String>, Failure> {
        if self.args.prune {
            self.prune().await?;
        }
        self.check_external_networks().await?;
        self.make_networks().await?;
        for (kind, specs) in [
            ("secret", std::mem::take(&mut self.stack.secrets)),
            ("config", std::mem::take(&mut self.stack.configs)),
        ] {
            for spec in specs {
                self.put_file(kind, &spec).await?;
            }
        }
        let secrets = self.ids("secrets", translate::secret_names(&self.stack.plan)).await?;
        let configs = self.ids("configs", translate::config_names(&self.stack.plan)).await?;
        let mut specs = std::mem::take(&mut self.stack.plan.services);
        for (name, spec) in &mut specs {
            translate::with_ids(spec, &secrets, &configs)
                .map_err(|what| Failure::local(format!("service {name}: {what}")))?;
        }
        let there: Vec<Service> =
            self.rn.get(&["services"]).filters(&members(&self.stack.namespace)?).json().await?;
        let mut ids = Vec::new();
        for (_, spec) in specs {
            let before = there.iter().find(|s| s.spec.name == spec.name);
            ids.push(self.put_service(spec, before).await?);
        }
        Ok(ids)
    }

    async fn prune(&mut self) -> Result<(), Failure> {
        let mut there: Vec<Service> =
            self.rn.get(&["services"]).filters(&members(&self.stack.namespace)?).json().await?;
        there.retain(|s| !self.stack.plan.services.contains_key(self.stack.namespace.descope(&s.spec.name)));
        there.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        for service in there {
            output::line(&format!("Removing service {}", service.spec.name));
            let removed = self.rn.delete(&["services", &service.id]).done().await;
            removed.map_err(|e| remove::failed("service", &service.spec.name, &e))?;
            self.done.push(format!("removed service {}", service.spec.name));
        }
        Ok(())
    }

    async fn check_external_networks(&self) -> Result<(), Failure> {
        for name in &self.stack.plan.external_networks {
            if matches!(name.as_str(), "default" | "bridge" | "host" | "none") {
                continue;
            }
            let found = self.rn.get(&["networks", name]).json::<NetworkInspect>().await;
            match found {
                Ok(network) if network.scope == "swarm" => {}
                Ok(network) => {
                    return Err(Failure::local(format!(
                        "network {name:?} is declared as external, but it is not in the right scope: {:?} instead of \"swarm\"",
                        network.scope
                    )));
                }
                Err(failure) if failure.is_not_found() => {
                    return Err(Failure::local(format!(
                        "network {name:?} is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed"
                    ))
                    .with_help(format!("rnctl network create -d overlay {name}")));
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn make_networks(&mut self) -> Result<(), Failure> {
        let members = members(&self.stack.namespace)?;
        let there: Vec<NetworkInspect> = self.rn.get(&["networks"]).filters(&members).json().await?;
        let there: BTreeSet<String> = there.into_iter().map(|n| n.name).collect();
        for network in &self.stack.plan.networks {
            let name = &network.name;
            if there.contains(name) {
                continue;
            }
            output::line(&format!("Creating network {name}"));
            let made =
                self.rn.post(&["networks", "create"]).body(network).json::<NetworkCreateResponse>().await;
            let made = made.map_err(|e| Failure::local(format!("failed to create network {name}: {e}")))?;
            if !made.warning.is_empty() {
                complain(&made.warning);
            }
            self.done.push(format!("created network {name}"));
        }
        Ok(())
    }

    async fn put_file(&mut self, kind: &'static str, spec: &FileSpec) -> Result<(), Failure> {
        let kinds = format!("{kind}s");
        let name = &spec.name;
        let made = match self.rn.get(&[&kinds, name]).json::<File>().await {
            // What a config holds is shown: nothing is asked for where nothing differs.
            Ok(file) if kind == "config" && file.spec == *spec => return Ok(()),
            Ok(file) => {
                let update =
                    self.rn.post(&[&kinds, &file.id, "update"]).query("version", file.meta.version.index);
                let updated = update.body(spec).done().await;
                updated.map_err(|e| Failure::local(format!("failed to update {kind} {name}: {e}")))?;
                return Ok(());
            }
            Err(failure) if failure.is_not_found() => {
                output::line(&format!("Creating {kind} {name}"));
                self.rn.post(&[&kinds, "create"]).body(spec).json::<FileCreateResponse>().await
            }
            Err(failure) => return Err(failure),
        };
        made.map_err(|e| Failure::local(format!("failed to create {kind} {name}: {e}")))?;
        self.done.push(format!("created {kind} {name}"));
        Ok(())
    }

    /// Ids by name of the secrets or configs that services use.
    async fn ids(&self, kinds: &str, names: BTreeSet<String>) -> Result<BTreeMap<String, String>, Failure> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let given: Vec<String> = names.iter().map(|name| format!("name={name}")).collect();
        let filters = Filters::parse(&given, &["name"])?;
        let found: Vec<File> = self.rn.get(&[kinds]).filters(&filters).json().await?;
        Ok(found.into_iter().map(|file| (file.spec.name, file.id)).collect())
    }

    /// Makes a service, or updates it; its id.
    async fn put_service(
        &mut self,
        mut spec: ServiceSpec,
        before: Option<&Service>,
    ) -> Result<String, Failure> {
        let name = spec.name.clone();
        let container = spec.task_template.container_spec.get_or_insert_default();
        let image = container.image.clone();
        let is_new = before.is_none_or(|service| service.spec.labels.get(IMAGE) != Some(&image));
        let asks = match self.args.resolve_image {
            ResolveImage::Always => true,
            ResolveImage::Changed => is_new,
            ResolveImage::Never => false,
        };
        let pinned = if asks { resolve::pinned(self.rn, &image).await } else { None };
        let as_before = before.filter(|_| !is_new).and_then(|s| s.spec.task_template.container_spec.as_ref());
        // Where nobody tells which digest it has, that which it had: the tasks need not be replaced.
        if let Some(image) = pinned.or_else(|| as_before.map(|c| c.image.clone())) {
            container.image = image;
        }
        let auth = if self.args.with_registry_auth { resolve::credentials(&image)? } else { None };
        let Some(before) = before else {
            output::line(&format!("Creating service {name}"));
            let mut request = self.rn.post(&["services", "create"]).body(&spec);
            if let Some(auth) = &auth {
                request = request.header(resolve::AUTH, auth);
            }
            let made = request.json::<ServiceCreateResponse>().await;
            let made = made.map_err(|e| Failure::local(format!("failed to create service {name}: {e}")))?;
            made.warnings.iter().for_each(|text| complain(text));
            self.done.push(format!("created service {name}"));
            return Ok(made.id);
        };
        output::line(&format!("Updating service {name} (id: {})", before.id));
        spec.task_template.force_update = before.spec.task_template.force_update;
        let mut request = self.rn.post(&["services", &before.id, "update"]);
        request = request.query("version", before.meta.version.index).body(&spec);
        if let Some(auth) = &auth {
            request = request.header(resolve::AUTH, auth);
        } else {
            request = request.query("registryAuthFrom", "spec");
        }
        let updated = request.json::<ServiceUpdateResponse>().await;
        let updated = updated.map_err(|e| Failure::local(format!("failed to update service {name}: {e}")))?;
        updated.warnings.iter().flatten().for_each(|text| complain(text));
        self.done.push(format!("updated service {name}"));
        Ok(before.id.clone())
    }
}
