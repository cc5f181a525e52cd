//! The driver: one `rn-shim` per container.
//!
//! ```text
//! <data root>/containers/<id>/   record.json, bundle/config.json, shim.json, exit.json, log.json*, hosts, hostname, resolv.conf,
//!                                upper/ work/ rootfs/ (the overlay, mounted in the container's own mount namespace only)
//! <data root>/volumes/<name>/_data
//! <exec root>/containers/<id>/   the shim's socket and the runtime's state; gone when the container has ended
//! ```
//! `record.json` is written last and deleted first: a directory without it is half made or half deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use proto::model::{ContainerId, Resources};
use shim_wire::{LOG_FILE, Reply, Request};
use tokio::{
    sync::{RwLock, mpsc, watch},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Container, ContainerConfig, ContainerDetail, ContainerRecord, ContainerState, Credentials, Event, Events,
    ExecConfig, ExecSession, HealthReport, Image, ImagePin, ImageStore, LogLine, LogOptions, Progress,
    Registries, Removed, Result, Runtime, RuntimeError, bundle, logs, private_dir,
};

mod adopt;
mod attach;
mod binary;
mod client;
mod config;
mod exec;
mod files;
mod images;
mod live;
mod making;
mod prepare;
mod volumes;

pub use attach::{AttachOptions, Attached, AttachedInput, AttachedOutput, Output};
use binary::ShimBinary;
pub use config::ShimConfig;
pub use files::Pieces;
pub use volumes::Volume;

/// The file that says what a container is.
const RECORD_FILE: &str = "record.json";
/// After SIGKILL a container is gone in milliseconds, unless the kernel is stuck.
const KILL_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Entry {
    record: Arc<ContainerRecord>,
    state: watch::Sender<ContainerState>,
    health: Option<HealthReport>,
    /// Stopped by the freezer; says nothing of one that has ended.
    paused: bool,
}

impl Entry {
    fn new(record: Arc<ContainerRecord>, state: watch::Sender<ContainerState>) -> Self {
        Self { record, state, health: None, paused: false }
    }
}

#[derive(Debug, Default)]
struct Table {
    containers: BTreeMap<ContainerId, Entry>,
    /// Names of containers being made.
    reserved: BTreeSet<String>,
    /// Containers that have files and were never started, and the images that they are made of.
    prepared: BTreeMap<ContainerId, String>,
}

/// Runs containers by shims. Cheap to share; owns no container: dropping it changes nothing.
#[derive(Debug)]
pub struct ShimRuntime {
    config: Arc<ShimConfig>,
    shim: ShimBinary,
    images: Arc<ImageStore>,
    registries: Registries,
    events: Arc<Events>,
    table: Arc<Mutex<Table>>,
    /// Counts those that were made.
    arrivals: watch::Sender<u64>,
    /// Who wants to be attached to containers that do not run yet.
    waiting: Mutex<BTreeMap<ContainerId, Vec<attach::Waiting>>>,
    /// Held shared while a container is made from an image, exclusively while images or cgroups are removed.
    making: RwLock<()>,
    files: files::FileLocks,
}

impl ShimRuntime {
    /// Opens the stores and takes over the containers that are there: running ones go on being watched, those whose shim is
    /// gone have ended, half-made ones are removed.
    pub async fn open(config: ShimConfig) -> Result<Self> {
        let config = Arc::new(config);
        let opened = Arc::clone(&config);
        let (images, shim) = spawn_blocking(move || {
            for dir in
                [opened.data_root.join("containers"), opened.volumes(), opened.exec_root.join("containers")]
            {
                private_dir(&dir)?;
            }
            Ok::<_, RuntimeError>((
                ImageStore::open(opened.data_root.join("images"), opened.unpack_limit)?,
                ShimBinary::open(&opened.shim)?,
            ))
        })
        .await
        .map_err(panicked)??;
        let images = Arc::new(images);
        let runtime = Self {
            registries: Registries::new(images.clone(), config.registries.clone()),
            events: Arc::default(),
            config,
            shim,
            images,
            table: Arc::default(),
            arrivals: watch::Sender::default(),
            waiting: Mutex::default(),
            making: RwLock::default(),
            files: files::FileLocks::default(),
        };
        runtime.adopt().await?;
        let (images, users) = (Arc::clone(&runtime.images), runtime.users());
        spawn_blocking(move || images.remove_unused_layers(&users, &mut Removed::default()))
            .await
            .map_err(panicked)??;
        Ok(runtime)
    }

