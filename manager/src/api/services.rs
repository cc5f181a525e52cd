//! Services.

use proto::{
    error::ApiError,
    model::{Meta, Revision, Service, ServiceId, ServiceMode, ServiceSpec, TaskState},
    pb,
};

use super::{Api, redact, validate};
use crate::{
    dispatcher::faults,
    store::{command::Command, state::State},
};

impl Api {
    /// Creates a service. Its tasks come by and by; clients follow them.
    pub(super) async fn new_service(&self, spec: ServiceSpec) -> Result<Service, ApiError> {
        let state = self.fresh().await?;
        let spec = validate::service::create(&state, spec)?;
        let service = Service {
            id: ServiceId::random(),
            meta: Meta::default(),
            spec,
            previous_spec: None,
            spec_version: Revision::default(),
            allocation: None,
            conditions: Vec::new(),
            update_status: None,
        };
        let id = service.id.clone();
        self.propose(Command::CreateService(Box::new(service))).await?;
        Ok((*self.store.read().find_service(id.as_str())?).clone())
    }

    /// A new spec, if the version is still `version`.
    pub(super) async fn set_service(
        &self,
        key: &str,
        version: Revision,
        spec: ServiceSpec,
    ) -> Result<Service, ApiError> {
        let state = self.fresh().await?;
        let service = state.find_service(key)?;
        let spec = redact::with_known_auth(spec, &service.spec);
        let spec = Box::new(validate::service::update(&state, &service, spec)?);
        self.propose(Command::SetServiceSpec { id: service.id.clone(), expect: version, spec }).await?;
        Ok((*self.store.read().find_service(service.id.as_str())?).clone())
    }

    /// Back to the previous spec, if the version is still `version`.
    pub(super) async fn roll_service_back(&self, key: &str, version: Revision) -> Result<Service, ApiError> {
        let state = self.fresh().await?;
        let service = state.find_service(key)?;
        let Some(previous) = service.previous_spec.clone() else {
            return Err(ApiError::precondition(format!(
                "service {} does not have a previous spec",
                service.spec.name
            )));
        };
        // It was right once; what it needs may have gone since.
        validate::service::update(&state, &service, previous)?;
        let (id, message) = (service.id.clone(), "manually requested rollback".to_owned());
        self.propose(Command::RollbackService { id, expect: version, automatic: false, message }).await?;
        Ok((*self.store.read().find_service(service.id.as_str())?).clone())
    }

    /// Removes a service; its tasks stop in the background.
    pub(super) async fn drop_service(&self, key: &str) -> Result<pb::RemoveReply, ApiError> {
        let service = self.fresh().await?.find_service(key)?;
        self.propose(Command::RemoveService(service.id.clone())).await?;
        Ok(pb::RemoveReply { id: service.id.to_string(), name: service.spec.name.clone() })
    }
}

/// A service with the numbers that `service ls` shows.
pub(super) fn entry(state: &State, service: &Service) -> pb::ServiceEntry {
    let wanted = || state.tasks_by_service(&service.id).filter(|t| t.desired <= TaskState::Running);
    let running = wanted().filter(|t| t.status.state == TaskState::Running).count();
    let desired = match service.spec.mode {
        ServiceMode::Replicated(n) => n,
        ServiceMode::Global => count(wanted().count()),
    };
    pb::ServiceEntry {
        service: Some(redact::service(&faults::shown(state, service))),
        running: count(running),
        desired,
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
