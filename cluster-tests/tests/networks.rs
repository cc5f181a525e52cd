//! Networks of the swarm, the mesh's own among them, and the ports of services.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster, Host,
    image::IMAGE,
    lan::run,
    probe::{self, Answer},
    wait,
};
use nix::sys::signal::Signal;

fn subnets(host: &Host, network: &str) -> Result<Vec<String>> {
    let text = host.rnctl(&["network", "inspect", "--format", "{{json .IPAM.Config}}", network])?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    Ok(list.iter().filter_map(|c| c["Subnet"].as_str().map(str::to_owned)).collect())
}

/// Published and target ports, as the service has them.
fn ports(cluster: &Cluster, service: &str) -> Result<BTreeSet<(u64, u64, String)>> {
    let text = cluster.inspect(service, "{{json .Endpoint.Ports}}")?;
    let list: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    let port = |p: &serde_json::Value| {
        let protocol = p["Protocol"].as_str()?.to_owned();
        Some((p["PublishedPort"].as_u64()?, p["TargetPort"].as_u64()?, protocol))
    };
    list.iter().map(|p| port(p).with_context(|| text.clone())).collect()
}

#[test]
fn there_is_one_mesh_network_and_services_that_publish_hold_it() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let manager = cluster.manager();
    let another = ["network", "create", "-d", "overlay", "--ingress", "mesh"];
    manager.says(&another, &["ingress network", "already present"])?;
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    manager.says(&["network", "rm", "ingress"], &["ingress", "web"])?;
    manager.rnctl(&["service", "rm", "web"])?;
    ensure!(
        manager.rnctl(&["network", "ls", "-q", "--filter", "name=ingress"])?.lines().count() == 1,
        "it stays"
    );
    manager.rnctl(&["network", "rm", "ingress"])?;

    let publish = ["service", "create", "-d", "--name", "web", "--publish", "8080:80", IMAGE];
    manager.says(&publish, &["no ingress network is present"])?;
    // What does not publish needs none; nor does a port of the host.
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    cluster.service(&["--name", "inner", "--network", "app"])?;
    cluster.service(&["--name", "names", "--network", "app", "--endpoint-mode", "dnsrr"])?;
    cluster.service(&["--name", "host", "--publish", "mode=host,published=9090,target=80"])?;
    for service in ["inner", "names", "host"] {
        cluster.wait_running(service, 1)?;
    }
    ensure!(manager.rnctl(&["network", "ls", "-q", "--filter", "name=ingress"])?.is_empty());

    let again = ["network", "create", "-d", "overlay", "--ingress", "--subnet", "10.55.0.0/24", "mesh"];
    manager.rnctl(&again)?;
    ensure!(subnets(manager, "mesh")?.contains(&"10.55.0.0/24".to_owned()));
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)
}

#[test]
fn a_service_on_the_hosts_network_is_its_nodes_own() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    let manager = cluster.manager();
    let on = |host: &Host| -> Result<Vec<String>> {
        let list = host.rnctl(&["ps", "-q", "--no-trunc", "--filter", "network=host"])?;
        Ok(list.lines().map(str::to_owned).collect())
    };
    manager.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    let create = ["service", "create", "-d", "--name", "own", "--network", "host"];
    for (more, words) in [
        (&["--publish", "8080:80"][..], &["service own", "port 80", "network host"][..]),
        (&["--network", "app"], &["service own", "combined", "(app)"]),
        (&["--sysctl", "net.core.somaxconn=64"], &["service own", "net.core.somaxconn", "not allowed"]),
    ] {
        manager.says(&[&create[..], more, &[IMAGE]].concat(), words)?;
    }

    cluster.service(&["--name", "own", "--network", "host", "--mode", "global"])?;
    cluster.wait_running("own", 2)?;
    // On the node's own addresses, without anything that leads there, and under its name.
    cluster.wait_answers(80)?;
    for (k, host) in cluster.hosts.iter().enumerate() {
        let answer =
            Answer::parse(&probe::get_from(&cluster.client.path(), SocketAddr::new(host.v4(), 80), "/")?)?;
        ensure!(answer.task == format!("host{}", k + 1), "{answer:?}");
        ensure!(answer.client == cluster.client_addr(host.v4()), "{answer:?}");
        ensure!(on(host)?.len() == 1, "{}", host.rnctl(&["ps"])?);
        let none = std::fs::read_dir(host.exec_root().join("netns")).map_or(0, Iterator::count);
        ensure!(none == 0, "{none} sandboxes on {}", host.name);
    }
    let targets = manager.rnctl(&["service", "inspect", "--pretty", "own"])?;
    ensure!(targets.lines().any(|l| l.trim().starts_with("Networks:") && l.contains("host")), "{targets}");

    // It outlives the daemon as any task does.
    let before = on(&cluster.hosts[1])?;
    cluster.hosts[1].stop(Signal::SIGKILL)?;
    probe::get_from(&cluster.client.path(), SocketAddr::new(cluster.hosts[1].v6(), 80), "/")?;
    cluster.hosts[1].start()?;
    cluster.wait_running("own", 2)?;
    ensure!(on(&cluster.hosts[1])? == before, "another container");

    // Updated in place: stop-first, since there is one port 80.
    cluster.update(&["--network-rm", "host", "--network-add", "app", "own"])?;
    cluster.wait_update("own", "completed")?;
    let gone = probe::get_from(&cluster.client.path(), SocketAddr::new(cluster.hosts[0].v4(), 80), "/");
    ensure!(gone.is_err(), "{gone:?}");
    Ok(())
}

