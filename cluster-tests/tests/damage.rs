//! Every small file that a node keeps is damaged in turn, in every way that a power cut, a full disk or a bad one damages files, and the
//! daemon is started again: it comes back into its swarm, or says which file is damaged and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, wait};
use nix::sys::signal::Signal;

/// Ways to damage a file.
const WAYS: [&str; 5] = ["emptied", "zeroed", "cut off", "its end zeroed", "one bit flipped"];

fn damaged(whole: &[u8], way: &str) -> Vec<u8> {
    let (mut bytes, half) = (whole.to_vec(), whole.len() / 2);
    match way {
        "emptied" => bytes.clear(),
        "zeroed" => bytes.fill(0),
        "cut off" => bytes.truncate(half),
        "its end zeroed" => bytes[half..].fill(0),
        _ => bytes[half] ^= 0x10,
    }
    bytes
}

/// The small files below a data root: not what images and containers consist of, nor the database, which has checksums of its own.
fn small_files(root: &Path) -> Vec<PathBuf> {
    let skipped = ["layers", "upper", "work", "rootfs", "lower", "volumes", "partial", "new", "db", "bundle"];
    let (mut dirs, mut files) = (vec![root.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            match entry.file_type().is_ok_and(|t| t.is_dir()) {
                true if skipped.contains(&name.as_str()) => {}
                true => dirs.push(path),
                false if name == "lock" || name.starts_with("log.json") || name.ends_with(".damaged") => {}
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

/// What of a node's name is the same in every run.
fn kind(root: &Path, path: &Path) -> String {
    let below =
        path.strip_prefix(root).unwrap_or(path).components().map(|part| part.as_os_str().to_string_lossy());
    let below = below.map(|part| if part.len() > 40 { "<id>".into() } else { part });
    below.collect::<Vec<_>>().join("/")
}

/// What became of a node: whether it is back, or what it says.
fn outcome(host: &Host, path: &Path, back: &dyn Fn() -> Result<()>) -> Result<&'static str> {
    let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
    wait::until(&format!("{} is back, or says why not", host.name), wait::LONG, || {
        let info = host.rnctl(&["info"])?;
        if info.contains(&*path.to_string_lossy()) || info.contains(&name) {
            ensure!(info.contains("swarm leave --force"), "it says no way out: {info}");
            return Ok("named, with the way out");
        }
        ensure!(info.contains("Swarm: active"), "{info}");
        back().map(|()| "back in its swarm")
    })
}

fn damage_all(cluster: &mut Cluster, k: usize, back: &dyn Fn(&Cluster) -> Result<()>) -> Result<()> {
    let root = cluster.hosts[k].data_root();
    let files = small_files(&root);
    println!("{} files on {}", files.len(), cluster.hosts[k].name);
    ensure!(files.len() >= 8, "too few: {files:?}");
    let files: Vec<(PathBuf, Vec<u8>)> =
        files.into_iter().filter_map(|path| fs::read(&path).ok().map(|whole| (path, whole))).collect();
    for (path, first) in files.into_iter().filter(|(_, whole)| !whole.is_empty()) {
        let mut seen = Vec::new();
        for way in WAYS {
            // The container may have gone, as its task was replaced.
            if !path.parent().is_some_and(Path::is_dir) {
                break;
            }
            cluster.hosts[k].stop(Signal::SIGKILL)?;
            // It may have been written anew since, or be set aside.
            let whole =
                fs::read(&path).ok().filter(|there| !there.is_empty()).unwrap_or_else(|| first.clone());
            fs::write(&path, damaged(&whole, way))?;
            cluster.hosts[k].start().with_context(|| format!("{} {way}", path.display()))?;
            let result = outcome(&cluster.hosts[k], &path, &|| back(cluster));
            let result = result.with_context(|| format!("{} {way}", path.display()))?;
            seen.push(format!("{way}: {result}"));
            if result != "back in its swarm" {
                cluster.hosts[k].stop(Signal::SIGKILL)?;
                fs::write(&path, &whole)?;
                cluster.hosts[k].start()?;
                wait::until("it is back with the file as it was", wait::LONG, || back(cluster))?;
            }
        }
        println!("{}: {}", kind(&root, &path), seen.join("; "));
    }
    Ok(())
}

#[test]
fn a_worker_with_a_damaged_file_comes_back_or_names_it() -> Result<()> {
    let mut cluster = Cluster::with_image(2)?;
    cluster.service(&["--name", "web", "--constraint", "node.hostname==host2", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    cluster.wait_answers(8080)?;
    cluster.hosts[1].rnctl(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "hand",
        cluster_tests::image::IMAGE,
        "sleep",
        "100000",
    ])?;
    damage_all(&mut cluster, 1, &|cluster| {
        // Its image may be lost with its name: that is brought again, as the log says.
        let images = cluster.hosts[1].rnctl(&["images"])?;
        if !images.contains("testweb") {
            cluster.import()?;
        }
        cluster.wait_ready(2)?;
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() == 1, "{list}");
        Ok(())
    })
}

#[test]
fn a_manager_with_a_damaged_file_comes_back_or_names_it() -> Result<()> {
    let mut cluster = Cluster::with_image(1)?;
    cluster.service(&["--name", "web", "--publish", "8080:80"])?;
    cluster.wait_running("web", 1)?;
    damage_all(&mut cluster, 0, &|cluster| {
        if !cluster.hosts[0].rnctl(&["images"])?.contains("testweb") {
            cluster.import()?;
        }
        cluster.wait_ready(1)?;
        let (running, list) = cluster.running("web")?;
        ensure!(running.len() == 1, "{list}");
        Ok(())
    })
}
