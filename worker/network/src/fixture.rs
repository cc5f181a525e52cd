//! A small cluster for tests: networks, services, tasks and what gossip says of them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use gossip::{EndpointRecord, EndpointState, NodeFact, PeerView};
use kernel::facts::BridgeNetfilter;
use proto::model::*;

use crate::{
    assigned::Assigned,
    desired::{GatewaySubnets, LocalFacts, LocalSandbox, Member, Swarm, Underlay},
    plan::names::{Marks, Names},
    workload::{Workload, WorkloadId},
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str) -> T {
    text.parse().unwrap()
}

/// What one node would be told, and knows.
#[derive(Debug, Clone)]
pub struct World {
    pub assigned: Assigned,
    pub view: PeerView,
    pub member: Member,
    pub local: LocalFacts,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Node `a` (10.77.0.1) of a cluster with `ingress` and the overlay `app`.
    pub fn new() -> Self {
        Self::seen_by("a")
    }

    /// The same cluster, as another node sees it.
    pub fn seen_by(me: &str) -> Self {
        let mut world = Self {
            assigned: Assigned { generation: 1, ..Assigned::default() },
            view: PeerView::default(),
            member: Member {
                me: id(me),
                underlay: Underlay { addr: ip("10.77.0.1"), dev: None, port: 4789, mtu: 1500 },
                marks: Marks::default(),
            },
            local: LocalFacts {
                names: Names::well_known(&format!("daemon-{me}")),
                netns_dir: "/run/rn-test/netns".into(),
                gateway: GatewaySubnets {
                    v4: "172.18.0.0/16".parse().unwrap(),
                    v6: "fd18::/64".parse().unwrap(),
                },
                sandboxes: BTreeMap::new(),
                port_conflicts: Default::default(),
                bridge_netfilter: BridgeNetfilter::Off,
                settled: true,
                firewall_compat: true,
                vxlan_members_only: true,
                recent_members: Default::default(),
            },
        };
        world.network("ingress", 4096, &["10.0.0.0/24", "fd00:1::/64"], true);
        world.network("app", 4097, &["10.0.1.0/24", "fd00:2::/64"], false);
        for (n, node) in ["a", "b", "c"].into_iter().enumerate() {
            let n = n + 1;
            world.node(node, &format!("10.77.0.{n}"), &[&format!("10.0.0.{n}"), &format!("fd00:1::{n}")]);
        }
        world
    }

    pub fn network(&mut self, name: &str, vni: u32, subnets: &[&str], ingress: bool) {
        let subnets = subnets.iter().map(|s| {
            let subnet: ipnet::IpNet = s.parse().unwrap();
            Subnet { subnet, gateway: subnet.hosts().nth(0).unwrap(), ip_range: None }
        });
        let network = Network {
            id: id(name),
            meta: Meta::default(),
            spec: NetworkSpec { name: name.into(), ingress, ..NetworkSpec::default() },
            allocation: Some(NetworkAllocation { vni: Vni(vni), mtu: 1450, subnets: subnets.collect() }),
            conditions: vec![],
        };
        self.assigned.networks.insert(id(name), Arc::new(network));
    }

