//! Containers that a user watches: what they write arrives as they write it, and what is typed reaches them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    process::{Child, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host, image::IMAGE, pty::Terminal, wait};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ring::digest::{SHA256, digest};

const LIMIT: Duration = Duration::from_secs(60);
const MEGABYTES: usize = 100;

/// A daemon outside any swarm, with the image.
fn machine() -> Result<Cluster> {
    let cluster = Cluster::daemons(1)?;
    cluster.import()?;
    Ok(cluster)
}

/// `run` in the machine's own network, ready to start, all three streams ours.
fn run(host: &Host, flags: &[&str], script: &str) -> Result<Child> {
    let args = [&["run", "--network", "host"], flags, &[IMAGE, "sh", "-c", script]].concat();
    let mut command = host.rnctl_command(&args)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("rnctl run")
}

fn inspect(host: &Host, container: &str, template: &str) -> Result<String> {
    host.rnctl(&["container", "inspect", "--format", template, container])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads exactly this.
fn expect(from: &mut impl Read, text: &str) -> Result<()> {
    let mut bytes = vec![0; text.len()];
    from.read_exact(&mut bytes).with_context(|| format!("instead of {text:?}"))?;
    ensure!(bytes == text.as_bytes(), "{:?} instead of {text:?}", String::from_utf8_lossy(&bytes));
    Ok(())
}

/// Random bytes, whose checksum the program knows beforehand, and says on its other stream.
fn flood() -> String {
    format!(
        "head -c {} /dev/urandom >/data; busybox sha256sum /data >/sum; cat /data; cat /sum >&2; printf end",
        MEGABYTES << 20
    )
}

fn ensure_flood(stdout: &[u8], stderr: &[u8]) -> Result<()> {
    let data = stdout.strip_suffix(b"end").context("what comes last is missing")?;
    ensure!(data.len() == MEGABYTES << 20, "{} bytes", data.len());
    let sum = String::from_utf8_lossy(stderr);
    ensure!(sum.starts_with(&hex(digest(&SHA256, data).as_ref())), "other bytes: {sum}");
    Ok(())
}

#[test]
fn every_byte_arrives_as_it_was_written() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    let out = run(host, &["--rm"], "printf abc; printf '\\377\\0x' >&2; exit 3")?.wait_with_output()?;
    ensure!(out.stdout == b"abc" && out.stderr == b"\xff\0x", "{out:?}");
    ensure!(out.status.code() == Some(3));
    // One that ends at once is no failure, whatever it says.
    for _ in 0..5 {
        let out = run(host, &["--rm"], "exit 0")?.wait_with_output()?;
        ensure!(out.status.success() && out.stdout.is_empty() && out.stderr.is_empty(), "{out:?}");
    }
    let out = run(host, &["--name", "flood"], &flood())?.wait_with_output()?;
    ensure!(out.status.success(), "{:?}", out.status);
    ensure_flood(&out.stdout, &out.stderr)?;
    host.rnctl(&["rm", "flood"]).map(drop)
}

#[test]
fn a_slow_reader_slows_the_program_and_one_that_is_gone_does_not() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    // How far it has come is told beside its output.
    let script = format!(
        "n=0; echo 0 >/n; while [ $n -lt {MEGABYTES} ]; do head -c 1048576 /dev/zero; n=$((n+1)); echo $n >/n; done"
    );
    let far = |name: &str| -> Result<usize> { Ok(host.exec(name, &["cat", "/n"])?.trim().parse()?) };
    let blocked = |name: &str| {
        let mut before = usize::MAX;
        wait::until("the program waits for its reader", LIMIT, || {
            let now = far(name)?;
            std::thread::sleep(Duration::from_millis(500));
            ensure!(std::mem::replace(&mut before, now) == now, "it goes on: {now}");
            Ok(now)
        })
    };
    let slow = run(host, &["--name", "slow"], &script)?;
    let gone = run(host, &["--name", "gone"], &script)?;
    for name in ["slow", "gone"] {
        let came = blocked(name)?;
        ensure!(came < MEGABYTES / 4, "{name} was not held back: {came} of {MEGABYTES} MB are away");
    }
    kill(Pid::from_raw(i32::try_from(gone.id())?), Signal::SIGKILL)?;
    ensure!(host.rnctl(&["wait", "gone"])? == "0", "it goes on without a reader, to its end");
    let came = far("slow")?;
    ensure!(came < MEGABYTES / 4, "the other one still waits: {came}");
    let out = slow.wait_with_output()?;
    ensure!(out.status.success() && out.stdout.len() == MEGABYTES << 20, "{} bytes", out.stdout.len());

    // A reader that does not read keeps nobody from stopping the program, or from running it again.
    for how in [&["stop", "-t", "1", "stuck"][..], &["kill", "stuck"], &["rm", "-f", "stuck"]] {
        let mut stuck = run(host, &["--name", "stuck"], "cat /dev/zero")?;
        wait::until("it runs", LIMIT, || {
            ensure!(inspect(host, "stuck", "{{.State.Status}}")? == "running");
            Ok(())
        })?;
        host.rnctl(how)?;
        // All this while the reader has not read a byte.
        if how[0] != "rm" {
            ensure!(host.rnctl(&["wait", "stuck"])? == "137");
            host.rnctl(&["start", "stuck"])?;
            host.rnctl(&["rm", "-f", "stuck"])?;
        }
        let mut last = Vec::new();
        stuck.stdout.take().context("no output")?.read_to_end(&mut last)?;
        ensure!(!last.is_empty() && last.iter().all(|b| *b == 0), "what it had written is there to the end");
        ensure!(stuck.wait()?.code() == Some(137));
    }
    host.rnctl(&["rm", "slow", "gone"]).map(drop)
}

