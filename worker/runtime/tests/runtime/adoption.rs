//! Containers outlive their daemon.

use std::{
    fs,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use proto::model::ContainerId;
use runtime::{ContainerState, LogLimits, LogOptions, Runtime, ShimRuntime};

use crate::{
    exec,
    lab::{self, Lab, skip},
};

/// The part of a daemon in `a_daemon_may_be_killed`: runs containers until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test, in a process of its own"]
async fn daemon_role() {
    let Ok(config) = std::env::var("RN_TEST_CONFIG") else { return };
    let [data, exec, id, netns] = config.split('|').collect::<Vec<_>>().try_into().unwrap();
    let config = runtime::ShimConfig {
        data_root: data.into(),
        exec_root: exec.into(),
        daemon_id: id.to_owned(),
        shim: lab::shim(),
        log: LogLimits::default(),
        registries: Default::default(),
        unpack_limit: Default::default(),
    };
    let runtime = ShimRuntime::open(config).await.unwrap();
    for (name, script) in [
        ("goes-on", "n=0; while :; do echo tick $n; n=$((n+1)); sleep 0.02; done"),
        ("ends-meanwhile", "sleep 0.5; echo last words; exit 4"),
        ("loses-its-shim", "sleep 1000"),
    ] {
        let mut container = lab::config(netns.as_ref(), &["sh", "-c", script]);
        name.clone_into(&mut container.name);
        let id = container.id.clone();
        runtime.create(container).await.unwrap();
        runtime.start(&id).await.unwrap();
        if name == "goes-on" {
            let (mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            runtime.park(&id, "sockets", vec![OwnedFd::from(theirs)]).await.unwrap();
            (&mine).write_all(b"a question asked before the crash").unwrap();
        }
    }
    println!("READY");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_may_be_killed() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let settings = format!(
        "{}|{}|{}|{}",
        lab.config.data_root.display(),
        lab.config.exec_root.display(),
        lab.config.daemon_id,
        lab.netns().display()
    );
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adoption::daemon_role", "--ignored", "--nocapture"])
        .env("RN_TEST_CONFIG", settings)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = daemon.stdout.take().unwrap();
    while !said.contains("READY") {
        let mut chunk = [0; 256];
        let count = output.read(&mut chunk).unwrap();
        assert!(count > 0, "the daemon ended: {said}");
        said += &String::from_utf8_lossy(&chunk[..count]);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    // Meanwhile: one container ends, another one's shim is killed too.
    let record = |name: &str| -> (ContainerId, String) {
        let mut found = None;
        for entry in fs::read_dir(lab.config.data_root.join("containers")).unwrap().flatten() {
            let text = String::from_utf8(durable::load(&entry.path().join("record.json")).unwrap().unwrap())
                .unwrap();
            if text.contains(&format!("\"{name}\"")) {
                found = Some((
                    entry.file_name().to_str().unwrap().parse().unwrap(),
                    entry.path().display().to_string(),
                ));
            }
        }
        found.unwrap()
    };
    let (ended, ended_dir) = record("ends-meanwhile");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::path::Path::new(&ended_dir).join("exit.json").exists() {
        assert!(Instant::now() < deadline, "it should have ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (lost, lost_dir) = record("loses-its-shim");
    let shim = fs::read_dir("/proc").unwrap().flatten().find(|process| {
        fs::read_to_string(process.path().join("cmdline"))
            .unwrap_or_default()
            .replace('\0', " ")
            .trim()
            .ends_with(&lost_dir)
    });
    let shim: i32 = shim.expect("the shim runs").file_name().to_str().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    // And a container that was never finished.
    fs::create_dir(lab.config.data_root.join("containers").join("half-made")).unwrap();

    let mut lab = lab;
    lab.runtime = Arc::new(ShimRuntime::open(lab.config.clone()).await.unwrap());
    let (running, _) = record_of(&lab, "goes-on");
    assert_eq!(lab.runtime.list().len(), 3);
    assert!(matches!(lab.runtime.watch(&running).unwrap().borrow().clone(), ContainerState::Running { .. }));
    let status = lab.runtime.wait(&ended).await.unwrap();
    assert_eq!((status.code, lab.log(&ended).await.as_str()), (4, "last words\n"));
    let status = lab.runtime.wait(&lost).await.unwrap();
    assert_eq!(status.code, 137);
    assert!(status.error.contains("shim"), "{status:?}");
    assert!(!lab.config.data_root.join("containers/half-made").exists());

    // Its log has no hole, and it still does what it is told.
    let before = lab.lines(&running, LogOptions::default()).await.len();
    lab.until_logged(&running, &format!("tick {}", before + 10)).await;
    for (n, (_, text)) in lab.lines(&running, LogOptions::default()).await.iter().enumerate() {
        assert_eq!(text, &format!("tick {n}"));
    }
    let fds = lab.runtime.unpark(&running, "sockets").await.unwrap();
    let mut parked = std::os::unix::net::UnixStream::from(fds.into_iter().next().unwrap());
    let mut question = [0; 33];
    parked.read_exact(&mut question).unwrap();
    assert_eq!(&question, b"a question asked before the crash");
    assert!(lab.runtime.unpark(&running, "nothing").await.unwrap().is_empty());
    assert_eq!(lab.exec(&running, exec(&["echo", "still here"])).await.1, "still here\n");
    for container in lab.runtime.list() {
        lab.runtime.delete(&container.record.id, true).await.unwrap();
    }
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

fn record_of(lab: &Lab, name: &str) -> (ContainerId, ContainerState) {
    let found = lab.runtime.list().into_iter().find(|container| container.record.name == name).unwrap();
    (found.record.id, found.state)
}
