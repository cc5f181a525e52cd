//! One workload: does what [`lifecycle::next`] says, one thing after the other, and reports.

mod ending;

use std::{sync::Arc, time::Duration};

use gossip::EndpointState;
use network::workload::{Owner, Workload, WorkloadId};
use proto::{
    model::{ContainerId, ContainerSpec, TaskState, TaskStatus, Timestamp},
    template::Context,
};
use runtime::{
    Container, ContainerConfig, ContainerRecord, ContainerState, ExitStatus, Health, RuntimeError, TaskRef,
};
use tokio::sync::{mpsc, watch};

use super::{
    TaskNetwork,
    advertise::{self, records},
    files,
    health::{HealthState, Monitor},
    lifecycle::{self, Action, Advertised, ContainerPhase, Goal, Observed},
    start_limit::StartPermit,
    supervisor::Deps,
};

/// Pause before something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What stopped a step.
pub(super) enum Failure {
    /// The task ends in this state.
    Ends(TaskState, String),
    /// The same again, later.
    Again(String),
}

type Step = Result<(), Failure>;

pub(super) struct Actor {
    pub(super) deps: Arc<Deps>,
    /// What is wanted; what was wanted last, once nothing is.
    pub(super) workload: Arc<Workload>,
    pub(super) wish: watch::Receiver<Option<Arc<Workload>>>,
    pub(super) container: Option<ContainerRecord>,
    pub(super) state: Option<watch::Receiver<ContainerState>>,
    pub(super) network: Option<TaskNetwork>,
    /// Whether a sandbox may be there, although this actor has not made or adopted it.
    maybe_network: bool,
    advertised: Advertised,
    /// Watches the running container, where there is something to check or to wait for.
    health: Option<Monitor>,
    status: TaskStatus,
    found: bool,
    /// Held until the task has come to rest for the first time.
    settling: Option<mpsc::Sender<()>>,
}

impl Actor {
    pub(super) fn new(
        deps: Arc<Deps>,
        workload: Arc<Workload>,
        wish: watch::Receiver<Option<Arc<Workload>>>,
        found: Option<Container>,
        settling: Option<mpsc::Sender<()>>,
    ) -> Self {
        let state = found.as_ref().and_then(|c| deps.runtime.watch(&c.record.id).ok());
        Self {
            status: workload.status.clone(),
            maybe_network: found.is_some(),
            found: found.is_some(),
            container: found.map(|c| c.record),
            state,
            network: None,
            advertised: Advertised::Nothing,
            health: None,
            deps,
            workload,
            wish,
            settling,
        }
    }

    /// Runs until the workload is forgotten.
    pub(super) async fn run(mut self) -> WorkloadId {
        loop {
            if let Some(workload) = self.wish.borrow_and_update().clone() {
                self.workload = workload;
            }
            let observed = self.observed();
            let action = lifecycle::next(&observed);
            tracing::debug!(workload = %self.workload.id, ?action, ?observed, "task");
            match action {
                Action::Wait => {
                    // One whose health is yet to be seen has not come to rest: peers shall not forget it meanwhile.
                    if observed.health != Health::Starting {
                        self.settling = None;
                    }
                    self.say_what_it_waits_for();
                    self.something().await;
                }
                Action::Delete => match self.delete().await {
                    Ok(()) => return self.workload.id.clone(),
                    Err(failure) => self.fail(failure).await,
                },
                _ => {
                    if let Err(failure) = self.perform(action).await {
                        self.fail(failure).await;
                    }
                }
            }
        }
    }

    fn observed(&mut self) -> Observed {
        let held = match self.state.as_mut().map(|s| s.borrow_and_update().clone()) {
            None => ContainerPhase::Nothing,
            Some(ContainerState::Created { .. }) => ContainerPhase::Created,
            Some(ContainerState::Running { .. }) => ContainerPhase::Running,
            Some(ContainerState::Exited(end)) => {
                ContainerPhase::Exited { code: end.code, lost: !end.error.is_empty() }
            }
        };
        Observed {
            wish: Goal::of(self.wish.borrow().as_deref()),
            held,
            // A sandbox left by an earlier start is there when it comes to taking it down, and not when it is needed.
            network: self.network.is_some()
                || (self.maybe_network && (self.status.state.is_terminal() || self.found_over(held))),
            advertised: self.advertised,
            // A user's container is shown to be sick, and left alone.
            health: match &mut self.health {
                Some(monitor) if self.workload.task().is_some() => monitor.finding.borrow_and_update().health,
                Some(_) | None => Health::Healthy,
            },
            reported: self.status.state,
            found: self.found,
        }
    }

    fn say_what_it_waits_for(&mut self) {
        let note = self.note();
        if self.status.state == TaskState::Starting && !note.is_empty() && self.status.message != note {
            self.report(TaskState::Starting, &note);
        }
    }