#[test]
fn what_is_typed_reaches_the_program() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    // A prompt has no newline.
    let mut talk = run(host, &["--rm", "-i"], "printf 'name? '; read x; printf \"hello $x\"; cat >&2")?;
    let mut stdin = talk.stdin.take().context("no input")?;
    let mut stdout = talk.stdout.take().context("no output")?;
    expect(&mut stdout, "name? ")?;
    stdin.write_all(b"you\n")?;
    expect(&mut stdout, "hello you")?;
    stdin.write_all(b"the rest")?;
    // Its end is the program's, which ends by it.
    drop(stdin);
    let out = talk.wait_with_output()?;
    ensure!(out.status.success() && out.stderr == b"the rest", "{out:?}");
    // More than fits into any pipe, to one that takes its time.
    let mut sum = run(host, &["--rm", "-i"], "read x; echo $x; busybox sha256sum")?;
    let mut stdin = sum.stdin.take().context("no input")?;
    let mut stdout = sum.stdout.take().context("no output")?;
    let data: Vec<u8> = (0..20u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    stdin.write_all(b"go\n")?;
    expect(&mut stdout, "go\n")?;
    let sent = data.clone();
    let sender = std::thread::spawn(move || stdin.write_all(&sent));
    let mut said = String::new();
    stdout.read_to_string(&mut said)?;
    sender.join().unwrap()?;
    ensure!(said.starts_with(&hex(digest(&SHA256, &data).as_ref())), "{said}");
    ensure!(sum.wait()?.success());
    // Without -i there is nothing to read.
    let out = run(host, &["--rm"], "cat; echo end")?.wait_with_output()?;
    ensure!(out.stdout == b"end\n", "{out:?}");
    // Left open in the background, it waits for whoever comes; and stays open when he goes.
    host.rnctl(&["run", "-d", "-i", "--name", "later", "--network", "host", IMAGE, "cat"])?;
    for word in ["one", "two"] {
        let mut command = host.rnctl_command(&["attach", "later"])?;
        let mut attached = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        attached.stdin.as_mut().context("no input")?.write_all(word.as_bytes())?;
        expect(attached.stdout.as_mut().context("no output")?, word)?;
        attached.kill()?;
        attached.wait()?;
    }
    ensure!(inspect(host, "later", "{{.State.Running}}")? == "true");
    let (code, text) = host.rnctl_fails(&["run", "-it", "--network", "host", IMAGE, "cat"])?;
    ensure!(code == 1 && text.contains("not a terminal"), "{code} {text}");
    host.rnctl(&["rm", "-f", "later"])?;
    host.says(&["attach", "later"], &["later"])
}

#[test]
fn two_who_are_attached_see_the_same() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    let mut first = run(host, &["--name", "shown", "-i"], "while read x; do echo $x; done; exit 4")?;
    let mut stdin = first.stdin.take().context("no input")?;
    stdin.write_all(b"0\n")?;
    expect(first.stdout.as_mut().context("no output")?, "0\n")?;
    let mut second = host.rnctl_command(&["attach", "--no-stdin", "shown"])?;
    let mut second = second.stdout(Stdio::piped()).spawn()?;
    let mut shown = second.stdout.take().context("no output")?;
    let (tell, told) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut all = vec![0];
        shown.read_exact(&mut all)?;
        let _ = tell.send(());
        shown.read_to_end(&mut all).map(|_| all)
    });
    let mut n = 0;
    wait::until("the second one sees something", LIMIT, || {
        n += 1;
        stdin.write_all(format!("{n}\n").as_bytes())?;
        Ok(told.try_recv()?)
    })?;
    for n in n + 1..n + 1000 {
        stdin.write_all(format!("{n}\n").as_bytes())?;
    }
    drop(stdin);
    let out = first.wait_with_output()?;
    let seen = reader.join().unwrap()?;
    ensure!(out.status.code() == Some(4) && second.wait()?.code() == Some(4));
    ensure!(out.stdout.ends_with(&seen) && seen.iter().filter(|b| **b == b'\n').count() >= 1000);
    Ok(())
}