    /// The container that a name, an id or a unique beginning of an id means.
    pub fn find(&self, key: &str) -> Result<ContainerId> {
        let table = self.table();
        if let Some((id, _)) =
            table.containers.iter().find(|(id, entry)| id.as_str() == key || entry.record.name == key)
        {
            return Ok(id.clone());
        }
        let mut matching =
            table.containers.keys().filter(|id| !key.is_empty() && id.as_str().starts_with(key));
        match (matching.next(), matching.next()) {
            (Some(id), None) => Ok(id.clone()),
            (Some(_), Some(_)) => {
                Err(RuntimeError::Invalid(format!("multiple containers begin with {key:?}")))
            }
            _ => Err(RuntimeError::NoSuchContainer(key.to_owned())),
        }
    }

    /// What happens to containers and images, and whatever else the daemon publishes there.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// What is known of a container's health; none if it is not checked.
    pub fn health(&self, id: &ContainerId) -> Option<HealthReport> {
        self.table().containers.get(id).and_then(|entry| entry.health.clone())
    }

    fn tell(&self, action: &str, record: &ContainerRecord) {
        self.events.publish(container_event(action, record));
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    fn record(&self, id: &ContainerId) -> Result<(Arc<ContainerRecord>, ContainerState)> {
        let table = self.table();
        let entry = table.containers.get(id).ok_or_else(|| RuntimeError::NoSuchContainer(id.to_string()))?;
        Ok((Arc::clone(&entry.record), entry.state.borrow().clone()))
    }

    async fn ask(
        &self,
        id: &ContainerId,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        let (_, state) = self.record(id)?;
        if let ContainerState::Exited(_) = state {
            return Err(RuntimeError::WrongState {
                id: id.short().to_owned(),
                state: "exited",
                wanted: "running",
            });
        }
        let (run_dir, name) = (self.config.run_dir(id.as_str()), id.short().to_owned());
        let asked = spawn_blocking(move || client::ask(&run_dir, &request, &fds)).await.map_err(panicked)?;
        match asked {
            Ok((Reply::Error { message }, _)) => Err(RuntimeError::Shim { id: name, message }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(RuntimeError::Shim { id: name, message: error.to_string() }),
        }
    }
}

/// As Docker's: labels are attributes too.
fn container_event(action: &str, record: &ContainerRecord) -> Event {
    let mut event = Event::local("container", action, record.id.as_str());
    event.attributes.extend(record.labels.clone());
    event.with("image", &record.image).with("name", &record.name)
}

fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panicked(error: tokio::task::JoinError) -> RuntimeError {
    RuntimeError::Io { what: "run a blocking task".to_owned(), cause: error.to_string() }
}

#[async_trait]
impl Runtime for ShimRuntime {
    async fn resolve_image(&self, reference: &str) -> Result<Image> {
        self.images.resolve(reference)
    }

    async fn ensure_image(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(Image, Option<ImagePin>)> {
        self.bring_image(reference, credentials, progress).await.map(|(image, hold)| (image, Some(hold)))
    }

    async fn create(&self, config: ContainerConfig) -> Result<Container> {
        // In the order of all who want both.
        let _files = self.files.take(&config.id).await;
        let _making = self.making.read().await;
        if self.table().containers.contains_key(&config.id) {
            self.renew(config).await
        } else {
            self.make(config).await
        }
    }

    async fn start(&self, id: &ContainerId) -> Result<i32> {
        let (record, state) = self.record(id)?;
        let ContainerState::Created { pid } = state else {
            return Err(RuntimeError::WrongState {
                id: id.short().to_owned(),
                state: state.as_str(),
                wanted: "created",
            });
        };
        let mut watch = self.watch(id)?;
        self.attach_waiting(id).await;
        self.ask(id, Request::Start, Vec::new()).await?;
        self.tell("start", &record);
        // Who calls `start` and then `list` should see it started.
        let _ = watch.wait_for(|state| !matches!(state, ContainerState::Created { .. })).await;
        self.attach_waiting(id).await;
        Ok(pid)
    }

    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let (record, _) = self.record(id)?;
        self.ask(id, Request::Signal { signal }, Vec::new()).await?;
        self.events.publish(container_event("kill", &record).with("signal", signal));
        self.wake_for(&record, signal).await;
        Ok(())
    }

    fn watch(&self, id: &ContainerId) -> Result<watch::Receiver<ContainerState>> {
        let table = self.table();
        let entry = table.containers.get(id).ok_or_else(|| RuntimeError::NoSuchContainer(id.to_string()))?;
        Ok(entry.state.subscribe())
    }

    async fn delete(&self, id: &ContainerId, force: bool) -> Result<()> {
        self.discard_files(id).await;
        let (record, state) = self.record(id)?;
        if state.pid().is_some() {
            if !force {
                return Err(RuntimeError::WrongState {
                    id: id.short().to_owned(),
                    state: state.as_str(),
                    wanted: "exited",
                });
            }
            let killed = self.signal(id, libc::SIGKILL).await;
            if killed.is_err() || tokio::time::timeout(KILL_LIMIT, self.wait(id)).await.is_err() {
                self.shim.reap(&self.config.dir(id.as_str())).await;
            }
        }
        let (config, name) = (Arc::clone(&self.config), id.to_string());
        spawn_blocking(move || {
            // The shim removes its run directory last of all; wait for it so that nothing is left behind us.
            for _ in 0..100 {
                if !config.run_dir(&name).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            prepare::discard(&config, &name);
        })
        .await
        .map_err(panicked)?;
        let none_left = {
            let mut table = self.table();
            table.containers.remove(id);
            table.containers.is_empty()
        };
        self.tell("destroy", &record);
        if none_left && let Ok(_alone) = self.making.try_write() {
            prepare::remove_empty_groups(&format!("rn/{}", self.config.daemon_id));
        }
        Ok(())
    }

    fn list(&self) -> Vec<Container> {
        let table = self.table();
        let entries = table.containers.values();
        entries
            .map(|entry| {
                let state = entry.state.borrow().clone();
                let paused = entry.paused && state.pid().is_some();
                Container { record: (*entry.record).clone(), state, paused }
            })
            .collect()
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerDetail> {
        let (record, state) = self.record(id)?;
        let dir = self.config.dir(id.as_str());
        let path = dir.join("bundle/config.json");
        let oci_config = tokio::fs::read_to_string(&path).await.map_err(RuntimeError::io("read", &path))?;
        Ok(ContainerDetail {
            container: Container { record: (*record).clone(), state, paused: self.has_paused(id) },
            oci_config,
            log_path: dir.join(LOG_FILE),
            rootfs_path: dir.join("upper"),
        })
    }

    async fn exec(&self, id: &ContainerId, config: ExecConfig) -> Result<ExecSession> {
        let (_, state) = self.record(id)?;
        let ContainerState::Running { pid, .. } = state else {
            return Err(RuntimeError::WrongState {
                id: id.short().to_owned(),
                state: state.as_str(),
                wanted: "running",
            });
        };
        if self.has_paused(id) {
            return Err(RuntimeError::Conflict(format!(
                "Container {id} is paused, unpause the container before exec"
            )));
        }
        let target = exec::Target {
            bundle: self.config.dir(id.as_str()).join("bundle"),
            run_dir: self.config.run_dir(id.as_str()),
            cgroup: self.config.cgroup(id.as_str()),
            pid,
        };
        exec::exec(&self.shim, target, config).await
    }

    async fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.record(id)?;
        let dir = self.config.dir(id.as_str());
        let (lines, receiver) = mpsc::channel(256);
        spawn_blocking(move || logs::read(&dir, &options, &lines));
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.rename_container(id, name).await
    }

    async fn limit(&self, id: &ContainerId, limits: Resources) -> Result<()> {
        self.limit_container(id, limits).await
    }

    fn is_paused(&self, id: &ContainerId) -> bool {
        self.has_paused(id)
    }

    fn note_health(&self, id: &ContainerId, report: HealthReport) {
        let news = {
            let mut table = self.table();
            let Some(entry) = table.containers.get_mut(id) else { return };
            let health = report.health;
            let before = entry.health.replace(report).map(|before| before.health);
            (before.is_some_and(|before| before != health)).then(|| (Arc::clone(&entry.record), health))
        };
        if let Some((record, health)) = news {
            self.tell(&format!("health_status: {}", health.as_str()), &record);
        }
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    async fn park(&self, id: &ContainerId, name: &str, fds: Vec<OwnedFd>) -> Result<()> {
        if fds.len() > shim_wire::MAX_PARKED {
            return Err(RuntimeError::Invalid(format!(
                "more than {} descriptors to park",
                shim_wire::MAX_PARKED
            )));
        }
        self.ask(id, Request::Park { name: name.to_owned() }, fds).await.map(drop)
    }

    async fn unpark(&self, id: &ContainerId, name: &str) -> Result<Vec<OwnedFd>> {
        let (reply, fds) = self.ask(id, Request::Unpark { name: name.to_owned() }, Vec::new()).await?;
        match reply {
            Reply::Parked { count } if count == fds.len() => Ok(fds),
            other => {
                let message = format!("{} descriptors came along with {other:?}", fds.len());
                Err(RuntimeError::Shim { id: id.short().to_owned(), message })
            }
        }
    }
}