#[test]
fn pools_and_ports_of_the_swarm_are_those_given_at_its_init() -> Result<()> {
    let cluster = Cluster::daemons(2)?;
    let (first, second) = (&cluster.hosts[0], &cluster.hosts[1]);
    let (addr, pool) = (first.v4().to_string(), "10.20.0.0/16");
    let mut init = vec!["swarm", "init", "--advertise-addr", &addr, "--default-addr-pool", pool];
    init.extend(["--default-addr-pool-mask-length", "25", "--data-path-port", "5789"]);
    first.rnctl(&init)?;
    cluster.join(second, "worker")?;
    cluster.wait_ready(2)?;
    cluster.import()?;
    first.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    ensure!(subnets(first, "ingress")?[0] == "10.20.0.0/25" && subnets(first, "app")?[0] == "10.20.0.128/25");
    let port = first.rnctl(&["info", "--format", "{{.Swarm.Cluster.DataPathPort}}"])?;
    ensure!(port == "5789", "{port}");
    // And it is the port in use: packets between the tasks arrive.
    cluster.service(&["--name", "web", "--network", "app", "--mode", "global", "--publish", "8080:80"])?;
    cluster.wait_running("web", 2)?;
    cluster.wait_answers(8080)?;
    let links = run(second.ns.command("ip").args(["-d", "link", "show", "type", "vxlan"]))?;
    ensure!(String::from_utf8_lossy(&links.stdout).contains("dstport 5789"));
    Ok(())
}

#[test]
fn networks_are_told_apart_by_id_and_name() -> Result<()> {
    let cluster = Cluster::swarm(1)?;
    let manager = cluster.manager();
    let ingress = manager.rnctl(&["network", "inspect", "--format", "{{.Id}}", "ingress"])?;
    // A name that an id begins with.
    let prefix = &ingress[..2];
    let id = manager.rnctl(&["network", "create", "-d", "overlay", prefix])?;
    ensure!(manager.rnctl(&["network", "inspect", "--format", "{{.Id}}", prefix])? == id);
    ensure!(manager.rnctl(&["network", "rm", prefix])? == prefix);
    ensure!(manager.rnctl(&["network", "inspect", "--format", "{{.Name}}", &ingress[..6]])? == "ingress");

    let mut create = vec!["network", "create", "-d", "overlay", "--subnet", "10.60.0.0/24", "--gateway"];
    create.extend(["10.60.0.9", "--ip-range", "10.60.0.128/25", "--label", "a=b", "--internal", "app"]);
    manager.rnctl(&create)?;
    let shown = manager.rnctl(&["network", "inspect", "app"])?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let config = &shown[0]["IPAM"]["Config"][0];
    ensure!(config["Subnet"] == "10.60.0.0/24" && config["Gateway"] == "10.60.0.9", "{shown:#}");
    ensure!(config["IPRange"] == "10.60.0.128/25", "{shown:#}");
    ensure!(shown[0]["Internal"] == true && shown[0]["Labels"]["a"] == "b", "{shown:#}");

    let overlay = ["network", "create", "-d", "overlay"];
    for (args, words) in [
        (&["app"][..], &["network with name app already exists"][..]),
        (&["APP"], &["network with name app already exists", "more than case"]),
        (&["--ipv4=false", "six"], &["six", "IPv4 cannot be disabled"]),
        (&["--subnet", "10.60.0.5/24", "bits"], &["10.60.0.5/24"]),
        (&["--subnet", "10.60.0.0/25", "overlap"], &["10.60.0.0/25", "app"]),
        (&["--subnet", "10.61.0.0/24", "--gateway", "10.62.0.1", "far"], &["10.62.0.1"]),
    ] {
        manager.says(&[&overlay[..], args].concat(), words)?;
    }
    Ok(())
}