#[test]
fn a_terminal_has_the_size_of_its_window() -> Result<()> {
    let cluster = machine()?;
    let host = cluster.manager();
    // A signal interrupts the shell's read.
    let script = "trap 'busybox stty size' WINCH; busybox stty size; echo ready; \
                  while [ \"$x\" != bye ]; do read x && echo got $x; done";
    host.rnctl(&["run", "-d", "--name", "idle", "--network", "host", IMAGE, "sleep", "600"])?;
    for args in [
        vec!["exec", "-it", "idle", "sh", "-c", script],
        vec!["run", "--rm", "-it", "--network", "host", IMAGE, "sh", "-c", script],
    ] {
        let mut command = host.rnctl_command(&args)?;
        command.stdin(Stdio::inherit());
        let mut terminal = Terminal::start(command, 33, 111)?;
        let first = terminal.read_until("ready")?;
        ensure!(first.contains("33 111"), "{args:?}: {first:?}");
        for (rows, cols) in [(50, 132), (20, 60)] {
            terminal.resize(rows, cols)?;
            terminal.read_until(&format!("{rows} {cols}"))?;
            terminal.send("word\r")?;
            terminal.read_until("got word")?;
        }
        terminal.send("bye\r")?;
        ensure!(terminal.wait()?.success());
    }
    // By its keys one leaves a container running; attached again, it takes the size of the new window.
    let args = ["run", "-it", "--name", "left", "--network", "host", IMAGE, "sh", "-c", script];
    let mut terminal = Terminal::start(host.rnctl_command(&args)?, 33, 111)?;
    terminal.read_until("ready")?;
    terminal.send("\x10\x11")?;
    ensure!(terminal.wait()?.success());
    ensure!(inspect(host, "left", "{{.State.Running}}")? == "true");
    let mut terminal = Terminal::start(host.rnctl_command(&["attach", "left"])?, 24, 99)?;
    terminal.read_until("24 99")?;
    terminal.send("bye\r")?;
    terminal.read_until("got bye")?;
    ensure!(terminal.wait()?.success());
    host.rnctl(&["rm", "left"]).map(drop)
}

/// What a container says that counts, as one who is attached sees it.
struct Counting {
    lines: Lines<BufReader<ChildStdout>>,
    next: u32,
}

impl Counting {
    /// From the next line on.
    fn attached(client: &mut Child) -> Result<Self> {
        let mut lines = BufReader::new(client.stdout.take().context("no output")?).lines();
        let first: u32 = lines.next().context("no first line")??.parse()?;
        Ok(Self { lines, next: first + 1 })
    }

    /// Nothing has been left out, and more comes than the container has said by now.
    fn goes_on(&mut self, host: &Host) -> Result<()> {
        let said: u32 = host.rnctl(&["logs", "--tail", "1", "on"])?.parse()?;
        while self.next <= said + 5 {
            let line = self.lines.next().context("the output has ended")??;
            ensure!(line == self.next.to_string(), "{line} instead of {}", self.next);
            self.next += 1;
        }
        Ok(())
    }
}

#[test]
fn a_container_on_the_host_network_notices_neither_swarms_nor_restarts() -> Result<()> {
    let mut cluster = machine()?;
    let host = cluster.manager();
    let mut client = run(host, &["--name", "on"], "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done")?;
    let mut counting = Counting::attached(&mut client)?;
    ensure!(counting.next == 1, "attached before its first line");
    let pid = inspect(host, "on", "{{.State.Pid}}")?;
    let in_and_out = |host: &Host, counting: &mut Counting| -> Result<()> {
        host.rnctl(&["swarm", "init", "--advertise-addr", &host.v4().to_string()])?;
        counting.goes_on(host)?;
        host.rnctl(&["swarm", "leave", "--force"])?;
        counting.goes_on(host)?;
        ensure!(inspect(host, "on", "{{.State.Pid}}")? == pid, "the same process");
        Ok(())
    };
    in_and_out(host, &mut counting)?;
    // The daemon restarts in no swarm, and in one.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        cluster.hosts[0].stop(signal)?;
        client.wait()?;
        cluster.hosts[0].start()?;
        let host = cluster.manager();
        ensure!(inspect(host, "on", "{{.State.Pid}}")? == pid, "the same process");
        let mut command = host.rnctl_command(&["attach", "--no-stdin", "on"])?;
        client = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        counting = Counting::attached(&mut client)?;
        if signal == Signal::SIGKILL {
            in_and_out(host, &mut counting)?;
            host.rnctl(&["swarm", "init", "--advertise-addr", &host.v4().to_string()])?;
        }
        counting.goes_on(host)?;
    }
    let host = cluster.manager();
    host.rnctl(&["swarm", "leave", "--force"])?;
    counting.goes_on(host)?;
    host.rnctl(&["stop", "-t", "0", "on"])?;
    client.wait()?;
    let said = host.rnctl(&["logs", "on"])?;
    for (n, line) in said.lines().enumerate() {
        ensure!(line == n.to_string(), "{line} instead of {n} in its log");
    }
    Ok(())
}

