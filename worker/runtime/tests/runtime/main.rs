//! Real containers: each test is a daemon of its own in temporary directories. Needs root; says so otherwise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod adoption;
mod archives;
mod closed;
mod hostile;
mod images;
mod lab;
mod registry;

use std::{
    fs,
    time::{Duration, Instant},
};

use lab::{Lab, config, skip};
use proto::model::{Mount, Ulimit};
use runtime::{ContainerState, ExecConfig, ExecIo, LogLimits, LogOptions, Runtime, RuntimeError, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn exec(list: &[&str]) -> ExecConfig {
    ExecConfig { args: words(list), ..ExecConfig::default() }
}

fn mount(kind: &str, source: &str, target: &str) -> Mount {
    Mount { kind: kind.to_owned(), source: source.to_owned(), target: target.to_owned(), ..Mount::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_what_it_was_promised() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut config = lab.sh(
        "echo out; echo err >&2; hostname; pwd; id; echo $A $HOME; cat /etc/hosts /etc/resolv.conf; exit 7",
    );
    config.spec.hostname = "box".to_owned();
    config.spec.dir = "/made/for/me".to_owned();
    config.spec.env = words(&["A=b c"]);
    config.spec.user = "app".to_owned();
    config.addrs = vec!["10.0.0.9".parse().unwrap()];
    let id = lab.run(config).await;
    let status = lab.runtime.wait(&id).await.unwrap();
    assert_eq!((status.code, status.signal, status.oom), (7, None, false));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    let lines = lab.lines(&id, LogOptions::default()).await;
    assert!(
        lines.contains(&(Stream::Stdout, "out".to_owned()))
            && lines.contains(&(Stream::Stderr, "err".to_owned()))
    );
    let text = lab.log(&id).await;
    for wanted in [
        "box",
        "/made/for/me",
        "uid=1000(app) gid=1001(app) groups=44(video)",
        "b c /home",
        "10.0.0.9\tbox",
        "nameserver 127.0.0.11",
        "options ndots:0",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    lab.runtime.delete(&id, false).await.unwrap();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_confined() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (_, text) = lab
        .output(lab.sh(
            "grep -E 'Seccomp:|CapEff|CapBnd|NoNewPrivs' /proc/self/status; unshare -m true; mount -t tmpfs x /tmp; \
             mknod /tmp/disk b 8 0 && cat /tmp/disk; cat /proc/kcore | head -c1 | wc -c; echo 1 > /proc/sys/kernel/panic; ps | wc -l; \
             ls /proc/self/fd | wc -l; echo x > /dev/null && head -c3 /dev/zero | wc -c; df /dev/shm | tail -1; \
             (yes | head -1); ls -l /bin/suid",
        ))
        .await;
    for wanted in [
        "Seccomp:\t2",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "unshare(0x20000): Operation not permitted",
        "mount: permission denied",
        "can't open '/tmp/disk': Operation not permitted",
        "/proc/sys/kernel/panic: Read-only file system",
        "65536",
        "-rwsr-xr-x",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    let mut config = lab.sh("grep CapEff /proc/self/status; touch /x; ulimit -n; cat /sys/fs/cgroup/pids.max; sysctl -n net.ipv4.tcp_keepalive_time");
    config.spec.cap_drop = words(&["ALL"]);
    config.spec.cap_add = words(&["NET_ADMIN"]);
    config.spec.read_only = true;
    config.spec.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 77, hard: 88 }];
    config.spec.sysctls.insert("net.ipv4.tcp_keepalive_time".to_owned(), "99".to_owned());
    let (_, text) = lab.output(config).await;
    for wanted in ["CapEff:\t0000000000001000", "touch: /x: Read-only file system", "77\n", "99\n"] {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut config = lab.sh("head -c 100m /dev/zero | tail");
    config.spec.command = words(&["tail", "/dev/zero"]);
    config.limits.memory_bytes = 16 << 20;
    let id = lab.run(config).await;
    let status = lab.runtime.wait(&id).await.unwrap();
    assert_eq!((status.code, status.signal, status.oom), (137, Some(9), true));
    let mut config = lab.sh("for n in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait");
    config.limits.pids = 5;
    config.limits.nano_cpus = 500_000_000;
    let (_, text) = lab.output(config).await;
    assert!(text.contains("can't fork"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_of_every_kind() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let shared = lab.root.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "host\n").unwrap();
    let shared = shared.to_str().unwrap();
    let mut config = lab.sh("cat /in/file /ro/file; echo new > /in/made; echo no > /ro/made; df /t | tail -1; cat /data/seed; echo x > /data/kept; ls -n /data/seed");
    let mut tmpfs = mount("tmpfs", "", "/t");
    tmpfs.options.insert("tmpfs-size".to_owned(), "1048576".to_owned());
    config.spec.mounts = vec![
        mount("bind", shared, "/in"),
        Mount { read_only: true, ..mount("bind", shared, "/ro") },
        tmpfs,
        mount("volume", "named", "/data"),
        mount("volume", "", "/anonymous"),
    ];
    let (_, text) = lab.output(config).await;
    for wanted in
        ["host\nhost\n", "/ro/made: Read-only file system", "1024", "from the image", "1000     1000"]
    {
        assert!(text.contains(wanted), "{wanted:?} is missing in:\n{text}");
    }
    assert_eq!(fs::read_to_string(format!("{shared}/made")).unwrap(), "new\n");
    let mut config = lab.sh("cat /data/kept");
    config.spec.mounts = vec![mount("volume", "named", "/data")];
    assert_eq!(lab.output(config).await, (0, "x\n".to_owned()));
    let volumes: Vec<_> = fs::read_dir(lab.config.data_root.join("volumes"))
        .unwrap()
        .flatten()
        .map(|v| v.file_name())
        .collect();
    assert_eq!(volumes, ["named"], "the anonymous one went with its container");

    let mut config = lab.sh("true");
    config.spec.mounts = vec![mount("bind", "/does/not/exist", "/in")];
    let error = lab.runtime.create(config).await.unwrap_err();
    assert!(error.to_string().contains("bind source path does not exist: /does/not/exist"), "{error}");
    assert!(lab.runtime.list().is_empty() && lab.leftovers().is_empty(), "{:?}", lab.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_so_and_leaves_nothing() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    for (command, wanted) in [
        ("no-such-program", "exec: \"no-such-program\": executable file not found in $PATH"),
        ("/no/such/program", "exec: \"/no/such/program\": no such file or directory"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
    ] {
        let error = lab.runtime.create(config(&lab.netns(), &[command])).await.unwrap_err();
        assert!(matches!(error, RuntimeError::Create(_)), "{error:?}");
        assert_eq!(error.to_string(), wanted);
    }
    let mut wrong = lab.sh("true");
    wrong.spec.image = "nothing".to_owned();
    assert!(matches!(lab.runtime.create(wrong).await, Err(RuntimeError::NoSuchImage { .. })));
    let mut wrong = lab.sh("true");
    wrong.netns = Some("/no/such/netns".into());
    println!("a missing namespace: {}", lab.runtime.create(wrong).await.unwrap_err());
    let mut wrong = lab.sh("true");
    wrong.spec.user = "nobody-here".to_owned();
    assert!(lab.runtime.create(wrong).await.unwrap_err().to_string().contains("unable to find user"));
    let first = lab.sh("sleep 100");
    let mut second = lab.sh("true");
    second.name.clone_from(&first.name);
    let id = lab.run(first).await;
    assert!(matches!(lab.runtime.create(second).await, Err(RuntimeError::NameInUse { .. })));
    assert!(matches!(lab.runtime.delete(&id, false).await, Err(RuntimeError::WrongState { .. })));
    lab.runtime.delete(&id, true).await.unwrap();
    assert!(lab.runtime.list().is_empty());
    assert_eq!(fs::read_dir(lab.config.data_root.join("containers")).unwrap().count(), 0);
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_is_polite_then_firm() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let polite = lab.run(lab.sh("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")).await;
    lab.until_logged(&polite, "up").await;
    let status = lab.runtime.stop(&polite, libc::SIGTERM, Duration::from_secs(10)).await.unwrap();
    assert_eq!((status.code, lab.log(&polite).await.as_str()), (3, "up\nbye\n"));

    let stubborn = lab.run(lab.sh("trap '' TERM; echo up; while :; do sleep 0.05; done")).await;
    lab.until_logged(&stubborn, "up").await;
    let asked = Instant::now();
    let status = lab.runtime.stop(&stubborn, libc::SIGTERM, Duration::from_millis(300)).await.unwrap();
    assert_eq!((status.code, status.signal), (137, Some(9)));
    assert!(asked.elapsed() >= Duration::from_millis(300));

    let waiting = lab.sh("true");
    let id = waiting.id.clone();
    let created = lab.runtime.create(waiting).await.unwrap();
    assert!(matches!(created.state, ContainerState::Created { pid } if pid > 0));
    let status = lab.runtime.stop(&id, libc::SIGTERM, Duration::from_secs(10)).await.unwrap();
    assert_eq!((status.code, status.started_at), (137, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_container_cannot_be_made_is_told() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut sysctl = lab.sh("true");
    sysctl.spec.sysctls.insert("kernel.shmmax".to_owned(), "many".to_owned());
    let mut mount_point = lab.sh("true");
    mount_point.spec.mounts = vec![mount("tmpfs", "", "/proc/self/status")];
    for (config, words) in
        [(sysctl, ["kernel.shmmax", "Invalid argument"]), (mount_point, ["rootfs", "Not a directory"])]
    {
        let error = lab.runtime.create(config).await.unwrap_err().to_string();
        println!("{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    assert_eq!(fs::read_dir(lab.config.data_root.join("containers")).unwrap().count(), 0);
    // The daemon's own control group goes with the last container.
    let id = lab.run(lab.sh("true")).await;
    lab.runtime.wait(&id).await.unwrap();
    lab.runtime.delete(&id, false).await.unwrap();
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_is_as_confined_as_the_container() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut config = lab.sh("echo up; sleep 1000");
    config.spec.env = words(&["A=container", "B=container"]);
    let id = lab.run(config).await;
    lab.until_logged(&id, "up").await;

    let status =
        "grep -E 'Seccomp:|CapEff' /proc/self/status; echo $A $B; pwd; id -u; cat /proc/self/cgroup; exit 5";
    let mut request = exec(&["sh", "-c", status]);
    request.env = words(&["B=exec"]);
    request.dir = "/tmp".to_owned();
    let (code, out, err) = lab.exec(&id, request).await;
    assert_eq!((code, err.as_str()), (5, ""));
    for wanted in
        ["Seccomp:\t2", "CapEff:\t00000000a80425fb", "container exec", "/tmp\n0\n", &lab.config.daemon_id]
    {
        assert!(out.contains(wanted), "{wanted:?} is missing in:\n{out}");
    }
    let mut request =
        exec(&["sh", "-c", "grep CapEff /proc/self/status; id; echo $HOME; ps | grep -c sleep"]);
    request.user = "app".to_owned();
    let (_, out, _) = lab.exec(&id, request).await;
    assert!(
        out.contains("CapEff:\t0000000000000000") && out.contains("uid=1000(app)") && out.contains("/home\n"),
        "{out}"
    );

    let (code, _, err) = lab.exec(&id, exec(&["no-such-program"])).await;
    assert_eq!((code, err.trim()), (127, "exec: \"no-such-program\": executable file not found in $PATH"));
    let (code, _, _) = lab.exec(&id, exec(&["sh", "-c", "kill -9 $$"])).await;
    assert_eq!(code, 137);

    let mut request = exec(&["cat"]);
    request.stdin = true;
    let session = lab.runtime.exec(&id, request).await.unwrap();
    let ExecIo::Pipes { stdin, mut stdout, .. } = session.io else { panic!("a terminal") };
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    let mut echoed = String::new();
    stdout.read_to_string(&mut echoed).await.unwrap();
    assert_eq!((echoed.as_str(), session.exit.await.unwrap()), ("hello", 0));

    lab.runtime.delete(&id, true).await.unwrap();
    assert!(matches!(lab.runtime.exec(&id, exec(&["true"])).await, Err(RuntimeError::NoSuchContainer(_))));
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_one() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut config = lab.sh("tty; stty size; sleep 1000");
    config.spec.tty = true;
    let id = lab.run(config).await;
    lab.until_logged(&id, "/dev/pts/0").await;

    let mut request = exec(&["sh"]);
    request.tty = Some((30, 100));
    let session = lab.runtime.exec(&id, request).await.unwrap();
    let ExecIo::Terminal(mut terminal) = session.io else { panic!("pipes") };
    terminal.write_all(b"tty; stty size\n").await.unwrap();
    let mut seen = read_until(&mut terminal, "30 100").await;
    terminal.resizer().unwrap().resize(40, 120).unwrap();
    terminal.write_all(b"stty size; exit 9\n").await.unwrap();
    seen += &read_until(&mut terminal, "40 120").await;
    assert!(seen.contains("/dev/pts/"), "{seen}");
    let mut rest = String::new();
    terminal.read_to_string(&mut rest).await.unwrap();
    assert_eq!(session.exit.await.unwrap(), 9);

    let mut request = exec(&["sh"]);
    request.tty = Some((1, 1));
    request.dir = "/does/not/exist".to_owned();
    let error = lab.runtime.exec(&id, request).await.unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
    lab.runtime.delete(&id, true).await.unwrap();
}

async fn read_until(terminal: &mut (impl AsyncReadExt + Unpin), wanted: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        let mut chunk = [0; 1024];
        while !seen.contains(wanted) {
            let count = terminal.read(&mut chunk).await.unwrap();
            assert!(count > 0, "ended after {seen:?}");
            seen += &String::from_utf8_lossy(&chunk[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect(wanted);
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_rotate_and_are_followed_to_the_end() {
    if skip() {
        return;
    }
    let lab = Lab::with_log(LogLimits { max_bytes: 20_000, max_files: 3 }).await;
    let id = lab
        .run(lab.sh(
            "echo up; sleep 0.3; n=0; while [ $n -lt 3000 ]; do echo line $n; n=$((n+1)); done; printf end",
        ))
        .await;
    let followed = lab.lines(&id, LogOptions { follow: true, ..LogOptions::default() }).await;
    let last: Vec<_> = followed.iter().rev().take(2).map(|(_, text)| text.as_str()).collect();
    assert_eq!(last, ["end", "line 2999"]);
    let tail = lab.lines(&id, LogOptions { tail: Some(3), ..LogOptions::default() }).await;
    assert_eq!(
        tail.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(),
        ["line 2998", "line 2999", "end"]
    );
    let dir = lab.config.data_root.join("containers").join(id.as_str());
    let size = |name: &str| fs::metadata(dir.join(name)).unwrap().len();
    assert!(size("log.json.1") < 40_000 && size("log.json.2") < 40_000 && !dir.join("log.json.3").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_costs() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut times = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..10 {
        let config = lab.sh("exec sleep 1000");
        let (id, begin) = (config.id.clone(), Instant::now());
        lab.runtime.create(config).await.unwrap();
        let created = begin.elapsed();
        lab.runtime.start(&id).await.unwrap();
        times.push((begin.elapsed(), created));
        ids.push(id);
    }
    times.sort();
    for id in &ids {
        let pid = lab.runtime.watch(id).unwrap().borrow().pid().unwrap();
        // Until then it is a copy of its maker.
        while !fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sleep") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let root = lab.root.path().to_str().unwrap();
    let mut memory = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        if command.starts_with("rn-shim\0run") && command.contains(root) {
            let text = fs::read_to_string(process.path().join("status")).unwrap();
            let field = |name: &str| -> u64 {
                let line = text.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().parse().unwrap()
            };
            memory.push((field("VmRSS"), field("RssAnon")));
        }
    }
    println!("create+start: min {:?} median {:?} (create alone {:?})", times[0].0, times[5].0, times[5].1);
    println!("shims: {} of them, resident (all, own) KiB: {:?}", memory.len(), memory.iter().max().unwrap());
    assert_eq!(memory.len(), 10);
    assert!(memory.iter().all(|(resident, _)| *resident < 4096), "{memory:?}");
    for id in ids {
        lab.runtime.delete(&id, true).await.unwrap();
    }
    assert_eq!(lab.leftovers(), Vec::<String>::new());
}
