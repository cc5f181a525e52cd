//! The data plane as the task supervisor sees it: sandboxes by the [`Reconciler`], their resolvers by the [`DnsServer`], and
//! the resolvers' sockets parked with the containers' shims while the daemon is away.

use std::{
    collections::{BTreeSet, HashMap},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dns::{DnsServer, DnsSockets, Requester};
use kernel::{Ns, listeners::Listeners, netns};
use network::{
    assigned::Assigned,
    reconciler::{Adopted, Reconciler, SandboxInfo, SandboxRequest},
    workload::{Workload, WorkloadId},
};
use proto::model::{ContainerId, Port, Protocol};
use runtime::Runtime;
use tokio::sync::watch;

use crate::tasks::{Network, NetworkError, Sockets, TaskNetwork};

/// Name under which a sandbox's resolver sockets are parked.
const PARKED: &str = "dns";
/// Port of DNS servers.
const DNS_PORT: u16 = 53;

/// The node's data plane.
pub struct DataPlane {
    reconciler: Reconciler,
    dns: DnsServer,
    runtime: Arc<dyn Runtime>,
    assigned: watch::Receiver<Arc<Assigned>>,
    /// Sandboxes of an earlier life, until their supervisors ask for them.
    adopted: Mutex<HashMap<WorkloadId, Result<SandboxInfo, NetworkError>>>,
    /// Resolver sockets between the sandbox' making and the container's.
    unparked: Mutex<HashMap<WorkloadId, DnsSockets>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of the resolver's sockets.
fn no_resolver(error: impl std::fmt::Display) -> NetworkError {
    NetworkError::Resolver(error.to_string())
}

impl DataPlane {
    /// With nothing in it yet.
    pub fn new(
        reconciler: Reconciler,
        dns: DnsServer,
        runtime: Arc<dyn Runtime>,
        assigned: watch::Receiver<Arc<Assigned>>,
    ) -> Self {
        Self { reconciler, dns, runtime, assigned, adopted: Mutex::default(), unparked: Mutex::default() }
    }

    /// What is to live on when a membership begins: the sandboxes of containers that still exist and whose tasks are assigned as far as
    /// the disk remembers, and those of `others`.
    pub fn kept(&self, known: &Assigned, others: Vec<Arc<Workload>>) -> Vec<SandboxRequest> {
        let alive = self.runtime.list().into_iter().filter(|c| c.state.pid().is_some());
        let tasks = alive.filter_map(|c| known.tasks.get(&c.record.task?.task).cloned());
        let workloads = tasks.map(|task| Arc::new(Workload::of_task(&task))).chain(others);
        let workloads = workloads.filter(|workload| !workload.host_network);
        workloads.filter_map(|workload| SandboxRequest::of(&workload, known).ok()).collect()
    }

    /// What has become of those, for their supervisors to ask for.
    pub fn adopted(&self, adopted: Adopted) {
        let adopted = adopted.into_iter().map(|(id, result)| (id, result.map_err(NetworkError::from)));
        let adopted: HashMap<_, _> = adopted.collect();
        self.dns.retain(|id| adopted.contains_key(id));
        *locked(&self.adopted) = adopted;
        locked(&self.unparked).clear();
    }

    /// Lets go of all sandboxes' sockets: their namespaces would live on with them.
    pub fn release(&self) {
        self.dns.retain(|_| false);
        locked(&self.adopted).clear();
        locked(&self.unparked).clear();
    }

    /// Serves the sandbox's resolver and leads its port 53 there.
    async fn serve_names(
        &self,
        workload: &Arc<Workload>,
        info: &SandboxInfo,
        sockets: DnsSockets,
    ) -> Result<(), NetworkError> {
        let ports = sockets.ports().map_err(no_resolver)?;
        let dns = &workload.spec.dns;
        let known = self.assigned.borrow().clone();
        let outside = |id| known.networks.get(id).is_none_or(|n| !n.spec.internal);
        let requester = Requester {
            networks: info.networks.clone(),
            servers: dns.nameservers.iter().map(|addr| SocketAddr::new(*addr, DNS_PORT)).collect(),
            forward: info.networks.is_empty() || info.networks.iter().any(outside),
        };
        self.dns.attach(workload.id.clone(), sockets, requester).map_err(no_resolver)?;
        Ok(self.reconciler.set_dns(workload.id.clone(), ports).await?)
    }

    async fn open_sockets(&self, info: &SandboxInfo) -> Result<DnsSockets, NetworkError> {
        let ns = Ns::Path(info.netns.clone());
        let opened = tokio::task::spawn_blocking(move || netns::in_ns(&ns, DnsSockets::open)).await;
        opened.map_err(no_resolver)?.and_then(|sockets| sockets).map_err(no_resolver)
    }

    async fn unpark(&self, container: &ContainerId) -> Option<DnsSockets> {
        let mut fds: Vec<OwnedFd> = self.runtime.unpark(container, PARKED).await.ok()?;
        let (tcp, udp) = (fds.pop()?, fds.pop()?);
        Some(DnsSockets { udp: UdpSocket::from(udp), tcp: TcpListener::from(tcp) })
    }
}

impl Sockets for Listeners {
    fn ports(&mut self, protocol: Protocol) -> Result<BTreeSet<Port>, String> {
        match Listeners::ports(self, protocol) {
            Ok(ports) => Ok(ports),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn network(info: &SandboxInfo) -> TaskNetwork {
    let addrs = info.addrs.iter().chain(&info.gateway_addrs).copied().collect();
    TaskNetwork { netns: Some(info.netns.clone()), addrs, host_ports: info.host_ports.clone() }
}

/// What a workload in the node's own network needs: nothing that would have to be made.
fn own_network(workload: &Workload) -> Option<TaskNetwork> {
    let own = TaskNetwork { netns: None, addrs: Vec::new(), host_ports: Vec::new() };
    workload.host_network.then_some(own)
}

#[async_trait]
impl Network for DataPlane {
    async fn up(
        &self,
        workload: &Arc<Workload>,
        _container: &ContainerId,
    ) -> Result<TaskNetwork, NetworkError> {
        if let Some(own) = own_network(workload) {
            return Ok(own);
        }
        let known = self.assigned.borrow().clone();
        let request = SandboxRequest::of(workload, &known)?;
        let up = async {
            let info = self.reconciler.ensure(request).await?;
            let sockets = self.open_sockets(&info).await?;
            let parked = sockets.try_clone().map_err(no_resolver)?;
            self.serve_names(workload, &info, sockets).await?;
            locked(&self.unparked).insert(workload.id.clone(), parked);
            Ok(network(&info))
        };
        let result = up.await;
        if result.is_err() {
            self.down(&workload.id).await;
        }
        result
    }

    async fn created(&self, workload: &Arc<Workload>, container: &ContainerId) {
        let sockets = locked(&self.unparked).remove(&workload.id);
        let Some(DnsSockets { udp, tcp }) = sockets else { return };
        let fds = vec![OwnedFd::from(udp), OwnedFd::from(tcp)];
        if let Err(error) = self.runtime.park(container, PARKED, fds).await {
            // The container is fine; only a restart of the daemon will cost it the queries of that moment.
            tracing::warn!(workload = %workload.id, %error, "resolver sockets could not be left with the shim");
        }
    }

    async fn adopt(
        &self,
        workload: &Arc<Workload>,
        container: &ContainerId,
    ) -> Result<TaskNetwork, NetworkError> {
        if let Some(own) = own_network(workload) {
            return Ok(own);
        }
        let adopted = locked(&self.adopted).remove(&workload.id);
        let info = match adopted {
            Some(result) => result?,
            None => {
                let known = self.assigned.borrow().clone();
                let request = SandboxRequest::of(workload, &known)?;
                self.reconciler.ensure(request).await?
            }
        };
        let sockets = match self.unpark(container).await {
            Some(sockets) => sockets,
            // The shim had none: a start that was cut short. New ones, and the redirect follows.
            None => {
                let sockets = self.open_sockets(&info).await?;
                let parked = sockets.try_clone().map_err(no_resolver)?;
                locked(&self.unparked).insert(workload.id.clone(), parked);
                self.created(workload, container).await;
                sockets
            }
        };
        self.serve_names(workload, &info, sockets).await?;
        Ok(network(&info))
    }

    async fn sockets(&self, netns: Option<&Path>, pid: i32) -> Result<Box<dyn Sockets>, String> {
        let (ns, of) = match netns {
            Some(path) => (Ns::Path(path.to_owned()), None),
            None => (Ns::Host, Some(pid)),
        };
        let opened = tokio::task::spawn_blocking(move || Listeners::open(&ns, of)).await;
        let opened = opened.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        Ok(Box::new(opened))
    }

    async fn down(&self, workload: &WorkloadId) {
        self.dns.detach(workload);
        drop(locked(&self.unparked).remove(workload));
        drop(locked(&self.adopted).remove(workload));
        if let Err(error) = self.reconciler.remove(workload.clone()).await {
            tracing::warn!(%workload, %error, "a sandbox could not be removed; the reconciler tries again");
        }
    }
}