#[test]
fn the_daemon_may_restart_while_somebody_is_attached() -> Result<()> {
    let mut cluster = machine()?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let host = cluster.manager();
        let mut attached = run(host, &["--name", "on"], "echo here; while :; do sleep 1; done")?;
        expect(attached.stdout.as_mut().context("no output")?, "here\n")?;
        let pid = inspect(host, "on", "{{.State.Pid}}")?;
        cluster.hosts[0].stop(signal)?;
        let out = attached.wait_with_output()?;
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(
            out.status.code() == Some(125) && text.contains("goes on") && text.contains("rnctl attach"),
            "{text}"
        );
        cluster.hosts[0].start()?;
        let host = cluster.manager();
        ensure!(inspect(host, "on", "{{.State.Pid}}")? == pid, "the same process");
        let started = inspect(host, "on", "{{.State.StartedAt}}")?;
        let mut again = host.rnctl_command(&["attach", "on"])?;
        let again = again.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        host.rnctl(&["stop", "-t", "0", "on"])?;
        // It had begun to attach, or came too late.
        let code = again.wait_with_output()?.status.code();
        ensure!(code == Some(137) || code == Some(1), "{code:?}");
        // How it was is known afterwards, by this daemon and by the next.
        let times = |host: &Host| {
            inspect(host, "on", "{{.State.StartedAt}} {{.State.FinishedAt}} {{.State.ExitCode}}")
        };
        let ended = times(host)?;
        ensure!(
            ended.starts_with(&started) && !ended.contains("0001-") && ended.ends_with(" 137"),
            "{ended}"
        );
        cluster.hosts[0].stop(Signal::SIGTERM)?;
        cluster.hosts[0].start()?;
        let host = cluster.manager();
        ensure!(times(host)? == ended);
        let shown = host.rnctl(&["ps", "-a", "--format", "{{.Status}}"])?;
        ensure!(shown.starts_with("Exited (137) ") && shown.ends_with(" ago"), "{shown}");
        host.rnctl(&["rm", "on"])?;
    }
    Ok(())
}

#[test]
fn a_container_on_its_way_to_its_networks_can_be_stopped() -> Result<()> {
    let cluster = Cluster::with_image(2)?;
    let [manager, worker] = [&cluster.hosts[0], &cluster.hosts[1]];
    manager.rnctl(&["network", "create", "-d", "overlay", "--attachable", "ovnet"])?;
    let frozen = Pid::from_raw(manager.pid().context("no daemon")?);
    kill(frozen, Signal::SIGSTOP)?;
    let called_off = |name: &str, how: &[&str]| -> Result<String> {
        worker.rnctl(&["create", "--name", name, "--network", "ovnet", IMAGE, "sleep", "600"])?;
        let mut start = worker.rnctl_command(&["start", name])?;
        let mut start = start.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        // Nobody answers it; and this must not wait for that. Its order may have come too early.
        while start.try_wait()?.is_none() {
            let _ = worker.try_rnctl(how)?;
        }
        let out = start.wait_with_output()?;
        let _ = worker.try_rnctl(&["rm", "-f", name])?;
        Ok(String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let result = (|| -> Result<()> {
        for how in [&["stop", "c1"][..], &["rm", "-f", "c1"]] {
            wait::until("a start is called off", LIMIT, || {
                let text = called_off("c1", how)?;
                ensure!(text.contains("while it was being attached"), "{text}");
                Ok(())
            })?;
        }
        Ok(())
    })();
    kill(frozen, Signal::SIGCONT)?;
    result?;
    // What the managers gave in the meantime is given back.
    wait::until("nothing is left of them", LIMIT, || manager.rnctl(&["network", "rm", "ovnet"]).map(drop))
}
