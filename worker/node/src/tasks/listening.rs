//! A task without a health check is ready once it listens where clients are led to: pure what that is ([`Awaited`]), and who looks
//! ([`watch`]).
//!
//! A process that has started takes no connections yet, and whoever is sent there meanwhile is refused. So the node looks into the
//! task's namespace, often at first and less often later, and no more once the task is ready.

use std::{collections::BTreeSet, time::Duration};

use network::workload::Workload;
use proto::model::{Port, Protocol};
use runtime::{ContainerState, Health};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    actor::Actor,
    health::{HealthState, Monitor, since},
};

/// Between the first two looks; doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(5);
/// Between two looks at a program that takes long.
const LONGEST: Duration = Duration::from_millis(250);
/// A wait of less is not worth a report, which is an entry of the managers' log.
const LOGGED_WAIT: Duration = Duration::from_secs(1);

/// How long a task may take to listen before it counts as ready all the same, unless the daemon is told otherwise.
pub const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets of a task's programs.
pub trait Sockets: Send + 'static {
    /// Ports at which the task takes what others send it, of one transport.
    ///
    /// # Errors
    /// In words. This machine cannot tell.
    fn ports(&mut self, protocol: Protocol) -> Result<BTreeSet<Port>, String>;
}

/// Where a task is to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// On all of these: clients are led there.
    Every(BTreeSet<(Protocol, Port)>),
    /// On one of these: the image says that its program serves there, if not in which configuration.
    Any(BTreeSet<(Protocol, Port)>),
}

impl Awaited {
    /// All TCP and UDP ports that are published of the task, through the mesh or on its node; if none is, any TCP port that its
    /// image exposes. None = nothing to wait for. For transports whose sockets are not seen (SCTP) nothing is awaited.
    pub fn of<'a>(workload: &Workload, exposed: impl Iterator<Item = &'a str>) -> Option<Self> {
        let published: BTreeSet<_> = workload.ports.iter().map(|p| (p.protocol, p.target)).collect();
        if published.is_empty() {
            let ports: BTreeSet<_> = exposed.filter_map(exposed_tcp).map(|p| (Protocol::Tcp, p)).collect();
            return (!ports.is_empty()).then_some(Self::Any(ports));
        }
        let seen: BTreeSet<_> = published.into_iter().filter(|(p, _)| *p != Protocol::Sctp).collect();
        (!seen.is_empty()).then_some(Self::Every(seen))
    }

    fn protocols(&self) -> BTreeSet<Protocol> {
        let (Self::Every(ports) | Self::Any(ports)) = self;
        ports.iter().map(|(protocol, _)| *protocol).collect()
    }

    /// What is missing while these are bound, for a person to read: `port 80/tcp`. None = the task listens.
    pub fn missing(&self, bound: &BTreeSet<(Protocol, Port)>) -> Option<String> {
        let (missing, joint): (Vec<_>, _) = match self {
            Self::Every(ports) => (ports.difference(bound).collect(), " and "),
            Self::Any(ports) if ports.is_disjoint(bound) => (ports.iter().collect(), " or "),
            Self::Any(_) => (Vec::new(), ""),
        };
        let names: Vec<String> =
            missing.iter().map(|(protocol, port)| format!("{port}/{protocol}")).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("port {one}")),
            several => Some(format!("ports {}", several.join(joint))),
        }
    }
}

/// `80/tcp` or `80`, as images write it.
fn exposed_tcp(text: &str) -> Option<Port> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse().ok().filter(|port| *port != 0 && protocol.eq_ignore_ascii_case("tcp"))
}

fn all_ports(
    sockets: &mut dyn Sockets,
    protocols: &BTreeSet<Protocol>,
) -> Result<BTreeSet<(Protocol, Port)>, String> {
    let mut bound = BTreeSet::new();
    for protocol in protocols {
        bound.extend(sockets.ports(*protocol)?.into_iter().map(|port| (*protocol, port)));
    }
    Ok(bound)
}

