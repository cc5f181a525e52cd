//! The image that tasks run: Debian's static busybox and this build's own test server.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{host::binary, lan::run};

/// Reference under which tests import the image.
pub const IMAGE: &str = "testweb:1";

const APPLETS: &[&str] = &[
    "sh", "ls", "cat", "echo", "env", "id", "hostname", "ip", "ping", "ps", "sleep", "true", "false", "wget",
    "nc", "nslookup", "httpd", "grep", "kill", "mount", "head", "date", "touch", "stat", "pwd", "printf",
    "seq", "awk", "sort",
];

/// Answers any HTTP request with the task's host name and the client's address.
const WHO: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\necho \"task $(hostname) sees client $REMOTE_ADDR\"\n";

/// Builds the root file system archive at `path`. With `server`, the test server lies in it as `/bin/rn-testd`.
pub fn build(path: &Path, server: bool) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let root = dir.path();
    for sub in ["bin", "etc", "tmp", "var", "root", "www/cgi-bin", "lib64", "lib"] {
        fs::create_dir_all(root.join(sub))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("package busybox-static")?;
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/www:/bin/false\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nwww:x:33:\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    let who = root.join("www/cgi-bin/index.cgi");
    fs::write(&who, WHO)?;
    fs::set_permissions(&who, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    if server {
        let program = binary("rn-testd")?;
        fs::copy(&program, root.join("bin/rn-testd"))?;
        for library in libraries(&program)? {
            let target = root.join(library.strip_prefix("/")?);
            fs::create_dir_all(target.parent().context("library path")?)?;
            fs::copy(&library, &target)?;
        }
    }
    let mut archive = tar::Builder::new(File::create(path)?);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", root)?;
    archive.finish()?;
    Ok(())
}

/// The shared libraries that a program needs, by ldd.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = run(Command::new("ldd").arg(program))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}
