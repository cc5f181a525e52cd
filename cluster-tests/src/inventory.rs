//! What a machine holds, to prove that nothing is left behind.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Result, ensure};

use crate::{Host, lan::run};

/// Everything of a host that a daemon could leave: one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory(BTreeSet<String>);

impl Inventory {
    /// Looks at a host's namespace and at what on the machine carries its directories' names.
    pub fn of(host: &Host) -> Result<Self> {
        let mut found = BTreeSet::new();
        let mut add = |kind: &str, text: &str| {
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
                found.insert(format!("{kind}: {line}"));
            }
        };
        let inside = |program: &str, args: &[&str]| -> Result<String> {
            Ok(String::from_utf8_lossy(&run(host.ns.command(program).args(args))?.stdout).into_owned())
        };
        let links = inside("ip", &["-br", "link"])?;
        add(
            "link",
            &links.lines().filter_map(|l| l.split_whitespace().next()).collect::<Vec<_>>().join("\n"),
        );
        add("rule", &inside("ip", &["rule"])?);
        add("rule6", &inside("ip", &["-6", "rule"])?);
        // Anycast addresses are those of any machine that forwards, which stays on; link-local ones appear when the kernel is ready.
        let kernels =
            |line: &str| line.contains("expires") || line.contains("anycast") || line.contains("fe80::");
        for (kind, family) in [("route", "-4"), ("route6", "-6")] {
            let routes = inside("ip", &[family, "route", "show", "table", "all"])?;
            add(
                kind,
                &routes
                    .lines()
                    .filter(|l| !kernels(l))
                    .map(|l| l.trim_end().trim_end_matches(" linkdown"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            );
        }
        add("nft", &inside("nft", &["list", "tables"])?);
        let sockets = inside("ss", &["-Htuln"])?;
        add(
            "socket",
            &sockets
                .lines()
                .filter_map(|l| {
                    let words: Vec<&str> = l.split_whitespace().collect();
                    Some(format!("{} {}", words.first()?, words.get(4)?))
                })
                .collect::<Vec<_>>()
                .join("\n"),
        );
        let dir = host.dir().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        add("mount", &mounts.lines().filter(|l| l.contains(&dir)).collect::<Vec<_>>().join("\n"));
        let cgroups = run(Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-path", "*/rn/*"]))?;
        add("cgroup", &String::from_utf8_lossy(&cgroups.stdout));
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(command) = fs::read(entry.path().join("cmdline")) else { continue };
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(&dir) && command.contains("rn-shim") {
                add("process", &command);
            }
        }
        Ok(Self(found))
    }

    /// What is here and was not in `before`.
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }

    /// Only entries for which `keep` holds.
    pub fn filter(self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.into_iter().filter(|l| keep(l)).collect())
    }

    /// Nothing more than `before`, `allowed` (by prefix) apart.
    pub fn assert_only(&self, before: &Self, allowed: &[&str]) -> Result<()> {
        let left: Vec<&str> =
            self.since(before).into_iter().filter(|l| !allowed.iter().any(|a| l.contains(a))).collect();
        ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
        Ok(())
    }
}
