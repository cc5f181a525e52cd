//! Which addresses this node listens on and tells others, at first and after the machine has moved.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use kernel::facts::HostFacts;
use proto::error::ApiError;

use super::{CONTROL_PORT, Membership, NodeContext};

impl NodeContext {
    /// The rules of swarm-behaviour 3.10: flag, else the daemon's default, else the only address there is.
    pub(super) fn addresses(
        &self,
        advertise: &str,
        listen: &str,
        data_path: &str,
        manager: Option<SocketAddr>,
    ) -> Result<Membership, ApiError> {
        let facts = HostFacts::read().map_err(|e| ApiError::internal(e.to_string()))?;
        let listen_addr = match listen {
            "" => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), CONTROL_PORT),
            text => {
                let (host, port) = host_port(text, CONTROL_PORT, "--listen-addr")?;
                let addr = match host.parse::<IpAddr>() {
                    // One socket takes both families.
                    Ok(addr) if addr == IpAddr::from([0, 0, 0, 0]) => Ipv6Addr::UNSPECIFIED.into(),
                    Ok(addr) => addr,
                    Err(_) => facts
                        .advertise(Some(&host))
                        .map_err(|e| ApiError::invalid(format!("--listen-addr: {e}")))?,
                };
                SocketAddr::new(addr, port)
            }
        };
        let wanted =
            Some(advertise).filter(|a| !a.is_empty()).or(self.config.default_advertise_addr.as_deref());
        let (host, port) = match wanted {
            Some(text) => {
                let (host, port) = host_port(text, listen_addr.port(), "--advertise-addr")?;
                (Some(host), port)
            }
            None => (None, listen_addr.port()),
        };
        let ip = match (facts.advertise(host.as_deref()), manager) {
            (Ok(ip), _) => ip,
            // A joiner's address is what the manager sees, or what the route to the manager would use.
            (Err(_), Some(manager)) if host.is_none() => route_to(manager).ok_or_else(|| {
                ApiError::invalid(format!("there is no route to manager {manager}"))
                    .help("give --advertise-addr")
            })?,
            (Err(error), _) => return Err(ApiError::invalid(error.to_string())),
        };
        let ours = facts.addresses().any(|a| a == ip) || ip.is_loopback();
        if !ours && host.is_some() {
            tracing::warn!(%ip, "the advertise address is not on any interface of this machine");
        }
        let data_path_addr = match data_path {
            "" => ip,
            text if text.parse::<SocketAddr>().is_ok() => {
                return Err(ApiError::invalid(format!(
                    "--data-path-addr {text:?}: a port is not allowed here"
                ))
                .help("the port is set for the whole swarm by swarm init --data-path-port"));
            }
            text => facts
                .advertise(Some(text))
                .map_err(|e| ApiError::invalid(format!("--data-path-addr: {e}")))?,
        };
        Ok(Membership {
            listen_addr,
            advertise_addr: SocketAddr::new(ip, port),
            data_path_addr,
            data_path_port: 4789,
            managers: manager.into_iter().collect(),
            advertise_device: facts.device_of(ip).map(|d| d.name.clone()),
            data_path_device: facts.device_of(data_path_addr).map(|d| d.name.clone()),
        })
    }
}

impl Membership {
    /// The same on a machine whose addresses have changed; none while they are what they were, or nothing is known to take their
    /// place.
    pub fn moved(&self) -> Option<Self> {
        let stayed = |addr: IpAddr, device: &Option<String>| device.is_none() || is_own(addr);
        let advertise = self.advertise_addr.ip();
        let (here, data) =
            (stayed(advertise, &self.advertise_device), stayed(self.data_path_addr, &self.data_path_device));
        if here && data {
            return None;
        }
        let facts = HostFacts::read().ok()?;
        let new = |stays: bool, addr: IpAddr, device: &Option<String>| {
            if stays { Some(addr) } else { successor(&facts, addr, device.as_deref()?) }
        };
        let ip = new(here, advertise, &self.advertise_device)?;
        let data_path_addr = if self.data_path_addr == advertise {
            ip
        } else {
            new(data, self.data_path_addr, &self.data_path_device)?
        };
        let listen = if self.listen_addr.ip() == advertise { ip } else { self.listen_addr.ip() };
        let device = |addr: IpAddr, old: &Option<String>| {
            facts.device_of(addr).map(|d| d.name.clone()).or_else(|| old.clone())
        };
        Some(Self {
            listen_addr: SocketAddr::new(listen, self.listen_addr.port()),
            advertise_addr: SocketAddr::new(ip, self.advertise_addr.port()),
            advertise_device: device(ip, &self.advertise_device),
            data_path_device: device(data_path_addr, &self.data_path_device),
            data_path_addr,
            ..self.clone()
        })
    }
}

/// Whether the machine has this address. A socket can be bound to nothing else.
fn is_own(addr: IpAddr) -> bool {
    match std::net::UdpSocket::bind((addr, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrNotAvailable,
    }
}

/// What takes the place of an address that is gone: the device's only one of the same family, else the machine's.
fn successor(facts: &HostFacts, gone: IpAddr, device: &str) -> Option<IpAddr> {
    let same = |addr: &IpAddr| addr.is_ipv4() == gone.is_ipv4();
    let only = |found: Vec<IpAddr>| match found.as_slice() {
        [only] => Some(*only),
        _ => None,
    };
    let on_device = facts.global().filter(|(d, _)| d.name == device).map(|(_, a)| a).filter(same).collect();
    only(on_device).or_else(|| only(facts.global().map(|(_, a)| a).filter(same).collect()))
}

fn host_port(text: &str, default: u16, flag: &str) -> Result<(String, u16), ApiError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), default));
    }
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Ok((addr.ip().to_string(), addr.port()));
    }
    match text.rsplit_once(':') {
        None => Ok((text.to_owned(), default)),
        Some((host, port)) => match port.parse() {
            Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
            _ => Err(ApiError::invalid(format!("{flag} {text:?} is not an address"))
                .help("use IP, INTERFACE, IP:PORT or INTERFACE:PORT; IPv6 with a port as [IP]:PORT")),
        },
    }
}

pub(super) fn manager_addr(text: &str) -> Result<SocketAddr, ApiError> {
    use std::net::ToSocketAddrs;
    let bad = |why: String| {
        ApiError::invalid(format!("manager address {text:?}: {why}"))
            .help("use HOST:PORT; the port is 2377 when left out")
    };
    let (host, port) = host_port(text, CONTROL_PORT, "address")?;
    let mut found =
        (host.trim_matches(['[', ']']), port).to_socket_addrs().map_err(|e| bad(e.to_string()))?;
    found.next().ok_or_else(|| bad("no address".into()))
}

/// The source address that the kernel would use towards `manager`; no packet is sent.
fn route_to(manager: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if manager.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(manager).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
