//! Containers that a user runs on this machine by hand (`rnctl run`).
//!
//! * [`definition`]: what the user wants, on disk. [`policy`]: pure: when one starts again. `life`: one loop per container;
//!   `attaching`: its way to its networks; `run`: a start of it.
//! * Each start of one is supervised as a task is, by the same actor. What it runs is known here only; its place on overlays is a
//!   task of the managers', which holds its addresses and is theirs to forget once it is reported as over.
//! * The node's membership comes and goes ([`Containers::enter`], [`Containers::pause`], [`Containers::unplug`]); containers
//!   go on.

mod attach;
mod controller;
pub mod definition;
mod names;
mod own_network;
pub mod policy;
mod rename;
mod run;
mod waiting;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::{
    error::ApiError,
    model::{ContainerId, EndpointSettings, NetworkId, Task, TaskId, TaskStatus, Timestamp},
};
use tokio::sync::{mpsc, oneshot, watch};

pub use definition::{Definition, DefinitionUpdate};
pub use own_network::NoNetwork;
pub use waiting::Until;

use crate::{
    managers::Attachments,
    managers::Reports,
    tasks::{Network, NodeName},
};
use controller::{ContainerCommand, ContainerController};
use definition::Definitions;
use gossip::Gossip;
use network::{assigned::Assigned, workload::Workload};
use runtime::{ContainerState, Runtime, parse_signal};

/// What the membership in a swarm offers to containers.
#[derive(Clone)]
pub struct SwarmServices {
    /// This node.
    pub node: NodeName,
    /// Sandboxes.
    pub network: Arc<dyn Network>,
    /// Endpoints.
    pub gossip: Gossip,
    /// Where statuses go.
    pub reports: Reports,
    /// What is assigned to this node.
    pub assigned: watch::Receiver<Arc<Assigned>>,
    /// Where places on networks are had.
    pub attachments: Attachments,
}

/// Whether containers can use the swarm's networks now.
#[derive(Clone, Default)]
enum SwarmAccess {
    /// No membership is running.
    #[default]
    Detached,
    /// The swarm has been left: places on its networks are void.
    Left,
    /// A member.
    Member(Arc<SwarmServices>),
}

/// What can be seen of a container's life.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerStatus {
    /// What it is.
    pub definition: Definition,
    /// What its supervisor has, while it is going.
    pub workload: Option<Arc<Workload>>,
    /// How its last start came out, or stands.
    pub status: Option<TaskStatus>,
    /// It runs, or is about to.
    pub going: bool,
    /// It has ended, and starts again by itself.
    pub restarting: bool,
    /// Nothing more will happen until a user wants it.
    pub resting: bool,
}

struct Handle {
    orders: mpsc::Sender<ContainerCommand>,
    /// A container that goes by itself waits until nobody has a clone of this.
    seen: watch::Receiver<Arc<ContainerStatus>>,
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    definitions: Definitions,
    search: Vec<String>,
    hostname: String,
    access: watch::Sender<SwarmAccess>,
    no_network: NoNetwork,
    /// For containers that are being adopted, while a membership begins.
    settling: Mutex<Option<mpsc::Sender<()>>>,
    table: Mutex<BTreeMap<ContainerId, Handle>>,
    /// Held from looking whether a name is free to having taken it. In it: the names that containers are about to take.
    naming: Mutex<BTreeMap<String, ContainerId>>,
}

/// All containers of this machine that users run. Cheap to clone.
#[derive(Clone)]
pub struct Containers(Arc<Shared>);

