//! The completion scripts, in the shells that are installed here.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

/// The script for a shell, in a file.
fn script(shell: &str, name: &str) -> (TempDir, PathBuf) {
    let output = Command::new(env!("CARGO_BIN_EXE_rnctl")).args(["completion", shell]).output().unwrap();
    assert!(output.status.success());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, output.stdout).unwrap();
    (dir, path)
}

fn run(shell: &str, args: &[&str]) -> Option<String> {
    if skip::unless(&[skip::Need::Tool { program: shell, package: shell }]) {
        return None;
    }
    let output = Command::new(shell).args(args).env("HOME", "/nonexistent").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[test]
fn bash_completes() {
    let (_dir, path) = script("bash", "rnctl.bash");
    let program = |words: &str, last: usize| {
        format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _rnctl rnctl \"${{COMP_WORDS[{last}]}}\" \"\"; \
             echo \"${{COMPREPLY[@]}}\"",
            path.display()
        )
    };
    let Some(text) = run("bash", &["--norc", "-c", &program("rnctl ser", 1)]) else { return };
    assert_eq!(text.trim(), "service");
    let text = run("bash", &["--norc", "-c", &program("rnctl service up", 2)]).unwrap();
    assert_eq!(text.trim(), "update");
    let text = run("bash", &["--norc", "-c", &program("rnctl service create --with-reg", 3)]).unwrap();
    assert_eq!(text.trim(), "--with-registry-auth");
    let text = run("bash", &["--norc", "-c", &program("rnctl stack dep", 2)]).unwrap();
    assert_eq!(text.trim(), "deploy");
    let text = run("bash", &["--norc", "-c", &program("rnctl context exp", 2)]).unwrap();
    assert_eq!(text.trim(), "export");
    let text = run("bash", &["--norc", "-c", &program("rnctl image l", 2)]).unwrap();
    assert!(text.contains("load"), "{text}");
}

#[test]
fn fish_completes() {
    let (_dir, path) = script("fish", "rnctl.fish");
    let program = |line: &str| format!("source {}; complete -C '{line}'", path.display());
    let Some(text) = run("fish", &["--no-config", "-c", &program("rnctl ser")]) else { return };
    assert!(text.starts_with("service"), "{text}");
    let text = run("fish", &["--no-config", "-c", &program("rnctl service create --with-reg")]).unwrap();
    assert!(text.starts_with("--with-registry-auth"), "{text}");
}

#[test]
fn zsh_loads() {
    let (dir, _path) = script("zsh", "_rnctl");
    // Completing needs a terminal; that compinit binds the function, and that it is one, does not.
    let program = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -u -D; autoload +X _rnctl; print $_comps[rnctl]; \
         whence -w _rnctl; functions _rnctl | grep -c -- --with-registry-auth",
        dir.path().display()
    );
    let Some(text) = run("zsh", &["-f", "-c", &program]) else { return };
    assert!(text.starts_with("_rnctl\n_rnctl: function\n"), "{text}");
}
