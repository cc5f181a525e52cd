//! One container, from its definition to its removal: does what users order, starts again what is to run, and follows the node's
//! membership in a swarm.

mod change;
mod membership;
mod networks;

use std::{future::pending, sync::Arc, time::Duration};

use network::workload::Workload;
use proto::{
    error::ApiError,
    model::{EndpointSettings, TaskState, TaskStatus},
};
use runtime::{Container, ContainerState, Runtime, RuntimeError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    ContainerStatus, Containers, Definition, SwarmAccess, SwarmServices,
    attach::{AttachProgress, NetworkAttach},
    definition::{DefinitionUpdate, Definitions},
    disk, is_alive, policy,
    run::{Run, ended, exit_code, void, workload},
};

/// How long the end of a container may take that is being removed.
const REMOVAL: Duration = Duration::from_secs(30);

type Answer = oneshot::Sender<Result<(), ApiError>>;

/// What users, and the membership, want of a container.
pub(super) enum ContainerCommand {
    Start(Answer),
    Stop(Option<Duration>, Answer),
    /// Stop, and start again.
    Restart(Option<Duration>, Answer),
    Kill(i32, Answer),
    Remove(bool, Answer),
    /// To be on a network from its next start on.
    Connect(EndpointSettings, Answer),
    /// Not to be on the network any more that has one of these names.
    Disconnect(Vec<String>, Answer),
    Rename(String, Answer),
    Update(DefinitionUpdate, Answer),
    /// Answered once what has become of the membership is taken note of.
    Note(oneshot::Sender<()>),
}

pub(super) struct ContainerController {
    containers: Containers,
    definition: Definition,
    orders: mpsc::Receiver<ContainerCommand>,
    seen: watch::Sender<Arc<ContainerStatus>>,
    access: watch::Receiver<SwarmAccess>,
    run: Option<Run>,
    /// A start is on its way to its networks.
    attaching: Option<NetworkAttach>,
    last: Option<TaskStatus>,
    starters: Vec<Answer>,
    stoppers: Vec<Answer>,
    /// Who has ordered that it stop and start again; from then until it is on its way again, it is not at rest.
    restarters: Vec<Answer>,
    restarting: bool,
    /// When it starts again.
    again: Option<Instant>,
    pause: Duration,
}

impl ContainerController {
    pub(super) fn new(
        containers: Containers,
        definition: Definition,
        orders: mpsc::Receiver<ContainerCommand>,
    ) -> (Self, watch::Receiver<Arc<ContainerStatus>>) {
        let access = containers.0.access.subscribe();
        let first = ContainerStatus {
            definition: definition.clone(),
            workload: None,
            status: None,
            going: false,
            restarting: false,
            resting: true,
        };
        let (seen, look) = watch::channel(Arc::new(first));
        let life = Self {
            containers,
            definition,
            orders,
            seen,
            access,
            run: None,
            attaching: None,
            last: None,
            starters: Vec::new(),
            stoppers: Vec::new(),
            restarters: Vec::new(),
            restarting: false,
            again: None,
            pause: Duration::ZERO,
        };
        (life, look)
    }

