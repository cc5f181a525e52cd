//! Debian's `docker` client against a daemon of ours.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use skip::Need;

use crate::host::Host;

/// What tests of the client need.
pub const CLIENT: Need<'static> = Need::Tool { program: "docker", package: "docker.io" };

impl Host {
    /// `docker` with these arguments, ready to run, with no configuration of this machine's.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = self.ns.command("docker");
        command
            .env("DOCKER_HOST", self.socket())
            .env("DOCKER_CONFIG", self.dir().join("docker"))
            .env("HOME", self.dir())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs `docker`, whatever comes of it.
    pub fn try_docker(&self, args: &[&str]) -> Result<Output> {
        self.docker_command(args).output().context("docker")
    }

    /// Runs `docker`, which must succeed; its standard output without the last newline.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let output = self.try_docker(args)?;
        ensure!(
            output.status.success(),
            "{}: docker {} failed with {}: {}{}",
            self.name,
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs `docker`, which is to fail with this exit code and to say all of these words.
    pub fn docker_says(&self, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let output = self.try_docker(args)?;
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        println!("{}$ docker {}\n{text}", self.name, args.join(" "));
        ensure!(
            output.status.code() == Some(code),
            "docker {} ended with {}: {text}",
            args.join(" "),
            output.status
        );
        for word in words {
            ensure!(text.contains(word), "docker {} should say {word:?}: {text}", args.join(" "));
        }
        Ok(())
    }
}