    /// What the task's status is to say of how it stands.
    fn note(&self) -> String {
        self.health.as_ref().map(|m| m.finding.borrow().note.clone()).unwrap_or_default()
    }

    fn found_over(&self, held: ContainerPhase) -> bool {
        self.found && matches!(held, ContainerPhase::Exited { .. })
    }

    /// Waits for a new wish, or a new state of the container.
    async fn something(&mut self) {
        let state = async {
            let over = match &mut self.state {
                Some(state) => state.changed().await.is_err(),
                None => true,
            };
            if over {
                // Nothing to come.
                std::future::pending::<()>().await;
            }
        };
        let health = async {
            let over = match &mut self.health {
                Some(monitor) => monitor.finding.changed().await.is_err(),
                None => true,
            };
            if over {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = state => {}
            () = health => {}
            changed = self.wish.changed() => {
                if changed.is_err() {
                    // The supervisor has ended; this task is aborted with it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    async fn perform(&mut self, action: Action) -> Step {
        match action {
            Action::Prepare => self.prepare().await,
            Action::Ready => {
                self.report(TaskState::Ready, "prepared");
                Ok(())
            }
            Action::Adopt => self.adopt().await,
            Action::Start => self.start().await,
            Action::Announce => self.announce().await,
            Action::Drain => self.drain().await,
            Action::Stop => self.stop().await,
            Action::Finish(state) => self.finish(state).await,
            Action::CleanUp => {
                self.clean_up().await;
                Ok(())
            }
            Action::Discard => {
                self.clean_up().await;
                self.delete().await
            }
            Action::Delete | Action::Wait => Ok(()),
        }
    }

    async fn fail(&mut self, failure: Failure) {
        match failure {
            Failure::Ends(state, err) => {
                tracing::warn!(workload = %self.workload.id, %err, "task {state}");
                self.clean_up().await;
                self.status.err = err;
                let message = match state {
                    TaskState::Rejected => "preparing",
                    TaskState::Shutdown => "shutdown",
                    _ => "starting",
                };
                self.report(state, message);
            }
            Failure::Again(why) => {
                tracing::warn!(workload = %self.workload.id, %why, "tried again in a second");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Reports a state. What was reported never falls: a task that a reboot has set back is reported again when it runs.
    pub(super) fn report(&mut self, state: TaskState, message: &str) {
        if state < self.status.state {
            return;
        }
        self.status.state = state;
        self.status.message = message.to_owned();
        self.status.at = Timestamp::now();
        self.deps.reports.say(&self.workload, self.status.clone());
    }

    async fn prepare(&mut self) -> Step {
        self.report(TaskState::Accepted, "accepted");
        self.report(TaskState::Preparing, "preparing");
        // However slow a registry is, others are made and started meanwhile.
        let _image = self.image().await?;
        let StartPermit::Mine(_turn) = self.permit(TaskState::Preparing).await else {
            return Err(Failure::Ends(TaskState::Shutdown, String::new()));
        };
        let deps = self.deps.clone();
        let rejected = |why: String| Failure::Ends(TaskState::Rejected, why);
        let spec = self.expanded().map_err(rejected)?;
        let files =
            files::of(self.workload.task().map(|task| &**task), &spec, &deps.assigned.borrow().clone());
        let files = match files {
            Ok(files) => files,
            Err(files::Missing::Yet(what)) => {
                let why = format!("{what} has not come from the managers yet");
                self.report(TaskState::Preparing, &why);
                return Err(Failure::Again(why));
            }
            Err(files::Missing::Never(why)) => return Err(rejected(why)),
        };
        // One that a user runs has its id already, and what it wrote when it ran before.
        let id = match &self.workload.owner {
            Owner::User { container, .. } => container.clone(),
            Owner::Task(_) => ContainerId::random(),
        };
        self.maybe_network = true;
        let network = deps.network.up(&self.workload, &id).await.map_err(|e| rejected(e.to_string()))?;
        // Peers learn the addresses while the container is being made.
        self.advertised = Advertised::Starting;
        for record in self.records(EndpointState::Starting) {
            deps.gossip.publish(record).await;
        }
        let config = ContainerConfig {
            id: id.clone(),
            name: self.workload.name.clone(),
            task: self.workload.task().map(|task| TaskRef {
                task: task.id.clone(),
                service: task.service_id.clone(),
                service_name: task.service_name.clone(),
                node: deps.node.id.clone(),
            }),
            spec,
            limits: self.workload.limits,
            netns: network.netns.clone(),
            addrs: network.addrs.clone(),
            search: deps.search.clone(),
            files,
        };
        let made = deps.runtime.create(config).await.map_err(|e| rejected(e.to_string()))?;
        deps.network.created(&self.workload, &id).await;
        self.status.container_id = id.to_string();
        self.status.ports = network.host_ports.clone();
        self.network = Some(network);
        self.state = Some(deps.runtime.watch(&id).map_err(|e| rejected(e.to_string()))?);
        self.container = Some(made.record);
        self.found = false;
        self.report(TaskState::Ready, "prepared");
        Ok(())
    }

    /// What the container is to be, with its templates filled in.
    fn expanded(&self) -> Result<ContainerSpec, String> {
        let spec = &self.workload.spec;
        let assigned = self.deps.assigned.borrow();
        // Templates are services'.
        let (Some(node), Some(task)) = (assigned.node.as_ref(), self.workload.task()) else {
            return Ok(spec.clone());
        };
        let service = assigned.services.get(&task.service_id);
        let labels = service.map(|s| s.spec.labels.clone()).unwrap_or_default();
        Context::of(task, node, labels).container(spec)
    }

    async fn adopt(&mut self) -> Step {
        let Some(container) = &self.container else { return Ok(()) };
        let adopted = self.deps.network.adopt(&self.workload, &container.id).await;
        let network =
            adopted.map_err(|e| Failure::Again(format!("its sandbox cannot be taken over: {e}")))?;
        self.status.container_id = container.id.to_string();
        self.status.ports = network.host_ports.clone();
        self.network = Some(network);
        self.found = false;
        // What had been told to run was healthy; it stays so until checks say otherwise. The assignment on disk may be
        // older than that, so others are checked at once.
        let told = self.workload.task().is_some() && self.status.state == TaskState::Running;
        self.watch_health(told.then_some(Health::Healthy)).await;
        Ok(())
    }

    /// Begins to check the health of a container that runs, or, without a check, waits for it to listen.
    async fn watch_health(&mut self, known: Option<Health>) {
        let Some(container) = &self.container else { return };
        let running = self.state.as_ref().and_then(|s| match &*s.borrow() {
            ContainerState::Running { started_at, .. } => Some(*started_at),
            _ => None,
        });
        if let (Some(check), Some(started_at)) = (&container.health, running) {
            let runtime = self.deps.runtime.clone();
            self.health =
                Some(Monitor::start(runtime, container.id.clone(), check.clone(), started_at, known));
        } else if container.health.is_none() && known != Some(Health::Healthy) {
            self.health = self.listening(known.is_none()).await;
        }
    }

    async fn start(&mut self) -> Step {
        let Some(container) = &self.container else { return Ok(()) };
        let id = container.id.clone();
        // Not wanted any more: what is to be done instead is the next thing to find out.
        let StartPermit::Mine(_turn) = self.permit(TaskState::Starting).await else { return Ok(()) };
        self.report(TaskState::Starting, "starting");
        let failed =
            |e: RuntimeError| Failure::Ends(TaskState::Failed, format!("starting container failed: {e}"));
        self.deps.runtime.start(&id).await.map_err(failed)?;
        self.until(|state| !matches!(state, ContainerState::Created { .. })).await;
        self.watch_health(Some(Health::Starting)).await;
        Ok(())
    }

    /// Waits for a state of the container.
    async fn until(&mut self, reached: impl FnMut(&ContainerState) -> bool) {
        if let Some(state) = &mut self.state {
            // An error means that it has been deleted: nothing more to wait for.
            let _ = state.wait_for(reached).await;
        }
    }

    async fn announce(&mut self) -> Step {
        let said = advertise::publish(&self.deps.gossip, self.records(EndpointState::Ready)).await;
        if !said.all {
            tracing::warn!(workload = %self.workload.id, missing = ?said.missing, "not in every kernel yet");
        }
        self.advertised = Advertised::Ready;
        if let Some(pid) = self.state.as_ref().and_then(|s| s.borrow().pid()) {
            self.status.pid = u32::try_from(pid).unwrap_or(0);
        }
        let note = self.note();
        let message = match note.is_empty() {
            // Adopted: what was said of it still holds.
            true if self.health.is_none() && self.status.state == TaskState::Running => {
                self.status.message.clone()
            }
            true => "started".to_owned(),
            false => note,
        };
        self.report(TaskState::Running, &message);
        Ok(())
    }

    fn records(&self, state: EndpointState) -> Vec<gossip::EndpointRecord> {
        let names: Vec<String> = match &self.container {
            None => Vec::new(),
            Some(c) if c.hostname == c.id.short() => vec![c.hostname.clone()],
            Some(c) => vec![c.id.short().to_owned(), c.hostname.clone()],
        };
        records(&self.workload, &self.deps.node.id, &self.deps.assigned.borrow(), &names, state)
    }
}
