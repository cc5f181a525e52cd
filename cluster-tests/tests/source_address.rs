//! The task sees the client's own address, in every cell of {TCP, UDP} x {IPv4, IPv6} x {local, remote backend}.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster,
    lan::enter,
    probe::{self, Answer, Http},
    wait,
};

const CONNECTIONS: usize = 1000;

#[test]
fn a_thousand_connections_in_every_cell() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.service(&["--name", "web", "--publish", "8080:80", "--publish", "8080:80/udp"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    let (running, _) = cluster.running("web")?;
    let (local, remote) = cluster.local_and_remote(&running[0].1)?;
    let ns = cluster.client.path();
    for (place, host) in [("local", local), ("remote", remote)] {
        for ip in [host.v4(), host.v6()] {
            let addr = SocketAddr::new(ip, 8080);
            wait::until(&format!("{addr}/udp answers"), wait::SHORT, || {
                let tally = probe::udp_many(&ns, addr, 1)?;
                tally.assert_clean("udp")
            })?;
            for (protocol, tally) in [
                ("tcp", probe::tcp_many(&ns, addr, CONNECTIONS)?),
                ("udp", probe::udp_many(&ns, addr, CONNECTIONS)?),
            ] {
                let cell = format!("{protocol} to {addr}, {place} backend");
                tally.assert_clean(&cell)?;
                let clients = tally.clients();
                let want = cluster.client_addr(ip);
                ensure!(
                    clients.len() == 1 && clients[&want] == CONNECTIONS as u64,
                    "{cell}: task saw {clients:?}"
                );
                println!("{cell}: {CONNECTIONS} of {CONNECTIONS} from {want}");
            }
        }
    }
    Ok(())
}

#[test]
fn from_the_node_itself_and_from_tasks() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.service(&["--name", "web", "--replicas", "2", "--publish", "8080:80"])?;
    cluster.wait_running("web", 2)?;
    cluster.wait_answers(8080)?;
    for host in &cluster.hosts {
        for ip in [host.v4(), host.v6(), "127.0.0.1".parse()?] {
            let tally = probe::tcp_many(&host.ns.path(), SocketAddr::new(ip, 8080), 50)?;
            tally.assert_clean(&format!("{} to its own {ip}", host.name))?;
            ensure!(tally.by_task().len() == 2, "{}: {:?}", host.name, tally.by_task());
        }
        let refused = probe::tcp_many(&host.ns.path(), "[::1]:8080".parse()?, 1)?;
        ensure!(
            refused.failures.len() == 1 && refused.failures[0].contains("refused"),
            "::1 is refused at once: {refused:?}"
        );
        let container = cluster.container(host, "web")?;
        for other in &cluster.hosts {
            for ip in [other.v4(), other.v6()] {
                let target = SocketAddr::new(ip, 8080).to_string();
                let body = host.exec(&container, &["rn-testd", "get", &target])?;
                ensure!(body.split_whitespace().count() == 2, "{target}: {body:?}");
            }
        }
    }
    Ok(())
}

/// A machine that spreads its connections over the nodes, as load balancers in front do, uses one source port for several nodes
/// at once. All of those connections may end at one task, which sees the same client address in each.
#[test]
fn one_source_port_through_every_node_at_once() -> Result<()> {
    const PORT: u16 = 45_000;
    let cluster = Cluster::with_image(3)?;
    let here = ["--constraint", "node.hostname==host3"];
    cluster.service(
        &[&["--name", "web", "--publish", "8080:80", "--publish", "8080:80/udp"], &here[..]].concat(),
    )?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    let clients: [IpAddr; 2] = [cluster.client_port.v4.into(), cluster.client_port.v6.into()];
    let answers = |text: &str, addr: SocketAddr, what: &str| -> Result<()> {
        let client = Answer::parse(text)?.client;
        ensure!(client == clients[usize::from(addr.is_ipv6())], "{what} to {addr}: the task saw {client}");
        Ok(())
    };
    enter(&cluster.client.path(), || -> Result<()> {
        let mut open = Vec::new();
        for addr in cluster.everywhere(8080) {
            let datagrams = probe::udp_from(PORT, addr)?;
            let mut held =
                Http::connect_from(PORT, addr).with_context(|| format!("{addr}, {} open", open.len()))?;
            answers(&held.get("/", true)?.0, addr, "a first request")?;
            open.push((addr, datagrams, held));
        }
        for _ in 0..3 {
            for (addr, datagrams, held) in &mut open {
                answers(&held.get("/", true)?.0, *addr, "another request")?;
                answers(&probe::ask(datagrams)?, *addr, "a datagram")?;
            }
        }
        // One after the other: the task's end of the connection before is still in TIME_WAIT.
        for addr in cluster.everywhere(8080) {
            answers(&Http::connect_from(PORT + 1, addr)?.get("/", false)?.0, addr, "a short connection")?;
        }
        Ok(())
    })?
}