impl Containers {
    /// Takes up what the disk remembers. Nothing that runs is touched.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(
        data_root: &Path,
        runtime: Arc<dyn Runtime>,
        search: Vec<String>,
        hostname: String,
        no_network: NoNetwork,
    ) -> io::Result<Self> {
        let definitions = Definitions::open(data_root.join("definitions"))?;
        let all = definitions.all()?;
        no_network.sweep(|name| all.iter().any(|d| d.id.as_str() == name && d.is_isolated()));
        let shared = Shared {
            runtime,
            definitions,
            search,
            hostname,
            access: watch::Sender::default(),
            no_network,
            settling: Mutex::default(),
            table: Mutex::default(),
            naming: Mutex::default(),
        };
        let containers = Self(Arc::new(shared));
        for definition in all {
            containers.live(definition, true);
        }
        Ok(containers)
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Handle>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, definition: Definition, found: bool) {
        let id = definition.id.clone();
        let (orders, inbox) = mpsc::channel(16);
        let (life, seen) = ContainerController::new(self.clone(), definition, inbox);
        self.table().insert(id, Handle { orders, seen });
        tokio::spawn(life.run(found));
    }

    /// Defines a container, which does not run yet.
    ///
    /// # Errors
    /// The name is taken, or the disk is full.
    pub fn create(&self, definition: Definition) -> Result<(ContainerId, String), ApiError> {
        let mut definition =
            Definition { created_at: Timestamp::now(), stopped: true, task: None, ..definition };
        let naming = self.0.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if definition.name.is_empty() {
            definition.name = names::free(|name| naming.contains_key(name) || self.holder(name).is_some());
        }
        if let Some(holder) = naming.get(&definition.name).cloned().or_else(|| self.holder(&definition.name))
        {
            return Err(rename::taken(&definition.name, &holder));
        }
        self.0.definitions.save(&definition)?;
        let made = (definition.id.clone(), definition.name.clone());
        self.live(definition, false);
        drop(naming);
        Ok(made)
    }

    /// Who has a name.
    fn holder(&self, name: &str) -> Option<ContainerId> {
        let defined = self
            .table()
            .iter()
            .find(|(_, h)| h.seen.borrow().definition.name == name)
            .map(|(id, _)| id.clone());
        defined.or_else(|| {
            self.0.runtime.list().into_iter().find(|c| c.record.name == name).map(|c| c.record.id)
        })
    }

    /// All of them.
    pub fn list(&self) -> Vec<Arc<ContainerStatus>> {
        self.table().values().map(|h| h.seen.borrow().clone()).collect()
    }

    /// One of them, as its life goes on.
    pub fn watch(&self, id: &ContainerId) -> Option<watch::Receiver<Arc<ContainerStatus>>> {
        self.table().get(id).map(|h| h.seen.clone())
    }

    /// The container that a name, an id or a unique beginning of an id means, among those that users run.
    pub fn find(&self, key: &str) -> Option<ContainerId> {
        let table = self.table();
        let exact = table.iter().find(|(id, h)| id.as_str() == key || h.seen.borrow().definition.name == key);
        if let Some((id, _)) = exact {
            return Some(id.clone());
        }
        let mut matching = table.keys().filter(|id| !key.is_empty() && id.as_str().starts_with(key));
        matching.next().filter(|_| matching.next().is_none()).cloned()
    }

    async fn order<T>(
        &self,
        id: &ContainerId,
        order: impl FnOnce(oneshot::Sender<T>) -> ContainerCommand,
    ) -> Result<T, ApiError> {
        let gone = || ApiError::not_found(format!("No such container: {id}"));
        let orders = self.table().get(id).map(|h| h.orders.clone()).ok_or_else(gone)?;
        let (reply, answer) = oneshot::channel();
        orders.send(order(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Starts it; returns when it runs. Fine if it does already.
    ///
    /// # Errors
    /// Why it does not run.
    pub async fn start(&self, id: &ContainerId) -> Result<(), ApiError> {
        self.order(id, ContainerCommand::Start).await?
    }

    /// Stops it; returns when it has ended. `grace` in place of its own time from the stop signal to SIGKILL.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Stop(grace, reply)).await?
    }

    /// Stops it, if it runs, and starts it. One that goes by itself stays.
    ///
    /// # Errors
    /// Why it does not run.
    pub async fn restart(&self, id: &ContainerId, grace: Option<Duration>) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Restart(grace, reply)).await?
    }

    /// Sends its first process a signal.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&self, id: &ContainerId, signal: i32) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Kill(signal, reply)).await?
    }

    /// Removes it with all that it has written; one that runs only if forced.
    ///
    /// # Errors
    /// It runs, or something is left behind.
    pub async fn remove(&self, id: &ContainerId, force: bool) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Remove(force, reply)).await?
    }

    /// Puts it on a network from its next start on.
    ///
    /// # Errors
    /// It runs, is there already, or cannot be there.
    pub async fn connect(&self, id: &ContainerId, endpoint: EndpointSettings) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Connect(endpoint, reply)).await?
    }

    /// Takes it off the network that has one of these names.
    ///
    /// # Errors
    /// It runs, or is not there.
    pub async fn disconnect(&self, id: &ContainerId, names: Vec<String>) -> Result<(), ApiError> {
        self.order(id, |reply| ContainerCommand::Disconnect(names, reply)).await?
    }

    /// Its exit code and what went wrong, once it has ended for good, and has gone if it goes by itself.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn wait(&self, id: &ContainerId) -> Result<(i32, String), ApiError> {
        let gone = || ApiError::not_found(format!("No such container: {id}"));
        let mut seen = self.watch(id).ok_or_else(gone)?;
        let last = seen.wait_for(|s| s.resting && s.status.is_some()).await.map_err(|_| gone())?.clone();
        drop(seen);
        if last.definition.auto_remove
            && let Ok(mut state) = self.0.runtime.watch(id)
        {
            // Its name is free when this returns.
            let removed = async { while state.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(PATIENCE, removed).await;
        }
        let status = last.status.clone().unwrap_or_default();
        Ok((run::exit_code(&status), status.err))
    }

    /// Those that run and have their places among `assigned`, as their supervisors will know them: their sandboxes are kept when a
    /// membership begins.
    pub fn returning(&self, assigned: &Assigned) -> Vec<Arc<Workload>> {
        let alive: Vec<_> = self
            .0
            .runtime
            .list()
            .into_iter()
            .filter(|c| c.state.pid().is_some())
            .map(|c| c.record.id)
            .collect();
        let seen = self.list();
        let running = seen.iter().filter(|s| alive.contains(&s.definition.id));
        let places = running.filter_map(|s| Some((s, assigned.tasks.get(s.definition.task.as_ref()?)?)));
        places.map(|(s, place)| Arc::new(run::workload(&s.definition, Some(place)))).collect()
    }

    /// A membership has begun; those that run are taken up. `settling` is held until their endpoints have been published again.
    pub async fn enter(&self, swarm: SwarmServices, settling: mpsc::Sender<()>) {
        let sweeper = sweep(self.clone(), swarm.clone());
        *self.settling() = Some(settling);
        self.0.access.send_replace(SwarmAccess::Member(Arc::new(swarm)));
        tokio::spawn(sweeper);
        self.settled().await;
        *self.settling() = None;
    }

    fn settling(&self) -> MutexGuard<'_, Option<mpsc::Sender<()>>> {
        self.0.settling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The membership ends for now: the daemon stops, or moves. Containers and their network go on.
    pub async fn pause(&self) {
        self.0.access.send_replace(SwarmAccess::Detached);
        self.settled().await;
    }

    /// The swarm is left: containers go on without its networks.
    pub async fn unplug(&self) {
        self.0.access.send_replace(SwarmAccess::Left);
        self.settled().await;
    }

    /// Waits until each life has taken note of the ground.
    async fn settled(&self) {
        let ids: Vec<ContainerId> = self.table().keys().cloned().collect();
        let noted = ids.iter().map(|id| self.order(id, ContainerCommand::Note));
        let _ = tokio::time::timeout(PATIENCE, futures::future::join_all(noted)).await;
    }

    /// Whether a container is there that calls this task its place, or may be about to.
    fn claims(&self, task: &Task) -> bool {
        let Some(container) = &task.attached_container else { return true };
        self.table().get(container).is_some_and(|h| {
            let seen = h.seen.borrow();
            seen.definition.task.as_ref() == Some(&task.id) || (seen.going && seen.definition.task.is_none())
        })
    }
}