    /// What the swarm tells this node.
    pub fn swarm(&self) -> Swarm<'_> {
        Swarm { member: &self.member, assigned: &self.assigned, view: &self.view }
    }

    pub fn node(&mut self, name: &str, vtep: &str, ingress: &[&str]) {
        let ingress_addrs: Vec<IpAddr> = ingress.iter().map(|a| ip(a)).collect();
        if self.member.me == id(name) {
            self.assigned.node = Some(Arc::new(Node {
                id: id(name),
                meta: Meta::default(),
                spec: NodeSpec::default(),
                description: None,
                status: NodeStatus::default(),
                manager_status: None,
                role: Role::Worker,
                ingress_addrs: ingress_addrs.clone(),
                raft_id: 0,
                raft_addr: None,
                spec_version: Default::default(),
                conditions: vec![],
            }));
        }
        let fact = NodeFact {
            node: id(name),
            hostname: name.into(),
            vtep: ip(vtep),
            gossip_addr: std::net::SocketAddr::new(ip(vtep), 7946),
            ingress_addrs,
            host_addrs: vec![ip(vtep)],
            networks: Default::default(),
            generation: 1,
            version: 1,
            settled: true,
            left: false,
            alive: true,
        };
        self.view.nodes.insert(id(name), Arc::new(fact));
    }

    pub fn set_alive(&mut self, node: &str, alive: bool) {
        Arc::make_mut(self.view.nodes.get_mut(&id::<NodeId>(node)).unwrap()).alive = alive;
    }

    /// A service on `app`, with a port through the mesh if `published` is not 0.
    pub fn service(&mut self, name: &str, vips: &[&str], published: Port, aliases: &[&str]) {
        let mode = if vips.is_empty() { EndpointMode::DnsRr } else { EndpointMode::Vip };
        let port = PortConfig { target: 80, published, ..PortConfig::default() };
        let ports = if published == 0 {
            vec![]
        } else {
            vec![port.clone(), PortConfig { protocol: Protocol::Udp, ..port }]
        };
        let service = Service {
            id: id(name),
            meta: Meta::default(),
            spec: ServiceSpec {
                name: name.into(),
                labels: BTreeMap::new(),
                task: TaskSpec {
                    networks: vec![NetworkAttachmentConfig {
                        target: "app".into(),
                        aliases: aliases.iter().map(|a| (*a).into()).collect(),
                        driver_opts: BTreeMap::new(),
                    }],
                    ..TaskSpec::default()
                },
                mode: ServiceMode::Replicated(1),
                update: None,
                rollback: None,
                endpoint: EndpointSpec { mode, ports: ports.clone() },
            },
            previous_spec: None,
            spec_version: Revision(1),
            allocation: Some(ServiceAllocation {
                ports,
                vips: if vips.is_empty() {
                    vec![]
                } else {
                    vec![Vip { network: id("app"), addrs: vips.iter().map(|a| ip(a)).collect() }]
                },
                of_version: Revision(1),
            }),
            conditions: vec![],
            update_status: None,
        };
        self.assigned.services.insert(id(name), Arc::new(service));
    }

    /// Task `service.slot` on `node`, with address number `host` on `app` and on `ingress`.
    pub fn task(&mut self, service: &str, slot: u64, node: &str, host: u32, state: EndpointState) -> TaskId {
        let task: TaskId = id(&format!("{service}{slot}"));
        let on = |v4: &str, v6: &str| vec![ip(&format!("{v4}.{host}")), ip(&format!("{v6}::{host:x}"))];
        for (network, addrs) in [("app", on("10.0.1", "fd00:2")), ("ingress", on("10.0.0", "fd00:1"))] {
            let record = EndpointRecord {
                network: id(network),
                task: task.clone(),
                node: id(node),
                service: id(service),
                service_name: service.into(),
                task_name: format!("{service}.{slot}.{task}"),
                slot,
                addrs,
                aliases: vec![],
                task_aliases: vec![format!("short{task}")],
                state,
                seq: 1,
            };
            self.view.endpoints.insert((id(network), task.clone()), Arc::new(record));
        }
        if self.member.me == id(node) {
            let prefixed = |addr: IpAddr| SubnetAddr { addr, prefix: if addr.is_ipv4() { 24 } else { 64 } };
            let made = Task {
                id: task.clone(),
                meta: Meta::default(),
                service_id: id(service),
                service_name: service.into(),
                slot,
                spec: TaskSpec::default(),
                spec_version: Revision(1),
                allocation: Some(TaskAllocation {
                    attachments: vec![Attachment {
                        network: id("app"),
                        addrs: on("10.0.1", "fd00:2").into_iter().map(prefixed).collect(),
                        aliases: vec![],
                    }],
                    ingress_addrs: on("10.0.0", "fd00:1"),
                    ports: vec![],
                }),
                node_id: Some(id(node)),
                desired: TaskState::Running,
                status: TaskStatus::default(),
                conditions: vec![],
                start_after: Timestamp(0),
                running_at: Timestamp(0),
                ended_at: Timestamp(0),
                attached_container: None,
            };
            let app: &str = "app";
            self.local.sandboxes.insert(
                WorkloadId::from(&task),
                LocalSandbox {
                    workload: Arc::new(Workload::of_task(&Arc::new(made))),
                    networks: self.assigned.networks.get(app).cloned().into_iter().collect(),
                    gateway_host: Some(host),
                    host_ports: vec![],
                    dns: None,
                },
            );
        }
        task
    }
}