/// Looks until what is awaited is there, for as long as `left`, and then takes the task for ready all the same. `limit` is what a
/// person is told that was.
fn watch(awaited: Awaited, mut sockets: Box<dyn Sockets>, left: Duration, limit: Duration) -> Monitor {
    let (tx, finding) = watch::channel(HealthState::of(Health::Starting));
    let task = tokio::spawn(async move {
        let (began, mut pause) = (Instant::now(), SHORTEST);
        let protocols = awaited.protocols();
        let note = loop {
            let wanted = protocols.clone();
            let looked = spawn_blocking(move || {
                let bound = all_ports(&mut *sockets, &wanted);
                (sockets, bound)
            });
            // An error means that the daemon is stopping.
            let Ok((back, bound)) = looked.await else { return };
            sockets = back;
            let missing = match bound {
                Ok(bound) => awaited.missing(&bound),
                Err(why) => {
                    tracing::debug!(%why, "cannot see whether a task listens: taken for ready");
                    None
                }
            };
            let Some(missing) = missing else { break String::new() };
            let waited = began.elapsed();
            if waited >= left {
                break format!("nothing listens on {missing} after {limit:?}");
            }
            if waited >= LOGGED_WAIT {
                let note = format!("waiting for {missing}");
                tx.send_if_modified(|old| {
                    let news = old.note != note;
                    *old = HealthState { note, ..HealthState::of(Health::Starting) };
                    news
                });
            }
            sleep(pause.min(left.saturating_sub(waited))).await;
            pause = (pause * 2).min(LONGEST);
        };
        tx.send_replace(HealthState { note, ..HealthState::of(Health::Healthy) });
    });
    Monitor { finding, task }
}