/// A signal's number, as `--signal` names it.
///
/// # Errors
/// There is no such signal.
pub fn signal(name: &str) -> Result<i32, ApiError> {
    if name.is_empty() {
        return Ok(libc::SIGKILL);
    }
    parse_signal(name).ok_or_else(|| ApiError::invalid(format!("Invalid signal: {name}")))
}

/// How long lives may take to note that the membership has changed, or that their containers have ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often attachments without a container are looked for, and given back.
const SWEEP: Duration = Duration::from_secs(5);

/// Gives back places that no container here calls its own: one whose daemon was killed between asking and writing it down.
async fn sweep(containers: Containers, swarm: SwarmServices) {
    let mut access = containers.0.access.subscribe();
    let mut suspects: Vec<TaskId> = Vec::new();
    loop {
        let assigned = swarm.assigned.borrow().clone();
        let stray = |t: &&Arc<Task>| !t.status.state.is_terminal() && !containers.claims(t);
        let strays: Vec<TaskId> = assigned.tasks.values().filter(stray).map(|t| t.id.clone()).collect();
        for id in strays.iter().filter(|id| suspects.contains(id)) {
            tracing::info!(task = %id, "a place on networks that no container has is given back");
            swarm.reports.report(id.clone(), run::void("its container is no more"));
        }
        suspects = strays;
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            _ = access.changed() => if !matches!(&*access.borrow_and_update(), SwarmAccess::Member(f) if f.reports.same(&swarm.reports)) { return },
        }
    }
}

/// The networks of a place.
fn networks(task: &Task) -> impl Iterator<Item = &NetworkId> {
    task.allocation.iter().flat_map(|a| &a.attachments).map(|a| &a.network)
}

fn disk(error: io::Error) -> ApiError {
    ApiError::internal(format!("the container's definition cannot be kept: {error}"))
}

fn is_alive(state: &ContainerState) -> bool {
    state.pid().is_some()
}
