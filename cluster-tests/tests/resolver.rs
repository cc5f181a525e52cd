//! Names, asked for with `dig`, as programs of every kind ask for them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cluster_tests::{
    Cluster,
    image::IMAGE,
    lan::{self, run},
    wait,
};

/// More than fit into 512 bytes: each takes 16.
const TASKS: usize = 40;

/// What `dig` says: addresses, whether the answer was cut, whether it has an OPT record, and whether it came over TCP.
struct Dug {
    addrs: Vec<String>,
    cut: bool,
    edns: bool,
    tcp: bool,
    text: String,
}

#[test]
fn an_answer_that_does_not_fit_carries_what_does_and_tcp_has_the_rest() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    host.rnctl(&["network", "create", "-d", "overlay", "app"])?;
    let replicas = TASKS.to_string();
    let mut args = vec!["service", "create", "-d", "--network", "app", "--replicas", &replicas];
    args.extend(["--endpoint-mode", "dnsrr", "--name", "many", IMAGE, "sleep", "100000"]);
    host.rnctl(&args)?;
    cluster.service(&["--name", "caller", "--network", "app"])?;
    wait::until("all tasks run", 3 * wait::LONG, || {
        let (running, list) = cluster.running("many")?;
        ensure!(running.len() == TASKS, "{} of {TASKS}:\n{list}", running.len());
        Ok(())
    })?;
    cluster.wait_running("caller", 1)?;
    host.rnctl(&["wait", "--converged", "--timeout", "30s"])?;
    let caller = cluster.container(host, "caller")?;
    let pid = host.rnctl(&["inspect", "--format", "{{.State.Pid}}", &caller])?;
    let ns = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    let dig = |name: &str, flags: &[&str]| -> Result<Dug> {
        let mut command = lan::command(&ns, "dig");
        command.args(["@127.0.0.11", "-t", "A", name, "+tries=3"]).args(flags);
        let text = String::from_utf8_lossy(&run(&mut command)?.stdout).into_owned();
        let flags = text.lines().find(|l| l.starts_with(";; flags:")).with_context(|| text.clone())?;
        let answer = text.split(";; ANSWER SECTION:").nth(1).unwrap_or_default();
        let answer = answer.split("\n\n").next().unwrap_or_default();
        let addrs = answer.lines().filter_map(|l| l.split_whitespace().nth(4)).map(str::to_owned).collect();
        Ok(Dug {
            addrs,
            cut: flags.contains(" tc"),
            edns: text.contains("; EDNS: version: 0"),
            tcp: text.contains("(TCP)"),
            text,
        })
    };
    for name in ["many", "tasks.many"] {
        // Header, question and, where the client has one, the OPT record; the rest is records of 16 bytes.
        let fits = |room: usize, opt: usize| (room - 12 - (name.len() + 2 + 4) - opt) / 16;
        let mut seen = BTreeSet::new();
        for (flags, cut, count) in [
            (&["+noedns", "+notcp", "+ignore"][..], true, fits(512, 0)),
            (&["+bufsize=512", "+notcp", "+ignore"], true, fits(512, 11)),
            (&["+bufsize=600", "+notcp", "+ignore"], true, fits(600, 11)),
            (&["+bufsize=1232", "+notcp", "+ignore"], false, TASKS),
        ] {
            let dug = dig(name, flags)?;
            ensure!(
                dug.cut == cut && dug.addrs.len() == count,
                "{name} {flags:?}: {} {}",
                dug.cut,
                dug.addrs.len()
            );
            ensure!(dug.edns != flags.contains(&"+noedns"), "{name} {flags:?}: {}", dug.text);
            ensure!(dug.addrs.iter().collect::<BTreeSet<_>>().len() == count, "each once: {:?}", dug.addrs);
            seen.extend(dug.addrs);
        }
        // Whoever heeds the mark asks again over TCP, as dig does by itself, and has them all.
        let whole = dig(name, &["+noedns"])?;
        ensure!(whole.tcp && !whole.cut && whole.addrs.len() == TASKS, "{name}: {}", whole.addrs.len());
        let whole: BTreeSet<String> = whole.addrs.into_iter().collect();
        ensure!(seen.is_subset(&whole), "{name}: {seen:?}");
        // The list begins elsewhere each time, so that those who never ask again meet all of them too.
        let mut cut = BTreeSet::new();
        for _ in 0..TASKS {
            cut.extend(dig(name, &["+noedns", "+notcp", "+ignore"])?.addrs);
        }
        ensure!(cut == whole, "{name}: {} of {TASKS} were ever answered over UDP", cut.len());
    }
    let dug = run(lan::command(&ns, "dig").args(["@127.0.0.11", "many", "+edns=1", "+noednsneg"]))?;
    let text = String::from_utf8_lossy(&dug.stdout).into_owned();
    ensure!(text.contains("BADVERS"), "{text}");
    Ok(())
}
