//! What tests need of the machine they run on.
//!
//! A test names its needs first, and leaves if one is not met:
//!
//! ```text
//! if skip::unless(&[Need::Root, Need::Tool { program: "zsh", package: "zsh" }]) {
//!     return;
//! }
//! ```
//!
//! A skip is printed past the test harness, which shows nothing of tests that pass, and added to the file that `RN_SKIPS`
//! names, which `make test` prints at its end. With `RN_REQUIRE=1`, as in CI, a need that this machine could meet fails the
//! test. Whether a need is met is looked up apart from the code under test: that a test's own call fails is no reason to skip.

use std::{
    env,
    fmt::{self, Display, Formatter},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Numbers of capabilities, from `linux/capability.h`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Something that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// To be root.
    Root,
    /// A program in `PATH`, and the Debian package that has it. `scripts/deps.sh` installs it.
    Tool {
        /// Its name.
        program: &'a str,
        /// Debian's package.
        package: &'a str,
    },
    /// A program of this workspace.
    Built(&'a Path),
    /// Network namespaces, and the right to make them: root in a container may lack both.
    Namespaces,
    /// BPF programs, and the right to load them.
    Bpf,
    /// An IPv6 loopback address.
    Ipv6,
}

impl Need<'_> {
    /// Whether the machine has it.
    pub fn met(&self) -> bool {
        match self {
            Self::Root => {
                status("Uid:").and_then(|ids| ids.split_whitespace().nth(1).map(|id| id == "0")) == Some(true)
            }
            Self::Tool { program, .. } => search_path().iter().any(|dir| dir.join(program).is_file()),
            Self::Built(path) => path.is_file(),
            Self::Namespaces => Path::new("/proc/self/ns/net").exists() && may(CAP_SYS_ADMIN),
            // The setting exists if the kernel was built with the system call.
            Self::Bpf => {
                Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists()
                    && (may(CAP_BPF) || may(CAP_SYS_ADMIN))
            }
            Self::Ipv6 => fs::read_to_string("/proc/net/if_inet6").is_ok_and(|all| {
                all.lines().any(|line| line.starts_with("00000000000000000000000000000001 "))
            }),
        }
    }

    /// Whether whoever runs the tests could meet it: by `make deps`, by building, as root. What the kernel or the sandbox
    /// around us lacks, he could not.
    pub fn could_be_met(&self) -> bool {
        matches!(self, Self::Root | Self::Tool { .. } | Self::Built(_))
    }
}

impl Display for Need<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("not root"),
            Self::Tool { program, package } => {
                write!(f, "no {program} (package {package}; `make deps` installs it)")
            }
            Self::Built(path) => write!(f, "{} is not built (make test builds it)", path.display()),
            Self::Namespaces => f.write_str("no network namespaces can be made here (CAP_SYS_ADMIN)"),
            Self::Bpf => f.write_str("no BPF programs can be loaded here (CAP_BPF)"),
            Self::Ipv6 => f.write_str("no IPv6 loopback address"),
        }
    }
}

/// Whether the calling test must be skipped, which has then been said.
///
/// # Panics
///
/// With `RN_REQUIRE=1`, if the need could be met.
pub fn unless(needs: &[Need<'_>]) -> bool {
    let required = env::var_os("RN_REQUIRE").is_some_and(|v| v == "1");
    let Some(verdict) = judge(needs, |need| need.met(), required) else { return false };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    match verdict {
        Verdict::Skip(reason) => {
            let line = format!("SKIPPED: {test}: {reason}\n");
            // Not by a macro: those are captured.
            let _ = std::io::stderr().write_all(line.as_bytes());
            if let Some(path) = env::var_os("RN_SKIPS")
                && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(PathBuf::from(path))
            {
                let _ = file.write_all(line.as_bytes());
            }
            true
        }
        Verdict::Fail(reason) => panic!("RN_REQUIRE=1, and this machine could run it: {reason}"),
    }
}

/// What becomes of a test that lacks something.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Skip(String),
    Fail(String),
}

/// None: it can run. What could be met is named first.
fn judge(needs: &[Need<'_>], met: impl Fn(&Need<'_>) -> bool, required: bool) -> Option<Verdict> {
    let mut lacking: Vec<_> = needs.iter().filter(|need| !met(need)).collect();
    lacking.sort_by_key(|need| !need.could_be_met());
    let first = lacking.first()?;
    let reason = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    // Without root nothing is known of what root could do.
    Some(if required && first.could_be_met() { Verdict::Fail(reason) } else { Verdict::Skip(reason) })
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|all| env::split_paths(&all).collect()).unwrap_or_default()
}

/// A line of `/proc/self/status`, after its name.
fn status(name: &str) -> Option<String> {
    let all = fs::read_to_string("/proc/self/status").ok()?;
    all.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// Whether this process has a capability.
fn may(capability: u32) -> bool {
    status("CapEff:")
        .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
        .is_some_and(|bits| bits & (1 << capability) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZSH: Need<'_> = Need::Tool { program: "zsh", package: "zsh" };

    #[test]
    fn what_could_be_met_fails_where_it_is_required_and_is_skipped_elsewhere() {
        let needs = [Need::Namespaces, ZSH];
        assert_eq!(judge(&needs, |_| true, true), None);
        let reason = "no zsh (package zsh; `make deps` installs it)".to_owned();
        assert_eq!(judge(&needs, |n| *n != ZSH, false), Some(Verdict::Skip(reason.clone())));
        assert_eq!(judge(&needs, |n| *n != ZSH, true), Some(Verdict::Fail(reason)));
        assert!(matches!(judge(&needs, |_| false, true), Some(Verdict::Fail(_))));
    }

    #[test]
    fn what_the_kernel_lacks_is_skipped_even_there() {
        let reason = "no network namespaces can be made here (CAP_SYS_ADMIN)".to_owned();
        assert_eq!(
            judge(&[Need::Root, Need::Namespaces], |n| *n == Need::Root, true),
            Some(Verdict::Skip(reason))
        );
    }

    #[test]
    fn the_machine_is_asked() {
        assert!(Need::Tool { program: "sh", package: "dash" }.met());
        assert!(!Need::Tool { program: "no-such-program", package: "none" }.met());
        assert!(!Need::Built(Path::new("/nonexistent/rnd")).met());
    }
}
