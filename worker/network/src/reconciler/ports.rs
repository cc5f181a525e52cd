//! Published ports are held by bound sockets, so that a port already in use on this node is a conflict that is reported, not a
//! service that is captured silently, and so that nobody takes it later.
//!
//! The sockets never listen: where no rule leads a packet on, TCP is refused by the kernel and the rest by the mesh's table.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use kernel::facts::holder_of_port;
use proto::model::{Port, PortConfig, Protocol};
use socket2::{Domain, Socket, Type};

use crate::workload::WorkloadId;

/// Somebody else has a port that is to be published here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {port}/{protocol} for {wanted_by} is in use on this node{}: {reason}", by(.holder))]
pub struct PortConflict {
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: Port,
    /// Who wants it here: a service's name or a task's.
    pub wanted_by: String,
    /// Who has it, where that can be seen: `name (pid N)`.
    pub holder: Option<String>,
    /// The kernel's words.
    pub reason: String,
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map(|h| format!(" by {h}")).unwrap_or_default()
}

/// Ports held for the mesh and for workloads.
#[derive(Default)]
pub(super) struct Ports {
    mesh: BTreeMap<(Protocol, Port), Socket>,
    conflicts: BTreeMap<(Protocol, Port), PortConflict>,
    workloads: BTreeMap<WorkloadId, Vec<Socket>>,
}

impl Ports {
    /// Makes the mesh's ports exactly those wanted. Answers with those that somebody else has; ones that failed before are
    /// tried again if `retry`.
    pub fn reserve<'a>(
        &mut self,
        wanted: impl Iterator<Item = ((Protocol, Port), &'a str)>,
        retry: bool,
    ) -> BTreeSet<(Protocol, Port)> {
        let wanted: BTreeMap<_, _> = wanted.collect();
        self.mesh.retain(|key, _| wanted.contains_key(key));
        self.conflicts.retain(|key, _| wanted.contains_key(key));
        for (key @ (protocol, port), service) in wanted {
            if self.mesh.contains_key(&key) || (!retry && self.conflicts.contains_key(&key)) {
                continue;
            }
            match hold(protocol, port) {
                Ok((socket, _)) => {
                    self.mesh.insert(key, socket);
                    self.conflicts.remove(&key);
                }
                Err(error) if !self.conflicts.contains_key(&key) => {
                    let conflict = conflict(protocol, port, service, &error);
                    tracing::warn!(%conflict, "published port left alone on this node");
                    self.conflicts.insert(key, conflict);
                }
                Err(_) => {}
            }
        }
        self.conflicts.keys().copied().collect()
    }

    /// Holds a workload's host-mode ports, choosing those that are 0.
    pub fn bind<'a>(
        &mut self,
        workload: &WorkloadId,
        wanted_by: &str,
        ports: impl Iterator<Item = &'a PortConfig>,
    ) -> Result<Vec<PortConfig>, PortConflict> {
        let (mut sockets, mut bound) = (Vec::new(), Vec::new());
        for wanted in ports {
            let (socket, published) = hold(wanted.protocol, wanted.published)
                .map_err(|e| conflict(wanted.protocol, wanted.published, wanted_by, &e))?;
            sockets.push(socket);
            bound.push(PortConfig { published, ..wanted.clone() });
        }
        if !sockets.is_empty() {
            self.workloads.insert(workload.clone(), sockets);
        }
        Ok(bound)
    }

    /// Gives a workload's ports back.
    pub fn unbind(&mut self, workload: &WorkloadId) {
        self.workloads.remove(workload);
    }

    /// The mesh's ports that somebody else has.
    pub fn conflicts(&self) -> Vec<PortConflict> {
        self.conflicts.values().cloned().collect()
    }
}

/// Binds a port on all addresses of both families.
fn hold(protocol: Protocol, port: Port) -> io::Result<(Socket, Port)> {
    let number = Some(i32::from(protocol.number()).into());
    let kind = match protocol {
        Protocol::Tcp | Protocol::Sctp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let both = || {
        let socket = Socket::new(Domain::IPV6, kind, number)?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        io::Result::Ok(socket)
    };
    let socket = match both() {
        // A host without IPv6.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            let socket = Socket::new(Domain::IPV4, kind, number)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket
        }
        other => other?,
    };
    // What still arrives here has no taker.
    _ = socket.set_recv_buffer_size(0);
    let port = socket.local_addr()?.as_socket().map_or(port, |a| a.port());
    Ok((socket, port))
}

fn conflict(protocol: Protocol, port: Port, wanted_by: &str, error: &io::Error) -> PortConflict {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    PortConflict {
        protocol,
        port,
        wanted_by: wanted_by.to_owned(),
        holder: if taken { holder_of_port(protocol, port) } else { None },
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use proto::model::{ContainerId, TaskId};

    use super::*;

    #[test]
    fn a_port_in_use_is_reported_with_its_holder_and_taken_when_free() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let key = (Protocol::Tcp, port);
        let mut ports = Ports::default();
        assert_eq!(ports.reserve([(key, "web")].into_iter(), false), BTreeSet::from([key]));
        let text = ports.conflicts()[0].to_string();
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        assert!(text.contains("for web"), "{text}");
        drop(other);
        assert_eq!(ports.reserve([(key, "web")].into_iter(), true), BTreeSet::new());
        // Held on both families, for nobody to take, and refusing connections.
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        assert!(std::net::TcpListener::bind(("::1", port)).is_err());
        let refused = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        ports.reserve(std::iter::empty(), false);
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn tasks_get_ports_chosen_and_give_them_back() {
        let mut ports = Ports::default();
        let task = WorkloadId::Task(TaskId::random());
        let other = WorkloadId::Container(ContainerId::random());
        let wanted = [PortConfig { target: 53, protocol: Protocol::Udp, ..PortConfig::default() }];
        let bound = ports.bind(&task, "task dns.1.x", wanted.iter()).unwrap();
        assert_ne!(bound[0].published, 0);
        let again = ports.bind(&other, "task dns.2.y", bound.iter());
        assert!(matches!(again, Err(PortConflict { protocol: Protocol::Udp, .. })));
        ports.unbind(&task);
        assert!(ports.bind(&other, "task dns.2.y", bound.iter()).is_ok());
    }
}
