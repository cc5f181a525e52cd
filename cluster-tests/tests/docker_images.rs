//! Debian's `docker` client, as it is: images that go out, into archives and to a registry.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, net::SocketAddr};

use anyhow::{Result, ensure};
use cluster_tests::{
    Cluster,
    docker::CLIENT,
    image::IMAGE,
    registry::{Registry, USER},
};

#[test]
fn a_saved_image_is_the_same_when_it_is_loaded() -> Result<()> {
    if skip::unless(&[CLIENT]) {
        return Ok(());
    }
    let cluster = Cluster::daemons(2)?;
    cluster.import()?;
    let (host, other) = (&cluster.hosts[0], &cluster.hosts[1]);
    let id = |host: &cluster_tests::Host, name: &str| {
        host.docker(&["image", "inspect", "--format", "{{.Id}}", name])
    };
    let image = id(host, IMAGE)?;
    other.docker(&["rmi", IMAGE])?;
    let file = host.dir().join("saved.tar").display().to_string();
    host.docker(&["tag", IMAGE, "second:name"])?;
    host.docker(&["save", "-o", &file, IMAGE, "second:name"])?;
    let mut tar = tar::Archive::new(fs::File::open(&file)?);
    let names = tar.entries()?.map(|e| Ok(e?.path()?.display().to_string())).collect::<Result<Vec<_>>>()?;
    ensure!(names.iter().filter(|n| n.ends_with("/layer.tar")).count() == 1, "{names:?}");
    let said = other.docker(&["load", "-i", &file])?;
    ensure!(said.contains("Loaded image: testweb:1") && said.contains("Loaded image: second:name"), "{said}");
    ensure!(id(other, IMAGE)? == image && id(other, "second:name")? == image, "the same id");
    ensure!(other.docker(&["run", "--rm", "--network", "none", IMAGE, "echo", "hi"])? == "hi");
    // What was loaded can be saved again, and is the same to the last bit; by its id it has no name.
    let again = other.dir().join("again.tar").display().to_string();
    other.docker(&["save", "-o", &again, IMAGE, "second:name"])?;
    ensure!(fs::read(&file)? == fs::read(&again)?, "bit by bit");
    other.docker(&["save", "-o", &again, &image])?;
    other.docker(&["rmi", IMAGE, "second:name"])?;
    ensure!(other.docker(&["load", "-i", &again])?.contains(&format!("Loaded image ID: {image}")));
    host.docker_says(&["save", "-o", &file, "none:1"], 1, &["No such image: none:1"])?;
    host.docker_says(&["search", "x"], 1, &["rn does not search for images"])?;
    // What that costs on the disk.
    let records: u64 = fs::read_dir(host.data_root().join("images/tars"))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .sum::<Result<u64>>()?;
    ensure!(records > 0 && records < 20_000, "{records} bytes");
    host.docker(&["rmi", "-f", &image])?;
    ensure!(fs::read_dir(host.data_root().join("images/tars"))?.next().is_none(), "gone with the layer");
    Ok(())
}

#[test]
fn a_pushed_image_is_pulled_by_others() -> Result<()> {
    if skip::unless(&[CLIENT, skip::Need::Tool { program: "docker-registry", package: "docker-registry" }]) {
        return Ok(());
    }
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    let host = cluster.manager();
    let addr = SocketAddr::from(([127, 0, 0, 1], 5000));
    let open = Registry::start(&host.ns, addr, &host.dir().join("registry"), false)?;
    let name = open.name("team/app:1");
    host.docker(&["tag", IMAGE, &name])?;
    let said = host.docker(&["push", &name])?;
    ensure!(said.contains("The push refers to repository [127.0.0.1:5000/team/app]"), "{said}");
    ensure!(said.contains("Pushed") && said.contains("1: digest: sha256:"), "{said}");
    let digest = said.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_owned();
    let digests = host.docker(&["image", "inspect", "--format", "{{.RepoDigests}}", &name])?;
    ensure!(digests.contains(&format!("team/app@{digest}")), "{digests}");
    // What the registry has is not sent again.
    let second = open.name("team/app:2");
    host.docker(&["tag", IMAGE, &second])?;
    let said = host.docker(&["push", &second])?;
    ensure!(said.contains("Layer already exists") && said.contains(&digest), "{said}");
    let id = host.docker(&["image", "inspect", "--format", "{{.Id}}", &name])?;
    host.docker(&["rmi", "-f", &id])?;
    host.docker(&["pull", &name])?;
    ensure!(host.docker(&["image", "inspect", "--format", "{{.Id}}", &name])? == id, "the same id");
    ensure!(host.docker(&["run", "--rm", "--network", "none", &name, "echo", "hi"])? == "hi");
    host.docker_says(&["push", &open.name("team/none:1")], 1, &["does not exist locally with the tag"])?;
    // All of a repository, and what was pulled.
    host.docker(&["tag", &name, &second])?;
    let said = host.docker(&["push", "-a", &open.name("team/app")])?;
    ensure!(said.contains("1: digest:") && said.contains("2: digest:"), "{said}");
    drop(open);

    let closed = Registry::start(&host.ns, addr, &host.dir().join("closed"), true)?;
    host.docker_says(&["push", &name], 1, &["push access denied for 127.0.0.1:5000/team/app"])?;
    host.docker(&["login", "-u", USER.0, "-p", USER.1, &addr.to_string()])?;
    ensure!(host.docker(&["push", &name])?.contains("1: digest: sha256:"));
    drop(closed);
    Ok(())
}
