//! Services.

use std::{borrow::Cow, collections::BTreeSet, mem::discriminant};

use proto::model::{
    Config, EndpointMode, HOST_NETWORK, Network, PortConfig, PublishMode, Revision, Secret, Service,
    ServiceAllocation, ServiceId, ServiceSpec, TaskState, UpdateState, UpdateStatus,
};

use super::{Applying, refuse};
use crate::store::{
    command::{Outcome, Rejected},
    index::Owner,
};

impl Applying<'_> {
    pub(super) fn create_service(&mut self, service: &Service) -> Outcome {
        let name = &service.spec.name;
        if self.state.services.get(&service.id).is_some() {
            return refuse(format!("service {} exists already", service.id));
        }
        if let Some(holder) = self.state.services.values().find(|o| self.same_name(&o.spec.name, name)) {
            let (name, holder) = (holder.spec.name.clone(), holder.id.to_string());
            return Err(Rejected::NameTaken { kind: Cow::Borrowed("service"), name, holder });
        }
        if service.allocation.is_some() {
            return refuse("a new service has no ports and addresses: those are the allocator's to give");
        }
        self.spec_holds(&service.id, &service.spec)?;
        let mut service = service.clone();
        service.previous_spec = None;
        service.update_status = None;
        service.spec_version = self.revision;
        self.create(service);
        Ok(())
    }

    pub(super) fn set_service_spec(
        &mut self,
        id: &ServiceId,
        expect: Revision,
        spec: &ServiceSpec,
    ) -> Outcome {
        let service = self.found::<Service>(id)?;
        not_outdated(&service, expect)?;
        if spec.name != service.spec.name {
            return refuse("a service cannot be renamed");
        }
        if discriminant(&spec.mode) != discriminant(&service.spec.mode) {
            return refuse(format!("the mode of service {} cannot be changed", spec.name));
        }
        let version = self.revision;
        if *spec == service.spec {
            // Said once more, it lets an update that is paused go on: with a new version, so that earlier failures no longer
            // count. What the spec was before stays the way back.
            if service.update_status.as_ref().is_some_and(|u| u.state.is_paused()) {
                self.update(service, |s| {
                    s.spec_version = version;
                    s.update_status = None;
                });
            } else {
                // As with Docker, whoever updates sees a new version, also where nothing else is new.
                self.update(service, |s| s.meta.version = version);
            }
            return Ok(());
        }
        self.spec_holds(id, spec)?;
        self.update(service, |s| {
            s.previous_spec = Some(std::mem::replace(&mut s.spec, spec.clone()));
            s.spec_version = version;
            s.update_status = None;
        });
        Ok(())
    }

    pub(super) fn rollback_service(
        &mut self,
        id: &ServiceId,
        expect: Revision,
        automatic: bool,
        message: &str,
    ) -> Outcome {
        let service = self.found::<Service>(id)?;
        not_outdated(&service, expect)?;
        let Some(previous) = service.previous_spec.clone() else {
            return refuse(format!("service {} does not have a previous spec", service.spec.name));
        };
        let (version, at) = (self.revision, self.at);
        if let Err(why) = self.spec_holds(id, &previous) {
            if !automatic {
                return Err(why);
            }
            // Nobody waits for this answer, and trying again would not help: the user has to decide.
            self.update(service, |s| {
                let status = s.update_status.get_or_insert_default();
                status.state = UpdateState::Paused;
                status.message = format!("{message}; the previous spec cannot be had back: {why}");
            });
            return Ok(());
        }
        self.update(service, |s| {
            let failed = std::mem::replace(&mut s.spec, previous);
            s.previous_spec = (!automatic).then_some(failed);
            s.spec_version = version;
            s.update_status = Some(UpdateStatus {
                state: UpdateState::RollbackStarted,
                started_at: at,
                message: message.to_owned(),
                ..UpdateStatus::default()
            });
        });
        Ok(())
    }

    pub(super) fn set_update_status(
        &mut self,
        id: &ServiceId,
        of_version: Revision,
        status: &UpdateStatus,
    ) -> Outcome {
        let service = self.found::<Service>(id)?;
        if of_version != service.spec_version {
            return Err(Rejected::OutOfSequence {
                object: format!("the spec of service {}", service.spec.name),
                expected: of_version,
                actual: service.spec_version,
            });
        }
        self.update(service, |s| s.update_status = Some(status.clone()));
        Ok(())
    }

    /// What a spec needs of other objects: its networks, secrets and configs exist, its ports are free.
    fn spec_holds(&self, id: &ServiceId, spec: &ServiceSpec) -> Outcome {
        for attachment in spec.task.networks.iter().filter(|n| n.target != HOST_NETWORK) {
            let Some(network) = self.state.networks.get(attachment.target.as_str()) else {
                return Err(Rejected::NotFound(format!("network {}", attachment.target)));
            };
            if network.spec.ingress {
                return refuse(format!(
                    "network {} is the routing mesh's; a service uses it by publishing a port",
                    network.spec.name
                ));
            }
        }
        self.files_exist::<Secret>(&spec.task.container)?;
        self.files_exist::<Config>(&spec.task.container)?;
        self.ports_free(&spec.endpoint.ports, id)
    }

    pub(super) fn remove_service(&mut self, id: &ServiceId) -> Outcome {
        let service = self.found::<Service>(id)?;
        let tasks: Vec<_> = self.state.tasks_by_service(id).cloned().collect();
        for task in tasks {
            self.update(task, |t| t.desired = TaskState::Remove);
        }
        self.forget(service);
        Ok(())
    }

    pub(super) fn allocate_service(&mut self, id: &ServiceId, allocation: &ServiceAllocation) -> Outcome {
        let service = self.found::<Service>(id)?;
        let name = &service.spec.name;
        if allocation.of_version != service.spec_version {
            return Err(Rejected::OutOfSequence {
                object: format!("the spec of service {name}"),
                expected: allocation.of_version,
                actual: service.spec_version,
            });
        }
        if !answers(&service.spec.endpoint.ports, &allocation.ports) {
            return refuse(format!("the ports are not those that service {name} asks for"));
        }
        self.ports_free(&allocation.ports, id)?;
        if service.spec.endpoint.mode == EndpointMode::DnsRr && !allocation.vips.is_empty() {
            return refuse(format!("service {name} resolves to its tasks and has no virtual address"));
        }
        let mut seen = BTreeSet::new();
        for vip in &allocation.vips {
            let network = self.found::<Network>(&vip.network)?;
            let asked = service.spec.task.networks.iter().any(|a| a.target == vip.network.as_str());
            if !asked || !seen.insert(&vip.network) {
                return refuse(format!(
                    "service {name} needs no virtual address on network {}",
                    network.spec.name
                ));
            }
            self.addresses_free(&network, &vip.addrs, &Owner::Service(id.clone()))?;
        }
        self.update(service, |s| s.allocation = Some(allocation.clone()));
        Ok(())
    }
}

/// Refuses a change by somebody who has not seen the service's present spec. Whoever read the service since its spec last
/// changed has; that the allocator has answered in between is no reason to send a user back.
fn not_outdated(service: &Service, expect: Revision) -> Outcome {
    if expect < service.spec_version || expect > service.meta.version {
        return Err(Rejected::OutOfSequence {
            object: format!("service {}", service.spec.name),
            expected: expect,
            actual: service.meta.version,
        });
    }
    Ok(())
}

/// Whether `given` are the ports of `asked`, in order, with every ingress port chosen and no explicit one changed.
fn answers(asked: &[PortConfig], given: &[PortConfig]) -> bool {
    let answer = |(asked, given): (&PortConfig, &PortConfig)| {
        let chosen = asked.published == 0 && (given.published != 0 || asked.mode == PublishMode::Host);
        let kept = asked.published != 0 && given.published == asked.published;
        (chosen || kept) && PortConfig { published: asked.published, ..given.clone() } == *asked
    };
    asked.len() == given.len() && asked.iter().zip(given).all(answer)
}