    /// Until the container is removed. `found`: it is from an earlier life of the daemon.
    pub(super) async fn run(mut self, found: bool) {
        if found {
            self.resume();
        }
        loop {
            self.show();
            if self.rests() && self.definition.auto_remove && self.last.is_some() {
                return self.vanish().await;
            }
            let news = async {
                let status = match &mut self.run {
                    Some(run) => run.statuses.recv().await,
                    None => None,
                };
                match status {
                    Some(status) => status,
                    None => pending().await,
                }
            };
            let reached = async {
                match &mut self.attaching {
                    Some(attaching) => attaching.next().await,
                    None => pending().await,
                }
            };
            let possible =
                self.definition.needs_no_swarm() || matches!(&*self.access.borrow(), SwarmAccess::Member(_));
            let again = self.again.filter(|_| possible);
            let due = async {
                match again {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // Whoever begins a membership waits for it to be noted.
                biased;
                status = news => self.heard(status),
                order = self.orders.recv() => match order {
                    Some(ContainerCommand::Remove(force, answer)) => match self.remove(force).await {
                        Ok(()) => {
                            let _ = answer.send(Ok(()));
                            return;
                        }
                        Err(error) => _ = answer.send(Err(error)),
                    },
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                changed = self.access.changed() => if changed.is_ok() { self.moved().await },
                reached = reached => self.arrived(reached),
                () = due => {
                    self.again = None;
                    self.definition.restarts += 1;
                    self.begin();
                }
            }
        }
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.containers.0.runtime.clone()
    }

    fn definitions(&self) -> &Definitions {
        &self.containers.0.definitions
    }

    /// The container in the runtime, once it has been made.
    fn made(&self) -> Option<Container> {
        self.runtime().list().into_iter().find(|c| c.record.id == self.definition.id)
    }

    /// Nothing more will happen until a user wants it.
    fn rests(&self) -> bool {
        self.run.is_none() && self.again.is_none() && self.attaching.is_none() && !self.restarting
    }

    /// It has ended, and starts again by itself. One that starts with the daemon has not ended under its eyes.
    fn starts_again(&self) -> bool {
        self.again.is_some() && self.pause > Duration::ZERO
    }

    fn keep(&self) {
        if let Err(error) = self.definitions().save(&self.definition) {
            tracing::error!(container = %self.definition.id, %error, "a container's definition cannot be kept");
        }
    }

    fn show(&self) {
        let now = ContainerStatus {
            definition: self.definition.clone(),
            workload: self.run.as_ref().map(|run| run.workload.clone()),
            status: self.last.clone(),
            going: self.run.is_some() || self.attaching.is_some(),
            restarting: self.starts_again(),
            resting: self.rests(),
        };
        self.seen.send_if_modified(|before| {
            let news = **before != now;
            if news {
                *before = Arc::new(now);
            }
            news
        });
    }

    /// After a start of the daemon.
    fn resume(&mut self) {
        let made = self.made();
        match made {
            Some(container) if is_alive(&container.state) => {
                // One with a place on the swarm's networks waits for the membership.
                if self.definition.needs_no_swarm() {
                    self.adopt_here(container);
                }
            }
            made => {
                self.last = made.as_ref().and_then(ended);
                let ended = self.last.as_ref().and_then(|s| s.exit_code);
                let code = self.definition.not_started().or(ended).unwrap_or_default();
                let never = made.is_none() && self.definition.task.is_none();
                let Definition { restart, restarts, stopped, .. } = self.definition;
                if !never && restart.with_daemon(code, restarts, stopped) {
                    self.definition.stopped = false;
                    self.again = Some(Instant::now());
                }
            }
        }
    }

    async fn obey(&mut self, order: ContainerCommand) {
        match order {
            ContainerCommand::Start(answer) => {
                self.restarting = false;
                if self.run.as_ref().is_some_and(|run| run.up) {
                    let paused = self.runtime().is_paused(&self.definition.id);
                    let _ = answer.send(if paused { Err(change::start_of_paused()) } else { Ok(()) });
                    return;
                }
                self.starters.push(answer);
                if self.run.is_some() || self.attaching.is_some() {
                    return;
                }
                (self.definition.stopped, self.definition.restarts, self.again) = (false, 0, None);
                self.pause = Duration::ZERO;
                self.begin();
            }
            ContainerCommand::Stop(grace, answer) => {
                if self.stop(grace, "was stopped") {
                    self.stoppers.push(answer);
                } else {
                    let _ = answer.send(self.stop_unwatched(grace).await);
                }
            }
            ContainerCommand::Restart(grace, answer) => self.restart(grace, answer).await,
            ContainerCommand::Kill(signal, answer) => _ = answer.send(self.kill(signal).await),
            ContainerCommand::Rename(name, answer) => _ = answer.send(self.rename(name).await),
            ContainerCommand::Update(update, answer) => _ = answer.send(self.update(update).await),
            ContainerCommand::Connect(endpoint, answer) => _ = answer.send(self.connect(endpoint)),
            ContainerCommand::Disconnect(names, answer) => _ = answer.send(self.disconnect(&names)),
            ContainerCommand::Note(answer) => {
                if self.access.has_changed().unwrap_or(false) {
                    self.moved().await;
                }
                let _ = answer.send(());
            }
            // Ends the life, which is the loop's to do.
            ContainerCommand::Remove(_, answer) => drop(answer),
        }
    }

    async fn stop_unwatched(&self, grace: Option<Duration>) -> Result<(), ApiError> {
        let Some(Container { record, state, .. }) = self.made() else { return Ok(()) };
        if !is_alive(&state) {
            return Ok(());
        }
        let grace = grace.unwrap_or(Duration::from_millis(record.stop_grace_ms));
        self.runtime().stop(&record.id, record.stop_signal, grace).await?;
        Ok(())
    }

    async fn kill(&mut self, signal: i32) -> Result<(), ApiError> {
        let alive = self.made().filter(|c| matches!(c.state, ContainerState::Running { .. }));
        let Some(container) = alive else {
            return Err(ApiError::conflict(format!(
                "Cannot kill container: {}: container is not running",
                self.definition.name
            )));
        };
        // As Docker: what ends it keeps it from starting again.
        if signal == libc::SIGKILL || signal == container.record.stop_signal {
            self.definition.stopped = true;
            self.keep();
        }
        Ok(self.runtime().signal(&self.definition.id, signal).await?)
    }

    async fn remove(&mut self, force: bool) -> Result<(), ApiError> {
        let alive = self.made().is_some_and(|c| is_alive(&c.state));
        let running = alive || self.run.is_some() || self.attaching.is_some();
        if !force && (running || self.starts_again()) {
            let how = if running { "running" } else { "restarting" };
            return Err(ApiError::conflict(format!(
                "cannot remove container {:?}: container is {how}: stop the container before removing or force remove",
                self.definition.name
            ))
            .help(format!("rnctl stop {0}; or rnctl rm -f {0}", self.definition.name)));
        }
        (self.definition.stopped, self.again) = (true, None);
        self.call_off("was removed");
        if alive {
            // It may end by itself at this very moment.
            let _ = self.runtime().signal(&self.definition.id, libc::SIGKILL).await;
        }
        if let Some(mut run) = self.run.take() {
            run.wish.send_replace(None);
            if timeout(REMOVAL, &mut run.actor).await.is_err() {
                tracing::warn!(container = %self.definition.id, "its supervisor does not come to an end");
            }
            while let Ok(status) = run.statuses.try_recv() {
                run.forward(status);
            }
            run.told().await;
            self.definition.task = None;
        }
        self.give_back("its container has been removed");
        match self.runtime().delete(&self.definition.id, true).await {
            Ok(()) | Err(RuntimeError::NoSuchContainer(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.definitions().forget(&self.definition.id).map_err(disk)?;
        self.containers.table().remove(&self.definition.id);
        Ok(())
    }

    /// `--rm`: once nobody looks any more.
    async fn vanish(mut self) {
        self.containers.table().remove(&self.definition.id);
        self.seen.closed().await;
        if let Err(error) = self.remove(true).await {
            tracing::warn!(container = %self.definition.id, %error, "left behind");
        }
    }

    /// Sets the container on its way to its place, or to work at once where it needs none.
    fn begin(&mut self) {
        self.keep();
        if self.definition.needs_no_swarm() {
            return self.supervise(Arc::new(workload(&self.definition, None)), None, None);
        }
        let access = self.access.borrow().clone();
        match access {
            SwarmAccess::Member(swarm) if !self.definition.networks.is_empty() => {
                self.attaching = Some(NetworkAttach::begin(swarm, &self.definition));
            }
            _ => self.failed(self.definition.without_network()),
        }
    }

    /// The container has come a step nearer to its place, or will not get there.
    fn arrived(&mut self, reached: Result<AttachProgress, ApiError>) {
        match reached {
            Ok(AttachProgress::Place(id)) => {
                self.definition.task = Some(id);
                self.keep();
            }
            Ok(AttachProgress::Assigned(place)) => {
                let swarm = self.attaching.take().map(|attaching| attaching.swarm);
                self.supervise(Arc::new(workload(&self.definition, Some(&place))), swarm, None);
            }
            Err(error) => {
                self.attaching = None;
                self.give_back("its container does not start");
                self.failed(error);
            }
        }
    }

    /// A start that has not come to its networks is not wanted any more. Nobody waits for the managers' answer.
    fn call_off(&mut self, why: &str) {
        let Some(attaching) = self.attaching.take() else { return };
        attaching.call_off();
        self.give_back("its container does not start");
        let name = &self.definition.name;
        let error = format!("container {name} {why} while it was being attached to its networks");
        self.failed(ApiError::conflict(error));
    }

    /// The managers may forget the container's place.
    fn give_back(&mut self, why: &str) {
        let Some(task) = self.definition.task.take() else { return };
        self.keep();
        if let SwarmAccess::Member(swarm) = &*self.access.borrow() {
            swarm.reports.report(task, void(why));
        }
    }

    fn supervise(
        &mut self,
        workload: Arc<Workload>,
        swarm: Option<Arc<SwarmServices>>,
        found: Option<Container>,
    ) {
        self.last = None;
        let isolated = self.definition.is_isolated();
        self.run = Some(Run::begin(&self.containers, workload, swarm, isolated, found));
    }

    /// Goes on supervising a container that runs without a place on the swarm's networks.
    fn adopt_here(&mut self, container: Container) {
        let mut workload = workload(&self.definition, None);
        workload.status.state = TaskState::Running;
        self.supervise(Arc::new(workload), None, Some(container));
    }

    fn heard(&mut self, status: TaskStatus) {
        let Some(run) = &mut self.run else { return };
        run.forward(status.clone());
        if status.state == TaskState::Running && !run.up {
            run.up = true;
            self.definition.error.clear();
            self.starters.drain(..).for_each(|s| _ = s.send(Ok(())));
        }
        self.last = Some(status.clone());
        if status.state.is_terminal() {
            self.ended(status);
        }
    }

    fn ended(&mut self, status: TaskStatus) {
        let Some(run) = self.run.take() else { return };
        self.definition.task = None;
        let stoppers = std::mem::take(&mut self.stoppers);
        let told = run.told();
        let restarters = std::mem::take(&mut self.restarters);
        let (containers, id) = (self.containers.clone(), self.definition.id.clone());
        tokio::spawn(async move {
            told.await;
            stoppers.into_iter().for_each(|s| _ = s.send(Ok(())));
            change::start_for(containers, id, restarters).await;
        });
        // One whose program has ended was started, however short it was. One without a reason was stopped before.
        let started = run.up || status.exit_code.is_some();
        let said = !self.starters.is_empty() || !status.err.is_empty();
        if !started && said {
            return self.failed(ApiError::precondition(status.err));
        }
        if started {
            self.definition.error.clear();
        }
        self.starters.drain(..).for_each(|s| _ = s.send(Ok(())));
        let Definition { restart, restarts, stopped, .. } = self.definition;
        if restart.again(exit_code(&status), restarts, stopped) {
            self.pause = policy::pause(self.pause, run.began.elapsed());
            self.again = Some(Instant::now() + self.pause);
        }
        self.keep();
    }

    /// It did not start. One that is to run all the same is started again later.
    fn failed(&mut self, error: ApiError) {
        tracing::warn!(container = %self.definition.name, error = %error, "the container does not start");
        self.definition.error = error.to_string();
        let err = error.message.clone();
        let ordered = !self.starters.is_empty();
        self.starters.drain(..).for_each(|s| _ = s.send(Err(error.clone())));
        let last = TaskStatus { state: TaskState::Rejected, err, ..TaskStatus::default() };
        let code = exit_code(&last);
        self.last = Some(last);
        let Definition { restart, restarts, stopped, .. } = self.definition;
        if !ordered && restart.again(code, restarts, stopped) {
            self.pause = policy::pause(self.pause, Duration::ZERO);
            self.again = Some(Instant::now() + self.pause);
        }
        self.keep();
    }
}