impl Actor {
    /// Waits for a container that runs, and has no check of its health, to listen. None = it is ready as it is: nothing is awaited,
    /// or this machine cannot tell. A container that a user runs by hand is its user's to wait for. `found`: it outlived the daemon,
    /// and has had some of its time.
    pub(super) async fn listening(&self, found: bool) -> Option<Monitor> {
        let limit = self.deps.listen_timeout;
        if limit.is_zero() || self.workload.task().is_none() {
            return None;
        }
        let (pid, started_at) = match &*self.state.as_ref()?.borrow() {
            ContainerState::Running { pid, started_at } => (*pid, *started_at),
            _ => return None,
        };
        let image = self.deps.runtime.resolve_image(&self.container.as_ref()?.image_id).await;
        let exposed = image.map(|image| image.document.config.exposed_ports).unwrap_or_default();
        let awaited = Awaited::of(&self.workload, exposed.keys().map(String::as_str))?;
        match self.deps.network.sockets(self.network.as_ref()?.netns.as_deref(), pid).await {
            Ok(sockets) => {
                let gone = if found { since(started_at) } else { Duration::ZERO };
                Some(watch(awaited, sockets, limit.saturating_sub(gone), limit))
            }
            Err(why) => {
                tracing::debug!(workload = %self.workload.id, %why, "cannot see whether it listens: taken for ready");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::sync::{Arc, Mutex};

    use network::workload::{Owner, WorkloadId};
    use proto::model::{ContainerId, PortConfig, PublishMode, TaskState};

    use super::*;

    fn workload(ports: &[(Protocol, Port, PublishMode)]) -> Workload {
        let config = |(protocol, target, mode): &(_, _, _)| PortConfig {
            protocol: *protocol,
            target: *target,
            mode: *mode,
            ..PortConfig::default()
        };
        let container = ContainerId::random();
        Workload {
            id: WorkloadId::from(&container),
            name: "web".into(),
            spec: Default::default(),
            limits: Default::default(),
            host_network: false,
            attachments: Vec::new(),
            ingress_addrs: Vec::new(),
            ports: ports.iter().map(config).collect(),
            desired: TaskState::Running,
            status: Default::default(),
            owner: Owner::User { container, attachment: None },
        }
    }

    #[test]
    fn published_ports_are_awaited_and_else_exposed_ones() {
        use Protocol::*;
        let (mesh, host) = (PublishMode::Ingress, PublishMode::Host);
        let of = |ports: &[_], exposed: &[&str]| Awaited::of(&workload(ports), exposed.iter().copied());
        let every = |ports: &[(Protocol, Port)]| Some(Awaited::Every(ports.iter().copied().collect()));
        let any = |ports: &[Port]| Some(Awaited::Any(ports.iter().map(|p| (Tcp, *p)).collect()));
        assert_eq!(of(&[], &[]), None);
        assert_eq!(of(&[], &["80/tcp", "443", "53/udp", "0/tcp", "x"]), any(&[80, 443]));
        assert_eq!(of(&[], &["53/udp"]), None);
        assert_eq!(of(&[(Tcp, 80, mesh), (Tcp, 81, host)], &["443/tcp"]), every(&[(Tcp, 80), (Tcp, 81)]));
        assert_eq!(of(&[(Udp, 53, mesh), (Sctp, 9, mesh)], &[]), every(&[(Udp, 53)]));
        assert_eq!(of(&[(Sctp, 9, host)], &["80/tcp"]), None, "where it serves is known, and cannot be seen");
    }

    #[test]
    fn what_is_missing_is_named() {
        use Protocol::*;
        let bound = |ports: &[(Protocol, Port)]| ports.iter().copied().collect::<BTreeSet<_>>();
        let every = Awaited::Every(bound(&[(Tcp, 80), (Udp, 53)]));
        assert_eq!(every.missing(&bound(&[])).unwrap(), "ports 80/tcp and 53/udp");
        assert_eq!(every.missing(&bound(&[(Tcp, 80), (Tcp, 53)])).unwrap(), "port 53/udp");
        assert_eq!(every.missing(&bound(&[(Tcp, 80), (Udp, 53), (Tcp, 9)])), None);
        let any = Awaited::Any(bound(&[(Tcp, 80), (Tcp, 443)]));
        assert_eq!(any.missing(&bound(&[(Tcp, 8080)])).unwrap(), "ports 80/tcp or 443/tcp");
        assert_eq!(any.missing(&bound(&[(Tcp, 443)])), None);
    }

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<(usize, Vec<Port>)>>);

    impl Sockets for Seen {
        fn ports(&mut self, _: Protocol) -> Result<BTreeSet<Port>, String> {
            let mut seen = self.0.lock().unwrap();
            seen.0 += 1;
            Ok(seen.1.iter().copied().collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_ever_less_often_says_what_it_waits_for_and_stops() {
        let (seen, awaited) = (Seen::default(), Awaited::Every([(Protocol::Tcp, 80)].into()));
        let look = |left| watch(awaited.clone(), Box::new(seen.clone()), left, LISTEN_TIMEOUT);
        let mut monitor = look(LISTEN_TIMEOUT);
        monitor.finding.changed().await.unwrap();
        let said = monitor.finding.borrow().clone();
        assert_eq!((said.health, said.note.as_str()), (Health::Starting, "waiting for port 80/tcp"));
        seen.0.lock().unwrap().1.push(80);
        monitor.finding.changed().await.unwrap();
        assert_eq!(*monitor.finding.borrow(), HealthState::of(Health::Healthy));
        let looks = seen.0.lock().unwrap().0;
        assert!((5..20).contains(&looks), "{looks} in a second");
        assert!(monitor.finding.changed().await.is_err(), "nobody looks any more");

        seen.0.lock().unwrap().1.clear();
        let mut monitor = look(LISTEN_TIMEOUT);
        let ready = monitor.finding.wait_for(|f| f.health == Health::Healthy).await.unwrap().clone();
        assert_eq!(ready.note, "nothing listens on port 80/tcp after 10s");
        let mut monitor = look(Duration::ZERO);
        assert_eq!(monitor.finding.wait_for(|f| f.health == Health::Healthy).await.unwrap().note, ready.note);
    }
}
