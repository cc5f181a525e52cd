//! The task sees the client's own address, in every cell of {TCP, UDP} x {IPv4, IPv6} x {local, remote backend}.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, probe, wait};

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