#[test]
fn published_ports_are_added_once_and_chosen_from_their_range() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let mut args = vec!["--name", "web", "--publish", "80", "--publish", "80", "--publish", "8080:80"];
    args.extend(["--publish", "8080:80/udp"]);
    cluster.service(&args)?;
    let own = |n: u64, protocol: &str| (n, 80, protocol.to_owned());
    let first = ports(&cluster, "web")?;
    let dynamic: Vec<u64> = first.iter().map(|p| p.0).filter(|p| (30_000..=32_767).contains(p)).collect();
    ensure!(first.contains(&own(8080, "tcp")) && first.contains(&own(8080, "udp")), "{first:?}");
    ensure!(dynamic.len() == first.len() - 2 && !dynamic.is_empty(), "{first:?}");
    cluster.wait_running("web", 1)?;
    for port in &dynamic {
        cluster.wait_answers(u16::try_from(*port)?)?;
    }
    let manager = cluster.manager();
    let add = |port: &str| manager.rnctl(&["service", "update", "-d", "--publish-add", port, "web"]);
    add("8080:80")?;
    ensure!(ports(&cluster, "web")? == first, "what is there is not added twice");
    manager.says(&["service", "update", "-d", "--publish-add", "8080:81", "web"], &["8080"])?;
    ensure!(ports(&cluster, "web")? == first);
    add("9090:80")?;
    ensure!(ports(&cluster, "web")?.len() == first.len() + 1);
    cluster.wait_answers(9090)?;
    cluster.wait_answers(8080)
}

/// Somebody flushes the firewall, as a reload of firewalld does: our tables return by themselves.
#[test]
fn the_mesh_returns_after_a_flush_of_all_rules() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    for host in &cluster.hosts {
        run(host.ns.command("nft").args(["flush", "ruleset"]))?;
    }
    wait::until("the port answers on every node again", wait::LONG, || {
        for addr in cluster.everywhere(8080) {
            cluster_tests::probe::get_from(&cluster.client.path(), addr, "/")?;
        }
        Ok(())
    })
}

/// Addresses have one owner each, through every kind of change and a new leader.
#[test]
fn no_address_is_given_twice_through_changes_and_a_new_leader() -> Result<()> {
    let mut cluster = Cluster::managed(3, 3)?;
    cluster.import()?;
    for network in ["one", "two"] {
        cluster.manager().rnctl(&["network", "create", "-d", "overlay", network])?;
    }
    let taken = |cluster: &Cluster| -> Result<()> {
        let ids = cluster.manager().rnctl(&["service", "ls", "-q"])?;
        let ids: Vec<&str> = ids.lines().collect();
        let (mut all, mut wait) = (BTreeSet::new(), Vec::new());
        for id in &ids {
            let endpoint = cluster.inspect(id, "{{json .Endpoint}}")?;
            let endpoint: serde_json::Value = serde_json::from_str(&endpoint)?;
            let vips = endpoint["VirtualIPs"].as_array().into_iter().flatten();
            wait.extend(vips.filter_map(|v| v["Addr"].as_str().map(str::to_owned)));
            let tasks =
                cluster.manager().rnctl(&["service", "ps", "-q", "--filter", "desired-state=running", id])?;
            for task in tasks.lines() {
                let format = "{{range .NetworksAttachments}}{{range .Addresses}}{{.}} {{end}}{{end}}";
                let addrs =
                    cluster.manager().rnctl(&["inspect", "--type", "task", "--format", format, task])?;
                wait.extend(addrs.split_whitespace().map(str::to_owned));
            }
        }
        ensure!(wait.len() >= 8, "{wait:?}");
        for addr in wait {
            let ip: IpAddr = addr.split('/').next().unwrap_or_default().parse()?;
            ensure!(all.insert(ip), "{ip} has two owners");
        }
        Ok(())
    };
    cluster.service(&["--name", "a", "--network", "one", "--replicas", "3", "--publish", "8080:80"])?;
    cluster.service(&["--name", "b", "--network", "one", "--network", "two", "--replicas", "2"])?;
    cluster.wait_running("a", 3)?;
    cluster.wait_running("b", 2)?;
    taken(&cluster)?;
    let leader = cluster.leader()?;
    cluster.hosts[leader].stop(nix::sys::signal::Signal::SIGKILL)?;
    cluster.ask((leader + 1) % 3);
    for change in [
        &["--network-add", "two", "a"][..],
        &["--network-rm", "one", "b"],
        &["--endpoint-mode", "dnsrr", "b"],
        &["--endpoint-mode", "vip", "b"],
        &["--publish-rm", "80", "a"],
    ] {
        let mut args = vec!["service", "update", "-d"];
        args.extend_from_slice(change);
        cluster.manager().rnctl(&args)?;
        taken(&cluster)?;
    }
    cluster.manager().rnctl(&["service", "scale", "-d", "a=6", "b=5"])?;
    cluster.wait_running("b", 5)?;
    taken(&cluster)?;
    cluster.hosts[leader].start()?;
    cluster.wait_managers(3)?;
    cluster.wait_running("a", 6)?;
    taken(&cluster)
}
